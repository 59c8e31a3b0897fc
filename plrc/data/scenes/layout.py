"""What lies where: the random composition of a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from plrc.data.scenes.colours import MOODS, WARDROBE
from plrc.data.scenes.materials import MATERIALS
from plrc.data.scenes.pixels import centres, overlap
from plrc.data.scenes.shapes import SHAPES, UPRIGHT, Part

_VISIBLE = 0.25  # an object of which less than this share can be seen is left out of the scene
_N_OBJECTS = {2: 0.08, 3: 0.2, 4: 0.26, 5: 0.26, 6: 0.2}  # how many objects, with what probability
_TRIES = 30  # places drawn for an object that finds none, before it is left out
_KINDS = tuple(SHAPES)


@dataclass
class Thing:
    """One object of a scene; lengths in short sides."""

    kind: str
    centre: tuple[float, float]
    radius: float
    angle: float
    mirror: int
    p: np.ndarray  # (8,) the instance's own shape, [0, 1]
    coats: np.ndarray  # (4, 3) linear light
    cloth: str  # material of the texture
    grain: np.ndarray  # (6,) texture scale, contrast, u, v offset, gloss, share of the accent colour


@dataclass
class Cutout:
    """A thing drawn on its own pixel window, whose corner (top, left) may lie outside the picture."""

    thing: Thing
    corner: tuple[int, int]
    scale: float  # pixels per unit of the thing's own frame
    x: np.ndarray  # (h, w) the window's pixel centres in the thing's own frame
    y: np.ndarray
    parts: list[Part]
    d: np.ndarray  # (h, w) signed distance to the silhouette


@dataclass
class Composition:
    """What lies where, before light and paint."""

    rng: np.random.Generator  # for what comes after: light, paint, camera
    size: tuple[int, int]  # (width, height) in pixels
    ground: str
    mood: np.ndarray  # (3, 3) the ground's colours
    cutouts: list[Cutout]  # back to front
    visible: list[np.ndarray]  # of each, the (H, W) bool part that nothing in front hides


def compose(seed: int, index: int, size: tuple[int, int]) -> Composition:
    """Lay out a scene of (width, height) pixels and leave out what would hardly be seen."""
    width, height = size
    short = min(size)
    rng = np.random.default_rng([seed, index])
    ground = MATERIALS[int(rng.integers(len(MATERIALS)))]
    mood = MOODS[ground][int(rng.integers(len(MOODS[ground])))]
    scene = Composition(rng, size, ground, mood, [], [])
    covered = np.zeros((height, width), bool)
    for thing in reversed(_plan(rng, (width / short, height / short), mood)):
        cutout = cut_out(thing, short)
        inside = cutout.d < 0
        picture, window = overlap(cutout.corner, inside.shape, covered.shape)
        visible = np.zeros((height, width), bool)
        visible[picture] = inside[window] & ~covered[picture]
        if np.count_nonzero(visible) >= _VISIBLE * np.count_nonzero(inside):
            covered |= visible
            scene.cutouts.insert(0, cutout)
            scene.visible.insert(0, visible)
    return scene


def cut_out(thing: Thing, short: int) -> Cutout:
    """Evaluate a thing's silhouette around its place, with a margin for its shadow's soft edge."""
    scale = thing.radius * short
    half, cx, cy = 1.22 * scale, thing.centre[0] * short, thing.centre[1] * short
    top, left = math.floor(cy - half), math.floor(cx - half)
    side = math.ceil(2 * half) + 1
    u, v = centres(left, side, cx, scale)[None], centres(top, side, cy, scale)[:, None]
    c, s = math.cos(thing.angle), math.sin(thing.angle)
    x, y = thing.mirror * (c * u + s * v), c * v - s * u
    parts = SHAPES[thing.kind](x, y, thing.p)
    d = reduce(np.minimum, (part.distance for part in parts if part.height is not None))
    return Cutout(thing, (top, left), scale, x, y, parts, d)


def _plan(rng: np.random.Generator, aspect: tuple[float, float], mood: np.ndarray) -> list[Thing]:
    """Throw the dice for all objects of a scene, back to front. `aspect`: the picture's (width, height)."""
    things: list[Thing] = []
    for k in range(int(rng.choice(list(_N_OBJECTS), p=list(_N_OBJECTS.values())))):
        place = _find_place(rng, aspect, things, shrink=k < min(_N_OBJECTS))
        if place is not None:
            things.append(_dress(rng, *place, mood))
    return things


def _find_place(
    rng: np.random.Generator, aspect: tuple[float, float], things: list[Thing], shrink: bool
) -> tuple[tuple[float, float], float] | None:
    """A centre and a radius that fit the picture and the things there already, or None.

    `shrink`: try ever smaller ones, for the objects that have to find a place.
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


def _dress(rng: np.random.Generator, centre: tuple[float, float], radius: float, mood: np.ndarray) -> Thing:
    """Draw what lies at this place: kind, shape, colours, cloth."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    coats = WARDROBE[rng.integers(0, len(WARDROBE), 4)]
    if rng.random() < 0.35:
        coats[0] = mood[int(rng.integers(3))]
    coats = np.clip(coats * np.exp(rng.normal(0, 0.22, (4, 1)) + rng.normal(0, 0.12, (4, 3))), 0.004, 0.85)
    coats[3] = 0.006  # pupils
    angle = float(rng.normal(0, 0.35) if kind in UPRIGHT else rng.random() * 2 * math.pi)
    cloth, mirror = MATERIALS[int(rng.integers(len(MATERIALS)))], 1 if rng.random() < 0.5 else -1
    p, grain = rng.random(8).astype(np.float32), rng.random(6)
    return Thing(kind, centre, radius, angle, mirror, p, coats.astype(np.float32), cloth, grain)
