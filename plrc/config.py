"""Every constant of a pre-training run, once, with its range and its source; the presets and the command line.

``plrc.options`` says how a value is found. The source of a default is *paper figure*, *released code* or *ours*: the
text of the paper was not at hand (docs/design.md).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plrc.files import check_folder
from plrc.options import LAST_SEED, Options, flag, load, option
from plrc.registry import BACKBONES, LOSSES, region_specs

PAPER, RELEASED, OURS = "paper figure", "released code", "ours"


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What every run has, whatever it trains."""

    out: str = option("runs/plrc", "run folder", path=True, resumable=True)
    resume: str = option(
        "never", "auto: go on with the run in --out, if there is one; or a checkpoint file", path=True, resumable=True
    )
    workers: int = option(
        -1,
        "data loading processes a rank; -1: its share of the cores, at most 8; 0: load in the training process",
        low=-1,
        high=256,
        resumable=True,
    )
    precision: str = option(
        "auto",
        "auto: bf16 autocast on GPUs, and CPUs with AMX or of AMD with avx512_bf16, else fp32",
        choices=("auto", "bf16", "fp32"),
    )
    seed: int = option(0, "seed of everything random", low=0, high=LAST_SEED)
    log_every: int = option(10, "interval between lines of log.jsonl", unit="steps", low=1, resumable=True)
    save_every: int = option(500, "interval between writes of checkpoints/last.pt", unit="steps", low=1, resumable=True)

    timeout: float = option(
        10,
        "how long a rank waits for another, which may be listing millions of files, or for its loading processes",
        unit="minutes",
        above=0,
        resumable=True,
    )

    @property
    def anew(self) -> str:
        """How to start once more, for messages."""
        return f"remove {self.out} to start anew: rm -rf {shlex.quote(self.out)}"

    def check_place(self) -> None:
        if not self.out:
            raise ValueError("--out is empty: name a run folder, such as runs/first")
        check_folder(Path(self.out))
        folder = Path(self.out) / "checkpoints"
        goes_on = self.resume == "auto" or Path(self.resume).parent.resolve() == folder.resolve()
        if not goes_on and any(folder.glob("*.pt")):
            remedy = f"go on with --resume auto, choose another --out, or {self.anew}"
            raise ValueError(f"{self.out} already holds a run: {remedy}")

    def repeatable(self) -> dict[str, Any]:
        """What ``config.yaml`` holds: all but ``resume``, which belongs to this start, not to the run."""
        return {name: value for name, value in self.to_dict().items() if name != "resume"}

    def contradictions(self, saved: Mapping[str, Any]) -> list[str]:
        """One sentence for each field that a saved run had otherwise; ``resumable`` fields may differ.

        Raises:
            ValueError: the saved configuration has fields or values that are not known here.
        """
        ours, theirs = self._by_flag(), type(self).from_dict(saved, "the saved run")._by_flag()
        both = {name: (of, theirs[name]) for name, of in ours.items()}
        return [f"{name} is {now} now, but {was} in the saved run" for name, (now, was) in both.items() if now != was]

    def _by_flag(self) -> dict[str, str]:
        shown: dict[str, str] = {}
        for field in dataclasses.fields(self):
            value, name = getattr(self, field.name), flag(field.name)
            if isinstance(value, dict):
                shown |= {f"{name.removesuffix('s')}-{key}": str(of) for key, of in value.items()}
            elif not field.metadata["resumable"]:
                shown[name] = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        return shown


@dataclass(frozen=True, kw_only=True)
class Config(RunOptions):
    """One pre-training run. The defaults are the ``imagenet`` preset."""

    # data
    data: str = option(
        "",
        "folder of images (its train/ if there is one); tar shards, 'DIR/{000000..000146}.tar' or a folder of them, "
        "also at https://, s3://, …; or scenes:N for N embedded demo scenes",
        path=True,
        resumable=True,
    )
    image_size: int = option(224, "side of a view", unit="pixels", low=1, source=RELEASED)
    regions: str = option("grid:4", f"region map: {region_specs()}", source=PAPER)

    # augmentation
    crop_scale: tuple[float, float] = option(
        (0.2, 1.0), "a crop's share of the image's area, least and most", above=0, high=1, source=RELEASED
    )
    flip_p: float = option(0.5, "probability of mirroring a view", low=0, high=1, source=RELEASED)
    jitter: tuple[float, float, float, float] = option(
        (0.4, 0.4, 0.4, 0.1), "strength of brightness, contrast, saturation and hue jitter", low=0, source=RELEASED
    )
    jitter_p: float = option(0.8, "probability of colour jitter", low=0, high=1, source=RELEASED)
    grey_p: float = option(0.2, "probability of turning a view grey", low=0, high=1, source=RELEASED)
    blur_sigma: tuple[float, float] = option(
        (0.1, 2.0), "sigma of the Gaussian blur, least and most", unit="pixels of the view", above=0, source=RELEASED
    )
    blur_p: float = option(0.5, "probability of blurring a view", low=0, high=1, source=RELEASED)

    # model
    arch: str = option(
        "resnet50",
        f"backbone: {', '.join(name + 'NAME' if name.endswith(':') else name for name in BACKBONES)}",
        source=RELEASED,
    )
    init: str = option(
        "",
        "checkpoint that training begins with, whatever plrc can look into: its backbone, and its projector where that "
        "has the same shape; nothing: weights drawn by --seed",
        path=True,
    )
    dim: int = option(128, "channels of a point", low=1, source=RELEASED)
    queue_size: int = option(65536, "keys of earlier batches kept as negatives (MoCo's K)", low=1, source=RELEASED)
    key_momentum: float = option(0.999, "m in key = m key + (1 - m) query, once a step", low=0, high=1, source=RELEASED)
    bn_groups: int = option(
        8,
        "parts of a batch that BatchNorm normalises separately, over all ranks; each rank is at least one",
        low=1,
        source=f"{RELEASED}: 8 GPUs",
    )
    symmetric: bool = option(False, "also swap the roles of the two views: a step takes about 8/5 of the time")

    # losses
    weights: dict[str, float] = option(
        lambda: {name: loss.traits["weight"] for name, loss in LOSSES.items()},
        "weight of the {} loss; 0 leaves it out",
        low=0,
        choices=LOSSES,
    )
    starts: dict[str, float] = option(
        lambda: dict.fromkeys(LOSSES, 0.0), "epoch at which the {} loss sets in", low=0, choices=LOSSES
    )
    temperature: float = option(0.2, "temperature of the image and the point contrast", above=0, source=RELEASED)
    points_per_region: int = option(
        16, "P, points drawn in each region of each view", low=1, source=f"{RELEASED}; in every region: {OURS}"
    )
    negatives: int = option(4096, "M, points of other images as negatives, over all ranks", low=0)
    student_temperature: float = option(0.1, "temperature of the query encoder's affinities", above=0, source=RELEASED)
    teacher_temperature: tuple[float, float] = option(
        (0.04, 0.07), "temperature of the key encoder's affinities, first and last", above=0, source=RELEASED
    )
    teacher_warmup: float = option(30.0, "epochs over which the teacher's temperature moves", low=0, source=RELEASED)

    # optimisation
    epochs: int = option(100, "passes over the images", low=1, source=RELEASED)
    batch_size: int = option(256, "images a step, over all ranks and accumulated parts", low=1, source=RELEASED)
    accumulate: int = option(1, "parts in which a rank computes its share of a batch, to save memory", low=1)
    lr: float = option(0.03, "learning rate for a batch of 256; scaled by batch size / 256", low=0, source=RELEASED)
    optimizer: str = option("sgd", "optimiser", choices=("sgd", "adamw"), source=RELEASED)
    sgd_momentum: float = option(0.9, "momentum of SGD", low=0, high=1, source=RELEASED)
    weight_decay: float = option(1e-4, "weight decay, on all parameters", low=0, source=RELEASED)
    compile: str = option(
        "auto",
        "torch.compile of the encoders' training; auto: in bf16, in runs of 10,000 steps or more (docs/performance.md)",
        choices=("auto", "on", "off"),
    )
    seed: int = option(0, "seed of weights, order, crops, colours and points", low=0, high=LAST_SEED)

    # the run
    keep_every: int = option(
        10, "interval between checkpoints that are kept as epoch_XXXX.pt", unit="epochs", low=1, resumable=True
    )
    picture_every: int = option(
        2000, "interval between figures of affinity maps; 0 for none", unit="steps", low=0, resumable=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("crop_scale", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{flag(name)} must be the least and then the most, not {low} {high}")
        if self.jitter[3] > 0.5:
            raise ValueError(f"{flag('jitter')} turns hues by 0.5, half the circle, at most, not {self.jitter[3]}")
        if not any(self.weights.values()):
            raise ValueError("there is nothing to learn: all loss weights are 0")
        if not any(self.weights_at(0).values()):
            raise ValueError("there is nothing to learn at first: --start-NAME is above 0 for every loss with a weight")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> Config:
        """As ``Options.from_dict``; understands runs of before, when each loss weight was a field of its own."""
        return super().from_dict(loss_tables(values), where)

    def weights_at(self, epoch: float) -> dict[str, float]:
        """The weight of each loss at a moment of training, in epochs; 0 before the loss sets in."""
        return {name: weight if epoch >= self.starts[name] else 0.0 for name, weight in self.weights.items()}

    @property
    def peak_lr(self) -> float:
        """The learning rate of the first step, for this batch size (linear scaling rule)."""
        return self.lr * self.batch_size / 256

    def bn_groups_of_a_part(self, ranks: int) -> int:
        """Groups that BatchNorm sees in an accumulated part of a rank's batch, ``bn_groups`` in the whole batch.

        On one rank a part has at least two, else queries would be normalised with just the images of their own keys.
        """
        least = 2 if ranks == 1 and self.bn_groups > 1 else 1
        return max(least, self.bn_groups // (ranks * self.accumulate))


# Something that learns in minutes on two CPU cores (ours; docs/results.md shows what it learns): superpixels, the point
# loss first, and colours that change less, so that they still tell objects apart.
_DEMO: dict[str, Any] = {
    "data": "scenes:1000",
    "image_size": 64,
    "regions": "superpixels:8",
    "jitter": (0.4, 0.4, 0.2, 0.02),
    "grey_p": 0.05,
    "arch": "tiny",
    "weights": {"image": 0.3, "point": 1.0, "affinity": 0.3},
    "temperature": 0.1,
    "workers": 0,
    "blur_sigma": (0.1, 1.0),
    "queue_size": 256,  # a third of the study's images: a longer queue holds older keys of an image, as its negatives
    "key_momentum": 0.99,
    "bn_groups": 2,
    "negatives": 512,
    "epochs": 36,
    "teacher_warmup": 12.0,
    "batch_size": 32,
    "optimizer": "adamw",  # SGD had learnt less after as many steps (docs/results.md)
    "lr": 0.012,
    "weight_decay": 0.05,
    "keep_every": 5,
    "picture_every": 200,
    "out": "runs/demo",
}
# For anybody's folder of some thousand photos (ours): the point loss alone.
_PHOTOS: dict[str, Any] = {
    **_DEMO,
    "data": "",
    "workers": -1,
    "weights": {"image": 0.0, "point": 1.0, "affinity": 0.0},
    "epochs": 50,
    "batch_size": 64,
    "picture_every": 1000,
    "out": "runs/photos",
}
PRESETS: dict[str, dict[str, Any]] = {"imagenet": {}, "demo": _DEMO, "photos": _PHOTOS}


def load_config(preset: str = "imagenet", file: Path | None = None, given: Mapping[str, Any] | None = None) -> Config:
    """A configuration from a preset, a YAML file over it, and single fields over both.

    Raises:
        ValueError: an unknown field (the nearest name is suggested), a value of the wrong type or out of range.
    """
    return load(Config, PRESETS, preset, file, given or {})


def loss_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """``weight_image: 0.7`` as ``weights: {image: 0.7}``, and ``affinity_start`` likewise; a table goes first."""
    found = dict(values)
    old = {f"weight_{name}": ("weights", name) for name in LOSSES} | {"affinity_start": ("starts", "affinity")}
    for name, (table, key) in old.items():
        if name in found:
            found[table] = {key: found.pop(name), **found.get(table, {})}
    return found
