"""Sparse video costs a look a picture, not one a second; what the gate makes of it stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from tiny_model import TinyModel

from streamvlm.frame import Frame, Picture
from streamvlm.ingest.source import open_source
from streamvlm.session import sight_cache
from streamvlm.session.config import SessionConfig
from streamvlm.session.session import Session

TINY = SessionConfig(host_budget_bytes=1 << 22, max_answer_tokens=3)
N_PICTURES = 4
OPTIONS = {"libx264": {"g": "5", "threads": "1"}, "mjpeg": {"qmin": "3", "qmax": "3"}, "gif": {}}


def picture(n: int, shape: tuple[int, int] = (96, 128)) -> Picture:
    """Each of another colour, with shades that a video encoder redraws."""
    rows, columns = np.indices(shape)
    made = (40 + 30 * np.sin(rows / 9) + 30 * np.cos(columns / 7))[..., None].repeat(3, -1)
    made[..., n % 3] += 40 + 20 * n
    return np.asarray(made.clip(0, 255), np.uint8)


def write(
    path: Path, *, lasts_s: int, every_s: int, codec: str = "libx264", pix_fmt: str = "yuv420p", muxer: Any = None
) -> Path:
    """Four pictures, shown for so long; written again every so many seconds."""
    with av.open(str(path), "w", options=muxer or {}) as out:
        stream: Any = out.add_stream(codec, rate=1, options=OPTIONS[codec])
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        for second in range(0, N_PICTURES * lasts_s, every_s):
            frame = av.VideoFrame.from_ndarray(picture(second // lasts_s), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = second * 1000, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


ONCE: dict[str, Any] = {"lasts_s": 60, "every_s": 60}
AGAIN: dict[str, Any] = {"lasts_s": 15, "every_s": 1}
SPARSE: dict[str, dict[str, Any]] = {
    "once.mp4": ONCE,
    "once.mkv": ONCE,
    "once.ts": ONCE,
    "once.gif": {**ONCE, "codec": "gif", "pix_fmt": "rgb8"},
    "again.mp4": AGAIN,
    "again.mkv": AGAIN,
    "again.avi": {**AGAIN, "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "again.m3u8": {**AGAIN, "muxer": {"hls_time": "10", "hls_list_size": "0"}},
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_picture_a_minute_costs_a_look_a_picture(name: str, tmp_path: Path, device: str) -> None:
    how, model = SPARSE[name], TinyModel(device)
    path = write(tmp_path / name, **how)
    with open_source(str(path)) as source:
        decisions = Session(model, TINY).observe(source)
    assert sum(model.looks) == N_PICTURES
    assert len(decisions) == N_PICTURES * how["lasts_s"] // how["every_s"]
    turns_s = [decision.time_s for decision in decisions if decision.motion > 0.002]
    assert turns_s == pytest.approx([n * how["lasts_s"] for n in range(1, N_PICTURES)])


def observe(model: TinyModel, pictures: Sequence[Picture]) -> list[Any]:
    session = Session(model, TINY)
    return [session.observe(Frame(n, float(n), one)) for n, one in enumerate(pictures)]


def test_the_gate_decides_as_if_each_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    with open_source(str(write(tmp_path / "again.mp4", **AGAIN))) as source:
        frames = list(source)
    assert len({frame.picture.tobytes() for frame in frames}) > N_PICTURES, "key frames redraw the pictures"
    decisions = Session(TinyModel(device), TINY).observe(frames)
    monkeypatch.setattr(sight_cache, "SAME_PX_LEVELS", -1)
    looks = TinyModel(device)
    expected = Session(looks, TINY).observe(frames)
    assert sum(looks.looks) == len(frames)
    assert [(one.time_s, one.fidelity, one.reason) for one in decisions] == [
        (one.time_s, one.fidelity, one.reason) for one in expected
    ]


def faded() -> list[Picture]:
    return [np.full((96, 128, 3), 100 + n, np.uint8) for n in range(13)]


def speck() -> list[Picture]:
    with_it = picture(0)
    with_it[50:52, 70:72] = 255
    return [picture(0), with_it, picture(0)]


def larger() -> list[Picture]:
    return [picture(0), picture(0, (97, 128)), picture(0, (97, 128))]


def huge() -> list[Picture]:
    return [np.zeros((4000, 3000, 3), np.uint8)] * 2


@pytest.mark.parametrize(
    ("shown", "n_looks"),
    [
        (lambda: [picture(0)] * 9, 1),
        (faded, 4),  # what creeps is compared with what was looked at, and not with the picture before
        (speck, 3),
        (larger, 2),
        (huge, 2),  # holding them would cost more than it saves
    ],
)
def test_what_has_changed_is_looked_at_again(shown: Callable[[], list[Picture]], n_looks: int, device: str) -> None:
    model = TinyModel(device)
    observe(model, shown())
    assert sum(model.looks) == n_looks


def test_a_picture_whose_memory_is_used_for_the_next_one_is_looked_at_again(device: str) -> None:
    model, memory = TinyModel(device), picture(0)
    session = Session(model, TINY)
    session.observe(Frame(0, 0.0, memory))
    memory[:] = picture(1)
    session.observe(Frame(1, 1.0, memory))
    assert model.looks == [1, 1]


def test_a_look_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    model = TinyModel(device)
    session = Session(model, TINY)
    session.observe(Frame(0, 0.0, picture(0)))
    with monkeypatch.context() as broken:
        broken.setattr(model, "see", lambda pictures: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.observe(Frame(1, 1.0, picture(1)))
    (decision,) = session.observe(Frame(1, 1.0, picture(1)))
    assert decision.motion > 0
