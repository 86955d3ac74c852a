"""The Python client of a StreamVLM server: send pictures, ask questions, hear when something happens."""

from streamvlm.client.errors import RemoteError
from streamvlm.client.reply import EvidenceSpan, RemoteAnswer, Reply
from streamvlm.client.session import Alert, RemoteSession, connect

__all__ = ["Alert", "EvidenceSpan", "RemoteAnswer", "RemoteError", "RemoteSession", "Reply", "connect"]
