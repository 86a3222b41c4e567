"""Appearance of the geoms of a model: colour, gloss and floor pattern, by MuJoCo's rules.

All colours in here are linear light; `GAMMA` leads to and from the display values of models and pictures.
"""

from __future__ import annotations

import mujoco
import numpy as np

GAMMA = 2.2
_MAX_TEXELS = 512
"""Longest side of a texture in memory; finer detail would not show in a video."""
_DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0], dtype=np.float32)
"""MuJoCo's colour for geoms that name none."""
_CHECKS = np.array([[1.0, 0.8], [0.8, 1.0]])[..., None].repeat(3, axis=2)
"""Pattern of flat geoms without a texture, so that motion over the ground can be seen."""
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD))


class Surfaces:
    """Colour `(ngeom, 3)`, opacity, glow, gloss and its exponent `(ngeom,)`, and patterns of flat geoms."""

    def __init__(self, model: mujoco.MjModel) -> None:
        """Read everything once from the model."""
        material = model.geom_matid
        has_material = material >= 0
        rgba = model.geom_rgba.copy()
        # MuJoCo's defaults for geoms without a material.
        specular = np.full(model.ngeom, 0.5)
        shininess = np.full(model.ngeom, 0.5)
        emission = np.zeros(model.ngeom)
        if has_material.any():
            specular[has_material] = model.mat_specular[material[has_material]]
            shininess[has_material] = model.mat_shininess[material[has_material]]
            emission[has_material] = model.mat_emission[material[has_material]]
            # MuJoCo's rule: the material colours a geom whose own rgba was left at the default.
            takes_material = has_material & (rgba == _DEFAULT_RGBA).all(axis=1)
            rgba[takes_material] = model.mat_rgba[material[takes_material]]
        self.color = (np.clip(rgba[:, :3], 0.0, 1.0) ** GAMMA).astype(np.float32)
        self.opacity = rgba[:, 3].astype(np.float32)
        self.glow = emission.astype(np.float32)
        self.gloss = specular.astype(np.float32)
        self.exponent = (4.0 + 128.0 * shininess).astype(np.float32)
        self.patterns: dict[int, Pattern] = {}
        # Geoms that share a texture share its table.
        tables: dict[int, np.ndarray] = {}
        for geom in range(model.ngeom):
            texture = -1
            if has_material[geom]:
                texture = _texture(model, int(material[geom]))
            if model.geom_type[geom] in FLAT:
                if texture not in tables:
                    image = _CHECKS
                    if texture >= 0:
                        image = _texels(model, texture)
                    tables[texture] = _summed_areas(image)
                self.patterns[geom] = Pattern(tables[texture], *_mapping(model, geom, texture))
            elif texture >= 0:
                # Textures wrapped around solids are too small to see in a video: their mean colour is enough.
                self.color[geom] *= _texels(model, texture).mean(axis=(0, 1))


class Pattern:
    """A tiled picture on the local xy plane of a geom, averaged exactly over the footprint of a pixel."""

    def __init__(self, table: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> None:
        """Lay a picture, given as summed areas, with `scale` `(2,)` periods per metre from `offset` on."""
        self.table = table
        self.scale = scale
        self.offset = offset
        # The table holds the picture twice in both directions, and a border of zeros.
        self.height = table.shape[0] // 2
        self.width = table.shape[1] // 2

    def color(self, x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Return mean colours `(P, 3)` of boxes of `dx, dy` [m] about local points `x, y` [m], all `(P,)`."""
        left, right = _interval(self.scale[0] * x + self.offset[0], self.scale[0] * dx, self.width)
        top, bottom = _interval(self.offset[1] - self.scale[1] * y, self.scale[1] * dy, self.height)
        # Sum over a box = S(bottom, right) - S(top, right) - S(bottom, left) + S(top, left).
        table = self.table
        total = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        return (total / ((bottom - top) * (right - left))[:, None]).astype(np.float32)


def _interval(center: np.ndarray, extent: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and past-the-last texel of intervals given in periods of `count` texels."""
    # At least one texel and at most a whole period, which begins anywhere in the first copy of the picture.
    width = np.clip(np.rint(extent * count), 1, count).astype(np.int64)
    first = np.floor(center * count - 0.5 * (width - 1)).astype(np.int64) % count
    return first, first + width


def _summed_areas(image: np.ndarray) -> np.ndarray:
    """Return the sums over all upper left corners (Crow 1984) of a picture laid twice in both directions.

    A box of the picture then costs four look-ups, so that distant checks turn grey instead of flickering.
    """
    # Fine texels keep the borders of checks smooth, for a footprint is a whole number of texels.
    finer = max(1, _MAX_TEXELS // max(image.shape))
    image = image.repeat(finer, axis=0).repeat(finer, axis=1)
    table = np.zeros((2 * image.shape[0] + 1, 2 * image.shape[1] + 1, 3))
    table[1:, 1:] = np.tile(image, (2, 2, 1)).cumsum(axis=0).cumsum(axis=1)
    return table


def _mapping(model: mujoco.MjModel, geom: int, texture: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the periods per metre and the offset, each `(2,)`, by which MuJoCo lays a texture."""
    if texture < 0:
        return np.array([0.5, 0.5]), np.zeros(2)
    # `texrepeat` counts per metre if `texuniform` is set, else per side of the geom; sizes are half lengths.
    # A plane of size 0 is infinite, and its half length counts as 1 m.
    material = model.geom_matid[geom]
    size = model.geom_size[geom, :2]
    infinite = size <= 0
    per_side = model.mat_texrepeat[material] * np.where(model.mat_texuniform[material] & ~infinite, size, 1.0)
    return 0.5 * per_side / np.where(infinite, 1.0, size), np.where(infinite, 0.5, 0.5 * per_side)


def _texture(model: mujoco.MjModel, material: int) -> int:
    """Return the id of the colour texture of a material, or -1."""
    roles = model.mat_texid[material]
    return int(max(roles[mujoco.mjtTextureRole.mjTEXROLE_RGB], roles[mujoco.mjtTextureRole.mjTEXROLE_RGBA]))


def _texels(model: mujoco.MjModel, texture: int) -> np.ndarray:
    """Return a texture as linear light `(h, w, 3)`, thinned out to at most 512 texels a side."""
    height = int(model.tex_height[texture])
    width = int(model.tex_width[texture])
    channels = int(model.tex_nchannel[texture])
    start = int(model.tex_adr[texture])
    image = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    step = -(-max(height, width) // _MAX_TEXELS)
    image = image[::step, ::step]
    # Grey textures have one channel; a fourth one is opacity, which is that of the geom here.
    if channels >= 3:
        image = image[..., :3]
    else:
        image = image[..., :1].repeat(3, axis=2)
    return (image / 255.0) ** GAMMA
