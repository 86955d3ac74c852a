"""Anything FFmpeg demuxes, decoded packet by packet: files, network streams, cameras, and bytes that are given to it.

It knows nothing of the sampling grid: it yields every frame that decoded cleanly, with its stream time, and
skips and counts what did not. Its errors are one sentence without credentials, and unchained (`from None`),
because FFmpeg's own exceptions carry the whole URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import cast

import av
from av.codec.context import Flags as CodecFlags
from av.container import InputContainer
from av.error import ArgumentError, ExitError, FFmpegError, HTTPForbiddenError, HTTPUnauthorizedError, InvalidDataError
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.address import Address
from streamvlm.ingest.clocks import ArrivalClock, Clock, StreamClock
from streamvlm.ingest.fed import Fed
from streamvlm.ingest.incoming import Incoming
from streamvlm.ingest.intake import Intake
from streamvlm.ingest.picture import PictureConverter
from streamvlm.ingest.reader import Decoded

MAX_BAD_PACKETS = 250
"""Damaged packets in a row before a source is given up: the longest usual distance between key frames (x264's
default), so that a decoder which lost one key frame gets to see the next."""

MAX_BURST_S = 30.0
"""How much a live server may send at once when one connects: some keep the last seconds for that."""

_FALLBACK_RATE = 25


class ContainerReader:
    """Decodes the main video stream of an address; raises a SourceError if it cannot be opened or has none.

    Args:
        address: What is opened.
        timeout_s: How long a host or device may keep us waiting.
        max_px: Most pixels of a picture.
        file: Its bytes, closed with the reader; None has FFmpeg get them.
        clock: Tells stream time; None has that depend on the container.

    Attributes:
        duration_s: Length in seconds as the container states it; None if unknown or live.
        n_corrupt_packets: Packets skipped so far because they, or their picture, were damaged.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        max_px: int | None = None,
        file: Incoming | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._address, self._timeout_s, self._file = address, timeout_s, file
        self._fed = None if file is None else Fed(file)
        self._container = self._open()
        self._has_times = not self._is(FormatFlags.no_timestamps)
        self._may_leap = self._is(FormatFlags.ts_discont)
        duration = self._container.duration
        self._may_go_on = duration is None and (isinstance(file, Intake) if file else self._container.size <= 0)
        # Where times may leap, the length is guessed from the last of them.
        is_known = not self.is_live and not self._may_leap
        self.duration_s = duration / av.time_base if is_known and duration is not None else None
        self.n_corrupt_packets = 0
        self._n_bad_in_a_row = 0
        self._stream = self._choose_stream()
        if max_px is not None:
            self._bound(max_px)
        self._clock = clock or self._choose_clock()

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet: a camera, a push protocol, or what states no length and has not ended."""
        has_ended = isinstance(self._file, Intake) and self._file.has_ended
        return self._address.is_paced or (self._may_go_on and not has_ended)

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yield (stream time in seconds, decoded picture) in order of presentation.

        Raises:
            SourceStalledError: If a live or remote source stops answering.
            SourceError: If reading fails, or `MAX_BAD_PACKETS` packets in a row are damaged.
        """
        to_picture = PictureConverter(self._stream.sample_aspect_ratio)
        for packet in self._packets():
            for frame in self._decode(packet):
                place = frame.opaque if isinstance(frame.opaque, int) else None
                time_s = self._clock(frame.time, place)
                self._note_pace(time_s, place)
                yield time_s, partial(to_picture, frame)

    def close(self) -> None:
        """Let go of the file, connection or device."""
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _open(self) -> InputContainer:
        address, fed, started = self._address, self._fed, time.monotonic()
        try:
            return av.open(
                address.target if fed is None else fed,
                "r",
                format=address.demuxer,
                options=address.options,
                metadata_errors="replace",
                timeout=self._timeout_s if fed is None else None,  # a file has its own
            )
        except FFmpegError as error:
            self._check_fed(is_over=True)
            self._check_wait(error, started)
            raise SourceError(_why_not_opened(error, address)) from None

    def _is(self, flag: FormatFlags) -> bool:
        return bool(self._container.format.flags & cast(int, flag.value))

    def _note_pace(self, time_s: float, place: int | None) -> None:
        """What comes far faster than it plays is a recording, whatever its server says of its length."""
        if isinstance(self._file, Intake) and place is not None and time_s > self._file.came_s(place) + MAX_BURST_S:
            self._may_go_on = False

    def _choose_clock(self) -> Clock:
        if isinstance(self._file, Intake) and not self._has_times:
            return ArrivalClock(self._file.came_s)
        rate = float(self._stream.guessed_rate or self._stream.average_rate or _FALLBACK_RATE)
        return StreamClock(rate, is_joined=self._may_leap and not self.is_live)

    def _choose_stream(self) -> VideoStream:
        """Take the best video stream; the demuxer drops the others (and fetches one variant of HLS)."""
        best = self._container.streams.best("video")
        if (
            not isinstance(best, VideoStream)
            or best.codec_context is None  # FFmpeg names the codec, but cannot decode it
            or best.disposition & Disposition.attached_pic
        ):
            self.close()
            raise SourceError(f"{self._address.name} has no video stream that can be decoded; give a video.")
        for stream in self._container.streams:
            stream.discard = Discard.default if stream is best else Discard.all
        best.codec_context.flags |= CodecFlags.copy_opaque  # so that a frame knows its packet's place
        if not self.is_live:
            best.codec_context.thread_type = "AUTO"  # threads by frame: faster, but they hold frames back
        return best

    def _bound(self, max_px: int) -> None:
        """Refuses a video of too large pictures, and has the decoder refuse those that turn out to be later."""
        codec = self._stream.codec_context
        if codec.width * codec.height > max_px:
            self.close()
            raise SourceError(
                f"{self._address.name} is {codec.width}x{codec.height} and {max_px} pixels are allowed; "
                "give a smaller one."
            )
        codec.options = {"max_pixels": str(2 * max_px)}  # decoders pad their pictures

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        packets = self._container.demux(self._stream)
        while True:
            started = time.monotonic()
            if self._file is not None:
                self._file.expect()
            try:
                packet = next(packets)
            except StopIteration:
                self._check_fed(is_over=True)
                return
            except FFmpegError as error:
                self._check_fed(is_over=True)
                self._check_wait(error, started)
                if not isinstance(error, InvalidDataError):
                    raise self._broken_off(error) from None
                self._skip()
                packets = self._container.demux(self._stream)  # a generator that raised is spent
            else:
                self._check_fed(is_over=False)
                if packet.pos is not None:
                    packet.opaque = packet.pos
                yield packet

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        try:
            frames = packet.decode()
        except FFmpegError:
            self._skip()
            return
        for frame in frames:
            if frame.is_corrupt:
                self._skip()
            else:
                self._n_bad_in_a_row = 0
                yield frame

    def _skip(self) -> None:
        self.n_corrupt_packets += 1
        self._n_bad_in_a_row += 1
        if self._n_bad_in_a_row >= MAX_BAD_PACKETS:
            raise SourceError(
                f"{self._address.name} is damaged: {MAX_BAD_PACKETS} packets in a row could not be decoded; "
                "repair the file, or check the link."
            )

    def _check_fed(self, *, is_over: bool) -> None:
        if self._fed is not None:
            self._fed.check(is_over=is_over)

    def _check_wait(self, error: FFmpegError, started: float) -> None:
        # What error an interrupted wait ends in depends on FFmpeg's protocol, so the clock is asked as well.
        if self._file is None and (isinstance(error, ExitError) or time.monotonic() - started >= self._timeout_s):
            raise SourceStalledError(
                f"{self._address.name} did not answer for {self._timeout_s:g} s; check that it is up."
            ) from None

    def _broken_off(self, error: FFmpegError) -> SourceError:
        may_return = self.is_live or self._address.path is None
        kind = SourceStalledError if may_return else SourceError
        return kind(f"{self._address.name} broke off ({error.strerror}); check that it is complete.")


def _why_not_opened(error: FFmpegError, address: Address) -> str:
    is_file = not address.target or (address.path is not None and not address.is_paced)
    is_other_format = isinstance(error, ArgumentError) and "format_whitelist" in address.options
    match error:
        case PermissionError():
            return f"{address.name} may not be read; give this user the right to it."
        case HTTPUnauthorizedError() | HTTPForbiddenError():
            return f"{address.name} asks for other credentials; give them as user:password@ before the host."
        case _ if is_file or is_other_format or isinstance(error, InvalidDataError):
            return f"{address.name} is no video that can be read, or a damaged one; check what it is."
        case _:
            return f"{address.name} cannot be opened ({error.strerror}); check the address, and that it is up."
