"""``POST /v1/chat/completions``: a question about media that come with it, or about a live session's memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from streamvlm.errors import StreamVlmError
from streamvlm_server.chat.completion import Completion
from streamvlm_server.chat.reply import DONE, ChatReply, event, evidence
from streamvlm_server.chat.request import parse_chat
from streamvlm_server.error_codes import error_object
from streamvlm_server.errors import ModelNotFoundError
from streamvlm_server.service import principal_of, service_of
from streamvlm_server.untrusted.body import read_body, unless_gone


async def chat_completions(request: Request) -> Response:
    """Answers the last message, as one object or as server-sent events."""
    service = service_of(request)
    config = service.config
    chat = parse_chat(await read_body(request, config.max_body, within_s=config.request_timeout_s))
    model = service.engine.model.name
    if chat.model != model:
        raise ModelNotFoundError(f"The model {chat.model[:80]!r} is not served here; name {model!r}.", param="model")
    completion = Completion(service, principal_of(request), chat)
    async with AsyncExitStack() as opened:
        # Until the first words, an error still has an HTTP status.
        await unless_gone(request.receive, completion.begin(opened))
        if chat.stream:
            return _Events(completion, opened.pop_all())
        return JSONResponse(await unless_gone(request.receive, _whole(completion)))


async def _whole(completion: Completion) -> dict[str, object]:
    text = "".join([piece async for piece in completion.texts()])
    return ChatReply(completion.model).whole(text, completion.finish, completion.answer, _extra(completion))


class _Events(Response):
    """The answer as server-sent events; Starlette's own streaming would cancel the closing of the session."""

    media_type = "text/event-stream"

    def __init__(self, completion: Completion, opened: AsyncExitStack) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._completion, self._opened = completion, opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async for chunk in _chunks(self._completion):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _chunks(completion: Completion) -> AsyncIterator[bytes]:
    reply = ChatReply(completion.model)
    yield reply.opening()
    try:
        async for text in completion.texts():
            yield reply.piece(text)
    except StreamVlmError as error:  # too late for a status
        yield event({"error": error_object(error)})
    else:
        yield reply.ending(completion.finish, _extra(completion))
        options = completion.request.stream_options
        if options is not None and options.include_usage:
            yield reply.counts(completion.answer)
    yield DONE


def _extra(completion: Completion) -> dict[str, object]:
    """Returns the evidence, for clients that sent the key ``streamvlm``."""
    if completion.request.streamvlm is None:
        return {}
    return evidence(completion.answer, completion.request.streamvlm.session, completion.warnings)
