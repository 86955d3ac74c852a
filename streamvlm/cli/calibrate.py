"""``streamvlm calibrate``."""

from __future__ import annotations

import click

from streamvlm.cli.group import device_option, dtype_option, main, model_option


@main.command("calibrate")
@model_option
@device_option
@dtype_option
@click.option("--seed", default=0, show_default=True, help="Of the synthetic stream.")
def _calibrate(model: str, device: str, dtype: str, seed: int) -> None:
    """Find a model's retrieval heads with needles in a synthetic stream, and keep them for its sessions."""
    from streamvlm.calibration.calibrate import calibrate, save_calibration
    from streamvlm.models.registry import load_model

    loaded = load_model(model, device=device, dtype=dtype)
    report = calibrate(loaded, seed=seed)
    for rank in report.ranks[:8]:
        print(f"layer {rank.head.layer:>2} head {rank.head.head:>2}: right block first {rank.first:.0%}")
    print(
        "kept: "
        + ", ".join(f"layer {h.layer} head {h.head}" for h in report.heads)
        + f"; {save_calibration(loaded, report)}"
    )
