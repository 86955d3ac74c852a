"""Who may talk to a server, and how much."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.errors import UsageError
from streamvlm_server.access.keys import ApiKeys, KeyEntry, check_bind, check_origin, load_keys
from streamvlm_server.access.limits import Limits, Meter, TokenBucket
from streamvlm_server.errors import AuthError, OriginError, RateLimitError


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


TWO = ApiKeys([KeyEntry(sha256=sha256("alpha"), owner="anna"), KeyEntry(sha256=sha256("beta"), owner="bert")])
OPEN = ApiKeys()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer beta"},
        {"authorization": "bearer  beta "},
        {"x-api-key": "beta"},
        {"sec-websocket-protocol": "realtime, openai-insecure-api-key.beta, openai-beta.realtime-v1"},
    ],
)
def test_a_key_is_found_wherever_clients_put_it(headers: dict[str, str]) -> None:
    assert TWO.authenticate(headers).owner == "bert"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer gamma"},
        {"authorization": "Bearer "},
        {"authorization": "Basic beta"},
        {"authorization": f"Bearer {sha256('beta')}"},
        {"x-api-key": "béta\udcff"},
        {"sec-websocket-protocol": "realtime"},
    ],
)
def test_anything_else_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(AuthError, match="key"):
        TWO.authenticate(headers)


def test_without_keys_everybody_is_the_same_nameless_owner() -> None:
    assert OPEN.authenticate({"authorization": "Bearer whatever"}).owner == ""


def test_the_keys_file_names_hashes_owners_and_limits(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nsha256 = "{sha256("alpha")}"\nowner = "anna"\nsessions = 2\nquestions_per_min = 30\n')
    principal = load_keys(file).authenticate({"x-api-key": "alpha"})
    assert principal.owner == "anna"
    assert principal.meter.limits.sessions == 2
    assert principal.meter.limits.questions_per_min == 30


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "keys"),
        ("keys = []", "keys"),
        ("[[keys]]\nsha256 = 'plain'\nowner = 'anna'", "sha256"),
        (f"[[keys]]\nsha256 = '{'0' * 64}'", "owner"),
        (f"[[keys]]\nsha256 = '{'0' * 64}'\nowner = 'anna'\nframes = 3", "frames"),
        ("[[keys]", "cannot be read"),
    ],
)
def test_a_mistake_in_the_keys_file_is_one_sentence_without_what_it_holds(
    text: str, named: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named) as caught:
        load_keys(file)
    assert "\n" not in str(caught.value)
    assert "plain" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_without_keys_a_server_does_not_listen_to_others(host: str) -> None:
    with pytest.raises(UsageError, match="--keys-file"):
        check_bind(host, OPEN)
    check_bind(host, TWO)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_without_keys_a_server_listens_to_its_own_machine(host: str) -> None:
    check_bind(host, OPEN)


@pytest.mark.parametrize(
    ("headers", "keys", "passes"),
    [
        ({"host": "127.0.0.1:8000"}, OPEN, True),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, OPEN, True),
        ({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, OPEN, True),
        ({"host": "127.0.0.1:8000", "origin": "https://page.example"}, OPEN, True),
        ({"host": "127.0.0.1:8000", "origin": "https://other.example"}, OPEN, False),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:9000"}, OPEN, False),
        ({"host": "127.0.0.1:8000", "origin": "null"}, OPEN, False),
        ({"host": "rebound.example:8000", "origin": "http://rebound.example:8000"}, OPEN, False),
        ({"host": "rebound.example:8000"}, OPEN, False),
        ({}, OPEN, False),
        ({"host": "[broken", "origin": "http://[broken"}, OPEN, False),
        ({"host": "video.example", "origin": "https://video.example"}, TWO, True),
        ({"host": "video.example", "origin": "https://other.example"}, TWO, False),
    ],
)
def test_pages_of_other_origins_are_refused(headers: dict[str, str], keys: ApiKeys, passes: bool) -> None:
    if passes:
        check_origin(headers, ["https://page.example"], keys)
    else:
        with pytest.raises(OriginError):
            check_origin(headers, ["https://page.example"], keys)


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_questions_pass_at_their_rate_and_the_refusal_says_when_to_come_back() -> None:
    clock = Clock()
    meter = Meter(Limits(questions_per_min=6), clock)
    meter.question()
    clock.now_s += 1
    with pytest.raises(RateLimitError, match="6 questions a minute") as caught:
        meter.question()
    clock.now_s += caught.value.retry_after_s
    meter.question()


def test_frames_and_their_bytes_are_limited_each_on_its_own() -> None:
    clock = Clock()
    meter = Meter(Limits(frames_per_s=10, bytes_per_s=1000), clock)
    meter.frames(1, 50_000)  # a picture larger than the bucket passes, and is owed
    with pytest.raises(RateLimitError, match="allowed 1000B of media a second"):
        meter.frames(1, 1)
    clock.now_s += 50
    meter.frames(20, 1)
    with pytest.raises(RateLimitError, match="frames"):
        meter.frames(1, 1)


def test_frames_of_a_video_are_owed_when_they_are_known() -> None:
    clock = Clock()
    meter = Meter(Limits(frames_per_s=10), clock)
    meter.frames(0, 1000)
    meter.owe_frames(120)
    with pytest.raises(RateLimitError, match="frames") as caught:
        meter.frames(1, 10)
    assert caught.value.retry_after_s == pytest.approx(10.1)


def test_sessions_in_use_are_counted_and_given_back() -> None:
    meter = Meter(Limits(sessions=1), Clock())
    with meter.session(), pytest.raises(RateLimitError, match="1 sessions"), meter.session():
        pass
    with meter.session():
        pass


def test_without_limits_nothing_is_refused() -> None:
    meter = Meter(Limits(), Clock())
    for _ in range(10_000):
        meter.question()
        meter.frames(100, 1 << 30)


@given(
    rate=st.floats(0.01, 1e6), burst=st.floats(1, 1e6),
    wanted=st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 1e5)), max_size=50),
)  # fmt: skip
def test_over_any_time_no_more_passes_than_rate_and_burst_and_one_item_on_credit(
    rate: float, burst: float, wanted: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    began_s, taken = clock.now_s, 0.0
    for pause_s, units in wanted:
        clock.now_s += pause_s
        if not bucket.wait_s(units):
            assert taken <= burst + (clock.now_s - began_s) * rate * (1 + 1e-9) + 1e-6
            bucket.take(units)
            taken += units


@given(rate=st.floats(0.01, 1e6), burst=st.floats(1, 1e6), units=st.floats(0.01, 1e7))
def test_whoever_waits_as_long_as_told_gets_through(rate: float, burst: float, units: float) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    bucket.take(units)
    clock.now_s += bucket.wait_s(units)
    assert bucket.wait_s(units) == 0
