"""Which sources a client may have the server read: schemes that only fetch, from hosts that are allowed.

Web sources are followed by our own hand (`streamvlm.ingest.web`): redirects, playlists, segments and keys are looked at
as well, and the connection goes to the address that was. What is encrypted cannot be read that way.

FFmpeg itself reads the others, and looks their hosts up again. `tcp` and `rtmp` lead nowhere else. An RTSP server may
answer with a redirect, which FFmpeg follows, and there is no option against it: whoever runs an allowed host of `rtsp`
or `rtsps` can have this server speak RTSP to any other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError
from streamvlm_server.fetch import is_allowed_host, may_connect

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
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise MediaRefusedError("The source's URL cannot be read; write it as scheme://host/path.") from error
    scheme = parts.scheme.lower()
    if scheme not in schemes:
        raise MediaRefusedError(f"Sources of {scheme or 'no scheme'!r} are not read here, only {', '.join(schemes)}.")
    if scheme in ("tcp", "rtmp", "rtmps") and "listen" in parts.query:
        raise MediaRefusedError("A source is connected to, not listened for; leave `listen` out.")
    if not is_allowed_host(host, config.allowed_media_hosts):
        raise MediaRefusedError(f"Sources on {host!r} are not read here; have the host allowed, or send frames.")
    return _addresses(host, port, config)


def _addresses(host: str, port: int | None, config: ServerConfig) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaRefusedError(f"The host {host!r} is not found; check the URL.") from error
    addresses = [str(where[0]) for *_, where in found]
    if not all(may_connect(ip_address(one.partition("%")[0]), config.allowed_media_networks) for one in addresses):
        raise MediaRefusedError(f"The host {host!r} lies in a private network, and sources are not read there.")
    return addresses
