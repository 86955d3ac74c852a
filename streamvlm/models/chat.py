"""A checkpoint's own tokenizer, and the markup of turns, taken from its own chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from streamvlm.errors import ModelError

QWEN_SYSTEM = "You are a helpful assistant."
"""The system prompt that Qwen decoders were trained with."""

_STREAM, _FIRST, _ANSWER, _SECOND = "STREAM-GOES-HERE", "FIRST-QUESTION", "FIRST-ANSWER", "SECOND-QUESTION"
_HALF_A_LETTER = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Turns:
    """Markup of a dialogue about a stream.

    Attributes:
        opening: Before the stream.
        asking: Between the stream and the first question.
        answering: Between a question and its answer.
        asking_again: Between an answer and the next question; begins with the token that ends a turn.
    """

    opening: str
    asking: str
    answering: str
    asking_again: str


class Chat:
    """Text to token ids and back, for one checkpoint.

    Args:
        folder: With ``tokenizer.json`` and a chat template.

    Raises:
        ModelError: If one of them is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"The checkpoint in {folder} has no tokenizer.json; get it from where the weights are.")
        try:
            written = json.loads(path.read_text("utf-8"))
            self._tokenizer = Tokenizer.from_str(json.dumps(written))
            # A tokenizer without markup: the library can ignore special tokens, but not all that were added.
            self._plain = Tokenizer.from_str(json.dumps(written | {"added_tokens": []}))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{path} is damaged ({error}); get it again.") from error
        self._markup = [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def ids(self, markup: str) -> list[int]:
        """Returns the token ids of a text in which special tokens count as such."""
        return list(self._tokenizer.encode(markup, add_special_tokens=False).ids)

    def require(self, tokens: Sequence[str]) -> None:
        """Checks that each of some texts is one token.

        Raises:
            ModelError: If the tokenizer does not have one.
        """
        for token in tokens:
            if self._tokenizer.token_to_id(token) is None:
                raise ModelError(f"The tokenizer in {self._folder} has no token {token!r}; get the checkpoint's own.")

    def spoken_ids(self, before: str, said: str, after: str) -> list[int]:
        """Returns the token ids of a user's text between markup: special tokens in it are words like any other.

        Where no special token stands between markup and text, both are tokenized together, as in training.
        """
        cut = max((before.rfind(token) + len(token) for token in self._markup if token in before), default=0)
        plain = self._plain.encode(before[cut:] + said, add_special_tokens=False).ids
        return [*self.ids(before[:cut]), *plain, *self.ids(after)]

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of an answer so far; more ids only append to it, so a letter waits for its last byte."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).lstrip().rstrip(_HALF_A_LETTER)

    def turns(self, stream: Mapping[str, str], placeholder: str, system: str | None) -> Turns:
        """Takes the checkpoint's chat template apart.

        Args:
            stream: The part of a message's content that stands for the stream, such as ``{"type": "video"}``.
            placeholder: The text that the template writes for it.
            system: The system prompt, if there is one.

        Raises:
            ModelError: If the template is missing or makes something else of a dialogue.
        """
        messages: Any = [
            *([_message("system", system)] if system else []),
            {"role": "user", "content": [stream, {"type": "text", "text": _FIRST}]},
            _message("assistant", _ANSWER),
            _message("user", _SECOND),
        ]
        speaker: Any = PreTrainedTokenizerFast(tokenizer_object=self._tokenizer)  # type: ignore[no-untyped-call]
        try:
            written = speaker.apply_chat_template(
                messages, chat_template=_read_template(self._folder), tokenize=False, add_generation_prompt=True
            )
            opening, rest = written.split(placeholder)
            asking, rest = rest.split(_FIRST)
            _, rest = rest.split(_ANSWER)
            again, answering = rest.split(_SECOND)
        except ModelError:
            raise
        except Exception as error:  # a template is a program: it may fail in any way
            raise ModelError(
                f"The chat template in {self._folder} does not write a dialogue about a video ({error}); "
                "get the checkpoint's own."
            ) from error
        return Turns(opening, asking, answering, again)


def stream_as_text() -> tuple[dict[str, str], str]:
    """Returns a content part for the stream, and its placeholder, for a template that knows no videos."""
    return {"type": "text", "text": _STREAM}, _STREAM


def _message(role: str, text: str) -> dict[str, object]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _read_template(folder: Path) -> str:
    try:
        if (folder / "chat_template.jinja").is_file():
            return (folder / "chat_template.jinja").read_text("utf-8")
        for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                template = json.loads((folder / name).read_text("utf-8")).get("chat_template")
                if isinstance(template, str):
                    return template
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"The chat template in {folder} cannot be read ({error}); get it again.") from error
    raise ModelError(
        f"The checkpoint in {folder} has no chat template; get chat_template.jinja from where the weights are."
    )
