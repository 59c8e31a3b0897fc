"""The ten kinds of object: silhouettes with relief and paint, built from simple outlines, each varied by eight numbers.

A distance is signed, negative inside. Coordinates are of the object's own frame: x right, y down, the whole object
within the unit circle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

Part = tuple[np.ndarray, "np.ndarray | None", int]
"""(distance, height of the surface or None for paint on what is there already, which of the object's four coats)."""


def _ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float) -> np.ndarray:
    """Around (cx, cy), 2a wide and 2b high; the distance holds near the outline only."""
    u, v = (x - cx) / a, (y - cy) / b
    k = np.sqrt(u * u + v * v) + 1e-6
    return (k - 1) * k / np.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def _box(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float, corner: float) -> np.ndarray:
    """Around (cx, cy), 2a wide and 2b high, its corners rounded."""
    u, v = np.abs(x - cx) - (a - corner), np.abs(y - cy) - (b - corner)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - corner


def _limb(x: np.ndarray, y: np.ndarray, ax: float, ay: float, bx: float, by: float, ra: float, rb: float) -> np.ndarray:
    """A stick from (ax, ay) to (bx, by) whose radius goes from ra to rb."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - ax - dx * t, y - ay - dy * t) - (ra + (rb - ra) * t)


def _fold(x: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold the plane into one of n equal sectors around the positive x axis: (along, across)."""
    angle = (np.arctan2(y, x) + math.pi / n) % (2 * math.pi / n) - math.pi / n
    rho = np.hypot(x, y)
    return rho * np.cos(angle), np.abs(rho * np.sin(angle))


def _dome(d: np.ndarray, radius: float) -> np.ndarray:
    """Height of an edge rounded with this radius: 0 at the outline, ``radius`` on the flat top."""
    t = 1 - np.clip(-d / radius, 0, 1)
    return radius * np.sqrt(1 - t * t)


# Of pixel coordinates x, y (h, w) and p (8,), uniform in [0, 1], which makes each instance its own: the parts from back
# to front; the first one is no paint.


def _apple(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    rho = np.hypot(x, y) + 1e-6
    up = np.maximum(-y / rho, 0)
    down = np.maximum(y / rho, 0)
    d = rho - (0.8 + 0.1 * p[0] * np.abs(x)) * (1 - 0.2 * up**10 - 0.07 * down**12)
    hollow = 0.35 * np.exp(-9 * x * x - 16 * (y + 0.62) ** 2)
    yield d, _dome(d, 0.8) - hollow, 0
    stem = _limb(x, y, 0, -0.58, 0.3 * (p[1] - 0.5), -0.95, 0.035, 0.06)
    yield stem, 0.55 + _dome(stem, 0.05), 2
    if p[2] < 0.6:
        u, v = x * 0.8 - (y + 0.66) * 0.6, x * 0.6 + (y + 0.66) * 0.8
        leaf = np.maximum(_ellipse(u, v, 0.25, 0.1, 0.27, 0.21), _ellipse(u, v, 0.25, -0.1, 0.27, 0.21))
        yield leaf, 0.5 + 0.4 * np.abs(v) + _dome(leaf, 0.06), 1


def _ball(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    d = np.hypot(x, y) - 0.92
    h = _dome(d, 0.92)
    yield d, h, 0
    u, v = x - 0.5 * p[1], y - 0.5 * p[2]
    if p[0] < 0.3:  # panels around a pole
        n = 2 + int(p[3] * 3)
        yield 0.3 * np.hypot(u, v) * np.sin(n * np.arctan2(v, u)), None, 1
        yield np.hypot(u, v) - 0.13, None, 2
    elif p[0] < 0.55:  # bands on the sphere
        bow = v + (0.3 + 0.3 * p[3]) * h
        yield np.abs(bow - 0.1) - 0.18, None, 1
        yield np.abs(np.abs(bow - 0.1) - 0.3) - 0.04, None, 2
    elif p[0] < 0.75:  # seams
        seam = np.minimum(np.abs(np.hypot(u - 1.1, v) - 0.85), np.abs(np.hypot(u + 1.1, v) - 0.85))
        yield np.minimum(seam, np.abs(v - 0.25 * h)) - 0.03, None, 2


def _book(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    x = x + 0.12 * (p[0] - 0.5) * y
    half = 0.58 + 0.12 * p[1]
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


def _butterfly(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    ax = np.abs(x) / (0.8 + 0.2 * p[0])
    u, v = ax * 0.8 - y * 0.6, ax * 0.6 + y * 0.8
    upper = _ellipse(u, v, 0.56, 0.05, 0.45, 0.28 + 0.06 * p[1]) + 0.02 * np.sin(9 * v)
    lower = _ellipse(ax * 0.8 + y * 0.6, ax * 0.6 - y * 0.8, 0.46, -0.04, 0.36, 0.24 + 0.06 * p[2])
    trunk = _limb(ax, y, 0, -0.3, 0, 0.42, 0.08, 0.04)
    feeler = _limb(ax, y, 0, -0.3, 0.26, -0.78, 0.03, 0.045)
    rim = 0.1 + 0.08 * p[4]
    veins = np.abs(np.sin(5 * np.arctan2(y + 0.05, ax))) * 0.2 - 0.02
    for wing, reach in ((lower, 0.32 * p[3]), (upper, 0.34)):
        spot = np.hypot(ax - 0.55, np.abs(y) - reach) - 0.05 - 0.1 * p[5]
        yield wing, 0.25 * ax + _dome(wing, 0.05), 0
        yield np.maximum(np.minimum(-wing - rim, veins), wing), None, 1
        yield np.maximum(spot, wing), None, 2
    yield feeler, 0.2 + _dome(feeler, 0.03), 1
    yield trunk, 0.1 + _dome(trunk, 0.08) * 2, 1


def _fish(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
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
    yield tail, 0.08 + rays, 1
    yield fins, 0.08 + rays, 1
    yield body, 1.2 * _dome(body, fat) - groove, 0
    if p[3] < 0.5:
        stripes = np.abs((x * (2 + 4 * p[4])) % 1 - 0.5) / (2 + 4 * p[4]) - 0.06
        yield np.maximum(np.maximum(stripes, x - 0.42), body), None, 2
    yield eye, fat + _dome(eye, 0.08), 2
    yield eye + 0.035, None, 3


def _flower(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
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


def _leaf(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
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


def _mug(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    wide = 0.5 + 0.1 * p[0]
    x, taper = x + 0.15, 1 + 0.14 * (p[1] - 0.3) * y
    handle = np.abs(_ellipse(x, y, wide, 0.12, 0.3, 0.34)) - 0.085
    rim = _ellipse(x, y, 0, -0.62, wide / (1 - 0.09 * (p[1] - 0.3)), 0.17)
    body = np.minimum(np.maximum(_box(x * taper, y, 0, 0.1, wide, 0.75, 0.12), -0.62 - y), rim)
    hole = _ellipse(x, y, 0, -0.61, wide - 0.07, 0.12)
    drink = np.maximum(_ellipse(x, y, 0, -0.5 + 0.08 * p[2], wide - 0.08, 0.12), hole)
    round_ = 0.85 * np.sqrt(np.clip(1 - (x / (wide + 0.03)) ** 2, 0, 1)) * wide
    yield handle, 0.1 + _dome(handle, 0.085), 0
    yield body, round_, 0
    if p[3] < 0.45:  # a band
        yield np.maximum(np.abs(y - 0.12 * np.cos(2 * x) - 0.05) - 0.06 - 0.16 * p[4], body), None, 1
    elif p[3] < 0.75:  # dots
        dots = np.hypot((x * 3.2 + 0.5) % 1 - 0.5, (y * 3.2) % 1 - 0.5) / 3.2 - 0.07
        yield np.maximum(dots, body), None, 1
    yield rim, 0.5 + _dome(rim, 0.05), 0
    yield hole, 0.3 + 0.5 * x, 1
    yield drink, 0.35 + 0 * x, 2


def _mushroom(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
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


def _star(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Iterator[Part]:
    bend = 0.35 * (p[0] - 0.5) * np.hypot(x, y)
    n = 5 if p[1] < 0.8 else 6
    u, v = _fold(x - bend * y, y + bend * x, n)
    d = _limb(u, v, 0, 0, 0.84, 0, 0.34 + 0.08 * p[2], 0.09)
    web = np.clip(0.12 - np.abs(v - np.tan(math.pi / n) * u), 0, 1) * np.clip(1 - 1.6 * np.hypot(u, v), 0, 1)
    d = d - 0.5 * web  # fills the crotch between two arms
    knobs = np.hypot((u * 6.5) % 1 / 6.5 - 0.077, v) - 0.035
    yield d, 0.8 * _dome(d, 0.3) + 0.1 * np.clip(1 - np.hypot(u, v), 0, 1), 0
    if p[3] < 0.6:
        yield np.maximum(knobs, u - 0.75), None, 1


SHAPES = {
    "apple": _apple, "ball": _ball, "book": _book, "butterfly": _butterfly, "fish": _fish,
    "flower": _flower, "leaf": _leaf, "mug": _mug, "mushroom": _mushroom, "star": _star,
}  # fmt: skip
UPRIGHT = ("apple", "mug", "mushroom")  # seen from the side: turned by at most half a right angle or so
