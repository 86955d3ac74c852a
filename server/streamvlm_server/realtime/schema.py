"""The schema of every event, for machines: JSON Schema, made from the shapes that the server itself parses with."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from streamvlm_server.realtime.client_events import CLIENT_EVENTS
from streamvlm_server.realtime.server_events import SERVER_EVENTS


@cache
def schema() -> dict[str, Any]:
    """A JSON Schema document: ``#/$defs/ClientEvent`` is any event to the server, ``ServerEvent`` any from it."""
    sides: dict[str, list[type[BaseModel]]] = {
        "ClientEvent": list(CLIENT_EVENTS.values()),
        "ServerEvent": list(SERVER_EVENTS),
    }
    shapes = [(event, "validation") for event in sides["ClientEvent"]]
    shapes += [(event, "serialization") for event in sides["ServerEvent"]]
    places, document = models_json_schema(shapes, title="StreamVLM realtime events")  # type: ignore[arg-type]
    for name, events in sides.items():
        mode = "validation" if name == "ClientEvent" else "serialization"
        document["$defs"][name] = {"oneOf": [places[event, mode] for event in events]}  # type: ignore[index]
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    document["oneOf"] = [{"$ref": f"#/$defs/{name}"} for name in sides]
    return document
