"""Every constant of a pre-training run, once, with its unit and its source; the presets and the command line.

``plrc.settings`` says how a value is found. The source of each
default stands behind its explanation: *paper figure*, *released code*, or *ours* (DESIGN section 4 says why the
paper's text is not among them).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plrc.settings import Settings, add_arguments, flag, load_settings, setting


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """One pre-training run. The defaults are the ``imagenet`` preset."""

    # data
    data: str = setting(
        "", "folder of images (its train/ if there is one), or scenes:N for N embedded demo scenes", resumable=True
    )
    image_size: int = setting(224, "side of a view, pixels", "released code")
    regions: str = setting("grid:4", "region map: grid:N, superpixels:K or masks:DIR", "paper figure 1")

    # augmentation
    crop_scale: tuple[float, float] = setting((0.2, 1.0), "a crop's area, share of the image", "released code")
    flip_p: float = setting(0.5, "probability of mirroring a view", "released code")
    jitter: tuple[float, float, float, float] = setting(
        (0.4, 0.4, 0.4, 0.1), "strength of brightness, contrast, saturation and hue jitter", "released code"
    )
    jitter_p: float = setting(0.8, "probability of colour jitter", "released code")
    grey_p: float = setting(0.2, "probability of turning a view grey", "released code")
    blur_sigma: tuple[float, float] = setting(
        (0.1, 2.0), "sigma of the Gaussian blur, pixels of the view", "released code"
    )
    blur_p: float = setting(0.5, "probability of blurring a view", "released code")

    # model
    arch: str = setting("resnet50", "tiny, resnet18, resnet34, resnet50 or resnet101", "released code")
    dim: int = setting(128, "channels of a point", "released code")
    queue_size: int = setting(65536, "keys of earlier batches kept as negatives (MoCo's K)", "released code")
    key_momentum: float = setting(0.999, "m of key = m key + (1 - m) query, once a step", "released code")
    bn_groups: int = setting(
        8,
        "parts of a batch that BatchNorm sees apart, over all ranks; each rank is one at least",
        "released code: 8 GPUs",
    )
    symmetric: bool = setting(False, "also swap the roles of the two views: about 8/5 of the time a step")

    # losses
    temperature: float = setting(0.2, "of the image and the point contrast", "released code")
    points_per_region: int = setting(
        16, "P, points drawn in each region of each view", "released code; in every region: ours"
    )
    negatives: int = setting(4096, "M, points of other images as negatives, over all ranks")
    student_temperature: float = setting(0.1, "of the query encoder's affinities", "released code")
    teacher_temperature: tuple[float, float] = setting(
        (0.04, 0.07), "of the key encoder's, first to last", "released code"
    )
    teacher_warmup: float = setting(30.0, "epochs over which the teacher's temperature moves", "released code")
    weight_image: float = setting(0.7, "of the image contrast; 0 leaves it out", "released code")
    weight_point: float = setting(0.3, "of the point-level region contrast; 0 leaves it out", "released code")
    weight_affinity: float = setting(0.3, "of the affinity distillation; 0 leaves it out", "released code")
    affinity_start: float = setting(0.0, "epoch at which the affinity distillation sets in")

    # optimisation
    epochs: int = setting(100, "passes over the images", "released code")
    batch_size: int = setting(256, "images a step, over all ranks and accumulated parts", "released code")
    accumulate: int = setting(1, "parts in which a rank computes its share of a batch, to save memory")
    lr: float = setting(0.03, "learning rate for a batch of 256; scaled by batch size / 256", "released code")
    optimizer: str = setting("sgd", "sgd or adamw", "released code: sgd")
    sgd_momentum: float = setting(0.9, "momentum of SGD", "released code")
    weight_decay: float = setting(1e-4, "on all parameters", "released code")
    seed: int = setting(0, "of everything random: weights, order, crops, colours, points")

    # the run
    save_every: int = setting(
        500, "steps between writes of checkpoints/last.pt (and at every epoch's end)", resumable=True
    )
    keep_every: int = setting(10, "epochs between checkpoints that are kept as epoch_XXXX.pt", resumable=True)
    picture_every: int = setting(2000, "steps between pictures of affinity maps; 0 for none", resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("image_size", "dim", "queue_size", "bn_groups", "points_per_region", "epochs", "batch_size")
        self.check_positive("accumulate", "temperature", "student_temperature", "keep_every")
        for name in ("flip_p", "jitter_p", "grey_p", "blur_p", "key_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{flag(name)} must lie between 0 and 1, not {getattr(self, name)}")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"--crop-scale must be two shares of the area, 0 < low <= high <= 1, not {low} {high}")
        if min(self.teacher_temperature) <= 0:
            raise ValueError(f"--teacher-temperature must be above 0, not {self.teacher_temperature}")
        if self.weight_image == self.weight_point == self.weight_affinity == 0:
            raise ValueError("all three loss weights are 0: there is nothing to learn")
        if self.weight_image == self.weight_point == 0 and self.affinity_start > 0:
            raise ValueError("--affinity-start leaves nothing to learn before it: the other two loss weights are 0")
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f"--optimizer must be sgd or adamw, not {self.optimizer!r}")

    @property
    def peak_lr(self) -> float:
        """The learning rate of the first step, for this batch size (linear scaling rule)."""
        return self.lr * self.batch_size / 256

    def bn_groups_of_a_part(self, ranks: int) -> int:
        """Groups that BatchNorm sees in an accumulated part of a rank's batch, ``bn_groups`` in the whole batch.

        On one rank a part has two at least, else queries would be normalised with just the images of their own keys.
        """
        least = 2 if ranks == 1 and self.bn_groups > 1 else 1
        return max(least, self.bn_groups // (ranks * self.accumulate))


# Something that learns in minutes on two CPU cores (ours; docs/results.md shows what it learns).
_DEMO: dict[str, Any] = {
    "data": "scenes:1000",
    "image_size": 64,
    "arch": "tiny",
    "workers": 0,
    "blur_sigma": (0.1, 1.0),
    "queue_size": 256,  # a third of the study's images: a longer queue holds older keys of an image, as its negatives
    "key_momentum": 0.99,
    "bn_groups": 2,
    "points_per_region": 8,
    "negatives": 512,
    "epochs": 40,
    "teacher_warmup": 12.0,
    "batch_size": 32,
    "optimizer": "adamw",  # SGD had learnt less after as many steps (docs/results.md)
    "lr": 0.012,
    "weight_decay": 0.05,
    "keep_every": 5,
    "picture_every": 200,
    "out": "runs/demo",
}
PRESETS: dict[str, dict[str, Any]] = {"imagenet": {}, "demo": _DEMO}


def parse_arguments(arguments: Sequence[str] | None = None) -> Config:
    """The command line of ``train_ddp.py`` as a configuration. Bad input: one sentence, exit status 2."""
    parser = argparse.ArgumentParser(
        prog="train_ddp.py",
        description="Pre-train PLRC on unlabelled images. Start it with torchrun for several processes.",
        epilog="Defaults are those of the imagenet preset; [in brackets] the source of each.",
        argument_default=argparse.SUPPRESS,
    )
    add_arguments(parser, Config, PRESETS, "imagenet")
    given = vars(parser.parse_args(arguments))
    try:
        return load_config(given.pop("preset"), given.pop("config"), given)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def load_config(preset: str = "imagenet", file: Path | None = None, given: dict[str, Any] | None = None) -> Config:
    """A configuration from a preset, a YAML file over it, and single fields over both.

    Raises:
        ValueError: an unknown field (the nearest name is suggested), a value of the wrong type or out of range.
    """
    return load_settings(Config, PRESETS, preset, file, given or {})
