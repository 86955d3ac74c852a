"""How errors are sent to clients, in one table, and the errors that only a server has.

StreamVlmError
├─ AuthError             no key, or an unknown one
├─ OriginError           a web page that may not talk to this server
├─ RateLimitError        more than the key's limits allow
├─ RequestError          a request with a mistake
│  ├─ ModelNotFoundError a model that is not served here
│  ├─ UnsupportedError   a field at a value that is not offered here
│  ├─ ProtocolError      an event of a WebSocket that cannot be followed
│  └─ PartError          an error in a picture or video of a request
├─ ThumbnailNotFoundError a block without a picture on disk
├─ MediaError            a picture or video that cannot be read
│  ├─ MediaUrlError      a media URL of an unknown form
│  ├─ Base64Error        base64 with a mistake
│  ├─ MediaFetchError    a media URL that cannot be fetched
│  └─ MediaRefusedError  a media URL that may not be fetched
├─ TooLargeError         a body, picture or video beyond its bound
├─ TooSlowError          a body that comes too slowly
└─ DrainingError         the server is about to stop
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from streamvlm.errors import (
    BusyError,
    EngineError,
    MemoryBudgetError,
    ModelError,
    PictureError,
    PictureTooLargeError,
    SessionNotFoundError,
    SessionRefusedError,
    SourceError,
    SourceLostError,
    SourceStalledError,
    StoreError,
    StreamVlmError,
    UsageError,
)

Medium = Literal["image", "video"]


class AuthError(StreamVlmError):
    """No API key, or an unknown one."""


class OriginError(StreamVlmError):
    """A web page of an origin that may not talk to this server."""


class RateLimitError(StreamVlmError):
    """More than the limits of the API key allow.

    Attributes:
        retry_after_s: Seconds after which a client may try again.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestError(StreamVlmError):
    """A request with a mistake.

    Attributes:
        param: The field with the mistake, as a path such as ``messages.0.content``; None for the whole request.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ModelNotFoundError(RequestError):
    """A model that is not served here."""


class UnsupportedError(RequestError):
    """A field at a value that is not offered here."""


class ProtocolError(RequestError):
    """An event of a WebSocket that cannot be followed.

    Attributes:
        code: Code of the error event, where OpenAI's API has one for the case.
        event_id: The id that the client gave its event; None if it gave none, or it could not be read.
    """

    def __init__(
        self, message: str, *, code: str = "invalid_event", param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.code, self.event_id = code, event_id


class PartError(RequestError):
    """An error in a picture or video of a request, and in which of them.

    Attributes:
        cause: The error.
        medium: Picture or video; the code names it.
    """

    def __init__(self, cause: StreamVlmError, medium: Medium, *, param: str) -> None:
        super().__init__(str(cause), param=param)
        self.cause, self.medium = cause, medium


class ThumbnailNotFoundError(StreamVlmError):
    """A block without a picture on disk."""


class MediaError(StreamVlmError):
    """A picture or video that cannot be read."""


class MediaUrlError(MediaError):
    """A media URL of an unknown form."""


class Base64Error(MediaError):
    """Base64 with a mistake."""


class MediaFetchError(MediaError):
    """A media URL that cannot be fetched, or not in time."""


class MediaRefusedError(MediaError):
    """A media URL that may not be fetched."""


class TooLargeError(StreamVlmError):
    """A body, picture or video beyond its bound."""


class TooSlowError(StreamVlmError):
    """A body that took too long to come."""


class DrainingError(StreamVlmError):
    """The server is about to stop and takes no new requests."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How an error is sent.

    Attributes:
        code: ``code`` of the error object, over HTTP and over a WebSocket.
        close: WebSocket close code, where the connection cannot go on.
        status: HTTP status.
    """

    code: str
    close: int
    status: int

    @property
    def kind(self) -> str:
        """OpenAI's ``type`` of an error object."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"


WIRE: dict[type[BaseException], Wire] = {
    UsageError: Wire("invalid_value", 1008, 400),
    SourceError: Wire("invalid_source", 1008, 400),
    SourceStalledError: Wire("source_stalled", 1013, 504),
    SourceLostError: Wire("source_lost", 1013, 504),
    PictureError: Wire("invalid_image", 1003, 400),
    PictureTooLargeError: Wire("too_large", 1009, 413),
    ModelError: Wire("model_error", 1011, 500),
    MemoryBudgetError: Wire("model_overloaded", 1013, 503),
    StoreError: Wire("store_error", 1011, 500),
    BusyError: Wire("model_overloaded", 1013, 503),
    SessionNotFoundError: Wire("session_not_found", 1008, 404),
    SessionRefusedError: Wire("session_refused", 1008, 403),
    EngineError: Wire("engine_failed", 1011, 500),
    AuthError: Wire("invalid_api_key", 1008, 401),
    OriginError: Wire("origin_not_allowed", 1008, 403),
    RateLimitError: Wire("rate_limit_exceeded", 1013, 429),
    RequestError: Wire("invalid_request", 1008, 400),
    ModelNotFoundError: Wire("model_not_found", 1008, 404),
    UnsupportedError: Wire("unsupported_value", 1008, 400),
    ProtocolError: Wire("invalid_event", 1008, 400),
    PartError: Wire("invalid_image", 1003, 400),  # or as its cause
    ThumbnailNotFoundError: Wire("thumbnail_not_found", 1008, 404),
    MediaError: Wire("invalid_image", 1003, 400),
    MediaUrlError: Wire("invalid_image_url", 1008, 400),
    Base64Error: Wire("invalid_base64_image", 1003, 400),
    MediaFetchError: Wire("failed_to_download_image", 1008, 400),
    MediaRefusedError: Wire("media_not_allowed", 1008, 400),
    TooLargeError: Wire("too_large", 1009, 413),
    TooSlowError: Wire("request_timeout", 1008, 408),
    DrainingError: Wire("going_away", 1012, 503),
}
"""Every error that is sent to a client, by its class."""

_OF_A_PART = {"invalid_source": "invalid_image", "too_large": "image_too_large"}
"""Codes of errors in a part of a request, by the codes of their causes; ``image`` stands for the medium."""

INTERNAL = Wire("internal_error", 1011, 500)
"""Every other error: a bug, whose details stay in the log."""


def wire(error: BaseException) -> Wire:
    """Returns how an error is sent: by its own class, or by its nearest base class in the table."""
    if isinstance(error, PartError):
        cause = wire(error.cause)
        return replace(cause, code=_OF_A_PART.get(cause.code, cause.code).replace("image", error.medium))
    return next((WIRE[kind] for kind in type(error).__mro__ if kind in WIRE), INTERNAL)


def in_part(error: StreamVlmError, medium: Medium, *, param: str) -> StreamVlmError:
    """Returns an error of a picture or video as that of its part of a request, and any other error as it is."""
    is_of_medium = isinstance(error, MediaError | TooLargeError | SourceError)
    return PartError(error, medium, param=param) if is_of_medium else error


@contextmanager
def of_part(param: str, medium: Medium) -> Iterator[None]:
    """Raises errors of a picture or video as those of its part of a request."""
    try:
        yield
    except (MediaError, TooLargeError, SourceError) as error:
        raise in_part(error, medium, param=param) from error


def error_object(error: BaseException) -> dict[str, str | None]:
    """Returns OpenAI's error object: message, type, param and code; a bug only says that it happened."""
    line = wire(error)
    is_ours = isinstance(error, StreamVlmError)
    return {
        "message": str(error) if is_ours else "An internal failure; the server's log has the details.",
        "type": line.kind,
        "param": error.param if isinstance(error, RequestError) else None,
        "code": line.code,
    }
