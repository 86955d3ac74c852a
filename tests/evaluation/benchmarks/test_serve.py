from __future__ import annotations

from streamvlm.evaluation.benchmarks.serve import Load, bench_serve
from streamvlm.models.base import VideoLanguageModel


def test_every_question_to_a_loaded_server_is_answered_and_accounted_for(pocket: VideoLanguageModel) -> None:
    report = bench_serve(pocket, Load(2, 5, 1.0), progress=lambda line: None)
    assert (report["sessions"], report["questions"], report["answers lost"]) == (2, 4, 0)
    assert len(report["lag growth_s of each session"]) == 2
    for times, n_asked in ((report["ttft_ms"], 4), (report["idle, ttft_ms"], 40)):
        assert [told["n"] for name, told in times.items() if name != "added at p50"] == 3 * [n_asked]
