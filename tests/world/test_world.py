"""The synthetic world: same seed same stream, and every question has the truth that its log says."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvlm.errors import UsageError
from streamvlm.readable import clock, whole_seconds
from streamvlm.world.events import SCENES, World, make_world, with_photos
from streamvlm.world.grammar import with_articles, with_one_article
from streamvlm.world.questions import Examiner, Group, WorldQuestion, judge, seconds_of
from streamvlm.world.render import HEIGHT, WIDTH, draw_picture, render
from streamvlm.world.video import VIDEO_FPS, draw_questions, read_questions, write_questions, write_video


def questions_of(world: World) -> list[WorldQuestion]:
    return draw_questions(world, 200, np.random.default_rng(0))


def test_same_seed_gives_the_same_world_pictures_and_questions() -> None:
    one, other = make_world(5, 90), make_world(5, 90)
    assert one == other
    assert np.array_equal(render(one, 33.3), render(other, 33.3))
    assert questions_of(one) == questions_of(other)
    assert make_world(6, 90) != one


@given(seed=st.integers(0, 10_000))
def test_no_zone_holds_two_things_and_at_most_two_are_visible(seed: int) -> None:
    world = make_world(seed, 200)
    for time_s in np.arange(0, 200, 0.7):
        visible = world.visible(float(time_s))
        assert len(visible) <= 2
        assert len({a.zone for a in visible}) == len(visible)


@given(seed=st.integers(0, 10_000))
def test_scenes_cover_the_stream_and_never_shown_kinds_do_not_appear(seed: int) -> None:
    world = make_world(seed, 300)
    assert world.scenes[0].start_s == 0
    assert world.scenes[-1].end_s >= 300
    assert all(a.end_s == b.start_s and a.name != b.name for a, b in zip(world.scenes, world.scenes[1:], strict=False))
    shown = {(a.thing.colour, a.thing.shape) for a in world.appearances}
    assert not shown & set(world.never_shown)


@given(seed=st.integers(0, 300))
def test_truths_follow_from_the_log(seed: int) -> None:
    world = make_world(seed, 150)
    by_name = {a.thing.name: a for a in world.appearances}
    for q in questions_of(world):
        named = next((a for name, a in by_name.items() if name in q.text), None)
        match q.kind:
            case "where":
                assert named
                assert q.truth == f"in the {named.zone}"
            case "when":
                assert named
                assert seconds_of(q.truth) == whole_seconds(named.start_s)
            case "order":
                assert named
                later = [a for a in world.appearances if a.start_s > named.start_s]
                assert q.truth == with_articles(f"a {min(later, key=lambda a: a.start_s).thing.name}")
            case "never":
                assert named is None
                assert q.truth == "no"
            case "now_scene":
                assert q.truth == f"the {world.scene(q.ask_s).name}"
        if q.end_s is not None and q.group is not Group.NOW:
            assert q.start_s is not None
            assert q.start_s < q.end_s < q.ask_s


@given(seed=st.integers(0, 300))
def test_photographs_fill_pauses_and_are_asked_about(seed: int) -> None:
    catalogue = {f"{i}.png": {f"thing{i}", "thing"} for i in range(40)}
    plain = make_world(seed, 200)
    world = with_photos(plain, catalogue)
    assert world.photos
    for photo in world.photos:
        assert not any(world.visible(t) for t in np.arange(photo.start_s, photo.end_s, 0.3))
    for one, moved in zip(plain.appearances, world.appearances, strict=False):
        assert one.thing == moved.thing
        assert moved.start_s >= one.start_s
        assert plain.scene(one.start_s).name == world.scene(moved.start_s).name
    assert all(a.end_s == b.start_s for a, b in zip(world.scenes, world.scenes[1:], strict=False))
    asked = questions_of(world)
    now = [q for q in asked if q.kind == "now_photo"]
    assert now
    for q in now:
        assert judge(q, q.truth)
        assert all(judge(q, other) for other in q.accepted)
        assert not judge(q, "a zebra")
    when = [q for q in asked if q.kind == "when_photo"]
    assert all(seconds_of(q.truth) == whole_seconds(q.start_s or -1) for q in when)
    for q in when:
        named = [
            p
            for p in world.photos
            if p.start_s <= q.ask_s and any(f" {w} " in q.text.replace("?", " ") for w in p.words)
        ]
        assert len(named) == 1


def test_a_photograph_fills_the_picture() -> None:
    world = with_photos(make_world(3, 120), {"a.png": {"dog"}})
    (photo,) = world.photos
    red = np.full((HEIGHT, WIDTH, 3), (255, 0, 0), np.uint8)
    shown = render(world, photo.start_s + 1, {"a.png": red})
    assert shown[..., 0].mean() > 240
    assert shown[..., 1].mean() < 15
    assert render(world, photo.end_s + 0.5, {"a.png": red})[..., 1].mean() > 20


@given(time_s=st.floats(0, 90_000))
def test_clock_reads_back(time_s: float) -> None:
    assert seconds_of(clock(time_s)) == whole_seconds(time_s)


def test_judge_is_strict_about_words_and_lenient_about_two_seconds() -> None:
    when = WorldQuestion("when", Group.WHEN, "", 90, "at 0:00:40", 40.0, 50.0)
    assert judge(when, "at 0:00:41")
    assert judge(when, "0:00:38")
    assert judge(when, "It appeared at 00:41.")
    assert not judge(when, "at 0:00:43")
    assert not judge(when, "yes")
    where = WorldQuestion("where", Group.EARLIER, "", 90, "in the top", 40.0, 50.0)
    assert judge(where, "In the top.")
    assert not judge(where, "in the top-left")
    assert not judge(where, "")
    never = WorldQuestion("never", Group.NEVER, "", 90, "no")
    assert judge(never, "no")
    assert not judge(never, "yes, at 0:00:01")
    assert not judge(never, "nothing")


def test_asking_before_an_event_yields_no_question_about_it() -> None:
    world = make_world(1, 120)
    examiner = Examiner(world, np.random.default_rng(0))
    order = [q for q in examiner.about(0, world.appearances[0].end_s) if q.group is Group.ORDER]
    assert not order, "what came next had not come yet"


@pytest.mark.parametrize("scene", SCENES)
def test_every_scene_is_drawn_and_differs_from_the_others(scene: str) -> None:
    pictures = {s: draw_picture(s, {}, np.random.default_rng(0)) for s in SCENES}
    assert pictures[scene].shape == (HEIGHT, WIDTH, 3)
    others = [np.abs(pictures[scene].astype(int) - p).mean() for s, p in pictures.items() if s != scene]
    assert min(others) > 5


def test_the_video_is_a_real_mp4_with_its_questions_beside_it(tmp_path: Path) -> None:
    world = make_world(3, 12)
    shares: list[float] = []
    write_video(world, tmp_path / "w.mp4", progress=shares.append)
    with av.open(str(tmp_path / "w.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 12 * VIDEO_FPS
    assert shares[-1] == 1.0
    assert np.abs(frames[30].astype(int) - render(world, 6.0)).mean() < 6
    asked = questions_of(world)
    write_questions(asked, tmp_path / "w.jsonl")
    assert read_questions(tmp_path / "w.jsonl") == asked
    (tmp_path / "w.jsonl").write_text("{}")
    with pytest.raises(UsageError, match="holds no questions"):
        read_questions(tmp_path / "w.jsonl")


def test_a_video_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_video(make_world(3, 12), tmp_path / "missing" / "w.mp4")


@pytest.mark.parametrize(
    ("plain", "right"),
    [
        ("did you see a orange heart?", "did you see an orange heart?"),
        ("a hourglass, a house, a umbrella, a unicycle", "an hourglass, a house, an umbrella, a unicycle"),
        ("A owl and a bird", "An owl and a bird"),
        ("an red circle", "a red circle"),
        ("what can you see?", "what can you see?"),
    ],
)
def test_articles_are_put_right_and_made_one(plain: str, right: str) -> None:
    assert with_articles(plain) == with_articles(right) == right
    assert with_articles(with_one_article(right)) == right


def test_questions_and_truths_have_their_articles_right() -> None:
    asked = [q for seed in range(4) for q in questions_of(make_world(seed, 120))]
    assert all(with_articles(said) == said for q in asked for said in (q.text, q.truth, *q.accepted))
    assert any(" an orange " in q.text for q in asked)
    assert any(q.truth.startswith("an orange ") for q in asked)
