"""A short stream of the synthetic world."""

from __future__ import annotations

import pytest

from streamvlm.frame import Frame
from streamvlm.world.events import World, make_world
from streamvlm.world.render import render


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(4_000_000, 90)


@pytest.fixture(scope="session")
def frames(world: World) -> list[Frame]:
    return [Frame(i, float(i), render(world, float(i))) for i in range(90)]
