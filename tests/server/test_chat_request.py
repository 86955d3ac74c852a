"""The body of a chat completion, as clients of many servers send it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_server.chat_request import MAX_MESSAGES, parse_chat
from streamvlm_server.errors import RequestError
from streamvlm_server.intricate import MAX_MARKS

USER = {"role": "user", "content": "what do you see?"}


def body(**changes: object) -> bytes:
    return json.dumps({"model": "pocket", "messages": [USER], **changes}).encode()


def test_words_and_media_of_a_message_are_told_apart() -> None:
    parts = [
        {"type": "text", "text": "what"},
        {"type": "image_url", "image_url": {"url": "data:a", "detail": "high"}, "uuid": None},
        {"type": "video_url", "video_url": {"url": "data:b"}},
        {"type": "text", "text": "is this?"},
    ]
    (message,) = parse_chat(body(messages=[{"role": "user", "content": parts}])).messages
    assert message.text == "what\nis this?"
    assert [part.type for part in message.media] == ["image_url", "video_url"]


def test_plain_content_is_one_text_and_none_is_empty() -> None:
    assert parse_chat(body()).messages[0].text == "what do you see?"
    assert parse_chat(body(messages=[{"role": "assistant", "content": None}])).messages[0].text == ""


def test_what_is_left_out_has_a_meaning() -> None:
    request = parse_chat(body())
    assert (request.stream, request.most_tokens, request.temperature, request.stop) == (None, None, None, None)
    assert request.streamvlm is None
    assert request.options.fps == 1.0


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert parse_chat(body(max_tokens=5)).most_tokens == 5
    assert parse_chat(body(max_tokens=5, max_completion_tokens=3)).most_tokens == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 1, "top_p": 1.0, "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": False, "tools": []},
        {"response_format": {"type": "text"}, "logit_bias": None, "user": "me", "seed": 4, "store": True},
        {"stop": "x"},
        {"stop": ["a", "b", "c", "d"]},
        {"stream": None, "temperature": None, "max_tokens": None},
    ],
)
def test_fields_that_change_nothing_are_taken(changes: dict[str, object]) -> None:
    parse_chat(body(**changes))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [USER, {"role": "user", "content": 3}]}, "messages.1.content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.image_url.url",
        ),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"n": 2}, "n"),
        ({"top_p": 0.5}, "top_p"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"streamvlm": {"sesion": "a"}}, "streamvlm.sesion"),
        ({"streamvlm": {"fps": 0}}, "streamvlm.fps"),
        ({"streamvlm": {"at_s": -1}}, "streamvlm.at_s"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(changes: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat(body(**changes))
    assert caught.value.param == param
    assert param in str(caught.value)


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "messages", "role", "content", "type", "stop"]), inner, max_size=4),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_body_is_more_than_refused(hostile: bytes) -> None:
    try:
        parse_chat(hostile)
    except RequestError:
        return


@pytest.mark.parametrize("inner", ["1,", "[],", "{},", "[[[[[[[[1]]]]]]]],"])
def test_a_body_that_would_take_long_to_parse_is_refused_unread(inner: str) -> None:
    with pytest.raises(RequestError, match="20000 commas or brackets"):
        parse_chat(
            b'{"messages": [' + inner.encode() * (MAX_MARKS + 1)
        )  # no JSON: that would be said if it were parsed


def test_a_long_string_is_not_intricate_and_a_longer_dialogue_than_anyone_leads_is_refused() -> None:
    long = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "A" * 2_000_000}}
    message = parse_chat(body(messages=[{"role": "user", "content": [long]}])).messages[0]
    assert len(message.media) == 1
    assert len(parse_chat(body(messages=[USER] * MAX_MESSAGES)).messages) == MAX_MESSAGES
    with pytest.raises(RequestError, match="at most 2048 items"):
        parse_chat(body(messages=[USER] * (MAX_MESSAGES + 1)))
