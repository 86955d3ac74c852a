"""Each bad client against a real server: it is told what is wrong, and nobody else notices."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer, live_server
from PIL import Image
from websocket_peer import NOISE, Peer, as_jpeg, as_url, peer
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamvlm.models.base import VideoLanguageModel
from streamvlm_server.realtime import connection

BadClient = Callable[[str], Awaitable[object]]


@asynccontextmanager
async def well_behaved(url: str, **options: Any) -> AsyncIterator[Peer]:
    """Another session, which is asked before and after, and has to answer the same."""
    async with peer(url, **options) as client:
        await client.opt_in(binary_frames=True)
        await client.frame(0, as_jpeg(NOISE), 0.0)
        before = await client.ask("what do you see now?")
        yield client
        assert await client.ask("what do you see now?") == before


def with_company(url: str, bad: BadClient) -> object:
    """What a bad client comes to, while somebody else uses the server."""

    async def run() -> object:
        async with well_behaved(url), asyncio.timeout(30):
            return await bad(url)

    return asyncio.run(run())


def bomb() -> bytes:
    """A PNG of a few hundred kilobytes that would be more than a gigabyte of pixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("this is no JSON", "invalid_event"),
        ('{"type": "no.such.event"}', "unknown_event"),
        ('{"type": "response.create", "response": {"max_output_tokens": "many"}}', "invalid_event"),
        ('{"type": "streamvlm.source.open", "url": "file:///etc/passwd"}', "media_not_allowed"),
        ('{"type": "streamvlm.source.open", "url": "http://127.0.0.1:1/"}', "media_not_allowed"),
        (b"SV\x01\x00 and so on, a binary message", "invalid_value"),
    ],
)
def test_a_message_that_makes_no_sense_is_told_and_the_session_goes_on(
    live: LiveServer, message: str | bytes, code: str
) -> None:
    async def bad(url: str) -> object:
        async with peer(url) as client:
            await client.socket.send(message)
            told = (await client.receive("error"))["error"]["code"]
            await client.send("session.update", session={"type": "realtime"})
            await client.receive("session.updated")
            return told

    assert with_company(live.url, bad) == code


@pytest.mark.parametrize(
    ("picture", "code"),
    [(as_jpeg(NOISE)[:400], "invalid_image"), (b"no picture at all", "invalid_image"), (bomb(), "too_large")],
    ids=["truncated", "text", "bomb"],
)
def test_a_picture_that_cannot_be_read_is_told_by_its_number_or_event(
    live: LiveServer, picture: bytes, code: str
) -> None:
    async def bad(url: str) -> object:
        async with peer(url) as client:
            await client.opt_in(binary_frames=True)
            await client.frame(7, picture)
            binary = (await client.receive("error"))["error"]
            content = [{"type": "input_image", "image_url": as_url(picture)}]
            item = {"type": "message", "role": "user", "content": content}
            await client.send("conversation.item.create", item=item, event_id="mine")
            as_item = (await client.receive("error"))["error"]
            return binary["code"], binary["param"], as_item["code"], as_item["event_id"]

    assert with_company(live.url, bad) == (code, "frame 7", code, "mine")


def test_a_frame_of_100_megabytes_is_refused_with_a_close_code(live: LiveServer) -> None:
    async def bad(url: str) -> object:
        async with peer(url) as client:
            with suppress(ConnectionClosed):
                await client.socket.send(bytes(100_000_000))
            return (await client.closed())[0]

    assert with_company(live.url, bad) == 1009


def test_ten_thousand_messages_a_second_end_with_a_reason(live: LiveServer) -> None:
    async def bad(url: str) -> object:
        async with peer(url) as client:

            async def flood() -> None:
                for _ in range(10_000):
                    await client.send("response.cancel")

            flooding = asyncio.create_task(flood())
            codes = []
            with suppress(ConnectionClosed):
                while True:
                    codes.append((await client.receive("error"))["error"]["code"])
            await asyncio.gather(flooding, return_exceptions=True)
            close_code, reason = await client.closed()
            return codes[-1], close_code, "messages a second" in reason

    assert with_company(live.url, bad) == ("rate_limit_exceeded", 1008, True)


async def ask_for_much_and_read_nothing(url: str) -> object:
    """Has tens of megabytes sent to it; returns how it ended."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = url.removeprefix("http://").split(":")
    small.connect((host, int(port)))
    small.setblocking(False)
    async with peer(url, sock=small, max_queue=1, ping_interval=None) as client:
        content = [{"type": "input_text", "text": "x" * 30_000}]
        item = {"type": "message", "role": "user", "content": content, "id": "large"}
        await client.send("conversation.item.create", item=item)
        n_read = 0
        with suppress(ConnectionClosed):
            for _ in range(900):
                await client.send("conversation.item.retrieve", item_id="large")
            while True:
                await client.socket.recv()
                n_read += 1
        return (await client.closed())[0], n_read < 900


def test_who_does_not_read_is_dropped_and_little_is_kept_for_it(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_CLOSE_S", 0.2)
    # 1006 if it was cut off, as the close frame could not be delivered.
    assert with_company(live.url, ask_for_much_and_read_nothing) in ((1008, True), (1006, True))


@pytest.fixture(scope="module")
def impatient(pocket: VideoLanguageModel) -> Iterator[LiveServer]:
    """A server that waits for nobody for long."""
    with live_server(pocket, idle_s=0.5) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with the keys of two owners, and of a third with narrow limits."""
    narrow = "frames_per_s = 1\nquestions_per_min = 1\nsessions = 1\n"
    keys = "".join(
        f'[[keys]]\nowner = "{owner}"\nsha256 = "{hashlib.sha256(owner.encode()).hexdigest()}"\n{limits}'
        for owner, limits in (("ann", ""), ("bob", ""), ("cid", narrow))
    )
    file: Path = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(keys)
    with live_server(pocket, keys_file=file, max_sessions=4) as running:
        yield running


def bearer(key: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {key}"}}


def test_a_silent_peer_is_let_go_with_a_reason(impatient: LiveServer) -> None:
    async def silent() -> tuple[int, str]:
        async with peer(impatient.url) as client:
            return await client.closed()

    code, reason = asyncio.run(silent())
    assert (code, reason) == (1000, "Nothing was heard of you for 0.5 s.")


def test_a_half_open_connection_is_found_out(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose machine is gone answers no ping; here, one that knows nothing of pings."""
    for setting in ("ws_ping_interval", "ws_ping_timeout"):
        monkeypatch.setattr(live.server.config, setting, 0.1)

    async def half_open() -> bytes:
        host, port = live.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        received = await reader.read()  # until the server closes; pings in it are not answered
        writer.close()
        return received

    received = asyncio.run(asyncio.wait_for(half_open(), 20))
    assert b"101 Switching Protocols" in received
    assert received.endswith(b"\x03\xf3keepalive ping timeout")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 401, "invalid_api_key"),
        (bearer("eve"), 401, "invalid_api_key"),
        ({"subprotocols": ["realtime", "openai-insecure-api-key.eve"]}, 401, "invalid_api_key"),
        ({"origin": "https://evil.example", **bearer("ann")}, 403, "origin_not_allowed"),
    ],
)
def test_who_may_not_come_in_is_told_before_the_socket_opens(
    guarded: LiveServer, options: dict[str, Any], status: int, code: str
) -> None:
    async def bad(url: str) -> object:
        with pytest.raises(InvalidStatus) as refused:
            async with peer(url, **options):
                pass
        response = refused.value.response
        return response.status_code, json.loads(response.body)["error"]["code"]

    assert asyncio.run(bad(guarded.url)) == (status, code)


def test_a_browser_puts_its_key_among_the_subprotocols_and_only_realtime_is_chosen(guarded: LiveServer) -> None:
    async def browser() -> str | None:
        async with peer(guarded.url, subprotocols=["realtime", "openai-insecure-api-key.ann"]) as client:
            await client.receive("session.created")
            return client.socket.subprotocol

    assert asyncio.run(browser()) == "realtime"


@pytest.mark.parametrize("session_id", ["../../etc/passwd", "..", "a/b", "x" * 65, "", "%00", "\N{SNOWMAN}"])
def test_an_id_that_is_no_name_is_refused(live: LiveServer, session_id: str) -> None:
    async def bad(url: str) -> object:
        async with peer(url, f"?session_id={session_id}".replace("\N{SNOWMAN}", "%E2%98%83")) as client:
            code = (await client.receive())["error"]["code"]
            return code, (await client.closed())[0]

    assert with_company(live.url, bad) == ("invalid_value", 1008)


def test_nobody_takes_up_the_session_of_another_key(guarded: LiveServer) -> None:
    async def steal() -> tuple[str, int]:
        async with peer(guarded.url, **bearer("ann")) as owner:
            told = await owner.opt_in(binary_frames=True)
            await owner.frame(0, as_jpeg(NOISE), 0.0)
            await owner.ask("what do you see now?")
            headers = {**bearer("bob")["additional_headers"], "streamvlm-resume-token": told["resume_token"]}
            async with peer(guarded.url, f"?session_id={told['session_id']}", additional_headers=headers) as thief:
                code: str = (await thief.receive())["error"]["code"]
                close_code, _ = await thief.closed()
            await owner.ask("what do you see now?")
            return code, close_code

    assert asyncio.run(steal()) == ("session_refused", 1008)


def test_a_wrong_token_does_not_even_disturb_who_has_the_right_one(live: LiveServer) -> None:
    async def guess(url: str) -> object:
        async with well_behaved(url) as owner:
            told = await owner.opt_in(binary_frames=True)
            for headers in ({}, {"streamvlm-resume-token": "guessed"}):
                async with peer(url, f"?session_id={told['session_id']}", additional_headers=headers) as thief:
                    assert (await thief.receive())["error"]["code"] == "session_refused"
            return (await owner.opt_in(binary_frames=True))["time_s"]

    assert asyncio.run(guess(live.url)) == 0.0


def test_a_key_beyond_its_limits_loses_frames_quietly_and_questions_with_a_word(guarded: LiveServer) -> None:
    async def greedy() -> tuple[int, str, str]:
        async with peer(guarded.url, **bearer("cid")) as client:
            await client.opt_in(binary_frames=True, events=["stats"])
            for number in range(10):
                await client.frame(number, as_jpeg(NOISE), float(number))
            await client.ask("what do you see now?")
            await client.send("response.create", response={"instructions": "and now?"})
            refused = (await client.receive("error"))["error"]["code"]
            async with peer(guarded.url, **bearer("cid")) as second:
                crowded = (await second.receive())["error"]["code"]
            stats = await client.receive("streamvlm.stats")
            return stats["frames_dropped"], refused, crowded

    n_dropped, refused, crowded = asyncio.run(greedy())
    assert n_dropped >= 7
    assert (refused, crowded) == ("rate_limit_exceeded", "rate_limit_exceeded")


def test_who_sends_faster_than_can_be_watched_loses_frames_but_never_the_newest(guarded: LiveServer) -> None:
    async def fast() -> tuple[int, bool, float]:
        async with peer(guarded.url, **bearer("bob")) as client:
            await client.opt_in(binary_frames=True, events=["stats", "evidence"])
            for number in range(400):
                await client.frame(number, as_jpeg(NOISE), float(number))
            await client.send("response.create", response={"instructions": "what do you see now?"})
            evidence = await client.receive("streamvlm.response.evidence")
            stats = await client.receive("streamvlm.stats")
            return stats["frames_offered"], stats["frames_dropped"] > 0, evidence["asked_at_s"]

    assert asyncio.run(fast()) == (400, True, 399.0)
