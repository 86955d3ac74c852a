"""Which sources a client may have the server read: schemes that only fetch, from hosts that are allowed."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaRefusedError
from streamvlm_server.fetch import is_allowed_host, may_connect

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "tcp")
"""What a client may name: never files, and never udp, which listens."""


async def check_source(url: str, config: ServerConfig) -> None:
    """Lets through a URL of an allowed scheme whose host is allowed and lies where it may.

    What the host then redirects to or lists as segments is its own affair: an allowed host is trusted.

    Raises:
        MediaRefusedError: If it may not be read.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise MediaRefusedError("The source's URL cannot be read; write it as scheme://host/path.") from error
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise MediaRefusedError(f"Sources of {scheme or 'no scheme'!r} are not read here, only {', '.join(SCHEMES)}.")
    if scheme in ("tcp", "rtmp", "rtmps") and "listen" in parts.query:
        raise MediaRefusedError("A source is connected to, not listened for; leave `listen` out.")
    if not is_allowed_host(host, config.allowed_media_hosts):
        raise MediaRefusedError(f"Sources on {host!r} are not read here; have the host allowed, or send frames.")
    await _check_address(host, port, config)


async def _check_address(host: str, port: int | None, config: ServerConfig) -> None:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaRefusedError(f"The host {host!r} is not found; check the URL.") from error
    for *_, where in found:
        if not may_connect(ip_address(str(where[0]).partition("%")[0]), config.allowed_media_networks):
            raise MediaRefusedError(f"The host {host!r} lies in a private network, and sources are not read there.")
