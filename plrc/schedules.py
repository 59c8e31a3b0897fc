"""What changes over training, as pure functions of the step or the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

DETECTION_BATCH = 16  # images a step for which a detector's learning rate and iterations are given


def cosine_learning_rate(step: int, total: int, peak: float) -> float:
    """Half a cosine from ``peak`` at step 0 to 0 at step ``total``, one value a step (released code: no warm-up)."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / total))


def teacher_temperature(epoch: float, start: float, end: float, over: float) -> float:
    """τ_t of the affinity distillation: linear from ``start`` to ``end`` over the first ``over`` epochs, then ``end``.

    ``epoch`` counts fractions of an epoch, so that the temperature has no jumps and no last table entry to run off
    (released code: 0.04 → 0.07 over 30 epochs).
    """
    share = 1.0 if over <= 0 else min(epoch / over, 1.0)
    return start + (end - start) * share


def step_learning_rate(step: int, peak: float, milestones: Sequence[int], warmup: int) -> float:
    """``peak`` · 0.1 for each milestone that is reached, after a linear rise from a thousandth over ``warmup`` steps.

    Detectron2's WarmupMultiStepLR with its defaults, γ = 0.1 and a warm-up factor of 1/1000.
    """
    reached = sum(step >= milestone for milestone in milestones)
    rise = 1.0 if step >= warmup else 1e-3 + (1 - 1e-3) * step / warmup
    return peak * 0.1**reached * rise


def scaled_steps(count: float, batch_size: float) -> int:
    """Steps with which a batch of this size sees as many images as ``count`` steps of Detectron2's 16."""
    return round(count * DETECTION_BATCH / batch_size)
