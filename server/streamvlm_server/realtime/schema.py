"""The schema of every message, made from the classes that the server parses with.

Events are JSON Schema; the binary frame, which JSON Schema cannot describe, is a table of its header beside them.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from streamvlm.wire import BYTE_ORDER, HEADER, HeaderField
from streamvlm_server.realtime.client_events import CLIENT_EVENTS
from streamvlm_server.realtime.server_events import SERVER_EVENTS

_TYPES = {"2s": "ascii", "B": "uint8", "I": "uint32", "Q": "uint64"}


@cache
def schema() -> dict[str, Any]:
    """Returns a JSON Schema document: ``#/$defs/ClientEvent`` is any event to the server, ``ServerEvent`` any from it.

    Its ``x-binary-frame`` is a binary message to the server, byte by byte.
    """
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
    document["x-binary-frame"] = _binary_frame()
    return document


def _binary_frame() -> dict[str, Any]:
    """Describes the binary message of `streamvlm.wire`."""
    header: list[dict[str, Any]] = []
    offset = 0
    for field in HEADER:
        n_bytes = struct.calcsize(BYTE_ORDER + field.code)
        header.append({"name": field.name, "offset": offset, "bytes": n_bytes, **_description(field)})
        offset += n_bytes
    return {
        "description": "A binary message is a header, then a picture up to its end: a file of JPEG, PNG, WebP or "
        "another kind of still picture. Sessions that have asked for binary_frames take it.",
        "byte_order": {">": "big", "<": "little"}[BYTE_ORDER],
        "header_bytes": offset,
        "header": header,
    }


def _description(field: HeaderField) -> dict[str, Any]:
    described: dict[str, Any] = {"type": _TYPES[field.code], "description": field.meaning}
    if field.always is not None:
        described["const"] = field.always.decode("ascii") if isinstance(field.always, bytes) else field.always
    if field.name == "flags":
        described["bits"] = [
            {"mask": one.flag, "field": one.name, "description": f"Set where {one.name} is given; else that is 0."}
            for one in HEADER
            if one.flag is not None
        ]
    return described
