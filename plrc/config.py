"""Every constant of a run, once, with its unit and its source; presets, YAML files and the command line.

What a value comes from, weakest first: the preset, a YAML file (``--config``), the command line. The source of each
default stands behind its explanation: *paper figure*, *released code*, or *ours* (DESIGN section 4 says why the
paper's text is not among them).
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


def _field(default: Any, explanation: str, source: str = "ours", resumable: bool = False) -> Any:
    """``resumable`` marks what may differ when a run is resumed: it does not change what is computed."""
    metadata = {"help": f"{explanation} [{source}]", "resumable": resumable}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One pre-training run. The defaults are the ``imagenet`` preset."""

    # data
    data: str = _field(
        "", "folder of images (its train/ if there is one), or scenes:N for N embedded demo scenes", resumable=True
    )
    image_size: int = _field(224, "side of a view, pixels", "released code")
    regions: str = _field("grid:4", "region map: grid:N, superpixels:K or masks:DIR", "paper figure 1")
    workers: int = _field(
        -1,
        "data loading processes a rank; -1: its share of the cores, at most 8; 0: in the training process",
        resumable=True,
    )

    # augmentation
    crop_scale: tuple[float, float] = _field((0.2, 1.0), "a crop's area, share of the image", "released code")
    flip_p: float = _field(0.5, "probability of mirroring a view", "released code")
    jitter: tuple[float, float, float, float] = _field(
        (0.4, 0.4, 0.4, 0.1), "strength of brightness, contrast, saturation and hue jitter", "released code"
    )
    jitter_p: float = _field(0.8, "probability of colour jitter", "released code")
    grey_p: float = _field(0.2, "probability of turning a view grey", "released code")
    blur_sigma: tuple[float, float] = _field(
        (0.1, 2.0), "sigma of the Gaussian blur, pixels of the view", "released code"
    )
    blur_p: float = _field(0.5, "probability of blurring a view", "released code")

    # model
    arch: str = _field("resnet50", "tiny, resnet18, resnet34, resnet50 or resnet101", "released code")
    dim: int = _field(128, "channels of a point", "released code")
    queue_size: int = _field(65536, "keys of earlier batches kept as negatives (MoCo's K)", "released code")
    key_momentum: float = _field(0.999, "m of key = m key + (1 - m) query, once a step", "released code")
    bn_groups: int = _field(
        8,
        "parts of a batch that BatchNorm sees apart, over all ranks; each rank is one at least",
        "released code: 8 GPUs",
    )
    symmetric: bool = _field(False, "also swap the roles of the two views: about 8/5 of the time a step")

    # losses
    temperature: float = _field(0.2, "of the image and the point contrast", "released code")
    points_per_region: int = _field(
        16, "P, points drawn in each region of each view", "released code; in every region: ours"
    )
    negatives: int = _field(4096, "M, points of other images as negatives, over all ranks")
    student_temperature: float = _field(0.1, "of the query encoder's affinities", "released code")
    teacher_temperature: tuple[float, float] = _field(
        (0.04, 0.07), "of the key encoder's, first to last", "released code"
    )
    teacher_warmup: float = _field(30.0, "epochs over which the teacher's temperature moves", "released code")
    weight_image: float = _field(0.7, "of the image contrast; 0 leaves it out", "released code")
    weight_point: float = _field(0.3, "of the point-level region contrast; 0 leaves it out", "released code")
    weight_affinity: float = _field(0.3, "of the affinity distillation; 0 leaves it out", "released code")
    affinity_start: float = _field(0.0, "epoch at which the affinity distillation sets in")

    # optimisation
    epochs: int = _field(100, "passes over the images", "released code")
    batch_size: int = _field(256, "images a step, over all ranks and accumulated parts", "released code")
    accumulate: int = _field(1, "parts in which a rank computes its share of a batch, to save memory")
    lr: float = _field(0.03, "learning rate for a batch of 256; scaled by batch size / 256", "released code")
    optimizer: str = _field("sgd", "sgd or adamw", "released code: sgd")
    sgd_momentum: float = _field(0.9, "momentum of SGD", "released code")
    weight_decay: float = _field(1e-4, "on all parameters", "released code")
    precision: str = _field("auto", "auto (bf16 autocast on GPUs that have it, else fp32), bf16 or fp32")
    seed: int = _field(0, "of everything random: weights, order, crops, colours, points")

    # the run
    out: str = _field("runs/plrc", "run folder", resumable=True)
    resume: str = _field(
        "never", "auto continues the run in --out where there is one; or a checkpoint file", resumable=True
    )
    log_every: int = _field(10, "steps between lines of log.jsonl", resumable=True)
    save_every: int = _field(
        500, "steps between writes of checkpoints/last.pt (and at every epoch's end)", resumable=True
    )
    keep_every: int = _field(10, "epochs between checkpoints that are kept as epoch_XXXX.pt", resumable=True)
    picture_every: int = _field(2000, "steps between pictures of affinity maps; 0 for none", resumable=True)

    def __post_init__(self) -> None:
        positive = (
            "image_size",
            "dim",
            "queue_size",
            "bn_groups",
            "points_per_region",
            "epochs",
            "batch_size",
            "accumulate",
        )
        for name in (*positive, "temperature", "student_temperature", "log_every", "save_every", "keep_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{_flag(name)} must be above 0, not {getattr(self, name)}")
        if self.workers < -1:
            raise ValueError(f"--workers must be -1 (a share of the cores), 0 or more, not {self.workers}")
        for name in ("flip_p", "jitter_p", "grey_p", "blur_p", "key_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{_flag(name)} must lie between 0 and 1, not {getattr(self, name)}")
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
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"--precision must be auto, bf16 or fp32, not {self.precision!r}")

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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as YAML and checkpoints hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def contradictions(self, saved: dict[str, Any]) -> list[str]:
        """What a saved run's configuration has otherwise, one sentence each; fields that may differ are left out."""
        found = []
        for field in dataclasses.fields(self):
            if field.metadata["resumable"]:
                continue
            ours, theirs = self.to_dict()[field.name], saved.get(field.name)
            if ours != theirs:
                found.append(f"{_flag(field.name)} is {_shown(ours)} now, but {_shown(theirs)} in the saved run")
        return found


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
    parser.add_argument("--preset", choices=PRESETS, default="imagenet", help="where the defaults come from")
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="a YAML file of fields, such as a run's config.yaml"
    )
    hints = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        kind = hints[field.name]
        explanation = f"{field.metadata['help']}; default: {_shown(field.default) or 'none'}".replace("%", "%%")
        if kind is bool:
            parser.add_argument(_flag(field.name), action=argparse.BooleanOptionalAction, help=explanation)
        elif typing.get_origin(kind) is tuple:
            parser.add_argument(
                _flag(field.name), type=float, nargs=len(typing.get_args(kind)), help=explanation, metavar="X"
            )
        else:
            parser.add_argument(_flag(field.name), type=kind, help=explanation, metavar=kind.__name__.upper())
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
    values = dict(PRESETS[preset])
    if file is not None:
        values |= _read_yaml(file)
    values |= given or {}
    hints = typing.get_type_hints(Config)
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            raise ValueError(
                f"{file or 'the configuration'} has an unknown field {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        values[name] = _converted(name, value, hints[name])
    return Config(**values)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} should hold fields, such as 'epochs: 200', one a line")
    return values


def _converted(name: str, value: Any, kind: Any) -> Any:
    """YAML's value as the field's type; numbers may be written as strings ("1e-4" is one in YAML)."""
    try:
        if typing.get_origin(kind) is tuple:
            members = tuple(float(v) for v in value)
            if len(members) == len(typing.get_args(kind)):
                return members
        elif kind is bool:
            if isinstance(value, bool):
                return value
        elif kind is int:
            if not isinstance(value, bool) and float(value) == int(value):
                return int(value)
        elif kind is float:
            if not isinstance(value, bool):
                return float(value)
        elif isinstance(value, str):
            return value
    except (TypeError, ValueError):
        pass
    expected = f"{len(typing.get_args(kind))} numbers" if typing.get_origin(kind) is tuple else kind.__name__
    raise ValueError(f"{_flag(name)} should be {expected}, not {value!r}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
