"""Every constant of a fine-tuning run, once; the presets are the field's recipes.

Sources: *MoCo* is the Detectron2 recipe of MoCo (detection/configs), *Detectron2* its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plrc.schedules import DETECTION_BATCH, scaled_steps
from plrc.settings import Settings, flag, setting


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Settings):
    """One fine-tuning run. The defaults are the ``voc-c4-24k`` preset, but for the data."""

    # data
    train: tuple[str, ...] = setting(
        (),
        "data sets, together: VOC folders or ImageSets/Main/*.txt, COCO folders or instances_*.json, scenes:N",
        resumable=True,
    )
    test: tuple[str, ...] = setting((), "data sets to evaluate on, at the end", resumable=True)
    short_sides: tuple[int, ...] = setting(
        tuple(range(480, 801, 32)), "short sides in training, pixels, one drawn for each picture", "MoCo"
    )
    test_short_side: int = setting(800, "short side in testing, pixels", "MoCo")
    longest: int = setting(1333, "most pixels of a long side", "Detectron2")

    # model
    weights: str = setting(
        "", "pre-trained trunk: whatever plrc can look into; random:resnet50 for none (drawn from --seed)"
    )
    neck: str = setting("c4", "c4 or fpn", "MoCo")
    masks: bool = setting(False, "with a mask head (Mask R-CNN)", "MoCo: on COCO")
    head_norm: bool = setting(False, "FPN: four normalised convolutions in the box head, and norms in the mask head")
    roi_per_image: int = setting(512, "regions of interest sampled of a picture", "Detectron2")

    # optimisation
    iterations: int = setting(24_000, "training steps", "MoCo")
    milestones: tuple[int, ...] = setting((18_000, 22_000), "steps at which the learning rate drops × 0.1", "MoCo")
    warmup: int = setting(100, "steps of linear warm-up", "MoCo: on VOC")
    batch_size: int = setting(16, "pictures a step, over all ranks", "Detectron2")
    scale_iterations: bool = setting(
        False, "iterations, milestones and warm-up times 16 / batch size: as many pictures as the recipe sees"
    )
    lr: float = setting(0.02, "learning rate for a batch of 16; scaled by batch size / 16", "MoCo")
    momentum: float = setting(0.9, "of SGD", "Detectron2")
    weight_decay: float = setting(1e-4, "on all parameters but those of norms", "Detectron2")
    precise_bn: int = setting(
        200, "batches over which BatchNorm's statistics are taken anew before the test; 0: none", "MoCo"
    )
    seed: int = setting(0, "of everything random: weights, order, sizes, samples")

    # the run
    out: str = setting("runs/detection", "run folder", resumable=True)
    log_every: int = setting(20, "steps between lines of log.jsonl", resumable=True)
    pictures: int = setting(12, "test pictures that are drawn with their detections", resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("iterations", "batch_size", "lr", "roi_per_image", "test_short_side", "longest")
        if self.neck not in ("c4", "fpn"):
            raise ValueError(f"--neck must be c4 or fpn, not {self.neck!r}")
        if not self.weights:
            raise ValueError(
                "--weights is missing: name a pre-trained checkpoint, or random:resnet50 to train from scratch"
            )
        for name in ("train", "test"):
            if not getattr(self, name):
                raise ValueError(f"{flag(name)} is missing: name a data set with boxes, such as scenes:200 for a trial")
        if not self.short_sides or min(self.short_sides) < 1:
            raise ValueError(f"--short-sides must be pixels, one or more, not {self.short_sides}")
        if min(self.milestones, default=1) < 1 or list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"--milestones must be rising steps above 0, not {' '.join(map(str, self.milestones))}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum must lie between 0 and 1, not {self.momentum}")
        for name in ("warmup", "precise_bn", "pictures", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{flag(name)} must be 0 or more, not {getattr(self, name)}")

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
