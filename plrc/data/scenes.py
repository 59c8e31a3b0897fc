"""Demo scenes: painted pictures of objects lying on textured ground, with exact instance masks (ours, not the paper's).

A scene is a pure function of (seed, index): objects are signed-distance silhouettes raised to a height field, clothed
in noise textures and lit by one lamp. Nothing is read from disk, so a demo or a test needs no data set. All lengths
are in units of the picture's short side, so that one composition can be drawn at any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from plrc.data.sources import Annotation

Array = np.ndarray
TILE = 512  # side of the finest texture tile, texels
VISIBLE = 0.25  # an object of which less than this share can be seen is left out of the scene
MIN_OBJECTS, MAX_OBJECTS = 2, 6

# ------------------------------------------------------------------------------------------------- textures
# Dark, light and accent colour of each ground, several moods each. The order fixes each material's own noise.
GROUNDS = {
    "wood": ("3a2216 b07a48 8a4f2a", "6d5a4a cbb79c 9c8a76", "1f1512 6b4630 402318", "8f8a84 d8d4cc b0a090"),
    "weave": ("2b3a55 7f93b0 b04a3a", "7a6a55 d8c9ae a05a48", "4a1f24 b0685c d0b080", "30403a 8aa08c c8b878"),
    "grass": ("14260c 6f9a35 a9a24a", "2a2a10 a39a55 6f7a30", "0e2418 4f8a4a 8ab060"),
    "pebbles": ("2a2826 a8a29a 8a6a55", "1f2428 7f8c94 a89a86", "3a2a20 c4a888 8a8a90"),
    "gravel": ("3f3c38 b4aea4 a07a60", "2c3034 8e979c 6a5a50", "5a4030 cda582 9a9a98"),
    "sand": ("8a6a45 dcc096 b89468", "9a8c7c e2d6c4 c0ac94", "6a4a34 c08a5c 9a6844"),
    "water": ("0c3a48 6fb8b4 2a7a80", "12305a 7aa6cc 3a6aa0", "1f4a3a 8fc0a0 4a8a68"),
    "plaster": ("8a8680 cfcac0 b8a894", "6a7a80 b4c2c4 90a0a4", "a0765c dcb494 c49a78", "4c5244 9aa08a 7a7a60"),
    "marble": ("4a4a50 e0dcd6 b0a090", "1c2a26 6a8a7a b0b8a0", "2a2426 8a6a66 c8a890"),
    "fur": ("2e1e14 a67c52 d8b890", "4a4644 b8b2aa 807468", "1a1a1e 6a6468 40383a"),
    "tiles": ("5a2a1c b8654a d09a70", "54606a b4c0c4 8aa0a8", "6a6050 cfc4ac a89878"),
    "clouds": ("3a3f4a a6a8a8 8a7868", "5a4650 c8a8a0 a08890", "2a4048 8ab0b0 c0b8a0"),
}


def _noise(rng: np.random.Generator, beta: float, stretch: tuple[float, float] = (1, 1)) -> Array:
    """Tileable noise with amplitude spectrum 1/f^beta, zero mean and unit variance; stretch = (along y, along x)."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * stretch[0], np.fft.rfftfreq(TILE)[None] * stretch[1]
    f = np.hypot(fy, fx)
    f[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * (f + 1 / TILE) ** -beta)
    return noise / noise.std()


def _cells(rng: np.random.Generator, m: int, jitter: float, warp: Array) -> tuple[Array, Array]:
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


def _grass(rng: np.random.Generator) -> tuple[Array, Array]:
    """Thousands of overlapping blades: (brightness, hue)."""
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


def _material(name: str) -> tuple[Array, Array, Array, float]:
    """Height, tone and hue fields of a material, tileable, about [0, 1], and how strongly the height is seen."""
    rng = np.random.default_rng([7, list(GROUNDS).index(name)])
    y, x = np.mgrid[:TILE, :TILE] / TILE
    soft, fine, hue = _noise(rng, 1.7), _noise(rng, 0.5), 0.5 + 0.25 * _noise(rng, 1.5)
    relief = 1.0
    if name == "wood":
        grain, fibre = _noise(rng, 1.9, (1, 5)), _noise(rng, 0.9, (1, 22))
        plank = np.floor(y * 4).astype(int)
        shift = rng.integers(0, TILE, 4)[plank]
        grain = grain[np.arange(TILE)[:, None], (np.arange(TILE)[None] + shift) % TILE]
        rings = np.sin(2 * np.pi * (14 * y + 1.6 * grain))
        gap = np.clip(np.abs((y * 4 + 0.5) % 1 - 0.5) / 0.02, 0, 1)
        tone = (0.5 + 0.13 * rings + 0.14 * fibre + 0.09 * soft + rng.uniform(-0.14, 0.14, 4)[plank]) * (0.3 + 0.7 * gap)
        height, hue = 0.12 * fibre + 0.05 * rings + gap, hue + 0.2 * rings
    elif name == "weave":
        u, v = (x + 0.002 * soft) * 44, (y + 0.002 * np.roll(soft, 99, 0)) * 44
        over = (np.floor(u) + np.floor(v)) % 2 > 0
        su, sv = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
        height = np.where(over, sv * (0.5 + 0.5 * su), su * (0.5 + 0.5 * sv))
        plaid = ((np.floor(u) % 22 < 7) * 1.0 + (np.floor(v) % 22 < 7)) / 2
        threads = np.where(over, _noise(rng, 0.6, (1, 12)), _noise(rng, 0.6, (12, 1)))
        tone, hue, relief = 0.25 + 0.4 * height + 0.1 * threads + 0.04 * soft, plaid, 0.7
    elif name == "grass":
        tone, hue = _grass(rng)
        tone = tone * (0.9 + 0.12 * soft)
        height = tone
    elif name in ("pebbles", "gravel", "tiles"):
        m, jitter, warp = {"pebbles": (9, 0.95, 1.0), "gravel": (26, 0.9, 1.2), "tiles": (6, 0.0, 0.08)}[name]
        edge, own = _cells(rng, m, jitter, warp * soft)
        dome = 1 - np.clip(1 - edge / (0.12 if name == "tiles" else 0.55), 0, 1) ** 2
        tone = (0.2 + 0.75 * own + 0.07 * fine + 0.08 * soft) * (0.25 + 0.75 * np.clip(edge / 0.18, 0, 1))
        height, relief = dome + 0.04 * fine, 18 / m if name == "pebbles" else 1.0
        hue = 0.6 * (own * 7.3 % 1) + 0.4 * hue
        if name == "tiles":
            tone = 0.45 + 0.4 * (tone - 0.3) + 0.08 * _noise(rng, 1.2)
    elif name == "sand":
        ripple = np.sin(2 * np.pi * (9 * y + 0.9 * soft))
        height, tone = 0.25 * ripple + 0.07 * fine, 0.5 + 0.08 * ripple + 0.11 * fine + 0.12 * soft
    elif name == "water":
        a, b = np.abs(_noise(rng, 2.0)), np.abs(_noise(rng, 1.9))
        light = np.exp(-4 * a) + 0.6 * np.exp(-5 * b)
        tone, height, relief = 0.18 + 0.6 * light + 0.08 * soft, light + 0.2 * soft, 0.25
    elif name == "marble":
        veins = np.exp(-7 * np.abs(_noise(rng, 1.6) + 0.25 * _noise(rng, 1.1)))
        tone, height, hue, relief = 0.68 + 0.14 * soft - 0.5 * veins, soft, 0.4 * hue + 0.5 * veins, 0.1
    elif name == "fur":
        hair = _noise(rng, 0.85, (2.2, 16))
        bend = (soft * 14).astype(int)
        hair = hair[(np.arange(TILE)[:, None] + bend) % TILE, np.arange(TILE)[None]]
        tone, height, relief = 0.45 + 0.17 * hair + 0.1 * soft, 0.25 * hair, 0.8
    elif name == "plaster":
        rough = _noise(rng, 1.0)
        tone, height = 0.55 + 0.12 * soft + 0.06 * rough, 0.12 * rough + 0.04 * fine
    else:
        tone, height, relief = 0.5 + 0.16 * _noise(rng, 1.35) + 0.1 * soft, soft, 0.3
    return height, tone, hue, relief


@lru_cache(maxsize=None)
def _tile(name: str, level: int) -> Array:
    """Texture tile packed for one gather a texel: (side*side) uint32 of bytes tone, hue, slope x, slope y."""
    if level:
        side = TILE >> level
        fine = _tile(name, level - 1).view(np.uint8).reshape(side, 2, side, 2, 4)
        return np.rint(fine.mean((1, 3))).astype(np.uint8).reshape(-1).view(np.uint32)
    height, tone, hue, relief = _material(name)
    slopes = [0.5 + 3.0 * relief * (np.roll(height, -1, a) - np.roll(height, 1, a)) / 4 for a in (1, 0)]
    packed = np.stack([tone, hue, *slopes], -1)
    return np.rint(np.clip(packed, 0, 1) * 255).astype(np.uint8).reshape(-1).view(np.uint32)


def _mix_bytes(a: Array, b: Array, t: Array) -> Array:
    """a + (b - a) t/256 of four bytes at a time; a, b, t uint32."""
    low = np.uint32(0x00FF00FF)
    s = np.uint32(256) - t
    even = (((a & low) * s + (b & low) * t) >> np.uint32(8)) & low
    return even | (((a >> np.uint32(8)) & low) * s + ((b >> np.uint32(8)) & low) * t) & ~low


def _texture(name: str, u: Array, v: Array, texel: float, blur: int = 0) -> list[Array]:
    """Sample a material bilinearly at (u, v), periods of 1: tone, hue in [0, 1] and slopes in [-1, 1], float32.

    `texel`: how far (u, v) moves a pixel, which picks the mip level; `blur` picks a coarser one (out of focus)."""
    level = min(max(round(math.log2(TILE * texel) - 0.3), 0) + blur, 6)
    side = TILE >> level
    tile = _tile(name, level)
    x, y = np.floor(u * (side * 256)).astype(np.int32), np.floor(v * (side * 256)).astype(np.int32)
    fx, fy = (x & 255).astype(np.uint32), (y & 255).astype(np.uint32)
    x, y = x >> 8, y >> 8
    x0, x1, y0, y1 = x & (side - 1), (x + 1) & (side - 1), (y & (side - 1)) * side, ((y + 1) & (side - 1)) * side
    top = _mix_bytes(tile[y0 + x0], tile[y0 + x1], fx)
    value = _mix_bytes(top, _mix_bytes(tile[y1 + x0], tile[y1 + x1], fx), fy)
    tone, hue, sx, sy = (((value >> np.uint32(s)) & np.uint32(255)).astype(np.float32) for s in (0, 8, 16, 24))
    return [tone / 255, hue / 255, sx / 127.5 - 1, sy / 127.5 - 1]
