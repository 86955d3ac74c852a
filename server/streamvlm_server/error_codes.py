"""How errors are sent to clients, in one table: code, HTTP status and WebSocket close code of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from streamvlm_server.errors import (
    AuthError,
    Base64Error,
    DrainingError,
    MediaError,
    MediaFetchError,
    MediaRefusedError,
    MediaUrlError,
    ModelNotFoundError,
    OriginError,
    PartError,
    ProtocolError,
    RateLimitError,
    RequestError,
    ThumbnailNotFoundError,
    TooLargeError,
    TooSlowError,
    UnsupportedError,
)


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
