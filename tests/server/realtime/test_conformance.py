"""Clients that know nothing of us: the official openai package, and Pipecat's parser."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import openai
import pytest
from documents import python_example
from live_server import LiveServer
from websocket_peer import Peer, as_png, as_url, peer

from streamvlm.frame import Frame, Picture
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.session import Session

QUESTIONS = ("what do you see now?", "what did you see before that?", "did you see a red circle?")

# Pipecat warns of what it imports, and logs as it is imported: it gets a process of its own.
PIPECAT = """
import sys
from pipecat.services.openai.realtime.events import parse_server_event
for line in sys.stdin:
    event = parse_server_event(line)
    print(event.type if event is not None else "unknown")
"""


@pytest.fixture(scope="module")
def expected(pocket: VideoLanguageModel, pictures: list[Picture]) -> list[str]:
    """What the library itself answers."""
    session = Session(pocket)
    session.observe([Frame(second, float(second), picture) for second, picture in enumerate(pictures)])
    return [session.ask(question).answer.text for question in QUESTIONS]


async def use_openai(url: str, pngs: list[bytes]) -> tuple[list[str], list[Any]]:
    """Sends frames and asks with the official package; returns the answers and every event."""
    answers, events = [], []
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    async with client, client.realtime.connect(model="pocket") as connection:
        for second, png in enumerate(pngs):
            content = [{"type": "input_image", "image_url": as_url(png)}]
            item: Any = {"type": "message", "role": "user", "content": content, "streamvlm": {"time_s": float(second)}}
            await connection.conversation.item.create(item=item)
        for question in QUESTIONS:
            await connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": question}]}
            )
            await connection.response.create(response={"metadata": {"asked": question}})
            async for event in connection:
                events.append(event)
                if event.type == "response.done":
                    assert event.response.metadata == {"asked": question}
                    answers.append("".join(e.delta for e in events if e.type == "response.output_text.delta"))
                    events = [e for e in events if e.type != "response.output_text.delta"]
                    break
    return answers, events


def test_the_official_package_gets_the_answers_of_the_library(
    live: LiveServer, pngs: list[bytes], expected: list[str]
) -> None:
    answers, events = asyncio.run(use_openai(live.url, pngs))
    assert answers == expected
    added = [event for event in events if event.type == "conversation.item.added" and event.item.role == "user"]
    assert len(added) == len(pngs) + len(QUESTIONS)
    assert not [event for event in events if event.type == "error"]


def test_the_official_package_is_told_errors_and_goes_on(live: LiveServer) -> None:
    async def use() -> list[str | None]:
        codes = []
        client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none")
        async with client, client.realtime.connect(model="pocket") as connection:
            await connection.response.cancel()
            await connection.input_audio_buffer.append(audio="AAAA")
            await connection.response.create()
            async for event in connection:
                if event.type == "error":
                    codes.append(event.error.code)
                if len(codes) == 3:
                    break
            await connection.session.update(session={"type": "realtime", "instructions": "be brief"})
            assert (await connection.recv()).type == "session.updated"
        return codes

    assert asyncio.run(use()) == ["response_cancel_not_active", "invalid_event", "invalid_event"]


@pytest.mark.parametrize("whose", ["the client's", "the engine's", "nobody's"])
def test_the_official_package_is_told_of_an_answer_that_was_cut(
    live: LiveServer, pngs: list[bytes], whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = live.engine
    if whose == "the engine's":
        short = replace(engine.config, session=replace(engine.config.session, max_answer_tokens=1))
        monkeypatch.setattr(engine._places, "_config", short)

    async def use() -> Any:
        client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none")
        async with client, client.realtime.connect(model="pocket") as connection:
            shown: Any = {"type": "input_image", "image_url": as_url(pngs[5])}
            asked: Any = {"type": "input_text", "text": QUESTIONS[0]}
            await connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": [shown, asked]}
            )
            await connection.response.create(response={"max_output_tokens": 1} if whose == "the client's" else {})
            async for event in connection:
                if event.type == "response.done":
                    return event.response

    response = asyncio.run(use())
    if whose == "nobody's":
        assert (response.status, response.status_details) == ("completed", None)
        assert response.usage.output_tokens > 1
    else:
        assert (response.status, response.usage.output_tokens) == ("incomplete", 1)
        assert (response.status_details.type, response.status_details.reason) == ("incomplete", "max_output_tokens")


def test_the_official_package_is_told_of_a_model_that_is_not_served(live: LiveServer) -> None:
    async def use() -> tuple[Any, int]:
        client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none")
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            event: Any = await connection.recv()
            with pytest.raises(Exception, match="not served here") as closed:
                await connection.recv()
            return event.error.code, closed.value.rcvd.code  # type: ignore[attr-defined]

    assert asyncio.run(use()) == ("model_not_found", 1008)


class Recorder:
    """A client that did not ask for what is ours, and keeps all that it is told."""

    def __init__(self, client: Peer) -> None:
        self.events: list[dict[str, Any]] = []
        self.send = client.send
        self._client = client

    async def write(self, *content: dict[str, Any], **fields: Any) -> None:
        item = {"type": "message", "role": "user", "content": content, **fields}
        await self.send("conversation.item.create", item=item)

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """Keeps events up to the next of these types."""
        self.events.append(await self._client.receive())
        while self.events[-1]["type"] not in kinds:
            self.events.append(await self._client.receive())
        return self.events[-1]

    async def ask(self, question: str, **response: Any) -> dict[str, Any]:
        """Asks in a message; returns the response when it is done."""
        await self.write({"type": "input_text", "text": question})
        return await self.respond(**response)

    async def respond(self, **response: Any) -> dict[str, Any]:
        """Has a response created; returns it when it is done."""
        await self.send("response.create", response={"output_modalities": ["text"], **response})
        told: dict[str, Any] = (await self.hear("response.done"))["response"]
        return told

    async def ask_and_cancel(self, question: str) -> dict[str, Any]:
        """Asks and cancels at the first word, again and again until that came before the last one."""
        while True:
            await self.write({"type": "input_text", "text": question})
            await self.send("response.create")
            await self.hear("response.output_text.delta")
            await self.send("response.cancel")
            told: dict[str, Any] = (await self.hear("response.done"))["response"]
            if told["status"] == "cancelled":
                return told


def parsed_by_pipecat(events: list[dict[str, Any]]) -> list[str]:
    """The types of what Pipecat's parser makes of events."""
    lines = "".join(json.dumps(event) + "\n" for event in events)
    command = [sys.executable, "-c", PIPECAT]
    parsed = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    return parsed.stdout.split()


def test_pipecat_parses_every_event_of_a_session_that_did_not_ask_for_ours(live: LiveServer, pngs: list[bytes]) -> None:
    async def record() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with peer(live.url) as client:
            recorder = Recorder(client)
            await recorder.send("session.update", session={"type": "realtime", "output_modalities": ["text"]})
            for png in pngs[4:7]:  # something is there, and so the answers are of several words
                await recorder.write({"type": "input_image", "image_url": as_url(png)})
            await recorder.write({"type": "input_text", "text": QUESTIONS[0]}, id="mine")
            responses = [
                await recorder.ask(QUESTIONS[0]),
                await recorder.ask(QUESTIONS[0], max_output_tokens=1),
                await recorder.ask_and_cancel(QUESTIONS[0]),
                await recorder.ask("what? " * 1000),  # more than may be asked
                await recorder.respond(conversation="none", instructions=QUESTIONS[1], metadata={"aside": "yes"}),
            ]
            for kind in ("conversation.item.retrieve", "conversation.item.delete", "conversation.item.retrieve"):
                await recorder.send(kind, item_id="mine", event_id="rci_mine")
                await recorder.hear("conversation.item.retrieved", "conversation.item.deleted", "error")
            return recorder.events, responses

    events, responses = asyncio.run(record())
    assert parsed_by_pipecat(events) == [event["type"] for event in events]
    assert events[0]["type"] == "session.created"
    ended = [response["status"] for response in responses]
    assert ended == ["completed", "incomplete", "cancelled", "failed", "completed"]
    assert responses[1]["status_details"]["reason"] == "max_output_tokens"
    assert responses[2]["output"][0]["status"] == "incomplete"
    assert "tokens" in responses[3]["status_details"]["error"]["message"]
    assert [response["conversation_id"] is None for response in responses] == [False] * 4 + [True]
    last = [event["type"] for event in events[-3:]]
    assert last == ["conversation.item.retrieved", "conversation.item.deleted", "error"]


@pytest.mark.parametrize("words", ["import AsyncOpenAI", "async with connect("])
def test_the_examples_of_the_readme_run_as_they_stand(
    live: LiveServer, pictures: list[Picture], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    example = python_example(words)
    for shown, meant in (
        ("http://127.0.0.1:8000", live.url),
        ("ws://127.0.0.1:8000", live.url),
        ("data:image/jpeg;base64,…", as_url(as_png(pictures[0]))),
    ):
        example = example.replace(shown, meant)

    async def run() -> None:
        program = compile(example, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(program, {"picture": pictures[0]})

    asyncio.run(run())
    assert capsys.readouterr().out
