from __future__ import annotations

import asyncio

from streamvlm_server.realtime.queues import MAX_UNSENT_BYTES, MAX_WAITING_FRAMES, MAX_WAITING_MESSAGES, Inbox, Outbox


def test_frames_that_wait_give_way_to_newer_ones_and_text_keeps_its_place() -> None:
    async def fill() -> tuple[list[str | bytes], int]:
        inbox = Inbox()
        await inbox.put("first")
        for number in range(20):
            await inbox.put(bytes([number]))
        await inbox.put("last")
        return [await inbox.get() for _ in range(MAX_WAITING_FRAMES + 2)], inbox.n_dropped

    messages, n_dropped = asyncio.run(fill())
    assert messages == ["first", *(bytes([number]) for number in range(12, 20)), "last"]
    assert n_dropped == 12


def test_text_waits_for_room() -> None:
    async def fill() -> None:
        inbox = Inbox()
        for _ in range(MAX_WAITING_MESSAGES):
            await inbox.put("x")
        late = asyncio.create_task(inbox.put("late"))
        await asyncio.sleep(0)
        assert not late.done()
        await inbox.get()
        await late

    asyncio.run(fill())


def test_an_outbox_keeps_no_more_than_its_bound_and_says_so() -> None:
    outbox = Outbox()
    for _ in range(100):
        outbox.put("x" * 20_000)
    assert outbox.overflowed.is_set()
    assert sum(map(len, outbox.drain())) <= MAX_UNSENT_BYTES
