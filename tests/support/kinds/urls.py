"""The ways in which people write a picture into a request."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from kinds.clip import Clip
from kinds.kind import INLINE, STAR, Kind, Outcome, Refused
from kinds.stills import jpeg


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write(path: Path, clip: Clip) -> None:
    """A JPEG whose base64 has +, / and padding in it."""
    data = jpeg()
    assert {"+", "/"} <= set(_base64(data))
    path.write_bytes(data + b"\0" * (1 + (1 - len(data)) % 3))


def inline(
    name: str,
    what: str,
    url: Callable[[str, bytes], str],
    outcome: Outcome = STAR,
    doors: tuple[str, ...] = INLINE,
) -> Kind:
    """A JPEG in a request, written so."""
    return Kind(name, what, "star.jpg", _write, outcome, doors, url=url)


_NO_DATA_URL = Refused("data:image/jpeg;base64", "invalid_image_url")
_NO_BASE64 = Refused("(?i)base64", "invalid_(image_url|base64_image)")

URLS = [
    inline("base64-lines", "base64 in lines of 76", lambda kind,
        data: f"data:{kind};base64,{base64.encodebytes(data).decode()}"),
    inline("base64-crlf", "base64 in lines of CR and LF", lambda kind,
        data: f"data:{kind};base64," + "\r\n".join(textwrap.wrap(_base64(data), 64))),
    inline("base64-spaces", "base64 with spaces around and in it", lambda kind,
        data: f"data:{kind};base64, {_base64(data)[:40]} {_base64(data)[40:]}\n"),
    inline("base64-url-safe", "base64 of URL-safe letters", lambda kind,
        data: f"data:{kind};base64,{base64.urlsafe_b64encode(data).decode()}"),
    inline("base64-percent", "base64 with percent signs", lambda kind,
        data: f"data:{kind};base64,{quote(_base64(data), safe='')}"),
    inline("base64-bare", "base64 without padding", lambda kind,
        data: f"data:{kind};base64,{_base64(data).rstrip('=')}"),
    inline("base64-url-safe-bare", "URL-safe and without padding", lambda kind,
        data: f"data:{kind};base64,{base64.urlsafe_b64encode(data).decode().rstrip('=')}"),
    inline("url-upper-case", "a data URL in upper case", lambda kind,
        data: f"DATA:{kind.upper()};BASE64,{_base64(data)}"),
    inline("url-no-type", "a data URL without a media type", lambda kind, data: f"data:;base64,{_base64(data)}"),
    inline("url-other-type", "a JPEG said to be a PNG", lambda kind, data: f"data:image/png;base64,{_base64(data)}"),
    inline("url-jpg", "a JPEG said to be image/jpg", lambda kind, data: f"data:image/jpg;base64,{_base64(data)}"),
    inline("url-parameters", "a data URL with parameters", lambda kind,
        data: f"data:{kind};charset=utf-8;name=star.jpg;base64,{_base64(data)}"),
    inline("url-percent-type", "a data URL of bytes in percent signs", lambda kind, data: f"data:{kind},{quote(data)}",
        _NO_BASE64),
    inline("raw-base64", "base64 that is no URL", lambda kind, data: _base64(data), _NO_DATA_URL),
    inline("not-base64", "a data URL of something else", lambda kind,
        data: f"data:{kind};base64,(a picture of a star)", _NO_BASE64),
    inline("local-path", "the path of a file", lambda kind, data: "/home/me/star.jpg", _NO_DATA_URL),
    inline("file-url", "the URL of a file", lambda kind, data: "file:///home/me/star.jpg",
        Refused("(?i)data URL|only http")),
]  # fmt: skip
