"""Checks the sources that a client lets the server read: schemes that only fetch, on hosts that are allowed.

Web sources are read by our own client (`streamvlm.ingest.web.opener`): redirects, playlists, segments and keys are
checked too, and the connection goes to the address that was checked.

FFmpeg itself reads the others, and looks their hosts up again. `tcp` and `rtmp` lead nowhere else. An RTSP server may
answer with a redirect, which FFmpeg follows, and no option forbids it: an allowed host of `rtsp` or `rtsps` can make
this server speak RTSP to any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from streamvlm.errors import SourceError
from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError, MediaUrlError
from streamvlm_server.untrusted import fetch

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "tcp")
"""Schemes that a client may name: no files, and not udp, which listens."""

WEB_SCHEMES = ("http", "https")
"""Schemes that a web source may lead to."""


async def check_source(url: str, config: ServerConfig) -> None:
    """Checks that a URL has an allowed scheme and host, in an allowed network.

    Raises:
        SourceError: If it is no URL.
        MediaRefusedError: If it may not be read.
    """
    await asyncio.to_thread(admit, url, config, SCHEMES)


def admit(url: str, config: ServerConfig, schemes: Sequence[str] = WEB_SCHEMES) -> list[str]:
    """Returns the addresses of a URL's host, if it may be read; looks the name up, and so blocks.

    Raises:
        SourceError: If it is no URL.
        MediaRefusedError: If it may not.
    """
    try:
        addresses = fetch.admit(url, config=config, schemes=schemes, what="Sources")
    except MediaUrlError as error:  # whose code is that of a part of a request
        raise SourceError(str(error)) from error
    parts = urlsplit(url)
    if parts.scheme in ("tcp", "rtmp", "rtmps") and "listen" in parts.query:
        raise MediaRefusedError("A source is connected to, not listened for; leave `listen` out.")
    return addresses
