"""HLS: a playlist's segments as one video, on the playlist's own clock.

FFmpeg's own reader counts stream time by the segments' presentation times alone, which may start anew or leap at each
discontinuity, and it asks nobody before it opens what a playlist names.
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
from streamvlm.ingest.hls.segment_feed import SegmentFeed
from streamvlm.ingest.hls.segment_run import SegmentKeys, SegmentRun
from streamvlm.ingest.reader import Decoded

MAX_PLAYLIST_BYTES = 4 << 20
"""A day of segments of two seconds, with their wall times; parsing takes four seconds."""


class HlsReader:
    """Decodes what a playlist names; of a master playlist, its best picture.

    Args:
        address: Of the playlist.
        shelf: Opens what it names.
        data: The playlist, as far as it was read.
        url: Where that was found.
        timeout_s: How long a host may keep us waiting, and a live playlist may be overdue.
        stream: Which video stream of the segments, counted from 0; None for the best.
        stopped: Set once no more is wanted of it.

    Attributes:
        duration_s: Length in seconds as the playlist states it; None if it is live.
        warning: What is missing, once a recording has been read that ends too early; None if nothing is.

    Raises:
        SourceError: If nothing of it can be read.
    """

    def __init__(
        self,
        address: Address,
        shelf: PlaylistLocation,
        data: bytes,
        url: str,
        *,
        timeout_s: float,
        stream: int | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._address, self._shelf, self._timeout_s = address, shelf, timeout_s
        self._stream, self._stopped = stream, stopped or threading.Event()
        playlist, self._url = self._choose(data, url)
        self._feed = SegmentFeed(playlist, self._reload, name=address.name, timeout_s=timeout_s)
        self._keys = SegmentKeys(shelf, name=address.name)
        self._clock = PlaylistClock(lambda place: self._run.span_at(place))
        self.duration_s = None if self.is_live else sum(segment.duration_s for segment in playlist.segments)
        self.warning: str | None = None
        self._n_corrupt_packets = 0
        self._container = self._next_container()
        if self._container is None:
            raise self._nothing()

    @property
    def is_live(self) -> bool:
        """Whether its playlist has no end yet."""
        return self._feed.is_live

    @property
    def n_corrupt_packets(self) -> int:
        """Segments that could not be had so far, and packets that were damaged."""
        under_way = 0 if self._container is None else self._container.n_corrupt_packets
        return self._n_corrupt_packets + self._feed.n_missing + under_way

    def __iter__(self) -> Iterator[tuple[float, Decoded]]:
        """Yield (stream time in seconds, decoded picture) in order.

        Raises:
            SourceStalledError: If a live playlist is overdue.
            SourceError: If too many segments in a row cannot be had.
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
        """Let go of everything."""
        self._feed.close()
        if self._container is not None:
            self._container.close()

    def _choose(self, data: bytes, url: str) -> tuple[MediaPlaylist, str]:
        """The playlist itself, or the best that it names and that can be had."""
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
        data, found = self._shelf.read(Part(url), max_bytes=MAX_PLAYLIST_BYTES)
        playlist = self._parse(data, found)
        if isinstance(playlist, MasterPlaylist):
            raise SourceError(f"{self._address.name} names a playlist of playlists where segments belong; check it.")
        return playlist, url

    def _parse(self, data: bytes, url: str) -> MediaPlaylist | MasterPlaylist:
        return parse(data, lambda line: self._shelf.join(url, line), name=self._address.name)

    def _nothing(self) -> SourceError:
        told = f"{self._address.name} is no video that can be read"
        if self._feed.failure is None:
            return SourceError(f"{told}: it names no segments; check that it is whole.")
        return SourceError(f"{told}, as nothing that it names can be had: {self._feed.failure}")

    def _next_container(self) -> ContainerReader | None:
        """Opens the next run that is video; None at the end."""
        while self._feed.peek() is not None:
            self._run = SegmentRun(self._feed, self._shelf, self._keys, name=self._address.name)
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
                if isinstance(error, SourceStalledError) or error is self._feed.failure:
                    raise
                if self._run.place:  # an advertisement of sound alone, a page that says sorry
                    self._feed.missed(error)
        return None
