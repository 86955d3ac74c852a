"""Writes a world as an mp4 file, and its questions with their truths beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from streamvlm.errors import UsageError
from streamvlm.frame import Picture
from streamvlm.world.events import World
from streamvlm.world.questions import SETTLED_S, Examiner, Group, WorldQuestion
from streamvlm.world.render import HEIGHT, WIDTH, render

VIDEO_FPS = 5


def write_video(
    world: World,
    path: Path,
    *,
    photos: Mapping[str, Picture] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Renders ``world`` with its ``photos`` at 5 frames/s as H.264 in mp4.

    ``progress`` gets the share that is done, in (0, 1].

    Raises:
        UsageError: If the file cannot be written.
    """
    n_frames = int(world.duration_s * VIDEO_FPS)
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=VIDEO_FPS, options={"crf": "20", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.time_base = Fraction(1, VIDEO_FPS)
            for i in range(n_frames):
                frame = av.VideoFrame.from_ndarray(render(world, i / VIDEO_FPS, photos), format="rgb24")
                container.mux(stream.encode(frame))
                progress((i + 1) / n_frames)
            container.mux(stream.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}); choose another --out.") from error


def write_questions(questions: list[WorldQuestion], path: Path) -> None:
    """Writes one JSON object a line: kind, group, text, ask_s, truth, start_s, end_s."""
    path.write_text("".join(json.dumps(asdict(q)) + "\n" for q in questions), "utf-8")


def read_questions(path: Path) -> list[WorldQuestion]:
    """Reads a file that ``write_questions`` wrote.

    Raises:
        UsageError: If it is missing or not such a file.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [
            WorldQuestion(**{**row, "group": Group(row["group"]), "accepted": tuple(row.get("accepted", ()))})
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        video = path.with_suffix(".mp4")
        raise UsageError(
            f"{path} holds no questions ({error}); make it with: streamvlm world 7 --out {video}"
        ) from error


def draw_questions(world: World, n: int, rng: np.random.Generator) -> list[WorldQuestion]:
    """Draws up to ``n`` questions over the whole stream, kinds in turn, in order of their ask time.

    Delays between a moment and its question are spread evenly on a log scale from 5 s to the stream's length.
    """
    examiner = Examiner(world, rng)
    found: dict[str, list[WorldQuestion]] = {}
    for question in _candidates(world, examiner, rng):
        found.setdefault(question.kind, []).append(question)
    for asked in found.values():
        rng.shuffle(asked)
    drawn: list[WorldQuestion] = []
    while len(drawn) < n and any(found.values()):
        drawn += [asked.pop() for asked in found.values() if asked]
    return sorted(drawn[:n], key=lambda q: q.ask_s)


def _candidates(world: World, examiner: Examiner, rng: np.random.Generator) -> list[WorldQuestion]:
    questions: list[WorldQuestion] = []
    last_s = world.duration_s - 1
    for ask_s in rng.uniform(SETTLED_S * 2, last_s, 60):
        questions += examiner.now(float(ask_s))
    for number, shown in enumerate(world.appearances):
        longest_s = last_s - shown.end_s
        if longest_s > 5:
            delay_s = float(np.exp(rng.uniform(np.log(5), np.log(longest_s))))
            questions += examiner.about(number, shown.end_s + delay_s)
    for number, photo in enumerate(world.photos):
        longest_s = last_s - photo.end_s
        if longest_s > 5:
            delay_s = float(np.exp(rng.uniform(np.log(5), np.log(longest_s))))
            questions += examiner.about_photo(number, photo.end_s + delay_s)
    n_seen = sum(q.group is Group.EXISTENCE for q in questions)
    questions += [examiner.never(float(rng.uniform(last_s / 2, last_s))) for _ in range(max(n_seen, 4))]
    return questions
