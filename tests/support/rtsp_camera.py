"""An RTSP camera on this machine: MPEG-TS in RTP, interleaved with its control connection, as RFC 2326 §10.12 has it.

A test sets for each connection what follows the pictures: cameras fall silent, hang up, and come back.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

PACKETS = 7 * 188
"""Bytes of MPEG-TS in a packet, as cameras send it."""

SOUND = bytes([0xFF]) * 160
"""Twenty milliseconds of silence in PCMU."""

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 33\r\na=control:video\r\nm=audio 0 RTP/AVP 0\r\na=control:audio\r\n"
)

Then = Callable[[socket.socket, threading.Event], None]
"""What a camera does on a connection after its pictures, until it is switched off."""


class RtspCamera:
    """Sends the same pictures over each connection.

    Args:
        data: MPEG-TS.
        thens: What it does after them, connection by connection; further connections are refused.

    Attributes:
        url: Its URL.
        requests: All requests, over all connections.
    """

    def __init__(self, data: bytes, thens: Sequence[Then]) -> None:
        self._data, self._thens = data, thens
        self._is_off = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._serve)]
        self.requests: list[str] = []
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/stream"
        self._threads[0].start()

    def switch_off(self) -> None:
        """Hangs up for good."""
        self._is_off.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        with self._listener, suppress(OSError):
            for then in self._thens:
                line, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._talk, args=(line, then)))
                self._threads[-1].start()

    def _talk(self, line: socket.socket, then: Then) -> None:
        with line, suppress(OSError):
            if then is not never_answer:
                self._begin(line)
                for n, i in enumerate(range(0, len(self._data), PACKETS)):
                    send(line, 0, 33, n, self._data[i : i + PACKETS])
                    send(line, 2, 0, n, SOUND)
            then(line, self._is_off)

    def _begin(self, line: socket.socket) -> None:
        request = ""
        while not request.startswith("PLAY"):
            request = ""
            while not request.endswith("\r\n\r\n"):
                request += line.recv(1).decode()
            self.requests.append(request)
            sequence = request.partition("CSeq: ")[2].split()[0]
            line.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{_headers(request)}".encode())


def _headers(request: str) -> str:
    match request.split()[0]:
        case "DESCRIBE":
            return f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}"
        case "SETUP":
            wanted = request.partition("Transport: ")[2].partition("\r\n")[0]
            return f"Transport: {wanted}\r\nSession: 1\r\n\r\n"
        case _:
            return "Session: 1\r\n\r\n"


def send(line: socket.socket, channel: int, payload_type: int, number: int, payload: bytes) -> None:
    """Sends an RTP packet, framed for its channel of the connection."""
    packet = struct.pack(">BBHII", 0x80, payload_type, number, number * 160, 1) + payload
    line.sendall(struct.pack(">cBH", b"$", channel, len(packet)) + packet)


def never_answer(line: socket.socket, is_off: threading.Event) -> None:
    """Accepts the connection and sends nothing."""
    is_off.wait()


def fall_silent(line: socket.socket, is_off: threading.Event) -> None:
    """Keeps the connection, and sends nothing."""
    is_off.wait()


def hang_up(line: socket.socket, is_off: threading.Event) -> None:
    """Closes the connection."""


def send_sound(line: socket.socket, is_off: threading.Event) -> None:
    """Goes on with sound and its reports, without pictures."""
    n = 0
    while not is_off.wait(0.02):
        send(line, 2, 0, n, SOUND)
        report = struct.pack(">BBHIQIII", 0x80, 200, 6, 1, n << 32, n * 160, n, n * 160)
        line.sendall(struct.pack(">cBH", b"$", 1, len(report)) + report)
        n += 1


@contextmanager
def rtsp_camera(data: bytes, *thens: Then) -> Iterator[RtspCamera]:
    """Runs a camera."""
    camera = RtspCamera(data, thens)
    try:
        yield camera
    finally:
        camera.switch_off()
