"""HLS as it is packaged: three segments of four seconds, whose clocks may have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from kinds.clip import Clip, resized
from kinds.kind import CLIP, NOW, WEB, Kind, Outcome, Refused, Right
from kinds.web import send
from kinds.writing import write

_NEW = "#EXT-X-DISCONTINUITY\n"
_LEAPING_S = (0.0, 3000.0, 77.0)
_STEADY_S = (0.0, 4.0, 8.0)
_ALIKE = ((160, 120), (160, 120), (160, 120))
_UNLIKE = ((160, 120), (320, 240), (96, 72))
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_KEY = bytes(range(16))

Entry = tuple[str, str]
"""Tags of a segment, each with its line's end, and its address."""


def _thirds(clip: Clip, sizes: Sequence[tuple[int, int]] = _ALIKE) -> list[Clip]:
    """Each thing alone, in pictures of these sizes."""
    n = len(clip.pictures) // 3
    return [
        replace(clip, pictures=tuple(resized(picture, *size) for picture in clip.pictures[i * n : (i + 1) * n]))
        for i, size in enumerate(sizes)
    ]


def _segments(clip: Clip, folder: Path, clocks_s: Sequence[float], sizes: Sequence[tuple[int, int]] = _ALIKE) -> None:
    """Writes a.ts, b.ts and c.ts, whose clocks begin at these times."""
    for name, third, from_s in zip("abc", _thirds(clip, sizes), clocks_s, strict=True):
        write(folder / f"{name}.ts", third, times_s=[from_s + time_s for time_s in third.times_s])


def _playlist(clip: Clip, entries: Sequence[Entry], *, is_whole: bool = True) -> str:
    each_s = len(clip.pictures) / 3 / float(clip.rate)
    head = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{max(1, round(each_s))}", "#EXT-X-MEDIA-SEQUENCE:0"]
    segments = [f"{tags}#EXTINF:{each_s:.3f},\n{address}" for tags, address in entries]
    return "\n".join([*head, *segments, *["#EXT-X-ENDLIST"] * is_whole, ""])


def _plain(path: Path, clip: Clip) -> None:
    _segments(clip, path.parent, _STEADY_S)
    path.write_text(_playlist(clip, [("", f"{name}.ts") for name in "abc"]))


def _discontinuous(
    prefix: str, path: Path, clip: Clip, sizes: Sequence[tuple[int, int]] = _ALIKE, tag: str = _NEW
) -> None:
    """Segments of unlike clocks; before each address stands what the prefix says of this folder's name."""
    _segments(clip, path.parent, _LEAPING_S, sizes)
    before = prefix.format(path.parent.name)
    path.write_text(_playlist(clip, [(tag * (name > "a"), f"{before}{name}.ts") for name in "abc"]))


def _fragments(path: Path, clip: Clip) -> None:
    """Fragmented MP4, of which each segment has a beginning of its own."""
    entries = []
    for name, third in zip("abc", _thirds(clip, _UNLIKE), strict=True):
        write(path.parent / "whole.mp4", third, muxer=_FRAGMENTED)
        data = (path.parent / "whole.mp4").read_bytes()
        at = data.index(b"moof") - 4
        (path.parent / f"{name}-init.mp4").write_bytes(data[:at])
        (path.parent / f"{name}.m4s").write_bytes(data[at:])
        entries.append((_NEW * (name > "a") + f'#EXT-X-MAP:URI="{name}-init.mp4"\n', f"{name}.m4s"))
    path.write_text(_playlist(clip, entries))


def _ranges(path: Path, clip: Clip) -> None:
    """All segments in one file."""
    _segments(clip, path.parent, _STEADY_S)
    parts = [(path.parent / f"{name}.ts").read_bytes() for name in "abc"]
    (path.parent / "all.ts").write_bytes(b"".join(parts))
    places = [sum(map(len, parts[:i])) for i in range(3)]
    path.write_text(
        _playlist(
            clip,
            [(f"#EXT-X-BYTERANGE:{len(part)}@{at}\n", "all.ts") for part, at in zip(parts, places, strict=True)],
        )
    )


def _encrypted(path: Path, clip: Clip) -> None:
    """Segments in AES-128; the key lies beside them."""
    _segments(clip, path.parent, _STEADY_S)
    (path.parent / "key").write_bytes(_KEY)
    for name in "abc":
        file, padding = path.parent / f"{name}.ts", PKCS7(128).padder()
        cipher = Cipher(algorithms.AES(_KEY), modes.CBC(bytes(16))).encryptor()
        file.write_bytes(cipher.update(padding.update(file.read_bytes()) + padding.finalize()) + cipher.finalize())
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{"0" * 32}\n'
    path.write_text(_playlist(clip, [(key * (name == "a"), f"{name}.ts") for name in "abc"]))


def _variants(path: Path, clip: Clip) -> None:
    """A list of two lists: the same in small pictures, and in larger ones."""
    path.parent.joinpath("small").mkdir()
    path.parent.joinpath("large").mkdir()
    for name, size in (("small", (80, 60)), ("large", (160, 120))):
        folder = path.parent / name
        _segments(clip, folder, _LEAPING_S, (size,) * 3)
        (folder / "list.m3u8").write_text(_playlist(clip, [(_NEW * (one > "a"), f"{one}.ts") for one in "abc"]))
    path.write_text(
        "#EXTM3U\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=80x60\nsmall/list.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=160x120\nlarge/list.m3u8\n"
    )


def _growing(path: Path, clip: Clip) -> None:
    """A live playlist; the whole of it lies beside it."""
    _segments(clip, path.parent, _LEAPING_S)
    entries = [(_NEW * (name > "a"), f"{name}.ts") for name in "abc"]
    for file, shown, is_whole in ((path, entries[:2], False), (path.with_suffix(".end"), entries, True)):
        text = _playlist(clip, shown, is_whole=is_whole)
        file.write_text(text.replace("TARGETDURATION:4", "TARGETDURATION:1"))  # which is how soon it is read again


def _lacking(path: Path, clip: Clip) -> None:
    """Its second segment is gone."""
    _plain(path, clip)
    (path.parent / "b.ts").unlink()


def _empty(path: Path, clip: Clip) -> None:
    path.write_text(_playlist(clip, []))


def _naming_its_host(handler: BaseHTTPRequestHandler, file: Path) -> None:
    send(handler, file.read_bytes().replace(b"HOST", handler.headers["Host"].encode()))


def _ending(handler: BaseHTTPRequestHandler, file: Path) -> None:
    """Grows when it is asked for the second time, to its end."""
    asked = [path for _, path in handler.server.asked]  # type: ignore[attr-defined]
    send(handler, (file if asked.count(handler.path) == 1 else file.with_suffix(".end")).read_bytes())


def hls(
    name: str,
    what: str,
    make: Callable[[Path, Clip], None],
    outcome: Outcome = CLIP,
    doors: tuple[str, ...] = ("file", *WEB),
    but: Mapping[str, Outcome] | None = None,
    serve: Callable[[BaseHTTPRequestHandler, Path], None] | None = None,
) -> Kind:
    """A kind of playlist."""
    return Kind(name, what, "clip.m3u8", make, outcome, doors, but or {}, serve)


_LACKS = Right({NOW: "a blue star"}, ends_s=(5.5, 12.0))
_HOST = "http://HOST/{}/"

PLAYLISTS = [
    hls("hls", "HLS", _plain, doors=("file", *WEB, "watch")),
    hls("hls-leaps", "HLS of discontinuous clocks", partial(_discontinuous, "")),
    hls("hls-leaps-root", "the same, its addresses from the root", partial(_discontinuous, "/{}/"), doors=WEB),
    hls("hls-leaps-absolute", "the same, its addresses whole", partial(_discontinuous, _HOST), doors=WEB,
        serve=_naming_its_host),
    hls("hls-leaps-untold", "HLS of discontinuous clocks that does not say so", partial(_discontinuous, "", tag="")),
    hls("hls-sizes", "HLS whose pictures change their size", partial(_discontinuous, "", sizes=_UNLIKE)),
    hls("hls-fmp4", "HLS of fragmented MP4 with three init segments", _fragments),
    hls("hls-ranges", "HLS of ranges of one file", _ranges),
    hls("hls-aes", "encrypted HLS", _encrypted),
    hls("hls-variants", "HLS in two sizes", _variants),
    hls("hls-ending", "a live HLS that ends", _growing, doors=WEB, serve=_ending),
    hls("hls-lacks", "HLS of which a segment is gone", _lacking, _LACKS, doors=WEB),
    hls("hls-empty", "HLS without segments", _empty, Refused("(?i)no segment|empty|no video|no readable|nothing")),
]  # fmt: skip
