"""Runs an answer alone."""

from __future__ import annotations

from collections.abc import Iterator

from streamvlm.decoding.decoder import Generation, StreamDecoder


def generated(decoder: StreamDecoder, generation: Generation) -> Iterator[int]:
    """Token ids of an answer, a pass each."""
    while generation.addition is not None:
        (read,) = decoder.extend([generation.addition])
        if (token := generation.take(read)) is not None:
            yield token
