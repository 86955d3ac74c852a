"""Where the parts of a playlist lie: on the web, or beside the playlist if that is on disk."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urljoin

from streamvlm.errors import SourceError
from streamvlm.ingest.address import FILE_URL, WEB
from streamvlm.ingest.disk_file import DiskFile
from streamvlm.ingest.hls.playlist import Part
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.web.opener import WebOpener

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+(?=[:,])", re.IGNORECASE)  # a single letter is a drive


class PlaylistLocation:
    """Finds and opens what playlists name. A playlist on the web leads to nothing but the web.

    Args:
        opener: Opens what is on the web.
    """

    def __init__(self, opener: WebOpener) -> None:
        self._opener = opener

    def join(self, base: str, line: str) -> str:
        """Returns the URL or path that a line means in the playlist at ``base``.

        Raises:
            SourceError: If it is refused.
        """
        if _is_web(base):
            url = urljoin(base, line)
            if not _is_web(url):
                self._opener.refuse(url)
            return url
        if _is_web(line):
            return line
        if is_url := FILE_URL.match(line):
            return str(Path(base).parent / unquote(line[is_url.end() :]))
        path = Path(base).parent / line
        if _SCHEME.match(line) and not path.exists():
            self._opener.refuse(line)
        # People write names as they are, or as they would be in a URL.
        return str(path if path.exists() else Path(base).parent / unquote(line.partition("?")[0]))

    def open(self, part: Part) -> IncomingBytes:
        """Opens a part.

        Raises:
            SourceError: If it cannot be read.
            StreamVlmError: If it is not admitted.
        """
        if _is_web(part.url):
            return self._opener.open(part.url, part.start, part.stop)
        try:
            return DiskFile(Path(part.url).open("rb"), part.start, part.stop)
        except (OSError, ValueError):
            name = self._opener.name
            raise SourceError(f"{name} names {part.url}, which cannot be read; check that it is there.") from None

    def read(self, part: Part, *, max_bytes: int) -> tuple[bytes, str]:
        """Reads a small part whole; returns it, and where it was found."""
        with self.open(part) as file:
            return file.read_all(max_bytes), getattr(file, "url", part.url)


def _is_web(url: str) -> bool:
    return url.partition("://")[0].lower() in WEB
