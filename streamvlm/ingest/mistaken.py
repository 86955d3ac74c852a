"""Names what a file is that was given for something else: a playlist, a web page, or a video."""

from __future__ import annotations

import re

from streamvlm.ingest.hls.playlist import is_playlist

_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|(?:<!.*?>\s*)?<html)[\s>]", re.IGNORECASE | re.DOTALL)
_VIDEO = re.compile(
    rb"\0...(?:ftyp|moov|mdat|wide|free|skip)"  # MP4 and QuickTime
    rb"|\x1a\x45\xdf\xa3"  # Matroska and WebM
    rb"|RIFF....AVI |FLV\x01|OggS|\0\0\x01\xba"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # ASF
    rb"|G.{187}G.{187}G",  # MPEG-TS
    re.DOTALL,
)


def what_is(head: bytes) -> str | None:
    """Returns what a file is that begins so, for messages; None if it is none of these."""
    if is_playlist(head):
        return "a playlist"
    if _WEB_PAGE.match(head):
        return "a web page"
    return "a video" if _VIDEO.match(head) else None
