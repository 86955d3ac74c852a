"""Cameras that send JPEGs one after the other, each a part of one answer (RFC 2046)."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kinds.clip import Clip
from kinds.kind import CLIP, NOW, WEB, Kind, Outcome, Right
from kinds.web import send
from PIL import Image

_BEGUN_S = 1_700_000_000


def _parts(
    path: Path,
    clip: Clip,
    *,
    delimiter: str = "--frame",
    newline: str = "\r\n",
    is_stamped: bool = True,
    has_length: bool = True,
    is_closed: bool = True,
    is_cut: bool = False,
) -> None:
    """Writes the body of an answer of many parts."""
    body = io.BytesIO()
    step = 1 if is_stamped else 2  # so that nobody waits long for those that come in their own time
    for time_s, picture in zip(clip.times_s[::step], clip.pictures[::step], strict=True):
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, "JPEG", quality=90)
        head = [delimiter, "Content-Type: image/jpeg"]
        head += [f"Content-Length: {len(jpeg.getvalue())}"] * has_length
        head += [f"X-Timestamp: {_BEGUN_S + time_s:.6f}"] * is_stamped
        body.write(newline.join([*head, "", ""]).encode() + jpeg.getvalue() + newline.encode())
    if is_closed:
        body.write(f"{delimiter}--{newline}".encode())
    path.write_bytes(body.getvalue()[: -len(jpeg.getvalue()) // 2 if is_cut else None])


def _multipart(boundary: str, handler: BaseHTTPRequestHandler, file: Path) -> None:
    send(handler, file.read_bytes(), Content_Type=f"multipart/x-mixed-replace; boundary={boundary}")


def _paced(handler: BaseHTTPRequestHandler, file: Path) -> None:
    """One part after the other, twelve in a second."""
    send(handler, b"", Content_Type="multipart/x-mixed-replace; boundary=frame")
    try:
        for part in re.findall(rb"(?s)--frame.*?(?=--frame|\Z)", file.read_bytes()):
            handler.wfile.write(part)
            time.sleep(1 / 12)
    except OSError:
        return


def camera(
    name: str, what: str, boundary: str = "frame", outcome: Outcome = CLIP, serve: Any = None, **how: Any
) -> Kind:
    """A camera that shows the clip, and then ends."""
    return Kind(
        name, what, "camera", partial(_parts, **how), outcome, WEB, serve=serve or partial(_multipart, boundary)
    )  # fmt: skip


_ARRIVED = Right({NOW: "a blue star"}, ends_s=(0.7, 60.0))

CAMERAS = [
    camera("camera", "MJPEG of a camera that tells times and lengths"),
    camera("camera-no-length", "MJPEG of a camera that tells no lengths", has_length=False),
    camera("camera-quoted", "MJPEG, its boundary in quotes", '"my frame"', delimiter="--my frame"),
    camera("camera-dashed", "MJPEG, the dashes told as part of its boundary", "--frame"),
    camera("camera-more-dashes", "MJPEG whose boundary itself begins with dashes", "--frame", delimiter="----frame"),
    camera("camera-lf", "MJPEG with bare line feeds", newline="\n"),
    camera("camera-breaks-off", "MJPEG that ends without saying so", is_closed=False),
    replace(camera("camera-cut", "MJPEG that breaks off amid a picture", is_closed=False, is_cut=True,
        outcome=replace(CLIP, warns=r"ended at 0:(00:)?1[0-2]; it broke off amid a picture")),
        doors=(*WEB, "watch"), but={"watch": Right({NOW: "a blue star"}, warns="it broke off amid a picture")}),
    replace(camera("camera-untimed", "MJPEG of a camera that tells no times: they are those of arrival",
        outcome=_ARRIVED, serve=_paced, is_stamped=False), flags=("--fps", "4")),
    replace(camera("camera-bare", "MJPEG of a camera that tells nothing", outcome=_ARRIVED, serve=_paced,
        is_stamped=False, has_length=False), flags=("--fps", "4")),
    replace(camera("camera-watched", "MJPEG of a camera, watched live", outcome=Right({NOW: "a blue star"}),
        serve=_paced, is_stamped=False), doors=("watch",)),
]  # fmt: skip
