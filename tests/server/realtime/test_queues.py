from __future__ import annotations

import asyncio

from streamvlm_server.realtime.client_events import ResponseCreate, parse
from streamvlm_server.realtime.queues import MAX_UNSENT_BYTES, MAX_WAITING_FRAMES, MAX_WAITING_MESSAGES, Inbox, Outbox

ASKING = ResponseCreate(type="response.create")


def test_frames_that_wait_give_way_to_newer_ones_and_text_keeps_its_place() -> None:
    async def fill() -> tuple[list[object], int]:
        inbox = Inbox()
        await inbox.put(ASKING, 10)
        for number in range(20):
            await inbox.put_frame(bytes([number]))
        await inbox.put(ASKING, 10)
        return [await inbox.get() for _ in range(MAX_WAITING_FRAMES + 2)], inbox.n_dropped

    messages, n_dropped = asyncio.run(fill())
    assert messages == [ASKING, *(bytes([number]) for number in range(12, 20)), ASKING]
    assert n_dropped == 12


def test_text_waits_for_room() -> None:
    async def fill(n_messages: int, n_chars: int) -> None:
        inbox = Inbox()
        for _ in range(n_messages):
            await inbox.put(ASKING, n_chars)
        late = asyncio.create_task(inbox.put(ASKING, 1))
        await asyncio.sleep(0)
        assert not late.done()
        await inbox.get()
        await late

    asyncio.run(fill(MAX_WAITING_MESSAGES, 1))
    asyncio.run(fill(2, 8 << 20))


def test_pictures_alone_may_be_overtaken() -> None:
    shown = parse(
        '{"type": "conversation.item.create", "item": {"type": "message", "role": "user", '
        '"content": [{"type": "input_image", "image_url": "data:"}]}}'
    )

    async def fill() -> list[bool]:
        inbox, holds = Inbox(), []
        for put in (inbox.put_frame(b""), inbox.put(shown, 1), inbox.put(ASKING, 1)):
            holds.append(inbox.holds_pictures_alone)
            await put
        return [*holds, inbox.holds_pictures_alone]

    assert asyncio.run(fill()) == [True, True, True, False]


def test_an_outbox_keeps_no_more_than_its_bound_and_says_so() -> None:
    outbox = Outbox(on_error=lambda code: None)
    for _ in range(100):
        outbox.put("x" * 20_000)
    assert outbox.overflowed.is_set()
    assert sum(map(len, outbox.drain())) <= MAX_UNSENT_BYTES
