"""Materials as textures: packed into tiles of several resolutions, and sampled."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from plrc.data.scenes.materials import TILE, material


class Texels(NamedTuple):
    """A texture's values, float32: tone and hue in [0, 1], slopes along u and v in [-1, 1]."""

    tone: np.ndarray
    hue: np.ndarray
    slope_u: np.ndarray
    slope_v: np.ndarray


def texture(name: str, u: np.ndarray, v: np.ndarray, texel: float, blur: int = 0) -> Texels:
    """Sample a material bilinearly at (u, v), periods of 1.

    `texel`: how far (u, v) moves a pixel, which picks the mip level; `blur` picks a coarser one (out of focus).
    """
    level = min(max(round(math.log2(TILE * texel) - 0.3), 0) + blur, 6)
    side = TILE >> level
    texels = tile(name, level)
    x, y = np.floor(u * (side * 256)).astype(np.int32), np.floor(v * (side * 256)).astype(np.int32)
    fx, fy = (x & 255).astype(np.uint32), (y & 255).astype(np.uint32)
    x, y = x >> 8, y >> 8
    x0, x1, y0, y1 = x & (side - 1), (x + 1) & (side - 1), (y & (side - 1)) * side, ((y + 1) & (side - 1)) * side
    top = _mix_bytes(texels[y0 + x0], texels[y0 + x1], fx)
    value = _mix_bytes(top, _mix_bytes(texels[y1 + x0], texels[y1 + x1], fx), fy)
    tone, hue, su, sv = (((value >> np.uint32(s)) & np.uint32(255)).astype(np.float32) for s in (0, 8, 16, 24))
    return Texels(tone / 255, hue / 255, su / 127.5 - 1, sv / 127.5 - 1)


@cache
def tile(name: str, level: int) -> np.ndarray:
    """A material packed for one gather a texel: (side * side,) uint32 of bytes tone, hue, slope along u, along v."""
    if level:
        side = TILE >> level
        fine = tile(name, level - 1).view(np.uint8).reshape(side, 2, side, 2, 4)
        return np.rint(fine.mean((1, 3))).astype(np.uint8).reshape(-1).view(np.uint32)
    m = material(name)
    slopes = [0.5 + 3.0 * m.relief * (np.roll(m.height, -1, a) - np.roll(m.height, 1, a)) / 4 for a in (1, 0)]
    packed = np.stack([m.tone, m.hue, *slopes], -1)
    return np.rint(np.clip(packed, 0, 1) * 255).astype(np.uint8).reshape(-1).view(np.uint32)


def _mix_bytes(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """a + (b - a) t/256 of four bytes at a time; a, b, t uint32."""
    low = np.uint32(0x00FF00FF)
    s = np.uint32(256) - t
    even = (((a & low) * s + (b & low) * t) >> np.uint32(8)) & low
    return even | (((a >> np.uint32(8)) & low) * s + ((b >> np.uint32(8)) & low) * t) & ~low
