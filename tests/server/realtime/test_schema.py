from __future__ import annotations

import json
from typing import Any

from protocol_client import IMAGE, Client
from scripted_stream import HasFired

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
    client.stream.fire(HasFired(armed["standing_id"], "is it red?", 7.0, 0.9))
    client.opt_in(events=["frame", "evidence", "stats"])
    client.protocol.tick()
    client.protocol.going_away("restart", 5.0)
    definitions = schema()["$defs"]
    by_type: dict[str, dict[str, Any]] = {
        shape["properties"]["type"]["const"]: shape
        for shape in definitions.values()
        if "const" in shape.get("properties", {}).get("type", {}) and "event_id" in shape["properties"]
    }
    for event in client.received:
        assert set(event) <= set(by_type[event["type"]]["properties"])
