"""Demo scenes: painted pictures of objects lying on textured ground, with exact instance masks (ours, not the paper's).

A scene is a pure function of (seed, index): objects are signed-distance silhouettes raised to a height field, clothed
in noise textures and lit by one lamp. Nothing is read from disk, so a demo or a test needs no data set. All lengths
are in units of the picture's short side, so that one composition can be drawn at any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

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
        tone = (0.5 + 0.13 * rings + 0.14 * fibre + 0.09 * soft + rng.uniform(-0.14, 0.14, 4)[plank]) * (
            0.3 + 0.7 * gap
        )
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
        ripple = np.sin(2 * np.pi * (9 * y + 0.5 * _noise(rng, 2.6)))
        height, tone = 0.3 * ripple + 0.035 * fine, 0.5 + 0.08 * ripple + 0.11 * fine + 0.12 * soft
    elif name == "water":
        a, b = np.abs(_noise(rng, 2.0)), np.abs(_noise(rng, 1.9))
        light = np.exp(-4 * a) + 0.6 * np.exp(-5 * b)
        tone, height, relief = 0.18 + 0.6 * light + 0.08 * soft, light + 0.2 * soft, 0.25
    elif name == "marble":
        veins = np.exp(-7 * np.abs(_noise(rng, 1.6) + 0.25 * _noise(rng, 1.1)))
        tone, height, hue, relief = 0.68 + 0.14 * soft - 0.5 * veins, soft, 0.4 * hue + 0.5 * veins, 0.1
    elif name == "fur":
        hair, bend = _noise(rng, 0.75, (1, 24)), (_noise(rng, 3.0) * 26).astype(int)
        hair = hair[(np.arange(TILE)[:, None] + bend) % TILE, np.arange(TILE)[None]]
        tone, height, relief = 0.45 + 0.19 * hair + 0.09 * soft, 0.25 * hair, 0.5
    elif name == "plaster":
        rough = _noise(rng, 1.0)
        tone, height = 0.55 + 0.12 * soft + 0.06 * rough, 0.12 * rough + 0.04 * fine
    else:
        tone, height, relief = 0.5 + 0.16 * _noise(rng, 1.35) + 0.1 * soft, soft, 0.3
    return height, tone, hue, relief


@cache
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


# -------------------------------------------------------------------------------------------------- objects
# A shape is drawn back to front from parts (distance, height, coat) in the object's own frame: x right, y down, the
# whole object within the unit circle. distance < 0 is inside; height None means paint on what is there already;
# coat 0, 1 or 2 is one of the object's colours. p: eight uniform numbers that make each instance its own.
Part = tuple[Array, "Array | None", int]
Patch = tuple[slice, slice]  # rows, columns


def _dome(d: Array, radius: float) -> Array:
    """Height of an edge rounded with this radius: 0 at the outline, `radius` on the flat top."""
    t = 1 - np.clip(-d / radius, 0, 1)
    return radius * np.sqrt(1 - t * t)


def _ellipse(x: Array, y: Array, cx: float, cy: float, a: float, b: float) -> Array:
    u, v = (x - cx) / a, (y - cy) / b
    k = np.sqrt(u * u + v * v) + 1e-6
    return (k - 1) * k / np.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def _box(x: Array, y: Array, cx: float, cy: float, a: float, b: float, corner: float) -> Array:
    u, v = np.abs(x - cx) - (a - corner), np.abs(y - cy) - (b - corner)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - corner


def _limb(x: Array, y: Array, ax: float, ay: float, bx: float, by: float, ra: float, rb: float) -> Array:
    """A stick from (ax, ay) to (bx, by) whose radius goes from ra to rb."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - ax - dx * t, y - ay - dy * t) - (ra + (rb - ra) * t)


def _fold(x: Array, y: Array, n: int) -> tuple[Array, Array]:
    """Fold the plane into one of n equal sectors around the positive x axis: (along, across)."""
    angle = (np.arctan2(y, x) + math.pi / n) % (2 * math.pi / n) - math.pi / n
    rho = np.hypot(x, y)
    return rho * np.cos(angle), np.abs(rho * np.sin(angle))


def _apple(x: Array, y: Array, p: Array) -> list[Part]:
    rho = np.hypot(x, y) + 1e-6
    up = np.maximum(-y / rho, 0)
    down = np.maximum(y / rho, 0)
    d = rho - (0.8 + 0.1 * p[0] * np.abs(x)) * (1 - 0.2 * up**10 - 0.07 * down**12)
    hollow = 0.35 * np.exp(-9 * x * x - 16 * (y + 0.62) ** 2)
    parts: list[Part] = [(d, _dome(d, 0.8) - hollow, 0)]
    stem = _limb(x, y, 0, -0.58, 0.3 * (p[1] - 0.5), -0.95, 0.035, 0.06)
    parts.append((stem, 0.55 + _dome(stem, 0.05), 2))
    if p[2] < 0.6:
        u, v = x * 0.8 - (y + 0.66) * 0.6, x * 0.6 + (y + 0.66) * 0.8
        leaf = np.maximum(_ellipse(u, v, 0.25, 0.1, 0.27, 0.21), _ellipse(u, v, 0.25, -0.1, 0.27, 0.21))
        parts.append((leaf, 0.5 + 0.4 * np.abs(v) + _dome(leaf, 0.06), 1))
    return parts


def _ball(x: Array, y: Array, p: Array) -> list[Part]:
    d = np.hypot(x, y) - 0.92
    h = _dome(d, 0.92)
    parts: list[Part] = [(d, h, 0)]
    u, v = x - 0.5 * p[1], y - 0.5 * p[2]
    if p[0] < 0.3:  # panels around a pole
        n = 2 + int(p[3] * 3)
        parts += [(0.3 * np.hypot(u, v) * np.sin(n * np.arctan2(v, u)), None, 1), (np.hypot(u, v) - 0.13, None, 2)]
    elif p[0] < 0.55:  # bands on the sphere
        bow = v + (0.3 + 0.3 * p[3]) * h
        parts += [(np.abs(bow - 0.1) - 0.18, None, 1), (np.abs(np.abs(bow - 0.1) - 0.3) - 0.04, None, 2)]
    elif p[0] < 0.75:  # seams
        seam = np.minimum(np.abs(np.hypot(u - 1.1, v) - 0.85), np.abs(np.hypot(u + 1.1, v) - 0.85))
        parts.append((np.minimum(seam, np.abs(v - 0.25 * h)) - 0.03, None, 2))
    return parts


def _book(x: Array, y: Array, p: Array) -> list[Part]:
    x = x + 0.12 * (p[0] - 0.5) * y
    half = 0.58 + 0.12 * p[1]
    back, pages = _box(x, y, 0.07, 0.06, half, 0.82, 0.03), _box(x, y, 0.05, 0.04, half - 0.03, 0.8, 0.01)
    cover, edge = _box(x, y, -0.03, -0.03, half, 0.82, 0.05), x + half - 0.12
    layers = 0.004 * np.sin(90 * np.where(y > 0.8, y, x))
    parts: list[Part] = [(back, _dome(back, 0.04), 0), (pages, 0.05 + layers, 2)]
    parts += [(cover, 0.16 + _dome(cover, 0.06) - 0.03 * np.exp(-((edge / 0.03) ** 2)), 0)]
    if p[2] < 0.7:
        parts.append((np.maximum(edge + 0.02, cover), None, 1))
    title = _box(x, y, 0.07, -0.35, 0.36, 0.12 + 0.1 * p[3], 0.02)
    parts += [(title, None, 1), (np.maximum(np.abs((y * 9) % 1 - 0.5) / 9 - 0.022, title + 0.07), None, 2)]
    if p[4] < 0.5:
        parts.append((_ellipse(x, y, 0.07, 0.3, 0.2 + 0.1 * p[5], 0.26), None, 2))
    return parts


def _butterfly(x: Array, y: Array, p: Array) -> list[Part]:
    ax = np.abs(x) / (0.8 + 0.2 * p[0])
    u, v = ax * 0.8 - y * 0.6, ax * 0.6 + y * 0.8
    upper = _ellipse(u, v, 0.56, 0.05, 0.45, 0.28 + 0.06 * p[1]) + 0.02 * np.sin(9 * v)
    lower = _ellipse(ax * 0.8 + y * 0.6, ax * 0.6 - y * 0.8, 0.46, -0.04, 0.36, 0.24 + 0.06 * p[2])
    trunk = _limb(ax, y, 0, -0.3, 0, 0.42, 0.08, 0.04)
    feeler = _limb(ax, y, 0, -0.3, 0.26, -0.78, 0.03, 0.045)
    parts: list[Part] = []
    for wing, reach in ((lower, 0.32 * p[3]), (upper, 0.34)):
        rim = 0.1 + 0.08 * p[4]
        veins = np.abs(np.sin(5 * np.arctan2(y + 0.05, ax))) * 0.2 - 0.02
        parts += [(wing, 0.25 * ax + _dome(wing, 0.05), 0), (np.maximum(np.minimum(-wing - rim, veins), wing), None, 1)]
        spot = np.hypot(ax - 0.55, np.abs(y) - reach) - 0.05 - 0.1 * p[5]
        parts.append((np.maximum(spot, wing), None, 2))
    parts += [(feeler, 0.2 + _dome(feeler, 0.03), 1), (trunk, 0.1 + _dome(trunk, 0.08) * 2, 1)]
    return parts


def _fish(x: Array, y: Array, p: Array) -> list[Part]:
    y = y + 0.25 * (p[0] - 0.5) * (x * x - 0.3)
    fat = 0.32 + 0.2 * p[1]
    u = (x - 0.22) / 0.76
    ay, fork = np.abs(y), 0.2 * p[2]
    girth = fat * np.clip(1 - u * u, 0, 1) ** 0.62 * (1 + 0.25 * u)
    body = np.maximum(0.9 * (ay - girth), 0.76 * (np.abs(u) - 1))
    tail = np.maximum(np.maximum(0.75 * (ay - 0.05 + 0.85 * (x + 0.38)), x + 0.3), -x - 0.8 - fork * (ay * 2.2 - 0.3))
    fins = np.minimum(
        np.maximum(_ellipse(x, y, 0.12, -fat * 0.8, 0.42, 0.3), x - 0.42 - y * 0.3),
        np.maximum(_ellipse(x, y, 0.0, fat * 0.85, 0.24, 0.2), x - 0.2 + y * 0.2),
    )
    rays = 0.012 * np.sin(38 * (y - 0.5 * x))
    eye = np.hypot(x - 0.68, y + 0.09) - 0.085
    gill = (np.hypot(x - 0.78, y) - 0.36) / 0.025
    groove = 0.06 * np.exp(-gill * gill) * (x < 0.55)
    parts: list[Part] = [(tail, 0.08 + rays, 1), (fins, 0.08 + rays, 1), (body, 1.2 * _dome(body, fat) - groove, 0)]
    if p[3] < 0.5:
        stripes = np.abs((x * (2 + 4 * p[4])) % 1 - 0.5) / (2 + 4 * p[4]) - 0.06
        parts.append((np.maximum(np.maximum(stripes, x - 0.42), body), None, 2))
    parts += [(eye, fat + _dome(eye, 0.08), 2), (eye + 0.035, None, 3)]
    return parts


def _flower(x: Array, y: Array, p: Array) -> list[Part]:
    n = 5 + int(p[0] * 6)
    width = 0.95 * math.tan(math.pi / n) * (0.5 + 0.12 * p[1])
    rho = np.hypot(x, y)
    parts: list[Part] = []
    turn = math.pi / n
    for c, s, size in ((math.cos(turn), math.sin(turn), 0.92), (1.0, 0.0, 1.0)):
        u, v = _fold((x * c - y * s) / size, (x * s + y * c) / size, n)
        petal = _ellipse(u, v, 0.54, 0, 0.4, width)
        parts.append((petal, 0.3 * (size - 0.9) + 0.2 * rho + 0.5 * v + _dome(petal, 0.06), 0))
        parts.append((np.maximum(v - 0.03 * (1.2 - u), u - 0.4 - 0.3 * p[2]), None, 1))
    heart = rho - 0.2 - 0.12 * p[3]
    return [*parts, (heart, 0.1 + _dome(heart, 0.3), 2)]


def _leaf(x: Array, y: Array, p: Array) -> list[Part]:
    y = y + 0.5 * (p[0] - 0.5) * (x * x - 0.3)
    ay, u = np.abs(y), np.clip((x - 0.12) / 0.82, -1, 1)
    width = (0.26 + 0.2 * p[1]) * (1 - u * u) ** 0.8 * (1 - 0.4 * u)
    if p[2] < 0.35:  # lobes, as an oak's
        width = width * (1 + 0.3 * np.sin(14 * u))
    elif p[2] < 0.7:  # teeth
        width = width * (1 + 0.14 * ((u * 8) % 1 - 0.5))
    d = np.maximum(0.8 * (ay - width), np.abs(x - 0.12) - 0.82)
    stalk = _limb(x, y, -0.98, 0, -0.4, 0, 0.035, 0.03)
    rib = np.abs(((x - 0.9 * ay) * 5.5) % 1 - 0.5) / 5.5
    quilt = 0.05 * np.cos(2 * np.pi * 5.5 * (x - 0.9 * ay))
    parts: list[Part] = [(stalk, _dome(stalk, 0.03), 1), (d, 0.35 * ay + _dome(d, 0.05) - quilt * ay * 3, 0)]
    return [*parts, (np.maximum(np.minimum(ay - 0.018 * (1.6 - u), rib - 0.008), d), None, 1)]


def _mug(x: Array, y: Array, p: Array) -> list[Part]:
    wide = 0.5 + 0.1 * p[0]
    x, taper = x + 0.15, 1 + 0.14 * (p[1] - 0.3) * y
    handle = np.abs(_ellipse(x, y, wide, 0.12, 0.3, 0.34)) - 0.085
    body = np.maximum(_box(x * taper, y, 0, 0.1, wide, 0.75, 0.12), -0.62 - y)
    rim = _ellipse(x, y, 0, -0.62, wide / (1 - 0.09 * (p[1] - 0.3)), 0.17)
    body = np.minimum(body, rim)
    hole = _ellipse(x, y, 0, -0.61, wide - 0.07, 0.12)
    drink = np.maximum(_ellipse(x, y, 0, -0.5 + 0.08 * p[2], wide - 0.08, 0.12), hole)
    round_ = 0.85 * np.sqrt(np.clip(1 - (x / (wide + 0.03)) ** 2, 0, 1)) * wide
    parts: list[Part] = [(handle, 0.1 + _dome(handle, 0.085), 0), (body, round_, 0)]
    if p[3] < 0.45:  # a band
        parts.append((np.maximum(np.abs(y - 0.12 * np.cos(2 * x) - 0.05) - 0.06 - 0.16 * p[4], body), None, 1))
    elif p[3] < 0.75:  # dots
        dots = np.hypot((x * 3.2 + 0.5) % 1 - 0.5, (y * 3.2) % 1 - 0.5) / 3.2 - 0.07
        parts.append((np.maximum(dots, body), None, 1))
    return [*parts, (rim, 0.5 + _dome(rim, 0.05), 0), (hole, 0.3 + 0.5 * x, 1), (drink, 0.35 + 0 * x, 2)]


def _mushroom(x: Array, y: Array, p: Array) -> list[Part]:
    tall = 0.35 + 0.4 * p[0]
    stem = _limb(x, y, 0, 0, 0.25 * (p[1] - 0.5), 0.75, 0.17, 0.2 + 0.08 * p[2])
    cap = _ellipse(x, y, 0, 0.0, 0.88, 0.35 + tall)
    brow = y - 0.02 - 0.12 * (1 - x * x)
    cap = np.maximum(cap, brow)
    gills = _ellipse(x, y, 0, 0.06, 0.82, 0.15)
    parts: list[Part] = [(stem, _dome(stem, 0.2), 2), (gills, 0.1 + 0.02 * np.sin(40 * np.arctan2(x, y + 1)), 2)]
    parts.append((cap, 0.3 + _dome(cap, 0.5), 0))
    if p[3] < 0.6:
        dots = np.full_like(x, 9.0)
        for k in range(7):
            cx, cy = -0.66 + 0.22 * k, -tall * (0.1 + 0.75 * ((k * 0.618 + p[4]) % 1))
            dots = np.minimum(dots, np.hypot(x - cx, (y - cy) * 1.2) - 0.05 - 0.07 * ((k * 0.37 + p[5]) % 1))
        parts.append((np.maximum(dots, cap), None, 1))
    return parts


def _star(x: Array, y: Array, p: Array) -> list[Part]:
    bend = 0.35 * (p[0] - 0.5) * np.hypot(x, y)
    n = 5 if p[1] < 0.8 else 6
    u, v = _fold(x - bend * y, y + bend * x, n)
    d = _limb(u, v, 0, 0, 0.84, 0, 0.34 + 0.08 * p[2], 0.09)
    web = np.clip(0.12 - np.abs(v - np.tan(math.pi / n) * u), 0, 1) * np.clip(1 - 1.6 * np.hypot(u, v), 0, 1)
    d = d - 0.5 * web  # fills the crotch between two arms
    knobs = np.hypot((u * 6.5) % 1 / 6.5 - 0.077, v) - 0.035
    parts: list[Part] = [(d, 0.8 * _dome(d, 0.3) + 0.1 * np.clip(1 - np.hypot(u, v), 0, 1), 0)]
    if p[3] < 0.6:
        parts.append((np.maximum(knobs, u - 0.75), None, 1))
    return parts


SHAPES = {
    "apple": _apple, "ball": _ball, "book": _book, "butterfly": _butterfly, "fish": _fish,
    "flower": _flower, "leaf": _leaf, "mug": _mug, "mushroom": _mushroom, "star": _star,
}  # fmt: skip
UPRIGHT = ("apple", "mug", "mushroom")  # seen from the side: turned by at most half a right angle or so

# -------------------------------------------------------------------------------------------------- a scene
# Colours an object may wear (sRGB); some objects borrow the ground's instead, so that colour does not give them away.
COATS = (
    "a8322a c8643a d89a4a d8c070 8a9a3a 4a7a3a 2f5a44 3f8a8a 3a6a9a 2f3f7a 5f4a8a 8f4a7a c87a8a e0b8a0 e4dcc8 "
    "b0a898 7a7068 4a443e 2a2a2e 6a4028 94683e c49a6a 708a9a a8c0c4"
)


def _linear(colours: str) -> Array:
    """'rrggbb rrggbb …' → (n, 3) linear light in [0, 1] (gamma taken as 2)."""
    return np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours.split()], np.float32) ** 2 / 65025


WARDROBE, MOODS = _linear(COATS), {name: [_linear(c) for c in moods] for name, moods in GROUNDS.items()}
MATERIALS = tuple(GROUNDS)


@dataclass
class Thing:
    """One object of a scene; lengths in short sides, later things lie in front of earlier ones."""

    kind: str
    centre: tuple[float, float]
    radius: float
    angle: float
    mirror: int
    p: Array  # (8,) the instance's own shape, [0, 1]
    coats: Array  # (4, 3) linear light
    cloth: str  # material of the texture
    grain: Array  # (6,): texture scale, contrast, u, v offset, gloss, share of the accent colour


def _plan(rng: np.random.Generator, aspect: tuple[float, float], mood: Array) -> list[Thing]:
    """Throw the dice for all objects of a scene: kinds, places, sizes, colours. `aspect`: (width, height)."""
    things: list[Thing] = []
    wanted = int(rng.choice([2, 3, 4, 5, 6], p=[0.08, 0.2, 0.26, 0.26, 0.2]))
    kinds = tuple(SHAPES)
    for k in range(wanted):
        for attempt in range(30):
            radius = 0.09 + 0.21 * float(rng.random()) ** 1.15
            if k < MIN_OBJECTS:  # these have to find a place
                radius = max(radius * (1 - 0.02 * attempt), 0.08)
            x, y = (radius * 0.75 + rng.random(2) * (np.array(aspect) - 1.5 * radius)).tolist()
            if things and rng.random() < 0.4:  # lean on an earlier object: occlusion
                other, turn = things[int(rng.integers(len(things)))], rng.random() * 2 * math.pi
                reach = (0.5 + 0.25 * rng.random()) * (radius + other.radius)
                x, y = other.centre[0] + reach * math.cos(turn), other.centre[1] + reach * math.sin(turn)
            inside = all(0.6 * radius <= c <= a - 0.6 * radius for c, a in zip((x, y), aspect, strict=True))
            if inside and all(math.dist((x, y), t.centre) > 0.5 * (radius + t.radius) for t in things):
                break
        else:
            continue
        kind = kinds[int(rng.integers(len(kinds)))]
        coats = WARDROBE[rng.integers(0, len(WARDROBE), 4)]
        if rng.random() < 0.35:
            coats[0] = mood[int(rng.integers(3))]
        coats = np.clip(coats * np.exp(rng.normal(0, 0.22, (4, 1)) + rng.normal(0, 0.12, (4, 3))), 0.004, 0.85)
        coats[3] = 0.006  # pupils
        turn = rng.normal(0, 0.35) if kind in UPRIGHT else rng.random() * 2 * math.pi
        cloth, mirror = MATERIALS[int(rng.integers(len(MATERIALS)))], 1 if rng.random() < 0.5 else -1
        p, grain = rng.random(8).astype(np.float32), rng.random(6)
        things.append(Thing(kind, (x, y), radius, float(turn), mirror, p, coats.astype(np.float32), cloth, grain))
    return things


@dataclass
class Cutout:
    """A thing drawn on its own pixel window, whose corner (top, left) may lie outside the picture."""

    thing: Thing
    top: int
    left: int
    scale: float  # pixels per unit of the thing's own frame
    x: Array  # (h, w) the window's pixel centres in the thing's own frame
    y: Array
    parts: list[Part]
    d: Array  # (h, w) signed distance to the silhouette

    def overlap(self, height: int, width: int, dy: int = 0, dx: int = 0) -> tuple[Patch, Patch]:
        """(slices of the picture, slices of the window) where the two meet, the window moved by (dy, dx) pixels."""
        h, w = self.d.shape
        top, left = self.top + dy, self.left + dx
        y0, x0 = min(max(top, 0), height), min(max(left, 0), width)
        y1, x1 = max(min(top + h, height), y0), max(min(left + w, width), x0)
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _cut_out(thing: Thing, short: int) -> Cutout:
    """Evaluate a thing's silhouette around its place, with a margin for its shadow's soft edge."""
    scale = thing.radius * short
    half, cx, cy = 1.22 * scale, thing.centre[0] * short, thing.centre[1] * short
    top, left = math.floor(cy - half), math.floor(cx - half)
    side = math.ceil(2 * half) + 1
    u = ((np.arange(left, left + side) + 0.5 - cx) / scale).astype(np.float32)[None]
    v = ((np.arange(top, top + side) + 0.5 - cy) / scale).astype(np.float32)[:, None]
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    x, y = thing.mirror * (c * u + s * v), c * v - s * u
    parts = SHAPES[thing.kind](x, y, thing.p)
    d = parts[0][0]
    for distance, height, _ in parts[1:]:
        if height is not None:
            d = np.minimum(d, distance)
    return Cutout(thing, top, left, scale, x, y, parts, d)


@dataclass
class Composition:
    """What lies where, before light and paint."""

    rng: np.random.Generator  # for what comes after: light, paint, camera
    ground: str
    mood: Array  # (3, 3) the ground's colours
    cutouts: list[Cutout]  # back to front
    visible: list[Array]  # of each, the (H, W) bool part that nothing in front hides


def _compose(seed: int, index: int, size: tuple[int, int]) -> Composition:
    """Lay out a scene of (width, height) pixels and leave out what would hardly be seen."""
    width, height = size
    short = min(size)
    rng = np.random.default_rng([seed, index])
    ground = MATERIALS[int(rng.integers(len(MATERIALS)))]
    mood = MOODS[ground][int(rng.integers(len(MOODS[ground])))]
    scene = Composition(rng, ground, mood, [], [])
    covered = np.zeros((height, width), bool)
    for thing in reversed(_plan(rng, (width / short, height / short), mood)):
        cutout = _cut_out(thing, short)
        inside = cutout.d < 0
        picture, window = cutout.overlap(height, width)
        visible = np.zeros((height, width), bool)
        visible[picture] = inside[window] & ~covered[picture]
        if np.count_nonzero(visible) >= VISIBLE * np.count_nonzero(inside):
            covered |= visible
            scene.cutouts.insert(0, cutout)
            scene.visible.insert(0, visible)
    return scene


def _annotate(scene: Composition) -> Annotation:
    masks = np.stack(scene.visible)
    height, width = masks.shape[1:]
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = xs[0] / width, ys[0] / height, (xs[-1] + 1) / width, (ys[-1] + 1) / height
    return Annotation(masks=masks, boxes=boxes, classes=[cutout.thing.kind for cutout in scene.cutouts])


@dataclass
class Light:
    """One lamp far away, and the sky. direction: unit (x right, y down, z to the camera); colours linear RGB."""

    direction: tuple[float, float, float]
    lamp: Array  # (3,)
    sky: Array  # (3,)
    softness: float  # width of a shadow's edge, in the object's radius


def _light(rng: np.random.Generator) -> Light:
    turn, up, warmth = rng.random() * 2 * math.pi, rng.uniform(0.55, 1.1), rng.normal(0, 0.12)
    tint = np.array([math.exp(warmth), 1.0, math.exp(-warmth)], np.float32)
    share = rng.uniform(0.25, 0.5)  # how much of the light comes from the sky
    sky = share * np.array([0.92, 1.0, 1.1], np.float32) / tint**0.5
    direction = (math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up))
    return Light(direction, (1.25 - share) * tint, sky, rng.uniform(0.08, 0.4))


def _cloth(coats: Array, tone: Array, hue: Array, contrast: float, accent: float) -> Array:
    """Colours (dark, light, accent) (3, 3) and a material's fields (h, w) → albedo (3, h, w)."""
    t, a = (tone - 0.5) * contrast + 0.5, hue * accent
    dark, light, other = (c[:, None, None] for c in coats)
    base = dark + (light - dark) * t
    return np.maximum(base + (other - base) * a, 0.003)


def _paint_ground(scene: Composition, size: tuple[int, int], light: Light) -> Array:
    """The lit ground, linear light (3, H, W): the canvas on which things are put."""
    rng = scene.rng
    width, height = size
    short = min(size)
    turn, period = rng.random() * 2 * math.pi, rng.uniform(0.8, 1.9)
    c, s = math.cos(turn) / period, math.sin(turn) / period
    x = ((np.arange(width) + 0.5) / short).astype(np.float32)[None]
    y = ((np.arange(height) + 0.5) / short).astype(np.float32)[:, None]
    ou, ov = rng.random(2).tolist()
    blur = int(rng.choice([0, 0, 0, 0, 1, 1, 2]))
    tone, hue, su, sv = _texture(scene.ground, c * x + s * y + ou, c * y - s * x + ov, 1 / (period * short), blur)
    shift = np.exp(rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.06, 3)).astype(np.float32)
    albedo = _cloth(np.clip(scene.mood * shift, 0, 0.9), tone, hue, rng.uniform(0.7, 1.15), rng.uniform(0.2, 0.6))
    lx, ly, lz = light.direction
    bump = rng.uniform(0.5, 1.1) * period
    facing = np.clip(lz - bump * (su * (c * lx - s * ly) + sv * (s * lx + c * ly)), 0, 1.3)
    return albedo * (light.sky[:, None, None] + light.lamp[:, None, None] * facing)


def _cast_shadow(canvas: Array, cutout: Cutout, light: Light) -> None:
    """Darken what lies under a thing: away from the lamp, and where it touches the ground."""
    height, width = canvas.shape[1:]
    lx, ly, lz = light.direction
    reach = 0.2 * cutout.scale / lz
    lit = (light.lamp * lz)[:, None, None]
    full = light.sky[:, None, None] + lit
    contact = np.float32(0.3)
    for far, soft, edge, depth in ((1.0, light.softness, 0.5, 0.9 * lit / full), (0.3, 0.13, 0.9, contact)):
        picture, window = cutout.overlap(height, width, round(-ly * reach * far), round(-lx * reach * far))
        t = np.clip(edge - cutout.d[window] / soft, 0, 1)
        canvas[:, picture[0], picture[1]] *= 1 - depth * (t * t * (3 - 2 * t))


def _paint_thing(canvas: Array, cutout: Cutout, light: Light) -> None:
    """Put a thing onto the canvas: its parts' heights give the slopes, slopes and lamp the shading."""
    height, width = canvas.shape[1:]
    thing, px = cutout.thing, cutout.scale
    alpha = np.clip(0.5 - cutout.d * px, 0, 1)
    rows, cols = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    near = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(cols[0] - 1, 0), cols[-1] + 2))
    alpha, x, y = alpha[near], cutout.x[near], cutout.y[near]
    size, contrast, ou, ov, gloss, accent = thing.grain.tolist()
    period = 1.6 + 3.5 * size
    rise = np.zeros_like(x)
    for distance, part, _ in cutout.parts:
        if part is not None:
            a = np.clip(0.5 - distance[near] * px, 0, 1)
            rise += (part[near] - rise) * a
    swell = (1.25 - 0.35 * rise) / period  # a texture is compressed towards the limb of a round thing
    tone, hue, su, sv = _texture(thing.cloth, x * swell + ou, y * swell + ov, 1 / (period * px))
    albedo = np.zeros((3, *x.shape), np.float32)
    for distance, _, coat in cutout.parts:
        a = np.clip(0.5 - distance[near] * px, 0, 1)
        base = thing.coats[coat]
        if coat:
            colours = np.stack([base * 0.6, base * 1.3, base])
        else:
            colours = np.stack([base * 0.4, base * 1.5, thing.coats[1]])
        albedo += (_cloth(colours, tone, hue, 0.3 + 0.8 * contrast, 0.5 * accent) - albedo) * a
    gx, gy = np.zeros_like(x), np.zeros_like(x)
    gx[:, 1:-1] = (rise[:, 2:] - rise[:, :-2]) * (px / 2)
    gy[1:-1] = (rise[2:] - rise[:-2]) * (px / 2)
    c, s, m = math.cos(thing.angle), math.sin(thing.angle), thing.mirror
    bump = 0.25 + 0.5 * contrast
    gx, gy = gx + bump * (su * m * c - sv * s), gy + bump * (su * m * s + sv * c)
    nz = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = light.direction
    facing = np.maximum(nz * (lz - gx * lx - gy * ly), 0)
    hx, hy, hz = lx, ly, lz + 1  # half-way to the camera, for the highlight
    shine = np.maximum(nz * (hz - gx * hx - gy * hy), 0) / math.sqrt(hx * hx + hy * hy + hz * hz)
    for _ in range(3 + int(gloss * 3)):
        shine = shine * shine
    shine *= 0.05 + 0.5 * gloss**2
    hollow = 0.55 + 0.45 * nz  # less sky is seen from a steep flank
    lamp, sky = light.lamp[:, None, None], light.sky[:, None, None]
    shaded = albedo * (sky * hollow + lamp * facing) + lamp * shine
    whole = Cutout(thing, cutout.top + near[0].start, cutout.left + near[1].start, px, x, y, [], alpha)
    picture, window = whole.overlap(height, width)
    under = canvas[:, picture[0], picture[1]]
    under += (shaded[:, window[0], window[1]] - under) * alpha[window]


@cache
def _film() -> tuple[Array, Array]:
    """(tone curve from linear light in 1/2048 of 0 … 2 to a byte, sensor noise of unit variance)."""
    x = np.linspace(0, 2, 4096)
    curve = np.where(x < 0.6, x, 0.6 + 0.4 * np.tanh((x - 0.6) / 0.4)) ** (1 / 2.1)
    curve = curve + 0.12 * curve * (1 - curve) * (2 * curve - 1)
    grain = np.random.default_rng(11).standard_normal(1 << 18, dtype=np.float32)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8), grain


def _develop(rng: np.random.Generator, canvas: Array) -> Array:
    """What the camera makes of the light (3, H, W): dapple, vignette, focus, exposure, noise → (H, W, 3) bytes."""
    _, height, width = canvas.shape
    short = min(height, width)
    x = ((np.arange(width) + 0.5 - width / 2) / short).astype(np.float32)[None]
    y = ((np.arange(height) + 0.5 - height / 2) / short).astype(np.float32)[:, None]
    tilt, vignette, (du, dv) = rng.normal(0, 0.22, 2), rng.uniform(0, 0.5), rng.random(2)
    gain = np.clip(1 + tilt[0] * x + tilt[1] * y - vignette * (x * x + y * y), 0.3, 1.6).astype(np.float32)
    if rng.random() < 0.4:  # light falling through leaves
        tone = _texture("clouds", 0.22 * x + du, 0.22 * y + dv, 1 / TILE, 4)[0]
        t = np.clip((tone - 0.5) * rng.uniform(3, 8) + 0.5, 0, 1).astype(np.float32)
        gain *= 0.55 + 0.65 * t * t * (3 - 2 * t)
    canvas *= gain
    soft = np.float32(rng.choice([0.0, 0.1, 0.2, 0.35]))
    if soft:
        for axis in (1, 2):
            front, back = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
            step = (canvas[front] - canvas[back]) * (soft * 0.5)
            canvas[back] += step
            canvas[front] -= step
    curve, grain = _film()
    level = float(canvas[:, ::4, ::4].mean())
    canvas *= (0.2 / max(level, 0.02)) ** 0.7 * math.exp(rng.normal(0, 0.22))
    start = int(rng.integers(1 << 16))
    noise = np.resize(grain[start:], canvas.size).reshape(canvas.shape)
    canvas += noise * (np.sqrt(np.maximum(canvas, 0)) * np.float32(rng.uniform(0.004, 0.03)) + np.float32(0.002))
    indices = np.clip(canvas * 2047.5, 0, 4095).astype(np.uint16)
    return np.ascontiguousarray(curve[indices].transpose(1, 2, 0))


class Scenes:
    """A Source of `n` pictures drawn on demand, each with exact masks of its 2 to 6 objects.

    `size`: (width, height) in pixels; the same scene is composed alike at any size of one aspect ratio. Pictures drawn
    once are kept while they fit in `cache_mb` MB (10^6 bytes; the default holds 4000 of the default size); masks are
    drawn anew. Pixels depend on (seed, i, size) alone, not on process, order or cache (another processor may round a
    byte differently). The textures cost each process about a second, once, and 16 MB.
    """

    CLASSES: tuple[str, ...] = tuple(SHAPES)

    def __init__(self, n: int = 1000, size: tuple[int, int] = (160, 128), seed: int = 0, cache_mb: float = 256) -> None:
        if n < 1 or min(size) < 32 or seed < 0:
            raise ValueError(f"Scenes need n >= 1, sides of at least 32 pixels and seed >= 0, not {n}, {size}, {seed}")
        self.n, self.picture_size, self.seed, self.cache_mb = n, (int(size[0]), int(size[1])), seed, cache_mb
        self._cache: dict[int, Array] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": {}}  # a worker fills its own cache: sending ours costs more than drawing

    def __len__(self) -> int:
        return self.n

    def _check(self, i: int) -> int:
        if not 0 <= i < self.n:
            raise IndexError(f"scene {i} of {self.n}")
        return int(i)

    def name(self, i: int) -> str:
        return f"scene-{self._check(i):06d}"

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels."""
        self._check(i)
        return self.picture_size

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The picture, mode RGB, always of `size(i)`; `at_least` changes nothing."""
        pixels = self._cache.get(self._check(i))
        if pixels is None:
            pixels = self._draw(int(i))
            if (len(self._cache) + 1) * pixels.nbytes <= self.cache_mb * 1e6:
                self._cache[int(i)] = pixels
        return Image.fromarray(pixels)

    def annotation(self, i: int) -> Annotation:
        """Visible masks, boxes and class names, back to front. Masks are disjoint; each shows >= 1/4 of its object."""
        return _annotate(_compose(self.seed, self._check(i), self.picture_size))

    def _draw(self, i: int) -> Array:
        scene = _compose(self.seed, i, self.picture_size)
        light = _light(scene.rng)
        canvas = _paint_ground(scene, self.picture_size, light)
        for cutout in scene.cutouts:
            _cast_shadow(canvas, cutout, light)
            _paint_thing(canvas, cutout, light)
        return _develop(scene.rng, canvas)
