"""Questions about a world, with their truth and the moment that shows it, and the judging of answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from streamvlm.readable import clock
from streamvlm.world.events import Appearance, Thing, World
from streamvlm.world.grammar import with_articles

WHEN_TOLERANCE_S = 2.0
SETTLED_S = 1.5
"""How long a thing must have been visible, or gone, before "now" is asked: sampling may miss a shorter time."""


class Group(StrEnum):
    """What a question tests."""

    NOW = "now"
    EARLIER = "earlier"
    WHEN = "when"
    ORDER = "order"
    NEVER = "never"
    EXISTENCE = "existence"


@dataclass(frozen=True, slots=True)
class WorldQuestion:
    """One question with its truth.

    Attributes:
        kind: The rule that made it, such as ``badge``; ``group`` is what it tests.
        text: As a person would ask it.
        ask_s: Stream time at which it is asked.
        truth: The right answer as pocket words it.
        start_s: Start of the moment that the truth rests on; None for things that never appeared.
        end_s: End of that moment.
        accepted: Other answers that are as right, such as other words for what a photograph shows.
    """

    kind: str
    group: Group
    text: str
    ask_s: float
    truth: str
    start_s: float | None = None
    end_s: float | None = None
    accepted: tuple[str, ...] = ()

    @property
    def delay_s(self) -> float | None:
        """Seconds between the end of the moment and the question."""
        return None if self.end_s is None else max(0.0, self.ask_s - self.end_s)


def seconds_of(text: str) -> float | None:
    """Returns the first clock time in ``text`` in seconds, or None."""
    found = re.search(r"(?:(\d+):)?(\d\d?):(\d\d)", text)
    return None if found is None else sum(int(g) * u for g, u in zip(found.groups("0"), (3600, 60, 1), strict=True))


def judge(question: WorldQuestion, answer: str) -> bool:
    """Whether ``answer`` is right: the same words, a time within 2 s, or the right yes or no."""
    given, truth = _plain(answer), _plain(question.truth)
    if question.group is Group.WHEN:
        given_s = seconds_of(answer)
        return (
            given_s is not None
            and question.start_s is not None
            and (abs(given_s - question.start_s) <= WHEN_TOLERANCE_S)
        )
    if question.group in (Group.NEVER, Group.EXISTENCE):
        return given.split(" ")[0] == truth.split(" ")[0]
    return given in (truth, *map(_plain, question.accepted))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9:-]+", " ", text.lower()).split())


# Every kind asks about one appearance (or a never-shown kind); each has a few wordings.
NOW_WHAT = ("what do you see now?", "what is there now?", "what can you see right now?", "what is shown now?")
NOW_SCENE = ("which scene is this?", "what scene do you see now?", "where are we now?")
NOW_WHERE = ("where is the {name} now?", "where is the {name}?", "where do you see the {name} now?")
NOW_BADGE = ("which badge does the {name} have now?", "what is the badge of the {name} now?")
NOW_COLOUR = ("what colour is the {shape} now?", "what is the colour of the {shape} now?")
WHAT = (
    "what was in the {zone} of the {scene}?",
    "what did you see in the {zone} of the {scene}?",
    "what appeared in the {zone} of the {scene}?",
)
COLOUR = (
    "what colour was the {shape} with badge {badge}?",
    "which colour did the {shape} with badge {badge} have?",
)
WHERE = ("where was the {name}?", "where did the {name} appear?", "where did you see the {name}?")
BADGE = (
    "which badge did the {name} have?",
    "what badge was on the {name}?",
    "which badge did the {name} carry?",
)
SCENE = ("in which scene was the {name}?", "which scene was the {name} in?")
WHEN = (
    "when did the {name} appear?",
    "when did you see the {name}?",
    "at what time did the {name} appear?",
    "when was the {name} there?",
)
WHEN_PHOTO = ("when did you see a {word}?", "when did a {word} appear?")
ORDER = (
    "what came right after the {name}?",
    "what came after the {name}?",
    "what appeared after the {name}?",
    "what was next after the {name}?",
)
SEEN = ("did you see a {name}?", "did a {name} appear?", "was there a {name}?", "have you seen a {name}?")


def badge_words(thing: Thing) -> str:
    """Returns ``badge 7``, or ``no badge``."""
    return "no badge" if thing.badge is None else f"badge {thing.badge}"


@dataclass(frozen=True, slots=True)
class Examiner:
    """Makes questions about one world; every question has one right answer at its ask time."""

    world: World
    rng: np.random.Generator
    settled_s: float = SETTLED_S

    def now(self, ask_s: float) -> Iterator[WorldQuestion]:
        """Yields every question about the present that has one right answer at ``ask_s``."""
        if not self._settled(ask_s):
            return
        photo = self.world.photo(ask_s)
        if photo is not None:
            named = [with_articles(f"a {word}") for word in photo.words]
            question = self._ask("now_photo", Group.NOW, NOW_WHAT, ask_s, named[0], ask_s, ask_s)
            yield replace(question, accepted=tuple(named[1:]))
            return
        visible, scene = self.world.visible(ask_s), self.world.scene(ask_s)
        yield self._ask("now_scene", Group.NOW, NOW_SCENE, ask_s, f"the {scene.name}", ask_s, ask_s)
        if not visible:
            yield self._ask("now_nothing", Group.NOW, NOW_WHAT, ask_s, "nothing", ask_s, ask_s)
        if len(visible) == 1:
            name = visible[0].thing.name
            yield self._ask("now_what", Group.NOW, NOW_WHAT, ask_s, f"a {name}", ask_s, ask_s)
        for shown in visible:
            yield from self._now_about(shown, visible, ask_s)

    def _now_about(self, shown: Appearance, visible: list[Appearance], ask_s: float) -> Iterator[WorldQuestion]:
        thing, words = shown.thing, {"name": shown.thing.name, "shape": shown.thing.shape}
        yield self._ask("now_where", Group.NOW, NOW_WHERE, ask_s, f"in the {shown.zone}", ask_s, ask_s, **words)
        yield self._ask("now_badge", Group.NOW, NOW_BADGE, ask_s, badge_words(thing), ask_s, ask_s, **words)
        if sum(other.thing.shape == thing.shape for other in visible) == 1:
            yield self._ask("now_colour", Group.NOW, NOW_COLOUR, ask_s, thing.colour, ask_s, ask_s, **words)

    def about(self, number: int, ask_s: float) -> Iterator[WorldQuestion]:
        """Yields every question with one right answer about appearance ``number``, asked at ``ask_s`` after its end."""
        past = [a for a in self.world.appearances if a.start_s <= ask_s]
        it = self.world.appearances[number]
        thing, scene = it.thing, self.world.scene(it.start_s)

        def ask(kind: str, group: Group, wordings: tuple[str, ...], truth: str) -> WorldQuestion:
            words = {
                "name": thing.name,
                "shape": thing.shape,
                "badge": thing.badge,
                "zone": it.zone,
                "scene": scene.name,
            }
            return self._ask(kind, group, wordings, ask_s, truth, it.start_s, it.end_s, **words)

        def is_unique(key: Callable[[Appearance], object]) -> bool:
            return Counter(key(a) for a in past)[key(it)] == 1

        if is_unique(lambda a: a.thing.name):
            yield ask("where", Group.EARLIER, WHERE, f"in the {it.zone}")
            yield ask("badge", Group.EARLIER, BADGE, badge_words(thing))
            if scene.end_s >= it.end_s:
                yield ask("scene", Group.EARLIER, SCENE, f"the {scene.name}")
            yield ask("when", Group.WHEN, WHEN, f"at {clock(it.start_s)}")
            yield ask("seen", Group.EXISTENCE, SEEN, f"yes, at {clock(it.start_s)}")
            if number + 1 < len(past) and past[number + 1].start_s < ask_s - SETTLED_S:
                # The moment that shows the truth is the change from the one to the next.
                following = past[number + 1]
                turn = ask("order", Group.ORDER, ORDER, f"a {following.thing.name}")
                yield replace(turn, end_s=following.start_s)
        if (
            is_unique(lambda a: (a.zone, self.world.scene(a.start_s).name))
            and scene.end_s >= it.end_s
            and (not self._strays_into(it.zone, scene.name, past))
        ):
            yield ask("what", Group.EARLIER, WHAT, f"a {thing.name}")
        if thing.badge and is_unique(lambda a: (a.thing.shape, a.thing.badge)):
            yield ask("colour", Group.EARLIER, COLOUR, thing.colour)

    def about_photo(self, number: int, ask_s: float) -> Iterator[WorldQuestion]:
        """Asks when photograph ``number`` was shown, once for every word that names no other one shown by ``ask_s``."""
        it = self.world.photos[number]
        others = {w for p in self.world.photos if p is not it and p.start_s <= ask_s for w in p.words}
        for word in set(it.words) - others:
            yield self._ask(
                "when_photo", Group.WHEN, WHEN_PHOTO, ask_s, f"at {clock(it.start_s)}", it.start_s, it.end_s, word=word
            )

    def never(self, ask_s: float) -> WorldQuestion:
        """Asks whether a thing was seen that never appears."""
        colour, shape = self.world.never_shown[int(self.rng.integers(len(self.world.never_shown)))]
        return self._ask("never", Group.NEVER, SEEN, ask_s, "no", None, None, name=f"{colour} {shape}")

    def _strays_into(self, zone: str, scene: str, past: list[Appearance]) -> bool:
        """Whether another thing was visible in this zone when this scene began."""
        return any(
            a.zone == zone and self.world.scene(a.start_s).name != scene and self.world.scene(a.end_s).name == scene
            for a in past
        )

    def _settled(self, ask_s: float) -> bool:
        moments = [m for a in self.world.appearances for m in (a.start_s, a.end_s)]
        moments += [s.start_s for s in self.world.scenes if s.start_s > 0]
        moments += [m for p in self.world.photos for m in (p.start_s, p.end_s)]
        return not any(ask_s - self.settled_s < m <= ask_s for m in moments) and not any(
            abs(f - ask_s) < self.settled_s for f in self.world.flashes_s
        )

    def _ask(
        self,
        kind: str,
        group: Group,
        wordings: tuple[str, ...],
        ask_s: float,
        truth: str,
        start_s: float | None,
        end_s: float | None,
        **words: str | None,
    ) -> WorldQuestion:
        text = with_articles(str(self.rng.choice(wordings)).format(**words))
        return WorldQuestion(kind, group, text, ask_s, with_articles(truth), start_s, end_s)
