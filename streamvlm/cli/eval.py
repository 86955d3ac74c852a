"""``streamvlm eval``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from streamvlm.cli.group import device_option, dtype_option, main, model_option
from streamvlm.cli.units import parse_time
from streamvlm.policies.registry import DEFAULT_POLICY, POLICIES


@main.group("eval")
def _eval() -> None:
    """Measure accuracy, on the synthetic world or on photographs, as a table on stdout."""


@_eval.command("world")
@click.option("--streams", default=8, show_default=True, help="Held-out worlds to watch.")
@click.option("--duration", default="11m", show_default=True, help="Length of each, at 1 frame/s.")
@click.option("--questions", default=100, show_default=True, help="Questions asked of each.")
@click.option(
    "--policy",
    "policies",
    default=DEFAULT_POLICY,
    show_default=True,
    metavar="NAMES",
    help=f"Policies to compare, with commas: {', '.join(POLICIES)}.",
)
@click.option(
    "--disk-codec",
    "codecs",
    metavar="NAMES",
    help="Compare each also with itself from disk, in these codecs, with commas: raw, int8, int4.",
)
@click.option("--top-k", default=8, show_default=True, metavar="BLOCKS")
@click.option("--misses", is_flag=True, help="List wrong answers on stderr.")
@click.option("--markdown", is_flag=True, help="Print the table of the model card instead of JSON.")
@model_option
@device_option
@dtype_option
def _eval_world(
    streams: int,
    duration: str,
    questions: int,
    policies: str,
    codecs: str | None,
    top_k: int,
    misses: bool,
    markdown: bool,
    model: str,
    device: str,
    dtype: str,
) -> None:
    """Ask held-out worlds about the present, the past, times, order, and what never appeared."""
    from streamvlm.evaluation.suites.variants import variants_of
    from streamvlm.evaluation.suites.world import as_markdown, run_world_suite, summarise
    from streamvlm.models.registry import load_model
    from streamvlm.session.config import SessionConfig

    variants = variants_of(_listed(policies), _listed(codecs) if codecs else ())
    marked = run_world_suite(
        load_model(model, device=device, dtype=dtype), SessionConfig(top_k=top_k), seeds=range(streams),
        duration_s=parse_time(duration), n_questions=questions, variants=variants,
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    for one in marked if misses else ():
        if not one.is_right:
            q = one.question
            print(
                f"{one.variant} {q.kind} at {q.ask_s:.0f} s: {q.text} -> {one.answer.text!r}, truth {q.truth!r}",
                file=sys.stderr,
            )
    report = summarise(marked)
    print(as_markdown(report) if markdown else json.dumps(report, indent=1))


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


@_eval.command("standing")
@click.option("--streams", default=8, show_default=True, help="Held-out worlds to watch.")
@click.option("--duration", default="11m", show_default=True, help="Length of each, at 1 frame/s.")
@click.option("--questions", default=8, show_default=True, help="Standing questions armed in each.")
@click.option("--form", default="did you see a {name}?", show_default=True, help="What is asked of the frame of now.")
@click.option("--threshold", default=0.8, show_default=True, help="Probability of yes at which it fires.")
@click.option("--release", default=0.3, show_default=True, help="Probability at which it may fire again.")
@click.option("--every", "every_s", default=1.0, show_default=True, help="Seconds of stream between checks, at most.")
@click.option("--cool-down", "cool_down_s", default=5.0, show_default=True, help="Seconds of rest after firing.")
@model_option
@device_option
@dtype_option
def _eval_standing(
    streams: int, duration: str, questions: int, form: str, threshold: float, release: float, every_s: float,
    cool_down_s: float, model: str, device: str, dtype: str,
) -> None:  # fmt: skip
    """Let held-out worlds tell when things appear: how soon, and with how many false alarms."""
    from streamvlm.evaluation.suites.standing import run_standing_suite, summarise
    from streamvlm.models.registry import load_model
    from streamvlm.session.standing_question import StandingQuestion

    duration_s = parse_time(duration)
    watches = run_standing_suite(
        load_model(model, device=device, dtype=dtype),
        StandingQuestion(form, threshold, release, every_s, cool_down_s),
        seeds=range(streams), duration_s=duration_s, n_questions=questions,
        progress=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    print(json.dumps(summarise(watches, streams * duration_s / 3600), indent=1))


@_eval.command("photos")
@click.option(
    "--stamps", type=click.Path(path_type=Path), default=Path("/usr/share/tuxpaint/stamps"), show_default=True
)
@click.option(
    "--backgrounds",
    type=click.Path(path_type=Path),
    default=Path("/usr/share/backgrounds/gnome"),
    show_default=True,
)
@click.option("--misses", is_flag=True, help="List wrong answers on stderr.")
@model_option
@device_option
@dtype_option
def _eval_photos(stamps: Path, backgrounds: Path, misses: bool, model: str, device: str, dtype: str) -> None:
    """Ask what photographs show, beside the trunk classifier's own top-1."""
    from streamvlm.evaluation.suites.photos import run_photo_suite
    from streamvlm.models.registry import load_model
    from streamvlm.world.photos import load_photo_set

    marks = run_photo_suite(load_model(model, device=device, dtype=dtype), load_photo_set(stamps, backgrounds, 0))
    for mark in marks if misses else ():
        if not mark.is_right:
            print(
                f"{mark.name}: said {mark.said!r}, trunk {mark.trunk_said!r}, right {sorted(mark.accepted)}",
                file=sys.stderr,
            )
    right, trunk = sum(m.is_right for m in marks), sum(m.is_trunk_right for m in marks)
    print(
        json.dumps(
            {
                "pictures": len(marks),
                "right": right / len(marks),
                "trunk": trunk / len(marks),
                "ratio": right / max(trunk, 1),
            }
        )
    )
