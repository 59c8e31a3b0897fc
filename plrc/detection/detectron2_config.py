"""Detectron2's configuration of a detector: all that its own defaults have otherwise than the model here.

The names are Detectron2's, the values those that this package computes with or trains by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from plrc.detection.anchors import RATIOS
from plrc.detection.classes import COCO_CLASSES, VOC_CLASSES
from plrc.detection.config import FinetuneConfig
from plrc.detection.design import Design
from plrc.detection.detector import (
    C4_LEVEL,
    C4_TESTING,
    C4_TRAINING,
    FPN_CHANNELS,
    FPN_TESTING,
    FPN_TRAINING,
    MEAN,
    STD,
)

_NORM = "SyncBN"
_STAGES = [2, 3, 4, 5]
_DATA_SETS = {
    VOC_CLASSES: (["voc_2007_trainval", "voc_2012_trainval"], ["voc_2007_test"]),
    COCO_CLASSES: (["coco_2017_train"], ["coco_2017_val"]),
}
_ABOUT_C4 = """\
# Res5ROIHeadsExtraNorm is a class of MoCo's, not of Detectron2's own: detection/train_net.py of
# https://github.com/facebookresearch/moco registers it. Start that script with this file.
"""


class _Dumper(yaml.SafeDumper):
    """Writes a list out wherever it stands, without references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def check_buildable(design: Design) -> None:
    """Raises a ValueError where Detectron2 cannot build such a model."""
    if design.arch == "tiny":
        raise ValueError("Detectron2 has no tiny network: take a detector on a ResNet")
    if design.neck == "c4" and design.arch in ("resnet18", "resnet34"):
        raise ValueError(
            f"Detectron2 has no {design.arch}-C4, because its C4 head is made of bottlenecks: take a feature "
            "pyramid, or resnet50 or resnet101"
        )


def model_config(design: Design, weights: str, short_side: int, longest: int) -> dict[str, Any]:
    """What makes Detectron2 build the model of ``Detector(design)`` and test it as it is tested here.

    Args:
        weights: path of the file. short_side, longest: pixels of the input in testing.
    """
    is_c4 = design.neck == "c4"
    training, testing = (C4_TRAINING, C4_TESTING) if is_c4 else (FPN_TRAINING, FPN_TESTING)
    depth = int(design.arch.removeprefix("resnet"))
    resnets: dict[str, Any] = {"DEPTH": depth, "NORM": _NORM, "STRIDE_IN_1X1": False}
    if depth < 50:
        resnets["RES2_OUT_CHANNELS"] = 64
    stages = ["res4"] if is_c4 else [f"res{i}" for i in _STAGES]
    pyramid = ["res4"] if is_c4 else [f"p{i}" for i in _STAGES]
    sizes = [list(C4_LEVEL.sizes)] if is_c4 else [[8 << i] for i in _STAGES]
    sizes += [] if is_c4 else [[8 << 6]]  # of p6
    model: dict[str, Any] = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": weights,
        "MASK_ON": design.masks,
        "PIXEL_MEAN": list(MEAN),
        "PIXEL_STD": list(STD),
        "BACKBONE": {"NAME": "build_resnet_backbone" if is_c4 else "build_resnet_fpn_backbone", "FREEZE_AT": 0},
        "RESNETS": {**resnets, "OUT_FEATURES": stages},
        "ANCHOR_GENERATOR": {"SIZES": sizes, "ASPECT_RATIOS": [list(RATIOS)]},
        "RPN": {
            "IN_FEATURES": pyramid if is_c4 else [*pyramid, "p6"],
            "PRE_NMS_TOPK_TRAIN": training.before,
            "PRE_NMS_TOPK_TEST": testing.before,
            "POST_NMS_TOPK_TRAIN": training.after,
            "POST_NMS_TOPK_TEST": testing.after,
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeadsExtraNorm" if is_c4 else "StandardROIHeads",
            "IN_FEATURES": pyramid,
            "NUM_CLASSES": len(design.classes),
            "BATCH_SIZE_PER_IMAGE": design.roi_per_image,
        },
    }
    if not is_c4:
        norm = _NORM if design.head_norm else ""
        layers = {"NUM_CONV": 4, "NUM_FC": 1} if design.head_norm else {"NUM_CONV": 0, "NUM_FC": 2}
        model["FPN"] = {"IN_FEATURES": stages, "OUT_CHANNELS": FPN_CHANNELS, "NORM": _NORM}
        model["ROI_BOX_HEAD"] = {"NAME": "FastRCNNConvFCHead", "POOLER_RESOLUTION": 7, **layers, "NORM": norm}
        if design.masks:
            head = "MaskRCNNConvUpsampleHead"
            model["ROI_MASK_HEAD"] = {"NAME": head, "POOLER_RESOLUTION": 14, "NUM_CONV": 4, "NORM": norm}
    config: dict[str, Any] = {
        "VERSION": 2,
        "MODEL": model,
        "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TEST": short_side, "MAX_SIZE_TEST": longest},
    }
    if design.classes in _DATA_SETS:
        train, test = _DATA_SETS[design.classes]
        config["DATASETS"] = {"TRAIN": train, "TEST": test}
    return config


def recipe_config(design: Design, weights: str, recipe: FinetuneConfig) -> dict[str, Any]:
    """``model_config`` and the training of a recipe.

    Detectron2 draws each picture's short side of a list, flips it every other time, and decays no norms by default.
    """
    config = model_config(design, weights, recipe.test_short_side, recipe.longest)
    config["INPUT"] |= {"MIN_SIZE_TRAIN": list(recipe.short_sides), "MAX_SIZE_TRAIN": recipe.longest}
    config["SOLVER"] = {
        "IMS_PER_BATCH": recipe.batch_size,
        "BASE_LR": recipe.peak_lr,
        "MOMENTUM": recipe.momentum,
        "WEIGHT_DECAY": recipe.weight_decay,
        "WEIGHT_DECAY_NORM": 0.0,
        "STEPS": [recipe.steps(step) for step in recipe.milestones],
        "GAMMA": 0.1,
        "MAX_ITER": recipe.steps(recipe.iterations),
        "WARMUP_ITERS": recipe.steps(recipe.warmup),
    }
    config["TEST"] = {"PRECISE_BN": {"ENABLED": bool(recipe.precise_bn)}}
    if recipe.precise_bn:
        config["TEST"]["PRECISE_BN"]["NUM_ITER"] = recipe.precise_bn
    return config


def config_text(config: dict[str, Any], about: Sequence[str]) -> str:
    """The YAML file, with lines of comment before it."""
    comments = "".join(f"# {line}\n" for line in about)
    if config["MODEL"]["ROI_HEADS"]["NAME"] == "Res5ROIHeadsExtraNorm":
        comments += _ABOUT_C4
    return comments + yaml.dump(config, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)
