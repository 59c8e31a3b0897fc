"""A detector from the content of a fine-tuned Detectron2 checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plrc.detection.anchors import RATIOS
from plrc.detection.classes import COCO_CLASSES, VOC_CLASSES
from plrc.detection.design import Design
from plrc.detection.detector import MEAN, STD, Detector
from plrc.detection.detectron2 import from_detectron2, to_detectron2
from plrc.detection.filling import filled_detector
from plrc.pretrained.build import arch_of, filled, skeleton
from plrc.pretrained.reading import CheckpointError

LOADABLE = (
    "known are R-CNNs trained as MoCo's recipe says, C4 with the norm of Res5ROIHeadsExtraNorm after res5, or FPN with "
    "norms in the pyramid, saved with all of their tensors"
)
_OTHERWISE = "its weights would not do here what they do there; train one with the settings of MoCo's recipe"
_SCORES = "roi_heads.box_predictor.cls_score.weight"
_PIXELS = {"pixel_mean": MEAN, "pixel_std": STD}
_ANCHORS = re.compile(r"proposal_generator\.anchor_generator\.cell_anchors\.(\d)")


def find_tensors(content: object) -> dict[str, Any]:
    """What stands in the place of Detectron2's tensors, by name; nothing where there is no box predictor.

    They lie under ``model`` or at the top; the ``module.`` of a data-parallel model is taken off.
    """
    for place in (content.get("model"), content) if isinstance(content, dict) else ():
        if isinstance(place, dict):
            named = {str(name).removeprefix("module."): value for name, value in place.items()}
            if any(name.startswith("roi_heads.box_predictor.") for name in named):
                if place is not content:
                    return named
                # At the top there are entries of other kinds beside them.
                return {name: value for name, value in named.items() if "." in name or name in _PIXELS}
    return {}


def build_detector(tensors: Mapping[str, Any], file: str, classes: tuple[str, ...] | None) -> Detector:
    """The detector in evaluation mode, with every tensor that Detectron2's model has.

    What Detectron2 may save beside the weights and is a constant here (``pixel_mean``, ``pixel_std``, the anchors of a
    cell) must have our values.

    Args:
        tensors: of ``find_tensors``. file: for errors. classes: see ``plrc.detection.loading.load_detector``.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or not finite; a constant is another; the
            names of the classes are not known.
    """
    neck = "fpn" if any(name.startswith(("backbone.bottom_up.", "backbone.fpn_")) for name in tensors) else "c4"
    naming = Design(  # names are the same for all ResNets and classes
        arch="resnet50",
        neck=neck,
        classes=("any",),
        masks=any(name.startswith("roi_heads.mask_head.") for name in tensors),
        head_norm=neck == "fpn" and any(name.startswith("roi_heads.box_head.conv") for name in tensors),
    )

    def spelled(name: str) -> str:
        return to_detectron2(name, naming) or name

    constants = {name: value for name, value in tensors.items() if name in _PIXELS or _ANCHORS.fullmatch(name)}
    named = {name: from_detectron2(name, naming) for name in tensors if name not in constants}
    known = {ours: _tensor(tensors[name]) for name, ours in named.items() if ours is not None}
    arch = _architecture(known, file, spelled)
    design = replace(naming, arch=arch, classes=_classes(tensors.get(_SCORES), classes, file))
    unknown = [name for name, ours in named.items() if ours is None]
    detector = filled_detector(design, known, unknown, file, spelled, LOADABLE)
    for name, value in constants.items():
        _check_constant(name, value, detector, file)
    return detector


def _tensor(value: object) -> object:
    return torch.tensor(value) if isinstance(value, int) else value  # as a pickle of arrays has BatchNorm's counters


def _architecture(tensors: Mapping[str, Any], file: str, spelled: Callable[[str], str]) -> str:
    prefix = "backbone."
    trunk = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }
    arch = arch_of(trunk, file)
    filled(skeleton(arch), trunk, file, lambda name: spelled(f"{prefix}{name}"))
    return arch


def _classes(scores: object, names: tuple[str, ...] | None, file: str) -> tuple[str, ...]:
    """A name for each row of the classifier but the last, the background's."""
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) < 2:
        raise CheckpointError(f"{file} lacks {_SCORES} with a row for each class and the background: save it anew")
    count = len(scores) - 1
    if names is None:
        known = {len(classes): classes for classes in (VOC_CLASSES, COCO_CLASSES)}
        if count not in known:
            raise CheckpointError(
                f"{file} has {count} classes and does not say which: give their names, in the order of its labels"
            )
        return known[count]
    if len(names) != count:
        raise CheckpointError(f"{file} has {count} classes, and {len(names)} names are given: give one for each")
    return names


def _check_constant(name: str, value: object, detector: Detector, file: str) -> None:
    found = value.flatten().float() if isinstance(value, Tensor) else torch.empty(0)
    anchors = _ANCHORS.fullmatch(name)
    if anchors is not None:
        level, cells = int(anchors[1]), detector.rpn.cells
        if level >= len(cells) or not _close(found, cells[level].flatten()):
            sizes = ", ".join(str(round(size)) for one in detector.rpn.levels for size in one.sizes)
            raise CheckpointError(
                f"{file} has other anchors ({name}) than those of sizes {sizes} in ratios {RATIOS}: {_OTHERWISE}"
            )
        return
    wanted = torch.tensor(_PIXELS[name])
    if _close(found, wanted):
        return
    if name == "pixel_mean" and _close(found, wanted.flip(0)):
        raise CheckpointError(f"{file} is of a BGR model, as its pixel_mean says: {_OTHERWISE}")
    raise CheckpointError(
        f"{file} has {name} {[round(v, 3) for v in found.tolist()]} instead of {list(_PIXELS[name])} in the order RGB: "
        f"{_OTHERWISE}"
    )


def _close(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)
