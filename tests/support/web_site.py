"""A web server on an address of this machine, with ranges and redirects, which records its requests.

`Site.scripts` let it misbehave, or answer at its own pace.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Site(ThreadingHTTPServer):
    """Serves a folder, with ranges by default; `/to/URL` redirects, and `answers` stand for files.

    Attributes:
        scripts: By path, a function that gets the connection and writes the whole answer.
        asked: Host and path of every request.
        ranges: The range of every request.
    """

    def __init__(self, host: str, folder: Path) -> None:
        super().__init__((host, 0), Handler)
        self.folder, self.sends_parts = folder, True
        self.asked: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.answers: dict[str, Callable[[], bytes]] = {}
        self.scripts: dict[str, Callable[[Handler], None]] = {}

    @property
    def host(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        site = self.server
        assert isinstance(site, Site)
        site.asked.append((self.headers["Host"], self.path))
        site.ranges.append(self.headers["Range"])
        if self.path in site.scripts:
            self.close_connection = True
            with suppress(OSError):  # a client that has enough hangs up
                site.scripts[self.path](self)
            return
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        file = site.folder / self.path[1:].partition("?")[0]
        if self.path in site.answers:
            data = site.answers[self.path]()
        elif file.is_file():
            data = file.read_bytes()
        else:
            self.send_error(404)
            return
        told = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if site.sends_parts and told is not None:
            start, stop = int(told[1]), int(told[2] or len(data) - 1) + 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}")
            data = data[start:stop]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # a client that seeks hangs up

    def say(self, *lines: str) -> None:
        """Sends the head of an answer, line by line as given."""
        self.wfile.write("\r\n".join((*lines, "", "")).encode())

    def chunk(self, data: bytes) -> None:
        """Sends one chunk; an empty one is the end."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@contextmanager
def serving(host: str, folder: Path) -> Iterator[Site]:
    with Site(host, folder) as site:
        thread = threading.Thread(target=lambda: site.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()
