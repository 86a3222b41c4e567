"""Light of a scene: the sun, the sky and the ground, in linear colours."""

from __future__ import annotations

import numpy as np

from factory.envs.rendering.camera import View
from factory.envs.rendering.surface import GAMMA

HORIZON = np.array([0.80, 0.86, 0.92], dtype=np.float32) ** GAMMA
ZENITH = np.array([0.33, 0.53, 0.80], dtype=np.float32) ** GAMMA

# Three lights by their colour and strength: warm and direct, bluish from above, brownish from below.
SUN = np.array([1.00, 0.96, 0.88], dtype=np.float32) * 1.25
SKY_LIGHT = np.array([0.86, 0.94, 1.06], dtype=np.float32) * 0.45
GROUND_LIGHT = np.array([0.90, 0.86, 0.80], dtype=np.float32) * 0.26

_SUN_RADIUS = 0.008
"""Half the width of the sun [rad], nearly twice that of the real one: soft shadows hide the pixels."""

SUBPIXELS = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]], dtype=np.float32) / 3.0
"""Down and across [pixels]; no two share a row or a column. Pixels away from edges have the first alone."""


def sky_color(direction: np.ndarray) -> np.ndarray:
    """Return the colour of the sky `(P, 3)`: pale at the horizon and below, blue above."""
    height = np.clip(direction[:, 2:], 0.0, 1.0) ** 0.6
    return HORIZON + height * (ZENITH - HORIZON)


def key_light(view: View) -> np.ndarray:
    """Return the direction to the sun `(3,)`: half way up, over the camera's left shoulder at the start."""
    back = view.axes[:, 2].copy()
    right = view.axes[:, 0]
    back[2] = 0.0
    # A camera that looks straight down has no direction on the ground.
    ahead = np.linalg.norm(back)
    level = -0.8 * right
    if ahead > 1e-3:
        level = 0.45 * (back / ahead) - 0.8 * right
    sun = np.array([level[0], level[1], 1.25])
    return (sun / np.linalg.norm(sun)).astype(np.float32)


def sun_disc(sun: np.ndarray) -> np.ndarray:
    """Return one direction for each subpixel `(3, 3)`, spread over the sun's disc."""
    # Two unit vectors across the line of sight to the sun; a level camera never has the sun in the zenith.
    side = np.cross(sun, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    spread = 2.0 * _SUN_RADIUS * (SUBPIXELS @ np.stack([side, np.cross(side, sun)]))
    return (sun + spread).astype(np.float32)
