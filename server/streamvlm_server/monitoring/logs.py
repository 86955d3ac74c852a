"""Logs for machines: one JSON object a line, with the ids of its request and session."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)
_PACKAGES = ("streamvlm", "streamvlm_server", "uvicorn")


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Adds ``request_id`` or ``session_id`` to every line logged within, in this task and the tasks it starts."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, the ids of ``about``, and an error's trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without its end."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        if (session_id := getattr(record, "session_id", None)) is not None:  # of the engine's own threads
            line["session_id"] = session_id
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """Writes the logs of streamvlm and uvicorn to stderr; for programs, never for libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the rest the server logs itself
