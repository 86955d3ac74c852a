"""API keys: who is asking, what they may use, and from which web pages.

Keys are kept hashed. Without any, the server is open, but to this machine alone: it refuses to listen elsewhere, and
answers no web page but those that this machine serves itself.
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
"""What comes before a key among a WebSocket's subprotocols, where browsers put it: they cannot set headers."""


class KeyEntry(Limits):
    """A ``[[keys]]`` table of the keys file: a key's hash, whose it is, and its limits.

    Attributes:
        sha256: SHA-256 of the key, in hexadecimal.
        owner: Whose sessions it sees; several keys may be one owner's.
    """

    sha256: str = Field(pattern="^[0-9a-fA-F]{64}$")
    owner: str = Field(pattern="^[A-Za-z0-9_.@-]{1,64}$")


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    Attributes:
        owner: Whose sessions they may see; empty where the server has no keys.
        meter: Counts what their key uses, and holds it to its limits.
    """

    owner: str
    meter: Meter


class ApiKeys:
    """All keys of a server.

    Args:
        entries: Hashes, owners and limits; none means that no key is asked for.
    """

    def __init__(self, entries: Sequence[KeyEntry] = ()) -> None:
        self._known = [(bytes.fromhex(e.sha256), Principal(e.owner, Meter(e))) for e in entries]
        self._anyone = Principal("", Meter(Limits()))

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self._known

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Finds out who is asking.

        Args:
            headers: Of the request, by lower-case name: ``authorization: Bearer KEY``, ``x-api-key: KEY`` or
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
        for known, principal in self._known:  # all of them, so that the time taken tells nothing
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
    """Lets a server without keys listen to this machine alone.

    Raises:
        UsageError: If it would listen to others too.
    """
    if keys.is_open and not is_loopback(host):
        raise UsageError(
            f"Without API keys this server may not listen on {host}, where others reach it; give --keys-file, "
            "or --host 127.0.0.1."
        )


def check_origin(headers: Mapping[str, str], allowed: Sequence[str], keys: ApiKeys) -> None:
    """Lets through what no browser sent, pages of this server itself, and pages of allowed origins.

    A browser lets any page on the web send requests to any address, this machine's own too, and only tells whose page
    it was. A name of the attacker's may also be made to point here (DNS rebinding), so that a server without keys
    answers to loopback names only.

    Args:
        headers: Of the request, by lower-case name.
        allowed: Origins such as ``https://example.org``, or ``*`` for all.
        keys: Of the server.

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
