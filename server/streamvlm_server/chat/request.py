"""The body of ``POST /v1/chat/completions``: OpenAI's, with vLLM's ``video_url`` and our own key ``streamvlm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from streamvlm_server.chat.neutral_fields import check_neutral
from streamvlm_server.errors import Medium, RequestError
from streamvlm_server.untrusted.json_size import MAX_MARKS, is_costly_to_parse
from streamvlm_server.untrusted.validation import first_fault

MAX_STOPS = 4
MAX_MESSAGES = 2048


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True)  # unknown fields are ignored: clients send fields for many servers


class ChatTextPart(_Shape):
    """Text of a message."""

    type: Literal["text"]
    text: str


class MediaUrl(_Shape):
    """URL of a picture or video: a ``data:`` URL, or one that the server may fetch."""

    url: str


def _url(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


Url = Annotated[MediaUrl, BeforeValidator(_url)]
"""Many clients write the URL itself, where OpenAI's API has an object."""


class ChatImagePart(_Shape):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: Url


class VideoPart(_Shape):
    """A video of a message: a container, or ``data:video/jpeg;base64,`` and JPEGs with commas between."""

    type: Literal["video_url"]
    video_url: Url


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture or video of a request: its medium, its URL, and its place in the body."""

    medium: Medium
    url: str
    param: str


def _parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _texts(value: object) -> object:
    return [value] if isinstance(value, str) else value


Part = Annotated[ChatTextPart | ChatImagePart | VideoPart, Field(discriminator="type")]
Stop = Annotated[str, Field(min_length=1)]


class Message(_Shape):
    """A turn of the dialogue."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_parts)] | None = None

    @property
    def text(self) -> str:
        """All text of the message."""
        return "\n".join(part.text for part in self.content or () if isinstance(part, ChatTextPart)).strip()

    def shown(self, param: str) -> list[Shown]:
        """Returns all pictures and videos of the message, in order; ``param`` is the place of the message."""
        shown: list[Shown] = []
        for place, part in enumerate(self.content or ()):
            if isinstance(part, ChatImagePart):
                shown.append(Shown("image", part.image_url.url, f"{param}.content.{place}.image_url"))
            elif isinstance(part, VideoPart):
                shown.append(Shown("video", part.video_url.url, f"{param}.content.{place}.video_url"))
        return shown


class StreamOptions(_Shape):
    """Options of a streamed answer."""

    include_usage: bool = False


class StreamVlmOptions(BaseModel):
    """The key ``streamvlm`` of the body: options that OpenAI's request does not have.

    Attributes:
        session: Id of a live session to ask; without it, the media of the request are asked about.
        at_s: Answer as of this stream time; by default as of the newest frame.
        out_of_band: Whether the question neither sees the session's dialogue nor becomes part of it.
        fps: Frames to sample from a second of video.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: str | None = None
    at_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    out_of_band: bool = False
    fps: float = Field(default=1.0, ge=0.1, le=30)


class ChatRequest(_Shape):
    """The body; fields that are left out mean what they mean to OpenAI, but the default temperature is 0."""

    model_config = ConfigDict(extra="allow")  # `neutral_fields` says which of them are refused

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    stop: Annotated[list[Stop], BeforeValidator(_texts), Field(max_length=MAX_STOPS)] | None = None
    streamvlm: StreamVlmOptions | None = None

    @property
    def most_tokens(self) -> int | None:
        """Most tokens of the answer; None if the request does not say."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def options(self) -> StreamVlmOptions:
        """The options under ``streamvlm``, or their defaults."""
        return self.streamvlm or StreamVlmOptions()


def parse_chat(body: bytes) -> ChatRequest:
    """Parses the body of a request.

    Raises:
        RequestError: If it has a mistake, or is too complex.
        UnsupportedError: If it asks for something that is not offered.
    """
    if len(body) > MAX_MARKS and is_costly_to_parse(body):
        raise RequestError(f"The body has more than {MAX_MARKS} commas or brackets; send less in one request.")
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        param, fault = first_fault(error, known=f"streamvlm has {', '.join(StreamVlmOptions.model_fields)}")
        raise RequestError(f"{param or 'The body'} cannot be taken: {fault}.", param=param) from error
    check_neutral(request.model_extra or {}, request.temperature or 0.0)
    return request
