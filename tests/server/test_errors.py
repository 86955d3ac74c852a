"""One table tells every error on the wire."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import streamvlm
import streamvlm_server
from streamvlm.errors import SourceError, StreamVlmError
from streamvlm_server.error_codes import INTERNAL, WIRE, Wire, error_object, wire
from streamvlm_server.errors import (
    Base64Error,
    MediaError,
    MediaFetchError,
    MediaRefusedError,
    MediaUrlError,
    Medium,
    PartError,
    RequestError,
    TooLargeError,
    of_part,
)


def subclasses(kind: type[StreamVlmError]) -> Iterator[type[StreamVlmError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_of_the_product_has_its_own_line() -> None:
    for package in (streamvlm, streamvlm_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = {kind for kind in subclasses(StreamVlmError) if kind.__module__.startswith("streamvlm")}
    ours = {kind for kind in ours if not kind.__module__.startswith("streamvlm.client.")}  # those never meet a server
    assert len(ours) > 15
    assert ours == set(WIRE)


@pytest.mark.parametrize("told", [*WIRE.values(), INTERNAL], ids=lambda told: told.code)
def test_a_clients_mistake_and_a_servers_trouble_are_told_apart(told: Wire) -> None:
    assert re.fullmatch(r"[a-z_]+(base64_[a-z]+)?", told.code)
    assert told.close in (1003, 1008, 1009) if told.status < 429 else told.close in (1011, 1012, 1013)
    assert (told.kind == "server_error") == (told.status >= 500)


def test_a_bug_tells_nothing_of_itself() -> None:
    told = error_object(KeyError("password"))
    assert told["code"] == "internal_error"
    assert told["type"] == "server_error"
    assert "password" not in str(told)


@pytest.mark.parametrize(
    ("cause", "code", "status"),
    [
        (MediaError("bad"), "invalid_{}", 400),
        (MediaUrlError("bad"), "invalid_{}_url", 400),
        (Base64Error("bad"), "invalid_base64_{}", 400),
        (MediaFetchError("bad"), "failed_to_download_{}", 400),
        (MediaRefusedError("bad"), "media_not_allowed", 400),
        (TooLargeError("bad"), "{}_too_large", 413),
        (SourceError("bad"), "invalid_{}", 400),
    ],
)
@pytest.mark.parametrize("medium", ["image", "video"])
def test_what_is_wrong_with_a_part_names_the_part_and_what_it_should_have_been(
    cause: StreamVlmError, code: str, status: int, medium: Medium
) -> None:
    with pytest.raises(PartError) as caught, of_part("messages.0.content.1", medium):
        raise cause
    assert error_object(caught.value) == {
        "message": "bad", "type": "invalid_request_error", "param": "messages.0.content.1",
        "code": code.format(medium),
    }  # fmt: skip
    assert wire(caught.value).status == status


def test_a_subclass_without_a_line_is_told_as_what_it_is_a_kind_of() -> None:
    class OddRequestError(RequestError):
        """Made up here."""

    assert wire(OddRequestError("odd")) is WIRE[RequestError]
    assert error_object(OddRequestError("odd", param="messages.0")) == {
        "message": "odd",
        "type": "invalid_request_error",
        "param": "messages.0",
        "code": "invalid_request",
    }
