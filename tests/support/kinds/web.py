"""Web servers as people have them: with and without lengths, ranges, redirects and passwords."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kinds.broken import cut_short
from kinds.kind import CLIP, NOW, WEB, Kind, Outcome, Refused, Right
from kinds.stills import STILLS
from kinds.videos import video

Handler = BaseHTTPRequestHandler

# --- how a file is sent ----------------------------------------------------------------------------------------------


def send(handler: Handler, data: bytes, status: int = 200, **headers: str) -> None:
    """Sends a whole answer; the connection ends with it."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.close_connection = True
    try:
        handler.wfile.write(data)
    except OSError:
        return  # whoever has seen enough hangs up


def send_parts(handler: Handler, file: Path) -> None:
    """Sends a file, or what part of it is asked for, as most servers do."""
    data = file.read_bytes()
    told = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if told is None:
        send(handler, data, Content_Length=str(len(data)), Accept_Ranges="bytes")
        return
    start, stop = int(told[1]), int(told[2] or len(data) - 1) + 1
    part = data[start:stop]
    place = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
    send(handler, part, 206, Content_Length=str(len(part)), Content_Range=place)


def _without_length(handler: Handler, file: Path) -> None:
    send(handler, file.read_bytes(), Connection="close")


def _without_ranges(handler: Handler, file: Path) -> None:
    data = file.read_bytes()
    send(handler, data, Content_Length=str(len(data)), Accept_Ranges="none")


def _chunked(handler: Handler, file: Path) -> None:
    data, handler.protocol_version = file.read_bytes(), "HTTP/1.1"
    pieces = [data[at : at + 5000] for at in range(0, len(data), 5000)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    send(handler, body, Transfer_Encoding="chunked")


def _as_text(handler: Handler, file: Path) -> None:
    data = file.read_bytes()
    send(handler, data, Content_Length=str(len(data)), Content_Type="text/plain")


def _elsewhere(to: str, handler: Handler, file: Path) -> None:
    """Redirects once, to an address relative to what was asked for."""
    if handler.path.endswith("?there"):
        return _without_ranges(handler, file)
    return send(handler, b"", 302, Location=to + "?there")


def _round(handler: Handler, file: Path) -> None:
    send(handler, b"", 302, Location=handler.path)


def _status(status: int, handler: Handler, file: Path) -> None:
    send(handler, b"<html>An error</html>", status, Content_Type="text/html")


def _by_token(handler: Handler, file: Path) -> None:
    """Wants its query as it was given."""
    if handler.path.endswith("?token=a%2Fb+c&x=%C3%BC"):
        return _without_ranges(handler, file)
    return _status(403, handler, file)


def _basic(handler: Handler, file: Path) -> None:
    told = handler.headers.get("Authorization", "")
    if told == "Basic " + base64.b64encode(b"anna:s@fe").decode():
        return _without_ranges(handler, file)
    return send(handler, b"", 401, WWW_Authenticate='Basic realm="camera"')


def _digest(handler: Handler, file: Path) -> None:
    """RFC 2617, as cameras have it."""
    told = dict(re.findall(r'(\w+)="?([^",]+)"?', handler.headers.get("Authorization", "")))
    who, what = _md5("anna:camera:s@fe"), _md5(f"GET:{told.get('uri')}")
    between = ":".join(told.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
    if told.get("response") == _md5(f"{who}:{between}:{what}"):
        return _without_ranges(handler, file)
    return send(handler, b"", 401, WWW_Authenticate='Digest realm="camera", nonce="0a1b2c", qop="auth"')


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _breaking_off(handler: Handler, file: Path) -> None:
    """Says how long it is, and ends before, whatever part of it is asked for."""
    data = file.read_bytes()
    whole = len(data) * 100 // 55
    told = re.fullmatch(r"bytes=(\d+)-\d*", handler.headers.get("Range", ""))
    at = min(int(told[1]), whole - 1) if told else 0
    if told:
        part = f"bytes {at}-{whole - 1}/{whole}"
        return send(handler, data[at:], 206, Content_Length=str(whole - at), Content_Range=part)
    return send(handler, data, Content_Length=str(whole), Accept_Ranges="bytes")


# --- the kinds -------------------------------------------------------------------------------------------------------

_FIRST = {"movflags": "faststart"}
_JPEG = next(kind for kind in STILLS if kind.name == "jpeg")


def sent(name: str, what: str, serve: Any, outcome: Outcome = CLIP, address: str = "", **how: Any) -> Kind:
    """A clip with its index first, sent so."""
    kind = video(name, what, outcome=outcome, doors=how.pop("doors", WEB), **{"muxer": _FIRST, **how})
    return replace(kind, serve=serve, address=address or kind.address)


_OF_VIDEO = "(?!invalid_image).*"
_BY_CHAT = (*WEB, "video_url by URL")

SENT = [
    sent("http", "a server that knows ranges", send_parts, doors=(*_BY_CHAT, "watch")),
    sent("http-no-length", "no Content-Length: it ends with the connection", _without_length, doors=_BY_CHAT),
    sent("http-no-length-mkv", "a Matroska without Content-Length", _without_length, file="clip.mkv", muxer={}),
    sent("http-no-length-ts", "MPEG-TS without Content-Length", _without_length, file="clip.ts", muxer={}),
    sent("http-chunked", "in chunks", _chunked, doors=_BY_CHAT),
    sent("http-index-last", "an index at the end, from a server that cannot seek", _without_ranges, muxer={},
        doors=_BY_CHAT),
    sent("http-index-last-no-length", "the same without Content-Length", _without_length, muxer={}),
    sent("http-text", "a video said to be a text", _as_text, doors=_BY_CHAT),
    sent("http-redirect", "redirected, with an address relative to the first", partial(_elsewhere, "clip.mp4"),
        doors=_BY_CHAT),
    sent("http-redirect-round", "redirected in a circle", _round, Refused("(?i)redirect", _OF_VIDEO), doors=_BY_CHAT),
    sent("http-query", "a query that has to stay as it is", _by_token, address="{}?token=a%2Fb+c&x=%C3%BC",
        doors=_BY_CHAT),
    sent("http-basic", "a password (Basic)", _basic, address="anna:s%40fe@{}"),
    sent("http-digest", "a password (Digest), as cameras ask for it", _digest, address="anna:s%40fe@{}"),
    sent("http-no-password", "a password that is not given", _basic, Refused("(?i)credentials|password")),
    sent("http-404", "nothing there", partial(_status, 404), Refused("(?i)404|not found|nothing", _OF_VIDEO),
        doors=(*_BY_CHAT, "watch")),
    sent("http-403", "forbidden", partial(_status, 403), Refused("(?i)403|forbid|credentials", _OF_VIDEO),
        doors=_BY_CHAT),
    sent("http-500", "a server that fails", partial(_status, 500), Refused("(?i)500|fail|broke|error", _OF_VIDEO),
        doors=_BY_CHAT),
    replace(_JPEG, name="http-still", what="one picture of a camera, without length and type", file="snapshot.cgi",
        doors=(*WEB, "image_url by URL"), serve=_without_length),
    Kind("http-cut", "a download that breaks off each time", "clip.mp4", partial(cut_short, muxer=_FIRST),
        Right({NOW: "a red circle"}, ends_s=(5.0, 7.0), warns="(ended at|since) 0:06 of 0:12"), WEB,
        serve=_breaking_off, flags=("--reconnect", "0")),
]  # fmt: skip
