"""API keys: who sends a request, what it may use, and from which web pages it may come.

Keys are kept hashed. Without keys the server is open, but to this machine alone: it refuses to listen elsewhere, and
answers no web pages but those that this machine serves.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamvlm.errors import UsageError
from streamvlm_server.access.limits import Limits, Meter
from streamvlm_server.errors import AuthError, OriginError

SUBPROTOCOL_KEY = "openai-insecure-api-key."
"""Prefix of a key among a WebSocket's subprotocols: browsers put it there, as they cannot set headers."""


class KeyEntry(Limits):
    """A ``[[keys]]`` table of the keys file: the hash, owner and limits of a key.

    Attributes:
        sha256: SHA-256 of the key, in hexadecimal.
        owner: Owner of the sessions that the key sees; several keys may have one owner.
    """

    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$")
    owner: str = Field(pattern="^[A-Za-z0-9_.@-]{1,64}$")


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """The sender of a request.

    Attributes:
        owner: Owner of the sessions that it may see; empty where the server has no keys.
        meter: Counts what its key uses, and refuses what is more than the limits allow.
    """

    owner: str
    meter: Meter


class ApiKeys:
    """All keys of a server.

    Args:
        entries: Hashes, owners and limits; without any, no key is asked for.
    """

    def __init__(self, entries: Sequence[KeyEntry] = ()) -> None:
        self._known = [(bytes.fromhex(e.sha256), Principal(e.owner, Meter(e))) for e in entries]
        self._anyone = Principal("", Meter(Limits()))

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self._known

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Finds the sender of a request.

        Args:
            headers: Headers of the request, by lower-case name: ``authorization: Bearer KEY``, ``x-api-key: KEY`` or
                ``sec-websocket-protocol`` with ``openai-insecure-api-key.KEY``.

        Raises:
            AuthError: If there is no key, or it is not known.
        """
        if self.is_open:
            return self._anyone
        if (key := _key_in(headers)) is None:
            raise AuthError("This server asks for an API key; send it as `Authorization: Bearer KEY`.")
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, principal in self._known:  # all of them, so that the time taken says nothing about a key
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise AuthError("This API key is not known; check it, or ask whoever runs the server for one.")
        return found


def load_keys(path: Path | None) -> ApiKeys:
    """Reads the keys file; without one, no key is asked for.

    Raises:
        UsageError: If it cannot be read, or is not a list of keys.
    """
    if path is None:
        return ApiKeys()
    try:
        return ApiKeys(_KeysFile.model_validate(tomllib.loads(path.read_text("utf-8"))).keys)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The keys file {path} has a mistake at {where}: {first['msg']}; mend it.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"The keys file {path} cannot be read ({error}); check the path and the file.") from error


def check_bind(host: str, keys: ApiKeys) -> None:
    """Checks that a server without keys listens to this machine alone.

    Raises:
        UsageError: If it would listen to others too.
    """
    if keys.is_open and not is_loopback(host):
        raise UsageError(
            f"Without API keys this server may not listen on {host}, where others reach it; give --keys-file, "
            "or --host 127.0.0.1."
        )


def check_origin(headers: Mapping[str, str], allowed: Sequence[str], keys: ApiKeys) -> None:
    """Checks the origin of a request: no browser, a page of this server, or a page of an allowed origin.

    A browser lets any web page send requests to any address, this machine's too, and only names the page's origin. An
    attacker may also point a name of its own here (DNS rebinding), so a server without keys answers to loopback names
    only.

    Args:
        headers: Headers of the request, by lower-case name.
        allowed: Origins such as ``https://example.org``, or ``*`` for all.
        keys: Keys of the server.

    Raises:
        OriginError: If it is a page of another origin.
    """
    host = headers.get("host", "")
    if keys.is_open and not is_loopback(_hostname(f"//{host}")):
        raise OriginError(f"Without API keys this server answers to loopback names only, not to {host[:80]!r}.")
    origin = headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    if urlsplit(origin).netloc != host:
        raise OriginError(f"Pages of {origin[:80]!r} may not talk to this server; add it to --allowed-origins.")


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _key_in(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if key := headers.get("x-api-key"):
        return key
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(SUBPROTOCOL_KEY):
            return protocol.strip().removeprefix(SUBPROTOCOL_KEY)
    return None
