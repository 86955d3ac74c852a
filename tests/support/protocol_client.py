"""A client of a protocol over a scripted stream: plain JSON in, plain JSON out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from scripted_stream import Asked, ScriptedStream

from streamvlm.frame import Picture
from streamvlm_server.errors import ProtocolError
from streamvlm_server.realtime.client_events import ItemCreate, parse
from streamvlm_server.realtime.protocol import RealtimeProtocol
from streamvlm_server.realtime.queues import Outbox

PICTURE: Picture = np.zeros((4, 4, 3), dtype=np.uint8)
IMAGE = {"type": "input_image", "image_url": "data:image/jpeg;base64,AAAA"}


class Client:
    """Sends events to a protocol and keeps what comes back, as texts and as JSON objects.

    Attributes:
        stream: What the protocol calls.
    """

    def __init__(self, stream: ScriptedStream | None = None) -> None:
        self.stream = stream or ScriptedStream()
        self._outbox, self._texts = Outbox(on_error=lambda code: None), list[str]()
        self.protocol = RealtimeProtocol(self.stream, self._outbox, model="pocket", resume_token="secret")
        self.protocol.open()

    @property
    def texts(self) -> list[str]:
        """Every event that came back."""
        self._texts += self._outbox.drain()
        return self._texts

    @property
    def received(self) -> list[dict[str, Any]]:
        """Every event that came back, read."""
        return [json.loads(text) for text in self.texts]

    def send(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Sends an event and returns what came back for it."""
        return self.say(json.dumps({"type": kind, **fields}))

    def say(self, message: str) -> list[dict[str, Any]]:
        """Sends any text and returns what came back for it."""
        n_before = len(self.received)
        try:
            event = parse(message)
        except ProtocolError as error:
            self.protocol.refuse(error)
        else:
            images = event.images if isinstance(event, ItemCreate) else {}
            self.protocol.handle(event, [(0.0, PICTURE) for _ in images])
        return self.received[n_before:]

    def write(self, *content: dict[str, Any] | str, **fields: Any) -> list[dict[str, Any]]:
        """Creates a user's message of texts and pictures."""
        parts = [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in content]
        item = {"type": "message", "role": "user", "content": parts, **fields.pop("item", {})}
        return self.send("conversation.item.create", item=item, **fields)

    def ask(self, question: str, **response: Any) -> Asked:
        """Asks, and returns the question that reached the stream."""
        self.write(question)
        self.send("response.create", response=response)
        return self.stream.asked[-1]

    def opt_in(self, **extension: Any) -> list[dict[str, Any]]:
        """Switches our extension on."""
        return self.send("session.update", session={"type": "realtime", "streamvlm": extension})


def types(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, in order."""
    return [event["type"] for event in events]
