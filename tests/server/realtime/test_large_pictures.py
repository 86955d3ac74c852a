"""A picture of several megabytes keeps its place among a connection's messages, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from live_server import LiveServer
from websocket_peer import NOISE, as_jpeg, as_png, as_url, peer

from streamvlm.frame import Picture
from streamvlm_server.untrusted.picture import PictureBounds, Timed, decode_pictures

LARGE: Picture = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)


def test_messages_are_followed_in_order_and_other_sessions_go_on_meanwhile(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()

    def decode(data: bytes, bounds: PictureBounds) -> list[Timed]:
        if len(data) > 1_000_000:
            has_begun.set()
            assert may_go_on.wait(60)
        return decode_pictures(data, bounds)

    monkeypatch.setattr("streamvlm_server.untrusted.picture_threads.decode_pictures", decode)
    large, small = as_url(as_png(LARGE)), as_url(as_png(NOISE))
    assert len(large) > 6_000_000

    async def use() -> None:
        async with peer(live.url) as sender, peer(live.url) as other:
            for name, url in (("first", small), ("large", large), ("last", small)):
                item = {"id": name, "type": "message", "role": "user"}
                content = [{"type": "input_image", "image_url": url}]
                await sender.send("conversation.item.create", item={**item, "content": content})
            await sender.send("conversation.item.retrieve", item_id="last")
            assert await asyncio.to_thread(has_begun.wait, 60)
            await other.opt_in(binary_frames=True)
            await other.frame(0, as_jpeg(NOISE), 0.0)
            assert await other.ask("what do you see now?")
            may_go_on.set()
            told = [await sender.receive("conversation.item.done") for _ in range(3)]
            assert [event["item"]["id"] for event in told] == ["first", "large", "last"]
            assert (await sender.receive())["type"] == "conversation.item.retrieved"

    asyncio.run(use())
