"""The objects in events: items, sessions, responses, errors. Their names are those of the OpenAI Realtime API (GA).

Objects from clients may have no unknown fields and no values of another type; objects from the server leave out a field
that is not set where the API does so too.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_OUTPUT_TOKENS = 4096
Id = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=32_768)]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
TimeS = Annotated[float, Field(ge=0, le=1e9)]
NoTools = Annotated[list[Any], Field(max_length=0, description="Tools are not supported: null, or an empty list.")]
Greedy = Annotated[float | None, Field(ge=0, le=0, description="0 alone: the likeliest words are taken.")]
Ignored = Annotated[Any, Field(description="Accepted for compatibility; has no effect here.")]


class Shape(BaseModel):
    """A JSON object with no unknown fields, no "1" for 1, and no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_is_none = partial(operator.is_, None)


def _optional(description: str | None = None) -> Any:
    """Returns a field that is left out while it is not set."""
    return Field(default=None, exclude_if=_is_none, description=description)


# --- items ---


class TextPart(Shape):
    """Text of a user: a question, or a part of it."""

    type: Literal["input_text"]
    text: Text


def _url(value: object) -> object:
    return value["url"] if isinstance(value, dict) and "url" in value else value


class ImagePart(Shape):
    """A picture of a user: the next frame of the stream."""

    type: Literal["input_image"]
    image_url: Annotated[str, BeforeValidator(_url)] = Field(
        description="A data URI of a still picture, or of an animation, which is a short video; as in chats, an "
        "object with it as `url` is taken too."
    )
    detail: Literal["auto", "low", "high"] | None = None


class FrameTimes(Shape):
    """The time of an item's picture; part of the streamvlm extension."""

    time_s: TimeS | None = Field(default=None, description="Stream time; by default the server's clock gives it.")
    captured_s: float | None = Field(default=None, description="Unix time of capture.")


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class NewItem(Shape):
    """A user's message that a client creates."""

    type: Literal["message"]
    role: Literal["user"]
    content: list[Part] = Field(min_length=1, max_length=16)
    id: Id | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "in_progress", "incomplete"] | None = None
    streamvlm: FrameTimes | None = None


class ItemReference(Shape):
    """Names an item of the conversation."""

    type: Literal["item_reference"]
    id: Id


class ContentPart(Shape):
    """A part of an item that the server sends; pictures are not sent back."""

    type: Literal["input_text", "input_image", "output_text"]
    text: str | None = _optional()
    detail: Literal["auto", "low", "high"] | None = _optional()


class Item(Shape):
    """An item that the server sends."""

    id: str
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"] = "message"
    status: Literal["completed", "in_progress", "incomplete"]
    role: Literal["user", "assistant"]
    content: list[ContentPart]


# --- sessions ---


class SessionExtension(Shape):
    """Asks for the streamvlm extension: from now on the server sends ``streamvlm.*`` events too."""

    events: list[Literal["stats", "frame", "evidence"]] = Field(
        default=[], max_length=8, description="Which events to send unasked; answers to client events always come."
    )
    binary_frames: bool = Field(
        default=False, description="Whether the client will send binary messages, each a frame."
    )
    fired_after: int | None = Field(
        default=None,
        ge=0,
        description="Number of the last streamvlm.standing.fired that you know: later ones are sent, once more if need "
        "be. By default those that no client was sent.",
    )


class SessionSettings(Shape):
    """The settings of a session that a client may change; fields not sent stay, and null, "" and [] clear."""

    type: Literal["realtime"]
    object: Literal["realtime.session"] | None = None
    id: str | None = None
    model: str | None = None
    instructions: Text | None = Field(
        default=None,
        description="Accepted for compatibility; has no effect, as the model has its own. Put what an answer should "
        "follow into its question.",
    )
    output_modalities: list[Literal["text"]] | None = Field(default=None, max_length=1)
    max_output_tokens: MaxTokens | None = None
    tools: NoTools | None = None
    tool_choice: Ignored = None
    parallel_tool_calls: Ignored = None
    audio: Ignored = None
    include: Ignored = None
    tracing: Ignored = None
    truncation: Ignored = None
    reasoning: Ignored = None
    expires_at: Ignored = None
    prompt: None = None
    temperature: Greedy = None
    streamvlm: SessionExtension | None = None


class StandingObject(Shape):
    """An armed standing question; its fields are those of streamvlm.standing.arm."""

    standing_id: str
    question: str
    threshold: float
    release: float
    every_s: float
    cool_down_s: float


class SessionExtensionState(SessionExtension):
    """The state of a session with the streamvlm extension."""

    session_id: str = Field(description="Connect with ?session_id= and this id to take the session up again.")
    resume_token: str | None = Field(description="Proves the right to take it up again, where no key does.")
    time_s: float | None = Field(description="Stream time of the newest frame; None before the first.")
    fired_after: int = Field(description="Number after which streamvlm.standing.fired are sent to you.")
    standing: list[StandingObject] = Field(
        description="Standing questions armed in the session, by earlier connections too."
    )


class SessionObject(Shape):
    """The configuration of a session."""

    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    id: str
    model: str
    instructions: Literal[""] = Field(default="", description="Always empty: instructions of clients have no effect.")
    output_modalities: list[Literal["text"]] = ["text"]
    max_output_tokens: MaxTokens = "inf"
    tools: NoTools = []
    tool_choice: Literal["none"] = "none"
    streamvlm: SessionExtensionState | None = _optional("Only for clients that asked for it.")


# --- responses ---


class ResponseExtension(Shape):
    """Options of a question; part of the streamvlm extension."""

    at_s: TimeS | None = Field(default=None, description="Answer as of this earlier stream time.")


class ResponseSettings(Shape):
    """The settings of a response."""

    conversation: Literal["auto", "none"] | None = None
    input: list[NewItem | ItemReference] | None = Field(
        default=None, max_length=64, description='Replaces the conversation; only with conversation "none".'
    )
    instructions: Text | None = Field(
        default=None, description="The question, where no message has one; else without effect, as those of a session."
    )
    output_modalities: list[Literal["text"]] | None = Field(default=None, max_length=1)
    max_output_tokens: MaxTokens | None = None
    metadata: Metadata | None = None
    tools: NoTools | None = None
    tool_choice: Ignored = None
    parallel_tool_calls: Ignored = None
    audio: Ignored = None
    reasoning: Ignored = None
    prompt: None = None
    temperature: Greedy = None
    streamvlm: ResponseExtension | None = None


class InputTokenDetails(Shape):
    """Kinds of the tokens read: the text of the question, and the visual memory, all of which was cached."""

    text_tokens: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0


class OutputTokenDetails(Shape):
    """Kinds of the tokens written."""

    text_tokens: int = 0
    audio_tokens: int = 0


class Usage(Shape):
    """Tokens read and written."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: InputTokenDetails = InputTokenDetails()
    output_token_details: OutputTokenDetails = OutputTokenDetails()


class StatusError(Shape):
    """Why a response failed."""

    type: str
    code: str
    message: str


class StatusDetails(Shape):
    """Why a response is not completed."""

    type: Literal["cancelled", "incomplete", "failed"]
    reason: Literal["client_cancelled", "max_output_tokens"] | None = _optional()
    error: StatusError | None = _optional()


class Response(Shape):
    """A response, under way or done."""

    id: str
    object: Literal["realtime.response"] = "realtime.response"
    status: Literal["in_progress", "completed", "cancelled", "incomplete", "failed"] = "in_progress"
    status_details: StatusDetails | None = None
    output: list[Item] = []
    conversation_id: str | None = None
    output_modalities: list[Literal["text"]] = ["text"]
    max_output_tokens: MaxTokens = "inf"
    metadata: dict[str, str] | None = None
    usage: Usage | None = None


class ErrorBody(Shape):
    """An error, and the client event that it belongs to."""

    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    code: str
    message: str
    param: str | None = None
    event_id: str | None = Field(default=None, description="The id that the client gave its event.")
