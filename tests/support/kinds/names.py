"""Files called as people call them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kinds.clip import Clip, square, star
from kinds.kind import STAR, Kind
from kinds.stills import jpeg
from kinds.videos import video
from PIL import Image

DOORS = ("file", "http")


def named(name: str, what: str, file: str, container: str = "mp4") -> Kind:
    """The clip, called so."""
    return video(name, what, file, doors=DOORS, container=container)


def _counted(path: Path, clip: Clip) -> None:
    """Ten pictures, of which the tenth, by number, shows the star."""
    path.mkdir()
    for number in range(1, 11):
        Image.fromarray(star() if number == 10 else square()).save(path / f"{number}.jpg")


def _mixed(path: Path, clip: Clip) -> None:
    """Pictures of several formats and sizes, and what operating systems leave beside them."""
    path.mkdir()
    Image.fromarray(square()).save(path / "IMG_0001.PNG")
    Image.fromarray(square()).resize((320, 240)).save(path / "IMG_0002.bmp")
    (path / "IMG_0003.JPG").write_bytes(jpeg())
    (path / "._IMG_0004.JPG").write_bytes(b"\0\5\26\7")
    (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (path / "desktop.ini").write_text("[ViewState]")
    (path / "more").mkdir()


NAMES = [
    named("no-suffix", "a name without a suffix", "clip"),
    named("mp4-as-avi", "an MP4 called .avi", "clip.avi"),
    named("mkv-as-mp4", "a Matroska called .mp4", "clip.mp4", container="matroska"),
    named("mp4-as-jpg", "an MP4 called .jpg", "clip.jpg"),
    named("name-upper-case", "a name in upper case", "CLIP.MP4"),
    named("name-unicode", "a name in other scripts", "Überwachung – 東京 🎥.mp4"),
    named("name-spaces", "a name with spaces and quotes", "  my 'first' \"clip\" .mp4"),
    named("name-percent", "a name with percent signs", "100%25 %03d.mp4"),
    named("name-hash", "a name with # and ?", "clip #1?.mp4"),
    named("name-colon", "a name with colons, as recorders give it", "2026-11-26T12:30:00.mp4"),
    named("name-pattern", "a name with brackets and stars", "[clip] *{1,2}.mp4"),
    named("name-dash", "a name that begins with a dash", "-clip.mp4"),
    Kind("numbered", "pictures numbered without zeros", "pictures/", _counted, replace(STAR, ends_s=(18.0, 18.0)),
        ("folder",)),
    Kind("mixed-folder", "pictures of several formats, and what systems leave beside them", "pictures/", _mixed,
        replace(STAR, ends_s=(4.0, 4.0)), ("folder",)),
]  # fmt: skip
