"""Every constant of a fine-tuning run, once; the presets are the field's recipes. And what eval and convert are told.

Sources: *MoCo* is the Detectron2 recipe of MoCo (detection/configs), *Detectron2* its default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plrc.config import RunOptions
from plrc.files import check_folder
from plrc.options import Options, flag, option
from plrc.schedules import DETECTION_BATCH, scaled_steps

_MOCO, _DETECTRON2 = "MoCo", "Detectron2"
_DATA = "VOC folders or ImageSets/Main/*.txt, COCO folders or instances_*.json, scenes:N"
_DETECTOR = "a run folder, its checkpoint, or a fine-tuned Detectron2 file (C4 or FPN)"
_CLASSES = "names of a Detectron2 file's classes in the order of its labels; 20 are VOC's and 80 COCO's without them"


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunOptions):
    """One fine-tuning run, or several that differ in their seed. The defaults are the ``voc-c4-24k`` preset."""

    # data
    train: tuple[str, ...] = option((), f"data sets, together: {_DATA}", path=True, resumable=True)
    train_most: int | None = option(
        None, "train on at most so many images with objects, evenly spread over the data: few labels", low=1
    )
    test: tuple[str, ...] = option((), "data sets to evaluate on, at the end", path=True, resumable=True)
    short_sides: tuple[int, ...] = option(
        tuple(range(480, 801, 32)), "short sides in training, one drawn an image", unit="pixels", low=1, source=_MOCO
    )
    test_short_side: int = option(800, "short side in testing", unit="pixels", low=1, source=_MOCO)
    longest: int = option(1333, "upper limit of a long side", unit="pixels", low=1, source=_DETECTRON2)

    # model
    weights: str = option(
        "", "pre-trained backbone: whatever plrc can look into; random:resnet50 for none (drawn from --seed)", path=True
    )
    neck: str = option("c4", "where regions are found and pooled", choices=("c4", "fpn"), source=_MOCO)
    masks: bool = option(False, "with a mask head (Mask R-CNN)", source="MoCo: on COCO")
    head_norm: bool = option(False, "FPN: four normalised convolutions in the box head, and norms in the mask head")
    roi_per_image: int = option(512, "regions of interest sampled of an image", low=1, source=_DETECTRON2)

    # optimisation
    iterations: int = option(24_000, "length of the training", unit="steps", low=1, source=_MOCO)
    milestones: tuple[int, ...] = option(
        (18_000, 22_000), "when the learning rate drops × 0.1", unit="steps", low=1, source=_MOCO
    )
    warmup: int = option(100, "linear warm-up", unit="steps", low=0, source="MoCo: on VOC")
    batch_size: int = option(16, "images a step, over all ranks", low=1, source=_DETECTRON2)
    scale_iterations: bool = option(
        False, "iterations, milestones and warm-up times 16 / batch size: as many images as the recipe sees"
    )
    lr: float = option(0.02, "learning rate for a batch of 16; scaled by batch size / 16", above=0, source=_MOCO)
    momentum: float = option(0.9, "momentum of SGD", low=0, source=_DETECTRON2)
    weight_decay: float = option(1e-4, "on all parameters but those of norms", low=0, source=_DETECTRON2)
    precise_bn: int = option(
        200, "batches over which BatchNorm's statistics are taken anew before the test; 0: none", low=0, source=_MOCO
    )

    # the run
    out: str = option("runs/detection", "run folder", path=True, resumable=True)
    seeds: int = option(
        1, "trainings, from --seed on, in folders seed_<n> of --out; their mean and std", low=1, resumable=True
    )
    log_every: int = option(20, "interval between lines of log.jsonl", unit="steps", low=1, resumable=True)
    pictures: int = option(12, "test images that are drawn with their detections", low=0, resumable=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {
            "weights": "a pre-trained checkpoint, or random:resnet50 to train from scratch",
            "train": "a data set with boxes, such as scenes:200 for a trial",
            "test": "a data set with boxes, such as scenes:50@1 for a trial",
        }
        for name, what in needed.items():
            if not getattr(self, name):
                raise ValueError(f"{flag(name)} is missing: name {what}")
        if not self.short_sides:
            raise ValueError("--short-sides must be pixels, one or more")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"--milestones must be rising steps, not {' '.join(map(str, self.milestones))}")
        if self.momentum >= 1:
            raise ValueError(f"--momentum must be below 1, not {self.momentum}")
        if self.seeds > 1 and self.resume not in ("auto", "never"):
            raise ValueError(f"--seeds are several runs, and --resume {self.resume} is one: take --resume auto")

    def each_seed(self) -> list[FinetuneConfig]:
        """The runs that these are, one a seed."""
        if self.seeds == 1:
            return [self]
        numbers = range(self.seed, self.seed + self.seeds)
        return [replace(self, seeds=1, seed=n, out=str(Path(self.out) / f"seed_{n}")) for n in numbers]

    def check_place(self) -> None:
        for one in self.each_seed():
            super(FinetuneConfig, one).check_place()

    @property
    def peak_lr(self) -> float:
        """The learning rate after the warm-up, for this batch size (linear scaling rule)."""
        return self.lr * self.batch_size / DETECTION_BATCH

    def steps(self, count: int) -> int:
        """A number of steps of the recipe, for this batch size."""
        return scaled_steps(count, self.batch_size) if self.scale_iterations else count


_COCO: dict[str, Any] = {"short_sides": tuple(range(640, 801, 32)), "masks": True, "warmup": 1000}
_SMALL_IMAGES = {"short_sides": (192, 208, 224, 240, 256), "test_short_side": 240, "longest": 400}
_FEW_STEPS = {"iterations": 400, "milestones": (300, 360), "warmup": 50, "precise_bn": 30}
PRESETS: dict[str, dict[str, Any]] = {
    "voc-c4-24k": {},
    "coco-c4-2x": {**_COCO, "iterations": 180_000, "milestones": (120_000, 160_000)},
    "coco-fpn-1x": {**_COCO, "neck": "fpn", "head_norm": True, "iterations": 90_000, "milestones": (60_000, 80_000)},
    "small": {  # something that finishes on two CPU cores (ours; docs/results.md shows what it learns)
        "neck": "fpn",
        "weights": "plrc:tiny",
        "roi_per_image": 128,
        "batch_size": 4,
        "lr": 0.08,
        "workers": 0,
        "out": "runs/detection-small",
        **_SMALL_IMAGES,
        **_FEW_STEPS,
    },
}
RECIPES = tuple(name for name in PRESETS if name != "small")  # for Detectron2, too


@dataclass(frozen=True, kw_only=True)
class DetectEval(Options):
    """``plrc detect eval``: measure a detector, or a file of results alone."""

    checkpoint: str = option("", f"{_DETECTOR}; or results in COCO's format (.json)", path=True, positional=True)
    data: tuple[str, ...] = option((), "what it is measured on; of results, a COCO JSON will do", path=True)
    voc: bool = option(False, "by VOC's rules too, also where the data are not in VOC's layout")
    classes: tuple[str, ...] = option((), _CLASSES)
    short_side: int | None = option(None, "of the input; else as the checkpoint says, or 800", unit="pixels", low=1)
    longest: int | None = option(
        None, "most of a long side; else as the checkpoint says, or 1333", unit="pixels", low=1
    )
    pictures: int = option(12, "images that are drawn with their detections", low=0)
    workers: int = option(-1, "loading processes a rank; -1: its share of the cores", low=-1, high=256)
    out: str = option("", "folder for numbers and figures; else runs/eval- and the name", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data:
            raise ValueError("--data is missing: name what is to be measured on, a data set with boxes")

    @property
    def folder(self) -> Path:
        """Where to write: ``out``, or ``runs/eval-voc-seed_0`` of ``runs/voc/seed_0`` and of the checkpoint in it, so
        that two runs' do not meet."""
        run = Path(self.checkpoint).absolute()
        run = run.parent.parent if run.parent.name == "checkpoints" else run
        name = run.name if run.is_dir() else run.stem  # lr0.02 is no file of the kind .02
        name = name if run.parent.name in ("", "runs") else f"{run.parent.name}-{name}"
        return Path(self.out or f"runs/eval-{name}")

    def check_place(self) -> None:
        check_folder(self.folder)


@dataclass(frozen=True, kw_only=True)
class DetectConvert(Options):
    """``plrc detect convert``: a detector to Detectron2 or back; or a pre-trained backbone to Detectron2."""

    checkpoint: str = option(
        "", f"{_DETECTOR}; or a pre-trained backbone, as plrc info knows it", path=True, positional=True
    )
    to: str = option("detectron2", "what the file is for", choices=("detectron2", "plrc"))
    out: str = option("", ".pth of a detector, .pkl of a backbone; a YAML is written beside it", path=True)
    recipe: str | None = option(None, "of a backbone's YAML; else voc-c4-24k", choices=RECIPES)
    classes: tuple[str, ...] = option((), _CLASSES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise ValueError("--out is missing: name the file to write")
