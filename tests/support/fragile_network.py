"""A network between client and server that a test can interrupt: a TCP relay on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class FragileNetwork:
    """Relays to a server.

    Attributes:
        url: By which the server is reached through it.
        passes: While it is not set, nothing gets through and nothing breaks either.
        holds_at: Text that clears ``passes`` once, before it gets through; bytes of clients are masked.
        holds: Set when that has happened.
    """

    def __init__(self, server_url: str) -> None:
        host, port = server_url.removeprefix("http://").split(":")
        self._host, self._port = host, int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.passes = asyncio.Event()
        self.passes.set()
        self.holds_at, self.holds = b"", asyncio.Event()

    def cut(self) -> None:
        """Breaks all connections; new ones get through."""
        for writer in self._writers:
            writer.transport.abort()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connects a client to the server."""
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except ConnectionError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        with suppress(ConnectionError):
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        for side in (writer, far_writer):
            side.close()
            self._writers.discard(side)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.holds_at and self.holds_at in data:
                    self.holds_at = b""
                    self.passes.clear()
                    self.holds.set()
                await self.passes.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def fragile_network(server_url: str) -> AsyncIterator[FragileNetwork]:
    """Runs such a network before a server."""
    network = FragileNetwork(server_url)
    async with await asyncio.start_server(network.relay, "127.0.0.1", 0) as listening:
        network.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield network
        network.cut()
