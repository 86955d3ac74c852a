"""MJPEG as cameras send it: parts of every sloppiness, and the times of their pictures."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_site import Handler, Site

from streamvlm.errors import SourceError, SourceStalledError
from streamvlm.frame import Picture
from streamvlm.ingest.disk_file import DiskFile
from streamvlm.ingest.receiver import Receiver
from streamvlm.ingest.source import open_source
from streamvlm.ingest.web.mjpeg import MultipartReader
from streamvlm.ingest.web.multipart import Parts, boundary_of

Which = Callable[[Picture], int]
TYPE = "Content-Type: multipart/x-mixed-replace; boundary="


def picture(number: int, kind: str = ".jpg") -> bytes:
    """One of a brightness that tells its number, as in the clips."""
    is_done, data = cv2.imencode(kind, np.full((48, 64, 3), 8 * number, np.uint8))
    assert is_done
    return data.tobytes()


def part(number: int, *headers: str, line: str = "--x", end: str = "\r\n", is_measured: bool = True) -> bytes:
    body = picture(number)
    told = ("Content-Type: image/jpeg", *headers, *([f"Content-Length: {len(body)}"] if is_measured else []))
    return end.join((line, *told, "", "")).encode() + body + end.encode()


def shown(which: Which, data: bytes, boundary: str = "x") -> list[int]:
    with DiskFile(io.BytesIO(data)) as file:
        return [which(decoded()) for _, decoded in MultipartReader(file, boundary, name="camera")]


# --- parts ---


@pytest.mark.parametrize(
    ("media_type", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=x", "x"),
        ('Multipart/X-Mixed-Replace;boundary="x"', "x"),
        ('multipart/x-mixed-replace; boundary="--x"; charset=utf-8', "x"),
        ("multipart/x-mixed-replace;boundary=--x", "x"),
        ("multipart/x-mixed-replace; boundary='x'", "x"),
        ("multipart/x-mixed-replace", ""),
        ("image/jpeg", None),
        ("", None),
    ],
)
def test_the_boundary_is_read_from_the_media_type_without_its_dashes(media_type: str, boundary: str | None) -> None:
    assert boundary_of(media_type) == boundary


@pytest.mark.parametrize("is_measured", [True, False], ids=["with lengths", "without lengths"])
@pytest.mark.parametrize("end", ["\r\n", "\n"], ids=["CRLF", "LF"])
@pytest.mark.parametrize("line", ["--x", "----x", "x", "-x", "--other"])
@pytest.mark.parametrize("last", ["--", "", None], ids=["closed", "boundary", "nothing"])
def test_pictures_are_found_however_boundaries_are_written(
    line: str, end: str, is_measured: bool, last: str | None, which: Which
) -> None:
    data = b"".join(part(n, line=line, end=end, is_measured=is_measured) for n in range(1, 5))
    assert shown(which, data if last is None else data + (line + last + end).encode()) == [1, 2, 3, 4]


def test_junk_before_and_between_parts_and_parts_of_other_types_are_passed_over(which: Which) -> None:
    status = b"--x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok\r\n"
    data = (
        b"hello\r\n-- hm\r\n\r\n" + part(1) + b"what\r\n\r\n" + status + part(2, is_measured=False) + status + part(3)
    )
    assert shown(which, data) == [1, 2, 3]


def test_nothing_is_read_beyond_the_closing_boundary(which: Which) -> None:
    assert shown(which, part(1) + b"--x--\r\n" + part(2)) == [1]


def test_a_part_that_breaks_off_is_left_out_and_counted(which: Which) -> None:
    for is_measured in (True, False):
        data = part(1, is_measured=is_measured) + part(2, is_measured=is_measured)[:-200]
        with DiskFile(io.BytesIO(data)) as file:
            reader = MultipartReader(file, "x", name="camera")
            assert [which(decoded()) for _, decoded in reader] == [1]
            assert reader.n_corrupt_packets == 1


def test_a_picture_may_hold_what_looks_like_a_boundary_where_its_length_is_told(which: Which) -> None:
    body = picture(1)
    comment = b"\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n"
    body = body[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + body[2:]
    head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert shown(which, head + body + b"\r\n" + part(2)) == [1, 2]


def test_lengths_that_prove_wrong_are_not_believed_any_more(which: Which) -> None:
    data = b"".join(part(n, "Content-Length: 100", is_measured=False) for n in range(1, 5))
    assert shown(which, data) == [2, 3, 4]


@pytest.mark.parametrize("kind", [".png", ".webp"])
def test_pictures_of_other_kinds_are_read_too(kind: str, which: Which) -> None:
    body = picture(3, kind)
    data = f"--x\r\nContent-Type: image/{kind[1:]}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    assert shown(which, data + b"\r\n--x--\r\n") == [3]


def test_a_damaged_picture_is_passed_over_and_too_many_end_the_source(which: Which) -> None:
    bad = b"--x\r\nContent-Type: image/jpeg\r\n\r\nno picture\r\n"
    assert shown(which, part(1) + 249 * bad + part(2)) == [1, 2]
    with pytest.raises(SourceError, match="camera sends damaged pictures: 250 in a row"):
        shown(which, part(1) + 250 * bad)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_comes_parts_are_found_or_not_and_never_more_than_came(junk: bytes, step: int) -> None:
    class Slowly(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(step)

    whole = junk + b"\r\n" + part(1) + junk + b"\r\n" + part(2, is_measured=False) + junk
    bodies = [one.body for one in Parts(DiskFile(Slowly(whole)), "x", name="camera")]
    assert sum(map(len, bodies)) <= len(whole)
    if b"-" not in junk and b"x" not in junk and b"\n" not in junk:
        assert bodies[0] == picture(1)


# --- times ---


def times(*stated: str, came: list[float] | None = None) -> list[float]:
    """Stream times of parts that state times; `came` are the moments at which they come, if they come live."""
    now = iter([0.0, *(came or [])])
    parts = [part(n, *([f"X-Timestamp: {one}"] if one else [])) for n, one in enumerate(stated)]
    name = "camera"
    file = (
        DiskFile(io.BytesIO(b"".join(parts)))
        if came is None
        else Receiver(name, (one for one in parts), timeout_s=5, now=lambda: next(now))
    )
    with file:
        return [time_s for time_s, _ in MultipartReader(file, "x", name=name)]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["0.000000", "0.200000", "0.400000", "60.4"], [0, 0.2, 0.4, 60.4]),
        (["1764166000.5", "1764166001.0", "1764166003.0"], [0, 0.5, 2.5]),
        (["1764166000500", "1764166001000", "1764166003000"], [0, 0.5, 2.5]),
        (["1764166000500000", "1764166001000000"], [0, 0.5]),
        (["100", "300", "500"], [0, 0.2, 0.4]),
        (["7", "8", "9"], [0, 1, 2]),
        (["5.0", "6.0", "1.0", "2.0"], [0, 1, 1.04, 2.04]),  # its clock was set
        (["", "", ""], [0, 0.04, 0.08]),
        (["soon", "nan", "inf"], [0, 0.04, 0.08]),
    ],
)
def test_times_that_are_stated_are_taken_in_the_unit_that_they_are_in(stated: list[str], expected: list[float]) -> None:
    assert times(*stated) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["", "", ""], [0, 0.2, 30.4]),
        (["0.0", "0.0", "0.0"], [0, 0.2, 30.4]),  # a clock that stands still
        (["3.0", "3.25", "33.5"], [0, 0.25, 30.5]),
        (["1000", "1200", "31400"], [0, 0.2, 30.4]),
    ],
)
def test_a_live_picture_has_the_time_at_which_it_came_if_none_is_stated(
    stated: list[str], expected: list[float]
) -> None:
    assert times(*stated, came=[10.0, 10.2, 40.4]) == pytest.approx(expected)


def test_whole_seconds_that_go_with_the_clock_are_no_milliseconds() -> None:
    assert times("0", "60", "120", came=[5.0, 65.1, 125.0]) == [0, 60, 120]


# --- over a wire ---


@pytest.mark.parametrize("how", ["closed at its end", "chunked", "closed by its boundary"])
def test_a_stream_that_ends_is_at_its_end(how: str, web: Site, which: Which) -> None:
    def camera(handler: Handler) -> None:
        parts = [part(n, f"X-Timestamp: {n}.5") for n in range(1, 5)]
        if how == "chunked":
            handler.say("HTTP/1.1 200 OK", TYPE + "x", "Transfer-Encoding: chunked")
            for one in (*parts, b""):
                handler.chunk(one)
            return
        handler.say("HTTP/1.0 200 OK", TYPE + '"--x"')
        handler.wfile.write(b"".join(parts))
        if how == "closed by its boundary":
            handler.wfile.write(b"--x--\r\n")
            is_over.wait()

    is_over = threading.Event()
    web.scripts["/video"] = camera
    with open_source(f"http://{web.host}/video") as source:
        assert source.duration_s is None
        assert [(frame.time_s, which(frame.picture)) for frame in source] == [(0, 1), (1, 2), (2, 3), (3, 4)]
        is_over.set()
        assert source.n_corrupt_packets == 0


@pytest.mark.parametrize("is_measured", [True, False])
@pytest.mark.parametrize("at", ["amid a picture", "behind a picture", "amid a boundary", "amid headers"])
def test_a_stream_that_breaks_off_amid_a_picture_says_so(at: str, is_measured: bool, web: Site, which: Which) -> None:
    last = part(4, "X-Timestamp: 65.0", is_measured=is_measured)
    n_left_out = {"amid a picture": 200, "behind a picture": 2, "amid a boundary": len(last) - 2}
    last = last[: -n_left_out.get(at, len(last) - 40)]

    def camera(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", TYPE + "x")
        handler.wfile.write(b"".join(part(n, f"X-Timestamp: {n}.0", is_measured=is_measured) for n in (1, 2)) + last)

    web.scripts["/video"] = camera
    url = f"http://{web.host}/video"
    with open_source(url) as source:
        assert source.warning is None, "nothing is known before the end"
        shown = [which(frame.picture) for frame in source]
        told = f"{url} ended at 1:04; it broke off amid a picture, as of a camera that was cut off."
        assert (shown, source.warning) == {
            "amid a picture": ([1, 2], told),
            "behind a picture": ([1, 2, 4], None),
        }.get(at, ([1, 2], None))


@pytest.mark.parametrize("kind", [".png", ".webp"])
def test_a_last_picture_of_another_kind_is_whole_without_a_boundary_behind_it(kind: str, which: Which) -> None:
    head, body = f"--x\r\nContent-Type: image/{kind[1:]}\r\n\r\n".encode(), picture(3, kind)
    for n_bytes, n_shown in ((len(body), 2), (len(body) // 2, 1)):
        with DiskFile(io.BytesIO(part(1) + head + body[:n_bytes])) as file:
            reader = MultipartReader(file, "x", name="camera")
            assert len(list(reader)) == n_shown
            assert (reader.warning is None) == (n_shown == 2)


def test_a_slow_watcher_does_not_shift_the_times_of_a_camera(web: Site, which: Which) -> None:
    is_sent = threading.Event()

    def camera(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", TYPE + "x")
        for number in range(6):
            handler.wfile.write(part(number))
            is_sent.wait(0.15)
        is_sent.set()

    web.scripts["/video"] = camera
    with open_source(f"http://{web.host}/video", fps=1000) as source:
        assert source.is_live
        is_sent.wait()
        frames = list(source)
    assert [which(frame.picture) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert frames[-1].time_s > 0.4  # of 0.75; at 25 pictures a second it would be 0.2


@pytest.mark.parametrize("sends", ["nothing", "a byte now and then"])
def test_a_camera_that_falls_silent_or_trickles_is_a_stalled_source(sends: str, web: Site) -> None:
    is_over = threading.Event()

    def camera(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", TYPE + "x")
        handler.wfile.write(part(1) + b"--x\r\n")
        while not is_over.wait(0.05):
            if sends != "nothing":
                handler.wfile.write(b"A")

    web.scripts["/video"] = camera
    with open_source(f"http://{web.host}/video", fps=1000, timeout_s=0.5) as source:
        with pytest.raises(SourceStalledError, match=r"did not answer for 0\.5 s"):
            list(source)
        assert source.n_frames == 1
    is_over.set()


def test_a_recording_of_a_stream_is_read_by_its_own_times(tmp_path: Path, web: Site, which: Which) -> None:
    data = b"\r\n" + b"".join(part(n, f"X-Timestamp: {n / 5:.6f}") for n in range(10))
    (tmp_path / "dump.mjpg").write_bytes(data)
    for uri in (str(tmp_path / "dump.mjpg"), f"http://{web.host}/dump.mjpg"):
        with open_source(uri, fps=5) as source:
            assert not source.is_live
            frames = list(source)
        assert [which(frame.picture) for frame in frames] == list(range(10))
        assert [frame.time_s for frame in frames] == pytest.approx([n / 5 for n in range(10)])


@pytest.mark.parametrize("boundary", ["", "x", '"x"'])
def test_a_page_that_announces_pictures_and_sends_none_is_told(boundary: str, web: Site) -> None:
    def camera(handler: Handler) -> None:
        handler.say("HTTP/1.0 200 OK", TYPE + boundary)
        handler.wfile.write(b"<html>busy</html>\r\n" * 99)

    web.scripts["/video"] = camera
    with pytest.raises(SourceError, match="holds no readable picture"):
        list(open_source(f"http://{web.host}/video"))
