"""How pocket is spoken to: the opening that serves as sinks, timestamps, questions and answers."""

from __future__ import annotations

from tokenizers import Tokenizer

OPENING = "<start> you look at a video and answer questions ."


def time_ids(tokenizer: Tokenizer, time_s: float) -> list[int]:
    """Tokens of a block's timestamp, such as ``0:03:07``: always three."""
    seconds = int(time_s)
    text = f"{seconds // 3600 % 100}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def question_ids(tokenizer: Tokenizer, question: str) -> list[int]:
    """Tokens of a question up to where the answer begins."""
    return list(tokenizer.encode(f"<ask> {question} <answer>", add_special_tokens=False).ids)


def reply_ids(tokenizer: Tokenizer, answer: str) -> list[int]:
    """Tokens of an answer and its end."""
    return list(tokenizer.encode(f"{answer} <end>", add_special_tokens=False).ids)
