"""What changes over training, as pure functions of the step or the epoch."""

from __future__ import annotations

import math


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
