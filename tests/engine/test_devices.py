"""What `auto` may choose, on a machine without it: every model's whole way on a pretended GPU, which mixes nothing."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from by_hand import Heard
from click.testing import CliRunner
from fabricate import FAMILIES, fabricate
from live_server import wait_until
from pairs import pictures
from pretended_gpu import GPU, pretended_gpu

from streamvlm.archive.archive import Archive, ArchiveConfig
from streamvlm.calibration import calibrate as calibration
from streamvlm.cli import main
from streamvlm.engine.config import EngineConfig
from streamvlm.engine.engine import Engine
from streamvlm.frame import Frame
from streamvlm.memory.disk.codec import Codec
from streamvlm.models.base import VideoLanguageModel
from streamvlm.models.registry import load_model
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session
from streamvlm.session.standing_question import ArmedQuestion, StandingQuestion, check
from streamvlm.world.events import World
from streamvlm.world.video import write_video

pytestmark = pytest.mark.only_on("cpu", "a GPU needs no pretending: all other tests run on it")

QUESTION = "what was there?"
SMALL = SessionConfig(window_blocks=3, top_k=3, chunk_frames=3, max_answer_tokens=6)


@pytest.fixture(scope="module", params=["pocket", *FAMILIES])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name = str(request.param)
    return name if name == "pocket" else str(fabricate(name, tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(autouse=True)
def _short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, least in {"_LEAST_BLOCKS": 10, "_LEAST_TRIALS": 2, "_N_MOMENTS": 1, "_N_STILLS": 2}.items():
        monkeypatch.setattr(calibration, name, least)


def told(session: Session, question: str = QUESTION, **how: Any) -> tuple[object, ...]:
    answer = session.ask(question, **how).answer
    return answer.text, answer.retrieved, answer.tokens, [seen.block_id for seen in answer.evidence]


def calibrated(model: VideoLanguageModel) -> VideoLanguageModel:
    found = calibration.calibrate(model, most_s=0.0)
    model.retrieval_heads, model.noise_floor = tuple((h.layer, h.head) for h in found.heads), found.noise_floor
    return model


def whole_way(model: VideoLanguageModel, folder: Path) -> list[object]:
    """All that a session does with a model: watch, answer, be armed, keep on disk, come back, score in another way."""
    config, frames = ArchiveConfig(codec=Codec.INT8), [Frame(i, float(i), p) for i, p in enumerate(pictures(12))]
    with closing(Archive(folder, model, config, on_event=print)) as archive:
        session = Session(model, SMALL, archive=archive)
        session.observe(frames[:11])
        answers: list[object] = [told(session), told(session, "and before?"), told(session, at_s=7.0, out_of_band=True)]
        assert session.ask(QUESTION, temperature=2.0, out_of_band=True).answer.tokens.question
        (seen,) = session.runner.run(session.watcher.watch(frames[11:]))
        armed_questions = [ArmedQuestion("id", StandingQuestion(QUESTION, threshold=1e-6, release=0.0))]
        ((_, fired),) = session.runner.run(check(session.runner, armed_questions, seen))
        answers.append(pytest.approx(fired.probability, abs=1e-4))
        session.close()
    with closing(Archive(folder, model, config, on_event=print)) as archive:
        answers.append(told(Session(model, SMALL, archive=archive), "and after that?"))
    by_mean = Session(model, replace(SMALL, policy="mean-key"))
    by_mean.observe(frames)
    return [*answers, told(by_mean)]


def test_on_the_gpu_a_model_goes_its_whole_way_and_says_what_it_says_on_the_cpu(
    checkpoint: str, device: str, tmp_path: Path
) -> None:
    model = calibrated(load_model(checkpoint, device=device, dtype="float32"))
    with pretended_gpu():
        twin = calibrated(load_model(checkpoint, device=str(GPU), dtype="float32"))
        assert twin.retrieval_heads == model.retrieval_heads
        assert twin.noise_floor == pytest.approx(model.noise_floor)
        said = whole_way(twin, tmp_path / "there")
    assert said == whole_way(model, tmp_path / "here")


def test_with_auto_a_model_goes_to_the_gpu_in_the_dtype_of_the_gpu(checkpoint: str) -> None:
    with pretended_gpu():
        model = load_model(checkpoint, device="auto", dtype="auto")
        weights = [*model.text_model.parameters(), *model.output_head.parameters()]
        assert {weight.device for weight in weights} == {GPU}
        expected = torch.float32 if checkpoint == "pocket" else torch.bfloat16
        assert {weight.dtype for weight in weights} == {model.layout.dtype} == {expected}
        session = Session(calibrated(model), SMALL)
        session.observe(Frame(i, float(i), picture) for i, picture in enumerate(pictures(6)))
        assert session.ask(QUESTION).answer.evidence


def test_pocket_answers_in_half_the_bytes_as_it_does_in_all(
    pocket: VideoLanguageModel, device: str, world: World, frames: list[Frame]
) -> None:
    asked = ["what do you see now?", *(f"where was the {shown.thing.name}?" for shown in world.appearances[:2])]
    answers = []
    for model in (pocket, load_model("pocket", device=device, dtype="bfloat16")):
        session = Session(model)
        session.observe(frames[:30])
        answers.append([session.ask(question, out_of_band=True).answer.text for question in asked])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1


def test_the_command_and_the_engine_take_the_gpu_that_is_there(world: World, tmp_path: Path) -> None:
    write_video(world, tmp_path / "clip.mp4")
    args = ["ask", str(tmp_path / "clip.mp4"), "--for", "8", "--device", "auto", "--json", "what do you see now?"]
    here = CliRunner().invoke(main, args, catch_exceptions=False)
    with pretended_gpu():
        there = CliRunner().invoke(main, args, catch_exceptions=False)
        assert json.loads(there.stdout)["answer"] == json.loads(here.stdout)["answer"]
        with Engine(load_model("pocket", device="auto"), EngineConfig(home=tmp_path / "home")) as engine:
            live, heard = engine.open(), Heard()
            for i, picture in enumerate(pictures(4)):
                live.offer(picture, time_s=float(i), wait=True)
            live.ask("what do you see now?", heard.append)
            wait_until(lambda: heard.has_ended)
            assert heard.answer.text
