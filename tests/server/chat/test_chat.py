"""Chat completions, asked by OpenAI's own client over real sockets; what is right, the library itself says."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import numpy as np
import openai
import pytest
from documents import python_example
from live_server import LiveServer, live_server, wait_until
from PIL import Image
from remux import remux
from still_files import decode_still

from streamvlm.frame import Frame, Picture
from streamvlm.ingest.source import open_source
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import World
from streamvlm.world.render import render

NOW, SEEN, HEART = "what do you see now?", "did you see a red circle?", "where was the orange heart?"


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def user(*parts: dict[str, Any], text: str) -> dict[str, Any]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def encoded(picture: Picture, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def ask(client: openai.OpenAI, messages: Sequence[dict[str, Any]], **more: Any) -> Any:
    return client.chat.completions.create(model="pocket", messages=list(messages), **more)  # type: ignore[arg-type]


def said(client: openai.OpenAI, *messages: dict[str, Any], **more: Any) -> str:
    return str(ask(client, messages, **more).choices[0].message.content)


def watch(model: VideoLanguageModel, frames: Sequence[Frame]) -> Session:
    """The library's own session, which answers what the server should."""
    session = Session(model, SessionConfig(host_budget_bytes=64 << 20))
    session.observe(frames)
    return session


@pytest.fixture(scope="module")
def watched(pocket: VideoLanguageModel, clip: Path) -> Session:
    with open_source(str(clip), fps=1) as source:
        return watch(pocket, list(source))


@pytest.mark.parametrize("question", [NOW, SEEN, HEART])
def test_a_video_is_answered_as_the_library_answers_whole_and_streamed(
    question: str, client: openai.OpenAI, clip_url: str, watched: Session
) -> None:
    right = watched.ask(question, out_of_band=True).answer
    asked = [user(video(clip_url), text=question)]
    whole = ask(client, asked, temperature=0)
    assert whole.choices[0].message.content == right.text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens == right.tokens.answer
    chunks = list(ask(client, asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == right.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_last_in_a_stream_for_whoever_asks_for_it(client: openai.OpenAI, clip_url: str) -> None:
    asked = [user(video(clip_url), text=NOW)]
    *chunks, last = ask(client, asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == ask(client, asked).usage
    assert all(chunk.usage is None for chunk in chunks)


def test_pictures_are_watched_a_second_apart_in_the_order_of_the_message(
    client: openai.OpenAI, pocket: VideoLanguageModel, world: World
) -> None:
    pictures = [render(world, 3.0), render(world, 15.0)]
    right = watch(pocket, [Frame(i, float(i), picture) for i, picture in enumerate(pictures)])
    urls = [data_url("image/png", encoded(picture, "PNG")) for picture in pictures]
    for question in (NOW, SEEN):
        told = said(client, user(*map(image, urls), text=question))
        assert told == right.ask(question, out_of_band=True).answer.text


def test_jpegs_with_commas_between_are_a_video(client: openai.OpenAI, pocket: VideoLanguageModel, world: World) -> None:
    jpegs = [encoded(render(world, t / 2), "JPEG") for t in range(12)]
    right = watch(pocket, [Frame(i, i / 2, decode_still(jpeg, name="a.jpg")) for i, jpeg in enumerate(jpegs)])
    url = "data:video/jpeg;base64," + ",".join(base64.b64encode(jpeg).decode() for jpeg in jpegs)
    answer = ask(client, [user(video(url), text=NOW)], extra_body={"streamvlm": {"fps": 2}})
    assert answer.choices[0].message.content == right.ask(NOW).answer.text
    assert answer.streamvlm["asked_at_s"] == 5.5


@pytest.mark.parametrize(
    "written",
    [
        lambda data: image("data:image/png;base64," + base64.encodebytes(data).decode()),
        lambda data: image("data:image/jpeg;charset=utf-8;base64," + base64.urlsafe_b64encode(data).decode()),
        lambda data: image("DATA:;name=a.png;BASE64," + quote(base64.b64encode(data).decode(), safe="").rstrip("%3D")),
        lambda data: {"type": "image_url", "image_url": data_url("image/png", data)},
        lambda data: {"type": "video_url", "video_url": data_url("video/jpeg", data)},
        lambda data: video("data:image/png;base64," + ",".join([base64.b64encode(data).decode()] * 2)),
    ],
)  # fmt: skip
def test_a_picture_is_the_same_however_it_is_written(
    written: Callable[[bytes], dict[str, Any]], client: openai.OpenAI, pocket: VideoLanguageModel, world: World
) -> None:
    picture = render(world, 15.0)
    right = watch(pocket, [Frame(0, 0.0, picture)]).ask(NOW).answer.text
    assert said(client, user(written(encoded(picture, "PNG")), text=NOW), top_p=0.9, n=1, presence_penalty=0) == right


def test_earlier_turns_are_what_a_question_may_refer_to(
    client: openai.OpenAI, clip_url: str, pocket: VideoLanguageModel, clip: Path
) -> None:
    with open_source(str(clip), fps=1) as source:
        right = watch(pocket, list(source))
    first = right.ask(HEART).answer.text
    second = right.ask("and when was that?").answer.text
    assert second != said(client, user(video(clip_url), text="and when was that?"))  # it does refer
    told = said(
        client,
        {"role": "system", "content": "You are a watchman."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hello"},
        user(video(clip_url), text=HEART),
        {"role": "assistant", "content": first},
        {"role": "user", "content": "and when was that?"},
    )
    assert told == second


def test_a_stop_text_ends_the_answer_before_it(client: openai.OpenAI, clip_url: str, watched: Session) -> None:
    whole = watched.ask("what happened?", out_of_band=True).answer.text
    stop = whole[len(whole) // 2 :]
    asked = [user(video(clip_url), text="what happened?")]
    assert stop
    assert said(client, *asked, stop=[stop, "never"]) == whole[: whole.index(stop)]
    streamed = ask(client, asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole[: whole.index(stop)]


def test_a_token_limit_cuts_the_answer_and_says_so(client: openai.OpenAI, clip_url: str, watched: Session) -> None:
    assert watched.ask("what happened?", out_of_band=True).answer.tokens.answer > 1
    answer = ask(client, [user(video(clip_url), text="what happened?")], max_tokens=1)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 1
    exactly = watched.ask("what happened?", out_of_band=True).answer.tokens.answer
    whole = ask(client, [user(video(clip_url), text="what happened?")], max_tokens=exactly)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("stop", exactly)


def test_evidence_comes_only_to_whoever_knows_of_it(client: openai.OpenAI, clip_url: str, watched: Session) -> None:
    asked = [user(video(clip_url), text=SEEN)]
    assert "streamvlm" not in ask(client, asked).model_dump()
    right = watched.ask(SEEN, out_of_band=True).answer
    told = ask(client, asked, extra_body={"streamvlm": {}}).streamvlm
    assert [(e["start_s"], e["end_s"]) for e in told["evidence"]] == [(e.start_s, e.end_s) for e in right.evidence]
    *_, last = ask(client, asked, stream=True, extra_body={"streamvlm": {}})
    for streamed, whole in zip(last.streamvlm["evidence"], told["evidence"], strict=True):
        assert streamed == {**whole, "score": pytest.approx(whole["score"])}  # frames may have come in other chunks


def test_a_video_that_ends_early_is_told_to_whoever_knows_of_it(
    client: openai.OpenAI, clip: Path, tmp_path: Path
) -> None:
    data = remux(clip, tmp_path / "clip.mkv").read_bytes()
    asked = [user(video(data_url("video/x-matroska", data[: len(data) * 6 // 10])), text=NOW)]
    (warning,) = ask(client, asked, extra_body={"streamvlm": {}}).streamvlm["warnings"]
    assert re.fullmatch(r"The video ended at 0:\d\d of 0:\d\d; the rest is missing, .*", warning)
    whole = [user(video(data_url("video/x-matroska", data)), text=NOW)]
    *_, last = ask(client, whole, stream=True, extra_body={"streamvlm": {}})
    assert last.streamvlm["warnings"] == []


def test_a_request_leaves_no_session_behind(client: openai.OpenAI, clip_url: str, server: LiveServer) -> None:
    n_open, listed = server.engine.stats().n_sessions, server.engine.sessions()
    said(client, user(video(clip_url), text=NOW))
    wait_until(lambda: server.engine.stats().n_sessions <= n_open)
    assert {session.id for session in server.engine.sessions()} <= {session.id for session in listed}


def test_the_example_of_the_readme_runs_as_it_stands(
    server: LiveServer, clip: Path, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = python_example("import OpenAI\n")
    monkeypatch.chdir(clip.parent)
    clip.with_name("demo.mp4").write_bytes(clip.read_bytes())
    session = server.engine.open("camera-1")
    session.offer(render(world, 0.0), time_s=0.0)
    try:
        told: dict[str, Any] = {}
        exec(example.replace("http://127.0.0.1:8000", server.url), told)
        assert told["answer"].choices[0].message.content in capsys.readouterr().out
        told["client"].close()
    finally:
        server.engine.delete("camera-1")


# --- a live session ---


def test_a_live_session_is_asked_by_its_id_in_its_dialogue(
    client: openai.OpenAI, server: LiveServer, pocket: VideoLanguageModel, world: World
) -> None:
    frames = [Frame(i, float(i), render(world, float(i))) for i in range(12)]
    right = watch(pocket, frames)
    session = server.engine.open("camera-1")
    try:
        for frame in frames:
            session.offer(frame.picture, time_s=frame.time_s, wait=True)
        asked: list[tuple[str, dict[str, Any]]] = [
            (HEART, {}), ("and when was that?", {}), (SEEN, {"out_of_band": True}), (NOW, {"at_s": 5}),
        ]  # fmt: skip
        for question, how in asked:
            our_key = {"streamvlm": {"session": "camera-1", **how}}
            answer = ask(client, [{"role": "user", "content": question}], extra_body=our_key)
            assert answer.choices[0].message.content == right.ask(question, **how).answer.text
            assert answer.streamvlm["session"] == "camera-1"
            assert answer.streamvlm["asked_at_s"] == how.get("at_s", 11)
    finally:
        server.engine.delete("camera-1")


def test_a_session_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        said(client, {"role": "user", "content": NOW}, extra_body={"streamvlm": {"session": "nowhere"}})
    assert caught.value.code == "session_not_found"


def test_a_live_session_takes_no_pictures_here(client: openai.OpenAI, clip_url: str) -> None:
    with pytest.raises(openai.BadRequestError, match="realtime"):
        said(client, user(video(clip_url), text=NOW), extra_body={"streamvlm": {"session": "camera-1"}})


# --- what is refused ---


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 in its header, and next to nothing in its body."""
    data = bytearray(encoded(np.zeros((1, 1, 3), np.uint8), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


PNG = encoded(np.zeros((50, 50, 3), np.uint8), "PNG")
PNG_URL = data_url("image/png", PNG)


@pytest.mark.parametrize(
    ("part", "status", "code"),
    [
        (image(data_url("image/png", bomb())), 413, "image_too_large"),
        (image(data_url("image/png", PNG[: len(PNG) // 2])), 400, "invalid_image"),
        (image(data_url("image/png", b"nothing")), 400, "invalid_image"),
        (image("data:image/png;base64,####"), 400, "invalid_base64_image"),
        (image("data:image/svg+xml;utf8,<svg/>"), 400, "invalid_image_url"),
        (image(base64.b64encode(PNG).decode()), 400, "invalid_image_url"),
        (image(""), 400, "invalid_image_url"),
        (image("http://[::1/a.png"), 400, "invalid_image_url"),
        (image("https://other.example/a.png"), 400, "media_not_allowed"),
        (image("file:///etc/passwd"), 400, "media_not_allowed"),
        (image("http://169.254.169.254/latest/meta-data"), 400, "media_not_allowed"),
        (video(data_url("video/mp4", b"nothing")), 400, "invalid_video"),
        (video("data:video/mp4;base64,####"), 400, "invalid_base64_video"),
        (video("data:video/jpeg;base64,AAAA,####"), 400, "invalid_base64_video"),
        (video(data_url("video/jpeg", b"nothing")), 400, "invalid_video"),
        (video("data:video/mp4,nothing"), 400, "invalid_video_url"),
        (video("data:video/jpeg;base64," + "," * 1001), 413, "video_too_large"),
        (video("http://[::1/a.mp4"), 400, "invalid_video_url"),
        (video("https://other.example/a.mp4"), 400, "media_not_allowed"),
    ],
)
def test_media_that_cannot_be_taken_is_refused_in_openais_words(
    part: dict[str, Any], status: int, code: str, client: openai.OpenAI, server: LiveServer
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, [user(part, text=NOW)], stream=True)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", f"messages.0.content.0.{part['type']}")
    wait_until(lambda: server.engine.stats().n_sessions == 0)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b"{", 400, "invalid_request"),
        (b'{"model": "gpt-5", "messages": [{"role": "user", "content": "a"}]}', 404, "model_not_found"),
        (b'{"model": "pocket", "messages": [{"role": "user", "content": "a"}]}', 400, "invalid_value"),
        (b'{"model": "pocket", "messages": [{"role": "user", "content": " "}]}', 400, "invalid_request"),
        (b'{"model": "pocket", "messages": [{"role": "assistant", "content": "a"}]}', 400, "invalid_request"),
        (b'{"model": "pocket", "messages": [{"role": "user", "content": "a"}], "n": 2}', 400, "unsupported_value"),
    ],
)
def test_a_body_that_cannot_be_taken_is_refused(body: bytes, status: int, code: str, server: LiveServer) -> None:
    answer = httpx2.post(f"{server.url}/v1/chat/completions", content=body, timeout=60)
    assert answer.status_code == status
    told = answer.json()["error"]
    assert told["code"] == code
    assert set(told) == {"message", "type", "param", "code"}
    assert "\n" not in told["message"]


def test_a_body_beyond_its_bound_is_refused_whether_it_says_so_or_not(pocket: VideoLanguageModel) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(1000)

    with live_server(pocket, max_body="10kB") as small:
        for content in (bytes(10_001), pieces()):
            answer = httpx2.post(f"{small.url}/v1/chat/completions", content=content, timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


# --- media from elsewhere ---


@pytest.fixture(scope="module")
def site(clip: Path) -> Iterator[str]:
    """A web site in 127.0.0.2 with the clip, and a way from there to 127.0.0.1."""

    class Site(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path[len("/to/") :])
                self.end_headers()
            elif self.path in ("/cut.ts", "/cut.png"):
                data = PNG if self.path == "/cut.png" else remux(clip, clip.with_name("cut.ts")).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                n_bytes = len(data) * 6 // 10
                # Whole packets of the TS: nothing in it tells that it was cut, so the host's silence does.
                self.wfile.write(data[: n_bytes - n_bytes % 188 if self.path == "/cut.ts" else n_bytes])
            else:
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    def handler(*args: Any) -> Site:
        return Site(*args, directory=str(clip.parent))

    with ThreadingHTTPServer(("0.0.0.0", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.2:{web.server_port}"
        web.shutdown()
        thread.join()


def test_a_video_is_fetched_from_an_allowed_host_and_from_no_other(
    site: str, clip: Path, pocket: VideoLanguageModel, watched: Session
) -> None:
    settings = {
        "allowed_media_schemes": "http", "allowed_media_hosts": "127.0.0.1,127.0.0.2",
        "allowed_media_networks": "127.0.0.2/32",
    }  # fmt: skip
    elsewhere = site.replace("127.0.0.2", "127.0.0.1")
    with (
        live_server(pocket, **settings) as fetching,
        openai.OpenAI(base_url=f"{fetching.url}/v1", api_key="none", max_retries=0) as client,
    ):
        told = said(client, user(video(f"{site}/{clip.name}"), text=NOW))
        assert told == watched.ask(NOW, out_of_band=True).answer.text
        cut_off = ask(client, [user(video(f"{site}/cut.ts"), text=NOW)], extra_body={"streamvlm": {}})
        with pytest.raises(openai.BadRequestError, match="The picture's host broke off; try again") as caught:
            said(client, user(image(f"{site}/cut.png"), text=NOW))
        assert caught.value.code == "failed_to_download_image"
        assert cut_off.streamvlm["warnings"] == ["The video's host broke off; what had come of it was watched."]
        for url in (f"{elsewhere}/{clip.name}", f"{site}/to/{elsewhere}/{clip.name}", f"{site}/to/file:///etc/passwd"):
            with pytest.raises(openai.BadRequestError) as caught:
                said(client, user(video(url), text=NOW))
            assert caught.value.code == "media_not_allowed"
        with pytest.raises(openai.BadRequestError, match="answered 404 for the media") as caught:
            said(client, {"role": "user", "content": "hello"}, user(image(PNG_URL), video(f"{site}/no.mp4"), text=NOW))
        assert (caught.value.code, caught.value.param) == ("failed_to_download_video", "messages.1.content.1.video_url")


# --- a client that goes away ---


def test_clients_that_hang_up_at_any_moment_leave_no_session_behind(server: LiveServer) -> None:
    body = json.dumps({"model": "pocket", "messages": [user(image(data_url("image/png", PNG)), text=NOW)]})
    for pause_s in np.linspace(0, 0.04, 12):
        leaving = http.client.HTTPConnection(server.url.removeprefix("http://"))
        leaving.request("POST", "/v1/chat/completions", body)
        time.sleep(float(pause_s))
        leaving.close()
    wait_until(lambda: server.service.drain.n_running == 0)
    assert server.engine.stats().n_sessions == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_takes_its_question_with_it(stream: bool, server: LiveServer, world: World) -> None:
    jpeg = base64.b64encode(encoded(render(world, 3.0), "JPEG")).decode()
    url = "data:video/jpeg;base64," + ",".join([jpeg] * 300)
    body = {"model": "pocket", "messages": [user(video(url), text=NOW)], "stream": stream}
    before = server.engine.stats()

    leaving = http.client.HTTPConnection(server.url.removeprefix("http://"))
    leaving.request("POST", "/v1/chat/completions", json.dumps(body))
    wait_until(lambda: server.engine.stats().n_frames > before.n_frames)
    leaving.close()
    wait_until(lambda: server.engine.stats().n_sessions == 0)
    after = server.engine.stats()
    assert after.n_frames - before.n_frames < 300
    assert after.n_answers == before.n_answers
