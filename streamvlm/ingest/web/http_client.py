"""An HTTP client that checks each URL on the way before it follows it.

It knows nothing of video: it returns the answer to a request, and the URL that gave it. Untrusted URLs can be admitted
first (`Admit`); the connection then goes to the very addresses that were checked, not to what the name resolves to a
moment later, and past the environment's proxies, which would connect to wherever they like.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from urllib.parse import unquote

import httpx2

from streamvlm.errors import SourceError

MAX_REDIRECTS = 5

Admit = Callable[[str], Sequence[str]]
"""Returns the addresses of a URL's host to connect to; raises a `StreamVlmError` if the URL may not be read."""

_CREDENTIALS = re.compile(r"(?<=://)(?P<user>[^/?#:]*):?(?P<password>[^/?#]*)@")

Logins = dict[tuple[str, str, int], "Login"]
"""The login of each scheme, host and port."""


class HttpClient:
    """Requests http and https URLs; has to be closed.

    Credentials in a URL are given to its host alone, as it wants them: Digest or Basic.

    Args:
        name: Of the source, for messages.
        admit: Checks every URL; None admits all, as the system and its proxies reach them.
        timeout_s: How long a host may take to connect, to send the head of its answer, and each piece of it.
    """

    def __init__(self, name: str, admit: Admit | None, *, timeout_s: float) -> None:
        self._name, self._admit, self._timeout_s = name, admit, timeout_s
        self._clients: dict[str, httpx2.AsyncClient] = {}

    async def get(
        self, url: str, headers: dict[str, str] | None = None, logins: Logins | None = None
    ) -> tuple[httpx2.Response, str]:
        """Returns the first answer that is no redirect, its body unread, and the URL that gave it.

        Args:
            url: Of http or https.
            headers: Of the request.
            logins: Logins of earlier requests, to be used again; None uses each only once.

        Raises:
            SourceError: If it is redirected too often, or to another scheme.
            StreamVlmError: If a URL is not admitted.
            httpx2.HTTPError, httpx2.InvalidURL: If a request fails.
        """
        logins = {} if logins is None else logins
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._ask(url, headers or {}, logins)
            if not response.has_redirect_location:
                return response, url
            await response.aclose()
            url = str(httpx2.URL(url).join(response.headers["location"]))
        raise SourceError(f"{self._name} is redirected more than {MAX_REDIRECTS} times; give its own URL.")

    async def close(self) -> None:
        """Ends all connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, scheme: str) -> httpx2.AsyncClient:
        if scheme not in self._clients:
            # For http alone, certificates are not loaded, which takes time.
            trust = httpx2.create_ssl_context() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._clients[scheme] = httpx2.AsyncClient(
                trust_env=self._admit is None,
                verify=trust,
                timeout=self._timeout_s,
                headers={"Accept-Encoding": "identity"},
            )
        return self._clients[scheme]

    async def _ask(self, url: str, headers: dict[str, str], logins: Logins) -> httpx2.Response:
        """Sends the request to the first of the admitted addresses that can be reached."""
        credentials, url = _CREDENTIALS.search(url), _CREDENTIALS.sub("", url)
        addresses = [None] if self._admit is None else await asyncio.to_thread(self._admit, url)
        parsed = httpx2.URL(url)
        if parsed.scheme not in ("http", "https"):
            raise SourceError(f"{self._name} leads to {parsed.scheme or 'no scheme'!r}, which is refused here.")
        origin = (parsed.scheme, parsed.host, parsed.port or (443 if parsed.scheme == "https" else 80))
        if credentials is not None:
            logins[origin] = Login(unquote(credentials["user"]), unquote(credentials["password"]))
        *others, last = addresses
        connect_timeout_s = self._timeout_s / len(addresses)
        for address in others:
            with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._send(self._request(parsed, address, headers, connect_timeout_s), logins.get(origin))
        return await self._send(self._request(parsed, last, headers, connect_timeout_s), logins.get(origin))

    def _request(
        self, parsed: httpx2.URL, address: str | None, headers: dict[str, str], connect_timeout_s: float
    ) -> httpx2.Request:
        """Builds a request; if an address is given, it goes there in the host's name, in its header and in TLS."""
        timeout = httpx2.Timeout(self._timeout_s, connect=connect_timeout_s)
        client = self._client(parsed.scheme)
        if address is None:
            return client.build_request("GET", parsed, headers=headers, timeout=timeout)
        return client.build_request(
            "GET",
            parsed.copy_with(host=address),
            headers={**headers, "Host": parsed.netloc.decode("ascii")},
            timeout=timeout,
            extensions={"sni_hostname": parsed.raw_host.decode("ascii")},
        )

    async def _send(self, request: httpx2.Request, login: Login | None) -> httpx2.Response:
        # The client itself would read every 401 answer to its end, however long that is.
        flow = httpx2.Auth().auth_flow(request) if login is None else login.auth_flow(request)
        request = next(flow)
        while True:
            response = await self._client(request.url.scheme).send(
                request, stream=True, auth=None, follow_redirects=False
            )
            try:
                request = flow.send(response)
            except StopIteration:
                return response
            await response.aclose()


class Login:
    """Digest or Basic, whichever a server asks for; used again for the next request."""

    def __init__(self, user: str, password: str) -> None:
        self._digest, self._basic = httpx2.DigestAuth(user, password), httpx2.BasicAuth(user, password)
        self._is_basic = False

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yields the request again with what its answer asks for; see `httpx2.Auth`."""
        if not self._is_basic:
            flow = self._digest.auth_flow(request)
            request = next(flow)
            while True:
                response = yield request
                try:
                    request = flow.send(response)
                except StopIteration:
                    break
            challenges = response.headers.get_list("www-authenticate")
            self._is_basic = response.status_code == httpx2.codes.UNAUTHORIZED and any(
                challenge.lower().startswith("basic") for challenge in challenges
            )
            if not self._is_basic:
                return
        yield from self._basic.auth_flow(request)
