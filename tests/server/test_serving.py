"""Keys, limits, sessions, health and metrics of a running server."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from live_server import LiveServer, live_server
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import TinyModel, colour

from streamvlm.engine.worker import Worker
from streamvlm.errors import UsageError
from streamvlm.models.base import VideoLanguageModel
from streamvlm.world.events import World
from streamvlm.world.render import render
from streamvlm_server.config import ServerConfig
from streamvlm_server.hosting.draining_server import check_tls, listen
from streamvlm_server.monitoring.logs import JsonFormatter, about

KEYS = {"anna-key": "anna", "bert-key": "bert", "carl-key": "carl"}


@pytest.fixture(scope="module")
def guarded(pocket: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with three owners, of whom one may ask a question a minute and one have no session, and an origin."""
    folder = tmp_path_factory.mktemp("guarded")
    limits = {"anna": "", "bert": "questions_per_min = 1\n", "carl": "sessions = 0\n"}
    entries = [
        f'[[keys]]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\nowner = "{owner}"\n{limits[owner]}'
        for key, owner in KEYS.items()
    ]
    (folder / "keys.toml").write_text("\n".join(entries))
    settings = {
        "keys_file": folder / "keys.toml", "home": folder / "home", "allowed_origins": "https://page.example",
    }  # fmt: skip
    with live_server(pocket, **settings) as running:
        yield running


def get(server: LiveServer, path: str, key: str | None = None, **headers: str) -> httpx2.Response:
    return call(server, "GET", path, key, **headers)


def call(server: LiveServer, method: str, path: str, key: str | None = None, **headers: str) -> httpx2.Response:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        told["authorization"] = f"Bearer {key}"
    return httpx2.request(method, server.url + path, headers=told, timeout=60)  # a busy disk is no failure


def film(server: LiveServer, world: World, session_id: str, owner: str = "") -> None:
    """Shows a new session twelve seconds of the world."""
    session = server.engine.open(session_id, owner=owner)
    for second in range(12):
        session.offer(render(world, float(second)), time_s=float(second), wait=True)


# --- who may come in ---


def test_without_a_key_only_health_and_metrics_are_told(guarded: LiveServer) -> None:
    for path in ("/v1/models", "/v1/sessions", "/v1/nothing"):
        refused = get(guarded, path)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
    assert get(guarded, "/v1/models", "wrong").status_code == 401
    assert get(guarded, "/v1/models", "anna-key").status_code == 200
    assert get(guarded, "/healthz").status_code == 200
    assert get(guarded, "/readyz").status_code == 200
    assert get(guarded, "/metrics").status_code == 200


def test_openais_client_knows_a_refused_key_when_it_meets_one(guarded: LiveServer) -> None:
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="not known"),
    ):
        client.models.list()


def test_pages_of_other_origins_are_refused_and_allowed_ones_told_so(guarded: LiveServer) -> None:
    refused = get(guarded, "/v1/models", "anna-key", origin="https://other.example")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    allowed = get(guarded, "/v1/models", "anna-key", origin="https://page.example")
    assert allowed.headers["access-control-allow-origin"] == "https://page.example"
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
    may = call(guarded, "OPTIONS", "/v1/chat/completions", origin="https://page.example", **asked)
    assert may.status_code == 200
    assert "authorization" in may.headers["access-control-allow-headers"].lower()


def test_a_server_without_keys_answers_to_loopback_names_only(server: LiveServer) -> None:
    assert get(server, "/v1/models", host="rebound.example").status_code == 403
    assert get(server, "/v1/models", host="localhost").status_code == 200


def test_questions_beyond_a_keys_limit_are_told_when_to_come_back(guarded: LiveServer, world: World) -> None:
    film(guarded, world, "berts", owner="bert")
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="bert-key", max_retries=0) as client:

        def ask() -> str | None:
            told = client.chat.completions.create(
                model="pocket",
                messages=[{"role": "user", "content": "what do you see now?"}],
                extra_body={"streamvlm": {"session": "berts"}},
            )
            return told.choices[0].message.content

        assert ask()
        with pytest.raises(openai.RateLimitError, match="1 questions a minute") as caught:
            ask()
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
    guarded.engine.delete("berts", owner="bert")


def test_a_key_without_sessions_may_bring_no_video(guarded: LiveServer, clip_url: str) -> None:
    part = {"type": "video_url", "video_url": {"url": clip_url}}
    body = {"model": "pocket", "messages": [{"role": "user", "content": [part, {"type": "text", "text": "what?"}]}]}
    told = httpx2.post(f"{guarded.url}/v1/chat/completions", json=body, headers={"x-api-key": "carl-key"}, timeout=60)
    assert (told.status_code, told.json()["error"]["type"]) == (429, "rate_limit_error")


# --- sessions ---


def test_a_session_is_listed_shown_and_deleted_by_its_owner_alone(guarded: LiveServer, world: World) -> None:
    film(guarded, world, "annas", owner="anna")
    listed = get(guarded, "/v1/sessions", "anna-key").json()
    assert listed["object"] == "list"
    assert [(one["id"], one["owner"], one["is_open"]) for one in listed["data"]] == [("annas", "anna", True)]
    assert get(guarded, "/v1/sessions", "bert-key").json()["data"] == []
    for path in ("", "/timeline", "/thumbnails/0"):
        assert get(guarded, f"/v1/sessions/annas{path}", "bert-key").status_code == 404
    assert call(guarded, "DELETE", "/v1/sessions/annas", "bert-key").status_code == 404
    shown = get(guarded, "/v1/sessions/annas", "anna-key").json()
    assert shown["id"] == "annas"
    assert shown["n_offered"] == 12
    gone = call(guarded, "DELETE", "/v1/sessions/annas", "anna-key").json()
    assert gone == {"id": "annas", "object": "session.deleted", "deleted": True}
    assert get(guarded, "/v1/sessions/annas", "anna-key").status_code == 404
    assert get(guarded, "/v1/sessions", "anna-key").json()["data"] == []


def test_the_timeline_and_evidence_tell_where_their_pictures_are(
    server: LiveServer, client: openai.OpenAI, world: World
) -> None:
    film(server, world, "filmed")
    try:
        server.engine.find("filmed").close()  # all of it is on disk, and is taken up from there
        whole = get(server, "/v1/sessions/filmed/timeline").json()
        assert [decision["time_s"] for decision in whole["decisions"]] == list(range(12))
        assert whole["blocks"][0]["start_s"] == 0
        assert {block["fidelity"] for block in whole["blocks"]} <= {"clear", "fuzzy"}
        part = get(server, "/v1/sessions/filmed/timeline?start_s=3&stop_s=5").json()
        assert [decision["time_s"] for decision in part["decisions"]] == [3, 4, 5]
        assert part["blocks"] == [b for b in whole["blocks"] if b["end_s"] >= 3 and b["start_s"] <= 5]
        jpeg = get(server, whole["blocks"][0]["thumbnail"])
        assert jpeg.headers["content-type"] == "image/jpeg"
        assert jpeg.content.startswith(b"\xff\xd8")
        asked = client.chat.completions.create(
            model="pocket",
            messages=[{"role": "user", "content": "where was the orange heart?"}],
            extra_body={"streamvlm": {"session": "filmed"}},
        )
        shown = [seen["thumbnail"] for seen in asked.model_dump()["streamvlm"]["evidence"]]
        assert get(server, next(filter(None, shown))).content.startswith(b"\xff\xd8")
        assert get(server, "/v1/sessions/filmed/thumbnails/999").json()["error"]["code"] == "thumbnail_not_found"
        bad = get(server, "/v1/sessions/filmed/timeline?start_s=noon")
        assert (bad.status_code, bad.json()["error"]["param"]) == (400, "start_s")
    finally:
        server.engine.delete("filmed")


def test_sessions_that_rest_on_disk_are_asked_one_after_another_in_the_one_place_there_is(
    pocket: VideoLanguageModel, world: World, clip_url: str, tmp_path: Path
) -> None:
    with live_server(pocket, home=tmp_path, max_sessions=1) as crowded:
        for name in ("first", "second", "third"):
            film(crowded, world, name)
            crowded.engine.find(name).close()
        for name in ("first", "second", "third", "first"):
            assert get(crowded, f"/v1/sessions/{name}").json()["time_s"] == 11
            body = {"model": "pocket", "messages": [{"role": "user", "content": "what do you see now?"}]}
            asked = httpx2.post(
                f"{crowded.url}/v1/chat/completions", json={**body, "streamvlm": {"session": name}}, timeout=60
            )
            assert asked.json()["choices"][0]["message"]["content"]
            assert crowded.engine.stats().n_sessions == 1
        part = {"type": "video_url", "video_url": {"url": clip_url}}
        body = {"model": "pocket", "messages": [{"role": "user", "content": [part, {"type": "text", "text": "what?"}]}]}
        assert httpx2.post(f"{crowded.url}/v1/chat/completions", json=body, timeout=60).status_code == 200


def test_a_session_that_was_only_asked_gives_its_place_back(
    pocket: VideoLanguageModel, world: World, tmp_path: Path
) -> None:
    with live_server(pocket, home=tmp_path, linger_s=0.1) as running:
        film(running, world, "resting")
        running.engine.find("resting").close()
        assert get(running, "/v1/sessions/resting/timeline").status_code == 200
        while running.engine.stats().n_sessions:
            time.sleep(0.02)
        assert get(running, "/v1/sessions").json()["data"][0]["is_open"] is False


# --- models, health, metrics ---


def test_the_model_is_listed_and_shown(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["pocket"]
    assert client.models.retrieve("pocket").owned_by == "pocket"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("PUT", "/v1/models", 405)])
def test_what_is_not_there_is_said_in_openais_words(method: str, path: str, status: int, server: LiveServer) -> None:
    told = call(server, method, path)
    assert told.status_code == status
    assert path in told.json()["error"]["message"]


def test_a_request_keeps_the_id_it_came_with_or_gets_one(server: LiveServer) -> None:
    assert get(server, "/v1/models", x_request_id="mine").headers["x-request-id"] == "mine"
    first, second = (get(server, "/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second
    assert len(get(server, "/v1/models", x_request_id="a" * 65).headers["x-request-id"]) == 32


def test_a_server_whose_engine_has_ended_is_not_ready_and_says_why(pocket: VideoLanguageModel) -> None:
    with live_server(pocket) as running:
        assert get(running, "/readyz").json() == {"status": "ready", "reasons": []}
        running.engine.close()
        told = get(running, "/readyz")
        assert told.status_code == 503
        assert "closed" in told.json()["reasons"][0]
        assert get(running, "/healthz").status_code == 200


def test_a_server_whose_engine_is_stuck_is_not_ready(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(server, "/readyz").status_code == 200
    monkeypatch.setattr(Worker, "step_s", 61.0)
    told = get(server, "/readyz")
    assert (told.status_code, told.json()["reasons"]) == (503, ["the engine has been at one step for 61 s"])


def test_metrics_parse_and_count_what_happened(server: LiveServer, client: openai.OpenAI, clip_url: str) -> None:
    def scrape() -> dict[str, float]:
        text = get(server, "/metrics").text
        families = list(text_string_to_metric_families(text))
        assert all(family.name.startswith("streamvlm_") for family in families)
        assert all(family.documentation for family in families)
        return {
            sample.name + "".join(f"/{value}" for name, value in sample.labels.items() if name != "le"): sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("le", "+Inf") == "+Inf"
        }

    before = scrape()
    part = {"type": "video_url", "video_url": {"url": clip_url}}
    answer = client.chat.completions.create(
        model="pocket",
        messages=[{"role": "user", "content": [part, {"type": "text", "text": "what?"}]}],  # type: ignore[list-item,misc]
    )
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "a"}])
    after = scrape()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert answer.usage is not None
    assert grown("streamvlm_time_to_first_token_seconds_count") == 1
    for phase in ("queue", "prefill", "decode"):
        assert grown(f"streamvlm_request_{phase}_time_seconds_count") == 1
    assert after["streamvlm_num_requests_waiting"] == after["streamvlm_num_requests_running"] == 0
    assert grown("streamvlm_request_success_total/stop") == 1
    assert grown("streamvlm_generation_tokens_total") == answer.usage.completion_tokens
    assert grown("streamvlm_prompt_tokens_total") == answer.usage.prompt_tokens
    assert grown("streamvlm_request_prompt_tokens_sum") == answer.usage.prompt_tokens
    assert grown("streamvlm_frames_watched_total") == 17
    judged = [grown(f"streamvlm_frames_judged_total/{fidelity}") for fidelity in ("clear", "fuzzy", "discarded")]
    assert sum(judged) == 17
    assert grown("streamvlm_request_errors_total/model_not_found") == 1
    assert after["streamvlm_model_info/pocket"] == 1
    assert {f"streamvlm_kv_blocks_degraded_total/{step}" for step in ("faded", "dropped", "damaged")} <= set(after)
    assert {"streamvlm_kv_bytes/device", "streamvlm_kv_bytes/host", "streamvlm_kv_bytes/disk"} <= set(after)


def test_a_log_line_is_one_object_with_the_ids_of_what_it_is_about() -> None:
    def line(message: str, **more: object) -> dict[str, object]:
        record = logging.makeLogRecord({"name": "streamvlm", "levelname": "INFO", "msg": message, **more})
        told: dict[str, object] = json.loads(JsonFormatter().format(record))
        return told

    with about(request_id="r"), about(session_id="s"):
        told = line("%d\n%s", args=(1, "ä"))
    assert (told["message"], told["request_id"], told["session_id"]) == ("1\nä", "r", "s")
    assert told["level"] == "info"
    assert "session_id" not in line("later")
    assert line("of the engine's thread", session_id="s")["session_id"] == "s"
    assert "KeyError: 'lost'" in str(line("failed", exc_info=(KeyError, KeyError("lost"), None))["trace"])


def test_tls_is_spoken_where_a_certificate_is_given(
    pocket: VideoLanguageModel, certificate: tuple[Path, Path, Path]
) -> None:
    cert, key, authority = certificate
    trusting = ssl.create_default_context(cafile=authority)
    with live_server(pocket, tls_cert=cert, tls_key=key) as running:
        assert running.url.startswith("https://")
        assert httpx2.get(f"{running.url}/healthz", verify=trusting, timeout=60).status_code == 200


def test_small_packets_are_sent_at_once() -> None:
    with listen(ServerConfig(port=0)) as opened, socket.create_connection(opened.getsockname()) as client:
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert client.getpeername() == accepted.getsockname()


def test_a_certificate_that_cannot_be_used_is_said_before_anything_is_loaded(
    certificate: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cert, _, authority = certificate
    for key in (authority, tmp_path / "missing.pem"):
        with pytest.raises(UsageError, match="certificate"):
            check_tls(ServerConfig(tls_cert=cert, tls_key=key))


def test_a_question_gets_what_the_servers_policy_chooses_and_the_next_server_may_have_another(
    tmp_path: Path, device: str
) -> None:
    read = {}
    for policy in ("recent", "everything"):
        with live_server(TinyModel(device), home=tmp_path, policy=policy) as running:
            session = running.engine.open("hall")
            for second in range(60 if policy == "recent" else 0):
                session.offer(colour(second), time_s=float(second), wait=True)
            with openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
                told = client.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "what?"}], max_completion_tokens=2,
                    extra_body={"streamvlm": {"session": "hall", "at_s": 50.0}},
                )  # fmt: skip
            assert told.usage is not None
            read[policy] = told.usage.prompt_tokens
            blocks = [block for block in session.scheduled.session.blocks() if block.start_s <= 50]
    left_out = blocks[:-16]  # by `recent`: all but the window and as many more
    assert left_out
    assert read["everything"] >= read["recent"] + sum(block.n_tokens for block in left_out)
