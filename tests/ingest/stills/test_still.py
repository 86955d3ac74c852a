"""Still pictures of every kind that people have, from their bytes."""

from __future__ import annotations

import contextlib
import re
import resource
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from looking import apart
from PIL import Image, ImageCms
from still_files import as_animation, as_png, as_still, corners, decode_still, png_chunk

from streamvlm.errors import PictureError, PictureTooLargeError
from streamvlm.frame import Picture
from streamvlm.ingest.mistaken import what_is
from streamvlm.ingest.stills.kinds import HEAD_BYTES, kind_of
from streamvlm.ingest.stills.still import StillReader, is_still

KINDS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


def decoded(data: bytes) -> Picture:
    return decode_still(data, name="a.jpg")


def shown(data: bytes) -> list[tuple[float, Picture]]:
    return [(time_s, picture()) for time_s, picture in StillReader(data, name="a.gif")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_rgb_by_its_content(kind: str) -> None:
    data = as_still(corners(), kind)
    assert is_still(data[:4096])
    picture = decoded(data)
    assert (str(picture.dtype), picture.flags.c_contiguous) == ("uint8", True)
    assert apart(picture, corners()) < 12


# --- orientation ---

ORIENTED = {
    1: corners(),
    2: corners()[:, ::-1],
    3: corners()[::-1, ::-1],
    4: corners()[::-1],
    5: np.swapaxes(corners(), 0, 1),
    6: np.rot90(corners(), 1),
    7: np.swapaxes(corners()[::-1, ::-1], 0, 1),
    8: np.rot90(corners(), -1),
}
"""How the picture is stored so that it is upright under each orientation."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_all_eight_orientations_come_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(ORIENTED[orientation])
    assert apart(decoded(as_still(stored, kind, exif=exif)), corners()) < 12


def test_the_pictures_of_an_animation_come_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(ORIENTED[6])
    pictures = [picture for _, picture in shown(as_animation([stored, 255 - stored], "WEBP", 500, exif=exif.tobytes()))]
    assert [apart(pictures[0], corners()), apart(pictures[1], 255 - corners())] == [0, 0]


def test_malformed_exif_says_nothing() -> None:
    data = as_still(corners(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12 and no more")
    assert apart(decoded(data), corners()) < 12


# --- what is see-through is laid on white ---

HIDDEN = np.dstack([corners(), np.full((32, 48), 255, np.uint8)])
HIDDEN[8:24, 12:36] = (255, 0, 0, 0)
ON_WHITE = np.where(HIDDEN[..., 3:] == 0, 255, HIDDEN[..., :3]).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("TIFF", {}),
        ("AVIF", {"quality": 100}),
        ("JPEG2000", {}),
    ],
)
def test_hidden_colours_are_never_shown(kind: str, options: dict[str, object]) -> None:
    assert apart(decoded(as_still(Image.fromarray(HIDDEN), kind, **options)), ON_WHITE) < 6


def test_half_see_through_is_half_white() -> None:
    grey = Image.fromarray(np.full((4, 4), 100, np.uint8))
    grey.putalpha(51)
    assert decoded(as_still(grey, "PNG")).max() == decoded(as_still(grey, "PNG")).min() == 224


def test_colours_multiplied_by_their_alpha_are_divided_again() -> None:
    data = as_still(Image.fromarray(HIDDEN).convert("RGBA"), "TIFF")
    associated = data.replace(struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 1))
    assert associated != data
    assert apart(decoded(associated), ON_WHITE) == 0


def test_a_palette_may_be_see_through() -> None:
    indexed = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    expected = [[[255, 255, 255], [0, 255, 0], [0, 0, 255], [9, 9, 9]]]
    for kind in ("PNG", "GIF"):
        assert decoded(as_still(indexed, kind, transparency=0)).tolist() == expected
    half = decoded(as_still(indexed, "PNG", transparency=bytes([255, 255, 255, 0])))
    assert half.tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, bytes([0b01000000]), 1, [0, 255]),
        (2, bytes([0b01100000]), 1, [255, 170]),
        (4, bytes([0x5A]), 5, [255, 170]),
        (8, bytes([85, 170]), 85, [255, 170]),
        (16, struct.pack(">HH", 0x1234, 0x5678), 0x1234, [255, 86]),
    ],
)
def test_one_grey_of_a_png_may_be_see_through_at_any_depth(
    depth: int, row: bytes, key: int, expected: list[int]
) -> None:
    picture = decoded(as_png((2, 1), depth, 0, [row], png_chunk(b"tRNS", struct.pack(">H", key))))
    assert picture[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("depth", "code"), [(8, "B"), (16, "H")])
def test_one_colour_of_a_png_may_be_see_through_at_any_depth(depth: int, code: str) -> None:
    one, other = (0x1234, 0x5678, 0x9ABC), (1000, 2000, 3000)
    samples = [value >> (16 - depth) for value in (*one, *other)]
    key = png_chunk(b"tRNS", struct.pack(">3H", *samples[:3]))
    picture = decoded(as_png((2, 1), depth, 2, [struct.pack(f">6{code}", *samples)], key))
    assert picture.tolist() == [[[255, 255, 255], [3, 7, 11]]]


# --- depth ---

DEEP = np.linspace(0, 65535, 48 * 32).astype(np.uint16).reshape(32, 48)
SHALLOW = np.repeat((DEEP / 257).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_of_grey_are_scaled(kind: str) -> None:
    assert apart(decoded(as_still(Image.fromarray(DEEP), kind)), SHALLOW) < 1


def test_sixteen_bits_of_grey_may_lie_the_other_way_round() -> None:
    assert apart(decoded(as_still(Image.fromarray(DEEP.astype(">u2")), "TIFF")), SHALLOW) < 1


def test_a_grey_map_is_scaled_by_its_own_white() -> None:
    assert decoded(b"P5 2 1 1023\n" + struct.pack(">HH", 1023, 512))[0, :, 0].tolist() == [255, 128]
    assert decoded(b"P2 2 1 15\n15 8\n")[0, :, 0].tolist() == [255, 136]


def test_sixteen_bits_of_colour_are_scaled() -> None:
    row = struct.pack(">6H", 65535, 32768, 0, 257, 514, 771)
    assert decoded(as_png((2, 1), 16, 2, [row])).tolist() == [[[255, 128, 0], [1, 2, 3]]]
    assert decoded(b"P6 2 1 65535\n" + row).tolist() == [[[255, 128, 0], [1, 2, 3]]]


def test_fractions_are_of_white() -> None:
    fractions = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert decoded(as_still(Image.fromarray(fractions), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    assert decoded(as_still(Image.fromarray(fractions * 500), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_black_and_white_stay_so_in_every_mode(mode: str) -> None:
    picture = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB").convert(mode)
    assert decoded(as_still(picture, "PNG"))[0, :, 0].tolist() == [0, 255]


# --- colours ---


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_printing_colours_become_rgb(kind: str) -> None:
    assert apart(decoded(as_still(Image.fromarray(corners()).convert("CMYK"), kind)), corners()) < 12


def swapped_profile() -> bytes:
    """SRGB with red and green exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_is_followed(kind: str) -> None:
    data = as_still(corners(), kind, icc_profile=swapped_profile())
    assert apart(decoded(data), corners()[..., [1, 0, 2]]) < 12


def test_a_colour_profile_is_followed_with_a_palette() -> None:
    data = as_still(Image.fromarray(corners()).quantize(8), "PNG", icc_profile=swapped_profile())
    assert apart(decoded(data), corners()[..., [1, 0, 2]]) < 3


def test_a_colour_profile_is_followed_under_alpha() -> None:
    data = as_still(Image.fromarray(HIDDEN), "PNG", icc_profile=swapped_profile())
    assert apart(decoded(data), ON_WHITE[..., [1, 0, 2]]) < 2


@pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:200]])
def test_a_malformed_colour_profile_says_nothing(profile: bytes) -> None:
    assert apart(decoded(as_still(corners(), "PNG", icc_profile=profile)), corners()) == 0


# --- animations ---

SCENES = [np.full((32, 48, 3), colour, np.uint8) for colour in ((200, 40, 40), (40, 180, 60), (50, 60, 190))]


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_is_a_short_video(kind: str) -> None:
    reader = StillReader(as_animation(SCENES, kind, [4000, 1500, 40]), name="a.gif")
    told = [(time_s, picture()) for time_s, picture in reader]
    assert [time_s for time_s, _ in told] == pytest.approx([0, 4, 5.5])
    assert reader.duration_s == pytest.approx(5.54)
    assert max(apart(picture, scene) for (_, picture), scene in zip(told, SCENES, strict=True)) < 6


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_pictures_that_are_to_last_no_time_last_as_long_as_in_a_browser(kind: str) -> None:
    told = shown(as_animation(SCENES, kind, 0))
    assert [time_s for time_s, _ in told] == pytest.approx([0, 0.1, 0.2])


def test_a_picture_for_who_knows_no_animation_is_no_part_of_it() -> None:
    data = as_animation([SCENES[2], *SCENES[:2]], "PNG", 1000, default_image=True)
    told = shown(data)
    assert [time_s for time_s, _ in told] == [0, 1]
    assert apart(told[0][1], SCENES[0]) == apart(told[1][1], SCENES[1]) == 0


@pytest.mark.parametrize("kind", ANIMATED)
def test_parts_of_pictures_are_laid_on_what_was_there(kind: str) -> None:
    pictures = [corners() for _ in range(3)]
    pictures[1][4:9, 5:11] = 0
    pictures[2][20:25, 30:33] = 255
    told = shown(as_animation(pictures, kind, 1000))
    assert max(apart(picture, expected) for (_, picture), expected in zip(told, pictures, strict=True)) < 6


def test_an_animation_of_too_many_pictures_is_read_so_far_and_refused() -> None:
    reader = StillReader(as_animation([*SCENES] * 20, "GIF", 1000), name="a.gif", max_px=48 * 32)
    told: list[float] = []
    with pytest.raises(PictureTooLargeError, match=r"a\.gif has more than 51 pictures"):
        told.extend(time_s for time_s, _ in reader)
    assert len(told) == 51


def test_pages_are_no_time() -> None:
    assert len(shown(as_animation(SCENES, "TIFF", 1000))) == 1
    assert len(shown(as_animation(SCENES, "MPO", 1000))) == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_an_animation_that_was_cut_off_is_read_as_far_as_it_goes(kind: str) -> None:
    noise = [np.random.default_rng(n).integers(0, 256, (32, 48, 3), dtype=np.uint8) for n in range(3)]
    data = as_animation(noise, kind, 1000)
    reader = StillReader(data[: len(data) * 5 // 6], name="a.gif")
    assert (len(list(reader)), reader.n_corrupt_packets) == (2, 1)
    assert reader.warning == "a.gif ended at 0:02; the rest is damaged or missing, get it whole."


# --- what is none, or not read, or too large ---


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE svg [\n<!ENTITY a ">">\n]>\n<!-- drawn -->\n<svg>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
    ],
)
def test_kinds_that_are_not_read_are_named(head: bytes, kind: str) -> None:
    assert is_still(head)
    with pytest.raises(PictureError, match=f"^photo.jpg is {kind}, which is not read here; give JPEG, PNG, .*AVIF"):
        decode_still(head + bytes(100), name="photo.jpg")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"BM", "no picture that is read here"),
        (b"words", "no picture that is read here"),
        (b"#EXTM3U\n#EXTINF:2,\n0.ts\n", "a playlist, not a picture"),
        (b"\n<!DOCTYPE html>\n<head>", "a web page, not a picture"),
        (b"<!-- made -->\n<!-- by hand --><HTML lang='en'>", "a web page, not a picture"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomavc1", "a video, not a picture"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81", "a video, not a picture"),
        (b"RIFF\0\0\0\0AVI LIST", "a video, not a picture"),
        ((b"G" + bytes(187)) * 3, "a video, not a picture"),
    ],
)
def test_what_is_no_picture_is_named(head: bytes, what: str) -> None:
    assert not is_still(head)
    with pytest.raises(PictureError, match=rf"a\.jpg is {what}; give JPEG"):
        decoded(head)


@pytest.mark.parametrize("piece", [b"<!>", b"<!-- -->\n", b"<?xml?>", b"<!> ", b"?>"])
def test_markup_that_never_comes_to_a_drawing_is_soon_done_with(piece: bytes) -> None:
    assert kind_of((b"<?xml" + piece * HEAD_BYTES)[:HEAD_BYTES]) is None
    assert kind_of((piece * HEAD_BYTES)[:HEAD_BYTES]) is None
    assert what_is((piece * HEAD_BYTES)[:HEAD_BYTES]) is None


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(PictureError, match=r"a\.jpg is empty; give JPEG"):
        decoded(b"")


def test_too_many_pixels_are_refused_by_the_header() -> None:
    with pytest.raises(PictureTooLargeError, match=r"a\.png is 70000x70000 and 100 pixels are allowed"):
        decode_still(as_png((70000, 70000), 8, 2, []), name="a.png", max_px=100)
    with pytest.raises(PictureTooLargeError):
        decoded(as_png((70000, 70000), 8, 2, []))


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_said_to_be_cut_short(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    data = as_still(noise, kind)
    said = r"a\.jpg is (cut short; give it whole|damaged, .*; check that it is whole, .*)\."
    with pytest.raises(PictureError) as caught:
        decoded(data[: len(data) // 2])
    assert re.fullmatch(said, str(caught.value))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_an_animation_that_cannot_be_read_to_where_it_is_cut_is_said_to_be_cut_short(kind: str, share: float) -> None:
    data = as_animation(SCENES, kind, 1000)
    with pytest.raises(PictureError, match=r"^a\.jpg is cut short; give it whole\.$"):
        decoded(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_damaged_animation_is_not_said_to_be_cut_short_nor_to_become_a_picture(kind: str) -> None:
    data = bytearray(as_animation(SCENES, kind, 1000))
    data[40:] = bytes(len(data) - 40)
    with pytest.raises(PictureError, match=r"^a\.jpg is damaged, or cannot be decoded here; .*whole, or .*format\.$"):
        decoded(bytes(data))


# --- what is whole, whatever Pillow says ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_only_its_end_is_whole(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = as_still(noise, "JPEG", **options)
    for n_missing in (1, 2):
        assert apart(decoded(data[:-n_missing]), decoded(data)) == 0
    for n_missing in (8, 40):
        with pytest.raises(PictureError, match="cut short"):
            decoded(data[:-n_missing])


def test_a_jpeg_may_be_followed_by_anything() -> None:
    data = as_still(corners(), "JPEG")
    for more in (b"\0" * 9, b"\xff", data, as_still(corners(), "PNG"), b"\0\0\0\x18ftypmp42"):
        assert apart(decoded(data + more), decoded(data)) == 0


def test_a_picture_of_a_jpeg_stream_needs_no_tables_of_its_own() -> None:
    data = as_still(corners(), "JPEG")
    bare = bytearray(data[:2])
    place = 2
    while data[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] != 0xC4:  # the Huffman tables, which cameras leave out
            bare += data[place:end]
        place = end
    assert apart(decoded(bytes(bare) + data[place:]), decoded(data)) == 0


@pytest.mark.parametrize("length", [0, 20, 0xFFFFFFFF])
def test_a_webp_that_misstates_its_length_is_whole(length: int) -> None:
    data = as_still(corners(), "WEBP", lossless=True)
    assert apart(decoded(data[:4] + struct.pack("<I", length) + data[8:]), corners()) == 0


def test_a_png_with_a_damaged_remark_is_whole() -> None:
    data = as_still(corners(), "PNG")
    remark = png_chunk(b"tEXt", b"Comment\0nothing")
    for more in (remark[:-1] + b"?", png_chunk(b"zTXt", b"a\0\0 no zlib"), png_chunk(b"pHYs", b"")):
        assert apart(decoded(data[:33] + more + data[33:]), corners()) == 0


def test_a_png_with_damaged_pixels_is_not() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = bytearray(as_still(noise, "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(PictureError, match="cannot be decoded"):
        decoded(bytes(data))


def test_a_picture_of_more_pixels_than_pillow_likes_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # a third of what these have
    for kind in ("JPEG", "PNG", "AVIF", "GIF"):
        assert decoded(as_still(corners(), kind)).shape == (32, 48, 3)
    for kind in ("WEBP", "TIFF"):  # here Pillow looks too
        with pytest.raises(PictureTooLargeError, match="too many pixels"):
            decoded(as_still(corners(), kind))


# --- bytes that nobody vouches for ---


@pytest.mark.parametrize("width", [17_400, 60_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header_at_no_cost(width: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PictureTooLargeError, match="pixels"):
        decoded(as_png((width, width), 8, 2, [bytes(1000)]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB; its pixels would be 900 MB up


def test_a_bomb_of_webp_is_refused_at_no_cost() -> None:
    size = struct.pack("<I", 16_383 - 1)[:3] * 2
    frame = struct.pack("<II", 0, 0)
    header = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    data = header + b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", 24) + frame + bytes(16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PictureError):
        decoded(b"RIFF" + struct.pack("<I", len(data) + 4) + b"WEBP" + data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


WHOLE = {kind: decoded(as_still(corners(), kind)) for kind in KINDS}


@given(kind=st.sampled_from(KINDS), share=st.floats(0, 1, exclude_max=True))
def test_a_picture_cut_short_is_refused_unless_all_its_pixels_came_before_the_cut(kind: str, share: float) -> None:
    data = as_still(corners(), kind)
    try:
        picture = decoded(data[: int(len(data) * share)])
    except PictureError:
        return
    assert apart(picture, WHOLE[kind]) == 0


@given(kind=st.sampled_from(KINDS), place=st.floats(0, 1, exclude_max=True), junk=st.binary(max_size=40))
def test_whatever_the_bytes_there_is_a_picture_or_a_refusal(kind: str, place: float, junk: bytes) -> None:
    data = as_still(corners(), kind)
    cut = int(len(data) * place)
    for hostile in (data[:cut] + junk + data[cut + len(junk) :], junk):
        with contextlib.suppress(PictureError):
            picture = decode_still(hostile, name="a.jpg", max_px=4_000_000)
            assert picture.ndim == 3
            assert picture.size <= 12_000_000


@example(kind="AVIF", place=0.5401900620412157, junk=b"\0\0\0\0\0\0\1")  # states the same time twice
@given(kind=st.sampled_from(ANIMATED), place=st.floats(0, 1, exclude_max=True), junk=st.binary(max_size=40))
def test_whatever_the_bytes_of_an_animation_its_times_grow(kind: str, place: float, junk: bytes) -> None:
    data = as_animation(SCENES, kind, 1000)
    cut = int(len(data) * place)
    with contextlib.suppress(PictureError):
        reader = StillReader(data[:cut] + junk + data[cut + len(junk) :], name="a.gif", max_px=4_000_000)
        times_s = [(time_s, decoded())[0] for time_s, decoded in reader]
        assert all(earlier < later for earlier, later in pairwise(times_s))


def test_a_raw_video_of_jpegs_is_no_still_and_the_views_of_one_picture_are() -> None:
    data = as_still(corners(), "JPEG", progressive=True, exif=b"Exif\0\0" + as_still(corners(8, 8), "JPEG"))
    assert is_still(data)
    assert not is_still(data + data)
    assert is_still(as_animation(SCENES, "MPO", 1000))
