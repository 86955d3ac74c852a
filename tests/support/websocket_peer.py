"""A bare WebSocket client that may misbehave, and pictures for it to send."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import cv2
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streamvlm.frame import Picture
from streamvlm.wire import FrameMessage

NOISE: Picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
LARGE: Picture = np.random.default_rng(0).integers(0, 256, (720, 960, 3), dtype=np.uint8)
"""Takes a while to decode."""


def as_png(picture: Picture) -> bytes:
    """Makes a PNG file."""
    return bytes(cv2.imencode(".png", picture[..., ::-1])[1])


def as_jpeg(picture: Picture) -> bytes:
    """Makes a JPEG file."""
    return bytes(cv2.imencode(".jpg", picture[..., ::-1])[1])


def as_url(png: bytes) -> str:
    """Makes a data URL of a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


class Peer:
    """Sends anything, and receives events as JSON objects."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, kind: str, **fields: Any) -> None:
        """Sends an event."""
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def receive(self, kind: str | None = None) -> dict[str, Any]:
        """The next event; or the next of a type."""
        while True:
            event: dict[str, Any] = json.loads(await self.socket.recv())
            if kind in (None, event["type"]):
                return event

    async def frame(self, sequence: int, picture: bytes, time_s: float | None = None) -> None:
        """Sends a binary frame."""
        await self.socket.send(FrameMessage(sequence, picture, time_s).pack())

    async def opt_in(self, **extension: Any) -> dict[str, Any]:
        """Asks for what is ours, and returns what it is told of the session."""
        await self.send("session.update", session={"type": "realtime", "streamvlm": extension})
        told: dict[str, Any] = (await self.receive("session.updated"))["session"]["streamvlm"]
        return told

    async def ask(self, question: str) -> str:
        """Asks, and returns the whole answer."""
        content = [{"type": "input_text", "text": question}]
        await self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await self.send("response.create")
        return await self.answer()

    async def answer(self) -> str:
        """The whole answer that is on its way."""
        response = (await self.receive("response.done"))["response"]
        assert response["status"] == "completed", response
        text: str = response["output"][0]["content"][0]["text"]
        return text

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the server closes; 1006 if it broke off without a word."""
        with suppress(ConnectionClosed):
            while True:
                await self.socket.recv()
        return self.socket.close_code or 1006, self.socket.close_reason or ""


@asynccontextmanager
async def peer(url: str, query: str = "", **options: Any) -> AsyncIterator[Peer]:
    """Connects to a server's ``/v1/realtime``, and waits for nothing."""
    where = url.replace("http", "ws", 1) + "/v1/realtime" + query
    patient = {"open_timeout": 60, **options}  # a busy machine is no failure
    async with connect(where, compression=None, proxy=None, **patient) as socket:
        yield Peer(socket)
