"""What is ours: only for who asked for it, and then all of it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from protocol_client import IMAGE, PICTURE, Client, types
from scripted_stream import EVIDENCE, has_fired

from streamvlm.errors import BusyError, SourceError
from streamvlm.frame import Fidelity
from streamvlm.gate.gate import Decision, Reason

DECISION = Decision(1.0, Fidelity.CLEAR, Reason.OPENING, 0.1, 0.2, 0.3, 0.4, 0.5)


def test_who_asks_for_ours_is_told_how_to_come_back(client: Client) -> None:
    (updated,) = client.opt_in(events=["stats"], binary_frames=True)
    assert updated["session"]["streamvlm"] == {
        "events": ["stats"],
        "binary_frames": True,
        "session_id": "sess",
        "resume_token": "secret",
        "time_s": None,
        "fired_after": 0,
        "standing": [],
    }
    assert client.protocol.takes_binary_frames


def test_who_no_longer_wants_ours_gets_it_no_longer(client: Client) -> None:
    client.opt_in(events=["stats"])
    (updated,) = client.send("session.update", session={"type": "realtime", "streamvlm": None})
    assert "streamvlm" not in updated["session"]
    client.protocol.tick()
    client.protocol.leave("restart", 5.0)
    assert client.received[-1] == updated


def test_who_did_not_ask_for_ours_never_gets_any_of_it(client: Client) -> None:
    client.write(IMAGE, item={"streamvlm": {"time_s": 1.0}})
    client.ask("what?", streamvlm={"at_s": 0.5}).complete("this")
    client.send("session.update", session={"type": "realtime", "instructions": "x"})
    client.send("streamvlm.standing.arm", question="is it red?")
    client.send("streamvlm.source.open", url="http://camera/")
    client.protocol.tick()
    client.protocol.leave("restart", 5.0)
    assert client.stream.decide is None
    assert not client.stream.armed
    errors = [event for event in client.received if event["type"] == "error"]
    assert [error["error"]["code"] for error in errors] == ["invalid_event"] * 2
    others = [event for event in client.received if event["type"] != "error"]
    assert "streamvlm" not in json.dumps(others)
    assert "secret" not in json.dumps(client.received)


def test_a_question_may_look_back_from_an_earlier_moment(client: Client) -> None:
    assert client.ask("what?", streamvlm={"at_s": 12.5}).at_s == 12.5


def test_evidence_comes_just_before_the_end_of_its_response(client: Client) -> None:
    client.opt_in(events=["evidence"])
    client.ask("what?").complete("this")
    evidence, done = client.received[-2:]
    assert done["type"] == "response.done"
    assert (evidence["type"], evidence["response_id"]) == ("streamvlm.response.evidence", done["response"]["id"])
    (seen,) = evidence["evidence"]
    assert (seen["start_s"], seen["end_s"], seen["fidelity"], seen["score"]) == (1.0, 2.0, "clear", 0.75)
    assert seen["thumbnail"] == f"/v1/sessions/sess/thumbnails/{EVIDENCE.block_id}"


def test_what_should_not_go_unnoticed_is_told_to_who_asked_for_ours(client: Client) -> None:
    client.opt_in()
    assert client.stream.notice is not None
    client.stream.notice("The disk is full.")
    assert (client.received[-1]["type"], client.received[-1]["message"]) == ("streamvlm.notice", "The disk is full.")
    client.send("session.update", session={"type": "realtime", "streamvlm": None})
    assert client.stream.notice is None


def test_statistics_and_decisions_come_with_the_tick(client: Client) -> None:
    client.opt_in(events=["stats", "frame"])
    n_before = len(client.received)
    client.protocol.tick()
    assert types(client.received[n_before:]) == ["streamvlm.stats"]
    assert client.stream.decide is not None
    for _ in range(2):
        client.stream.decide(DECISION)
    client.protocol.tick()
    assert types(client.received[n_before + 1 :]) == ["streamvlm.stats", "streamvlm.frame"]
    assert [told["reason"] for told in client.received[-1]["decisions"]] == ["opening", "opening"]


def test_decisions_that_nobody_fetches_do_not_pile_up(client: Client) -> None:
    client.opt_in(events=["frame"])
    assert client.stream.decide is not None
    for _ in range(10_000):
        client.stream.decide(DECISION)
    client.protocol.tick()
    assert len(client.received[-1]["decisions"]) < 1000


def test_a_standing_question_is_armed_fires_and_is_disarmed(client: Client) -> None:
    client.opt_in()
    (armed,) = client.send("streamvlm.standing.arm", question="is it red?", threshold=0.8, release=0.2)
    standing_id = armed["standing_id"]
    fire = client.stream.fire
    assert fire is not None
    fire(has_fired(standing_id, "is it red?", 7.0, 0.9, number=9, n_missed=2))
    expected = {"type": "streamvlm.standing.fired", "time_s": 7.0, "number": 9, "missed": 2}
    assert client.received[-1] | expected == client.received[-1]
    assert types(client.send("streamvlm.standing.disarm", standing_id=standing_id)) == ["streamvlm.standing.disarmed"]
    n_before = len(client.received)
    fire(has_fired(standing_id, "is it red?", 8.0, 0.9))  # was on its way when it was disarmed
    assert len(client.received) == n_before
    assert types(client.send("streamvlm.standing.disarm", standing_id=standing_id)) == ["error"]


def test_who_comes_back_is_told_what_is_armed_and_says_what_it_knows(client: Client) -> None:
    client.opt_in()
    client.send("streamvlm.standing.arm", question="is it red?", threshold=0.7)
    client.protocol.close()
    again = Client(client.stream)
    assert client.stream.fire is None
    (updated,) = again.opt_in(fired_after=3)
    (standing,) = updated["session"]["streamvlm"]["standing"]
    assert (standing["question"], standing["threshold"]) == ("is it red?", 0.7)
    assert (client.stream.fired_after, client.stream.fire is not None) == (3, True)
    disarmed = again.send("streamvlm.standing.disarm", standing_id=standing["standing_id"])
    assert types(disarmed) == ["streamvlm.standing.disarmed"]
    again.send("session.update", session={"type": "realtime", "streamvlm": None})
    assert client.stream.fire is None


def test_a_standing_question_that_the_engine_refuses_is_an_error_of_its_event(client: Client) -> None:
    client.opt_in()
    client.stream.refusal = BusyError("Too many are armed.")
    (error,) = client.send("streamvlm.standing.arm", question="is it red?", event_id="mine")
    assert (error["error"]["code"], error["error"]["event_id"]) == ("model_overloaded", "mine")


def test_a_standing_question_that_could_never_fall_silent_is_refused(client: Client) -> None:
    client.opt_in()
    (error,) = client.send("streamvlm.standing.arm", question="is it red?", threshold=0.3, release=0.6)
    assert error["error"]["param"] == "release"


def test_a_source_is_read_until_it_is_closed_ends_or_fails(client: Client) -> None:
    client.opt_in()
    assert client.send("streamvlm.source.open", url="http://a/", fps=2) == []
    client.stream.opened()
    assert types(client.received)[-1] == "streamvlm.source.opened"
    assert types(client.send("streamvlm.source.open", url="http://b/")) == ["error"]
    (ended,) = client.send("streamvlm.source.close")
    assert (ended["type"], ended["url"], ended["error"]) == ("streamvlm.source.ended", "http://a/", None)
    assert types(client.send("streamvlm.source.close")) == ["error"]
    client.send("streamvlm.source.open", url="http://b/")
    client.stream.ended(SourceError("It stopped."), None)
    assert (client.received[-1]["error"], client.received[-1]["warning"]) == ("It stopped.", None)
    client.send("streamvlm.source.open", url="http://b/", stream=1)
    client.stream.ended(None, "It ended early.")
    assert (client.received[-1]["error"], client.received[-1]["warning"]) == (None, "It ended early.")
    client.stream.refusal = SourceError("That may not be read.")
    assert types(client.send("streamvlm.source.open", url="http://c/")) == ["error"]
    assert not client.protocol.is_waited_for


def test_a_closed_connection_leaves_behind_its_source_and_its_standing_questions(client: Client) -> None:
    client.opt_in(events=["frame", "stats"])
    asked = client.ask("what?")
    client.send("streamvlm.standing.arm", question="is it red?")
    client.send("streamvlm.source.open", url="http://a/")
    assert client.protocol.is_waited_for
    client.protocol.close()
    n_before = len(client.received)
    asked.complete("this")
    client.protocol.tick()
    assert asked.is_cancelled
    assert (client.stream.decide, client.stream.fire, client.stream.pulling) == (None, None, "http://a/")
    assert [asked.question for asked in client.stream.armed.values()] == ["is it red?"]
    assert len(client.received) == n_before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["session.update", "conversation.item.create", "conversation.item.retrieve", "conversation.item.delete",
     "response.create", "response.cancel", "streamvlm.source.open", "streamvlm.source.close",
     "streamvlm.standing.arm", "streamvlm.standing.disarm", "input_audio_buffer.append"]
)  # fmt: skip
FIELDS = st.sampled_from(["session", "item", "item_id", "response", "response_id", "url", "question", "event_id"])


@given(st.lists(st.builds(lambda kind, rest: {**rest, "type": kind}, KINDS, st.dictionaries(FIELDS, JSON)), max_size=6))
def test_nothing_that_parses_as_json_breaks_a_session(messages: list[dict[str, Any]]) -> None:
    client = Client()
    for message in messages:
        client.say(json.dumps(message))
    assert types(client.write("hello", IMAGE))[-1] == "conversation.item.done"


@given(st.text(max_size=64))
def test_no_text_at_all_breaks_a_session(text: str) -> None:
    assert types(Client().say(text)) == ["error"]


ACTIONS = ("ask", "aside", "cancel", "complete", "fail", "picture", "opt in", "opt out", "tick")


@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_whatever_happens_each_response_ends_once_and_the_conversation_has_one_at_a_time(actions: list[str]) -> None:
    client = Client()
    answering: list[Any] = []
    for action in actions:
        n_asked = len(client.stream.asked)
        match action:
            case "ask":
                client.write("what?")
                client.send("response.create")
            case "aside":
                client.send("response.create", response={"conversation": "none", "instructions": "how?"})
            case "cancel":
                client.send("response.cancel")
            case "complete" if answering:
                answering.pop(0).complete("this")
            case "fail" if answering:
                answering.pop(0).fail(SourceError("gone"))
            case "picture":
                client.write(IMAGE)
            case "opt in":
                client.opt_in(events=["stats", "frame", "evidence"])
            case "opt out":
                client.send("session.update", session={"type": "realtime", "streamvlm": None})
            case "tick":
                client.protocol.tick()
        answering += client.stream.asked[n_asked:]
    for asked in answering:
        asked.complete("this")
    active: set[str] = set()
    ended: list[str] = []
    for event in client.received:
        response = event.get("response", {})
        if event["type"] == "response.created":
            assert response["conversation_id"] is None or not active
            active |= {response["id"]} if response["conversation_id"] else set()
        if event["type"] == "response.done":
            active.discard(response["id"])
            ended.append(response["id"])
    assert sorted(ended) == sorted(
        event["response"]["id"] for event in client.received if event["type"] == "response.created"
    )
    if "opt in" not in actions:
        assert "streamvlm" not in json.dumps(client.received)


def test_a_binary_frame_carries_its_times(client: Client) -> None:
    client.protocol.frame([(0.0, PICTURE)], time_s=1.25, wall_s=3.5)
    assert client.stream.offered[0][1:] == (1.25, 3.5)


def test_an_animation_is_offered_at_its_times(client: Client) -> None:
    client.protocol.frame([(0.0, PICTURE), (1.0, PICTURE), (2.5, PICTURE)], time_s=10.0, wall_s=None)
    assert [time_s for _, time_s, _ in client.stream.offered] == [10.0, 11.0, 12.5]
