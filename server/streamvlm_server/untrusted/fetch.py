"""Fetches media from allowed hosts, and from nowhere else.

A client could send a server that fetches URLs into its own network. So schemes and hosts are allow-listed, and the name
is resolved here (`admit`); `streamvlm.ingest.web.http_client` then connects to the very address that was checked, and
checks each redirect as a new URL. Bytes and time are bounded; bytes are taken as they come, so nothing is unpacked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpx2

from streamvlm.errors import SourceError
from streamvlm.ingest.web.http_client import HttpClient
from streamvlm.ingest.web.multipart import boundary_of
from streamvlm.readable import size
from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaFetchError, MediaRefusedError, MediaUrlError, TooLargeError

_UNREADABLE = "The URL cannot be read; write it as scheme://host/path."
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes at a URL, and whether all of them came."""

    data: bytes
    is_whole: bool = True


class MediaFetcher:
    """Fetches media within the bounds of a configuration; has to be closed."""

    def __init__(self, config: ServerConfig) -> None:
        self._timeout_s = config.media_timeout_s
        admitted = partial(admit, config=config, schemes=config.allowed_media_schemes, what="Media")
        self._follower = HttpClient("The media", admitted, timeout_s=self._timeout_s)

    async def fetch(self, url: str, *, max_bytes: int) -> Fetched:
        """Fetches the bytes at a URL; if its host breaks off, those that came.

        Raises:
            MediaUrlError: If it is none.
            MediaRefusedError: If it may not be fetched.
            TooLargeError: If it has more than ``max_bytes``.
            MediaFetchError: If it cannot be fetched, or not in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                response, _ = await self._follower.get(url)
                async with aclosing(response):
                    return await _body(response, max_bytes)
        except TimeoutError as error:
            raise MediaFetchError(
                f"The media did not come within {self._timeout_s:g} s; send it as a data URL."
            ) from error
        except SourceError as error:
            raise MediaRefusedError(str(error)) from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise MediaFetchError(
                f"The media cannot be fetched ({error or type(error).__name__}); check the URL."
            ) from error

    async def close(self) -> None:
        """Ends all connections."""
        await self._follower.close()


def admit(url: str, *, config: ServerConfig, schemes: Sequence[str], what: str) -> list[str]:
    """Returns the addresses of a URL's host, if it may be read; looks the name up, and so blocks.

    Args:
        url: A URL from a client, or one that it has led to.
        config: Configuration with the allowed hosts and networks.
        schemes: The allowed schemes.
        what: What is read, in the plural, for messages.

    Raises:
        MediaUrlError: If it is none.
        MediaRefusedError: If it may not.
        MediaFetchError: If its host is not found.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise MediaUrlError(_UNREADABLE) from error
    if scheme not in schemes:
        allowed = ", ".join(schemes) or "none"
        raise MediaRefusedError(f"{what} of {scheme or 'no scheme'!r} are not read here, only {allowed}.")
    if not host:
        raise MediaUrlError(_UNREADABLE)
    if not is_allowed_host(host, config.allowed_media_hosts):
        raise MediaRefusedError(
            f"{what} on {host!r} are not read here; have the host allowed, or send the data itself."
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MediaFetchError(f"The host {host!r} is not found; check the URL.") from error
    addresses = [str(where[0]) for *_, where in found]
    if not all(may_connect(ip_address(one.partition("%")[0]), config.allowed_media_networks) for one in addresses):
        raise MediaRefusedError(f"The host {host!r} lies in a private network, and {what.lower()} are not read there.")
    return addresses


def is_allowed_host(host: str, allowed: Sequence[str]) -> bool:
    """Whether a host is one of the allowed: a name, ``*.example.org`` for all names below one, or ``*`` for all."""
    host = host.lower().rstrip(".")
    for pattern in (pattern.lower() for pattern in allowed):
        if pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return True
    return False


def may_connect(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is public or in an allowed network; of one that embeds another, the embedded one counts."""
    inner = _embedded(address)
    if any(inner in network for network in networks):
        return True
    return inner.is_global and not inner.is_multicast


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def _body(response: httpx2.Response, max_bytes: int) -> Fetched:
    if response.status_code != httpx2.codes.OK:
        raise MediaFetchError(f"Its host answered {response.status_code} for the media; check the URL.")
    if boundary_of(response.headers.get("content-type", "")) is not None:
        raise MediaFetchError("The media is a live stream (MJPEG); have the server read it with streamvlm.source.open.")
    body = bytearray()
    try:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > max_bytes:
                raise TooLargeError(f"The media has more than the {size(max_bytes)} allowed; give a smaller one.")
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):
        if not body:
            raise
        return Fetched(bytes(body), is_whole=False)
    return Fetched(bytes(body))
