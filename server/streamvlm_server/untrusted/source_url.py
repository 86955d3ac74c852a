"""Which sources a client may have the server read: schemes that only fetch, from hosts that are allowed.

Web sources are read by our own client (`streamvlm.ingest.web.opener`): redirects, playlists, segments and keys are
looked at as well, and the connection goes to the address that was.

FFmpeg itself reads the others, and looks their hosts up again. `tcp` and `rtmp` lead nowhere else. An RTSP server may
answer with a redirect, which FFmpeg follows, and there is no option against it: whoever runs an allowed host of `rtsp`
or `rtsps` can have this server speak RTSP to any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError
from streamvlm_server.untrusted import fetch

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "tcp")
"""What a client may name: never files, and never udp, which listens."""

WEB_SCHEMES = ("http", "https")
"""What a web source may lead to."""


async def check_source(url: str, config: ServerConfig) -> None:
    """Lets through a URL of an allowed scheme whose host is allowed and lies where it may.

    Raises:
        MediaRefusedError: If it may not be read.
    """
    await asyncio.to_thread(admit, url, config, SCHEMES)


def admit(url: str, config: ServerConfig, schemes: Sequence[str] = WEB_SCHEMES) -> list[str]:
    """The addresses of a URL's host, if it may be read; looks its name up, and so waits.

    Raises:
        MediaRefusedError: If it may not.
    """
    addresses = fetch.admit(url, config=config, schemes=schemes, what="Sources")
    parts = urlsplit(url)
    if parts.scheme in ("tcp", "rtmp", "rtmps") and "listen" in parts.query:
        raise MediaRefusedError("A source is connected to, not listened for; leave `listen` out.")
    return addresses
