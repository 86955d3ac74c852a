"""Finds out what a source is by where it is and how it begins, never by its name, and opens its reader."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from streamvlm.errors import SourceError
from streamvlm.ingest.address import WEB, Address, as_strangers
from streamvlm.ingest.container import ContainerReader
from streamvlm.ingest.disk_file import DiskFile, copy_to_disk, has_index_behind
from streamvlm.ingest.folder import FolderReader
from streamvlm.ingest.hls.location import PlaylistLocation
from streamvlm.ingest.hls.playlist import is_playlist
from streamvlm.ingest.hls.reader import MAX_PLAYLIST_BYTES, HlsReader
from streamvlm.ingest.hls.segment_queue import PlaylistPlace
from streamvlm.ingest.incoming_bytes import IncomingBytes
from streamvlm.ingest.raw import is_motion_jpeg, raw_format
from streamvlm.ingest.reader import Reader
from streamvlm.ingest.receiver import Receiver
from streamvlm.ingest.senders import Pieces, connect, from_file, from_pipe, from_socket
from streamvlm.ingest.stills.kinds import HEAD_BYTES
from streamvlm.ingest.stills.still import StillReader, is_still, read_still
from streamvlm.ingest.web.http_client import Admit
from streamvlm.ingest.web.mjpeg import MultipartReader
from streamvlm.ingest.web.multipart import boundary_of, is_multipart
from streamvlm.ingest.web.opener import WebFile, WebOpener

_MARK_BYTES = 16  # of which a live source sends the first soon
_PART_BYTES = 512  # a boundary and its headers
_PICTURE_BYTES = 8 << 20
_MAX_STILL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """Opens sources.

    Attributes:
        opened: What has to be closed with the source.
        stopped: When it is set, the source ends.
        fps: Frames to sample from a second of stream time.
        timeout_s: Longest wait for a host or device.
        stream: Which video stream, counted from 0; None for the best.
        admit: Checks every URL on the web; None admits all.
        max_kept_bytes: Most bytes to copy to disk of a file that cannot be read as it comes.
        after: How far an earlier connection read a live playlist.
    """

    opened: ExitStack
    stopped: threading.Event
    fps: float
    timeout_s: float
    stream: int | None
    admit: Admit | None
    max_kept_bytes: int
    after: PlaylistPlace | None

    def open(self, address: Address) -> Reader:
        """Opens a source.

        Raises:
            SourceError: If it cannot be opened.
            StreamVlmError: If it is not admitted.
        """
        reader = self._open(address)
        if self.stream and not isinstance(reader, ContainerReader | HlsReader):
            reader.close()
            raise SourceError(f"{address.name} has no video stream {self.stream}; choose 0, or none.")
        return reader

    def _open(self, address: Address) -> Reader:
        scheme = address.target.partition("://")[0]
        if address.path is not None:
            return self._open_path(address, address.path)
        if scheme in WEB:
            return self._open_web(address if self.admit is None else as_strangers(address))
        if scheme == "tcp":
            connection = connect(address.target, name=address.name, timeout_s=self.timeout_s)
            hang_up = partial(_hang_up, connection)
            return self._open_bytes(
                address, self._receiver(address, from_socket(connection, name=address.name), hang_up)
            )
        return self._container(address)

    def _open_path(self, address: Address, path: Path) -> Reader:
        if path.is_dir():
            return FolderReader(path, fps=self.fps)
        if path.is_fifo():
            return self._open_bytes(address, self._receiver(address, from_pipe(path)))
        head = _head_of(path)
        if is_playlist(head):
            with DiskFile(path.open("rb")) as file:
                data = file.read_all(MAX_PLAYLIST_BYTES)
            return self._open_playlist(address, data, str(path), self._opener(address))
        if is_multipart(head):
            return self._open_bytes(address, DiskFile(path.open("rb")))
        if is_motion_jpeg(head):
            return self._container(replace(address, demuxer="mjpeg"))
        if (still := read_still(path)) is not None:
            return StillReader(still, name=address.name)
        return self._container(address)

    def _open_web(self, address: Address) -> Reader:
        opener = self._opener(address)
        file = opener.open(address.target)
        boundary = boundary_of(file.media_type)
        if boundary is None and is_playlist(file.peek(_MARK_BYTES)):
            return self._open_playlist(address, file.read_all(MAX_PLAYLIST_BYTES), file.url, opener)
        if boundary is None and _is_still(file):
            return StillReader(file.read_all(_MAX_STILL_BYTES), name=address.name)
        is_whole = file.size is not None
        return self._open_bytes(address, file if is_whole else self._receiver(address, from_file(file)), boundary)

    def _open_playlist(self, address: Address, data: bytes, url: str, opener: WebOpener) -> Reader:
        address, location = replace(address, target=""), PlaylistLocation(opener)
        return HlsReader(
            address,
            location,
            data,
            url,
            timeout_s=self.timeout_s,
            stream=self.stream,
            after=self.after,
            stopped=self.stopped,
        )

    def _open_bytes(self, address: Address, file: IncomingBytes, boundary: str | None = None) -> Reader:
        """Opens a source that comes as bytes; `boundary` is set if it was announced to come in parts."""
        self.opened.callback(file.close)
        mark = file.peek(_MARK_BYTES)
        if not mark and boundary is None:
            raise SourceError(f"{address.name} is empty; give a video.")
        if boundary is not None or (mark.lstrip().startswith(b"--") and is_multipart(file.peek(_PART_BYTES))):
            return MultipartReader(file, boundary or "", name=address.name)
        if not file.seekable() and has_index_behind(file):
            file = copy_to_disk(file, name=address.name, max_bytes=self.max_kept_bytes)
        demuxer = raw_format(mark) if isinstance(file, Receiver) else None
        return self._container(replace(address, target="", demuxer=demuxer), file)

    def _container(self, address: Address, file: IncomingBytes | None = None) -> ContainerReader:
        return ContainerReader(address, timeout_s=self.timeout_s, file=file, stream=self.stream, stopped=self.stopped)

    def _opener(self, address: Address) -> WebOpener:
        opener = WebOpener(address.name, self.admit, timeout_s=self.timeout_s)
        self.opened.callback(opener.close)
        return opener

    def _receiver(self, address: Address, pieces: Pieces, wake: Callable[[], None] = lambda: None) -> Receiver:
        return Receiver(address.name, pieces, timeout_s=self.timeout_s, wake=wake)


def _head_of(path: Path) -> bytes:
    """Returns how a file begins; nothing if it cannot be read, as FFmpeg then says why."""
    if path.is_file():
        with suppress(OSError), path.open("rb") as file:
            return file.read(_PICTURE_BYTES)
    return b""


def _is_still(file: WebFile) -> bool:
    """Whether a file is a picture or an animation; a JPEG may also be the first of those that a camera sends."""
    if file.size is None:
        return file.media_type.lower().startswith("image/")
    return is_still(file.peek(HEAD_BYTES)) and is_still(file.peek(_PICTURE_BYTES))


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the peer may have hung up before
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
