"""One still picture or animation means the same through every door, of the library and of the server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from click.testing import CliRunner
from live_server import LiveServer
from PIL import Image
from still_files import as_animation, as_still
from websocket_peer import Peer, peer

from streamvlm.cli import main
from streamvlm.frame import Picture
from streamvlm.world.events import Thing
from streamvlm.world.render import draw_picture

NOW, WHEN = "what do you see now?", "when did the red circle appear?"


def scene(zone: str, colour: str, shape: str) -> Picture:
    return draw_picture("wall", {zone: Thing(colour, shape, None)}, np.random.default_rng(3))


SQUARE, CIRCLE = scene("top-left", "purple", "square"), scene("bottom-right", "red", "circle")
STAR = scene("top-right", "blue", "star")
SHOW = [SQUARE, CIRCLE, STAR]


def mirrored() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 2
    return as_still(np.ascontiguousarray(STAR[:, ::-1]), "JPEG", exif=exif, quality=95)


def erased() -> bytes:
    """A red disc that nobody is to see lies over the star."""
    picture = np.dstack([STAR, np.full(STAR.shape[:2], 255, np.uint8)])
    down, right = np.ogrid[: picture.shape[0], : picture.shape[1]]
    picture[(down - 170) ** 2 + (right - 100) ** 2 < 2500] = (214, 32, 36, 0)
    return as_still(Image.fromarray(picture), "PNG")


def deep() -> bytes:
    grey = STAR.astype(np.float64) @ (0.299, 0.587, 0.114)
    return as_still(Image.fromarray((grey * 257).astype(np.uint16)), "PNG")


STILLS: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG, mirrored by EXIF": (mirrored, "a blue star"),
    "PNG, see-through in parts": (erased, "a blue star"),
    "PNG, 16 bits of grey": (deep, "a black star"),
    "AVIF": (lambda: as_still(STAR, "AVIF"), "a blue star"),
    "GIF, animated": (lambda: as_animation(SHOW, "GIF", 4000), "a blue star"),
    "WebP, animated": (lambda: as_animation(SHOW, "WEBP", 4000), "a blue star"),
}


def as_url(data: bytes, kind: str = "image/jpeg") -> str:
    """A data URL; its media type says little."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def chat(part: Callable[[bytes], dict[str, Any]]) -> Callable[..., list[str]]:
    def ask(data: bytes, questions: list[str], client: openai.OpenAI, server: LiveServer, folder: Path) -> list[str]:
        def answer(question: str) -> str:
            content: Any = [part(data), {"type": "text", "text": question}]
            done = client.chat.completions.create(model="pocket", messages=[{"role": "user", "content": content}])
            return str(done.choices[0].message.content)

        return [answer(question) for question in questions]

    return ask


def realtime(*, as_frame: bool) -> Callable[..., list[str]]:
    async def show(session: Peer, data: bytes) -> None:
        if as_frame:
            await session.opt_in(binary_frames=True)
            await session.frame(0, data, 0.0)
            return
        content = [{"type": "input_image", "image_url": as_url(data)}]
        await session.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await session.receive("conversation.item.done")

    async def use(data: bytes, questions: list[str], url: str) -> list[str]:
        async with peer(url) as session:
            await show(session, data)
            return [await session.ask(question) for question in questions]

    def ask(data: bytes, questions: list[str], client: openai.OpenAI, server: LiveServer, folder: Path) -> list[str]:
        return asyncio.run(use(data, questions, server.url))

    return ask


def command_line(name: str) -> Callable[..., list[str]]:
    def ask(data: bytes, questions: list[str], client: openai.OpenAI, server: LiveServer, folder: Path) -> list[str]:
        (folder / "pictures").mkdir()
        (folder / "pictures" / "seen.png").write_bytes(data)
        done = CliRunner().invoke(main, ["ask", "--json", str(folder / name), *questions], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return [json.loads(line)["answer"] for line in done.stdout.splitlines()]

    return ask


DOORS = {
    "a file": command_line("pictures/seen.png"),
    "a folder": command_line("pictures"),
    "image_url": chat(lambda data: {"type": "image_url", "image_url": {"url": as_url(data)}}),
    "video_url": chat(lambda data: {"type": "video_url", "video_url": {"url": as_url(data, "video/mp4")}}),
    "a list of JPEGs": chat(lambda data: {"type": "video_url", "video_url": {"url": as_url(data, "video/jpeg")}}),
    "input_image": realtime(as_frame=False),
    "a binary frame": realtime(as_frame=True),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", STILLS)
def test_a_still_means_the_same_through_every_door(
    kind: str, door: str, client: openai.OpenAI, server: LiveServer, tmp_path: Path
) -> None:
    make, right = STILLS[kind]
    is_animation = "animated" in kind
    questions = [NOW, WHEN] if is_animation else [NOW]
    expected = [right, "at 0:00:04"] if is_animation else [right]
    assert DOORS[door](make(), questions, client, server, tmp_path) == expected
