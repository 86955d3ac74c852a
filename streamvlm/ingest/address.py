"""Where a source is, and what FFmpeg may touch on the way to it.

FFmpeg opens far more than video: `concat:`, `subfile:`, `gopher:` and the lines of a playlist are ways
to read files and ports that nobody meant to offer. So schemes are allow-listed here, a local path always
reaches FFmpeg with an explicit `file:`, and each scheme lists the protocols that FFmpeg may use to open it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from streamvlm.errors import SourceError

WEB = ("http", "https")
_PROTOCOLS = {
    "file": "file",
    "http": "none",  # what is on the web, and what a local playlist names, we open ourselves
    "https": "none",
    "rtsp": "rtsp,rtp,tcp",
    "rtsps": "rtsps,rtp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls",
    "udp": "udp",
    "tcp": "none",
}
_STRANGERS = "mov,mp4,matroska,webm,avi,mpegts,flv,ogg"
_WEB_STRANGERS = f"{_STRANGERS},mpeg,asf,mjpeg,h264,hevc"
_SCHEME = re.compile(r"subfile(?=,)|[a-z][a-z0-9+.-]+(?=:)", re.IGNORECASE)  # a single letter is a drive
FILE_URL = re.compile(r"file:(//(localhost)?(?=/))?", re.IGNORECASE)
_CAMERA = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, slots=True)
class Address:
    """A source in FFmpeg's terms.

    Attributes:
        name: The source as it was asked for, without credentials and query: safe in messages and logs.
        target: What is opened; may hold credentials.
        options: FFmpeg's options, the protocol allow-list above all.
        path: The local file, folder or device; None for a URL.
        demuxer: FFmpeg's demuxer, where probing does not find it.
        is_paced: Whether the source sends at its own pace: a camera or a push protocol.
    """

    name: str
    target: str = field(repr=False)
    options: dict[str, str]
    path: Path | None = None
    demuxer: str | None = None
    is_paced: bool = False


def redact(uri: str) -> str:
    """Hides the secrets of a URL: its query, and all up to its last `@`, as passwords hold any character."""
    return re.sub(r"\?.*", "?…", re.sub(r"(?<=://).*@", "…@", uri)) if "://" in uri else uri


def locate(uri: str) -> Address:
    """Finds out what `uri` is: a local path, a camera device or a URL of an allowed scheme.

    Raises:
        SourceError: If the scheme is refused, or nothing is at a local path.
    """
    match = _SCHEME.match(uri)
    scheme = match[0].lower() if match else "file"
    if scheme in _PROTOCOLS and scheme != "file":
        return _remote(uri, scheme)
    if not uri:
        raise SourceError("No source is named; give a path or a URL.")
    is_url = FILE_URL.match(uri)
    path = Path(unquote(uri[is_url.end() :]) if is_url else uri).absolute()
    try:
        is_empty = path.stat().st_size == 0 and path.is_file()
    except PermissionError:
        raise SourceError(f"{uri} may not be read; give this user the right to it.") from None
    except (OSError, ValueError):
        raise SourceError(_nothing_at(uri, scheme)) from None
    if is_empty:
        raise SourceError(f"{uri} is an empty file; give a video.")
    return _local(uri, path)


def locate_upload(path: Path, name: str) -> Address:
    """Returns the address of an untrusted file, to be opened as a video in one of the usual containers.

    Whatever the file's name is, playlists, lists of parts and references to other files are not followed.

    Raises:
        SourceError: If there is nothing in it.
    """
    if path.stat().st_size == 0:
        raise SourceError(f"{name} is empty; send a video.")
    options = {"protocol_whitelist": "file", "format_whitelist": _STRANGERS}
    return Address(name, f"file:{path}", options, path)


def as_strangers(address: Address) -> Address:
    """Returns the address of an untrusted web source: only the usual containers, and raw video, are opened."""
    return replace(address, options={**address.options, "format_whitelist": _WEB_STRANGERS})


def _remote(uri: str, scheme: str) -> Address:
    options = {"protocol_whitelist": _PROTOCOLS[scheme]}
    if scheme.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # over UDP, cameras lose packets without a word
    target = scheme + uri[len(scheme) :]  # FFmpeg knows lower-case schemes only
    return Address(redact(uri), target, options, is_paced=not scheme.startswith("http"))


def _local(uri: str, path: Path) -> Address:
    device = str(path.resolve())  # cameras also go by links such as /dev/v4l/by-id/…
    if _CAMERA.fullmatch(device):
        return Address(uri, device, {}, path, demuxer="v4l2", is_paced=True)
    return Address(uri, f"file:{path}", {"protocol_whitelist": _PROTOCOLS["file"]}, path)


def _nothing_at(uri: str, scheme: str) -> str:
    if _CAMERA.fullmatch(uri):
        cameras = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        return f"There is no camera {uri}; plug it in, or choose another (found: {cameras})."
    if scheme not in _PROTOCOLS:
        return f"{redact(uri)[:80]} is refused; give a path, or a URL of {', '.join(_PROTOCOLS)}."
    return f"{uri} does not exist; check the path."
