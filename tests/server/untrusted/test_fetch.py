"""Media is fetched from allowed hosts only, over real sockets: 127.0.0.2 is an allowed network, 127.0.0.1 is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_server.config import ServerConfig
from streamvlm_server.errors import MediaError, MediaFetchError, MediaRefusedError, MediaUrlError, TooLargeError
from streamvlm_server.untrusted.fetch import Fetched, MediaFetcher, is_allowed_host, may_connect

ALLOWED = ip_network("127.0.0.2/32")


class Site(BaseHTTPRequestHandler):
    """Answers by path: ``/bytes/N``, ``/to/URL`` redirects, ``/loop`` for ever, ``/slow`` hardly."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        Site.asked.append((self.headers["Host"], self.path))
        _, kind, *rest = self.path.split("/", 2)
        if kind == "to":
            self._answer(302, b"", location=rest[0])
        elif kind == "loop":
            self._answer(302, b"", location="/loop")
        elif kind == "slow":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a")
            self.wfile.flush()
            stopping.wait(5)
        elif kind == "bytes":
            self._answer(200, bytes(int(rest[0])))
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(bytes(int(rest[0])))
        elif kind == "camera":
            self.send_response(200)
            self.send_header("Content-Type", 'multipart/x-mixed-replace; boundary="frame"')
            self.end_headers()
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, *, location: str | None = None) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


stopping = threading.Event()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("0.0.0.0", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        stopping.set()
        server.shutdown()
        thread.join()


def fetch(url: str, *, max_bytes: int = 10_000, **settings: object) -> Fetched:
    told = {
        "allowed_media_schemes": ("http",), "allowed_media_hosts": ("*",), "allowed_media_networks": (ALLOWED,),
        "media_timeout_s": 5.0,
    }  # fmt: skip
    config = ServerConfig.model_validate({**told, **settings})

    async def once() -> Fetched:
        fetcher = MediaFetcher(config)
        try:
            return await fetcher.fetch(url, max_bytes=max_bytes)
        finally:
            await fetcher.close()

    return asyncio.run(once())


def test_what_is_allowed_is_fetched(port: int) -> None:
    assert fetch(f"http://127.0.0.2:{port}/bytes/5000") == Fetched(bytes(5000))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]",
     "169.254.169.254", "10.0.0.1", "allowed@127.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused_however_they_are_written(host: str, port: int) -> None:
    Site.asked.clear()
    with pytest.raises(MediaRefusedError, match="private network"):
        fetch(f"http://{host}:{port}/bytes/1")
    assert not Site.asked


def test_a_redirect_is_followed_to_where_a_url_might_go(port: int) -> None:
    here = f"http://127.0.0.2:{port}"
    assert fetch(f"{here}/to/{here}/bytes/3") == Fetched(bytes(3))


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/bytes/1", "http://[::1]:{port}/", "file:///etc/passwd"])
def test_a_redirect_to_where_a_url_may_not_go_is_refused(target: str, port: int) -> None:
    Site.asked.clear()
    with pytest.raises(MediaRefusedError):
        fetch(f"http://127.0.0.2:{port}/to/{target.format(port=port)}")
    assert len(Site.asked) == 1


def test_a_redirect_in_a_circle_ends(port: int) -> None:
    with pytest.raises(MediaRefusedError, match="redirected"):
        fetch(f"http://127.0.0.2:{port}/loop")


def test_more_bytes_than_allowed_are_not_read_to_their_end(port: int) -> None:
    with pytest.raises(TooLargeError, match=r"more than the 9\.8KiB allowed"):
        fetch(f"http://127.0.0.2:{port}/bytes/10001")


def test_what_is_broken_off_is_had_as_far_as_it_came(port: int) -> None:
    assert fetch(f"http://127.0.0.2:{port}/cut/60") == Fetched(bytes(60), is_whole=False)
    with pytest.raises(MediaFetchError, match="cannot be fetched"):
        fetch(f"http://127.0.0.2:{port}/cut/0")


def test_a_camera_is_named_and_not_waited_for(port: int) -> None:
    with pytest.raises(MediaFetchError, match=r"streamvlm\.source\.open"):
        fetch(f"http://127.0.0.2:{port}/camera")


def test_a_host_that_hardly_answers_is_given_up(port: int) -> None:
    with pytest.raises(MediaError, match="within"):
        fetch(f"http://127.0.0.2:{port}/slow", media_timeout_s=0.2)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("ftp://127.0.0.2/a", "'ftp'"),
        ("https://127.0.0.2/a", "'https'"),
        ("file:///etc/passwd", "'file'"),
        ("127.0.0.2/a", "no scheme"),
    ],
)
def test_other_schemes_are_refused(url: str, named: str) -> None:
    with pytest.raises(MediaRefusedError, match=named):
        fetch(url)


@pytest.mark.parametrize("url", ["http://[::1/a", "http://", "http://127.0.0.2:port/a"])
def test_what_is_no_url_is_said_to_be_none(url: str) -> None:
    with pytest.raises(MediaUrlError, match="cannot be read; write it as scheme://host/path"):
        fetch(url)


def test_a_host_that_is_not_allowed_is_not_even_looked_up() -> None:
    with pytest.raises(MediaRefusedError, match=r"other\.invalid"):
        fetch("http://other.invalid/a", allowed_media_hosts=("example.org",))


def test_what_the_host_does_not_have_is_said(port: int) -> None:
    with pytest.raises(MediaError, match="404"):
        fetch(f"http://127.0.0.2:{port}/nothing")
    with pytest.raises(MediaError, match="not found"):
        fetch("http://nowhere.invalid/a")


@pytest.mark.parametrize(
    ("host", "allowed", "passes"),
    [
        ("example.org", ["example.org"], True),
        ("EXAMPLE.org.", ["Example.Org"], True),
        ("a.example.org", ["example.org"], False),
        ("a.b.example.org", ["*.example.org"], True),
        ("example.org", ["*.example.org"], False),
        ("evilexample.org", ["*.example.org"], False),
        ("example.org.evil.com", ["example.org", "*.example.org"], False),
        ("anything", ["*"], True),
        ("anything", [], False),
    ],
)
def test_hosts_are_allowed_by_whole_names(host: str, allowed: list[str], passes: bool) -> None:
    assert is_allowed_host(host, allowed) is passes


@given(st.ip_addresses(v=4).filter(lambda ip: not ip.is_global or ip.is_multicast))
def test_an_address_inside_another_is_judged_as_the_one_inside(inner: IPv4Address) -> None:
    number = int(inner)
    written = [
        inner,
        ip_address((0xFFFF << 32) | number),  # mapped
        ip_address((0x2002 << 112) | number << 80),  # 6to4
        ip_address(int(IPv6Address("64:ff9b::")) | number),  # NAT64
    ]
    assert not any(may_connect(address, []) for address in written)
    assert all(may_connect(address, [ip_network(inner)]) for address in written)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8"])
def test_public_addresses_are_reached(address: str) -> None:
    assert may_connect(ip_address(address), [])
