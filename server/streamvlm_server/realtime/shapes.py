"""What events carry: items, sessions, responses, errors. Names and fields are those of the OpenAI Realtime API (GA).

Shapes that clients send refuse fields they do not know and values of another type; shapes that the server sends leave
out what is not set where the API does so too.
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
NoTools = Annotated[list[Any], Field(max_length=0, description="Tools are not supported: none, or an empty list.")]
Greedy = Annotated[float | None, Field(ge=0, le=0, description="The likeliest words are taken: 0 alone.")]
Ignored = Annotated[Any, Field(description="Accepted for compatibility; has no effect here.")]


class Shape(BaseModel):
    """A JSON object, taken literally: no unknown fields, no "1" for 1, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_is_none = partial(operator.is_, None)


def _optional(description: str | None = None) -> Any:
    """A field that is left out while it is not set."""
    return Field(default=None, exclude_if=_is_none, description=description)


# --- items ---


class TextPart(Shape):
    """Words of a user: a question, or a part of it."""

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
    """When an item's picture was taken; ours."""

    time_s: TimeS | None = Field(default=None, description="Stream time; by default the server's clock says.")
    captured_s: float | None = Field(default=None, description="Unix time of capture.")


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class NewItem(Shape):
    """A user's message as a client creates it."""

    type: Literal["message"]
    role: Literal["user"]
    content: list[Part] = Field(min_length=1, max_length=16)
    id: Id | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "in_progress", "incomplete"] | None = None
    streamvlm: FrameTimes | None = None


class ItemReference(Shape):
    """Stands for an item of the conversation."""

    type: Literal["item_reference"]
    id: Id


class ContentPart(Shape):
    """A part of an item as the server shows it; pictures are not sent back."""

    type: Literal["input_text", "input_image", "output_text"]
    text: str | None = _optional()
    detail: Literal["auto", "low", "high"] | None = _optional()


class Item(Shape):
    """An item as the server shows it."""

    id: str
    object: Literal["realtime.item"] = "realtime.item"
    type: Literal["message"] = "message"
    status: Literal["completed", "in_progress", "incomplete"]
    role: Literal["user", "assistant"]
    content: list[ContentPart]


# --- sessions ---


class SessionExtension(Shape):
    """Asks for what is ours: from now on the server sends ``streamvlm.*`` events too."""

    events: list[Literal["stats", "frame", "evidence"]] = Field(
        default=[], max_length=8, description="Which unasked events to send; answers to requests of ours always come."
    )
    binary_frames: bool = Field(default=False, description="Whether binary messages will come, one a frame.")
    fired_after: int | None = Field(
        default=None,
        ge=0,
        description="Number of the last streamvlm.standing.fired that you know: later ones are told, once more if need "
        "be. By default those that nobody was told of.",
    )


class SessionSettings(Shape):
    """What a client may change of a session; only fields sent change, and null, "" and [] clear."""

    type: Literal["realtime"]
    object: Literal["realtime.session"] | None = None
    id: str | None = None
    model: str | None = None
    instructions: Text | None = Field(
        default=None,
        description="Accepted for compatibility; never in effect, as the model has its own. What an answer should heed "
        "belongs into its question.",
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
    """A standing question that is armed; its fields as in streamvlm.standing.arm."""

    standing_id: str
    question: str
    threshold: float
    release: float
    every_s: float
    cool_down_s: float


class SessionExtensionState(SessionExtension):
    """What a session that asked for ours is told."""

    session_id: str = Field(description="Connect with ?session_id= of it to take the session up again.")
    resume_token: str | None = Field(description="Proves the right to, where no key does.")
    time_s: float | None = Field(description="Stream time of the newest frame; None before the first.")
    fired_after: int = Field(description="Number after which streamvlm.standing.fired are told to you.")
    standing: list[StandingObject] = Field(
        description="Standing questions armed in the session, by earlier connections too."
    )


class SessionObject(Shape):
    """The configuration in effect."""

    type: Literal["realtime"] = "realtime"
    object: Literal["realtime.session"] = "realtime.session"
    id: str
    model: str
    instructions: Literal[""] = Field(default="", description="None of a client's are in effect.")
    output_modalities: list[Literal["text"]] = ["text"]
    max_output_tokens: MaxTokens = "inf"
    tools: NoTools = []
    tool_choice: Literal["none"] = "none"
    streamvlm: SessionExtensionState | None = _optional("Only for who asked for it.")


# --- responses ---


class ResponseExtension(Shape):
    """What of ours a question may say."""

    at_s: TimeS | None = Field(default=None, description="Answer as of this earlier stream time.")


class ResponseSettings(Shape):
    """How a response is wanted."""

    conversation: Literal["auto", "none"] | None = None
    input: list[NewItem | ItemReference] | None = Field(
        default=None, max_length=64, description='Replaces the conversation; only with conversation "none".'
    )
    instructions: Text | None = Field(
        default=None, description="The question, where no message asks one; else not in effect, as a session's."
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
    """What the tokens read were: the question's text, and what the memory gave, all of it read before."""

    text_tokens: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0


class OutputTokenDetails(Shape):
    """What the tokens written were."""

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
    """Why a response ended as it did."""

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
    """What went wrong, and with which event of the client's."""

    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    code: str
    message: str
    param: str | None = None
    event_id: str | None = Field(default=None, description="The id that the client gave its event.")
