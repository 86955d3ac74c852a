"""HLS playlists (RFC 8216), parsed: which variants there are, or which segments.

The grammar is the `m3u8` library's. It gets only the tags that matter here, because others that people write into
playlists would break it. The text is untrusted, so numbers are checked, and an error of the parser is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import m3u8
from m3u8.parser import save_segment_custom_value

from streamvlm.errors import SourceError, StreamVlmError

MAX_SEGMENTS = 200_000
"""More than four days of segments of two seconds."""

_MAX_SEGMENT_S = 86_400.0
_TAGS = (
    "#EXTINF", "#EXT-X-BYTERANGE", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST", "#EXT-X-GAP", "#EXT-X-KEY", "#EXT-X-MAP",
    "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-STREAM-INF", "#EXT-X-TARGETDURATION",
)  # fmt: skip

_SOUND = ("mp4a", "ac-3", "ec-3", "ac-4", "mp3", "opus", "Opus", "flac", "fLaC")

Join = Callable[[str], str]
"""Turns a line of a playlist into the URL that it means."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from `start` up to `stop` of what is at a URL; a `stop` of None is its end."""

    url: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """Where an AES-128 key is; an `iv` of None stands for the segment's number."""

    url: str
    iv: bytes | None


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a run of segments: the initialization section of fragmented MP4."""

    part: Part
    key: Key | None


@dataclass(frozen=True, slots=True)
class MediaSegment:
    """A line of a media playlist.

    Attributes:
        number: Its media sequence number.
        part: Its bytes.
        duration_s: As stated.
        head: The beginning of its run; None if there is none.
        key: Of its encryption; None if there is none.
        is_cut: Whether its presentation times, size or codec need not go on from the one before.
        is_gap: Whether the playlist states that its bytes are missing.
        wall_s: Wall time of its beginning, in seconds since 1970, where that is stated.
    """

    number: int
    part: Part
    duration_s: float
    head: Head | None
    key: Key | None
    is_cut: bool
    is_gap: bool
    wall_s: float | None


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """Segments in order; `target_s` is the longest that one may be, `is_whole` whether none will be added."""

    segments: list[MediaSegment]
    target_s: float
    is_whole: bool


@dataclass(frozen=True, slots=True)
class MasterPlaylist:
    """URLs of media playlists of the same video, the best picture first."""

    variants: list[str]


def is_playlist(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a playlist."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#EXTM3U")


def parse(data: bytes, join: Join, *, name: str) -> MediaPlaylist | MasterPlaylist:
    """Parses a playlist.

    Args:
        data: Its text, UTF-8.
        join: Turns its lines into URLs.
        name: What to call it in messages.

    Raises:
        SourceError: If it is no playlist, or needs what is not supported.
    """
    try:
        parsed = m3u8.parse(data.decode("utf-8-sig", "replace"), custom_tags_parser=_matters_not)
        if parsed["is_variant"]:
            return MasterPlaylist([join(one["uri"]) for one in sorted(parsed["playlists"], key=_rank, reverse=True)])
        return _media(parsed, join)
    except StreamVlmError:
        raise
    except Exception as error:  # whatever error the parser makes of untrusted text, it is no playlist
        what = str(error) or type(error).__name__
        raise SourceError(f"{name} is a playlist that cannot be read ({what}); check it.") from None


def _matters_not(line: str, number: int, data: dict[str, Any], state: dict[str, Any]) -> bool:
    """Hides a tag from the parser if it does not matter or is parsed here."""
    data["keys"].clear()  # it is looked through for each key, and the segments have their own
    tag, _, value = line.partition(":")
    match tag:
        case "#EXT-X-TARGETDURATION":
            data["targetduration"] = float(value)  # people do not keep to whole numbers
            return True
        case "#EXT-X-PROGRAM-DATE-TIME":
            return not _is_date(value)
        case "#EXT-X-MAP":
            state["key_of_map"] = state.get("current_key")
        case "#EXTINF":
            save_segment_custom_value(state, "key_of_map", state.get("key_of_map"))
    return tag not in _TAGS


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _rank(variant: dict[str, Any]) -> tuple[bool, int, int]:
    """Returns a sort key for the picture of a variant, the better the larger."""
    info = variant["stream_info"]
    width, _, height = info.get("resolution", "").partition("x")
    n_px = int(width) * int(height) if width.isdecimal() and height.isdecimal() else 0
    codecs = info.get("codecs", "").split(",")
    return n_px > 0 or not all(codec.strip().startswith(_SOUND) for codec in codecs), n_px, info.get("bandwidth", 0)


def _media(parsed: dict[str, Any], join: Join) -> MediaPlaylist:
    lines = [line for line in parsed["segments"] if "uri" in line]  # one that is being written may end amid a segment
    if len(lines) > MAX_SEGMENTS:
        raise SourceError(f"A playlist has more than {MAX_SEGMENTS} segments; give a shorter one.")
    segments: list[MediaSegment] = []
    for number, line in enumerate(lines, parsed["media_sequence"] or 0):
        segments.append(_segment(number, line, segments[-1] if segments else None, join))
    longest_s = max((segment.duration_s for segment in segments), default=0.0)
    return MediaPlaylist(segments, _seconds(parsed.get("targetduration", longest_s)), parsed["is_endlist"])


def _segment(number: int, line: dict[str, Any], before: MediaSegment | None, join: Join) -> MediaSegment:
    head, date = line.get("init_section"), line.get("program_date_time")
    return MediaSegment(
        number,
        _part(join(line["uri"]), line.get("byterange"), before),
        _seconds(line["duration"]),
        None
        if head is None
        else Head(
            _part(join(head["uri"]), head.get("byterange"), None),
            _key(line["custom_parser_values"]["key_of_map"], join),
        ),
        _key(line.get("key"), join),
        is_cut=line["discontinuity"],
        is_gap=bool(line["gap_tag"]),
        wall_s=None if date is None else date.timestamp(),
    )


def _part(url: str, byterange: str | None, before: MediaSegment | None) -> Part:
    """Returns the bytes of a segment; a range without an offset begins where the one before it ends."""
    if byterange is None:
        return Part(url)
    size, _, offset = byterange.partition("@")
    start = int(offset) if offset else (before.part.stop or 0) if before and before.part.url == url else 0
    if int(size) < 0 or start < 0:
        raise ValueError(f"a range of {byterange}")
    return Part(url, start, start + int(size))


def _key(parsed: dict[str, Any] | None, join: Join) -> Key | None:
    if parsed is None or parsed["method"] == "NONE":
        return None
    if parsed["method"] != "AES-128" or parsed.get("keyformat", "identity") != "identity":
        raise SourceError(
            f"The playlist is encrypted by {parsed['method']}, format {parsed.get('keyformat', 'identity')}, "
            "which is not read here; give it unencrypted, or encrypted by AES-128."
        )
    iv = parsed.get("iv")
    return Key(join(parsed["uri"]), None if iv is None else int(iv, 16).to_bytes(16, "big"))


def _seconds(stated: float) -> float:
    if not 0 <= stated <= _MAX_SEGMENT_S:
        raise ValueError(f"a segment of {stated} s")
    return float(stated)
