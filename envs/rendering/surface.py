"""What the geoms of a model look like: colour, gloss and floor pattern, by MuJoCo's rules.

All colours in here are linear light; `GAMMA` leads from and to the display values that models and pictures hold.
"""

from __future__ import annotations

import mujoco
import numpy as np

GAMMA = 2.2
_MAX_TEXELS = 512
_DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0], dtype=np.float32)
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD))


class Surfaces:
    """Colour `(ngeom, 3)`, opacity, glow, gloss and its exponent `(ngeom,)`, and the patterns of planes and height fields."""

    def __init__(self, model: mujoco.MjModel) -> None:
        """Read everything once from the model."""
        material = model.geom_matid
        has_material = material >= 0
        rgba = model.geom_rgba.copy()
        specular, shininess, emission = np.full(model.ngeom, 0.5), np.full(model.ngeom, 0.5), np.zeros(model.ngeom)
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
        for geom in range(model.ngeom):
            image = _texture(model, int(material[geom])) if has_material[geom] else None
            if model.geom_type[geom] in FLAT:
                self.patterns[geom] = Pattern(model, geom, image)
            elif image is not None:
                # Textures wrapped around solids are fine print at this size: their mean colour will do.
                self.color[geom] *= image.mean(axis=(0, 1))


class Pattern:
    """A tiled picture on the local xy plane of a geom, averaged exactly over the footprint of a pixel.

    The average comes from a summed-area table (Crow 1984), so that distant checks turn grey instead of flickering.
    """

    def __init__(self, model: mujoco.MjModel, geom: int, image: np.ndarray | None) -> None:
        """Use the texture `image` `(h, w, 3)` as MuJoCo maps it, or faint metre checks where there is none."""
        if image is None:
            image = np.kron([[1.0, 0.8], [0.8, 1.0]], np.ones((32, 32)))[..., None].repeat(3, axis=2)
            self.scale, self.offset = np.array([0.5, 0.5]), np.zeros(2)
        else:
            material = model.geom_matid[geom]
            repeat, size = model.mat_texrepeat[material].astype(float), model.geom_size[geom, :2]
            infinite = size <= 0
            per_side = repeat * np.where(model.mat_texuniform[material] & ~infinite, size, 1.0)
            self.scale = 0.5 * per_side / np.where(infinite, 1.0, size)
            self.offset = np.where(infinite, 0.5, 0.5 * per_side)
        self.height, self.width = image.shape[:2]
        table = np.zeros((2 * self.height + 1, 2 * self.width + 1, 3))
        table[1:, 1:] = np.tile(image, (2, 2, 1)).cumsum(axis=0).cumsum(axis=1)
        self.table = table

    def color(self, x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Return the mean colour `(P, 3)` of boxes of size `dx, dy` [m] about local points `x, y` [m], all `(P,)`."""
        left, right = _texels(self.scale[0] * x + self.offset[0], self.scale[0] * dx, self.width)
        top, bottom = _texels(self.offset[1] - self.scale[1] * y, self.scale[1] * dy, self.height)
        table = self.table
        total = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
        return (total / ((bottom - top) * (right - left))[:, None]).astype(np.float32)


def _texels(center: np.ndarray, extent: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last-plus-one texel of intervals given in periods of a picture `count` texels wide."""
    width = np.clip(np.rint(extent * count), 1, count).astype(np.int64)
    first = np.floor(center * count - 0.5 * (width - 1)).astype(np.int64) % count
    return first, first + width


def _texture(model: mujoco.MjModel, material: int) -> np.ndarray | None:
    """Return the colour texture of a material as linear light `(h, w, 3)`, at most 512 texels a side, or None."""
    roles = model.mat_texid[material]
    texture = max(roles[mujoco.mjtTextureRole.mjTEXROLE_RGB], roles[mujoco.mjtTextureRole.mjTEXROLE_RGBA])
    if texture < 0:
        return None
    height, width, channels = (int(a[texture]) for a in (model.tex_height, model.tex_width, model.tex_nchannel))
    start = int(model.tex_adr[texture])
    texels = model.tex_data[start : start + height * width * channels].reshape(height, width, channels)
    step = -(-max(height, width) // _MAX_TEXELS)
    texels = texels[::step, ::step, : 1 if channels < 3 else 3].repeat(3 if channels < 3 else 1, axis=2)
    return (texels / 255.0) ** GAMMA
