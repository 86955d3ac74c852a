"""A live session of a server, as if it ran here: send pictures, ask, and hear when something happens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import cv2

from streamvlm.client.errors import RemoteError
from streamvlm.client.link import Event, Link, error_of, session_left
from streamvlm.client.pending import Pending
from streamvlm.client.question import RemoteQuestion
from streamvlm.client.reply import EvidenceSpan, Reply, spans
from streamvlm.frame import Picture
from streamvlm.wire import FrameMessage

_JPEG_QUALITY = 90
_ARM, _ARMED = "streamvlm.standing.arm", "streamvlm.standing.armed"


@dataclass(frozen=True, slots=True)
class Alert:
    """A standing question whose answer has become yes.

    Attributes:
        question: As it was armed.
        time_s: Stream time at which its answer became yes.
        probability: How likely yes is, in [0, 1].
        evidence: The spans of the stream that it rests on.
        n_missed: How many alerts before it the server did not keep, as there were too many while you were away.
    """

    question: str
    time_s: float
    probability: float
    evidence: tuple[EvidenceSpan, ...]
    n_missed: int


@asynccontextmanager
async def connect(
    url: str,
    *,
    key: str | None = None,
    session_id: str | None = None,
    resume_token: str | None = None,
    events: Sequence[Literal["stats", "frame"]] = (),
    on_event: Callable[[Event], None] | None = None,
    reconnect_s: float = 60.0,
) -> AsyncIterator[RemoteSession]:
    """Opens a session of a server, a new one or one taken up again; leaving it does not end it.

    Args:
        url: URL of the server, such as ``ws://host:8000``.
        key: API key, if the server asks for one.
        session_id: Id of a session to take up again; if there is none of it, one is made.
        resume_token: Token of that session, where no key proves who owns it.
        events: Which events the server sends unasked: statistics once a second, decisions of the gate.
        on_event: Called with those events, and with news of sources and of the server; must return at once.
        reconnect_s: How many seconds to try to take the session up again when the connection is lost.

    Raises:
        RemoteError: If the server cannot be reached, or refuses.
    """
    link = Link(
        url,
        key=key,
        setting={"events": [*events, "evidence"], "binary_frames": True},
        session={"session_id": session_id, "resume_token": resume_token},
        reconnect_s=reconnect_s,
    )
    await link.open()
    session = RemoteSession(link, on_event or (lambda event: None))
    listening = asyncio.create_task(session.listen())  # no TaskGroup, which would wrap what the caller raises
    try:
        yield session
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await link.close()
        if not listening.cancelled():
            listening.result()


class RemoteSession:
    """A session of a server; made by ``connect``."""

    def __init__(self, link: Link, on_event: Callable[[Event], None]) -> None:
        self._link, self._on_event = link, on_event
        self._sequence = 0
        self._turn = asyncio.Lock()  # the conversation has one response at a time
        self._replies: dict[str, Reply] = {}  # by the id of the question
        self._responses: dict[str, str] = {}  # id of the question, by the id of the response
        self._started: set[asyncio.Task[None]] = set()
        self._pending = Pending()
        self._standing: dict[str, Event] = {}  # by our own ids, which outlive a connection
        self._server_ids: dict[str, str] = {}
        self._alerts: asyncio.Queue[Alert | RemoteError] = asyncio.Queue()

    @property
    def session_id(self) -> str:
        """The id by which the session is taken up again."""
        return str(self._link.session["session_id"])

    @property
    def resume_token(self) -> str | None:
        """The token that proves the right to take it up again, where no key does."""
        token: str | None = self._link.session["resume_token"]
        return token

    @property
    def resumed_at_s(self) -> float | None:
        """Stream time of the newest frame when the connection was opened; None if there was no frame."""
        time_s: float | None = self._link.session["time_s"]
        return time_s

    @property
    def standing(self) -> dict[str, str]:
        """The questions that were armed when the connection was opened, by their ids, for ``disarm``."""
        return {armed["standing_id"]: armed["question"] for armed in self._link.session["standing"]}

    async def ready(self) -> None:
        """Returns when there is a connection that is not about to end; raises RemoteError if it is lost for good."""
        await self._link.ready()

    async def send(
        self, picture: Picture | bytes, *, time_s: float | None = None, captured_s: float | None = None
    ) -> None:
        """Sends the next frame.

        Args:
            picture: (height, width, 3) uint8 RGB, which is sent as JPEG, or the bytes of a picture file.
            time_s: Its stream time, later than that of the frame before; by default the server's clock gives it.
            captured_s: Unix time of capture, if known.

        Raises:
            RemoteError: If the connection is lost for good.
        """
        data = picture if isinstance(picture, bytes) else await asyncio.to_thread(_jpeg, picture)
        message = FrameMessage(self._sequence, data, time_s, captured_s)
        self._sequence = (self._sequence + 1) % 2**32
        await self._link.send_frame(message.pack())

    def ask(
        self, question: str, *, at_s: float | None = None, out_of_band: bool = False, max_tokens: int | None = None
    ) -> Reply:
        """Asks about what has been sent so far: ``async for piece in session.ask("…")``.

        Args:
            question: In plain words.
            at_s: Answer as of this earlier stream time.
            out_of_band: Whether the question neither sees the dialogue nor becomes part of it, nor waits its turn.
            max_tokens: Most tokens of the answer.
        """
        return RemoteQuestion(
            self._link,
            question,
            at_s=at_s,
            max_tokens=max_tokens,
            turn=None if out_of_band else self._turn,
            replies=self._replies,
            start=self._start,
        ).reply

    async def arm(self, question: str, **settings: float) -> str:
        """Arms a standing question, to be answered yes or no; ``alerts`` yields when its answer becomes yes.

        Args:
            question: In plain words.
            **settings: ``threshold``, ``release``, ``every_s``, ``cool_down_s``; see the server's schema.

        Returns:
            Its id, for ``disarm``. It belongs to the session, and stays armed when you leave. If this call is
            cancelled, the question may be armed all the same; to arm it once more does not double it.

        Raises:
            RemoteError: If it is refused.
        """
        armed = await self._request(_ARM, _ARMED, question=question, **settings)
        standing_id = f"standing_{secrets.token_hex(8)}"
        self._standing[standing_id] = {"question": question, **settings}
        self._server_ids[standing_id] = armed["standing_id"]
        return standing_id

    async def disarm(self, standing_id: str) -> None:
        """Ends a standing question, armed here or one of ``standing``; raises as ``arm`` does."""
        self._standing.pop(standing_id, None)
        server_id = self._server_ids.pop(standing_id, standing_id)
        await self._request("streamvlm.standing.disarm", "streamvlm.standing.disarmed", standing_id=server_id)

    async def alerts(self) -> AsyncGenerator[Alert, None]:
        """Yields every alert, as long as the session lasts; first those that came while no client was connected.

        Raises:
            RemoteError: When the connection is lost for good.
        """
        while True:
            alert = await self._alerts.get()
            if isinstance(alert, RemoteError):
                raise alert
            yield alert

    async def open_source(self, url: str, *, fps: float = 1.0, stream: int | None = None) -> None:
        """Lets the server read a video itself, or one of its video streams; raises RemoteError if it is refused."""
        await self._request("streamvlm.source.open", "streamvlm.source.opened", url=url, fps=fps, stream=stream)

    async def close_source(self) -> None:
        """Lets the server stop reading; raises RemoteError if it reads no source."""
        await self._request("streamvlm.source.close", "streamvlm.source.ended")

    # --- what goes out and what comes in ---

    async def listen(self) -> None:
        """Handles what the server sends, until the connection is lost for good; ``connect`` runs it."""
        try:
            async for event in self._link.events(self._lost, self._greeting):
                await self._take(event)
                if not (self._replies or self._pending.is_waited_for):
                    await self._link.leave_if_expected()
        except RemoteError as error:
            self._end(error)
        except BaseException:
            self._end(session_left())
            raise

    def _end(self, error: RemoteError) -> None:
        """Fails all that is waited for, as nothing more comes."""
        self._lost(error)
        self._alerts.put_nowait(error)

    async def _request(self, kind: str, answer: str, **fields: Any) -> Event:
        await self._link.ready()
        event_id = f"request_{secrets.token_hex(8)}"
        expected = self._pending.expect(event_id, answer)
        try:
            await self._link.send_event({"type": kind, "event_id": event_id, **fields})
            return await expected
        except BaseException:
            expected.cancel()  # its answer is waited for no more
            raise

    async def _take(self, event: Event) -> None:
        kind = event["type"]
        if kind == "error":
            self._take_error(event)
        elif kind.startswith(("response.", "streamvlm.response.")):
            await self._take_response(event)
        elif kind == "streamvlm.standing.fired":
            self._link.setting["fired_after"] = event["number"]
            evidence = spans(event["evidence"])
            alert = Alert(event["question"], event["time_s"], event["probability"], evidence, event["missed"])
            self._alerts.put_nowait(alert)
        elif kind.startswith("streamvlm."):
            if kind == "streamvlm.going_away":
                self._link.expect_end()
            self._pending.take(event)
            self._on_event(event)

    async def _take_response(self, event: Event) -> None:
        if event["type"] == "response.created":
            self._responses[event["response"]["id"]] = (event["response"]["metadata"] or {}).get("asked_id", "")
        response_id = event["response"]["id"] if "response" in event else event["response_id"]
        if (reply := self._replies.get(self._responses.get(response_id, ""))) is not None:
            await reply.feed(event)
        if event["type"] == "response.done":
            self._responses.pop(response_id, None)

    def _take_error(self, event: Event) -> None:
        event_id, error = event["error"]["event_id"], error_of(event)
        if (reply := self._replies.get(event_id)) is not None:
            if error.code == "going_away" and self._link.reconnects:
                del self._replies[event_id]
                self._ask_again(reply)
            else:
                reply.fail(error)
        elif not self._pending.refuse(event_id, error):
            self._on_event(event)

    def _ask_again(self, reply: Reply) -> None:
        """Asks the next connection, as the question came too late for this one."""
        self._link.expect_end()
        self._start(reply.begin_again())

    def _start(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        self._started.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._started.discard)

    def _lost(self, error: RemoteError) -> None:
        """Fails all that was to come over a connection that is lost."""
        self._responses.clear()
        for reply in list(self._replies.values()):
            reply.fail(error)
        self._pending.fail(error)

    def _greeting(self) -> list[Event]:
        """Returns what a new connection sends first: arms what was armed here, as the server may have lost it."""
        for standing_id in self._standing:
            armed = self._pending.expect(standing_id, _ARMED)
            armed.add_done_callback(partial(self._armed_again, standing_id))
        return [{"type": _ARM, "event_id": standing_id, **question} for standing_id, question in self._standing.items()]

    def _armed_again(self, standing_id: str, armed: asyncio.Future[Event]) -> None:
        if armed.exception() is None:
            self._server_ids[standing_id] = armed.result()["standing_id"]


def _jpeg(picture: Picture) -> bytes:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return data.tobytes()
