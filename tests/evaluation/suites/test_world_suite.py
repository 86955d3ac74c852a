"""The suites that measure: they run the real pipeline, and their sums are right."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from streamvlm.archive.archive import Archive
from streamvlm.evaluation.benchmarks.store import bench_store
from streamvlm.evaluation.benchmarks.ttft import bench_ttft
from streamvlm.evaluation.suites.variants import Variant, variants_of
from streamvlm.evaluation.suites.world import Marked, as_markdown, run_world_suite, summarise
from streamvlm.frame import Fidelity
from streamvlm.memory.disk.codec import Codec
from streamvlm.memory.hierarchy import MemoryStats
from streamvlm.models.base import VideoLanguageModel
from streamvlm.policies.registry import POLICIES
from streamvlm.retrieval.evidence import Evidence
from streamvlm.session.answer import Answer, Timings, TokenCounts
from streamvlm.session.config import SessionConfig
from streamvlm.world.questions import Group, WorldQuestion


def marked(text: str, *spans: tuple[float, float]) -> Marked:
    question = WorldQuestion("where", Group.EARLIER, "where?", 60.0, "in the top", 20.0, 30.0)
    evidence = tuple(Evidence(start, end, Fidelity.CLEAR, 0.5) for start, end in spans)
    memory = MemoryStats(1, 1, 0, 0, 0, 0, 0, 0)
    answer = Answer("where?", text, 60.0, evidence, (), Timings(0.1, 0.2), TokenCounts(1, 1, 1), memory, "pocket")
    return Marked("streamvlm", question, answer, 7, needs_memory=True)


def test_shares_and_evidence_are_counted() -> None:
    report = summarise([marked("in the top", (25, 26)), marked("in the left", (31.5, 40)), marked("in the top")])
    assert report["streamvlm"]["groups"]["earlier"] == {"right": pytest.approx(2 / 3), "n": 3}
    assert report["streamvlm"]["evidence holds the moment"] == {"right": pytest.approx(1 / 3), "n": 3}
    assert report["streamvlm"]["beyond the window"] == {"earlier": {"right": pytest.approx(2 / 3), "n": 3}}
    assert report["streamvlm"]["earlier by delay"] == {"up to 30 s": {"right": pytest.approx(2 / 3), "n": 3}}
    table = as_markdown(report)
    assert "| earlier (3) | 66.7 % |" in table
    assert "| evidence holds the moment (3) | 33.3 % |" in table


def test_all_variants_answer_the_same_questions(pocket: VideoLanguageModel) -> None:
    variants = [*variants_of(POLICIES), *(Variant("streamvlm", codec) for codec in Codec)]
    names = [str(variant) for variant in variants]
    done = run_world_suite(pocket, SessionConfig(), seeds=[0], duration_s=60, n_questions=6, variants=variants)
    by_variant = {name: [m.question for m in done if m.variant == name] for name in names}
    assert len(by_variant["streamvlm"]) == 6
    assert all(asked == by_variant["streamvlm"] for asked in by_variant.values())
    assert set(summarise(done)) == set(names)
    by_text = {name: [m.answer.text for m in done if m.variant == name] for name in names}
    in_ram, raw = by_text["streamvlm"], by_text["streamvlm from disk, raw"]
    assert raw == in_ram, "on disk and back, raw blocks are the same blocks"


def test_every_policy_is_compared_in_ram_and_in_each_codec() -> None:
    assert [str(variant) for variant in variants_of(["recent", "random"], ["int8"])] == [
        "recent", "recent from disk, int8", "random", "random from disk, int8",
    ]  # fmt: skip


def test_bench_ttft_reports_both_ends_of_the_stream_and_what_is_held(
    pocket: VideoLanguageModel, tmp_path: Path
) -> None:
    lines: list[str] = []
    with closing(Archive(tmp_path / "mem", pocket, on_event=lines.append)) as archive:
        report = bench_ttft(pocket, SessionConfig(), duration_s=180, progress=lines.append, archive=archive)
    assert set(report["ttft_ms from second"]) == {120, 132}
    assert all(told["n"] == 48 for told in report["ttft_ms from second"].values())
    (then,) = report["ttft_ms as at second, asked in turns with the end"].values()
    end, early = (report["ttft_ms from second"][second]["median"] for second in (132, 120))
    assert report["ratio of medians, end to"]["120 s"] == end / early
    assert report["the same, asked in turns"]["120 s"] == end / then
    (held,) = report["held"]
    assert held["blocks"] > 10
    assert held["host_MB"] * 1e6 <= report["host_budget_bytes"]
    assert held["disk_MB"] > 0
    assert lines


def test_bench_store_compares_with_the_bare_disk(tmp_path: Path) -> None:
    report = bench_store(tmp_path, block_bytes=64 << 10, total_bytes=1)
    assert report["blocks"] == 128
    for ratio in ("write ratio", "read ratio", "fetch ratio"):
        assert isinstance(report[ratio], float)
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"
