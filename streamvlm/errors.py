"""Every error that StreamVLM raises on purpose: one sentence that names the cause and the mend.

StreamVlmError
├─ UsageError              a wrong option or argument
├─ SourceError             a video that cannot be opened or read
│  ├─ SourceStalledError   a live source that stopped answering
│  ├─ SourceLostError      a source that broke off for good after some of it was seen
│  └─ PictureError         a still picture that cannot be read
│     └─ PictureTooLargeError  one with more pixels than are allowed
├─ ModelError              a model that cannot be found, loaded or used
├─ MemoryBudgetError       a byte budget too small for the stream's window
├─ StoreError              a memory on disk that cannot be opened, or is of another kind than is needed
├─ BusyError               no place for one more session or question just now
├─ SessionNotFoundError    no session of that id
├─ SessionRefusedError     a session of another owner
└─ EngineError             an internal failure of the service, or a service or session that has been closed
"""

from __future__ import annotations


class StreamVlmError(Exception):
    """Base of all errors meant for the user; its message is one clear sentence.

    Attributes:
        exit_code: The command line's exit code: 2 for bad usage or input, 3 for a source that was lost while it was
            watched, 1 for an internal failure.
    """

    exit_code = 2


class UsageError(StreamVlmError):
    """A wrong option or argument."""


class SourceError(StreamVlmError):
    """A video source that cannot be opened or read."""


class SourceStalledError(SourceError):
    """A live source that stopped answering; trying again may help."""


class SourceLostError(SourceError):
    """A source that broke off for good after some of it was seen; questions are answered from that."""

    exit_code = 3


class PictureError(SourceError):
    """A still picture that cannot be read: damaged, cut short, or of a kind that is not read here."""


class PictureTooLargeError(PictureError):
    """A picture with more pixels than are allowed."""


class ModelError(StreamVlmError):
    """A model that cannot be found, loaded or used."""


class MemoryBudgetError(StreamVlmError):
    """A byte budget too small to hold what must be held."""


class StoreError(StreamVlmError):
    """A memory on disk that cannot be opened, or is of another kind than is needed."""


class BusyError(StreamVlmError):
    """No place for one more session or question just now; trying again later may help."""


class SessionNotFoundError(StreamVlmError):
    """There is no session of that id, or its owner is another."""


class SessionRefusedError(StreamVlmError):
    """A session that exists, but cannot be resumed with this owner or secret."""


class EngineError(StreamVlmError):
    """An internal failure of the service, or a service or session that has been closed."""

    exit_code = 1
