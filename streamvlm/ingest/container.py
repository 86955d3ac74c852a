"""Anything FFmpeg demuxes, decoded packet by packet: files, network streams, cameras, and bytes that we read for it.

It knows nothing of the sampling grid: it yields every frame that decoded cleanly, with its stream time, and
skips and counts what did not. Its errors are one sentence without credentials, and unchained (`from None`),
because FFmpeg's own exceptions carry the whole URL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import av
from av.codec.context import Flags as CodecFlags
from av.container import InputContainer
from av.error import ArgumentError, ExitError, FFmpegError, HTTPForbiddenError, HTTPUnauthorizedError, InvalidDataError
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.address import Address
from streamvlm.ingest.clocks import ArrivalClock, Clock, StreamClock
from streamvlm.ingest.early_end import RecordingEnd, lacks_index
from streamvlm.ingest.ffmpeg_input import FFmpegInput
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.picture import PictureConverter
from streamvlm.ingest.reader import Decoded
from streamvlm.ingest.receiver import Receiver

MAX_BAD_PACKETS = 250
"""Damaged packets in a row after which reading fails: the longest usual distance between key frames (x264's default),
so that a decoder which lost one key frame reaches the next."""

MAX_BURST_S = 30.0
"""How much video a live server may send at once when a client connects: some store the last seconds for that."""

FAST_S = 5.0
"""How much video must have come at twice its pace, so that a source that broke off counts as a recording."""

_FALLBACK_RATE = 25


class ContainerReader:
    """Decodes one video stream of an address; raises SourceError if it cannot be opened or has none.

    Args:
        address: What is opened.
        timeout_s: Longest wait for the host or device.
        max_px: Most pixels of a picture.
        file: Its bytes, closed with the reader; None lets FFmpeg read them.
        clock: Gives stream time; None chooses a clock by the container.
        stream: Which video stream, counted from 0; None for the best.
        stopped: When it is set, the reader ends with the next packet, of whatever stream.

    Attributes:
        duration_s: Length in seconds as the container states it; None if unknown or live.
        n_corrupt_packets: Packets skipped so far because they, or their picture, were damaged.
        warning: After the end, what is missing of a recording that ended too early; None if nothing is.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        max_px: int | None = None,
        file: IncomingBytes | None = None,
        clock: Clock | None = None,
        stream: int | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._address, self._timeout_s, self._file = address, timeout_s, file
        self._stopped = stopped or threading.Event()
        self._input = None if file is None else FFmpegInput(file)
        self._container = self._open()
        self._has_times = not self._is(FormatFlags.no_timestamps)
        self._may_leap = self._is(FormatFlags.ts_discont)
        duration = self._container.duration
        self._may_go_on = duration is None and (isinstance(file, Receiver) if file else self._container.size <= 0)
        # Where times may leap, the length is guessed from the last of them.
        is_known = not self.is_live and not self._may_leap
        self.duration_s = duration / av.time_base if is_known and duration is not None else None
        self._hangs_up = address.target.startswith("rtsp") and duration is None  # cameras have no end
        self.n_corrupt_packets = 0
        self.warning: str | None = None
        self._n_bad_in_a_row = 0
        self._is_fast = False
        self._stream = self._choose_stream(stream)
        self._ending = RecordingEnd(self._container, self._stream)
        self._others = self._passed_by()
        self._select([self._stream, *self._others])
        if max_px is not None:
            self._bound(max_px)
        self._clock = clock or self._choose_clock()

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet: a camera, a push protocol, or a source that states no length and has not ended."""
        has_ended = isinstance(self._file, Receiver) and self._file.has_ended
        return self._address.is_paced or (self._may_go_on and not has_ended)

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yields (stream time in seconds, decoded picture) in order of presentation.

        Raises:
            SourceStalledError: If a live or remote source stops answering.
            SourceError: If reading fails, or `MAX_BAD_PACKETS` packets in a row are damaged.
        """
        to_picture = PictureConverter(self._stream.sample_aspect_ratio)
        for frame in self._frames():
            place = frame.opaque if isinstance(frame.opaque, int) else None
            time_s = self._clock(frame.time, place)
            self._note_pace(time_s, place)
            self._ending.see(frame, time_s)
            yield time_s, partial(to_picture, frame)
        if not self._stopped.is_set():
            self.warning = self._ending.warning(self._address.name, self._n_bytes())

    def close(self) -> None:
        """Closes the file, connection or device."""
        self._container.close()
        if self._file is not None:
            self._file.close()

    def _n_bytes(self) -> int | None:
        """Returns how many bytes a recording has; None of a source that ends when its sender does."""
        if self.is_live or isinstance(self._file, Receiver):
            return None
        return self._container.size if self._file is None else self._file.place

    def _open(self) -> InputContainer:
        address, ffmpeg_input, started = self._address, self._input, time.monotonic()
        try:
            return av.open(
                address.target if ffmpeg_input is None else ffmpeg_input,
                "r",
                format=address.demuxer,
                options=address.options,
                metadata_errors="replace",
                timeout=self._timeout_s if ffmpeg_input is None else None,  # a file has its own
            )
        except FFmpegError as error:
            self._check_input(is_over=True)
            self._check_wait(error, started)
            raise SourceError(_why_not_opened(error, address)) from None

    def _is(self, flag: FormatFlags) -> bool:
        return bool(self._container.format.flags & cast(int, flag.value))

    def _note_pace(self, time_s: float, place: int | None) -> None:
        """Takes a source that comes far faster than it plays for a recording, whatever length its server states."""
        if isinstance(self._file, Receiver) and place is not None:
            came_s = self._file.came_s(place)
            self._is_fast = time_s > 2 * came_s + FAST_S
            if time_s > came_s + MAX_BURST_S:
                self._may_go_on = False

    def _choose_clock(self) -> Clock:
        if isinstance(self._file, Receiver) and not self._has_times:
            return ArrivalClock(self._file.came_s)
        rate = float(self._stream.guessed_rate or self._stream.average_rate or _FALLBACK_RATE)
        return StreamClock(rate, is_joined=self._may_leap and not self.is_live)

    def _choose_stream(self, wanted: int | None) -> VideoStream:
        """Chooses the wanted video stream, or the best; never a cover picture or a stream that cannot be decoded."""
        streams = self._container.streams.video
        usable = [stream for stream in streams if _is_video(stream)]
        if wanted is not None:
            chosen = next((stream for stream in usable if stream in streams[wanted : wanted + 1]), None)
        else:
            best = self._container.streams.best("video")
            chosen = next((stream for stream in usable if stream is best), max(usable, key=_n_px, default=None))
        if chosen is not None:
            return chosen
        there_are = [f"{n} ({_size(stream)})" for n, stream in enumerate(streams) if stream in usable]
        self.close()
        if not there_are and _has_no_index(self._address):
            raise SourceError(_no_index(self._address))
        if not there_are:
            raise SourceError(f"{self._address.name} has no video stream that can be decoded; give a video.")
        raise SourceError(f"{self._address.name} has no video stream {wanted}; choose of {', '.join(there_are)}.")

    def _passed_by(self) -> Sequence[Stream]:
        """Returns the streams to read beside the pictures: a camera whose sound goes on may still show nothing."""
        if self._file is None and self.is_live:
            return self._container.streams.audio
        return self._ending.others

    def _select(self, streams: Sequence[Stream]) -> None:
        """Makes the demuxer drop all other streams."""
        for stream in self._container.streams:
            stream.discard = Discard.default if stream in streams else Discard.all
        self._stream.codec_context.flags |= CodecFlags.copy_opaque  # so that a frame knows its packet's place
        if not self.is_live:
            self._stream.codec_context.thread_type = "AUTO"  # threads by frame: faster, but they hold frames back

    def _bound(self, max_px: int) -> None:
        """Refuses a video of too large pictures, and makes the decoder refuse those that come later."""
        codec = self._stream.codec_context
        if codec.width * codec.height > max_px:
            self.close()
            raise SourceError(
                f"{self._address.name} is {codec.width}x{codec.height} and {max_px} pixels are allowed; "
                "give a smaller one."
            )
        codec.options = {"max_pixels": str(2 * max_px)}  # decoders pad their pictures

    def _frames(self) -> Iterator[VideoFrame]:
        try:
            for packet in self._packets():
                yield from self._decode(packet.decode)
        except SourceStalledError:
            yield from self._decode(self._stream.codec_context.decode)  # its last pictures came, and wait there
            self._may_go_on = self._may_go_on and not self._is_fast
            raise

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        streams = self._stream, *self._others
        packets = self._container.demux(*streams)
        shown = time.monotonic()
        while not self._stopped.is_set():
            started = time.monotonic()
            if self._file is not None:
                self._file.expect()
            try:
                packet = next(packets)
            except StopIteration:
                self._check_input(is_over=True)
                if self._hangs_up:
                    raise SourceStalledError(f"{self._address.name} hung up; check that it is up.") from None
                return
            except FFmpegError as error:
                self._check_input(is_over=True)
                self._check_wait(error, started)
                if not isinstance(error, InvalidDataError):
                    raise self._broken_off(error) from None
                self._skip()
                packets = self._container.demux(*streams)  # a generator that raised is spent
            else:
                self._check_input(is_over=False)
                if packet.is_corrupt and not self._may_leap:  # the file ends amid it
                    self._skip()
                elif packet.stream is self._stream:
                    if packet.pos is not None:
                        packet.opaque = packet.pos
                    yield cast("Packet[VideoStream]", packet)
                    shown = time.monotonic()
                else:
                    self._ending.pass_by(packet)
                    self._check_shown(shown)

    def _decode(self, decode: Callable[[], list[VideoFrame]]) -> Iterator[VideoFrame]:
        try:
            frames = decode()
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

    def _check_input(self, *, is_over: bool) -> None:
        if self._input is not None:
            self._input.check(is_over=is_over)

    def _check_wait(self, error: FFmpegError, started: float) -> None:
        # Which error ends an interrupted wait depends on FFmpeg's protocol, so the clock counts as well.
        if self._file is None and (isinstance(error, ExitError) or time.monotonic() - started >= self._timeout_s):
            raise SourceStalledError(
                f"{self._address.name} did not answer for {self._timeout_s:g} s; check that it is up."
            ) from None

    def _check_shown(self, since: float) -> None:
        if self.is_live and time.monotonic() - since >= self._timeout_s:
            raise SourceStalledError(
                f"{self._address.name} showed nothing for {self._timeout_s:g} s; check its picture."
            )

    def _broken_off(self, error: FFmpegError) -> SourceError:
        may_return = self.is_live or self._address.path is None
        kind = SourceStalledError if may_return else SourceError
        return kind(f"{self._address.name} broke off ({error.strerror}); check that it is complete.")


def _is_video(stream: VideoStream) -> bool:
    """Whether a stream can be decoded (FFmpeg may name a codec that it does not have) and is no cover picture."""
    return stream.codec_context is not None and not stream.disposition & Disposition.attached_pic


def _n_px(stream: VideoStream) -> int:
    return stream.codec_context.width * stream.codec_context.height


def _size(stream: VideoStream) -> str:
    return f"{stream.codec_context.width}x{stream.codec_context.height}"


def _has_no_index(address: Address) -> bool:
    return address.path is not None and not address.is_paced and lacks_index(address.path)


def _no_index(address: Address) -> str:
    return f"{address.name} lacks its index (moov), as of a download or a recording that was cut off; get it whole."


def _why_not_opened(error: FFmpegError, address: Address) -> str:
    is_file = not address.target or (address.path is not None and not address.is_paced)
    match error:
        case PermissionError():
            return f"{address.name} may not be read; give this user the right to it."
        case HTTPUnauthorizedError() | HTTPForbiddenError():
            return f"{address.name} asks for other credentials; give them as user:password@ before the host."
        case InvalidDataError() if _has_no_index(address):
            return _no_index(address)
        case ArgumentError() if "format_whitelist" in address.options:
            taken = "MP4, WebM, Matroska, AVI, MPEG-TS, FLV or Ogg"
            return f"{address.name} is in a container that is not taken here; give {taken}."
        case _ if is_file or isinstance(error, InvalidDataError):
            return f"{address.name} is no video that can be read, or a damaged one; check what it is."
        case _:
            return f"{address.name} cannot be opened ({error.strerror}); check the address, and that it is up."
