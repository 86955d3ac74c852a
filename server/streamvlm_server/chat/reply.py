"""What a chat completion answers: OpenAI's objects, whole or in chunks, and ours under ``streamvlm``."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.answer import Answer

Finish = Literal["stop", "length"]
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One completion under way: its name, which all its chunks carry.

    Attributes:
        model: Name of the model.
        id: New for each.
        created: Unix time.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: Finish, answer: Answer, extra: dict[str, Any]) -> dict[str, Any]:
        """The answer in one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer), **extra}

    def opening(self) -> bytes:
        """The first chunk, which says who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """A chunk with the next piece of text."""
        return self._chunk({"content": text})

    def ending(self, finish: Finish, extra: dict[str, Any]) -> bytes:
        """The last chunk, which says why it ended."""
        return self._chunk({}, finish, extra)

    def counts(self, answer: Answer) -> bytes:
        """The chunk after the last, with the usage alone, for whoever asked for it."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)})

    def _chunk(self, delta: dict[str, Any], finish: Finish | None = None, extra: dict[str, Any] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **(extra or {})})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(told: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n"


def usage(answer: Answer) -> dict[str, int]:
    """Tokens read and written; what an answer attended to beside its question was read from memory, and counts."""
    read, written = answer.tokens.context + answer.tokens.question, answer.tokens.answer
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def evidence(answer: Answer, session_id: str | None, warnings: Sequence[str]) -> dict[str, Any]:
    """What an answer rests on, and what there was to say of its videos, under our own key."""
    told = {
        "session": session_id,
        "asked_at_s": answer.asked_at_s,
        "evidence": [{**asdict(seen), "thumbnail": _thumbnail(session_id, seen)} for seen in answer.evidence],
        "timings": asdict(answer.timings),
        "warnings": list(warnings),
    }
    return {"streamvlm": told}


def _thumbnail(session_id: str | None, seen: Evidence) -> str | None:
    """The path of a block's picture on this server; what came with a request, and the frame of now, have none."""
    if session_id is None or seen.block_id is None:
        return None
    return f"/v1/sessions/{session_id}/thumbnails/{seen.block_id}"
