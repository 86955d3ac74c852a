"""Clients that misbehave; each returns the server's answer to it."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import pytest
from neighbour import Neighbour
from PIL import Image
from websocket_peer import NOISE, Peer, as_jpeg, as_url, peer
from websockets.exceptions import ConnectionClosed, InvalidStatus

CUT_OFF = 1006
"""No close frame came: it would have waited behind events that are not read."""


def bearer(key: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {key}"}}


BOB = bearer("bob")
"""A key that the server knows."""


class Told(NamedTuple):
    """The server's answer to a bad client.

    Attributes:
        code: Of the error; None if there was none.
        end: The code that closed the connection, or the HTTP status that refused it; None if it goes on.
    """

    code: str | None
    end: int | None = None


BadClient = Callable[[Neighbour], Awaitable[Told]]


def says(*messages: str | bytes) -> BadClient:
    """Sends some messages, and goes on."""

    async def bad(beside: Neighbour) -> Told:
        async with peer(beside.url, **BOB) as client:
            codes = set()
            for message in messages:
                await client.socket.send(message)
                codes.add((await client.receive("error"))["error"]["code"])
            await client.opt_in()
            (code,) = codes
            return Told(code)

    return bad


def shows(picture: bytes) -> BadClient:
    """Sends a picture as a frame and in a message, and goes on."""

    async def bad(beside: Neighbour) -> Told:
        async with peer(beside.url, **BOB) as client:
            await client.opt_in(binary_frames=True)
            await client.frame(7, picture)
            as_frame = (await client.receive("error"))["error"]
            content = [{"type": "input_image", "image_url": as_url(picture)}]
            item = {"type": "message", "role": "user", "content": content}
            await client.send("conversation.item.create", item=item, event_id="mine")
            as_item = (await client.receive("error"))["error"]
            assert (as_frame["param"], as_item["param"]) == ("frame 7", "item.content.0.image_url")
            assert as_item["event_id"] == "mine"
            assert as_frame["code"] == as_item["code"]
            await client.opt_in()
            return Told(as_frame["code"])

    return bad


def floods(n_messages: int, message: str | bytes) -> BadClient:
    """Sends ``n_messages`` as fast as the socket takes them."""

    async def bad(beside: Neighbour) -> Told:
        async with peer(beside.url, **BOB) as client:
            await client.opt_in(binary_frames=True)
            with suppress(ConnectionClosed):
                for _ in range(n_messages):
                    await client.socket.send(message)
                    await asyncio.sleep(0)  # the neighbour's turn
            return await end_of(client)

    return bad


def shows_one_after_another(n_pictures: int, picture: bytes) -> BadClient:
    """Sends ``n_pictures``, each as soon as the one before is acknowledged, and stays until all are watched."""

    async def bad(beside: Neighbour) -> Told:
        async with peer(beside.url, **BOB) as client:
            content = [{"type": "input_image", "image_url": as_url(picture)}]
            for _ in range(n_pictures):
                item = {"type": "message", "role": "user", "content": content}
                await client.send("conversation.item.create", item=item)
                await client.receive("conversation.item.done")
            await client.ask("what do you see now?")
            return Told(None)

    return bad


async def asks_for_more_than_it_reads(beside: Neighbour) -> Told:
    """Requests 30 KB again and again, and reads a small part of that."""
    async with looking_away(beside.url) as client:
        with suppress(ConnectionClosed):
            while True:
                for _ in range(8):
                    await ask_for_30_kb(client)
                await client.receive()
        return await end_of(client)


async def asks_for_much_and_reads_nothing(beside: Neighbour) -> Told:
    """Requests 30 KB again and again, and reads nothing until it is cut off."""
    async with looking_away(beside.url) as client:
        with suppress(ConnectionClosed):
            while True:
                await ask_for_30_kb(client)
        return await end_of(client)


@asynccontextmanager
async def looking_away(url: str) -> AsyncIterator[Peer]:
    """Connects a client that reads almost nothing."""
    hole = socket.socket()
    hole.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = url.removeprefix("http://").split(":")
    hole.connect((host, int(port)))
    hole.setblocking(False)
    async with peer(url, sock=hole, max_queue=1, ping_interval=None, close_timeout=0.1, **BOB) as client:
        content = [{"type": "input_text", "text": "x" * 30_000}]
        item = {"type": "message", "role": "user", "content": content, "id": "large"}
        await client.send("conversation.item.create", item=item)
        yield client


async def ask_for_30_kb(client: Peer) -> None:
    """Requests the large item once more."""
    await client.send("conversation.item.retrieve", item_id="large")
    await asyncio.sleep(0)  # the neighbour's turn: sending alone would keep the loop


async def says_nothing(beside: Neighbour) -> Told:
    """Connects and does nothing."""
    async with peer(beside.url, **BOB) as client:
        return await end_of(client)


async def answers_no_ping(beside: Neighbour) -> Told:
    """Disappears without closing, like a machine whose network fails: here, a client that answers no ping."""
    host, port = beside.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    received = await reader.read()  # until the server closes; pings in it are not answered
    writer.close()
    assert b"101 Switching Protocols" in received
    head, _, reason = received.rpartition(b"\x03\xf3")
    assert head
    assert reason == b"keepalive ping timeout"
    return Told(None, 0x3F3)


def knocks(**options: Any) -> BadClient:
    """Connects without a key, with a wrong one, or from a page of another origin."""

    async def bad(beside: Neighbour) -> Told:
        with pytest.raises(InvalidStatus) as refused:
            async with peer(beside.url, **options):
                pass
        response = refused.value.response
        return Told(json.loads(response.body)["error"]["code"], response.status_code)

    return bad


def takes_up(session_id: str) -> BadClient:
    """Resumes a session by its id."""

    async def bad(beside: Neighbour) -> Told:
        async with peer(beside.url, f"?session_id={session_id}", **BOB) as client:
            return await end_of(client)

    return bad


async def takes_up_its_neighbours_session(beside: Neighbour) -> Told:
    """Resumes a session of another key with its id and token."""
    headers = {**BOB["additional_headers"], "streamvlm-resume-token": beside.resume_token}
    async with peer(beside.url, f"?session_id={beside.session_id}", additional_headers=headers) as client:
        return await end_of(client)


async def guesses_its_neighbours_token(beside: Neighbour) -> Told:
    """Resumes a session without an owner with its id and a guessed token."""
    headers = {"streamvlm-resume-token": "guessed"}
    async with peer(beside.url, f"?session_id={beside.session_id}", additional_headers=headers) as client:
        return await end_of(client)


async def end_of(client: Peer) -> Told:
    """Returns the last error before a client is closed, and how it is closed: with a reason, or cut off."""
    code = None
    with suppress(ConnectionClosed):
        while True:
            event = await client.receive()
            code = event["error"]["code"] if event["type"] == "error" else code
    end, reason = await client.closed()
    assert reason or end == CUT_OFF
    return Told(code, end)


def png_of(side_px: int, mode: str) -> bytes:
    """Makes a square PNG whose file is much smaller than its pixels."""
    file = io.BytesIO()
    Image.new(mode, (side_px, side_px)).save(file, "png")
    return file.getvalue()


def jpeg_bomb() -> bytes:
    """Makes a JPEG whose header claims 60,000 × 60,000 pixels."""
    jpeg = bytearray(as_jpeg(NOISE))
    header = jpeg.index(b"\xff\xc0")  # then its length, 2 bytes, and bits a sample, 1 byte
    jpeg[header + 5 : header + 9] = 2 * (60_000).to_bytes(2, "big")
    return bytes(jpeg)
