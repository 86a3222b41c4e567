"""The probe finds room for what a model's contacts and constraints need."""

from __future__ import annotations

import mujoco
import pytest

from factory.envs.physics.buffers import probe

FLOOR = '<geom type="plane" size="0 0 1"/>'


def model(bodies: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{FLOOR}{bodies}</worldbody></mujoco>")


@pytest.mark.parametrize("count", [5, 10])
def test_room_grows_with_what_can_touch(count: int) -> None:
    """Boxes that lie on the floor have four contacts each, of four rows; there is room for twice that."""
    boxes = "".join(
        f'<body pos="{3 * x} 0 0.1"><freejoint/><geom type="box" size=".1 .1 .1"/></body>'
        for x in range(count)
    )
    room = probe(model(boxes))
    assert room.nconmax >= 2 * 4 * count
    assert room.njmax >= 2 * 4 * 4 * count


def test_neighbours_that_do_not_touch_count_as_candidates() -> None:
    """Pairs whose bounding spheres meet need room before it is known that they do not touch."""
    rods = "".join(f'<body pos="0 {0.3 * x} 3"><geom type="capsule" size=".01 1"/></body>' for x in range(8))
    welded = model(rods + '<body pos="0 0 9"><freejoint/><geom size=".1"/></body>')
    assert probe(welded).nconmax == 8
    hanging = rods.replace("<geom", '<joint axis="0 1 0"/><geom')
    assert probe(model(hanging)).nconmax >= 20


def test_probe_repeats() -> None:
    """A run that is resumed has the same room."""
    ball = model('<body pos="0 0 1"><freejoint/><geom size="0.1"/></body>')
    assert probe(ball) == probe(ball)
