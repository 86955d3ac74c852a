"""The error of a server that refuses or cannot be reached."""

from __future__ import annotations

from streamvlm.errors import StreamVlmError


class RemoteError(StreamVlmError):
    """A server that refuses, fails, or cannot be reached.

    Attributes:
        code: The server's code of the error, such as ``invalid_image``; ``connection_lost`` and
            ``unreachable`` are the client's own.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
