"""The bench of true sizes, on a tiny checkpoint's configuration: what it counts is what a pass really does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fabricate import FAMILIES, fabricate

from streamvlm.cli import main
from streamvlm.models import loading

SMALL = ["--chunk", "2", "--retrieved", "3", "--repeats", "1"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_alone_is_measured(family: str, tmp_path: Path) -> None:
    folder = fabricate(family, tmp_path)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    done = CliRunner().invoke(main, ["bench", "encode", "--config-only", str(folder), *SMALL], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["tokens_per_clear_frame"] > FAMILIES[family].n_clear
    text = FAMILIES[family].config(320, dict.fromkeys(FAMILIES[family].special_tokens, 0)).get_text_config()
    n_layers, width, inner = text.num_hidden_layers, text.hidden_size, text.intermediate_size
    kv_width = width * text.num_key_value_heads // text.num_attention_heads
    n_tokens = told["tokens_per_clear_frame"]
    projections = 2 * n_layers * (2 * width * width + 2 * width * kv_width + 3 * width * inner) * n_tokens
    n_context = 40 + (8 + 2) * n_tokens  # sinks, window, chunk
    most = projections + 4 * n_layers * width * n_context * n_tokens
    assert projections < told["GFLOP_per_frame"]["prefill"] * 1e9 < most
    assert told["GFLOP_per_frame"]["see"] > 0
    assert 0 < told["share_of_ceiling"] < 1
    assert told["ttft_ms"]["retrieved_frames"] == 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--config-only", "pocket"], "pocket has its weights"),
        (["--config-only", "parrot"], "no model 'parrot'"),
        (["--config-only", "smolvlm2-256m", "--repeats", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(args: list[str], told: str) -> None:
    done = CliRunner().invoke(main, ["bench", "encode", *args], catch_exceptions=False)
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "free_ram_bytes", lambda: 1 << 30)
    done = CliRunner().invoke(main, ["bench", "encode", "--config-only", "llava-onevision-7b", "--dtype", "float32"])
    assert done.exit_code == 2
    assert "takes 32.1 GB and 1.1 GB of RAM are free" in done.stderr
