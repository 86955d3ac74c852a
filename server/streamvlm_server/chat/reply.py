"""The objects of a chat completion: OpenAI's, whole or in chunks, and ours under ``streamvlm``."""

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
    """One completion under way: what all its chunks have in common.

    Attributes:
        model: Name of the model.
        id: Id of the completion.
        created: Unix time of its creation.
    """

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: Finish, answer: Answer, extra: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer as one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer), **extra}

    def opening(self) -> bytes:
        """Returns the first chunk, which has the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """Returns a chunk with the next piece of text."""
        return self._chunk({"content": text})

    def ending(self, finish: Finish, extra: dict[str, Any]) -> bytes:
        """Returns the last chunk, which has the reason of the end."""
        return self._chunk({}, finish, extra)

    def counts(self, answer: Answer) -> bytes:
        """Returns the chunk after the last, with the usage alone, for clients that asked for it."""
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)})

    def _chunk(self, delta: dict[str, Any], finish: Finish | None = None, extra: dict[str, Any] | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **(extra or {})})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def event(data: dict[str, Any]) -> bytes:
    """Encodes a server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def usage(answer: Answer) -> dict[str, int]:
    """Counts the tokens read and written; those read from memory count as read."""
    read, written = answer.tokens.context + answer.tokens.question, answer.tokens.answer
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def evidence(answer: Answer, session_id: str | None, warnings: Sequence[str]) -> dict[str, Any]:
    """Returns the evidence of an answer and the warnings about its videos, under the key ``streamvlm``."""
    ours = {
        "session": session_id,
        "asked_at_s": answer.asked_at_s,
        "evidence": [{**asdict(seen), "thumbnail": _thumbnail(session_id, seen)} for seen in answer.evidence],
        "timings": asdict(answer.timings),
        "warnings": list(warnings),
    }
    return {"streamvlm": ours}


def _thumbnail(session_id: str | None, seen: Evidence) -> str | None:
    """Returns the path of a block's picture on this server; None without a live session, and for the newest frame."""
    if session_id is None or seen.block_id is None:
        return None
    return f"/v1/sessions/{session_id}/thumbnails/{seen.block_id}"
