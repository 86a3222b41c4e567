"""Plan views: worlds seen from above, drawn from shapes in metres, several side by side in one picture.

A task derives from `PlanView` and returns a `Scene` for each of its worlds. Drawing needs Pillow alone, so
that it works without a display, and in a process that holds nothing of the simulation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from factory.envs.rendering.camera import Camera, Recording
from factory.envs.rendering.renderer import Renderer

Color = tuple[int, ...]
"""Red, green, blue, and how opaque it is; each 0 to 255, three numbers are opaque."""

GROUND: Color = (232, 230, 222)
"""Background of a scene."""
_GAP: Color = (40, 44, 52)
_GAP_PX = 3
_CAPTION_BACKGROUND: Color = (15, 20, 28, 150)
_CAPTION_PX = 12.0
"""Size of captions in a panel of 180 pixels."""
_OVERSAMPLING = 2
"""Pixels drawn for each pixel of the picture, in both directions: Pillow's shapes have jagged edges."""


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A filled area. `points` are its corners in order, (N, 2) [m]."""

    points: np.ndarray
    fill: Color


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through `points`, (N, 2) [m]; it is at least a pixel wide."""

    points: np.ndarray
    color: Color
    width_m: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Circle:
    """A disc, or a ring where `fill` is None and `outline` is given."""

    center: np.ndarray
    radius_m: float
    fill: Color | None = None
    outline: Color | None = None


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Straight lines from one point, as a lidar measures. Shapes of `ends`: (N, 2) [m]."""

    origin: np.ndarray
    ends: np.ndarray
    color: Color


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text whose middle is `center`, with letters `height_m` high."""

    center: np.ndarray
    text: str
    color: Color
    height_m: float


Shape = Polygon | Line | Circle | Rays | Label


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A world seen from above, x to the right and y up."""

    shapes: Sequence[Shape]
    """From back to front."""
    center: tuple[float, float]
    """Middle of the picture [m]."""
    span_m: float
    """Length that is visible in both directions [m]."""
    caption: str = ""
    """Lines of text at the top."""
    accent: Color | None = None
    """Colour of a frame, which may show an outcome."""


def rectangle(center: np.ndarray, heading: float, length_m: float, width_m: float) -> np.ndarray:
    """Return the corners of an oriented rectangle, front left first. Shape: (2,), [rad] -> (4, 2) [m]."""
    forward = np.array([math.cos(heading), math.sin(heading)])
    left = np.array([-forward[1], forward[0]])
    corners = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    # Corners in the order around the rectangle, so that the polygon does not cross itself.
    halves = [0.5 * length_m * ahead * forward + 0.5 * width_m * aside * left for ahead, aside in corners]
    return np.asarray(center) + np.array(halves)


class PlanRenderer(Renderer):
    """Draws snapshots that are sequences of scenes, one a world."""

    name = "plan"

    def __init__(self, *, width: int, height: int) -> None:
        """Draw pictures of `width` x `height` pixels."""
        self._size = (width, height)

    def frames(self, recording: Recording, *, camera: Camera | None = None) -> Iterator[np.ndarray]:
        """Yield the picture of every snapshot; the scenes say what is visible, not the camera."""
        for scenes in recording:
            yield self.picture(scenes)

    def picture(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Return scenes side by side, in the order of reading. Shape: (height, width, 3) uint8."""
        width, height = self._size
        sheet = Image.new("RGB", self._size, _GAP)
        columns = num_columns(len(scenes), width=width, height=height)
        rows = math.ceil(len(scenes) / columns)
        for index, scene in enumerate(scenes):
            row, column = divmod(index, columns)
            # Whole pixels that fill the picture to its last column and row.
            left = column * width // columns
            top = row * height // rows
            right = (column + 1) * width // columns - _GAP_PX * (column < columns - 1)
            bottom = (row + 1) * height // rows - _GAP_PX * (row < rows - 1)
            sheet.paste(_panel(scene, width=right - left, height=bottom - top), (left, top))
        return np.asarray(sheet)

    def close(self) -> None:
        """Hold nothing."""


def num_columns(count: int, *, width: int, height: int) -> int:
    """Return the number of columns with which `count` square panels are largest in a picture."""

    def side(columns: int) -> float:
        rows = math.ceil(count / columns)
        return min(width / columns, height / rows)

    return max(range(1, count + 1), key=side)


def _panel(scene: Scene, *, width: int, height: int) -> Image.Image:
    """Return the picture of one scene."""
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    image = Image.new("RGB", size, GROUND)
    # In this mode, translucent colours are mixed with those below.
    draw = ImageDraw.Draw(image, "RGBA")
    scale = min(size) / scene.span_m
    middle = np.array(size) / 2.0

    def to_pixels(points: np.ndarray) -> np.ndarray:
        """Turn metres into pixels, whose y axis points down."""
        return middle + (np.asarray(points, dtype=np.float64) - scene.center) * (scale, -scale)

    for shape in scene.shapes:
        _draw(draw, shape, to_pixels, scale)
    # Averaging several pixels into one smooths the edges; text is drawn afterwards, at its own size.
    image = image.reduce(_OVERSAMPLING)
    _annotate(ImageDraw.Draw(image, "RGBA"), scene, width=width, height=height)
    return image


def _draw(
    draw: ImageDraw.ImageDraw, shape: Shape, to_pixels: Callable[[np.ndarray], np.ndarray], scale: float
) -> None:
    """Draw one shape; `scale` is in pixels per metre."""
    match shape:
        case Polygon():
            draw.polygon(_pairs(to_pixels(shape.points)), fill=shape.fill)
        case Line():
            width_px = max(_OVERSAMPLING, round(shape.width_m * scale))
            draw.line(_pairs(to_pixels(shape.points)), fill=shape.color, width=width_px, joint="curve")
        case Circle():
            x, y = to_pixels(shape.center)
            radius = shape.radius_m * scale
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=shape.fill, outline=shape.outline, width=_OVERSAMPLING)
        case Rays():
            (origin,) = _pairs(to_pixels(shape.origin)[None])
            for end in _pairs(to_pixels(shape.ends)):
                draw.line((origin, end), fill=shape.color, width=_OVERSAMPLING)
        case Label():
            font = ImageFont.load_default(size=max(1.0, shape.height_m * scale))
            (middle,) = _pairs(to_pixels(shape.center)[None])
            draw.text(middle, shape.text, fill=shape.color, font=font, anchor="mm")


def _annotate(draw: ImageDraw.ImageDraw, scene: Scene, *, width: int, height: int) -> None:
    """Write a scene's caption, and draw its frame."""
    unit = max(1.0, min(width, height) / 180.0)
    if scene.accent is not None:
        draw.rectangle((0, 0, width - 1, height - 1), outline=scene.accent, width=round(2 * unit))
    if scene.caption:
        font = ImageFont.load_default(size=min(16.0, _CAPTION_PX * unit))
        place = (5 * unit, 4 * unit)
        left, top, right, bottom = draw.multiline_textbbox(place, scene.caption, font=font)
        pad = 2 * unit
        draw.rectangle((left - pad, top - pad, right + pad, bottom + pad), fill=_CAPTION_BACKGROUND)
        draw.multiline_text(place, scene.caption, font=font, fill="white")


def _pairs(points: np.ndarray) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


class PlanView(ABC):
    """Part of an environment that is seen from above: a snapshot holds the scenes of all worlds.

    It comes first among the base classes, before the one that simulates.
    """

    render_mode: str | None

    @abstractmethod
    def scenes(self) -> list[Scene]:
        """Return the worlds as they are now."""

    def snapshot(self) -> list[Scene]:
        """Return the worlds as they are now."""
        return self.scenes()

    def open_renderer(self, *, width: int, height: int, backend: str = "auto") -> PlanRenderer:
        """Return a renderer of snapshots; there is one back end."""
        return PlanRenderer(width=width, height=height)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return one RGB frame a world (480, 640, 3) uint8, or None without `render_mode="rgb_array"`."""
        if self.render_mode is None:
            return None
        renderer = PlanRenderer(width=640, height=480)
        return tuple(renderer.picture([scene]) for scene in self.scenes())
