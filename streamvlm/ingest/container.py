"""Anything FFmpeg demuxes, decoded packet by packet: files, web and network streams, playlists, cameras.

It knows nothing of the sampling grid: it yields every frame that decoded cleanly, with its stream time, and
skips and counts what did not. Its errors are one sentence without credentials, and unchained (`from None`),
because FFmpeg's own exceptions carry the whole URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import av
from av.container import InputContainer
from av.error import ArgumentError, ExitError, FFmpegError, HTTPForbiddenError, HTTPUnauthorizedError, InvalidDataError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.address import Address
from streamvlm.ingest.picture import PictureConverter
from streamvlm.ingest.reader import Decoded
from streamvlm.ingest.sampling import StreamClock
from streamvlm.ingest.web import WebOpener

MAX_BAD_PACKETS = 250
"""Damaged packets in a row before a source is given up: the longest usual distance between key frames (x264's
default), so that a decoder which lost one key frame gets to see the next."""

_FALLBACK_RATE = 25


class ContainerReader:
    """Decodes the main video stream of an address; raises a SourceError if it cannot be opened or has none.

    Attributes:
        is_live: Whether it has no end yet: a camera, a push protocol, an unfinished playlist or download.
        duration_s: Length in seconds as the container states it; None if unknown or live.
        n_corrupt_packets: Packets skipped so far because they, or their picture, were damaged.
    """

    def __init__(
        self, address: Address, *, timeout_s: float, max_px: int | None = None, opener: WebOpener | None = None
    ) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._opener = opener
        self._container = self._open()
        duration, size = self._container.duration, self._container.size
        if opener is not None:
            size = opener.size or 0
        is_unfinished = duration is None and (size <= 0 or self._container.format.name == "hls")
        self.is_live = address.is_paced or is_unfinished
        self.duration_s = None if self.is_live or duration is None else duration / av.time_base
        self.n_corrupt_packets = 0
        self._n_bad_in_a_row = 0
        self._stream = self._choose_stream()
        if max_px is not None:
            self._bound(max_px)

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yield (stream time in seconds, decoded picture) in order of presentation.

        Raises:
            SourceStalledError: If a live or remote source stops answering.
            SourceError: If reading fails, or `MAX_BAD_PACKETS` packets in a row are damaged.
        """
        to_picture = PictureConverter(self._stream.sample_aspect_ratio)
        clock = StreamClock(float(self._stream.guessed_rate or self._stream.average_rate or _FALLBACK_RATE))
        for packet in self._packets():
            for frame in self._decode(packet):
                yield clock(frame.time), partial(to_picture, frame)

    def close(self) -> None:
        """Let go of the file, connection or device."""
        self._container.close()
        if self._opener is not None:
            self._opener.close()

    def _open(self) -> InputContainer:
        address, opener, started = self._address, self._opener, time.monotonic()
        try:
            return av.open(
                address.target if opener is None else opener.begin(address.target),
                "r",
                format=address.demuxer,
                options=address.options,
                metadata_errors="replace",
                timeout=self._timeout_s,
                io_open=opener,
            )
        except FFmpegError as error:
            self._check_wait(error, started)
            raise SourceError(_why_not_opened(error, address)) from None

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
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError as error:
                self._check_wait(error, started)
                if not isinstance(error, InvalidDataError):
                    raise self._broken_off(error) from None
                self._skip()
                packets = self._container.demux(self._stream)  # a generator that raised is spent
            else:
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

    def _check_wait(self, error: FFmpegError, started: float) -> None:
        # What error an interrupted wait ends in depends on FFmpeg's protocol, so the clock is asked as well.
        if isinstance(error, ExitError) or time.monotonic() - started >= self._timeout_s:
            raise SourceStalledError(
                f"{self._address.name} did not answer for {self._timeout_s:g} s; check that it is up."
            ) from None

    def _broken_off(self, error: FFmpegError) -> SourceError:
        may_return = self.is_live or self._address.path is None
        kind = SourceStalledError if may_return else SourceError
        return kind(f"{self._address.name} broke off ({error.strerror}); check that it is complete.")


def _why_not_opened(error: FFmpegError, address: Address) -> str:
    is_file = address.path is not None and not address.is_paced
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
