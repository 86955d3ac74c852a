"""The body of a chat completion, as clients of many servers send it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm_server.chat.request import MAX_MESSAGES, Shown, parse_chat
from streamvlm_server.errors import RequestError, UnsupportedError
from streamvlm_server.untrusted.json_size import MAX_MARKS

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
    assert message.shown("messages.0") == [
        Shown("image", "data:a", "messages.0.content.1.image_url"),
        Shown("video", "data:b", "messages.0.content.2.video_url"),
    ]


def test_a_media_url_may_be_written_without_an_object_around_it() -> None:
    parts = [{"type": f"{medium}_url", f"{medium}_url": "data:a"} for medium in ("image", "video")]
    (message,) = parse_chat(body(messages=[{"role": "user", "content": parts}])).messages
    assert [(shown.medium, shown.url) for shown in message.shown("")] == [("image", "data:a"), ("video", "data:a")]


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
        {"top_p": 0.1, "top_k": 40, "min_p": 0.05, "temperature": 0},
        {"top_p": 0.9},
        {"top_p": 1, "top_k": -1, "min_p": 0.0, "temperature": 0.7},
        {"top_k": 0, "temperature": 0.7, "repetition_penalty": 1.0, "length_penalty": 1, "best_of": 1},
        {"top_logprobs": 0, "logit_bias": {}, "tool_choice": "none", "functions": [], "function_call": "auto"},
        {"logit_bias": {"50256": 0}, "tool_choice": "auto", "parallel_tool_calls": True, "modalities": ["text"]},
        {"response_format": {"type": "text", "json_schema": None}, "prediction": None, "audio": None},
        {"service_tier": "auto", "metadata": {"a": "b"}, "reasoning_effort": "low", "verbosity": "medium"},
        {"prompt_cache_key": "a", "safety_identifier": "b", "web_search_options": None, "stream_options": None},
        {"chat_template_kwargs": {}, "mm_processor_kwargs": {}, "media_io_kwargs": {}, "min_tokens": 0},
        {"chat_template_kwargs": {"enable_thinking": False}, "guided_json": None, "skip_special_tokens": True},
        {"stop": "x"},
        {"stop": ["a", "b", "c", "d"]},
        {"stop": []},
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


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"n": 2}, "only at 1,"),
        ({"best_of": 3}, "only at 1,"),
        ({"top_p": 0.5, "temperature": 0.7}, "only at 1 or at temperature 0,"),
        ({"top_k": 40, "temperature": 1}, "only at -1 or 0 or at temperature 0,"),
        ({"frequency_penalty": 0.5}, "only at 0,"),
        ({"presence_penalty": -1}, "only at 0,"),
        ({"repetition_penalty": 1.1}, "only at 1,"),
        ({"logit_bias": {"50256": -100}}, "only at {},"),
        ({"tools": [{"type": "function"}]}, "only at [],"),
        ({"tool_choice": "required"}, 'only at "none" or "auto",'),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, 'only at "none" or "auto",'),
        ({"response_format": {"type": "json_object"}}, 'only at {"type": "text"},'),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 'only at {"type": "text"},'),
        ({"response_format": "text"}, 'only at {"type": "text"},'),
        ({"logprobs": True}, "only at false,"),
        ({"top_logprobs": 5}, "only at 0,"),
        ({"modalities": ["text", "audio"]}, 'only at ["text"],'),
        ({"verbosity": "low"}, 'only at "medium",'),
        ({"media_io_kwargs": {"video": {"fps": 2}}}, "only at {},"),
        ({"audio": {"voice": "alloy"}}, "is not offered here; leave it out"),
        ({"guided_json": {}}, "is not offered here; leave it out"),
    ],
)
def test_what_would_change_something_is_refused_by_name_with_what_is_taken(
    changes: dict[str, object], taken: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse_chat(body(**changes))
    assert caught.value.param == next(iter(changes))
    assert str(caught.value).startswith(f"{caught.value.param} is ")
    assert taken in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"messages": [{"role": "tool", "content": "a"}]}, "'system', 'developer', 'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "'text', 'image_url', 'video_url'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'text', 'image_url', 'video_url'"),
        ({"streamvlm": {"sesion": "a"}}, "streamvlm has session, at_s, out_of_band, fps"),
    ],
)
def test_a_refusal_names_what_is_taken(changes: dict[str, object], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat(body(**changes))
    assert says in str(caught.value)


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


def test_a_long_string_is_not_costly_to_parse_and_a_longer_dialogue_than_anyone_leads_is_refused() -> None:
    long = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "A" * 2_000_000}}
    message = parse_chat(body(messages=[{"role": "user", "content": [long]}])).messages[0]
    assert len(message.shown("messages.0")) == 1
    assert len(parse_chat(body(messages=[USER] * MAX_MESSAGES)).messages) == MAX_MESSAGES
    with pytest.raises(RequestError, match="at most 2048 items"):
        parse_chat(body(messages=[USER] * (MAX_MESSAGES + 1)))
