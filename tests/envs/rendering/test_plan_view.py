"""Plan views show every shape where it is, and all worlds of a snapshot."""

from __future__ import annotations

import numpy as np
import pytest

from factory.envs.rendering.plan_view import (
    GROUND,
    Circle,
    Label,
    Line,
    PlanRenderer,
    Polygon,
    Rays,
    Scene,
    Shape,
    num_columns,
    rectangle,
)

RED = (255, 0, 0)


def drawn(shape: Shape) -> np.ndarray:
    """Return a picture of 100 x 100 pixels that shows one shape in the square [-5, 5] m."""
    scene = Scene(shapes=[shape], center=(0.0, 0.0), span_m=10.0)
    return PlanRenderer(width=100, height=100).picture([scene])


@pytest.mark.parametrize(
    ("shape", "inside", "outside"),
    [
        (Polygon(points=rectangle(np.array([2.0, 3.0]), 0.0, 2.0, 1.0), fill=RED), (2.0, 3.0), (2.0, 1.0)),
        (Line(points=np.array([[-4.0, -2.0], [4.0, -2.0]]), color=RED, width_m=0.4), (3.0, -2.0), (3.0, 2.0)),
        (Circle(center=np.array([-3.0, 1.0]), radius_m=1.0, fill=RED), (-3.0, 1.5), (-1.0, 1.0)),
        (
            Rays(origin=np.zeros(2), ends=np.array([[4.0, 0.0], [0.0, 4.0]]), color=RED),
            (0.0, 2.0),
            (-2.0, 0.0),
        ),
        (Label(center=np.array([1.0, 1.0]), text="I", color=RED, height_m=4.0), (1.0, 1.0), (-3.0, 1.0)),
    ],
)
def test_shape_is_where_it_should_be(
    shape: Shape, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    """A point of the shape has its colour; a point beside it and the mirrored one are ground."""
    picture = drawn(shape).astype(int)

    def colour(x: float, y: float) -> np.ndarray:
        return picture[round(50 - 10 * y), round(50 + 10 * x)]

    assert colour(*inside)[0] > 220 and colour(*inside)[1] < 160
    assert tuple(colour(*outside)) == GROUND


def test_edges_are_smooth() -> None:
    """A slanted edge has pixels between the colours of both sides."""
    triangle = Polygon(points=np.array([[-4.0, -4.0], [4.0, -1.0], [-4.0, 3.0]]), fill=(0, 0, 0))
    assert len(np.unique(drawn(triangle)[..., 0])) > 2


def test_worlds_lie_side_by_side() -> None:
    """Four worlds fill the quarters of a picture, in the order of reading, each with its own content."""
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    scenes = [
        Scene(
            shapes=[Circle(center=np.zeros(2), radius_m=1.0, fill=colour)],
            center=(0.0, 0.0),
            span_m=4.0,
            caption="world",
            accent=(9, 9, 9),
        )
        for colour in colours
    ]
    (picture,) = PlanRenderer(width=128, height=128).frames([scenes])
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8
    middles = [picture[y, x] for y in (32, 96) for x in (32, 96)]
    assert [tuple(middle) for middle in middles] == colours
    assert tuple(picture[0, 0]) == (9, 9, 9)


@pytest.mark.parametrize(
    ("count", "size", "columns"), [(1, (640, 360), 1), (4, (640, 360), 2), (2, (640, 360), 2)]
)
def test_panels_are_as_large_as_possible(count: int, size: tuple[int, int], columns: int) -> None:
    """The grid gives square panels the longest side."""
    assert num_columns(count, width=size[0], height=size[1]) == columns
