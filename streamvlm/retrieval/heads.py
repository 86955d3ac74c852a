"""The name of an attention head whose attention finds the evidence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class RetrievalHead:
    """One query head of one decoder layer, both counted from 0."""

    layer: int
    head: int
