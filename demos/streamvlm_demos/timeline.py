"""Draws what becomes of two minutes of video: scores and fidelity of frames, blocks, and those that questions fetched.

    python -m streamvlm_demos.timeline > docs/timeline.svg

The bundled model watches a video of the synthetic world, one frame a second, and answers ``QUESTIONS`` at its end.
"""

from __future__ import annotations

import base64
import io
import math
import sys
from dataclasses import dataclass

from PIL import Image

from streamvlm import Session, load_model
from streamvlm.frame import Fidelity, Frame, Picture
from streamvlm.gate.gate import Decision
from streamvlm.memory.block import KVBlock
from streamvlm.readable import clock
from streamvlm.session.answer import Answer
from streamvlm.world.events import make_world
from streamvlm.world.render import render
from streamvlm_demos.svg import Svg

SEED, DURATION_S = 7, 120
QUESTIONS = (
    "when did the blue star appear?",
    "what came right after the yellow square?",
    "where was the blue square?",
)

_LEFT, _PX_PER_S, _WIDTH = 100, 7, 960
_FILM_Y, _FILM_S, _FILM_PX = 16, 10, (68, 51)
_SCORE_TOP, _SCORE_BOTTOM, _SCORES = 88, 178, (1e-3, 1.0)  # pixels, and the scores that stand there
_BLOCK_Y, _BLOCK_PX = 206, {Fidelity.CLEAR: 22, Fidelity.FUZZY: 11}
_QUESTION_Y, _QUESTION_PX = 262, 24
_AXIS_Y, _LEGEND_Y, _HEIGHT = 344, 374, 390

_STYLE = """
.panel { fill: #ffffff } text { font: 12px system-ui, sans-serif; fill: #1f2328 } .label { fill: #59636e }
.middle { text-anchor: middle; fill: #59636e } .rule { stroke: #d1d9e0 }
.clear { fill: #0969da } .fuzzy { fill: #80b9f5 } .discarded { fill: #9ba3ab } .stem { stroke: #9ba3ab }
.clear-threshold { stroke: #0969da; fill: none } .fuzzy-threshold { stroke: #80b9f5; fill: none }
.fetched { stroke: #bc4c00; fill: none; stroke-width: 2 } .window { stroke: #59636e; fill: none }
"""
_DARK = """
.panel { fill: #0d1117 } text { fill: #f0f6fc } .label, .middle { fill: #9198a1 } .rule { stroke: #3d444d }
.clear { fill: #4493f8 } .fuzzy { fill: #2f5c94 } .discarded { fill: #656c76 } .stem { stroke: #656c76 }
.clear-threshold { stroke: #4493f8 } .fuzzy-threshold { stroke: #2f5c94 }
.fetched { stroke: #f0883e } .window { stroke: #9198a1 }
"""


@dataclass(frozen=True)
class Watched:
    """A stream that was watched and asked.

    Attributes:
        pictures: One a second.
        decisions: The gate's, one a picture.
        blocks: What is remembered at the end.
        n_window: How many of the newest blocks every question attends to.
        answers: To ``QUESTIONS``.
    """

    pictures: list[Picture]
    decisions: list[Decision]
    blocks: tuple[KVBlock, ...]
    n_window: int
    answers: list[Answer]


def watch(device: str = "auto") -> Watched:
    """Watches the video, one frame a second, and asks at its end."""
    world = make_world(SEED, DURATION_S)
    pictures = [render(world, float(second)) for second in range(DURATION_S)]
    session = Session(load_model("pocket", device=device))
    decisions = session.observe(Frame(i, float(i), picture) for i, picture in enumerate(pictures))
    answers = [session.ask(question, out_of_band=True).answer for question in QUESTIONS]
    return Watched(pictures, decisions, session.blocks(), session.config.window_blocks, answers)


def draw(watched: Watched) -> str:
    """Returns the timeline as SVG."""
    svg = Svg(_WIDTH, _HEIGHT, "Two minutes of video as StreamVLM watched them", _STYLE, _DARK)
    _draw_film(svg, watched.pictures)
    _draw_scores(svg, watched.decisions)
    _draw_blocks(svg, watched.blocks, watched.n_window)
    _draw_questions(svg, watched.answers, {block.id: block for block in watched.blocks})
    _draw_axis(svg)
    _draw_legend(svg, watched)
    return str(svg)


def _x(time_s: float) -> float:
    return _LEFT + _PX_PER_S * time_s


def _y(score: float) -> float:
    least, most = map(math.log, _SCORES)
    share = (math.log(min(max(score, _SCORES[0]), _SCORES[1])) - least) / (most - least)
    return _SCORE_BOTTOM - share * (_SCORE_BOTTOM - _SCORE_TOP)


def _clock(time_s: float) -> str:
    return clock(time_s).removeprefix("0:0")


def _label(svg: Svg, y: float, words: str) -> None:
    svg.add("text", "label", words, x=12, y=y)


def _draw_film(svg: Svg, pictures: list[Picture]) -> None:
    _label(svg, _FILM_Y + 30, "the video")
    for second in range(_FILM_S // 2, DURATION_S, _FILM_S):
        width, height = _FILM_PX
        written = io.BytesIO()
        Image.fromarray(pictures[second]).resize((2 * width, 2 * height)).save(written, "JPEG", quality=70)
        url = "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
        svg.add("image", "film", x=_x(second) - width / 2, y=_FILM_Y, width=width, height=height, href=url)


def _draw_scores(svg: Svg, decisions: list[Decision]) -> None:
    _label(svg, (_SCORE_TOP + _SCORE_BOTTOM) / 2 - 4, "curvature")
    _label(svg, (_SCORE_TOP + _SCORE_BOTTOM) / 2 + 12, "score, log")
    svg.add("line", "rule", x1=_LEFT, x2=_x(DURATION_S), y1=_SCORE_BOTTOM, y2=_SCORE_BOTTOM)
    fuzzy = " ".join(f"{_x(d.time_s):.1f},{_y(d.fuzzy_threshold):.1f}" for d in decisions)
    clear = " ".join(f"{_x(d.time_s):.1f},{_y(d.clear_threshold):.1f}" for d in decisions)
    svg.add("polyline", "fuzzy-threshold", points=fuzzy)
    svg.add("polyline", "clear-threshold", points=clear)
    for one in decisions:
        x, y = _x(one.time_s), _y(one.score)
        svg.add("line", "stem", x1=x, x2=x, y1=_SCORE_BOTTOM, y2=y)
        svg.add("circle", str(one.fidelity), cx=x, cy=y, r=2 if one.fidelity is Fidelity.DISCARDED else 3)


def _draw_blocks(svg: Svg, blocks: tuple[KVBlock, ...], n_window: int) -> None:
    _label(svg, _BLOCK_Y + 15, "KV blocks")
    bottom = _BLOCK_Y + _BLOCK_PX[Fidelity.CLEAR]
    for block in blocks:
        height = _BLOCK_PX[block.fidelity]
        width = _x(block.end_s + 1) - _x(block.start_s) - 1.5
        svg.add("rect", str(block.fidelity), x=_x(block.start_s), y=bottom - height, width=width, height=height, rx=1)
    left, right = _x(blocks[-n_window:][0].start_s), _x(blocks[-1].end_s + 1)
    svg.add("path", "window", d=f"M{left:.1f} {_BLOCK_Y - 4}v-4H{right:.1f}v4")
    svg.add("text", "middle", "the window", x=(left + right) / 2, y=_BLOCK_Y - 12)


def _draw_questions(svg: Svg, answers: list[Answer], blocks: dict[int, KVBlock]) -> None:
    _label(svg, _QUESTION_Y, "questions")
    _label(svg, _QUESTION_Y + 16, f"at {_clock(answers[0].asked_at_s)}")
    for row, answer in enumerate(answers):
        y = _QUESTION_Y + row * _QUESTION_PX
        fetched = [(_x(blocks[number].start_s) + _x(blocks[number].end_s + 1)) / 2 for number in answer.retrieved]
        for middle in fetched:
            svg.add("path", "fetched", d=f"M{middle:.1f} {_BLOCK_Y + 24}V{y - 12}q0 8 8 8H{max(fetched) + 16:.1f}")
        words = f"{answer.question} – {answer.text}"
        svg.add("text", "words", words, x=max(fetched, default=_LEFT) + 22, y=y)


def _draw_axis(svg: Svg) -> None:
    svg.add("line", "rule", x1=_LEFT, x2=_x(DURATION_S), y1=_AXIS_Y - 16, y2=_AXIS_Y - 16)
    for second in range(0, DURATION_S + 1, 20):
        svg.add("text", "middle", _clock(second), x=_x(second), y=_AXIS_Y)


def _draw_legend(svg: Svg, watched: Watched) -> None:
    n = {fidelity: sum(one.fidelity is fidelity for one in watched.decisions) for fidelity in Fidelity}
    told = {
        Fidelity.CLEAR: f"{n[Fidelity.CLEAR]} frames kept clear: all visual tokens",
        Fidelity.FUZZY: f"{n[Fidelity.FUZZY]} kept fuzzy: pooled tokens",
        Fidelity.DISCARDED: f"{n[Fidelity.DISCARDED]} discarded: their block stands for them",
    }
    for x, (fidelity, words) in zip((_LEFT, _LEFT + 270, _LEFT + 480), told.items(), strict=True):
        svg.add("circle", str(fidelity), cx=x + 4, cy=_LEGEND_Y - 4, r=4)
        svg.add("text", "label", words, x=x + 14, y=_LEGEND_Y)
    svg.add("line", "fetched", x1=_LEFT + 752, x2=_LEFT + 774, y1=_LEGEND_Y - 4, y2=_LEGEND_Y - 4)
    svg.add("text", "label", "fetched", x=_LEFT + 780, y=_LEGEND_Y)


if __name__ == "__main__":
    sys.stdout.write(draw(watch()))
