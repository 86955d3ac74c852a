"""Fetches media from allowed hosts, and from nowhere else.

A server that fetches what a client names can be sent into its own network. So scheme and host are allow-listed, the
name is resolved here, and the connection goes to the very address that was checked, not to what the name means a moment
later. Redirects are followed by hand, each as a new URL. Bytes and time are bounded; the bytes are taken as they come,
so that nothing is unpacked either.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaFetchError, MediaRefusedError, TooLargeError

MAX_REDIRECTS = 3
_UNREADABLE = "The media URL cannot be read; write it as https://host/path."
_NAT64 = IPv6Network("64:ff9b::/96")


class MediaFetcher:
    """Fetches media within the bounds of a configuration; to be closed."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        # The environment's proxies would connect to wherever they like.
        self._client = httpx2.AsyncClient(
            trust_env=False, timeout=config.media_timeout_s, headers={"Accept-Encoding": "identity"}
        )

    async def fetch(self, url: str, *, max_bytes: int) -> bytes:
        """Returns what is at a URL.

        Raises:
            MediaRefusedError: If it may not be fetched.
            TooLargeError: If it has more than ``max_bytes``.
            MediaFetchError: If it cannot be had, or not in time.
        """
        try:
            async with asyncio.timeout(self._config.media_timeout_s):
                return await self._follow(_parsed(url), max_bytes)
        except TimeoutError as error:
            raise MediaFetchError(
                f"The media did not come within {self._config.media_timeout_s:g} s; send it as a data URL."
            ) from error
        except httpx2.HTTPError as error:
            raise MediaFetchError(
                f"The media cannot be fetched ({error or type(error).__name__}); check the URL."
            ) from error

    async def close(self) -> None:
        """Ends all connections."""
        await self._client.aclose()

    async def _follow(self, url: httpx2.URL, max_bytes: int) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            request = await self._request(url)
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                if not response.has_redirect_location:
                    return await _body(response, url.host, max_bytes)
                url = _parsed(str(url.join(response.headers["location"])))
            finally:
                await response.aclose()
        raise MediaRefusedError(f"The media is redirected more than {MAX_REDIRECTS} times; give its own URL.")

    async def _request(self, url: httpx2.URL) -> httpx2.Request:
        """A request to the checked address, in the name of the host: in its header, and in TLS."""
        self._check_allowed(url)
        address = await self._resolve(url)
        return self._client.build_request(
            "GET",
            url.copy_with(host=str(address)),
            headers={"Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )

    def _check_allowed(self, url: httpx2.URL) -> None:
        if url.scheme not in self._config.allowed_media_schemes:
            schemes = ", ".join(self._config.allowed_media_schemes) or "none"
            raise MediaRefusedError(f"Media is not fetched by {url.scheme or 'no scheme'!r} here, only by {schemes}.")
        if not is_allowed_host(url.raw_host.decode("ascii"), self._config.allowed_media_hosts):
            raise MediaRefusedError(
                f"Media is not fetched from {url.host!r} here; send it as a data URL, or have the host allowed."
            )

    async def _resolve(self, url: httpx2.URL) -> IPv4Address | IPv6Address:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise MediaFetchError(f"The host {url.host!r} is not found; check the URL.") from error
        for *_, where in found:
            address = ip_address(str(where[0]).partition("%")[0])
            if may_connect(address, self._config.allowed_media_networks):
                return address
        raise MediaRefusedError(
            f"The host {url.host!r} lies in a private network, and media is not fetched from there."
        )


def is_allowed_host(host: str, allowed: Sequence[str]) -> bool:
    """Whether a host is one of the allowed: a name, ``*.example.org`` for all names below one, or ``*`` for all."""
    host = host.lower().rstrip(".")
    for pattern in (pattern.lower() for pattern in allowed):
        if pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:])):
            return True
    return False


def may_connect(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether an address is public, or in an allowed network; one that stands for another is judged as that one."""
    inner = _meant(address)
    if any(inner in network for network in networks):
        return True
    return inner.is_global and not inner.is_multicast


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _parsed(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise MediaRefusedError(_UNREADABLE) from error
    if parsed.scheme in ("http", "https") and not parsed.host:
        raise MediaRefusedError(_UNREADABLE)
    return parsed


async def _body(response: httpx2.Response, host: str, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise MediaFetchError(f"The host {host!r} answered {response.status_code} for the media; check the URL.")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise TooLargeError(f"The media has more than the {max_bytes} bytes allowed; give a smaller one.")
    return bytes(body)
