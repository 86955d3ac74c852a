"""Requests that trickle in, over real sockets: they are told so, or cut off, and who is not slow notices nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from live_server import LiveServer, live_server
from websocket_peer import NOISE, as_jpeg, peer

from streamvlm.models.base import VideoLanguageModel

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(scope="module")
def impatient(pocket: VideoLanguageModel) -> Iterator[LiveServer]:
    with live_server(pocket, request_timeout_s=0.3) as running:
        yield running


def trickle(server: LiveServer, at_once: bytes, *, then: bytes = b" ") -> bytes:
    """Sends something, then a byte now and again for ever; returns what comes back before the server hangs up."""
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port))) as line:
        line.sendall(at_once)
        line.settimeout(0.02)
        while True:
            try:
                piece = line.recv(65536)
            except TimeoutError:
                with suppress(OSError):  # it has hung up; what it said before is still read
                    line.sendall(then)
                continue
            except ConnectionResetError:
                return received
            if not piece:
                return received
            received += piece


def test_a_body_that_trickles_in_is_told_that_it_takes_too_long(impatient: LiveServer) -> None:
    head, _, body = trickle(impatient, HEAD + b'{"model": ').partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head.lower()
    told = json.loads(body)["error"]
    assert (told["code"], told["type"]) == ("request_timeout", "invalid_request_error")
    assert told["message"].startswith("The request did not come within 0.3 s;")


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Never-Ending: "])
def test_headers_that_never_end_are_cut_off(sent: bytes, impatient: LiveServer) -> None:
    assert trickle(impatient, sent, then=b"a" if sent else b"") == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD.replace(b"100000", b"999999999"), b"413"),
        (HEAD.replace(b"/v1/chat/completions", b"/nowhere"), b"404"),
        (HEAD.replace(b"POST /v1/chat/completions", b"GET /healthz"), b"200"),
    ],
)
def test_the_rest_of_a_request_that_was_answered_is_not_waited_for(
    head: bytes, status: bytes, impatient: LiveServer
) -> None:
    assert trickle(impatient, head).startswith(b"HTTP/1.1 " + status)


def test_a_second_request_on_a_connection_has_its_own_time(impatient: LiveServer) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert trickle(impatient, whole + whole + b"GET /heal", then=b"t").count(b"HTTP/1.1 200") == 2


def test_a_websocket_may_stay(impatient: LiveServer) -> None:
    async def stay() -> str:
        async with peer(impatient.url) as client:
            await client.opt_in(events=["stats"], binary_frames=True)
            for _ in range(2):
                await client.receive("streamvlm.stats")  # once a second
            await client.frame(0, as_jpeg(NOISE), 0.0)
            return await client.ask("what do you see now?")

    assert asyncio.run(stay())
