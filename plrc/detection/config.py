"""Every constant of a fine-tuning run, once; the presets are the field's recipes.

Sources: *MoCo* is the Detectron2 recipe of MoCo (detection/configs), *Detectron2* its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plrc.config import RunOptions
from plrc.options import flag, option
from plrc.schedules import DETECTION_BATCH, scaled_steps


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunOptions):
    """One fine-tuning run. The defaults are the ``voc-c4-24k`` preset, but for the data."""

    # data
    train: tuple[str, ...] = option(
        (),
        "data sets, together: VOC folders or ImageSets/Main/*.txt, COCO folders or instances_*.json, scenes:N",
        resumable=True,
    )
    test: tuple[str, ...] = option((), "data sets to evaluate on, at the end", resumable=True)
    short_sides: tuple[int, ...] = option(
        tuple(range(480, 801, 32)),
        "short sides in training, one drawn for each image",
        unit="pixels",
        low=1,
        source="MoCo",
    )
    test_short_side: int = option(800, "short side in testing", unit="pixels", low=1, source="MoCo")
    longest: int = option(1333, "longest side of an image", unit="pixels", low=1, source="Detectron2")

    # model
    weights: str = option(
        "", "pre-trained backbone: whatever plrc can look into; random:resnet50 for none (drawn from --seed)", path=True
    )
    neck: str = option("c4", "what the detector reads", choices=("c4", "fpn"), source="MoCo")
    masks: bool = option(False, "with a mask head (Mask R-CNN)", source="MoCo: on COCO")
    head_norm: bool = option(False, "FPN: four normalised convolutions in the box head, and norms in the mask head")
    roi_per_image: int = option(512, "regions of interest sampled in an image", low=1, source="Detectron2")

    # optimisation
    iterations: int = option(24_000, "training steps", low=1, source="MoCo")
    milestones: tuple[int, ...] = option(
        (18_000, 22_000), "steps at which the learning rate drops × 0.1", source="MoCo"
    )
    warmup: int = option(100, "steps of linear warm-up", low=0, source="MoCo: on VOC")
    batch_size: int = option(16, "images a step, over all ranks", low=1, source="Detectron2")
    scale_iterations: bool = option(
        False, "iterations, milestones and warm-up times 16 / batch size: as many images as the recipe sees"
    )
    lr: float = option(0.02, "learning rate for a batch of 16; scaled by batch size / 16", above=0, source="MoCo")
    momentum: float = option(0.9, "momentum of SGD", low=0, high=1, source="Detectron2")
    weight_decay: float = option(1e-4, "weight decay, on all parameters but those of norms", low=0, source="Detectron2")
    precise_bn: int = option(
        200, "batches over which BatchNorm's statistics are taken anew before the test; 0: none", low=0, source="MoCo"
    )
    seed: int = option(0, "seed of everything random: weights, order, sizes, samples")

    # the run
    out: str = option("runs/detection", "run folder", path=True, resumable=True)
    log_every: int = option(20, "interval between lines of log.jsonl", unit="steps", low=1, resumable=True)
    pictures: int = option(12, "test images that are drawn with their detections", low=0, resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise ValueError(
                "--weights is missing: name a pre-trained checkpoint, or random:resnet50 to train from scratch"
            )
        for name in ("train", "test"):
            if not getattr(self, name):
                raise ValueError(f"{flag(name)} is missing: name a data set with boxes, such as scenes:200 for a trial")
        if not self.short_sides:
            raise ValueError("--short-sides is empty: give one size in pixels, or more")
        if min(self.milestones, default=1) < 1 or list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"--milestones must be rising steps above 0, not {' '.join(map(str, self.milestones))}")

    @property
    def peak_lr(self) -> float:
        """The learning rate after the warm-up, for this batch size (linear scaling rule)."""
        return self.lr * self.batch_size / DETECTION_BATCH

    def steps(self, count: int) -> int:
        """A number of steps of the recipe, for this batch size."""
        return scaled_steps(count, self.batch_size) if self.scale_iterations else count


_COCO: dict[str, Any] = {"short_sides": tuple(range(640, 801, 32)), "masks": True, "warmup": 1000}
# Something that finishes on two CPU cores (ours; docs/results.md shows what it learns).
_SMALL: dict[str, Any] = {
    "neck": "fpn",
    "weights": "plrc:tiny",
    "short_sides": (192, 208, 224, 240, 256),
    "test_short_side": 240,
    "longest": 400,
    "roi_per_image": 128,
    "iterations": 400,
    "milestones": (300, 360),
    "warmup": 50,
    "batch_size": 4,
    "lr": 0.08,
    "precise_bn": 30,
    "workers": 0,
    "out": "runs/detection-small",
}
PRESETS: dict[str, dict[str, Any]] = {
    "voc-c4-24k": {},
    "coco-c4-2x": {**_COCO, "iterations": 180_000, "milestones": (120_000, 160_000)},
    "coco-fpn-1x": {**_COCO, "neck": "fpn", "head_norm": True, "iterations": 90_000, "milestones": (60_000, 80_000)},
    "small": _SMALL,
}
