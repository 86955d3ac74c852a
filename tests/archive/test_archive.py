"""A session on disk: closed, reopened, and none the wiser."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from streamvlm.archive.archive import Archive, ArchiveConfig, kept_config
from streamvlm.archive.maintenance import repair, take_inventory, verify
from streamvlm.errors import StoreError, UsageError
from streamvlm.frame import Frame
from streamvlm.memory.disk.codec import Codec
from streamvlm.models.base import VideoLanguageModel
from streamvlm.session.answer import Answer
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.world.events import World, make_world
from streamvlm.world.render import render

SECONDS = 70
QUESTIONS = ("what do you see now?", "did you see a red circle?", "what was in the centre of the sea?")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(5, SECONDS)


@pytest.fixture(scope="module")
def frames(world: World) -> list[Frame]:
    return [Frame(i, float(i), render(world, float(i))) for i in range(SECONDS)]


def small(pocket: VideoLanguageModel) -> SessionConfig:
    """A host that holds the window and not much more."""
    return SessionConfig(host_budget_bytes=14 * (13 * pocket.layout.token_bytes + 4096))


def opened(folder: Path, model: VideoLanguageModel, config: ArchiveConfig | None = None) -> closing[Archive]:
    events: list[str] = []
    return closing(Archive(folder, model, config, on_event=events.append))


def asked(session: Session, world: World) -> list[Answer]:
    named = [f"where was the {a.thing.name}?" for a in world.appearances[:3]]
    return [session.ask(question, out_of_band=True).answer for question in (*named, *QUESTIONS)]


def told(answers: list[Answer]) -> list[tuple[object, ...]]:
    """All of an answer that depends on what is remembered, evidence scores to the last bit."""
    return [(a.text, a.asked_at_s, a.evidence, a.retrieved, a.tokens) for a in answers]


@pytest.fixture(scope="module")
def in_ram(pocket: VideoLanguageModel, frames: list[Frame]) -> Session:
    session = Session(pocket)
    session.observe(frames)
    return session


def test_evicted_reopened_or_never_evicted_answers_are_the_same_to_the_bit(
    pocket: VideoLanguageModel, frames: list[Frame], world: World, in_ram: Session, tmp_path: Path
) -> None:
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, small(pocket), archive=archive)
        session.observe(frames)
        session.flush()
        stats = session.memory
        assert stats.host_bytes < in_ram.memory.host_bytes
        assert stats.n_forgotten == 0
        evicted = told(asked(session, world))
    with opened(tmp_path, pocket) as archive:
        again = Session(pocket, small(pocket), archive=archive)
        assert again.time_s == SECONDS - 1
        assert again.blocks() == in_ram.blocks()
        ids = [block.id for block in in_ram.blocks()]
        for kept, reread in zip(
            in_ram.stream_memory.blocks.fetch(ids), again.stream_memory.blocks.fetch(ids), strict=True
        ):
            assert torch.equal(kept, reread)
        # The newest frame was never kept in full fidelity: a new process sees what is remembered of it.
        again.watcher.newest = in_ram.watcher.newest
        reopened = told(asked(again, world))
    assert evicted == told(asked(in_ram, world))
    assert reopened == evicted


def test_a_reopened_stream_goes_on(pocket: VideoLanguageModel, frames: list[Frame], tmp_path: Path) -> None:
    with opened(tmp_path, pocket) as archive:
        first = Session(pocket, archive=archive)
        first.observe(frames[:40])
        first.ask("what do you see now?").answer.text  # noqa: B018
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, archive=archive)
        n_blocks = len(session.blocks())
        assert session.time_s == 39
        assert len(session.dialogue.payloads) == 1, "what was said is remembered too"
        with pytest.raises(ValueError, match="backwards"):
            session.observe(frames[10])
        session.observe(frames[40:])
        assert session.time_s == SECONDS - 1
        blocks = session.blocks()
        assert len(blocks) > n_blocks
        assert [block.id for block in blocks] == list(range(len(blocks)))
        answer = session.ask("what did you see?").answer
        assert answer.tokens.context > 0


def test_a_lost_catalog_comes_back_as_it_was(pocket: VideoLanguageModel, frames: list[Frame], tmp_path: Path) -> None:
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, archive=archive)
        session.observe(frames)
        session.close()
        before = session.blocks()
    assert any(block.end_s > block.start_s for block in before)
    (tmp_path / "catalog.db").unlink()
    assert repair(tmp_path, on_event=pytest.fail) == (len(before), 0)
    with opened(tmp_path, pocket) as archive:
        assert Session(pocket, archive=archive).blocks() == before


def test_a_long_dialogue_comes_back_as_it_was_in_view(
    pocket: VideoLanguageModel, frames: list[Frame], tmp_path: Path
) -> None:
    config = SessionConfig(max_dialogue_tokens=30)
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, config, archive=archive)
        session.observe(frames[:5])
        for question in QUESTIONS * 2:
            session.ask(question).answer.text  # noqa: B018
        in_view = [*session.dialogue.payloads]
        session.close()
        assert 1 <= len(in_view) < 6
    with opened(tmp_path, pocket) as archive:
        again = [*Session(pocket, config, archive=archive).dialogue.payloads]
        assert all(torch.equal(one, other) for one, other in zip(again, in_view, strict=True))
        assert len(archive.diary.turns(10**9, pocket.layout.token_bytes)) == len(in_view), "and no more is kept"
        assert archive.diary.counts()["dialogue"] == 6


def test_decisions_thumbnails_and_dialogue_are_kept(
    pocket: VideoLanguageModel, frames: list[Frame], tmp_path: Path
) -> None:
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, archive=archive)
        session.observe(frames)
        answer = session.ask("what do you see now?").answer
        n_blocks = len(session.blocks())
    stock = take_inventory(tmp_path)
    assert stock.entries == {"decisions": SECONDS, "thumbnails": n_blocks, "dialogue": 1}
    assert (stock.n_blocks, stock.end_s) == (n_blocks, SECONDS - 1)
    assert [(said.question, said.answer) for said in stock.dialogue] == [(answer.question, answer.text)]
    assert verify(tmp_path) == (n_blocks, [])


def test_a_folder_is_opened_as_it_was_unless_told_otherwise(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    with opened(tmp_path, pocket, ArchiveConfig(Codec.INT8, 32 << 20, 5.0)):
        pass
    with opened(tmp_path, pocket) as archive:
        assert archive.card.config == ArchiveConfig(Codec.INT8, 32 << 20, 5.0)
    assert kept_config(tmp_path, {"flush_every_s": 1.0}) == ArchiveConfig(Codec.INT8, 32 << 20, 1.0)
    assert kept_config(tmp_path / "new", {}) == ArchiveConfig()


@pytest.mark.parametrize("flush_every_s", [0.0, -1.0, math.nan, math.inf, 1e12])
def test_a_flush_interval_that_nothing_can_keep_to_is_refused(flush_every_s: float) -> None:
    with pytest.raises(UsageError, match="give a number above 0 and at most 3600"):
        ArchiveConfig(flush_every_s=flush_every_s)


def test_one_folder_has_one_writer(pocket: VideoLanguageModel, tmp_path: Path) -> None:
    with opened(tmp_path, pocket), pytest.raises(StoreError, match="in use by process"):
        Archive(tmp_path, pocket, on_event=print)
    with opened(tmp_path, pocket):
        pass  # free again


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"fingerprint": "another"}, "use that model"), ({"format_version": 99}, "format version 99")],
)
def test_what_another_model_or_version_made_is_refused(
    pocket: VideoLanguageModel, tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    with opened(tmp_path, pocket):
        pass
    path = tmp_path / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=complaint):
        Archive(tmp_path, pocket, on_event=print)


@pytest.mark.parametrize("folder", ["/proc/nothing", "/dev/null/x"])
def test_a_folder_that_cannot_be_is_one_sentence(pocket: VideoLanguageModel, folder: str) -> None:
    with pytest.raises(StoreError, match="choose another --memory"):
        Archive(Path(folder), pocket, on_event=print)


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"damage")


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: damage(folder / "seg-000002.kv", 20), "first page is damaged"),
        (lambda folder: damage(folder / "catalog.db", 4096), "memory repair"),
        (lambda folder: damage(folder / "diary.db", 0), "diary.db is damaged"),
        (lambda folder: (folder / "session.json").write_text("{}"), "holds no memory"),
    ],
)
def test_a_memory_that_does_not_open_holds_no_file_open(
    pocket: VideoLanguageModel, frames: list[Frame], tmp_path: Path, harm: Callable[[Path], object], complaint: str
) -> None:
    with opened(tmp_path, pocket) as archive:
        session = Session(pocket, archive=archive)
        session.observe(frames[:5])
        session.close()
    shutil.copy(tmp_path / "seg-000001.kv", tmp_path / "seg-000002.kv")
    harm(tmp_path)
    with pytest.raises(StoreError, match=complaint):
        Archive(tmp_path, pocket, on_event=print)
    held = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert [file for file in held if file.startswith(str(tmp_path.resolve()))] == []


@pytest.mark.parametrize("codec", [Codec.INT8, Codec.INT4])
def test_lossy_codecs_answer_much_the_same(
    pocket: VideoLanguageModel, frames: list[Frame], world: World, in_ram: Session, tmp_path: Path, codec: Codec
) -> None:
    with opened(tmp_path, pocket, ArchiveConfig(codec)) as archive:
        session = Session(pocket, small(pocket), archive=archive)
        session.observe(frames)
        session.flush()
        got, exact = asked(session, world), asked(in_ram, world)
    same = sum(a.text == b.text for a, b in zip(got, exact, strict=True))
    assert same >= len(exact) - (1 if codec is Codec.INT8 else 2)
