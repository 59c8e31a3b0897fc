"""What grounds and objects are made of: colours, and textures grown from noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw

TILE = 512  # side of a material's fields, pixels; they continue across their seams
Fields = tuple[np.ndarray, np.ndarray, np.ndarray, float]
"""(height, tone, hue, relief): fields (TILE, TILE), tileable and about [0, 1]; how strongly the height is seen."""


def texture(name: str, u: np.ndarray, v: np.ndarray, texel: float, blur: int = 0) -> tuple[np.ndarray, ...]:
    """Sample a material bilinearly at (u, v), periods of 1.

    Args:
        texel: how far (u, v) moves a pixel, which picks the mip level. blur: picks a coarser one (out of focus).

    Returns:
        tone and hue in [0, 1], slopes along u and v in [-1, 1], float32.
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
    return tone / 255, hue / 255, su / 127.5 - 1, sv / 127.5 - 1


def _mix_bytes(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """a + (b - a) t/256 of four bytes at a time; a, b, t uint32."""
    low = np.uint32(0x00FF00FF)
    s = np.uint32(256) - t
    even = (((a & low) * s + (b & low) * t) >> np.uint32(8)) & low
    return even | (((a >> np.uint32(8)) & low) * s + ((b >> np.uint32(8)) & low) * t) & ~low


@cache
def tile(name: str, level: int) -> np.ndarray:
    """A material packed for one gather a texel: (side * side,) uint32 of bytes tone, hue, slope along u, along v."""
    if level:
        side = TILE >> level
        fine = tile(name, level - 1).view(np.uint8).reshape(side, 2, side, 2, 4)
        return np.rint(fine.mean((1, 3))).astype(np.uint8).reshape(-1).view(np.uint32)
    rng = np.random.default_rng([7, list(MATERIALS).index(name)])
    y, x = np.mgrid[:TILE, :TILE] / TILE
    noises = {"soft": _noise(rng, 1.7), "fine": _noise(rng, 0.5), "hue": 0.5 + 0.25 * _noise(rng, 1.5)}
    height, tone, hue, relief = MATERIALS[name][0](SimpleNamespace(rng=rng, y=y, x=x, **noises))
    slopes = [0.5 + 3.0 * relief * (np.roll(height, -1, a) - np.roll(height, 1, a)) / 4 for a in (1, 0)]
    packed = np.stack([tone, hue, *slopes], -1)
    return np.rint(np.clip(packed, 0, 1) * 255).astype(np.uint8).reshape(-1).view(np.uint32)


def _noise(rng: np.random.Generator, beta: float, stretch: tuple[float, float] = (1, 1)) -> np.ndarray:
    """Tileable noise with amplitude spectrum 1/f^beta, zero mean and unit variance; stretch = (along y, along x)."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * stretch[0], np.fft.rfftfreq(TILE)[None] * stretch[1]
    f = np.hypot(fy, fx)
    f[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * (f + 1 / TILE) ** -beta)
    return noise / noise.std()


# Each recipe takes n: the material's random numbers rng, the pixels' y and x in [0, 1), and what most recipes use of
# the random numbers: large blotches (soft), fine grain (fine) and blotches of hue.


def _wood(n: SimpleNamespace) -> Fields:
    grain, fibre = _noise(n.rng, 1.9, (1, 5)), _noise(n.rng, 0.9, (1, 22))
    plank = np.floor(n.y * 4).astype(int)
    shift = n.rng.integers(0, TILE, 4)[plank]
    grain = grain[np.arange(TILE)[:, None], (np.arange(TILE)[None] + shift) % TILE]
    rings = np.sin(2 * np.pi * (14 * n.y + 1.6 * grain))
    gap = np.clip(np.abs((n.y * 4 + 0.5) % 1 - 0.5) / 0.02, 0, 1)
    tone = 0.5 + 0.13 * rings + 0.14 * fibre + 0.09 * n.soft + n.rng.uniform(-0.14, 0.14, 4)[plank]
    return 0.12 * fibre + 0.05 * rings + gap, tone * (0.3 + 0.7 * gap), n.hue + 0.2 * rings, 1.0


def _weave(n: SimpleNamespace) -> Fields:
    u, v = (n.x + 0.002 * n.soft) * 44, (n.y + 0.002 * np.roll(n.soft, 99, 0)) * 44
    over = (np.floor(u) + np.floor(v)) % 2 > 0
    su, sv = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
    height = np.where(over, sv * (0.5 + 0.5 * su), su * (0.5 + 0.5 * sv))
    plaid = ((np.floor(u) % 22 < 7) * 1.0 + (np.floor(v) % 22 < 7)) / 2
    threads = np.where(over, _noise(n.rng, 0.6, (1, 12)), _noise(n.rng, 0.6, (12, 1)))
    return height, 0.25 + 0.4 * height + 0.1 * threads + 0.04 * n.soft, plaid, 0.7


def _grass(n: SimpleNamespace) -> Fields:
    """Thousands of overlapping blades."""
    image = Image.new("RGB", (TILE, TILE))
    draw = ImageDraw.Draw(image)
    for k in range(9000):
        x, y = n.rng.random(2) * TILE
        lean, length, width = n.rng.normal(0, 0.9), n.rng.uniform(14, 44), int(n.rng.integers(2, 5))
        dx, dy, hue = math.sin(lean) * length, -math.cos(lean) * length, int(n.rng.integers(0, 256))
        tone = n.rng.uniform(20, 110) + 90 * k / 9000
        for ox in (-TILE, 0, TILE):
            for oy in (-TILE, 0, TILE):
                if -50 < x + ox < TILE + 50 and -50 < y + oy < TILE + 50:
                    for a, b in ((0.0, 0.5), (0.5, 1.0)):  # a blade is lighter towards its tip
                        ends = [(x + ox + dx * t, y + oy + dy * t - 6 * t * t) for t in (a, b)]
                        draw.line(ends, fill=(int(tone * (0.8 + 0.5 * a)), hue, 0), width=max(1, width - int(2 * a)))
    pixels = np.asarray(image) / 255.0
    tone = pixels[..., 0] / pixels[..., 0].max() * (0.9 + 0.12 * n.soft)
    return tone, tone, pixels[..., 1], 1.0


def _stones(m: int, jitter: float, warp: float, rim: float, relief: float = 1.0) -> Callable[[SimpleNamespace], Fields]:
    """Stones, m x m of them: tileable Voronoi cells, rounded over a share ``rim`` of a cell."""

    def stones(n: SimpleNamespace) -> Fields:
        seat = 0.5 + jitter * (n.rng.random((m, m, 2)) - 0.5)
        value = n.rng.random((m, m))
        bent = warp * n.soft
        y, x = np.mgrid[:TILE, :TILE] * (m / TILE) + np.stack([bent, np.roll(bent, TILE // 3, 0)]) * 0.12
        iy, ix = np.floor(y).astype(int), np.floor(x).astype(int)
        first, second, own = np.full(y.shape, 9.0), np.full(y.shape, 9.0), np.zeros(y.shape)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                cy, cx = (iy + dy) % m, (ix + dx) % m
                d = np.hypot(iy + dy + seat[cy, cx, 0] - y, ix + dx + seat[cy, cx, 1] - x)
                second = np.minimum(second, np.maximum(first, d))
                own = np.where(d < first, value[cy, cx], own)
                first = np.minimum(first, d)
        edge = second - first  # distance to the cell's border
        dome = 1 - np.clip(1 - edge / rim, 0, 1) ** 2
        tone = (0.2 + 0.75 * own + 0.07 * n.fine + 0.08 * n.soft) * (0.25 + 0.75 * np.clip(edge / 0.18, 0, 1))
        return dome + 0.04 * n.fine, tone, 0.6 * (own * 7.3 % 1) + 0.4 * n.hue, relief

    return stones


def _tiles(n: SimpleNamespace) -> Fields:
    height, tone, hue, relief = _stones(6, 0.0, 0.08, 0.12)(n)
    return height, 0.45 + 0.4 * (tone - 0.3) + 0.08 * _noise(n.rng, 1.2), hue, relief


def _sand(n: SimpleNamespace) -> Fields:
    ripple = np.sin(2 * np.pi * (9 * n.y + 0.5 * _noise(n.rng, 2.6)))
    return 0.3 * ripple + 0.035 * n.fine, 0.5 + 0.08 * ripple + 0.11 * n.fine + 0.12 * n.soft, n.hue, 1.0


def _water(n: SimpleNamespace) -> Fields:
    a, b = np.abs(_noise(n.rng, 2.0)), np.abs(_noise(n.rng, 1.9))
    light = np.exp(-4 * a) + 0.6 * np.exp(-5 * b)
    return light + 0.2 * n.soft, 0.18 + 0.6 * light + 0.08 * n.soft, n.hue, 0.25


def _plaster(n: SimpleNamespace) -> Fields:
    rough = _noise(n.rng, 1.0)
    return 0.12 * rough + 0.04 * n.fine, 0.55 + 0.12 * n.soft + 0.06 * rough, n.hue, 1.0


def _marble(n: SimpleNamespace) -> Fields:
    veins = np.exp(-7 * np.abs(_noise(n.rng, 1.6) + 0.25 * _noise(n.rng, 1.1)))
    return n.soft, 0.68 + 0.14 * n.soft - 0.5 * veins, 0.4 * n.hue + 0.5 * veins, 0.1


def _fur(n: SimpleNamespace) -> Fields:
    hair, bend = _noise(n.rng, 0.75, (1, 24)), (_noise(n.rng, 3.0) * 26).astype(int)
    hair = hair[(np.arange(TILE)[:, None] + bend) % TILE, np.arange(TILE)[None]]
    return 0.25 * hair, 0.45 + 0.19 * hair + 0.09 * n.soft, n.hue, 0.5


def _clouds(n: SimpleNamespace) -> Fields:
    return n.soft, 0.5 + 0.16 * _noise(n.rng, 1.35) + 0.1 * n.soft, n.hue, 0.3


# Recipe, and as a ground several moods: a dark, a light and an accent colour each. The order fixes each material's own
# noise, and the materials that a scene's random numbers stand for.
MATERIALS: dict[str, tuple[Callable[[SimpleNamespace], Fields], tuple[str, ...]]] = {
    "wood": (_wood, ("3a2216 b07a48 8a4f2a", "6d5a4a cbb79c 9c8a76", "1f1512 6b4630 402318", "8f8a84 d8d4cc b0a090")),
    "weave": (_weave, ("2b3a55 7f93b0 b04a3a", "7a6a55 d8c9ae a05a48", "4a1f24 b0685c d0b080", "30403a 8aa08c c8b878")),
    "grass": (_grass, ("14260c 6f9a35 a9a24a", "2a2a10 a39a55 6f7a30", "0e2418 4f8a4a 8ab060")),
    "pebbles": (
        _stones(9, 0.95, 1.0, 0.55, relief=2.0),
        ("2a2826 a8a29a 8a6a55", "1f2428 7f8c94 a89a86", "3a2a20 c4a888 8a8a90"),
    ),
    "gravel": (_stones(26, 0.9, 1.2, 0.55), ("3f3c38 b4aea4 a07a60", "2c3034 8e979c 6a5a50", "5a4030 cda582 9a9a98")),
    "sand": (_sand, ("8a6a45 dcc096 b89468", "9a8c7c e2d6c4 c0ac94", "6a4a34 c08a5c 9a6844")),
    "water": (_water, ("0c3a48 6fb8b4 2a7a80", "12305a 7aa6cc 3a6aa0", "1f4a3a 8fc0a0 4a8a68")),
    "plaster": (
        _plaster,
        ("8a8680 cfcac0 b8a894", "6a7a80 b4c2c4 90a0a4", "a0765c dcb494 c49a78", "4c5244 9aa08a 7a7a60"),
    ),
    "marble": (_marble, ("4a4a50 e0dcd6 b0a090", "1c2a26 6a8a7a b0b8a0", "2a2426 8a6a66 c8a890")),
    "fur": (_fur, ("2e1e14 a67c52 d8b890", "4a4644 b8b2aa 807468", "1a1a1e 6a6468 40383a")),
    "tiles": (_tiles, ("5a2a1c b8654a d09a70", "54606a b4c0c4 8aa0a8", "6a6050 cfc4ac a89878")),
    "clouds": (_clouds, ("3a3f4a a6a8a8 8a7868", "5a4650 c8a8a0 a08890", "2a4048 8ab0b0 c0b8a0")),
}


def linear(colours: str) -> np.ndarray:
    """'rrggbb rrggbb …' → (n, 3) linear light in [0, 1] (gamma taken as 2)."""
    return np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours.split()], np.float32) ** 2 / 65025


# (n, 3): what an object may wear; some borrow the ground's colours instead, so that colour does not give them away.
WARDROBE = linear(
    "a8322a c8643a d89a4a d8c070 8a9a3a 4a7a3a 2f5a44 3f8a8a 3a6a9a 2f3f7a 5f4a8a 8f4a7a c87a8a e0b8a0 e4dcc8 "
    "b0a898 7a7068 4a443e 2a2a2e 6a4028 94683e c49a6a 708a9a a8c0c4"
)
