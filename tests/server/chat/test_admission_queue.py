"""Requests that wait for a session of their own: in turns, within bounds, and only as long as somebody wants them."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from live_server import live_server, wait_until
from standing_still import standing_still
from websocket_peer import NOISE, as_png, as_url

from streamvlm.errors import BusyError
from streamvlm.models.base import VideoLanguageModel
from streamvlm_server.chat.admission_queue import AdmissionQueue


class Places:
    """So many places, and who has got one, in order."""

    def __init__(self, n_free: int = 0) -> None:
        self.n_free, self.taken = n_free, list[str]()

    def by(self, name: str) -> Callable[[], Awaitable[str]]:
        async def opened() -> str:
            await asyncio.sleep(0)
            if not self.n_free:
                raise BusyError("All are in use.")
            self.n_free -= 1
            self.taken.append(name)
            return name

        return opened


def room(most: int = 10, most_bytes: int = 100, within_s: float = 60.0) -> AdmissionQueue:
    return AdmissionQueue(most, most_bytes, within_s)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_owners_take_turns_and_the_requests_of_each_keep_their_order() -> None:
    async def use() -> list[str]:
        waiting, places = room(), Places()
        async with asyncio.TaskGroup() as tasks:
            for name in ("ann 1", "ann 2", "ann 3", "bob 1", "bob 2", "cid 1"):
                tasks.create_task(waiting.admit(name[:3], 0, places.by(name)))
                await settle()
            for _ in range(6):
                places.n_free += 1
                waiting.notify()
                await settle()
        assert waiting.n_waiting == 0
        return places.taken

    assert asyncio.run(use()) == ["ann 1", "bob 1", "cid 1", "ann 2", "bob 2", "ann 3"]


def test_nobody_overtakes_who_waits_and_all_get_through_as_long_as_there_are_places() -> None:
    async def use() -> list[str]:
        waiting, places = room(), Places()
        async with asyncio.TaskGroup() as tasks:
            for name in ("1", "2", "3"):
                tasks.create_task(waiting.admit("", 0, places.by(name)))
                await settle()
            places.n_free = 4  # nobody is told; who has the turn looks now and again
            tasks.create_task(waiting.admit("", 0, places.by("4")))
        return places.taken

    assert asyncio.run(use()) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("full", [room(most=2), room(most_bytes=20), room(most=0)], ids=["requests", "bytes", "none"])
def test_one_too_many_is_refused_at_once(full: AdmissionQueue) -> None:
    async def use() -> None:
        places = Places(1)
        assert await full.admit("", 10, places.by("free")) == "free"
        waiting = [asyncio.create_task(full.admit("", 10, places.by(""))) for _ in range(2)]
        await settle()
        with pytest.raises(BusyError, match="wait for one; try again later"):
            await full.admit("ann", 10, places.by(""))
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert full.n_waiting == 0

    asyncio.run(use())


def test_who_has_waited_too_long_or_is_gone_makes_room_for_the_next() -> None:
    async def use() -> None:
        places, brief = Places(), room(within_s=0.05)
        with pytest.raises(BusyError, match=r"No place became free within 0\.05 s; try again later"):
            await brief.admit("", 0, places.by(""))
        waiting = room()
        first, second = (asyncio.create_task(waiting.admit("", 0, places.by(name))) for name in ("1", "2"))
        await settle()
        first.cancel()
        await settle()
        places.n_free = 1
        waiting.notify()
        assert await second == "2"
        assert (brief.n_waiting, waiting.n_waiting, places.taken) == (0, 0, ["2"])

    asyncio.run(use())


BODY: dict[str, Any] = {
    "model": "pocket",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": as_url(as_png(NOISE))}},
                {"type": "text", "text": "what do you see now?"},
            ],
        }
    ],
}


def ask(url: str, body: dict[str, Any] = BODY) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=100)


def long_body(n_pictures: int) -> dict[str, Any]:
    """A question about so many pictures."""
    asked = BODY["messages"][0]["content"]
    return {"model": "pocket", "messages": [{"role": "user", "content": [asked[0]] * n_pictures + asked[1:]}]}


def test_twenty_questions_at_once_are_answered_on_two_places(pocket: VideoLanguageModel) -> None:
    with live_server(pocket, max_sessions=2) as server, ThreadPoolExecutor(20) as clients:
        with standing_still(server.engine):
            asked = [clients.submit(ask, server.url) for _ in range(20)]
            wait_until(lambda: server.service.admission_queue.n_waiting == 18)
            assert "streamvlm_num_requests_without_session 18.0" in httpx2.get(f"{server.url}/metrics").text
        answers = [one.result() for one in asked]
        assert [answer.status_code for answer in answers] == [200] * 20
        assert len({answer.json()["choices"][0]["message"]["content"] for answer in answers}) == 1
        wait_until(lambda: server.engine.stats().n_sessions == 0)


def test_what_waits_too_long_or_is_too_much_is_told_when_to_come_again(pocket: VideoLanguageModel) -> None:
    settings = {"max_sessions": 1, "max_waiting": 1, "queue_timeout_s": 0.1}
    with live_server(pocket, **settings) as server, ThreadPoolExecutor(3) as clients:
        with standing_still(server.engine):
            asked = [clients.submit(ask, server.url) for _ in range(3)]
            wait_until(lambda: sum(one.done() for one in asked) == 2)
        answers = [one.result() for one in asked]
        assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "model_overloaded"
                assert int(answer.headers["retry-after"]) > 0


def test_a_client_that_goes_away_while_it_waits_is_not_waited_for(pocket: VideoLanguageModel) -> None:
    with live_server(pocket, max_sessions=1) as server:
        server.engine.open("camera-1").offer(NOISE, time_s=0.0)
        n_answers = server.engine.stats().n_answers
        leaving = http.client.HTTPConnection(server.url.removeprefix("http://"))
        leaving.request("POST", "/v1/chat/completions", json.dumps(BODY))
        wait_until(lambda: server.service.admission_queue.n_waiting == 1)
        leaving.close()
        wait_until(lambda: server.service.admission_queue.n_waiting == 0)
        server.engine.find("camera-1").close()
        wait_until(lambda: server.service.drain.n_running == 0)
        assert (server.engine.stats().n_sessions, server.engine.stats().n_answers) == (0, n_answers)


def test_others_are_answered_while_a_request_of_many_pictures_is_watched(pocket: VideoLanguageModel) -> None:
    with live_server(pocket) as server, ThreadPoolExecutor(1) as clients:
        long = clients.submit(ask, server.url, long_body(500))
        wait_until(lambda: server.engine.stats().n_frames > 0)
        assert [ask(server.url).status_code for _ in range(3)] == [200] * 3
        assert not long.done()
        assert long.result().status_code == 200


def test_what_cannot_be_watched_in_time_is_refused_and_watched_no_further(
    pocket: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(pocket, watch_timeout_s=2.0) as server:  # in which the pictures come on a busy machine too
        worker = server.engine._worker
        step = worker.step

        def step_slowly() -> None:
            time.sleep(0.2)
            step()

        monkeypatch.setattr(worker, "step", step_slowly)
        told = ask(server.url, long_body(200))
        assert (told.status_code, told.json()["error"]["code"]) == (413, "too_large")
        assert "within 2 s; send less video" in told.json()["error"]["message"]
        assert server.engine.stats().n_sessions == 0
        assert server.engine.stats().n_frames < 200
