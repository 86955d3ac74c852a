"""Opens video: `open_source` turns a path, camera or URL into sampled frames with stream times.

`open_upload` does the same for an untrusted file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Self

from streamvlm.errors import SourceError, UsageError
from streamvlm.frame import Frame
from streamvlm.ingest.address import locate, locate_upload
from streamvlm.ingest.container import ContainerReader
from streamvlm.ingest.disk_file import MAX_KEPT_BYTES
from streamvlm.ingest.hls.reader import HlsReader
from streamvlm.ingest.hls.segment_queue import PlaylistPlace
from streamvlm.ingest.mistaken import what_is
from streamvlm.ingest.reader import Reader
from streamvlm.ingest.sampling import MAX_FPS, sample
from streamvlm.ingest.source_opener import SourceOpener
from streamvlm.ingest.stills.kinds import HEAD_BYTES
from streamvlm.ingest.stills.still import StillReader, read_still
from streamvlm.ingest.web.http_client import Admit

_UPLOAD_TIMEOUT_S = 10.0


class FrameSource(Iterator[Frame]):
    """Sampled frames of one source, once through; a context manager that closes it.

    Reading blocks until the next sampled frame is there, so a live source wants a thread of its own.

    Attributes:
        uri: The source as it was asked for, without credentials and query.
        n_frames: Frames sampled so far.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        uri: str,
        fps: float,
        opened: ExitStack | None = None,
        stopped: threading.Event | None = None,
        may_be_over: bool = False,
    ) -> None:
        self.uri = uri
        self.n_frames = 0
        self._may_be_over = may_be_over
        self._reader, self._opened, self._stopped = reader, opened or ExitStack(), stopped or threading.Event()
        self._frames = self._sample(fps)

    @property
    def duration_s(self) -> float | None:
        """Length in seconds of stream time; None if unknown or live."""
        return self._reader.duration_s

    @property
    def is_live(self) -> bool:
        """Whether it has no end yet: a camera, a push protocol, an unfinished playlist or download."""
        return self._reader.is_live

    @property
    def n_corrupt_packets(self) -> int:
        """Damaged packets (in a folder: pictures) skipped so far."""
        return self._reader.n_corrupt_packets

    @property
    def warning(self) -> str | None:
        """After the end, a sentence on what is wrong, such as that it ended early; None if nothing is."""
        return self._reader.warning

    @property
    def place(self) -> PlaylistPlace | None:
        """How far a live playlist was read, for ``open_source`` to go on after it; None for any other source."""
        return self._reader.place if isinstance(self._reader, HlsReader) else None

    def __next__(self) -> Frame:
        """Returns the next sampled frame.

        Raises:
            SourceStalledError: If a live or remote source stops answering.
            SourceError: If it is damaged beyond reading on, or ends without one readable picture.
        """
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Ends the frames, from any thread: with the next packet, or when that is overdue."""
        self._stopped.set()

    def close(self) -> None:
        """Closes the file, connection or device; no more frames come."""
        self._opened.close()  # which ends all waiting
        self._frames.close()
        self._reader.close()

    def _sample(self, fps: float) -> Generator[Frame, None, None]:
        wanted = takewhile(lambda _: not self._stopped.is_set(), self._reader)
        with self._opened:  # threads and connections end with the last picture
            for time_s, decoded in sample(wanted, fps):
                index, self.n_frames = self.n_frames, self.n_frames + 1
                yield Frame(index, time_s, decoded(), wall_s=time.time() if self.is_live else None)
        if not (self.n_frames or self._may_be_over or self._stopped.is_set()):
            raise SourceError(f"{self.uri} holds no readable picture; check that it is whole.")


def open_source(
    uri: str,
    *,
    fps: float = 1.0,
    timeout_s: float = 10.0,
    stream: int | None = None,
    admit: Admit | None = None,
    max_kept_bytes: int = MAX_KEPT_BYTES,
    after: PlaylistPlace | None = None,
) -> FrameSource:
    """Opens a video file, picture or animation, folder of pictures, camera device, playlist or stream URL.

    Args:
        uri: A path, or a URL of file, http, https, rtsp, rtsps, rtmp, rtmps, udp or tcp; no other.
        fps: Frames to sample from a second of stream time, in (0, 1000]: the first at or after each k / fps,
            none twice. The pictures of a folder are 1 / fps apart, so all of them are taken.
        timeout_s: Longest wait for a host or device: for its answer, and for each packet.
        stream: Which of its video streams, counted from 0; by default the best. Cover pictures do not count.
        admit: Checks the URL of a source on the web, and every URL that it leads to by redirects and playlists; by
            default all are followed.
        max_kept_bytes: Most bytes to copy to disk of a file that cannot be read as it comes: an MP4 with its index at
            its end, from a server that sends no parts of it.
        after: The `place` of a source that broke off, of the same URI. A live playlist goes on from there in segments
            and stream time, and may be over; other sources have no place.

    Raises:
        UsageError: If fps or timeout_s is out of range.
        SourceError: If it cannot be opened: missing, forbidden, empty, no video, refused, not answering.
    """
    _check_fps(fps)
    if not timeout_s > 0:
        raise UsageError(f"timeout_s is {timeout_s}; give seconds above 0.")
    address, stopped = locate(uri), threading.Event()
    with ExitStack() as opened:
        reader = SourceOpener(opened, stopped, fps, timeout_s, stream, admit, max_kept_bytes, after).open(address)
        return FrameSource(
            reader, uri=address.name, fps=fps, opened=opened.pop_all(), stopped=stopped, may_be_over=after is not None
        )


def open_upload(path: Path, *, name: str, fps: float, max_px: int) -> FrameSource:
    """Opens an untrusted video file; it is read as one video, and references to other files are not followed.

    Args:
        path: Of the file.
        name: What to call it in messages.
        fps: Frames to sample from a second of stream time, in (0, 1000].
        max_px: Most pixels of a picture.

    Raises:
        UsageError: If fps is out of range.
        SourceError: If it is no video, a playlist, damaged or too large.
    """
    _check_fps(fps)
    with path.open("rb") as file:
        what = what_is(file.read(HEAD_BYTES))
    if what == "a playlist":
        raise SourceError(f"{name} is a playlist, which is not followed here; send the video, or open it as a source.")
    if what == "a web page":
        raise SourceError(f"{name} is a web page, not a video; give the address of the video itself.")
    reader: Reader
    if (data := read_still(path)) is not None:
        reader = StillReader(data, name=name, max_px=max_px)
    else:
        reader = ContainerReader(locate_upload(path, name), timeout_s=_UPLOAD_TIMEOUT_S, max_px=max_px)
    return FrameSource(reader, uri=name, fps=fps)


def _check_fps(fps: float) -> None:
    if not 0 < fps <= MAX_FPS:
        raise UsageError(f"fps is {fps}; give frames a second, above 0 and at most {MAX_FPS:g}.")
