"""Pictures one after the other as `multipart/x-mixed-replace`, which many cameras send for MJPEG (RFC 2046, 5.1).

Many cameras break its rules: boundaries come quoted or not, with more or fewer dashes than announced, lines end with LF
alone, lengths are missing or wrong. So the first line that can be a boundary is the boundary, and what does not fit is
skipped up to the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from streamvlm.errors import SourceError
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.readable import size

MAX_PART_BYTES = 64 << 20
_MAX_LINE_BYTES = 8192
_MAX_JUNK_BYTES = 1 << 20
_MAX_HEADERS = 64
_HEADER = re.compile(rb"[!#-'*+.^-z|~0-9A-Z-]+[ \t]*:")


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part.

    Attributes:
        headers: By their names in lower case.
        body: Its bytes.
        place: How many bytes of the stream lie before the body.
        is_whole: False if the stream broke off in it.
    """

    headers: dict[str, str]
    body: bytes
    place: int
    is_whole: bool


def boundary_of(media_type: str) -> str | None:
    """Returns the boundary that a media type announces, without its dashes; None if it is no stream of parts."""
    message = Message()
    message["content-type"] = media_type
    if message.get_content_maintype() != "multipart":
        return None
    return str(message.get_param("boundary", "")).strip("\"' ").lstrip("-")


def is_multipart(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a saved stream of parts."""
    first, _, rest = head.lstrip().partition(b"\n")
    return first.startswith(b"--") and _HEADER.match(rest) is not None and b"image/" in rest.lower()


class Parts:
    """The parts of a stream, each as soon as it has come; if the stream breaks off, the last part is not whole.

    Args:
        file: The stream.
        boundary: As `boundary_of` returns it; empty if nothing was announced.
        name: Of the source, for messages.
    """

    def __init__(self, file: IncomingBytes, boundary: str, *, name: str) -> None:
        self._file, self._name = file, name
        self._announced = boundary.encode("utf-8", "replace")
        self._buffer, self._place = bytearray(), 0  # what was read and not yielded yet, and where it begins
        self._has_ended = False

    def __iter__(self) -> Iterator[BodyPart]:
        """Yields the parts.

        Raises:
            SourceError: If it is no such stream, or reading fails.
        """
        if (boundary := self._find_boundary()) is None:
            return
        between = re.compile(
            rb"(?:\r?\n|(?<=\xff\xd9)|^)" + re.escape(boundary) + rb"(?P<last>--)?[ \t]*(?:\r?\n|(?P<end>\Z))"
        )
        trusts_lengths = True
        while (headers := self._headers()) is not None:
            stated = headers.get("content-length", "")
            length = int(stated) if re.fullmatch(r"[0-9]{1,18}", stated) else 0
            place = self._place
            if 0 < length <= MAX_PART_BYTES and trusts_lengths:
                body = self._take(length)
                yield BodyPart(headers, body, place, is_whole=len(body) == length)
                junk, is_last = self._up_to(between)
                trusts_lengths = not junk.strip() or not is_cut_jpeg(body)
            else:
                body, is_last = self._up_to(between)
                if is_last is None:
                    body = _without_half_of(boundary, body)
                yield BodyPart(headers, body, place, is_whole=is_last is not None)
            if is_last in (None, True):
                return

    def _find_boundary(self) -> bytes | None:
        """Skips to behind the first boundary and returns it; None if there is none."""
        while (line := self._line()) is not None and self._place < _MAX_JUNK_BYTES:
            bare = line.lstrip(b"-")
            if bare and (bare == self._announced or (line.startswith(b"--") and self._is_header_next())):
                return line
        return None

    def _is_header_next(self) -> bool:
        while b"\n" not in self._buffer and len(self._buffer) < _MAX_LINE_BYTES and self._fill():
            pass
        return _HEADER.match(self._buffer) is not None

    def _headers(self) -> dict[str, str] | None:
        """Returns the headers of the next part; None if the stream ends before them."""
        headers: dict[str, str] = {}
        while (line := self._line()) is not None:
            if not line:
                return headers
            name, _, value = line.decode("latin-1").partition(":")
            if len(headers) < _MAX_HEADERS:
                headers[name.strip().lower()] = value.strip()
        return None

    def _up_to(self, between: re.Pattern[bytes]) -> tuple[bytes, bool | None]:
        """Returns what comes before the next boundary, and whether that is the last; skips both.

        Without one, returns all that is left, and None.
        """
        start = 0
        while True:
            found = between.search(self._buffer, start)
            may_go_on = found is not None and found["end"] is not None and not found["last"]
            if found is not None and (self._has_ended or not may_go_on):
                body, is_last = bytes(self._buffer[: found.start()]), found["last"] is not None
                self._drop(found.end())
                return body, is_last
            start = max(0, len(self._buffer) - _MAX_LINE_BYTES) if found is None else found.start()
            if not self._fill():
                return self._take(len(self._buffer)), None
            if len(self._buffer) > MAX_PART_BYTES:
                raise SourceError(f"{self._name} sends a part of more than {size(MAX_PART_BYTES)}; check what it is.")

    def _line(self) -> bytes | None:
        """Returns the next line without its end; None at the end of the stream."""
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) < _MAX_LINE_BYTES:
            if not self._fill():
                return None
        line = self._take(end + 1 if end >= 0 else len(self._buffer))
        return line.strip(b"\r\n \t")

    def _take(self, size: int) -> bytes:
        """Returns the next ``size`` bytes; fewer at the end."""
        self._ahead(size)
        taken = bytes(self._buffer[:size])
        self._drop(size)
        return taken

    def _ahead(self, size: int) -> bytearray:
        while len(self._buffer) < size and self._fill():
            pass
        return self._buffer

    def _drop(self, size: int) -> None:
        self._place += min(size, len(self._buffer))
        del self._buffer[:size]

    def _fill(self) -> bool:
        """Reads on; returns whether more came."""
        piece = b"" if self._has_ended else self._file.read()
        self._has_ended = not piece
        self._buffer += piece
        return bool(piece)


def is_cut_jpeg(body: bytes) -> bool:
    """Whether a picture is a JPEG without its end."""
    return body.startswith(b"\xff\xd8") and not body.rstrip(b"\r\n\0").endswith(b"\xff\xd9")


def _without_half_of(boundary: bytes, body: bytes) -> bytes:
    """Returns what a stream broke off in, without the beginning of the boundary behind it."""
    at = max((body.rfind(mark) + len(mark) for mark in (b"\n", b"\xff\xd9") if mark in body), default=0)
    return body[:at] if boundary.startswith(body[at:]) else body
