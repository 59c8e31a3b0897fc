"""Detectors and pre-trained trunks as files that Detectron2 trains and tests, and its detectors as files of ours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.classes import COCO_CLASSES, VOC_CLASSES
from plrc.detection.config import PRESETS, FinetuneConfig
from plrc.detection.design import Design
from plrc.detection.detectron2 import to_detectron2
from plrc.detection.detectron2_config import check_buildable, config_text, model_config, recipe_config
from plrc.detection.loading import LoadedDetector, load_detector
from plrc.pretrained import Pretrained
from plrc.pretrained.export import export, write_whole

RECIPES = {"voc-c4-24k": VOC_CLASSES, "coco-c4-2x": COCO_CLASSES, "coco-fpn-1x": COCO_CLASSES}
"""Presets that are recipes for Detectron2 too, with the classes of their data."""

_TORCH = (".pth", ".pt")


def to_detectron2_file(loaded: LoadedDetector, file: Path) -> list[str]:
    """Write a detector for Detectron2, and beside it the configuration (``.yaml``) that builds exactly that model.

    Tensors keep their values bit for bit. ``load_detector`` reads the file back, with the names of its classes, which
    are in it for that alone.

    Args:
        file: ``.pth`` or ``.pt``, since Detectron2 chooses its reader by it.

    Returns:
        Lines to print.

    Raises:
        ValueError: a model that Detectron2 cannot build, a wrong suffix, the detector's own file, or one that cannot be
            written.
    """
    design = loaded.design
    check_buildable(design)
    _check_file(file, loaded.path)
    model = {}
    for name, tensor in loaded.detector.state_dict().items():
        theirs = to_detectron2(name, design)
        if theirs is None:
            raise ValueError(
                f"Detectron2 has no place for {name} of {loaded.path}: convert a detector of ours as it is"
            )
        model[theirs] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    stream = io.BytesIO()
    torch.save({"model": model, "__author__": "PLRC", **_facts(loaded), "classes": list(design.classes)}, stream)
    write_whole(file, stream.getvalue())
    config = model_config(design, str(file.absolute()), loaded.test_short_side, loaded.longest)
    about = [f"Detectron2's configuration of {file.name}, {_kind(design)}, converted from {loaded.path.name} by plrc."]
    known = "DATASETS" in config
    if not known:
        about.append("DATASETS is left to you: register the data with its classes in the order of the labels,")
        about.append(f"{', '.join(design.classes)}.")
    settings = _write_config(file, config, about)
    return [
        f"{file}: {len(model)} tensors of {_kind(design)}, {len(design.classes)} classes",
        f"{settings}: the configuration that builds it{'' if known else '; name your data sets in it'}",
        f"to measure it, {_script(design)} --eval-only --config-file {settings}",
    ]


def from_detectron2_file(file_in: Path, file_out: Path, classes: Sequence[str] | None = None) -> list[str]:
    """Write a fine-tuned Detectron2 detector as a checkpoint of ours, which can be tested, but not trained further.

    Args:
        file_in, classes: see ``load_detector``. file_out: ``.pt`` or ``.pth``.

    Returns:
        Lines to print.

    Raises:
        ValueError: what ``load_detector`` raises; a wrong suffix, or the input itself as output.
    """
    _check_file(file_out, file_in)
    loaded = load_detector(file_in, classes)
    if loaded.format == DETECTOR:
        raise ValueError(f"{file_in} is a checkpoint of ours already: use it as it is")
    model = loaded.detector.state_dict()
    content = {**_facts(loaded), "design": loaded.design.to_dict(), "note": loaded.note, "model": model}
    save_checkpoint(file_out, content, kind=DETECTOR)
    named = "" if classes else f" ({', '.join(loaded.design.classes[:3])}, …)"
    return [
        f"{file_out}: {len(model)} tensors of {_kind(loaded.design)}, {len(loaded.design.classes)} classes{named}",
        loaded.note,
        f"to measure it: plrc detect eval {file_out} --data …",
    ]


def backbone_file(pretrained: Pretrained, file: Path, recipe: str) -> list[str]:
    """Write a pre-trained trunk for Detectron2, and beside it the configuration (``.yaml``) of a recipe from it.

    Args:
        file: ``.pkl``; see ``plrc.pretrained.export``. recipe: one of ``RECIPES``.

    Returns:
        Lines to print.

    Raises:
        ValueError: no such recipe; a trunk that Detectron2 cannot build this detector on; what ``export`` raises.
    """
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r} for Detectron2: choose one of {', '.join(RECIPES)}")
    anything: dict[str, Any] = {"weights": str(file), "train": ("any",), "test": ("any",)}
    config = FinetuneConfig(**{**PRESETS[recipe], **anything})
    design = Design(
        arch=pretrained.origin.arch,
        neck=config.neck if pretrained.origin.arch != "tiny" else "fpn",
        classes=RECIPES[recipe],
        masks=config.masks,
        head_norm=config.head_norm,
        roi_per_image=config.roi_per_image,
    )
    check_buildable(design)
    lines = export(pretrained, "detectron2", file)
    written = [line for line in lines if line.startswith((str(file), "left out"))]
    about = [
        f"{_kind(design)} from {file.name}, by the recipe {recipe}: Detectron2's configuration, written by plrc.",
        f"The trunk is {pretrained.origin.name} ({pretrained.origin.format}).",
    ]
    settings = _write_config(file, recipe_config(design, str(file.absolute()), config), about)
    return [
        *written,
        f"{settings}: the recipe {recipe}",
        f"to train it, {_script(design)} --num-gpus 8 --config-file {settings}",
    ]


def _facts(loaded: LoadedDetector) -> dict[str, Any]:
    """What ``load_detector`` reads beside the tensors."""
    return {
        "category_ids": list(loaded.category_ids),
        "test_short_side": loaded.test_short_side,
        "longest": loaded.longest,
    }


def _kind(design: Design) -> str:
    return f"{'Mask' if design.masks else 'Faster'} R-CNN {design.arch}-{design.neck.upper()}"


def _script(design: Design) -> str:
    folder = "MoCo's detection/" if design.neck == "c4" else "Detectron2's tools/"
    return f"in {folder}: python train_net.py"


def _check_file(file: Path, source: Path) -> None:
    if file.suffix.lower() not in _TORCH:
        raise ValueError(f"{file} is no name for a file of tensors: let it end with {' or '.join(_TORCH)}")
    if file.exists() and source.exists() and file.samefile(source):
        raise ValueError(f"{file} is what is to be converted: give the result another name")


def _write_config(file: Path, config: dict[str, Any], about: Sequence[str]) -> Path:
    settings = file.with_suffix(".yaml")
    write_whole(settings, config_text(config, about).encode())
    return settings
