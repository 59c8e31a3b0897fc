"""Signed distances to simple outlines, negative inside: what the objects are built from."""

from __future__ import annotations

import math

import numpy as np


def ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float) -> np.ndarray:
    """Around (cx, cy), 2a wide and 2b high; the distance holds near the outline only."""
    u, v = (x - cx) / a, (y - cy) / b
    k = np.sqrt(u * u + v * v) + 1e-6
    return (k - 1) * k / np.sqrt((u / a) ** 2 + (v / b) ** 2 + 1e-6)


def box(x: np.ndarray, y: np.ndarray, cx: float, cy: float, a: float, b: float, corner: float) -> np.ndarray:
    """Around (cx, cy), 2a wide and 2b high, its corners rounded."""
    u, v = np.abs(x - cx) - (a - corner), np.abs(y - cy) - (b - corner)
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0) - corner


def limb(x: np.ndarray, y: np.ndarray, ax: float, ay: float, bx: float, by: float, ra: float, rb: float) -> np.ndarray:
    """A stick from (ax, ay) to (bx, by) whose radius goes from ra to rb."""
    dx, dy = bx - ax, by - ay
    t = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - ax - dx * t, y - ay - dy * t) - (ra + (rb - ra) * t)


def fold(x: np.ndarray, y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Fold the plane into one of n equal sectors around the positive x axis: (along, across)."""
    angle = (np.arctan2(y, x) + math.pi / n) % (2 * math.pi / n) - math.pi / n
    rho = np.hypot(x, y)
    return rho * np.cos(angle), np.abs(rho * np.sin(angle))


def dome(d: np.ndarray, radius: float) -> np.ndarray:
    """Height of an edge rounded with this radius: 0 at the outline, `radius` on the flat top."""
    t = 1 - np.clip(-d / radius, 0, 1)
    return radius * np.sqrt(1 - t * t)
