"""Each bad client against a real server: it is told, little is spent on it, and its neighbour does not notice."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from bad_clients import (
    BOB,
    CUT_OFF,
    BadClient,
    Told,
    answers_no_ping,
    ask_for_30_kb,
    asks_for_more_than_it_reads,
    asks_for_much_and_reads_nothing,
    bearer,
    end_of,
    floods,
    guesses_its_neighbours_token,
    jpeg_bomb,
    knocks,
    looking_away,
    png_of,
    says,
    says_nothing,
    shows,
    shows_one_after_another,
    takes_up,
    takes_up_its_neighbours_session,
)
from live_server import LiveServer
from neighbour import Neighbour, beside_a_neighbour
from server_process import ServerProcess
from websocket_peer import NOISE, as_jpeg, peer
from websockets.exceptions import ConnectionClosed
from weight import Weight

from streamvlm.wire import FrameMessage
from streamvlm_server.hosting import slow_reader_timeout

ANN = bearer("ann")
CID = bearer("cid")
FRAME = FrameMessage(0, as_jpeg(NOISE)).pack()
LITTLE = 32 << 20
HERE = Weight(os.getpid())
"""Of tests whose server is in this process, and their clients with it."""

only_on_cpu = pytest.mark.only_on("cpu", "for a GPU, all host memory of a session is resident from its beginning")


class Case(NamedTuple):
    """What a bad client does, what it is told, and what it may cost: more where the model takes a largest step."""

    bad: BadClient
    told: Told
    most_bytes: int = LITTLE


BAD_CLIENTS: dict[str, Case] = {
    "text that is not JSON": Case(says("this is no JSON", '{"type": ', "\x00"), Told("invalid_event")),
    "JSON that is no event": Case(says("[]", "null", '"response.create"', "[" * 100_000), Told("invalid_event")),
    "an unknown type": Case(says('{"type": "no.such.event"}', '{"type": 7}', "{}"), Told("unknown_event")),
    "a wrong field": Case(
        says(
            '{"type": "response.create", "response": {"max_output_tokens": "many"}}',
            '{"type": "conversation.item.create"}',
            '{"type": "session.update", "session": {"type": "realtime", "streamvlm": {"events": "all"}}}',
        ),
        Told("invalid_event"),
    ),
    "a source that is a file": Case(
        says('{"type": "streamvlm.source.open", "url": "file:///etc/passwd"}'),
        Told("media_not_allowed"),
    ),
    "a source on the server's own machine": Case(
        says('{"type": "streamvlm.source.open", "url": "http://127.0.0.1:1/"}'),
        Told("media_not_allowed"),
    ),
    "a binary message that is no frame": Case(says(b"SV\x01\x00 and so on", b""), Told("invalid_value")),
    "a truncated JPEG": Case(shows(as_jpeg(NOISE)[:400]), Told("invalid_image")),
    "a picture that is none": Case(shows(b"no picture at all"), Told("invalid_image")),
    "a JPEG of 60,000 × 60,000 pixels": Case(shows(jpeg_bomb()), Told("image_too_large")),
    "a PNG of 60 KB and a gigabyte of pixels": Case(shows(png_of(20_000, "1")), Told("image_too_large")),
    "a frame of 100 MB": Case(floods(1, bytes(100_000_000)), Told(None, 1009)),
    "10,000 messages a second": Case(
        floods(10_000, '{"type": "response.cancel"}'),
        Told("rate_limit_exceeded", 1008),
    ),
    "10,000 frames a second": Case(
        floods(10_000, FRAME),
        Told("rate_limit_exceeded", 1008),
        most_bytes=256 << 20,
    ),
    "pictures of 12 million pixels": Case(
        shows_one_after_another(16, png_of(3_500, "RGB")),
        Told(None),
        # 4 wait, 4 are seen, and one is decoded, which takes 4/3 of it in Pillow and two copies.
        most_bytes=12 * 3 * 3_500**2 + LITTLE,
    ),
    "a slow reader": Case(asks_for_more_than_it_reads, Told(None, 1008)),
    "one that reads no more": Case(asks_for_much_and_reads_nothing, Told(None, CUT_OFF)),
    "a silent peer": Case(says_nothing, Told(None, 1000)),
    "no key": Case(knocks(), Told("invalid_api_key", 401)),
    "a wrong key": Case(knocks(**bearer("eve")), Told("invalid_api_key", 401)),
    "a wrong key of a browser": Case(
        knocks(subprotocols=["realtime", "openai-insecure-api-key.eve"]),
        Told("invalid_api_key", 401),
    ),
    "a wrong origin": Case(knocks(origin="https://evil.example", **BOB), Told("origin_not_allowed", 403)),
    **{
        f"the session id {name or 'nothing'}": Case(takes_up(name), Told("invalid_value", 1008))
        for name in ("../../etc/passwd", "..", "a/b", "%2e%2e%2f", "x" * 65, "", "%00", "%E2%98%83")
    },
    "another key's session": Case(takes_up_its_neighbours_session, Told("session_refused", 1008)),
}


@contextmanager
def takes_at_most(n_bytes: int, weight: Weight) -> Iterator[None]:
    """A process holds at no moment so many bytes more than it had."""
    weight.forget_peak()
    before_bytes = weight.resident_bytes
    yield
    assert weight.peak_bytes - before_bytes < n_bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, device: str) -> Iterator[ServerProcess]:
    """A process that keeps three sessions, with the keys of two owners, and of a third with narrow limits."""
    narrow = "frames_per_s = 1\nquestions_per_min = 1\nsessions = 1\n"
    keys: Path = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(
        "".join(
            f'[[keys]]\nowner = "{owner}"\nsha256 = "{hashlib.sha256(owner.encode()).hexdigest()}"\n{limits}'
            for owner, limits in (("ann", ""), ("bob", ""), ("cid", narrow))
        )
    )
    flags = ["--keys-file", str(keys), "--idle-s", "3", "--linger-s", "0", "--max-sessions", "3"]
    with ServerProcess(device, *flags, "--session-memory-budget", "32MiB") as running:
        asyncio.run(beside_a_neighbour(running.url, says_nothing, **ANN))  # the first steps take what stays taken
        yield running
        assert not running.said, "what bad clients do is no error of the server's"


@only_on_cpu
@pytest.mark.parametrize("case", BAD_CLIENTS.values(), ids=BAD_CLIENTS)
def test_a_bad_client_is_told_little_is_spent_on_it_and_its_neighbour_does_not_notice(
    server: ServerProcess, case: Case
) -> None:
    with takes_at_most(case.most_bytes, server.weight):
        assert asyncio.run(beside_a_neighbour(server.url, case.bad, **ANN)) == case.told


@only_on_cpu
def test_half_open_connections_are_found_out(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bad(beside: Neighbour) -> Told:
        for setting in ("ws_ping_interval", "ws_ping_timeout"):  # of connections from now on
            monkeypatch.setattr(live.server.config, setting, 0.1)
        return await answers_no_ping(beside)

    asyncio.run(beside_a_neighbour(live.url, says("{}")))  # the first steps take what stays taken
    with takes_at_most(LITTLE, HERE):
        assert asyncio.run(beside_a_neighbour(live.url, bad)) == Told(None, 1011)


@only_on_cpu
def test_who_stops_reading_holds_no_socket_for_good(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_reader_timeout, "TIMEOUT_S", 0.2)
    connections = live.server.server_state.connections

    async def bad(beside: Neighbour) -> None:
        before = set(connections)
        async with looking_away(beside.url) as client:
            (held,) = connections - before
            while not held.transport.get_write_buffer_size():
                await ask_for_30_kb(client)
                await asyncio.sleep(0.005)  # no faster than it is written: what waits elsewhere has a bound of its own
            with suppress(ConnectionClosed):
                await client.socket.send(bytes(13_000_000))  # is too large: the socket is closed, behind what waits
            while held in connections:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    asyncio.run(beside_a_neighbour(live.url, bad))


def test_a_guessed_token_takes_nothing_up_and_disturbs_nobody(live: LiveServer) -> None:
    asyncio.run(beside_a_neighbour(live.url, says("{}")))  # the first steps take what stays taken
    with takes_at_most(LITTLE, HERE):
        guesses = beside_a_neighbour(live.url, guesses_its_neighbours_token)
        assert asyncio.run(guesses) == Told("session_refused", 1008)


def test_a_key_beyond_its_limits_loses_frames_quietly_and_questions_with_a_word(server: ServerProcess) -> None:
    async def greedy(beside: Neighbour) -> tuple[int, str, str | None]:
        async with peer(beside.url, **CID) as client:
            await client.opt_in(binary_frames=True, events=["stats"])
            for number in range(10):
                await client.frame(number, as_jpeg(NOISE), float(number))
            await client.ask("what do you see now?")
            await client.send("response.create", response={"instructions": "and now?"})
            refused = (await client.receive("error"))["error"]["code"]
            async with peer(beside.url, **CID) as second:
                crowded = (await end_of(second)).code
            stats = await client.receive("streamvlm.stats")
            return stats["frames_dropped"], refused, crowded

    n_dropped, refused, crowded = asyncio.run(beside_a_neighbour(server.url, greedy, **ANN))
    assert n_dropped >= 7
    assert (refused, crowded) == ("rate_limit_exceeded", "rate_limit_exceeded")


def test_a_key_may_take_its_only_session_up_again_while_the_older_connection_still_stands(
    server: ServerProcess,
) -> None:
    async def come_back() -> tuple[str, int]:
        async with peer(server.url, **CID) as first:
            session_id = (await first.opt_in())["session_id"]
            async with peer(server.url, f"?session_id={session_id}", **CID) as second:
                kind = (await second.receive())["type"]
                return kind, (await first.closed())[0]

    assert asyncio.run(come_back()) == ("session.created", 1008)


def test_who_sends_faster_than_can_be_watched_loses_frames_but_never_the_newest(server: ServerProcess) -> None:
    async def fast(beside: Neighbour) -> tuple[int, bool, float]:
        async with peer(beside.url, **BOB) as client:
            await client.opt_in(binary_frames=True, events=["stats", "evidence"])
            for number in range(400):
                await client.frame(number, as_jpeg(NOISE), float(number))
            await client.send("response.create", response={"instructions": "what do you see now?"})
            evidence = await client.receive("streamvlm.response.evidence")
            stats = await client.receive("streamvlm.stats")
            return stats["frames_offered"], stats["frames_dropped"] > 0, evidence["asked_at_s"]

    assert asyncio.run(beside_a_neighbour(server.url, fast, **ANN)) == (400, True, 399.0)
    metrics = httpx2.get(f"{server.url}/metrics", timeout=60).text
    assert 'streamvlm_frames_refused_total{reason="late"}' in metrics


def test_a_browser_puts_its_key_among_the_subprotocols_and_only_realtime_is_chosen(server: ServerProcess) -> None:
    async def browser() -> str | None:
        async with peer(server.url, subprotocols=["realtime", "openai-insecure-api-key.ann"]) as client:
            await client.receive("session.created")
            return client.socket.subprotocol

    assert asyncio.run(browser()) == "realtime"
