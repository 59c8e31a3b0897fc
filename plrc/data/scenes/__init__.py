"""Demo scenes: painted images of objects lying on textured ground, with exact instance masks (ours, not the paper's).

A scene is a pure function of (seed, index): objects are signed-distance silhouettes raised to a height field, clothed
in noise textures and lit by one lamp. Nothing is read from disk, so a demo or a test needs no data set. All lengths
are in units of the image's short side, so that one composition can be drawn at any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache, reduce
from types import SimpleNamespace

import numpy as np
from PIL import Image

from plrc.data.images import boxes_of
from plrc.data.scenes.materials import MATERIALS, TILE, WARDROBE, linear, texture
from plrc.data.scenes.shapes import SHAPES, UPRIGHT
from plrc.data.sources import Annotation

_VISIBLE = 0.25  # an object of which less than this share can be seen is left out of the scene
_N_OBJECTS = {2: 0.08, 3: 0.2, 4: 0.26, 5: 0.26, 6: 0.2}  # how many objects, with what probability
_TRIES = 30  # places drawn for an object that finds none, before it is left out

Patch = tuple[slice, slice]  # rows, columns


class Scenes:
    """A Source of ``n`` images drawn on demand, each with exact masks of its 2 to 6 objects.

    Images drawn once are kept while there is room; masks are drawn anew. Pixels depend on (seed, i, size) alone, not
    on process, order or cache (another processor may round a byte differently). The textures cost each process about a
    second, once, and 16 MB.

    Args:
        size: (width, height) in pixels; the same scene is composed alike at any size of one aspect ratio.
        cache_mb: room for images, in 10^6 bytes; the default holds 4000 of the default size.
    """

    CLASSES: tuple[str, ...] = tuple(SHAPES)
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
        """(width, height) in pixels."""
        self.name(i)
        return self.image_size

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The image, mode RGB, always of ``size(i)``; ``at_least`` changes nothing."""
        self.name(i)
        pixels = self._cache.get(i)
        if pixels is None:
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


# ---------------------------------------------------------------------------------------------------- what lies where


def compose(seed: int, index: int, size: tuple[int, int]) -> SimpleNamespace:
    """Lay out a scene of (width, height) pixels and leave out what would hardly be seen.

    Returns:
        rng, for what comes after (light, paint, camera); size; ground, a material, and mood, its colours (3, 3); things
        from back to front, each as ``_dress`` and ``cut_out`` make it, and of each the part visible (H, W) bool that
        nothing in front hides.
    """
    width, height = size
    short = min(size)
    aspect = width / short, height / short
    rng = np.random.default_rng([seed, index])
    ground = _choice(rng, MATERIALS)
    mood = linear(_choice(rng, MATERIALS[ground][1]))
    dressed: list[SimpleNamespace] = []
    for k in range(int(rng.choice(list(_N_OBJECTS), p=list(_N_OBJECTS.values())))):
        place = _find_place(rng, aspect, dressed, shrink=k < min(_N_OBJECTS))
        if place is not None:
            dressed.append(_dress(rng, *place, mood))
    things: list[SimpleNamespace] = []
    covered = np.zeros((height, width), bool)
    for thing in reversed(dressed):
        inside = cut_out(thing, short).d < 0
        image, window = _overlap(thing.corner, inside.shape, covered.shape)
        thing.visible = np.zeros((height, width), bool)
        thing.visible[image] = inside[window] & ~covered[image]
        if np.count_nonzero(thing.visible) >= _VISIBLE * np.count_nonzero(inside):
            covered |= thing.visible
            things.insert(0, thing)
    return SimpleNamespace(rng=rng, size=size, ground=ground, mood=mood, things=things)


def _choice(rng: np.random.Generator, names: Iterable[str]) -> str:
    listed = list(names)
    return listed[int(rng.integers(len(listed)))]


def _find_place(
    rng: np.random.Generator, aspect: tuple[float, float], things: list[SimpleNamespace], shrink: bool
) -> tuple[tuple[float, float], float] | None:
    """A centre and a radius that fit the image and the things there already, or None.

    ``shrink``: try ever smaller ones, for the objects that have to find a place.
    """
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
    kind = _choice(rng, SHAPES)
    coats = WARDROBE[rng.integers(0, len(WARDROBE), 4)]
    if rng.random() < 0.35:
        coats[0] = mood[int(rng.integers(3))]
    coats = np.clip(coats * np.exp(rng.normal(0, 0.22, (4, 1)) + rng.normal(0, 0.12, (4, 3))), 0.004, 0.85)
    coats[3] = 0.006  # pupils
    angle = float(rng.normal(0, 0.35) if kind in UPRIGHT else rng.random() * 2 * math.pi)
    cloth, mirror = _choice(rng, MATERIALS), 1 if rng.random() < 0.5 else -1
    thing = SimpleNamespace(kind=kind, centre=centre, radius=radius, angle=angle, mirror=mirror, cloth=cloth)
    thing.p = rng.random(8).astype(np.float32)  # the instance's own shape
    thing.grain = rng.random(6)  # texture scale, contrast, u, v offset, gloss, share of the accent colour
    thing.coats = coats.astype(np.float32)  # (4, 3) linear light
    return thing


def cut_out(thing: SimpleNamespace, short: int) -> SimpleNamespace:
    """Put a thing on a window of pixels, with a margin for its shadow's soft edge.

    Adds: the window's corner (top, left), which may lie outside the image; its pixels x and y (h, w) in the object's
    own frame, scale pixels a unit; its parts, and d (h, w), the signed distance to its silhouette.
    """
    thing.scale = scale = thing.radius * short
    half, cx, cy = 1.22 * scale, thing.centre[0] * short, thing.centre[1] * short
    top, left = thing.corner = math.floor(cy - half), math.floor(cx - half)
    side = math.ceil(2 * half) + 1
    u, v = _centres(left, side, cx, scale)[None], _centres(top, side, cy, scale)[:, None]
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    thing.x, thing.y = thing.mirror * (c * u + s * v), c * v - s * u
    thing.parts = list(SHAPES[thing.kind](thing.x, thing.y, thing.p))
    thing.d = reduce(np.minimum, (distance for distance, height, _ in thing.parts if height is not None))
    return thing


def _centres(start: int, n: int, origin: float, unit: float) -> np.ndarray:
    """Coordinates (n,) of n pixel centres from pixel ``start`` on, in lengths of ``unit`` pixels from ``origin``."""
    return ((np.arange(start, start + n) + 0.5 - origin) / unit).astype(np.float32)


def _overlap(corner: tuple[int, int], window: tuple[int, ...], image: tuple[int, ...]) -> tuple[Patch, Patch]:
    """(slices of the image, slices of the window) where the two meet; sizes are (height, width).

    ``corner``: (top, left) of the window in the image; it may lie outside, but the two do meet.
    """
    (a, b), (c, d) = ((max(at, 0), min(at + n, whole)) for at, n, whole in zip(corner, window, image, strict=True))
    top, left = corner
    return (slice(a, b), slice(c, d)), (slice(a - top, b - top), slice(c - left, d - left))


# ---------------------------------------------------------------------------------------------------- light and paint


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
    top, left = thing.corner
    away, contact = 0.9 * lit / (light.sky + lit), np.float32(0.3)
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
    alpha = alpha[near]
    shaded = _shade(thing, near, light)
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
    period = 1.6 + 3.5 * size
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
    bump = 0.25 + 0.5 * contrast
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
    t, a = (tone - 0.5) * contrast + 0.5, hue * accent
    dark, light, other = (c[:, None, None] for c in colours)
    base = dark + (light - dark) * t
    return np.maximum(base + (other - base) * a, 0.003)


# --------------------------------------------------------------------------------------------------------- the camera


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
