"""HLS: a playlist's segments as one video, on the playlist's own clock.

FFmpeg's own reader counts stream time by the segments' presentation times alone, which may start anew or leap at each
discontinuity, and it opens whatever a playlist names, unchecked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.ingest.address import Address
from streamvlm.ingest.clocks import PlaylistClock
from streamvlm.ingest.container import ContainerReader
from streamvlm.ingest.early_end import early_end
from streamvlm.ingest.hls.location import PlaylistLocation
from streamvlm.ingest.hls.playlist import MasterPlaylist, MediaPlaylist, Part, parse
from streamvlm.ingest.hls.segment_queue import PlaylistPlace, SegmentQueue
from streamvlm.ingest.hls.segment_run import SegmentKeys, SegmentRun
from streamvlm.ingest.reader import Decoded

MAX_PLAYLIST_BYTES = 4 << 20
"""A day of segments of two seconds, with their wall times; parsing takes four seconds."""


class HlsReader:
    """Decodes the segments of a playlist; of a master playlist, those of the best variant.

    Args:
        address: Of the playlist.
        location: Opens what it names.
        data: The playlist's text.
        url: Where that was found.
        timeout_s: Longest wait for a host, and for a live playlist that is overdue.
        stream: Which video stream of the segments, counted from 0; None for the best.
        after: How far an earlier connection read it while it was live; stream time goes on from there.
        stopped: When it is set, the reader ends.

    Attributes:
        duration_s: Length in seconds as the playlist states it; None if it is live, or was.
        warning: After the end, what is missing of a recording that ended too early; None if nothing is.

    Raises:
        SourceError: If nothing of it can be read.
    """

    def __init__(
        self,
        address: Address,
        location: PlaylistLocation,
        data: bytes,
        url: str,
        *,
        timeout_s: float,
        stream: int | None = None,
        after: PlaylistPlace | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._address, self._location, self._timeout_s = address, location, timeout_s
        self._stream, self._stopped = stream, stopped or threading.Event()
        playlist, self._url = self._choose(data, url)
        self._queue = SegmentQueue(playlist, self._reload, name=address.name, timeout_s=timeout_s, after=after)
        self._keys = SegmentKeys(location, name=address.name)
        self._clock = PlaylistClock(lambda place: self._run.span_at(place))
        self.duration_s = None if self._queue.was_live else sum(segment.duration_s for segment in playlist.segments)
        self.warning: str | None = None
        self._n_corrupt_packets = 0
        self._container = self._next_container()
        if self._container is None and after is None:
            raise self._nothing()

    @property
    def is_live(self) -> bool:
        """Whether its playlist has no end yet."""
        return self._queue.is_live

    @property
    def place(self) -> PlaylistPlace | None:
        """How far it was read while it was live; None if nothing of it was, or if it is a recording."""
        return self._queue.place

    @property
    def n_corrupt_packets(self) -> int:
        """Segments that could not be read so far, and packets that were damaged."""
        under_way = 0 if self._container is None else self._container.n_corrupt_packets
        return self._n_corrupt_packets + self._queue.n_missing + under_way

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yields (stream time in seconds, decoded picture) in order.

        Raises:
            SourceStalledError: If a live playlist is overdue.
            SourceError: If too many segments in a row cannot be read.
        """
        ended_s = longest_gap_s = 0.0
        while self._container is not None and not self._stopped.is_set():
            for time_s, decoded in self._container:
                longest_gap_s = max(longest_gap_s, time_s - ended_s)
                ended_s = time_s
                yield time_s, decoded
            self._container.close()
            self._n_corrupt_packets += self._container.n_corrupt_packets
            self._container = self._next_container()
        if self.duration_s is not None and not self._stopped.is_set():  # of segments whose lengths may be rounded
            slack_s = max(self.duration_s / 10, longest_gap_s)
            self.warning = early_end(self._address.name, ended_s, self.duration_s, slack_s)

    def close(self) -> None:
        """Ends all waiting and closes the segment that is being read."""
        self._queue.close()
        if self._container is not None:
            self._container.close()

    def _choose(self, data: bytes, url: str) -> tuple[MediaPlaylist, str]:
        """Returns the playlist itself, or the best variant that it names and that can be read."""
        playlist = self._parse(data, url)
        if isinstance(playlist, MediaPlaylist):
            return playlist, url
        failure = SourceError(f"{self._address.name} names nothing to choose from; check that it is whole.")
        for variant in playlist.variants:
            try:
                return self._load(variant)
            except SourceError as error:
                failure = error
        raise failure

    def _reload(self) -> MediaPlaylist:
        playlist, _ = self._load(self._url)
        return playlist

    def _load(self, url: str) -> tuple[MediaPlaylist, str]:
        data, found = self._location.read(Part(url), max_bytes=MAX_PLAYLIST_BYTES)
        playlist = self._parse(data, found)
        if isinstance(playlist, MasterPlaylist):
            raise SourceError(f"{self._address.name} names a playlist of playlists where segments belong; check it.")
        return playlist, url

    def _parse(self, data: bytes, url: str) -> MediaPlaylist | MasterPlaylist:
        return parse(data, lambda line: self._location.join(url, line), name=self._address.name)

    def _nothing(self) -> SourceError:
        refusal = f"{self._address.name} is no video that can be read"
        if self._queue.failure is None:
            return SourceError(f"{refusal}: it names no segments; check that it is whole.")
        return SourceError(f"{refusal}, as nothing that it names can be had: {self._queue.failure}")

    def _next_container(self) -> ContainerReader | None:
        """Opens the next run that is video; None at the end."""
        while self._queue.peek() is not None:
            self._run = SegmentRun(self._queue, self._location, self._keys, name=self._address.name)
            self._clock.start_run()
            try:
                return ContainerReader(
                    self._address,
                    timeout_s=self._timeout_s,
                    file=self._run,
                    clock=self._clock,
                    stream=self._stream,
                    stopped=self._stopped,
                )
            except SourceError as error:
                if isinstance(error, SourceStalledError) or error is self._queue.failure:
                    raise
                if self._run.place:  # an advertisement without pictures, an error page
                    self._queue.missed(error)
        return None
