"""The errors that only a server has.

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
from typing import Literal

from streamvlm.errors import SourceError, StreamVlmError

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
