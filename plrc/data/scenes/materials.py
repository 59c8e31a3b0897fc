"""The materials that grounds and objects are made of: wood, weave, grass …, each grown from noise of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

TILE = 512  # side of a material's fields, pixels; they continue across their seams


@dataclass
class Material:
    """Fields (TILE, TILE), tileable and about [0, 1]. `relief`: how strongly the height is seen."""

    height: np.ndarray
    tone: np.ndarray
    hue: np.ndarray
    relief: float = 1.0


@dataclass
class Noise:
    """A material's random numbers, and what most materials use of them: large blotches, fine grain, blotches of hue."""

    rng: np.random.Generator
    soft: np.ndarray
    fine: np.ndarray
    hue: np.ndarray


def material(name: str) -> Material:
    """The material of this name, the same on every call."""
    rng = np.random.default_rng([7, MATERIALS.index(name)])
    return _RECIPES[name](Noise(rng, _noise(rng, 1.7), _noise(rng, 0.5), 0.5 + 0.25 * _noise(rng, 1.5)))


# -------------------------------------------------------------------------------------------------- building blocks


def _noise(rng: np.random.Generator, beta: float, stretch: tuple[float, float] = (1, 1)) -> np.ndarray:
    """Tileable noise with amplitude spectrum 1/f^beta, zero mean and unit variance; stretch = (along y, along x)."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * stretch[0], np.fft.rfftfreq(TILE)[None] * stretch[1]
    f = np.hypot(fy, fx)
    f[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * (f + 1 / TILE) ** -beta)
    return noise / noise.std()


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the pixels, [0, 1)."""
    y, x = np.mgrid[:TILE, :TILE] / TILE
    return y, x


def _cells(rng: np.random.Generator, m: int, jitter: float, warp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tileable Voronoi cells, m x m of them: (distance to the cell's border, a random value a cell)."""
    seat = 0.5 + jitter * (rng.random((m, m, 2)) - 0.5)
    value = rng.random((m, m))
    y, x = np.mgrid[:TILE, :TILE] * (m / TILE) + np.stack([warp, np.roll(warp, TILE // 3, 0)]) * 0.12
    iy, ix = np.floor(y).astype(int), np.floor(x).astype(int)
    first, second, own = np.full(y.shape, 9.0), np.full(y.shape, 9.0), np.zeros(y.shape)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cy, cx = iy + dy, ix + dx
            s = seat[cy % m, cx % m]
            d = np.hypot(cy + s[..., 0] - y, cx + s[..., 1] - x)
            second = np.minimum(second, np.maximum(first, d))
            own = np.where(d < first, value[cy % m, cx % m], own)
            first = np.minimum(first, d)
    return second - first, own


def _blades(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Thousands of overlapping blades of grass: (brightness, hue)."""
    image = Image.new("RGB", (TILE, TILE))
    draw = ImageDraw.Draw(image)
    for k in range(9000):
        x, y = rng.random(2) * TILE
        lean, length, width = rng.normal(0, 0.9), rng.uniform(14, 44), int(rng.integers(2, 5))
        dx, dy, hue = math.sin(lean) * length, -math.cos(lean) * length, int(rng.integers(0, 256))
        tone = rng.uniform(20, 110) + 90 * k / 9000
        for ox in (-TILE, 0, TILE):
            for oy in (-TILE, 0, TILE):
                if -50 < x + ox < TILE + 50 and -50 < y + oy < TILE + 50:
                    for a, b in ((0.0, 0.5), (0.5, 1.0)):  # a blade is lighter towards its tip
                        ends = [(x + ox + dx * t, y + oy + dy * t - 6 * t * t) for t in (a, b)]
                        draw.line(ends, fill=(int(tone * (0.8 + 0.5 * a)), hue, 0), width=max(1, width - int(2 * a)))
    pixels = np.asarray(image) / 255.0
    return pixels[..., 0] / pixels[..., 0].max(), pixels[..., 1]


# ---------------------------------------------------------------------------------------------------------- recipes


def _wood(n: Noise) -> Material:
    grain, fibre = _noise(n.rng, 1.9, (1, 5)), _noise(n.rng, 0.9, (1, 22))
    y, _ = _grid()
    plank = np.floor(y * 4).astype(int)
    shift = n.rng.integers(0, TILE, 4)[plank]
    grain = grain[np.arange(TILE)[:, None], (np.arange(TILE)[None] + shift) % TILE]
    rings = np.sin(2 * np.pi * (14 * y + 1.6 * grain))
    gap = np.clip(np.abs((y * 4 + 0.5) % 1 - 0.5) / 0.02, 0, 1)
    tone = 0.5 + 0.13 * rings + 0.14 * fibre + 0.09 * n.soft + n.rng.uniform(-0.14, 0.14, 4)[plank]
    return Material(0.12 * fibre + 0.05 * rings + gap, tone * (0.3 + 0.7 * gap), n.hue + 0.2 * rings)


def _weave(n: Noise) -> Material:
    y, x = _grid()
    u, v = (x + 0.002 * n.soft) * 44, (y + 0.002 * np.roll(n.soft, 99, 0)) * 44
    over = (np.floor(u) + np.floor(v)) % 2 > 0
    su, sv = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
    height = np.where(over, sv * (0.5 + 0.5 * su), su * (0.5 + 0.5 * sv))
    plaid = ((np.floor(u) % 22 < 7) * 1.0 + (np.floor(v) % 22 < 7)) / 2
    threads = np.where(over, _noise(n.rng, 0.6, (1, 12)), _noise(n.rng, 0.6, (12, 1)))
    return Material(height, 0.25 + 0.4 * height + 0.1 * threads + 0.04 * n.soft, plaid, relief=0.7)


def _grass(n: Noise) -> Material:
    tone, hue = _blades(n.rng)
    tone = tone * (0.9 + 0.12 * n.soft)
    return Material(tone, tone, hue)


def _stones(n: Noise, m: int, jitter: float, warp: float, rim: float, relief: float = 1.0) -> Material:
    """Stones, m x m of them, rounded over a share `rim` of a cell."""
    edge, own = _cells(n.rng, m, jitter, warp * n.soft)
    dome = 1 - np.clip(1 - edge / rim, 0, 1) ** 2
    tone = (0.2 + 0.75 * own + 0.07 * n.fine + 0.08 * n.soft) * (0.25 + 0.75 * np.clip(edge / 0.18, 0, 1))
    return Material(dome + 0.04 * n.fine, tone, 0.6 * (own * 7.3 % 1) + 0.4 * n.hue, relief)


def _pebbles(n: Noise) -> Material:
    return _stones(n, 9, 0.95, 1.0, 0.55, relief=2.0)


def _gravel(n: Noise) -> Material:
    return _stones(n, 26, 0.9, 1.2, 0.55)


def _tiles(n: Noise) -> Material:
    tiles = _stones(n, 6, 0.0, 0.08, 0.12)
    tiles.tone = 0.45 + 0.4 * (tiles.tone - 0.3) + 0.08 * _noise(n.rng, 1.2)
    return tiles


def _sand(n: Noise) -> Material:
    ripple = np.sin(2 * np.pi * (9 * _grid()[0] + 0.5 * _noise(n.rng, 2.6)))
    return Material(0.3 * ripple + 0.035 * n.fine, 0.5 + 0.08 * ripple + 0.11 * n.fine + 0.12 * n.soft, n.hue)


def _water(n: Noise) -> Material:
    a, b = np.abs(_noise(n.rng, 2.0)), np.abs(_noise(n.rng, 1.9))
    light = np.exp(-4 * a) + 0.6 * np.exp(-5 * b)
    return Material(light + 0.2 * n.soft, 0.18 + 0.6 * light + 0.08 * n.soft, n.hue, relief=0.25)


def _plaster(n: Noise) -> Material:
    rough = _noise(n.rng, 1.0)
    return Material(0.12 * rough + 0.04 * n.fine, 0.55 + 0.12 * n.soft + 0.06 * rough, n.hue)


def _marble(n: Noise) -> Material:
    veins = np.exp(-7 * np.abs(_noise(n.rng, 1.6) + 0.25 * _noise(n.rng, 1.1)))
    return Material(n.soft, 0.68 + 0.14 * n.soft - 0.5 * veins, 0.4 * n.hue + 0.5 * veins, relief=0.1)


def _fur(n: Noise) -> Material:
    hair, bend = _noise(n.rng, 0.75, (1, 24)), (_noise(n.rng, 3.0) * 26).astype(int)
    hair = hair[(np.arange(TILE)[:, None] + bend) % TILE, np.arange(TILE)[None]]
    return Material(0.25 * hair, 0.45 + 0.19 * hair + 0.09 * n.soft, n.hue, relief=0.5)


def _clouds(n: Noise) -> Material:
    return Material(n.soft, 0.5 + 0.16 * _noise(n.rng, 1.35) + 0.1 * n.soft, n.hue, relief=0.3)


# The order fixes each material's own noise, and the materials that a scene's random numbers stand for.
_RECIPES = {
    "wood": _wood, "weave": _weave, "grass": _grass, "pebbles": _pebbles, "gravel": _gravel, "sand": _sand,
    "water": _water, "plaster": _plaster, "marble": _marble, "fur": _fur, "tiles": _tiles, "clouds": _clouds,
}  # fmt: skip
MATERIALS = tuple(_RECIPES)
