"""Each policy on a real stream, in RAM, from disk, and opened again by itself and by another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streamvlm.archive.archive import Archive
from streamvlm.frame import Frame, Picture
from streamvlm.models.base import Sight, VideoLanguageModel
from streamvlm.policies.registry import DEFAULT_POLICY, POLICIES
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import World

WINDOW, TOP_K, ASKED_AT_S = 4, 3, 58.0
"""A second before the newest frame, which would be shown clear to a question that is asked now."""


class Remembering:
    """A model that looks at no picture twice, however many sessions see it."""

    def __init__(self, model: VideoLanguageModel) -> None:
        self._model, self._sights = model, dict[int, Sight]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def see(self, pictures: Sequence[Picture]) -> list[Sight]:
        new = [picture for picture in pictures if id(picture) not in self._sights]
        self._sights |= zip(map(id, new), self._model.see(new) if new else [], strict=True)
        return [self._sights[id(picture)] for picture in pictures]


Told = list[tuple[object, ...]]
"""All of some answers that depends on what a question gets, evidence to the last bit."""


@pytest.fixture(scope="module")
def model(pocket: VideoLanguageModel) -> VideoLanguageModel:
    return Remembering(pocket)


@pytest.fixture(scope="module")
def minute(frames: list[Frame]) -> list[Frame]:
    return frames[:60]


def opened(model: VideoLanguageModel, policy: str, archive: Archive | None = None) -> Session:
    host_bytes = 12 * (13 * model.layout.token_bytes + 4096) if archive is not None else 64 << 20
    config = SessionConfig(policy=policy, window_blocks=WINDOW, top_k=TOP_K, host_budget_bytes=host_bytes)
    return Session(model, config, archive=archive)


def answers(session: Session, world: World) -> Told:
    questions = [
        "did you see a red circle?",
        *(f"where was the {shown.thing.name}?" for shown in world.appearances[:3]),
    ]
    asked = [session.ask(question, at_s=ASKED_AT_S, out_of_band=True).answer for question in questions]
    return [(one.text, one.evidence, one.retrieved, one.tokens) for one in asked]


@pytest.fixture(scope="module")
def in_ram(model: VideoLanguageModel, minute: list[Frame], world: World) -> Callable[[str], Told]:
    """What each policy answers of a stream that lies in RAM."""
    told: dict[str, Told] = {}

    def ask(policy: str) -> Told:
        if policy not in told:
            session = opened(model, policy)
            session.observe(minute)
            told[policy] = answers(session, world)
        return told[policy]

    return ask


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_answers_alike_in_ram_from_disk_and_when_it_is_opened_again(
    policy: str, model: VideoLanguageModel, minute: list[Frame], world: World, tmp_path: Path,
    in_ram: Callable[[str], Told],
) -> None:  # fmt: skip
    expected = in_ram(policy)
    with closing(Archive(tmp_path, model, on_event=pytest.fail)) as archive:
        session = opened(model, policy, archive)
        session.observe(minute)
        session.flush()
        assert session.memory.host_bytes < len(session.blocks()) * 13 * model.layout.token_bytes
        assert answers(session, world) == expected
        session.close()
    with closing(Archive(tmp_path, model, on_event=pytest.fail)) as archive:
        assert answers(opened(model, policy, archive), world) == expected


def test_no_two_policies_give_a_question_the_same(in_ram: Callable[[str], Told]) -> None:
    assert len({tuple(retrieved for _, _, retrieved, _ in in_ram(policy)) for policy in POLICIES}) == len(POLICIES)


@pytest.fixture(scope="module")
def folder(model: VideoLanguageModel, minute: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory that was written by the policy that runs by default."""
    path = tmp_path_factory.mktemp("written") / "mem"
    with closing(Archive(path, model, on_event=pytest.fail)) as archive:
        session = opened(model, DEFAULT_POLICY, archive)
        session.observe(minute)
        session.close()
    return path


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "curvestream-paper"])
def test_any_policy_opens_what_another_has_written_as_if_it_had_been_its_own(
    policy: str, folder: Path, model: VideoLanguageModel, world: World,
    in_ram: Callable[[str], Told],
) -> None:  # fmt: skip
    with closing(Archive(folder, model, on_event=pytest.fail)) as archive:
        assert answers(opened(model, policy, archive), world) == in_ram(policy)


def test_a_stream_goes_on_under_another_policy_and_back(
    model: VideoLanguageModel, minute: list[Frame], world: World, tmp_path: Path
) -> None:
    policies = ["curvestream-paper", "mean-key", "everything", DEFAULT_POLICY]
    for policy, start in zip(policies, range(0, 60, 15), strict=True):
        with closing(Archive(tmp_path, model, on_event=pytest.fail)) as archive:
            session = opened(model, policy, archive)
            session.observe(minute[start : start + 15])
            session.close()
    with closing(Archive(tmp_path, model, on_event=pytest.fail)) as archive:
        session = opened(model, "everything", archive)
        blocks = session.blocks()
        assert [block.id for block in blocks] == list(range(len(blocks)))
        assert session.time_s == 59
        within = [block.id for block in blocks if block.start_s <= ASKED_AT_S]
        everything = session.ask("what did you see?", at_s=ASKED_AT_S, out_of_band=True).answer
        assert list(everything.retrieved) == within[:-WINDOW]
    with closing(Archive(tmp_path, model, on_event=pytest.fail)) as archive:
        ranked = opened(model, DEFAULT_POLICY, archive)
        shown = world.appearances[0]
        found = ranked.ask(f"where was the {shown.thing.name}?", at_s=ASKED_AT_S, out_of_band=True).answer
        assert any(seen.start_s <= shown.end_s and seen.end_s >= shown.start_s for seen in found.evidence)


def test_a_damaged_block_is_left_out_by_a_policy_that_makes_its_index_of_payloads(
    model: VideoLanguageModel, minute: list[Frame], tmp_path: Path
) -> None:
    events: list[str] = []
    with closing(Archive(tmp_path, model, on_event=events.append)) as archive:
        session = opened(model, DEFAULT_POLICY, archive)
        session.observe(minute)
        session.close()
        hurt = archive.store.locate(2)
        ids = [block.id for block in session.blocks()]
    assert hurt is not None
    with closing(Archive(tmp_path, model, on_event=events.append)) as archive:
        shape = archive.store._segments.shape_of(hurt)
        (path,) = tmp_path.glob(archive.store._segments.name_of(hurt))
    with path.open("r+b") as file:
        file.seek(4096 + hurt.slot * shape.n_bytes + shape.head_bytes + 100)
        file.write(b"\xa5" * 16)
    with closing(Archive(tmp_path, model, on_event=events.append)) as archive:
        session = opened(model, "mean-key", archive)
        assert any("Block 2" in event and "damaged" in event for event in events)
        assert [block.id for block in session.blocks()] == [block_id for block_id in ids if block_id != 2]
        assert session.ask("did you see a red circle?").answer.text
