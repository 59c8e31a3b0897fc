"""A detector from named tensors: every one there, of the right shape and finite, or an error that names what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plrc.detection.design import Design
from plrc.detection.detector import Detector
from plrc.pretrained.reading import CheckpointError

_COUNTER = "num_batches_tracked"
_SHOWN = 4  # names in an error


def filled_detector(
    design: Design,
    tensors: Mapping[str, Any],
    unknown: Sequence[str],
    file: str,
    spelled: Callable[[str], str],
    remedy: str,
) -> Detector:
    """A detector in evaluation mode with all of its tensors from ``tensors``; BatchNorm's counters may be missing.

    The global random generator is not moved.

    Args:
        tensors: by our names, those of ``Detector(design).state_dict()`` and no others. unknown: what else the file
            has, as it spells them.
        file: for errors, as are the two others. spelled: our name of a tensor → its name in the file.
        remedy: the end of the message.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or kind, or not finite.
    """
    with torch.random.fork_rng(devices=[]):
        detector = Detector(design).eval()
    wanted = detector.state_dict()
    unknown = [*unknown, *(spelled(name) for name in tensors if name not in wanted)]
    faults = []
    missing = [spelled(name) for name in wanted if name not in tensors and not name.endswith(_COUNTER)]
    if missing:
        faults.append(f"lacks {_listed(missing)}")
    if unknown:
        faults.append(f"has {_listed(unknown)}, which such a detector has not")
    state = {name: tensors[name] for name in wanted if name in tensors}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.shape != wanted[name].shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            faults.append(f"has {spelled(name)} of shape {shape} instead of {tuple(wanted[name].shape)}")
        elif wanted[name].is_floating_point() and not value.is_floating_point():
            faults.append(f"has no floating-point numbers in {spelled(name)}")
        elif not torch.isfinite(value).all():
            faults.append(f"has infinite or undefined values in {spelled(name)}")
    if faults:
        kind = f"{'Mask' if design.masks else 'Faster'} R-CNN {design.arch}-{design.neck}"
        more = f" (and {len(faults) - _SHOWN} more faults)" if len(faults) > _SHOWN else ""
        raise CheckpointError(f"{file} has a {kind}, but not whole: it {'; it '.join(faults[:_SHOWN])}{more}; {remedy}")
    detector.load_state_dict({**wanted, **state})
    return detector


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
