"""The entrances for videos and pictures: each takes a source and questions, and returns the answers or the refusal."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from click.testing import CliRunner, Result
from live_server import LiveServer
from websocket_peer import Peer, peer

from streamvlm.cli import main

FPS = 0.5
"""A frame every two seconds of the clip: enough for its three things."""

_LOST = 3
"""The exit code after a source was lost and questions were answered from what was watched."""

PACED_FPS = 10.0
"""The same for a source with its own pace, which is sent faster."""


@dataclass(frozen=True)
class Heard:
    """Answers.

    Attributes:
        answers: By question.
        ended_s: Stream time of the newest picture; None where it is not reported.
        said: All other messages.
    """

    answers: Mapping[str, str]
    ended_s: float | None
    said: str


@dataclass(frozen=True)
class TurnedAway:
    """A refusal: its sentence, and its code where errors have codes."""

    sentence: str
    code: str | None = None


Told = Heard | TurnedAway


@dataclass(frozen=True)
class Input:
    """An input of a door.

    Attributes:
        path: Of the file or folder; None if it is on the web alone.
        address: Of the same on the web.
        write: Its bytes as a data URL, given their media type.
        flags: For the command line.
    """

    path: Path | None
    address: str
    write: Callable[[str, bytes], str]
    flags: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames to sample from a second."""
        return float(self.flags[self.flags.index("--fps") + 1]) if "--fps" in self.flags else FPS

    def inline(self) -> str:
        """The input as a data URL, as a request contains it."""
        assert self.path is not None
        media_type = mimetypes.guess_type(self.path.name)[0] or "application/octet-stream"
        return self.write(media_type, self.path.read_bytes())


# --- the command line ------------------------------------------------------------------------------------------------


def ask(source: str, flags: Sequence[str], questions: Sequence[str]) -> Told:
    """`streamvlm ask SOURCE`."""
    command = ["ask", "--json", "--fps", f"{FPS}", *flags, source, *questions]
    done = CliRunner().invoke(main, command)
    if done.exit_code == 2:
        return _refusal(done)
    assert done.exit_code in (0, _LOST), done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    said = done.stderr + json.dumps({name: value for name, value in told[-1].items() if name != "answer"})
    return Heard({one["question"]: one["answer"] for one in told}, told[-1]["asked_at_s"], said)


def watch(source: str, server: str, questions: Sequence[str]) -> Told:
    """`streamvlm watch SOURCE`, at a real server."""
    command = ["watch", "--server", server, "--fps", f"{PACED_FPS}", source, *questions]
    done = CliRunner().invoke(main, command)
    if done.exit_code == 2:
        return _refusal(done)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    return Heard({question: lines[lines.index(question) + 1] for question in questions}, None, done.stderr)


def _refusal(done: Result) -> TurnedAway:
    assert done.stdout == "", done.stdout
    sentences = [line for line in done.stderr.splitlines() if line.endswith(".")]  # the others say that it is at work
    assert len(sentences) == 1, done.stderr
    return TurnedAway(sentences[0].removeprefix("streamvlm: "))


# --- chat completions ------------------------------------------------------------------------------------------------


def chat(client: openai.OpenAI, part: str, url: object, fps: float, question: str) -> Told:
    """Media with a question, in one request."""
    shown: Any = {"type": part, part: url}
    asked: Any = {"type": "text", "text": question}
    ours = {"streamvlm": {"fps": fps}}
    try:
        reply = client.chat.completions.create(
            model="pocket", messages=[{"role": "user", "content": [shown, asked]}], extra_body=ours
        )
    except openai.APIStatusError as error:
        if error.status_code >= 500:
            raise
        body: Any = error.body
        return TurnedAway(body["message"], body["code"])
    told: Any = reply.model_extra
    text = reply.choices[0].message.content or ""
    return Heard({question: text}, told["streamvlm"]["asked_at_s"], json.dumps(told))


# --- realtime --------------------------------------------------------------------------------------------------------


async def show(server: str, url: str, questions: Sequence[str]) -> Told:
    """Sends a picture in an item, as a client without our extension."""
    async with peer(server) as client:
        await client.receive("session.created")
        picture = {"type": "input_image", "image_url": url}
        await client.send("conversation.item.create", item={"type": "message", "role": "user", "content": [picture]})
        told = await _first_of(client, "conversation.item.done", "error")
        if told["type"] == "error":
            return TurnedAway(told["error"]["message"], told["error"]["code"])
        return Heard({question: await client.ask(question) for question in questions}, None, "")


async def read(server: str, url: str, fps: float, questions: Sequence[str]) -> Told:
    """Makes the server read a source itself."""
    async with peer(server) as client:
        await client.opt_in(events=["evidence"])
        await client.send("streamvlm.source.open", url=url, fps=fps)
        told = [await _first_of(client, "streamvlm.source.opened", "streamvlm.source.ended", "error")]
        while told[-1]["type"] == "streamvlm.source.opened":
            told.append(await _first_of(client, "streamvlm.source.ended", "error"))
        if told[-1]["type"] == "error":
            return TurnedAway(told[-1]["error"]["message"], told[-1]["error"]["code"])
        if len(told) == 1:
            return TurnedAway(told[-1]["error"])
        answers, ended_s = {}, 0.0
        for question in questions:
            await client.send("conversation.item.create", item=_words(question))
            await client.send("response.create")
            evidence = await _first_of(client, "streamvlm.response.evidence", "error")
            if evidence["type"] == "error":  # nothing was seen
                return TurnedAway(told[-1]["error"] or evidence["error"]["message"])
            ended_s = evidence["asked_at_s"]
            answers[question] = await client.answer()
        return Heard(answers, ended_s, json.dumps(told[-1]))


def _words(question: str) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": question}]}


async def _first_of(client: Peer, *kinds: str) -> dict[str, Any]:
    while (event := await client.receive())["type"] not in kinds:
        pass
    return event


# --- each by its name ------------------------------------------------------------------------------------------------


class Doors:
    """All doors of one machine.

    Args:
        server: Reads sources from this machine, and fetches media from it.
        client: OpenAI's own, of that server.
    """

    def __init__(self, server: LiveServer, client: openai.OpenAI) -> None:
        self._server, self._client = server, client

    def bring(self, brought: Input, door: str, questions: Sequence[str]) -> Told:
        """Brings an input to a door, and asks; where every question sends it again, only the last one is asked."""
        match door:
            case "file" | "folder":
                return ask(str(brought.path), brought.flags, questions)
            case "http":
                return ask(brought.address, brought.flags, questions)
            case "watch":
                return watch(str(brought.path or brought.address), self._server.url, questions)
            case "image_url" | "video_url":
                return chat(self._client, door, {"url": brought.inline()}, brought.fps, questions[-1])
            case "image_url as a string":
                return chat(self._client, "image_url", brought.inline(), brought.fps, questions[-1])
            case "image_url by URL" | "video_url by URL":
                url = {"url": brought.address}
                return chat(self._client, door.partition(" ")[0], url, brought.fps, questions[-1])
            case "realtime":
                return asyncio.run(show(self._server.url, brought.inline(), questions))
            case "source":
                return asyncio.run(read(self._server.url, brought.address, brought.fps, questions))
        raise ValueError(door)
