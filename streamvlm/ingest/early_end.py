"""Whether a recording came to its end, or stopped before the length that it states."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvlm.ingest.boxes import boxes_of

_SLACK_S = 1.0
"""How much may be missing without a warning, or a tenth of the length if that is less: lengths are rounded."""

_TS_PACKET_BYTES = 188


def clock(time_s: float) -> str:
    """Writes a time for warnings: ``0:06`` for 6 seconds, ``1:02:03`` for 3723."""
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class RecordingEnd:
    """Follows the pictures of a video stream to its end, and warns if some are missing.

    Only lengths that the file states count, not those that FFmpeg estimates from bytes and bit rates (TS, PS, raw
    streams). Where a container states one length for all of its streams, the longest stream must reach it. MPEG-TS
    states none, but it was cut off if it ends within one of its packets.

    Args:
        container: What is read.
        stream: The video stream that is decoded.

    Attributes:
        others: Streams whose packets have to be passed to ``pass_by``, because only they may reach the end.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.others: Sequence[Stream] = ()
        self._end_s = _stated_end_s(container.format.name, stream)
        self._first_s: float | None = None
        self._is_ts = container.format.name == "mpegts"
        self._first_place: int | None = None
        self._spacing = 0  # greatest common divisor of how far apart the bytes of pictures begin
        self._reached_s = self._lasted_s = self._previous_s = self._longest_gap_s = 0.0
        if self._end_s is None and container.duration and container.format.name in ("matroska,webm", "flv"):
            self._end_s = container.duration / av.time_base
            self.others = [one for one in container.streams if one is not stream and _is_timed(one)]

    def see(self, frame: VideoFrame, time_s: float) -> None:
        """Notes the next picture and its stream time."""
        if self._first_s is None:
            self._first_s = frame.time or 0.0
        if isinstance(place := frame.opaque, int):
            self._first_place = place if self._first_place is None else self._first_place
            self._spacing = math.gcd(self._spacing, place - self._first_place)
        self._longest_gap_s = max(self._longest_gap_s, time_s - self._previous_s)
        self._previous_s = time_s
        duration_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
        self._lasted_s = max(self._lasted_s, time_s + duration_s)

    def pass_by(self, packet: Packet[Stream]) -> None:
        """Notes a packet of another stream."""
        if packet.pts is not None and packet.time_base is not None:
            self._reached_s = max(self._reached_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def warning(self, name: str, n_bytes: int | None) -> str | None:
        """Returns the warning about a recording that was read to its end; None if it is whole.

        Args:
            name: What to call it.
            n_bytes: Of all of it; None if nobody stated where it ends.
        """
        if n_bytes is not None and self._ends_within_packet(n_bytes):
            ended = clock(self._lasted_s)
            return f"{name} ended at {ended}; it breaks off within a packet, as of a download that was cut off."
        if self._end_s is None or self._first_s is None:
            return None
        length_s = self._end_s - self._first_s
        ended_s = max(self._lasted_s, self._reached_s - self._first_s)
        # Where pictures have no stated duration, the last one may last as long as any before.
        slack_s = max(min(_SLACK_S, length_s / 10), self._longest_gap_s)
        return early_end(name, ended_s, length_s, slack_s)

    def _ends_within_packet(self, n_bytes: int) -> bool:
        """Whether MPEG-TS ends within a packet; where they begin is known from pictures that agree about it."""
        if not self._is_ts or not self._spacing or self._first_place is None:
            return False
        return self._spacing % _TS_PACKET_BYTES == 0 and (n_bytes - self._first_place) % _TS_PACKET_BYTES != 0


def early_end(name: str, ended_s: float, length_s: float, slack_s: float) -> str | None:
    """Returns the warning that a recording ended before its length, by more than the slack; None if it did not."""
    if ended_s + slack_s >= length_s:
        return None
    ended = clock(max(0, min(ended_s, round(length_s) - 1)))  # rounded up, it would read as if nothing were missing
    return f"{name} ended at {ended} of {clock(length_s)}; the rest is missing, as of a download that was cut off."


def broken_off(name: str, ended_s: float) -> str:
    """Returns the warning that a stream of pictures broke off amid one."""
    return f"{name} ended at {clock(ended_s)}; it broke off amid a picture, as of a camera that was cut off."


def lacks_index(path: Path) -> bool:
    """Whether a file is an MP4 or QuickTime movie without all of its index, the box ``moov``."""
    n_bytes, is_movie = path.stat().st_size, False
    with path.open("rb") as file:
        for kind, end in boxes_of(file):
            is_movie = is_movie or kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
            if not is_movie or kind == b"moov":
                return is_movie and end > n_bytes
    return is_movie


def _stated_end_s(container: str, stream: VideoStream) -> float | None:
    """Returns the presentation time at which a stream ends, as its container states it for this very stream."""
    if container == "matroska,webm":
        found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None
    if container == "avi" and stream.frames and stream.average_rate:  # its duration would be guessed from bytes
        return float(stream.frames / stream.average_rate)
    if container.startswith(("mov,", "mxf")) and stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return None


def _is_timed(stream: Stream) -> bool:
    return stream.type in ("audio", "video") and not stream.disposition & Disposition.attached_pic
