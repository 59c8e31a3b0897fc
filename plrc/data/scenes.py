"""Demo scenes: painted images of objects lying on textured ground, with exact instance masks (ours, not the paper's).

A scene is a pure function of (seed, index): objects are signed-distance silhouettes raised to a height field, clothed
in noise textures and lit by one lamp. Nothing is read from disk, so a demo or a test needs no data set. All lengths
are in units of the image's short side, so that one composition can be drawn at any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, reduce
from itertools import product
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw

from plrc.data.images import AtLeast, boxes_of
from plrc.data.sources import Annotation

_VISIBLE = 0.25  # an object of which less than this share can be seen is left out of the scene
_N_OBJECTS = {2: 0.08, 3: 0.2, 4: 0.26, 5: 0.26, 6: 0.2}  # how many objects, with what probability
_TRIES = 30  # places drawn for an object that finds none, before it is left out
TILE = 512  # side of a material's fields, pixels; they continue across their seams

Grid = np.ndarray
Patch = tuple[slice, slice]  # rows, columns
Fields = tuple[Grid, Grid, Grid, float]
"""(height, tone, hue, relief): fields (TILE, TILE), tileable and about [0, 1]; how strongly the height is seen."""
Part = tuple[Grid, "Grid | None", int]
"""(distance, height of the surface or None for paint on what is there already, which of the object's four coats)."""


# Silhouettes with relief and paint, built from simple outlines. A distance is signed, negative inside. Coordinates are
# of the object's own frame: x right, y down, the whole object within the unit circle.


def _ellipse(x: Grid, y: Grid, cx: float, cy: float, a: float, b: float) -> Grid:
    """Around (cx, cy), 2a wide and 2b high; the distance holds near the outline only."""
    u, v = (x - cx) / a, (y - cy) / b
    k = np.sqrt(u * u + v * v) + 1e-6
    return (k - 1) * k / np.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def _box(x: Grid, y: Grid, cx: float, cy: float, a: float, b: float, corner: float) -> Grid:
    """Around (cx, cy), 2a wide and 2b high, its corners rounded."""
    u, v = np.abs(x - cx) - (a - corner), np.abs(y - cy) - (b - corner)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - corner


def _limb(x: Grid, y: Grid, ax: float, ay: float, bx: float, by: float, ra: float, rb: float) -> Grid:
    """A stick from (ax, ay) to (bx, by) whose radius goes from ra to rb."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - ax - dx * t, y - ay - dy * t) - (ra + (rb - ra) * t)


def _fold(x: Grid, y: Grid, n: int) -> tuple[Grid, Grid]:
    """Fold the plane into one of n equal sectors around the positive x axis: (along, across)."""
    angle = (np.arctan2(y, x) + math.pi / n) % (2 * math.pi / n) - math.pi / n
    rho = np.hypot(x, y)
    return rho * np.cos(angle), np.abs(rho * np.sin(angle))


def _dome(d: Grid, radius: float) -> Grid:
    """Height of an edge rounded with this radius: 0 at the outline, ``radius`` on the flat top."""
    t = 1 - np.clip(-d / radius, 0, 1)
    return radius * np.sqrt(1 - t * t)


def parts_of(kind: str, x: Grid, y: Grid, p: Grid) -> Iterator[Part]:
    """The parts of an object from back to front, the first one no paint, at pixel coordinates x, y (h, w); p (8,),
    uniform in [0, 1], makes each instance its own."""
    match kind:
        case "apple":
            rho = np.hypot(x, y) + 1e-6
            up, down = np.maximum(-y / rho, 0), np.maximum(y / rho, 0)
            d = rho - (0.8 + 0.1 * p[0] * np.abs(x)) * (1 - 0.2 * up**10 - 0.07 * down**12)
            hollow = 0.35 * np.exp(-9 * x * x - 16 * (y + 0.62) ** 2)
            yield d, _dome(d, 0.8) - hollow, 0
            stem = _limb(x, y, 0, -0.58, 0.3 * (p[1] - 0.5), -0.95, 0.035, 0.06)
            yield stem, 0.55 + _dome(stem, 0.05), 2
            if p[2] < 0.6:
                u, v = x * 0.8 - (y + 0.66) * 0.6, x * 0.6 + (y + 0.66) * 0.8
                leaf = np.maximum(_ellipse(u, v, 0.25, 0.1, 0.27, 0.21), _ellipse(u, v, 0.25, -0.1, 0.27, 0.21))
                yield leaf, 0.5 + 0.4 * np.abs(v) + _dome(leaf, 0.06), 1
        case "ball":
            d, u, v = np.hypot(x, y) - 0.92, x - 0.5 * p[1], y - 0.5 * p[2]
            h = _dome(d, 0.92)
            yield d, h, 0
            if p[0] < 0.3:  # panels around a pole
                yield 0.3 * np.hypot(u, v) * np.sin((2 + int(p[3] * 3)) * np.arctan2(v, u)), None, 1
                yield np.hypot(u, v) - 0.13, None, 2
            elif p[0] < 0.55:  # bands on the sphere
                bow = np.abs(v + (0.3 + 0.3 * p[3]) * h - 0.1)
                yield bow - 0.18, None, 1
                yield np.abs(bow - 0.3) - 0.04, None, 2
            elif p[0] < 0.75:  # seams
                seam = np.minimum(np.abs(np.hypot(u - 1.1, v) - 0.85), np.abs(np.hypot(u + 1.1, v) - 0.85))
                yield np.minimum(seam, np.abs(v - 0.25 * h)) - 0.03, None, 2
        case "book":
            x, half = x + 0.12 * (p[0] - 0.5) * y, 0.58 + 0.12 * p[1]
            back, pages = _box(x, y, 0.07, 0.06, half, 0.82, 0.03), _box(x, y, 0.05, 0.04, half - 0.03, 0.8, 0.01)
            cover, edge = _box(x, y, -0.03, -0.03, half, 0.82, 0.05), x + half - 0.12
            layers = 0.004 * np.sin(90 * np.where(y > 0.8, y, x))
            yield back, _dome(back, 0.04), 0
            yield pages, 0.05 + layers, 2
            yield cover, 0.16 + _dome(cover, 0.06) - 0.03 * np.exp(-((edge / 0.03) ** 2)), 0
            if p[2] < 0.7:
                yield np.maximum(edge + 0.02, cover), None, 1
            title = _box(x, y, 0.07, -0.35, 0.36, 0.12 + 0.1 * p[3], 0.02)
            yield title, None, 1
            yield np.maximum(np.abs((y * 9) % 1 - 0.5) / 9 - 0.022, title + 0.07), None, 2
            if p[4] < 0.5:
                yield _ellipse(x, y, 0.07, 0.3, 0.2 + 0.1 * p[5], 0.26), None, 2
        case "butterfly":
            ax = np.abs(x) / (0.8 + 0.2 * p[0])
            u, v = ax * 0.8 - y * 0.6, ax * 0.6 + y * 0.8
            upper = _ellipse(u, v, 0.56, 0.05, 0.45, 0.28 + 0.06 * p[1]) + 0.02 * np.sin(9 * v)
            lower = _ellipse(ax * 0.8 + y * 0.6, ax * 0.6 - y * 0.8, 0.46, -0.04, 0.36, 0.24 + 0.06 * p[2])
            trunk = _limb(ax, y, 0, -0.3, 0, 0.42, 0.08, 0.04)
            feeler = _limb(ax, y, 0, -0.3, 0.26, -0.78, 0.03, 0.045)
            rim, veins = 0.1 + 0.08 * p[4], np.abs(np.sin(5 * np.arctan2(y + 0.05, ax))) * 0.2 - 0.02
            for wing, reach in ((lower, 0.32 * p[3]), (upper, 0.34)):
                spot = np.hypot(ax - 0.55, np.abs(y) - reach) - 0.05 - 0.1 * p[5]
                yield wing, 0.25 * ax + _dome(wing, 0.05), 0
                yield np.maximum(np.minimum(-wing - rim, veins), wing), None, 1
                yield np.maximum(spot, wing), None, 2
            yield feeler, 0.2 + _dome(feeler, 0.03), 1
            yield trunk, 0.1 + _dome(trunk, 0.08) * 2, 1
        case "fish":
            y, fat = y + 0.25 * (p[0] - 0.5) * (x * x - 0.3), 0.32 + 0.2 * p[1]
            u, ay, fork = (x - 0.22) / 0.76, np.abs(y), 0.2 * p[2]
            girth = fat * np.clip(1 - u * u, 0, 1) ** 0.62 * (1 + 0.25 * u)
            body = np.maximum(0.9 * (ay - girth), 0.76 * (np.abs(u) - 1))
            upper, lower = 0.75 * (ay - 0.05 + 0.85 * (x + 0.38)), -x - 0.8 - fork * (ay * 2.2 - 0.3)
            tail = np.maximum(np.maximum(upper, x + 0.3), lower)
            fins = np.minimum(
                np.maximum(_ellipse(x, y, 0.12, -fat * 0.8, 0.42, 0.3), x - 0.42 - y * 0.3),
                np.maximum(_ellipse(x, y, 0.0, fat * 0.85, 0.24, 0.2), x - 0.2 + y * 0.2),
            )
            rays, eye = 0.012 * np.sin(38 * (y - 0.5 * x)), np.hypot(x - 0.68, y + 0.09) - 0.085
            gill = (np.hypot(x - 0.78, y) - 0.36) / 0.025
            groove = 0.06 * np.exp(-gill * gill) * (x < 0.55)
            yield tail, 0.08 + rays, 1
            yield fins, 0.08 + rays, 1
            yield body, 1.2 * _dome(body, fat) - groove, 0
            if p[3] < 0.5:
                stripes = np.abs((x * (2 + 4 * p[4])) % 1 - 0.5) / (2 + 4 * p[4]) - 0.06
                yield np.maximum(np.maximum(stripes, x - 0.42), body), None, 2
            yield eye, fat + _dome(eye, 0.08), 2
            yield eye + 0.035, None, 3
        case "flower":
            n = 5 + int(p[0] * 6)
            width = 0.95 * math.tan(math.pi / n) * (0.5 + 0.12 * p[1])
            rho, turn = np.hypot(x, y), math.pi / n
            for c, s, size in ((math.cos(turn), math.sin(turn), 0.92), (1.0, 0.0, 1.0)):
                u, v = _fold((x * c - y * s) / size, (x * s + y * c) / size, n)
                petal = _ellipse(u, v, 0.54, 0, 0.4, width)
                yield petal, 0.3 * (size - 0.9) + 0.2 * rho + 0.5 * v + _dome(petal, 0.06), 0
                yield np.maximum(v - 0.03 * (1.2 - u), u - 0.4 - 0.3 * p[2]), None, 1
            heart = rho - 0.2 - 0.12 * p[3]
            yield heart, 0.1 + _dome(heart, 0.3), 2
        case "leaf":
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
            yield stalk, _dome(stalk, 0.03), 1
            yield d, 0.35 * ay + _dome(d, 0.05) - quilt * ay * 3, 0
            yield np.maximum(np.minimum(ay - 0.018 * (1.6 - u), rib - 0.008), d), None, 1
        case "mug":
            wide = 0.5 + 0.1 * p[0]
            x, taper = x + 0.15, 1 + 0.14 * (p[1] - 0.3) * y
            handle = np.abs(_ellipse(x, y, wide, 0.12, 0.3, 0.34)) - 0.085
            rim = _ellipse(x, y, 0, -0.62, wide / (1 - 0.09 * (p[1] - 0.3)), 0.17)
            body = np.minimum(np.maximum(_box(x * taper, y, 0, 0.1, wide, 0.75, 0.12), -0.62 - y), rim)
            hole = _ellipse(x, y, 0, -0.61, wide - 0.07, 0.12)
            drink = np.maximum(_ellipse(x, y, 0, -0.5 + 0.08 * p[2], wide - 0.08, 0.12), hole)
            yield handle, 0.1 + _dome(handle, 0.085), 0
            yield body, 0.85 * np.sqrt(np.clip(1 - (x / (wide + 0.03)) ** 2, 0, 1)) * wide, 0
            if p[3] < 0.45:  # a band
                yield np.maximum(np.abs(y - 0.12 * np.cos(2 * x) - 0.05) - 0.06 - 0.16 * p[4], body), None, 1
            elif p[3] < 0.75:  # dots
                dots = np.hypot((x * 3.2 + 0.5) % 1 - 0.5, (y * 3.2) % 1 - 0.5) / 3.2 - 0.07
                yield np.maximum(dots, body), None, 1
            yield rim, 0.5 + _dome(rim, 0.05), 0
            yield hole, 0.3 + 0.5 * x, 1
            yield drink, 0.35 + 0 * x, 2
        case "mushroom":
            tall = 0.35 + 0.4 * p[0]
            stem = _limb(x, y, 0, 0, 0.25 * (p[1] - 0.5), 0.75, 0.17, 0.2 + 0.08 * p[2])
            cap = np.maximum(_ellipse(x, y, 0, 0.0, 0.88, 0.35 + tall), y - 0.02 - 0.12 * (1 - x * x))
            gills = _ellipse(x, y, 0, 0.06, 0.82, 0.15)
            yield stem, _dome(stem, 0.2), 2
            yield gills, 0.1 + 0.02 * np.sin(40 * np.arctan2(x, y + 1)), 2
            yield cap, 0.3 + _dome(cap, 0.5), 0
            if p[3] < 0.6:
                dots = np.full_like(x, 9.0)
                for k in range(7):
                    cx, cy = -0.66 + 0.22 * k, -tall * (0.1 + 0.75 * ((k * 0.618 + p[4]) % 1))
                    dots = np.minimum(dots, np.hypot(x - cx, (y - cy) * 1.2) - 0.05 - 0.07 * ((k * 0.37 + p[5]) % 1))
                yield np.maximum(dots, cap), None, 1
        case "star":
            bend = 0.35 * (p[0] - 0.5) * np.hypot(x, y)
            n = 5 if p[1] < 0.8 else 6
            u, v = _fold(x - bend * y, y + bend * x, n)
            d = _limb(u, v, 0, 0, 0.84, 0, 0.34 + 0.08 * p[2], 0.09)
            web = np.clip(0.12 - np.abs(v - np.tan(math.pi / n) * u), 0, 1) * np.clip(1 - 1.6 * np.hypot(u, v), 0, 1)
            d = d - 0.5 * web  # fills the crotch between two arms
            yield d, 0.8 * _dome(d, 0.3) + 0.1 * np.clip(1 - np.hypot(u, v), 0, 1), 0
            if p[3] < 0.6:
                yield np.maximum(np.hypot((u * 6.5) % 1 / 6.5 - 0.077, v) - 0.035, u - 0.75), None, 1


SHAPES = ("apple", "ball", "book", "butterfly", "fish", "flower", "leaf", "mug", "mushroom", "star")
UPRIGHT = ("apple", "mug", "mushroom")  # seen from the side: turned by at most half a right angle or so


def texture(name: str, u: np.ndarray, v: np.ndarray, texel: float, blur: int = 0) -> tuple[np.ndarray, ...]:
    """Sample a material bilinearly at (u, v), periods of 1: tone and hue in [0, 1], slopes along u and v in [-1, 1],
    float32. texel: how far (u, v) moves a pixel, which picks the mip level; blur picks a coarser one (out of focus)."""
    level = min(max(round(math.log2(TILE * texel) - 0.3), 0) + blur, 6)
    side, texels = TILE >> level, tile(name, level)
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
    height, tone, hue, relief = _fields(name, SimpleNamespace(rng=rng, y=y, x=x, **noises))
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


def _fields(name: str, n: SimpleNamespace) -> Fields:
    """A material, of n: its random numbers rng, the pixels' y and x in [0, 1), and what most take of the random
    numbers: large blotches (soft), fine grain (fine) and blotches of hue."""
    match name:
        case "wood":
            grain, fibre = _noise(n.rng, 1.9, (1, 5)), _noise(n.rng, 0.9, (1, 22))
            plank = np.floor(n.y * 4).astype(int)
            shift = n.rng.integers(0, TILE, 4)[plank]
            grain = grain[np.arange(TILE)[:, None], (np.arange(TILE)[None] + shift) % TILE]
            rings = np.sin(2 * np.pi * (14 * n.y + 1.6 * grain))
            gap = np.clip(np.abs((n.y * 4 + 0.5) % 1 - 0.5) / 0.02, 0, 1)
            tone = 0.5 + 0.13 * rings + 0.14 * fibre + 0.09 * n.soft + n.rng.uniform(-0.14, 0.14, 4)[plank]
            return 0.12 * fibre + 0.05 * rings + gap, tone * (0.3 + 0.7 * gap), n.hue + 0.2 * rings, 1.0
        case "weave":
            u, v = (n.x + 0.002 * n.soft) * 44, (n.y + 0.002 * np.roll(n.soft, 99, 0)) * 44
            over = (np.floor(u) + np.floor(v)) % 2 > 0
            su, sv = np.abs(np.sin(np.pi * u)), np.abs(np.sin(np.pi * v))
            height = np.where(over, sv * (0.5 + 0.5 * su), su * (0.5 + 0.5 * sv))
            plaid = ((np.floor(u) % 22 < 7) * 1.0 + (np.floor(v) % 22 < 7)) / 2
            threads = np.where(over, _noise(n.rng, 0.6, (1, 12)), _noise(n.rng, 0.6, (12, 1)))
            return height, 0.25 + 0.4 * height + 0.1 * threads + 0.04 * n.soft, plaid, 0.7
        case "tiles":
            height, tone, hue, relief = _stones(n, 6, 0.0, 0.08, 0.12)
            return height, 0.45 + 0.4 * (tone - 0.3) + 0.08 * _noise(n.rng, 1.2), hue, relief
        case "sand":
            ripple = np.sin(2 * np.pi * (9 * n.y + 0.5 * _noise(n.rng, 2.6)))
            return 0.3 * ripple + 0.035 * n.fine, 0.5 + 0.08 * ripple + 0.11 * n.fine + 0.12 * n.soft, n.hue, 1.0
        case "water":
            light = np.exp(-4 * np.abs(_noise(n.rng, 2.0))) + 0.6 * np.exp(-5 * np.abs(_noise(n.rng, 1.9)))
            return light + 0.2 * n.soft, 0.18 + 0.6 * light + 0.08 * n.soft, n.hue, 0.25
        case "plaster":
            rough = _noise(n.rng, 1.0)
            return 0.12 * rough + 0.04 * n.fine, 0.55 + 0.12 * n.soft + 0.06 * rough, n.hue, 1.0
        case "marble":
            veins = np.exp(-7 * np.abs(_noise(n.rng, 1.6) + 0.25 * _noise(n.rng, 1.1)))
            return n.soft, 0.68 + 0.14 * n.soft - 0.5 * veins, 0.4 * n.hue + 0.5 * veins, 0.1
        case "fur":
            hair, bend = _noise(n.rng, 0.75, (1, 24)), (_noise(n.rng, 3.0) * 26).astype(int)
            hair = hair[(np.arange(TILE)[:, None] + bend) % TILE, np.arange(TILE)[None]]
            return 0.25 * hair, 0.45 + 0.19 * hair + 0.09 * n.soft, n.hue, 0.5
        case "clouds":
            return n.soft, 0.5 + 0.16 * _noise(n.rng, 1.35) + 0.1 * n.soft, n.hue, 0.3
        case "grass":
            return _grass(n)
        case "pebbles":
            return _stones(n, 9, 0.95, 1.0, 0.55, 2.0)
        case "gravel":
            return _stones(n, 26, 0.9, 1.2, 0.55)
    raise KeyError(name)


def _grass(n: SimpleNamespace) -> Fields:
    image = Image.new("RGB", (TILE, TILE))
    draw = ImageDraw.Draw(image)
    for k in range(9000):
        x, y = n.rng.random(2) * TILE
        lean, length, width = n.rng.normal(0, 0.9), n.rng.uniform(14, 44), int(n.rng.integers(2, 5))
        dx, dy, hue = math.sin(lean) * length, -math.cos(lean) * length, int(n.rng.integers(0, 256))
        tone = n.rng.uniform(20, 110) + 90 * k / 9000
        for ox, oy in product((-TILE, 0, TILE), repeat=2):
            if -50 < x + ox < TILE + 50 and -50 < y + oy < TILE + 50:
                for a, b in ((0.0, 0.5), (0.5, 1.0)):  # a blade is lighter towards its tip
                    ends = [(x + ox + dx * t, y + oy + dy * t - 6 * t * t) for t in (a, b)]
                    draw.line(ends, fill=(int(tone * (0.8 + 0.5 * a)), hue, 0), width=max(1, width - int(2 * a)))
    pixels = np.asarray(image) / 255.0
    tone = pixels[..., 0] / pixels[..., 0].max() * (0.9 + 0.12 * n.soft)
    return tone, tone, pixels[..., 1], 1.0


def _stones(n: SimpleNamespace, m: int, jitter: float, warp: float, rim: float, relief: float = 1.0) -> Fields:
    """Stones, m x m of them: tileable Voronoi cells, rounded over a share ``rim`` of a cell."""
    seat, value, bent = 0.5 + jitter * (n.rng.random((m, m, 2)) - 0.5), n.rng.random((m, m)), warp * n.soft
    y, x = np.mgrid[:TILE, :TILE] * (m / TILE) + np.stack([bent, np.roll(bent, TILE // 3, 0)]) * 0.12
    iy, ix = np.floor(y).astype(int), np.floor(x).astype(int)
    first, second, own = np.full(y.shape, 9.0), np.full(y.shape, 9.0), np.zeros(y.shape)
    for dy, dx in product((-1, 0, 1), repeat=2):
        cy, cx = (iy + dy) % m, (ix + dx) % m
        d = np.hypot(iy + dy + seat[cy, cx, 0] - y, ix + dx + seat[cy, cx, 1] - x)
        second = np.minimum(second, np.maximum(first, d))
        own = np.where(d < first, value[cy, cx], own)
        first = np.minimum(first, d)
    edge = second - first  # distance to the cell's border
    dome = 1 - np.clip(1 - edge / rim, 0, 1) ** 2
    tone = (0.2 + 0.75 * own + 0.07 * n.fine + 0.08 * n.soft) * (0.25 + 0.75 * np.clip(edge / 0.18, 0, 1))
    return dome + 0.04 * n.fine, tone, 0.6 * (own * 7.3 % 1) + 0.4 * n.hue, relief


# As a ground a material has several moods: a dark, a light and an accent colour each. The order fixes each material's
# own noise, and the materials that a scene's random numbers stand for.
MATERIALS = {
    "wood": "3a2216 b07a48 8a4f2a|6d5a4a cbb79c 9c8a76|1f1512 6b4630 402318|8f8a84 d8d4cc b0a090",
    "weave": "2b3a55 7f93b0 b04a3a|7a6a55 d8c9ae a05a48|4a1f24 b0685c d0b080|30403a 8aa08c c8b878",
    "grass": "14260c 6f9a35 a9a24a|2a2a10 a39a55 6f7a30|0e2418 4f8a4a 8ab060",
    "pebbles": "2a2826 a8a29a 8a6a55|1f2428 7f8c94 a89a86|3a2a20 c4a888 8a8a90",
    "gravel": "3f3c38 b4aea4 a07a60|2c3034 8e979c 6a5a50|5a4030 cda582 9a9a98",
    "sand": "8a6a45 dcc096 b89468|9a8c7c e2d6c4 c0ac94|6a4a34 c08a5c 9a6844",
    "water": "0c3a48 6fb8b4 2a7a80|12305a 7aa6cc 3a6aa0|1f4a3a 8fc0a0 4a8a68",
    "plaster": "8a8680 cfcac0 b8a894|6a7a80 b4c2c4 90a0a4|a0765c dcb494 c49a78|4c5244 9aa08a 7a7a60",
    "marble": "4a4a50 e0dcd6 b0a090|1c2a26 6a8a7a b0b8a0|2a2426 8a6a66 c8a890",
    "fur": "2e1e14 a67c52 d8b890|4a4644 b8b2aa 807468|1a1a1e 6a6468 40383a",
    "tiles": "5a2a1c b8654a d09a70|54606a b4c0c4 8aa0a8|6a6050 cfc4ac a89878",
    "clouds": "3a3f4a a6a8a8 8a7868|5a4650 c8a8a0 a08890|2a4048 8ab0b0 c0b8a0",
}


def linear(colours: str) -> np.ndarray:
    """'rrggbb rrggbb …' → (n, 3) linear light in [0, 1] (gamma taken as 2)."""
    return np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in colours.split()], np.float32) ** 2 / 65025


# (n, 3): what an object may wear; some borrow the ground's colours instead, so that colour does not give them away.
WARDROBE = linear(
    "a8322a c8643a d89a4a d8c070 8a9a3a 4a7a3a 2f5a44 3f8a8a 3a6a9a 2f3f7a 5f4a8a 8f4a7a c87a8a e0b8a0 e4dcc8 "
    "b0a898 7a7068 4a443e 2a2a2e 6a4028 94683e c49a6a 708a9a a8c0c4"
)


class Scenes:
    """A Source of ``n`` images drawn on demand, each with exact masks of its 2 to 6 objects.

    Images drawn once are kept while there is room; masks are drawn anew. Pixels depend on (seed, i, size) alone, not
    on process, order or cache (another processor may round a byte differently); the same scene is composed alike at any
    size, (width, height) in pixels, of one aspect ratio. cache_mb: room for images, in 10^6 bytes; the default holds
    4000 of the default size. The textures cost each process about a second, once, and 16 MB.
    """

    CLASSES: tuple[str, ...] = SHAPES
    layout = "with masks (rendered)"

    def __init__(self, n: int = 1000, size: tuple[int, int] = (160, 128), seed: int = 0, cache_mb: float = 256) -> None:
        if n < 1 or min(size) < 32 or seed < 0:
            raise ValueError(f"Scenes need n >= 1, sides of at least 32 pixels and seed >= 0, not {n}, {size}, {seed}")
        self.n, self.image_size, self.seed, self.cache_mb = n, (int(size[0]), int(size[1])), seed, cache_mb
        self._cache: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": {}}  # a worker fills its own cache: sending ours costs more than drawing

    def __len__(self) -> int:
        return self.n

    def name(self, i: int) -> str:
        if not 0 <= i < self.n:
            raise IndexError(f"scene {i} of {self.n}")
        return f"scene-{i:06d}"

    def size(self, i: int) -> tuple[int, int]:
        self.name(i)
        return self.image_size

    def load(self, i: int, at_least: AtLeast = None) -> Image.Image:
        """The image, mode RGB, always of ``size(i)``; ``at_least`` changes nothing."""
        self.name(i)
        if (pixels := self._cache.get(i)) is None:
            pixels = self._draw(i)
            if (len(self._cache) + 1) * pixels.nbytes <= self.cache_mb * 1e6:
                self._cache[int(i)] = pixels
        return Image.fromarray(pixels)

    def annotation(self, i: int) -> Annotation:
        """Visible masks, boxes and class names, back to front. Masks are disjoint; each shows >= 1/4 of its object."""
        self.name(i)
        scene = compose(self.seed, i, self.image_size)
        masks = np.stack([thing.visible for thing in scene.things])
        return Annotation(masks, boxes_of(masks), [thing.kind for thing in scene.things])

    def _draw(self, i: int) -> np.ndarray:
        scene = compose(self.seed, i, self.image_size)
        return _develop(scene.rng, _paint(scene))


def compose(seed: int, index: int, size: tuple[int, int]) -> SimpleNamespace:
    """Lay out a scene of (width, height) pixels and leave out what would hardly be seen.

    Gives rng, for what comes after (light, paint, camera); size; ground, a material, and mood, its colours (3, 3); and
    things from back to front, each as ``_dress`` and ``cut_out`` make it, with the part visible (H, W) bool.
    """
    (width, height), short, rng = size, min(size), np.random.default_rng([seed, index])
    aspect = width / short, height / short
    ground = str(rng.choice(list(MATERIALS)))
    mood = linear(str(rng.choice(MATERIALS[ground].split("|"))))
    dressed: list[SimpleNamespace] = []
    for k in range(int(rng.choice(list(_N_OBJECTS), p=list(_N_OBJECTS.values())))):
        if place := _find_place(rng, aspect, dressed, shrink=k < min(_N_OBJECTS)):
            dressed.append(_dress(rng, *place, mood))
    things, covered = list[SimpleNamespace](), np.zeros((height, width), bool)
    for thing in reversed(dressed):
        inside = cut_out(thing, short).d < 0
        image, window = _overlap(thing.corner, inside.shape, covered.shape)
        thing.visible = np.zeros((height, width), bool)
        thing.visible[image] = inside[window] & ~covered[image]
        if np.count_nonzero(thing.visible) >= _VISIBLE * np.count_nonzero(inside):
            covered |= thing.visible
            things.insert(0, thing)
    return SimpleNamespace(rng=rng, size=size, ground=ground, mood=mood, things=things)


def _find_place(
    rng: np.random.Generator, aspect: tuple[float, float], things: list[SimpleNamespace], shrink: bool
) -> tuple[tuple[float, float], float] | None:
    """A centre and a radius that fit the image and the things there already, or None. ``shrink``: try ever smaller
    ones, for the objects that have to find a place."""
    for attempt in range(_TRIES):
        radius = 0.09 + 0.21 * float(rng.random()) ** 1.15
        if shrink:
            radius = max(radius * (1 - 0.02 * attempt), 0.08)
        x, y = (radius * 0.75 + rng.random(2) * (np.array(aspect) - 1.5 * radius)).tolist()
        if things and rng.random() < 0.4:  # lean on an earlier object: occlusion
            other, turn = things[int(rng.integers(len(things)))], rng.random() * 2 * math.pi
            reach = (0.5 + 0.25 * rng.random()) * (radius + other.radius)
            x, y = other.centre[0] + reach * math.cos(turn), other.centre[1] + reach * math.sin(turn)
        inside = all(0.6 * radius <= c <= a - 0.6 * radius for c, a in zip((x, y), aspect, strict=True))
        if inside and all(math.dist((x, y), t.centre) > 0.5 * (radius + t.radius) for t in things):
            return (x, y), radius
    return None


def _dress(rng: np.random.Generator, centre: tuple[float, float], radius: float, mood: np.ndarray) -> SimpleNamespace:
    """Draw what lies at this place: kind, shape, colours, cloth. Lengths are in short sides."""
    kind = str(rng.choice(SHAPES))
    coats = WARDROBE[rng.integers(0, len(WARDROBE), 4)]
    if rng.random() < 0.35:
        coats[0] = mood[int(rng.integers(3))]
    coats = np.clip(coats * np.exp(rng.normal(0, 0.22, (4, 1)) + rng.normal(0, 0.12, (4, 3))), 0.004, 0.85)
    coats[3] = 0.006  # pupils
    angle = float(rng.normal(0, 0.35) if kind in UPRIGHT else rng.random() * 2 * math.pi)
    cloth, mirror = str(rng.choice(list(MATERIALS))), 1 if rng.random() < 0.5 else -1
    thing = SimpleNamespace(kind=kind, centre=centre, radius=radius, angle=angle, mirror=mirror, cloth=cloth)
    thing.p = rng.random(8).astype(np.float32)  # the instance's own shape
    thing.grain = rng.random(6)  # texture scale, contrast, u, v offset, gloss, share of the accent colour
    thing.coats = coats.astype(np.float32)  # (4, 3) linear light
    return thing


def cut_out(thing: SimpleNamespace, short: int) -> SimpleNamespace:
    """Put a thing on a window of pixels, with a margin for its shadow's soft edge. Adds the window's corner (top,
    left), which may lie outside the image; its pixels x and y (h, w) in the object's own frame, scale pixels a unit;
    its parts, and d (h, w), the signed distance to its silhouette."""
    thing.scale = scale = thing.radius * short
    half, cx, cy = 1.22 * scale, thing.centre[0] * short, thing.centre[1] * short
    top, left = thing.corner = math.floor(cy - half), math.floor(cx - half)
    side = math.ceil(2 * half) + 1
    u, v = _centres(left, side, cx, scale)[None], _centres(top, side, cy, scale)[:, None]
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    thing.x, thing.y = thing.mirror * (c * u + s * v), c * v - s * u
    thing.parts = list(parts_of(thing.kind, thing.x, thing.y, thing.p))
    thing.d = reduce(np.minimum, (distance for distance, height, _ in thing.parts if height is not None))
    return thing


def _centres(start: int, n: int, origin: float, unit: float) -> np.ndarray:
    """Coordinates (n,) of n pixel centres from pixel ``start`` on, in lengths of ``unit`` pixels from ``origin``."""
    return ((np.arange(start, start + n) + 0.5 - origin) / unit).astype(np.float32)


def _overlap(corner: tuple[int, int], window: tuple[int, ...], image: tuple[int, ...]) -> tuple[Patch, Patch]:
    """(slices of the image, slices of the window) where the two meet; sizes are (height, width). ``corner``: (top,
    left) of the window in the image; it may lie outside, but the two do meet."""
    (a, b), (c, d) = ((max(at, 0), min(at + n, whole)) for at, n, whole in zip(corner, window, image, strict=True))
    top, left = corner
    return (slice(a, b), slice(c, d)), (slice(a - top, b - top), slice(c - left, d - left))


def _paint(scene: SimpleNamespace) -> np.ndarray:
    """The scene in linear light, (3, H, W): the ground, then thing by thing from back to front."""
    rng = scene.rng
    turn, up, warmth = rng.random() * 2 * math.pi, rng.uniform(0.55, 1.1), rng.normal(0, 0.12)
    tint = np.array([math.exp(warmth), 1.0, math.exp(-warmth)], np.float32)[:, None, None]
    share = rng.uniform(0.25, 0.5)  # how much of the light comes from the sky
    sky = share * np.array([0.92, 1.0, 1.1], np.float32)[:, None, None] / tint**0.5
    # One lamp far away: a unit vector, x right, y down, z to the camera; the softness of shadows is in radii.
    direction = math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up)
    light = SimpleNamespace(direction=direction, lamp=(1.25 - share) * tint, sky=sky, softness=rng.uniform(0.08, 0.4))
    canvas = _paint_ground(scene, light)
    for thing in scene.things:
        _cast_shadow(canvas, thing, light)
        _paint_thing(canvas, thing, light)
    return canvas


def _paint_ground(scene: SimpleNamespace, light: SimpleNamespace) -> np.ndarray:
    """The lit ground, linear light (3, H, W): the canvas on which things are put."""
    rng, (width, height), short = scene.rng, scene.size, min(scene.size)
    turn, period = rng.random() * 2 * math.pi, rng.uniform(0.8, 1.9)
    c, s = math.cos(turn) / period, math.sin(turn) / period
    x, y = _centres(0, width, 0, short)[None], _centres(0, height, 0, short)[:, None]
    ou, ov = rng.random(2).tolist()
    blur = int(rng.choice([0, 0, 0, 0, 1, 1, 2]))
    tone, hue, su, sv = texture(scene.ground, c * x + s * y + ou, c * y - s * x + ov, 1 / (period * short), blur)
    shift = np.exp(rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.06, 3)).astype(np.float32)
    albedo = _dye(np.clip(scene.mood * shift, 0, 0.9), tone, hue, rng.uniform(0.7, 1.15), rng.uniform(0.2, 0.6))
    lx, ly, lz = light.direction
    bump = rng.uniform(0.5, 1.1) * period
    slope = su * (c * lx - s * ly) + sv * (s * lx + c * ly)  # towards the lamp
    return albedo * (light.sky + light.lamp * np.clip(lz - bump * slope, 0, 1.3))


def _cast_shadow(canvas: np.ndarray, thing: SimpleNamespace, light: SimpleNamespace) -> None:
    """Darken what lies under a thing: away from the lamp, and where it touches the ground."""
    lx, ly, lz = light.direction
    reach = 0.2 * thing.scale / lz
    lit = light.lamp * lz
    (top, left), away, contact = thing.corner, 0.9 * lit / (light.sky + lit), np.float32(0.3)
    for far, soft, edge, depth in ((1.0, light.softness, 0.5, away), (0.3, 0.13, 0.9, contact)):
        corner = top + round(-ly * reach * far), left + round(-lx * reach * far)
        image, window = _overlap(corner, thing.d.shape, canvas.shape[1:])
        t = np.clip(edge - thing.d[window] / soft, 0, 1)
        canvas[:, image[0], image[1]] *= 1 - depth * (t * t * (3 - 2 * t))


def _paint_thing(canvas: np.ndarray, thing: SimpleNamespace, light: SimpleNamespace) -> None:
    """Put a thing onto the canvas: its parts' heights give the slopes, slopes and lamp the shading."""
    alpha = _coverage(thing.d, thing.scale)
    rows, cols = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    near = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(cols[0] - 1, 0), cols[-1] + 2)  # and a pixel around it
    alpha, shaded = alpha[near], _shade(thing, near, light)
    corner = thing.corner[0] + near[0].start, thing.corner[1] + near[1].start
    image, window = _overlap(corner, alpha.shape, canvas.shape[1:])
    under = canvas[:, image[0], image[1]]
    under += (shaded[:, window[0], window[1]] - under) * alpha[window]


def _coverage(distance: np.ndarray, scale: float) -> np.ndarray:
    """How much of each pixel lies inside an outline, [0, 1]."""
    return np.clip(0.5 - distance * scale, 0, 1)


def _shade(thing: SimpleNamespace, near: Patch, light: SimpleNamespace) -> np.ndarray:
    """A thing in linear light, (3, h, w), on a part of its window."""
    px, x, y = thing.scale, thing.x[near], thing.y[near]
    size, contrast, ou, ov, gloss, accent = thing.grain.tolist()
    period, bump = 1.6 + 3.5 * size, 0.25 + 0.5 * contrast
    parts = [(_coverage(distance[near], px), height, coat) for distance, height, coat in thing.parts]
    rise = np.zeros_like(x)
    for cover, height, _ in parts:
        if height is not None:
            rise += (height[near] - rise) * cover
    swell = (1.25 - 0.35 * rise) / period  # a texture is compressed towards the limb of a round thing
    tone, hue, su, sv = texture(thing.cloth, x * swell + ou, y * swell + ov, 1 / (period * px))
    albedo = np.zeros((3, *x.shape), np.float32)
    for cover, _, coat in parts:
        base = thing.coats[coat]
        colours = np.stack([base * 0.6, base * 1.3, base] if coat else [base * 0.4, base * 1.5, thing.coats[1]])
        albedo += (_dye(colours, tone, hue, 0.3 + 0.8 * contrast, 0.5 * accent) - albedo) * cover
    gx, gy = np.zeros_like(x), np.zeros_like(x)
    gx[:, 1:-1] = (rise[:, 2:] - rise[:, :-2]) * (px / 2)
    gy[1:-1] = (rise[2:] - rise[:-2]) * (px / 2)
    c, s, m = math.cos(thing.angle), math.sin(thing.angle), thing.mirror
    gx, gy = gx + bump * (su * m * c - sv * s), gy + bump * (su * m * s + sv * c)
    # Light off the surface of these slopes: sky, lamp, and its highlight, narrower and stronger the more gloss.
    nz = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = light.direction
    facing = np.maximum(nz * (lz - gx * lx - gy * ly), 0)
    hx, hy, hz = lx, ly, lz + 1  # half-way to the camera, for the highlight
    shine = np.maximum(nz * (hz - gx * hx - gy * hy), 0) / math.sqrt(hx * hx + hy * hy + hz * hz)
    for _ in range(3 + int(gloss * 3)):
        shine = shine * shine
    shine *= 0.05 + 0.5 * gloss**2
    hollow = 0.55 + 0.45 * nz  # less sky is seen from a steep flank
    return albedo * (light.sky * hollow + light.lamp * facing) + light.lamp * shine


def _dye(colours: np.ndarray, tone: np.ndarray, hue: np.ndarray, contrast: float, accent: float) -> np.ndarray:
    """Colours (dark, light, accent) (3, 3) on a texture (h, w) → albedo (3, h, w)."""
    dark, light, other = (c[:, None, None] for c in colours)
    base = dark + (light - dark) * ((tone - 0.5) * contrast + 0.5)
    return np.maximum(base + (other - base) * (hue * accent), 0.003)


def _develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Linear light (3, H, W), overwritten → photograph (H, W, 3) of bytes: unevenly lit, out of focus and noisy."""
    canvas *= _gain(rng, *canvas.shape[1:])
    soft = np.float32(rng.choice([0.0, 0.1, 0.2, 0.35]))  # the share that a pixel leaks to its neighbours
    for before, after in ((canvas[:, :-1], canvas[:, 1:]), (canvas[:, :, :-1], canvas[:, :, 1:])):
        step = (after - before) * (soft * 0.5)
        before += step
        after -= step
    curve, grain = _film()
    level = float(canvas[:, ::4, ::4].mean())
    canvas *= (0.2 / max(level, 0.02)) ** 0.7 * math.exp(rng.normal(0, 0.22))
    start = int(rng.integers(1 << 16))
    noise = np.resize(grain[start:], canvas.size).reshape(canvas.shape)
    canvas += noise * (np.sqrt(np.maximum(canvas, 0)) * np.float32(rng.uniform(0.004, 0.03)) + np.float32(0.002))
    indices = np.clip(canvas * 2047.5, 0, 4095).astype(np.uint16)
    return np.ascontiguousarray(curve[indices].transpose(1, 2, 0))


def _gain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """How much of the light arrives, (H, W): a falling-off to one side and to the corners, and at times dapple."""
    short = min(height, width)
    x, y = _centres(0, width, width / 2, short)[None], _centres(0, height, height / 2, short)[:, None]
    tilt, vignette, (du, dv) = rng.normal(0, 0.22, 2), rng.uniform(0, 0.5), rng.random(2)
    gain = np.clip(1 + tilt[0] * x + tilt[1] * y - vignette * (x * x + y * y), 0.3, 1.6).astype(np.float32)
    if rng.random() < 0.4:  # light falling through leaves
        tone = texture("clouds", 0.22 * x + du, 0.22 * y + dv, 1 / TILE, 4)[0]
        t = np.clip((tone - 0.5) * rng.uniform(3, 8) + 0.5, 0, 1).astype(np.float32)
        gain *= 0.55 + 0.65 * t * t * (3 - 2 * t)
    return gain


@cache
def _film() -> tuple[np.ndarray, np.ndarray]:
    """(tone curve from linear light in 1/2048 of 0 … 2 to a byte, sensor noise of unit variance)."""
    x = np.linspace(0, 2, 4096)
    curve = np.where(x < 0.6, x, 0.6 + 0.4 * np.tanh((x - 0.6) / 0.4)) ** (1 / 2.1)
    curve = curve + 0.12 * curve * (1 - curve) * (2 * curve - 1)
    grain = np.random.default_rng(11).standard_normal(1 << 18, dtype=np.float32)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8), grain
