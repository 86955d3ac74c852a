from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
from hypothesis import given
from hypothesis import strategies as st
from live_server import LiveServer
from protocol_client import IMAGE, Client
from scripted_stream import has_fired
from websocket_peer import NOISE, as_jpeg, peer

from streamvlm.wire import FrameMessage
from streamvlm_server.realtime.client_events import CLIENT_EVENTS
from streamvlm_server.realtime.schema import schema
from streamvlm_server.realtime.server_events import SERVER_EVENTS


def types_of(side: str) -> set[str]:
    definitions = schema()["$defs"]
    places = [place["$ref"].removeprefix("#/$defs/") for place in definitions[side]["oneOf"]]
    return {definitions[place]["properties"]["type"]["const"] for place in places}


def test_the_schema_names_every_event_of_both_sides() -> None:
    assert types_of("ClientEvent") == set(CLIENT_EVENTS)
    assert len(types_of("ServerEvent")) == len(SERVER_EVENTS)
    assert json.loads(json.dumps(schema())) == schema()


def test_the_schema_tells_every_field_that_the_server_sends(client: Client) -> None:
    client.opt_in(events=["stats", "frame", "evidence"], binary_frames=True)
    client.write("look", IMAGE)
    client.ask("what?").complete("this")
    (armed,) = client.send("streamvlm.standing.arm", question="is it red?")
    assert client.stream.fire is not None
    client.stream.fire(has_fired(armed["standing_id"], "is it red?", 7.0, 0.9))
    client.opt_in(events=["frame", "evidence", "stats"])
    client.protocol.tick()
    client.protocol.leave("restart", 5.0)
    definitions = schema()["$defs"]
    by_type: dict[str, dict[str, Any]] = {
        shape["properties"]["type"]["const"]: shape
        for shape in definitions.values()
        if "const" in shape.get("properties", {}).get("type", {}) and "event_id" in shape["properties"]
    }
    for event in client.received:
        assert set(event) <= set(by_type[event["type"]]["properties"])


def write_frame(layout: dict[str, Any], values: dict[str, int], picture: bytes) -> bytes:
    """A binary frame as somebody writes it who knows the schema and nothing else."""
    header = bytearray(layout["header_bytes"])
    for field in layout["header"]:
        flags = sum(bit["mask"] for bit in field.get("bits", []) if bit["field"] in values)
        value = field.get("const", values.get(field["name"], flags))
        n_bytes = field["bytes"]
        written = value.encode() if field["type"] == "ascii" else value.to_bytes(n_bytes, layout["byte_order"])
        assert len(written) == n_bytes
        header[field["offset"] : field["offset"] + n_bytes] = written
    return bytes(header) + picture


TIMES_US = st.fixed_dictionaries({}, optional={name: st.integers(0, 2**53) for name in ("time_us", "captured_us")})


@given(st.integers(0, 2**32 - 1), TIMES_US, st.binary(min_size=1))
def test_a_frame_that_is_written_by_the_schema_alone_is_read_as_meant(
    sequence: int, times_us: dict[str, int], picture: bytes
) -> None:
    message = write_frame(schema()["x-binary-frame"], {"sequence": sequence, **times_us}, picture)
    time_s, captured_s = (times_us[name] / 1e6 if name in times_us else None for name in ("time_us", "captured_us"))
    assert FrameMessage.unpack(message) == FrameMessage(sequence, picture, time_s, captured_s)


def test_a_frame_that_is_written_by_the_schema_that_the_server_serves_is_watched(live: LiveServer) -> None:
    layout = httpx2.get(f"{live.url}/v1/realtime/schema.json", timeout=60).json()["x-binary-frame"]
    message = write_frame(layout, {"sequence": 7, "time_us": 2_500_000}, as_jpeg(NOISE))

    async def send() -> dict[str, Any]:
        async with peer(live.url) as client:
            await client.opt_in(binary_frames=True, events=["frame"])
            await client.socket.send(message)
            return await client.receive("streamvlm.frame")

    (decision,) = asyncio.run(send())["decisions"]
    assert decision["time_s"] == 2.5
