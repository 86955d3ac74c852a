"""A recorded session: what a client and a stream did, and the very bytes that the protocol sent for it.

Each line of a recording begins with what it is: ``>`` a client's message, ``*`` something else that happens, as a JSON
list of its name and arguments, and ``<`` an event of the server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol_client import PICTURE, Client
from scripted_stream import has_fired

import streamvlm.errors
import streamvlm_server.errors
from streamvlm.errors import SourceError
from streamvlm.frame import Fidelity
from streamvlm.gate.gate import Decision, Reason
from streamvlm_server.errors import PartError, RateLimitError

_ERRORS = {**vars(streamvlm.errors), **vars(streamvlm_server.errors), "RuntimeError": RuntimeError}


def play(recording: Path) -> str:
    """Does once more what a recording holds; returns the recording that comes of it."""
    client, lines = Client(), []
    lines += [f"< {text}" for text in client.texts]
    for line in recording.read_text().splitlines():
        mark, told = line[:2], line[2:]
        if mark == "< ":
            continue
        n_before = len(client.texts)
        if mark == "> ":
            client.say(told)
        else:
            name, *arguments = json.loads(told)
            _HAPPENS[name](client, *arguments)
        lines += [line, *(f"< {text}" for text in client.texts[n_before:])]
    return "\n".join(lines) + "\n"


def _error(name: str, message: str) -> Any:
    """An error of the library or the server, or a bug, by the name of its class."""
    match name:
        case "RateLimitError":
            return RateLimitError(message, retry_after_s=1.0)
        case "PartError":
            return PartError(SourceError(message), "image", param="frame 7")
        case _:
            return _ERRORS[name](message)


def _refuse(client: Client, name: str, message: str, event_id: str | None = None, param: str | None = None) -> None:
    client.protocol.refuse(_error(name, message), event_id, param=param)


def _refusing(client: Client, name: str | None, message: str = "") -> None:
    client.stream.refusal = None if name is None else _error(name, message)


def _decision(client: Client, time_s: float, fidelity: str) -> None:
    if client.stream.decide is not None:
        client.stream.decide(Decision(time_s, Fidelity(fidelity), Reason.OPENING, 0.1, 0.2, 0.3, 0.4, 0.5))


def _notice(client: Client, sentence: str) -> None:
    if client.stream.notice is not None:
        client.stream.notice(sentence)


def _fired(client: Client, standing_id: str, time_s: float, probability: float, number: int, n_missed: int) -> None:
    if client.stream.fire is not None:
        client.stream.fire(has_fired(standing_id, "is it red?", time_s, probability, number=number, n_missed=n_missed))


def _ended(client: Client, error: str | None, warning: str | None) -> None:
    client.stream.ended(None if error is None else SourceError(error), warning)


def _frame(client: Client, *shown_s: float, time_s: float | None = None) -> None:
    client.protocol.frame([(after_s, PICTURE) for after_s in shown_s], time_s=time_s, wall_s=None)


_HAPPENS: dict[str, Callable[..., None]] = {
    "text": lambda client, n, piece: client.stream.asked[n].text(piece),
    "done": lambda client, n: client.stream.asked[n].complete(),
    "cut": lambda client, n: client.stream.asked[n].complete(is_cut=True),
    "failed": lambda client, n, name, message: client.stream.asked[n].fail(_error(name, message)),
    "frame": lambda client, time_s, *shown_s: _frame(client, *shown_s, time_s=time_s),
    "tick": lambda client: client.protocol.tick(),
    "decision": _decision,
    "fired": _fired,
    "notice": _notice,
    "opened": lambda client: client.stream.opened(),
    "ended": _ended,
    "refusing": _refusing,
    "refuse": _refuse,
    "going_away": lambda client, reason, time_left_s: client.protocol.leave(reason, time_left_s),
    "close": lambda client: client.protocol.close(),
}
