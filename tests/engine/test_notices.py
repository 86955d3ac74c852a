from __future__ import annotations

import pytest

from streamvlm.engine.notices import MOST_UNTOLD, Notices


def test_what_nobody_heard_is_told_to_who_comes_and_once(caplog: pytest.LogCaptureFixture) -> None:
    notices, heard, others = Notices("front-door"), list[str](), list[str]()
    notices.tell("one")
    notices.tell("two")
    notices.listen(heard.append)
    notices.tell("three")
    notices.listen(None)
    notices.tell("four")
    notices.listen(others.append)
    assert (heard, others) == (["one", "two", "three"], ["four"])
    assert [vars(record)["session_id"] for record in caplog.records] == ["front-door"] * 4


def test_only_the_last_of_many_wait() -> None:
    notices, heard = Notices("front-door"), list[str]()
    for number in range(100):
        notices.tell(str(number))
    notices.listen(heard.append)
    assert heard == [str(number) for number in range(100 - MOST_UNTOLD, 100)]


def test_a_listener_that_fails_harms_nobody() -> None:
    notices, heard = Notices("front-door"), list[str]()

    def fail(sentence: str) -> None:
        raise OSError(sentence)

    notices.listen(fail)
    notices.tell("one")
    notices.listen(heard.append)
    notices.tell("two")
    assert heard == ["two"]
