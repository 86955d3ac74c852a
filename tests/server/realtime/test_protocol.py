"""The subset of the OpenAI Realtime API: shapes, order, ids, and the state of a session."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.realtime import RealtimeServerEvent
from protocol_client import IMAGE, PICTURE, Client, types
from pydantic import TypeAdapter

from streamvlm.errors import BusyError
from streamvlm_server.untrusted.json_size import MAX_MARKS

ANSWER = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


def error_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of the one error event there is."""
    assert types(events) == ["error"]
    body: dict[str, Any] = events[0]["error"]
    return body


def test_a_session_is_told_first_and_unasked(client: Client) -> None:
    (created,) = client.received
    assert created["type"] == "session.created"
    assert created["session"] | {"id": "sess", "model": "pocket", "output_modalities": ["text"]} == created["session"]


def test_an_answer_takes_its_steps_in_the_order_of_the_api(client: Client) -> None:
    asked = client.ask("what do you see now?")
    n_before = types(client.received).index("response.created")
    asked.complete("a red ", "circle")
    told = client.received[n_before:]
    assert types(told) == ANSWER
    assert asked.question == "what do you see now?"
    done = told[-1]["response"]
    assert (done["status"], done["status_details"]) == ("completed", None)
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "a red circle"}]
    assert done["usage"]["total_tokens"] == 108
    assert [e["delta"] for e in told if "delta" in e] == ["a red ", "circle"]


def test_everything_sent_has_the_shape_that_the_official_package_expects(client: Client) -> None:
    client.write("look", IMAGE, event_id="mine")
    client.ask("what is it?", metadata={"a": "b"}).complete("a ", "dog")
    client.ask("and now?", max_output_tokens=3).complete("a cat and", is_cut=True)
    client.ask("again?")
    client.send("response.cancel")
    client.stream.asked[-1].complete("a")
    client.ask("and at last?").fail(RuntimeError("a bug"))
    client.send("session.update", session={"type": "realtime", "instructions": "be brief"})
    item_id = client.write("never mind", item={"id": "chosen"})[0]["item"]["id"]
    client.send("conversation.item.retrieve", item_id=item_id)
    client.send("conversation.item.delete", item_id=item_id)
    client.send("no.such.event")
    for event in client.received:
        parsed = OFFICIAL.validate_python(event)
        assert parsed.type == event["type"]
    done = [event["response"] for event in client.received if event["type"] == "response.done"]
    assert [response["status"] for response in done] == ["completed", "incomplete", "cancelled", "failed"]
    assert done[1]["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert done[1]["output"][0]["status"] == "incomplete"


def test_every_event_has_an_id_of_its_own(client: Client) -> None:
    client.ask("what?").complete("this")
    ids = [event["event_id"] for event in client.received]
    assert len(set(ids)) == len(ids)


def test_a_client_chooses_ids_and_metadata_and_gets_them_back(client: Client) -> None:
    added, done = client.write("hello", item={"id": "mine"})
    assert added["item"]["id"] == done["item"]["id"] == "mine"
    assert added["item"]["status"] == "completed"
    client.send("response.create", response={"metadata": {"client_event_id": "7"}})
    assert client.received[-1]["response"]["metadata"] == {"client_event_id": "7"}


def test_the_event_id_of_a_client_comes_back_in_its_error_and_nowhere_else(client: Client) -> None:
    client.write("hello", event_id="good")
    assert error_of(client.send("response.cancel", event_id="bad"))["event_id"] == "bad"
    assert "good" not in {event["event_id"] for event in client.received}


def test_a_picture_goes_to_the_memory_and_is_not_sent_back(client: Client) -> None:
    added, done = client.write(IMAGE | {"detail": "low"}, item={"streamvlm": {"time_s": 1.5, "captured_s": 9.0}})
    assert [(time_s, wall_s) for _, time_s, wall_s in client.stream.offered] == [(1.5, 9.0)]
    assert added["item"]["content"] == done["item"]["content"] == [{"type": "input_image", "detail": "low"}]
    assert error_of(client.send("response.create"))["code"] == "invalid_event"


def test_a_picture_that_the_stream_refuses_is_no_item(client: Client) -> None:
    client.write(IMAGE, item={"streamvlm": {"time_s": 5}})
    assert "newest" in error_of(client.write(IMAGE, item={"id": "late", "streamvlm": {"time_s": 5}}))["message"]
    assert (
        error_of(client.send("conversation.item.retrieve", item_id="late"))["code"] == "item_retrieve_invalid_item_id"
    )


def test_a_picture_may_be_written_as_in_chats(client: Client) -> None:
    assert types(client.write({"type": "input_image", "image_url": {"url": IMAGE["image_url"], "detail": "low"}}))[
        0
    ] == ("conversation.item.added")
    assert (len(client.stream.offered), client.stream.n_kept) == (1, 1)
    told = error_of(client.write({"type": "input_image", "image_url": {"src": "data:"}}))
    assert told["param"] == "item.content.0.image_url"


def test_frames_that_come_as_such_give_way_and_those_of_items_are_kept(client: Client) -> None:
    client.protocol.frame([(0.0, PICTURE)], time_s=None, wall_s=None)
    client.write(IMAGE, IMAGE)
    assert (len(client.stream.offered), client.stream.n_kept) == (3, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"type": "input_audio", "audio": "AAAA"}, "'input_text', 'input_image'"),
        ({"type": "image_url", "image_url": {"url": "data:"}}, "'input_text', 'input_image'"),
        ({"type": "input_text", "words": "a"}, "text"),
    ],
)
def test_a_part_that_is_not_taken_is_refused_with_what_is(client: Client, content: dict[str, Any], says: str) -> None:
    assert says in error_of(client.write(content))["message"]


@pytest.mark.parametrize(
    "settings",
    [
        {"reasoning": {"effort": "low"}, "temperature": 0, "prompt": None},
        {"audio": {"input": {"turn_detection": None}}, "include": None, "tracing": "auto", "truncation": "auto"},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "output_modalities": ["text"]},
        {"object": "realtime.session", "id": "sess", "model": "pocket", "expires_at": 1, "max_output_tokens": "inf"},
    ],
)
def test_what_clients_say_of_a_session_that_changes_nothing_is_taken(client: Client, settings: dict[str, Any]) -> None:
    assert types(client.send("session.update", session={"type": "realtime", **settings})) == ["session.updated"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0.8}, "less than or equal to 0"),
        ({"prompt": {"id": "pmpt_1"}}, "None"),
        ({"voice": "alloy"}, "/v1/realtime/schema.json has them all"),
        ({"output_modalities": ["audio"]}, "'text'"),
    ],
)
def test_what_would_change_a_session_is_refused_by_name(client: Client, settings: dict[str, Any], says: str) -> None:
    told = error_of(client.send("session.update", session={"type": "realtime", **settings}))
    assert says in told["message"]
    assert told["param"].startswith(f"session.{next(iter(settings))}")


def test_what_was_said_since_the_last_answer_is_the_question(client: Client) -> None:
    client.ask("first").complete("1")
    client.write("one thing", "in two parts")
    client.write("and another", IMAGE)
    client.send("response.create")
    assert client.stream.asked[-1].question == "one thing\nin two parts\nand another"


def test_items_stand_where_the_client_puts_them(client: Client) -> None:
    client.write("b", item={"id": "b"})
    client.write("d", item={"id": "d"})
    assert client.write("c", item={"id": "c"}, previous_item_id="b")[0]["previous_item_id"] == "b"
    assert client.write("a", item={"id": "a"}, previous_item_id="root")[0]["previous_item_id"] is None
    assert client.write("e")[0]["previous_item_id"] == "d"
    client.send("conversation.item.delete", item_id="c")
    client.send("response.create")
    assert client.stream.asked[-1].question == "a\nb\nd\ne"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("conversation.item.retrieve", "item_retrieve_invalid_item_id"),
        ("conversation.item.delete", "item_delete_invalid_item_id"),
    ],
)
def test_an_item_that_is_not_there_has_its_own_code(client: Client, kind: str, code: str) -> None:
    assert error_of(client.send(kind, item_id="nowhere"))["code"] == code


def test_an_id_or_a_place_that_makes_no_sense_is_refused(client: Client) -> None:
    client.write("hello", item={"id": "mine"})
    assert error_of(client.write("again", item={"id": "mine"}))["param"] == "item.id"
    assert error_of(client.write("again", previous_item_id="nowhere"))["param"] == "previous_item_id"


def test_old_items_leave_a_long_conversation(client: Client) -> None:
    for n in range(600):
        client.write(IMAGE, item={"id": f"frame{n}"})
    assert types(client.send("conversation.item.retrieve", item_id="frame599")) == ["conversation.item.retrieved"]
    assert types(client.send("conversation.item.retrieve", item_id="frame0")) == ["error"]
    for _ in range(40):
        client.write("x" * 32_000)
    assert types(client.send("conversation.item.retrieve", item_id="frame599")) == ["error"]


def test_a_second_response_to_the_conversation_has_to_wait(client: Client) -> None:
    first = client.ask("one?")
    error = error_of(client.send("response.create"))
    assert error["code"] == "conversation_already_has_active_response"
    first.complete("1")
    client.ask("two?").complete("2")
    assert types(client.received)[-1] == "response.done"


def test_out_of_band_responses_overlap_and_leave_the_conversation_alone(client: Client) -> None:
    main = client.ask("how are you?")
    question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "is it raining?"}]}
    for _ in range(2):
        client.send("response.create", response={"conversation": "none", "input": [question]})
    aside, other = client.stream.asked[1:]
    assert (aside.question, aside.out_of_band, main.out_of_band) == ("is it raining?", True, False)
    n_before = len(client.received)
    other.complete("no")
    aside.complete("no")
    told = client.received[n_before:]
    assert "conversation.item.added" not in types(told)
    assert [event["response"]["conversation_id"] for event in told if event["type"] == "response.done"] == [None, None]
    main.complete("fine")
    assert types(client.received)[-2:] == ["conversation.item.done", "response.done"]


def test_out_of_band_questions_may_be_instructions_or_point_to_items(client: Client) -> None:
    client.write("is it red?", item={"id": "q"})
    client.send("response.create", response={"conversation": "none", "input": [], "instructions": "is it blue?"})
    client.send("response.create", response={"conversation": "none", "input": [{"type": "item_reference", "id": "q"}]})
    client.send("response.create", response={"conversation": "none"})
    assert [asked.question for asked in client.stream.asked] == ["is it blue?", "is it red?", "is it red?"]


@pytest.mark.parametrize(
    "response",
    [
        {"input": []},
        {"conversation": "none", "input": []},
        {"conversation": "none", "input": [{"type": "message", "role": "user", "content": [IMAGE]}]},
        {"conversation": "none", "input": [{"type": "item_reference", "id": "nowhere"}]},
        {"conversation": "other"},
        {"output_modalities": ["audio"]},
        {"max_output_tokens": 0},
        {"max_output_tokens": 4097},
        {"metadata": {str(n): "" for n in range(17)}},
        {"tools": [{"type": "function", "name": "f"}]},
        {"streamvlm": {"at_s": -1}},
        {"modalities": ["text"]},
        "text",
    ],
)
def test_a_response_that_cannot_be_given_is_refused(client: Client, response: object) -> None:
    assert error_of(client.send("response.create", response=response))["code"] == "invalid_event"
    assert not client.stream.asked


def test_instructions_are_the_question_where_nothing_else_is_asked_and_never_a_part_of_one(client: Client) -> None:
    client.send("session.update", session={"type": "realtime", "instructions": "be brief"})
    assert client.ask("what is it?", instructions="in French").question == "what is it?"
    client.stream.asked[-1].complete("a dog")
    client.send("response.create", response={"instructions": "what do you see?"})
    assert client.stream.asked[-1].question == "what do you see?"


def test_a_session_update_changes_only_what_it_names_and_null_clears(client: Client) -> None:
    client.send("session.update", session={"type": "realtime", "instructions": "be brief", "max_output_tokens": 9})
    (updated,) = client.send("session.update", session={"type": "realtime", "instructions": None, "audio": {"x": 1}})
    assert updated["session"]["max_output_tokens"] == 9
    assert client.ask("what?").max_tokens == 9
    client.stream.asked[-1].complete("this")
    assert client.ask("what?", max_output_tokens="inf").max_tokens is None
    client.stream.asked[-1].complete("this")
    (updated,) = client.send("session.update", session={"type": "realtime", "max_output_tokens": None})
    assert updated["session"]["max_output_tokens"] == "inf"


def test_instructions_of_a_session_are_taken_and_never_told_to_be_in_effect(client: Client) -> None:
    (updated,) = client.send("session.update", session={"type": "realtime", "instructions": "be brief"})
    assert updated["session"]["instructions"] == ""
    assert client.ask("what?").question == "what?"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({}, "session.type"),
        ({"type": "transcription"}, "session.type"),
        ({"type": "realtime", "model": "gpt-realtime"}, "session.model"),
        ({"type": "realtime", "output_modalities": ["audio"]}, "session.output_modalities.0"),
        ({"type": "realtime", "tools": [{"type": "function", "name": "f"}]}, "session.tools"),
        ({"type": "realtime", "max_output_tokens": "9"}, "session.max_output_tokens"),
        ({"type": "realtime", "modalities": ["text"]}, "session.modalities"),
        ({"type": "realtime", "streamvlm": {"events": ["all"]}}, "session.streamvlm.events.0"),
    ],
)
def test_a_session_that_cannot_be_had_is_refused_and_stays_as_it_was(
    client: Client, session: dict[str, Any], param: str
) -> None:
    error = error_of(client.send("session.update", session=session))
    assert error["param"].startswith(param)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_event")


def test_cancelling_ends_the_response_and_without_one_harms_nothing(client: Client) -> None:
    assert error_of(client.send("response.cancel"))["code"] == "response_cancel_not_active"
    asked = client.ask("what?")
    asked.text("a re")
    assert client.send("response.cancel") == []
    assert asked.is_cancelled
    asked.complete()
    done = client.received[-1]["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
    assert done["output"][0]["status"] == "incomplete"
    assert error_of(client.send("response.cancel"))["code"] == "response_cancel_not_active"


def test_cancelling_by_id_ends_that_response_alone(client: Client) -> None:
    main = client.ask("what?")
    client.send("response.create", response={"conversation": "none", "instructions": "how?"})
    client.send("response.cancel", response_id=client.received[-1]["response"]["id"])
    assert (main.is_cancelled, client.stream.asked[-1].is_cancelled) == (False, True)


def test_an_answer_cancelled_before_its_first_word_has_no_item(client: Client) -> None:
    asked = client.ask("what?")
    client.send("response.cancel")
    n_before = len(client.received)
    asked.complete()
    (done,) = client.received[n_before:]
    assert (done["response"]["status"], done["response"]["output"]) == ("cancelled", [])


def test_an_answer_of_no_words_is_still_an_item(client: Client) -> None:
    client.ask("what?").complete()
    assert client.received[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_a_question_that_the_engine_refuses_is_an_error_and_leaves_room_for_the_next(client: Client) -> None:
    client.stream.refusal = BusyError("There are too many questions; wait.")
    client.write("what?")
    error = error_of(client.send("response.create"))
    assert (error["code"], error["type"]) == ("model_overloaded", "server_error")
    client.stream.refusal = None
    client.ask("what?").complete("this")
    assert client.received[-1]["response"]["status"] == "completed"


def test_a_failure_inside_tells_nothing_of_itself(client: Client) -> None:
    client.ask("what?").fail(RuntimeError("/secret/path"))
    assert client.received[-1]["response"]["status_details"]["error"]["code"] == "internal_error"
    assert "secret" not in str(client.received[-1])


@pytest.mark.parametrize(
    "kind", ["input_audio_buffer.append", "conversation.item.truncate", "output_audio_buffer.clear"]
)
def test_what_is_known_but_not_supported_says_so(client: Client, kind: str) -> None:
    error = error_of(client.send(kind, audio="AAAA", event_id="e"))
    assert (error["code"], error["event_id"]) == ("invalid_event", "e")
    assert "not supported" in error["message"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_event"),
        ("{", "invalid_event"),
        ("[" * 100_000, "invalid_event"),
        ("3", "invalid_event"),
        ("[]", "invalid_event"),
        ('"response.create"', "invalid_event"),
        ("9" * 10_000, "invalid_event"),
        ("{}", "unknown_event"),
        ('{"type": 3}', "unknown_event"),
        ('{"type": ["response.create"]}', "unknown_event"),
        ('{"type": "no.such"}', "unknown_event"),
        ('{"type": "response.create", "event_id": 3}', "invalid_event"),
        ('{"type": "response.create", "more": 1}', "invalid_event"),
        ('{"type": "response.create", "response": {"instructions": "\\ud800"}}', "invalid_event"),
        ('{"type": "conversation.item.retrieve", "item_id": "\\ud800"}', "invalid_event"),
        ('{"type": "\\ud800", "event_id": "\\ud800"}', "unknown_event"),
        ('{"type": "conversation.item.create", "item": {"type": "function_call_output"}}', "invalid_event"),
        ('{"type": "conversation.item.create", "item": {"type": "message", "role": "user"}}', "invalid_event"),
        ('{"type": "response.create", "response": {"streamvlm": {"at_s": NaN}}}', "invalid_event"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_an_error_and_the_session_goes_on(client: Client, message: str, code: str) -> None:
    assert error_of(client.say(message))["code"] == code
    assert types(client.write("hello")) == ["conversation.item.added", "conversation.item.done"]


@pytest.mark.parametrize("inner", ["1,", "[],", '{"a":[[[[[[[[1]]]]]]]]},'])
def test_an_event_that_would_take_long_to_parse_is_refused_unread(client: Client, inner: str) -> None:
    error = error_of(client.say('{"type": "response.create", "response": [' + inner * (MAX_MARKS + 1)))
    assert (error["code"], "20000 commas or brackets" in error["message"]) == ("invalid_event", True)
    assert types(client.write("a, " * 10_000, IMAGE)) == ["conversation.item.added", "conversation.item.done"]
