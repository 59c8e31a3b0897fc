"""The camera: linear light becomes a photograph, unevenly lit, out of focus and noisy as photographs are."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from plrc.data.scenes.materials import TILE
from plrc.data.scenes.pixels import centres
from plrc.data.scenes.textures import texture


def develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Linear light (3, H, W), overwritten, → picture (H, W, 3) of bytes."""
    canvas *= _gain(rng, *canvas.shape[1:])
    _defocus(canvas, np.float32(rng.choice([0.0, 0.1, 0.2, 0.35])))
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
    x, y = centres(0, width, width / 2, short)[None], centres(0, height, height / 2, short)[:, None]
    tilt, vignette, (du, dv) = rng.normal(0, 0.22, 2), rng.uniform(0, 0.5), rng.random(2)
    gain = np.clip(1 + tilt[0] * x + tilt[1] * y - vignette * (x * x + y * y), 0.3, 1.6).astype(np.float32)
    if rng.random() < 0.4:  # light falling through leaves
        tone = texture("clouds", 0.22 * x + du, 0.22 * y + dv, 1 / TILE, 4).tone
        t = np.clip((tone - 0.5) * rng.uniform(3, 8) + 0.5, 0, 1).astype(np.float32)
        gain *= 0.55 + 0.65 * t * t * (3 - 2 * t)
    return gain


def _defocus(canvas: np.ndarray, soft: np.float32) -> None:
    """Let each pixel leak a share of `soft` to its neighbours."""
    if not soft:
        return
    for axis in (1, 2):
        front, back = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
        step = (canvas[front] - canvas[back]) * (soft * 0.5)
        canvas[back] += step
        canvas[front] -= step


@cache
def _film() -> tuple[np.ndarray, np.ndarray]:
    """(tone curve from linear light in 1/2048 of 0 … 2 to a byte, sensor noise of unit variance)."""
    x = np.linspace(0, 2, 4096)
    curve = np.where(x < 0.6, x, 0.6 + 0.4 * np.tanh((x - 0.6) / 0.4)) ** (1 / 2.1)
    curve = curve + 0.12 * curve * (1 - curve) * (2 * curve - 1)
    grain = np.random.default_rng(11).standard_normal(1 << 18, dtype=np.float32)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8), grain
