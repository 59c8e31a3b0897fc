"""Light and paint: a composition under one lamp becomes a canvas of linear light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plrc.data.scenes.layout import Composition, Cutout, Thing
from plrc.data.scenes.pixels import Patch, centres, overlap
from plrc.data.scenes.textures import Texels, texture


@dataclass
class Light:
    """One lamp far away, and the sky. direction: unit (x right, y down, z to the camera)."""

    direction: tuple[float, float, float]
    lamp: np.ndarray  # (3, 1, 1) linear RGB, as the sky
    sky: np.ndarray
    softness: float  # width of a shadow's edge, in the object's radius


def paint(scene: Composition) -> np.ndarray:
    """The scene in linear light, (3, H, W): the ground, then thing by thing from back to front."""
    light = _draw_light(scene.rng)
    canvas = _paint_ground(scene, light)
    for cutout in scene.cutouts:
        _cast_shadow(canvas, cutout, light)
        _paint_thing(canvas, cutout, light)
    return canvas


def _draw_light(rng: np.random.Generator) -> Light:
    turn, up, warmth = rng.random() * 2 * math.pi, rng.uniform(0.55, 1.1), rng.normal(0, 0.12)
    tint = np.array([math.exp(warmth), 1.0, math.exp(-warmth)], np.float32)[:, None, None]
    share = rng.uniform(0.25, 0.5)  # how much of the light comes from the sky
    sky = share * np.array([0.92, 1.0, 1.1], np.float32)[:, None, None] / tint**0.5
    direction = (math.cos(turn) * math.cos(up), math.sin(turn) * math.cos(up), math.sin(up))
    return Light(direction, (1.25 - share) * tint, sky, rng.uniform(0.08, 0.4))


def _paint_ground(scene: Composition, light: Light) -> np.ndarray:
    """The lit ground, linear light (3, H, W): the canvas on which things are put."""
    rng, (width, height), short = scene.rng, scene.size, min(scene.size)
    turn, period = rng.random() * 2 * math.pi, rng.uniform(0.8, 1.9)
    c, s = math.cos(turn) / period, math.sin(turn) / period
    x, y = centres(0, width, 0, short)[None], centres(0, height, 0, short)[:, None]
    ou, ov = rng.random(2).tolist()
    blur = int(rng.choice([0, 0, 0, 0, 1, 1, 2]))
    texels = texture(scene.ground, c * x + s * y + ou, c * y - s * x + ov, 1 / (period * short), blur)
    shift = np.exp(rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.06, 3)).astype(np.float32)
    albedo = _dye(np.clip(scene.mood * shift, 0, 0.9), texels, rng.uniform(0.7, 1.15), rng.uniform(0.2, 0.6))
    lx, ly, lz = light.direction
    bump = rng.uniform(0.5, 1.1) * period
    slope = texels.slope_u * (c * lx - s * ly) + texels.slope_v * (s * lx + c * ly)  # towards the lamp
    return albedo * (light.sky + light.lamp * np.clip(lz - bump * slope, 0, 1.3))


def _cast_shadow(canvas: np.ndarray, cutout: Cutout, light: Light) -> None:
    """Darken what lies under a thing: away from the lamp, and where it touches the ground."""
    lx, ly, lz = light.direction
    reach = 0.2 * cutout.scale / lz
    lit = light.lamp * lz
    contact = np.float32(0.3)
    top, left = cutout.corner
    for far, soft, edge, depth in (
        (1.0, light.softness, 0.5, 0.9 * lit / (light.sky + lit)),
        (0.3, 0.13, 0.9, contact),
    ):
        corner = top + round(-ly * reach * far), left + round(-lx * reach * far)
        picture, window = overlap(corner, cutout.d.shape, canvas.shape[1:])
        t = np.clip(edge - cutout.d[window] / soft, 0, 1)
        canvas[:, picture[0], picture[1]] *= 1 - depth * (t * t * (3 - 2 * t))


def _paint_thing(canvas: np.ndarray, cutout: Cutout, light: Light) -> None:
    """Put a thing onto the canvas: its parts' heights give the slopes, slopes and lamp the shading."""
    alpha = _coverage(cutout.d, cutout.scale)
    near = _bounds(alpha)
    alpha = alpha[near]
    shaded = _shade(cutout, near, light)
    corner = cutout.corner[0] + near[0].start, cutout.corner[1] + near[1].start
    picture, window = overlap(corner, alpha.shape, canvas.shape[1:])
    under = canvas[:, picture[0], picture[1]]
    under += (shaded[:, window[0], window[1]] - under) * alpha[window]


def _coverage(distance: np.ndarray, scale: float) -> np.ndarray:
    """How much of each pixel lies inside an outline, [0, 1]."""
    return np.clip(0.5 - distance * scale, 0, 1)


def _bounds(alpha: np.ndarray) -> Patch:
    """The part of the window where there is anything, and a pixel around it."""
    rows, cols = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(cols[0] - 1, 0), cols[-1] + 2)


def _shade(cutout: Cutout, near: Patch, light: Light) -> np.ndarray:
    """A thing in linear light, (3, h, w), on a part of its window."""
    thing, px = cutout.thing, cutout.scale
    x, y = cutout.x[near], cutout.y[near]
    size, contrast, ou, ov, gloss, accent = thing.grain.tolist()
    period = 1.6 + 3.5 * size
    covers = [_coverage(part.distance[near], px) for part in cutout.parts]
    rise = np.zeros_like(x)
    for part, cover in zip(cutout.parts, covers, strict=True):
        if part.height is not None:
            rise += (part.height[near] - rise) * cover
    swell = (1.25 - 0.35 * rise) / period  # a texture is compressed towards the limb of a round thing
    texels = texture(thing.cloth, x * swell + ou, y * swell + ov, 1 / (period * px))
    albedo = np.zeros((3, *x.shape), np.float32)
    for part, cover in zip(cutout.parts, covers, strict=True):
        albedo += (_dye(_shades(thing, part.coat), texels, 0.3 + 0.8 * contrast, 0.5 * accent) - albedo) * cover
    gx, gy = np.zeros_like(x), np.zeros_like(x)
    gx[:, 1:-1] = (rise[:, 2:] - rise[:, :-2]) * (px / 2)
    gy[1:-1] = (rise[2:] - rise[:-2]) * (px / 2)
    c, s, m = math.cos(thing.angle), math.sin(thing.angle), thing.mirror
    bump, su, sv = 0.25 + 0.5 * contrast, texels.slope_u, texels.slope_v
    gx, gy = gx + bump * (su * m * c - sv * s), gy + bump * (su * m * s + sv * c)
    return _lit(albedo, gx, gy, gloss, light)


def _shades(thing: Thing, coat: int) -> np.ndarray:
    """The (dark, light, accent) colours (3, 3) of one of a thing's coats."""
    base = thing.coats[coat]
    if coat:
        return np.stack([base * 0.6, base * 1.3, base])
    return np.stack([base * 0.4, base * 1.5, thing.coats[1]])


def _dye(colours: np.ndarray, texels: Texels, contrast: float, accent: float) -> np.ndarray:
    """Colours (dark, light, accent) (3, 3) on a texture (h, w) → albedo (3, h, w)."""
    t, a = (texels.tone - 0.5) * contrast + 0.5, texels.hue * accent
    dark, light, other = (c[:, None, None] for c in colours)
    base = dark + (light - dark) * t
    return np.maximum(base + (other - base) * a, 0.003)


def _lit(albedo: np.ndarray, gx: np.ndarray, gy: np.ndarray, gloss: float, light: Light) -> np.ndarray:
    """Light off a surface of slopes (gx, gy): sky, lamp, and its highlight, narrower and stronger the more gloss."""
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
