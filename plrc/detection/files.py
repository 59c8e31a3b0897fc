"""Detectors as files: ours and Detectron2's, read all or nothing, and written for the other side.

Between Detectron2 and here only names are translated: what a tensor holds is the same in both, because the detector
orders anchors and classes as Detectron2 does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plrc.checkpoint import DETECTOR, VERSION, save_checkpoint, with_new_names
from plrc.detection.config import PRESETS, DetectConvert, FinetuneConfig
from plrc.detection.detector import C4_SIZES, FPN_CHANNELS, FPN_SIZE, MEAN, PROPOSALS, STD, Detector
from plrc.detection.stages import RATIOS
from plrc.detection.types import COCO_CATEGORIES, COCO_CLASSES, VOC_CLASSES, Architecture
from plrc.files import written_whole
from plrc.pretrained import CheckpointError, load
from plrc.pretrained.build import arch_of
from plrc.pretrained.export import export
from plrc.pretrained.formats import find
from plrc.pretrained.loading import run_checkpoint
from plrc.pretrained.names import DETECTRON2 as BACKBONE
from plrc.pretrained.reading import read

DETECTRON2 = "Detectron2"
LOADABLE = (
    "known are R-CNNs trained as MoCo's recipe says, C4 with the norm of Res5ROIHeadsExtraNorm after res5, or FPN with "
    "norms in the pyramid, saved with all of their tensors"
)
_ASSUMED = "taken as RGB, normalised as ImageNet is, with the stride in the 3×3 convolutions"
_RPN, _ROI = "proposal_generator.rpn_head", "roi_heads"
_SCORES = f"{_ROI}.box_predictor.cls_score.weight"
_PIXELS = ("pixel_mean", "pixel_std")
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
_SHOWN = 4  # names in an error
_TORCH = (".pth", ".pt")
_DATA_SETS = {
    VOC_CLASSES: ("voc_2007_trainval, voc_2012_trainval", "voc_2007_test"),
    COCO_CLASSES: ("coco_2017_train", "coco_2017_val"),
}

# Modules here → in Detectron2, but for the backbone's (``plrc.pretrained.names``).
_MODULES = {
    "box_norm": f"{_ROI}.res5.norm",  # MoCo's, of C4
    "rpn.head.conv.0.0": f"{_RPN}.conv",
    "rpn.head.cls_logits": f"{_RPN}.objectness_logits",
    "rpn.head.bbox_pred": f"{_RPN}.anchor_deltas",
    "box_head.fc6": f"{_ROI}.box_head.fc1",
    "box_head.fc7": f"{_ROI}.box_head.fc2",
    "box_head.5": f"{_ROI}.box_head.fc1",  # of a normalised head
    "box_predictor.cls_score": f"{_ROI}.box_predictor.cls_score",
    "box_predictor.bbox_pred": f"{_ROI}.box_predictor.bbox_pred",
    "mask_predictor.conv5_mask": f"{_ROI}.mask_head.deconv",
    "mask_predictor.mask_fcn_logits": f"{_ROI}.mask_head.predictor",
}
for _k in range(4):
    for _part, _norm in ((0, ""), (1, ".norm")):
        _MODULES[f"neck.inner_blocks.{_k}.{_part}"] = f"backbone.fpn_lateral{_k + 2}{_norm}"
        _MODULES[f"neck.layer_blocks.{_k}.{_part}"] = f"backbone.fpn_output{_k + 2}{_norm}"
        _MODULES[f"box_head.{_k}.{_part}"] = f"{_ROI}.box_head.conv{_k + 1}{_norm}"
        _MODULES[f"mask_head.{_k}.{_part}"] = f"{_ROI}.mask_head.mask_fcn{_k + 1}{_norm}"


def to_detectron2(name: str, neck: str) -> str | None:
    """Detectron2's name of a tensor of a ``Detector`` on a ResNet; None for whatever is not of one."""
    if not name.startswith("backbone."):
        module, _, tensor = name.rpartition(".")
        return f"{_MODULES[module]}.{tensor}" if module in _MODULES else None
    theirs = BACKBONE.from_torchvision(name.removeprefix("backbone."))
    if theirs is None or neck == "fpn":
        return theirs and f"backbone.bottom_up.{theirs}"
    return f"{_ROI}.{theirs}" if theirs.startswith("res5.") else f"backbone.{theirs}"


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, eq=False)
class LoadedDetector:
    """A detector, fp32, on the CPU and in evaluation mode.

    Attributes:
        category_ids: K, the number of label k in results. path: the file. format: ``plrc.checkpoint.DETECTOR`` or
            ``DETECTRON2``.
        test_short_side, longest: pixels of the input images in testing: their short side, and at most their long one.
        note: what else is worth knowing: the steps of a run; what had to be assumed.
    """

    detector: Detector
    category_ids: tuple[int, ...]
    test_short_side: int
    longest: int
    path: Path
    format: str
    note: str


def load_detector(
    path: str | Path,
    classes: Sequence[str] = (),
    test_short_side: int | None = None,
    longest: int | None = None,
) -> LoadedDetector:
    """The detector of a file, recognised by its contents; every tensor of the file is accounted for.

    Neither is anything in the file executed nor the global random generator moved.

    Args:
        path: a checkpoint of ``plrc detect train`` or the folder of its run; a fine-tuned Faster or Mask R-CNN of
            Detectron2, C4 or FPN (``.pth`` or ``.pkl``).
        classes: names of a Detectron2 file's classes in the order of labels. Without them 20 are PASCAL VOC's and 80
            are COCO's, as Detectron2 has them. A checkpoint of ours knows its own.
        test_short_side, longest: pixels of the input; the checkpoint's own if not given, 800 and 1333 of Detectron2's.

    Raises:
        CheckpointError: (a ValueError) there is no such file, it is damaged or no detector, a tensor is missing,
            unknown, of the wrong shape or not finite, it is of a BGR model, or its classes are not known.
    """
    file = Path(path)
    if file.is_dir():
        file = run_checkpoint(file)
    elif not file.exists():
        raise CheckpointError(
            f"there is no file or folder {path}: give a run of plrc detect train or a fine-tuned Detectron2 file; of a "
            f"pre-trained network plrc detect train --weights makes a detector"
        )
    content = read(file)
    ours = isinstance(content, dict) and content.get("format") == DETECTOR
    if ours:
        detector, notes = _ours(content, file, classes), [content.get("note"), _after("step", content)]
        notes = [next(filter(None, notes), "")]  # a converted file has a note
    elif tensors := _detectron2_tensors(content):
        names = classes or content.get("classes") or ()  # as _to_detectron2_file writes them beside the tensors
        detector = _from_detectron2(tensors, str(file), tuple(map(str, names)))
        notes = [_after("iteration", content), _ASSUMED]
    else:
        try:
            layout = find(content, str(file)).format
        except CheckpointError:
            raise CheckpointError(
                f"{file} holds no detector that is known here: {LOADABLE}; or give a checkpoint of plrc detect train"
            ) from None
        raise CheckpointError(
            f"{file} is no detector: it holds a pre-trained backbone ({layout}); make a detector of it by "
            f"plrc detect train --weights {file}"
        )
    labels = detector.architecture.classes
    numbers = COCO_CATEGORIES if labels == COCO_CLASSES else range(1, len(labels) + 1)
    return LoadedDetector(
        detector,
        tuple(content.get("category_ids") or numbers),
        test_short_side or content.get("test_short_side", 800),
        longest or content.get("longest", 1333),  # Detectron2's defaults
        file,
        DETECTOR if ours else DETECTRON2,
        "; ".join(filter(None, notes)),
    )


def architecture_of(content: Mapping[str, Any]) -> Architecture:
    """What a checkpoint of ours is of; until 0.1 it called that its design."""
    return Architecture.from_dict(content.get("architecture") or content["design"])


def load_tensors(
    architecture: Architecture,
    tensors: Mapping[str, Any],
    file: str,
    spelled: Callable[[str], str] = str,
    remedy: str = "save it anew where it comes from, with all of its tensors",
) -> Detector:
    """A detector in evaluation mode with all of its tensors from ``tensors``; BatchNorm's counters may be missing.

    The global random generator is not moved.

    Args:
        tensors: by their names in the file. spelled: our name of a tensor → its name there.
        file, remedy: for errors, their beginning and their end.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or kind, or not finite.
    """
    with torch.random.fork_rng(devices=[]):
        detector = Detector(architecture).eval()
    wanted = detector.state_dict()
    there = {name: spelled(name) for name in wanted}
    faults = []
    counter = "num_batches_tracked"
    if missing := [name for name in there.values() if name not in tensors and not name.endswith(counter)]:
        faults.append(f"lacks {_listed(missing)}")
    if unknown := [name for name in tensors if name not in there.values()]:
        faults.append(f"has {_listed(unknown)}, which such a detector has not")
    state = {name: tensors[theirs] for name, theirs in there.items() if theirs in tensors}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.shape != wanted[name].shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            faults.append(f"has {there[name]} of shape {shape} instead of {tuple(wanted[name].shape)}")
        elif wanted[name].is_floating_point() and not value.is_floating_point():
            faults.append(f"has no floating-point numbers in {there[name]}")
        elif not torch.isfinite(value).all():
            faults.append(f"has infinite or undefined values in {there[name]}")
    if faults:
        more = f" (and {len(faults) - _SHOWN} more faults)" if len(faults) > _SHOWN else ""
        raise CheckpointError(
            f"{file} has a {architecture}, but not whole: it {'; it '.join(faults[:_SHOWN])}{more}; {remedy}"
        )
    detector.load_state_dict({**wanted, **state})
    return detector


def _ours(content: Mapping[str, Any], file: Path, classes: Sequence[str]) -> Detector:
    if content["version"] > VERSION:
        raise CheckpointError(
            f"{file} was written by a newer version of PLRC (layout {content['version']}, known is {VERSION}): "
            "update plrc"
        )
    try:
        architecture = architecture_of(content)
        model = with_new_names(dict(content))["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is a detector of ours, but its architecture or its model cannot be read ({error}): save it anew"
        ) from error
    if classes and tuple(classes) != architecture.classes:
        raise CheckpointError(f"{file} knows its classes, {', '.join(architecture.classes)}: leave other names out")
    return load_tensors(architecture, model, str(file))


def _detectron2_tensors(content: object) -> dict[str, Any]:
    """What stands in the place of Detectron2's tensors, by name; nothing where there is no box predictor.

    They lie under ``model`` or at the top; the ``module.`` of a data-parallel model is taken off.
    """
    for place in (content.get("model"), content) if isinstance(content, dict) else ():
        if isinstance(place, dict):
            named = {str(name).removeprefix("module."): value for name, value in place.items()}
            if any(name.startswith(f"{_ROI}.box_predictor.") for name in named):
                # At the top there are entries of other kinds beside them.
                return {n: v for n, v in named.items() if place is not content or "." in n or n in _PIXELS}
    return {}


def _from_detectron2(tensors: Mapping[str, Any], file: str, classes: tuple[str, ...]) -> Detector:
    neck = "fpn" if any(name.startswith(("backbone.bottom_up.", "backbone.fpn_")) for name in tensors) else "c4"

    def spelled(name: str) -> str:
        return to_detectron2(name, neck) or name

    constants = {name: value for name, value in tensors.items() if name in _PIXELS or name.startswith(_ANCHORS)}
    # A pickle of arrays has BatchNorm's counters as plain numbers.
    weights = {n: torch.tensor(v) if isinstance(v, int) else v for n, v in tensors.items() if n not in constants}
    backbone = {BACKBONE.to_torchvision(name): v for name, v in weights.items() if isinstance(v, Tensor)}
    known = {name: v for name, v in backbone.items() if name and spelled(f"backbone.{name}") in weights}
    architecture = Architecture(
        arch=arch_of(known, file),
        neck=neck,
        classes=_class_names(weights.get(_SCORES), classes, file),
        masks=any(name.startswith(f"{_ROI}.mask_head.") for name in weights),
        head_norm=neck == "fpn" and any(name.startswith(f"{_ROI}.box_head.conv") for name in weights),
    )
    detector = load_tensors(architecture, weights, file, spelled, LOADABLE)
    _check_constants(constants, detector, file)
    return detector


def _class_names(scores: object, names: tuple[str, ...], file: str) -> tuple[str, ...]:
    """A name for each row of the classifier but the last, the background's."""
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) < 2:
        raise CheckpointError(f"{file} lacks {_SCORES} with a row for each class and the background: save it anew")
    count = len(scores) - 1
    if not names:
        known = {len(classes): classes for classes in _DATA_SETS}
        if count not in known:
            raise CheckpointError(
                f"{file} has {count} classes and does not say which: give their names, in the order of its labels"
            )
        return known[count]
    if len(names) != count:
        raise CheckpointError(f"{file} has {count} classes, and {len(names)} names are given: give one for each")
    return names


def _check_constants(constants: Mapping[str, Any], detector: Detector, file: str) -> None:
    """What may lie beside the weights and is a constant here must have our values."""
    ours = {"pixel_mean": torch.tensor(MEAN), "pixel_std": torch.tensor(STD)}
    ours |= {f"{_ANCHORS}{level}": cells for level, cells in enumerate(detector.rpn.cells)}
    for name, value in constants.items():
        found = value.flatten().float() if isinstance(value, Tensor) else torch.empty(0)
        wanted = ours.get(name, torch.empty(1)).flatten()
        if found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-3, atol=1e-3):
            continue
        if name.startswith(_ANCHORS):
            sizes = ", ".join(str(round(size)) for of_level in detector.rpn.sizes for size in of_level)
            kind = f"has other anchors ({name}) than those of sizes {sizes} in ratios {RATIOS}"
        elif name == "pixel_mean" and torch.allclose(found.flip(0), wanted, rtol=1e-3):
            kind = "is of a BGR model, as its pixel_mean says"
        else:
            shown = [round(v, 3) for v in found.tolist()]
            kind = f"has {name} {shown} instead of {[round(v, 3) for v in wanted.tolist()]} in the order RGB"
        raise CheckpointError(
            f"{file} {kind}: its weights would not do here what they do there; train one with the settings of MoCo's "
            "recipe"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _after(what: str, content: Mapping[str, Any]) -> str:
    return f"{what} {content[what]}" if isinstance(content.get(what), int) else ""


# ---------------------------------------------------------------------------------------------------------- conversion


def detect_convert(query: DetectConvert) -> list[str]:
    """``plrc detect convert``: a detector to Detectron2 or back, or a pre-trained backbone to Detectron2.

    Tensors keep their values bit for bit. Beside a file for Detectron2 stands the configuration (``.yaml``) that builds
    exactly that model, of a backbone that of a recipe. A detector of Detectron2's becomes a checkpoint of ours that can
    be tested, but not trained further.

    Returns:
        Lines to print.

    Raises:
        ValueError: a model that Detectron2 cannot build, a wrong suffix, the input itself as output, or a file that
            cannot be read or written.
    """
    source, file = Path(query.checkpoint), Path(query.out)
    of_backbone = query.to == "detectron2" and file.suffix.lower() == ".pkl"
    if of_backbone and query.classes:
        raise ValueError("--classes would change nothing of a backbone: leave it out")
    if query.recipe and not of_backbone:
        raise ValueError("--recipe is for a backbone, written as .pkl, not for a whole detector: leave it out")
    if of_backbone:
        return _write_backbone(query.checkpoint, file, query.recipe or "voc-c4-24k")
    if not source.exists():  # a name, such as random:resnet50, or nothing at all
        raise ValueError(
            f"{source} is no detector's file, or there is none of that name; a pre-trained backbone is converted "
            "--to detectron2 --out NAME.pkl"
        )
    if file.suffix.lower() not in _TORCH:  # Detectron2 chooses its reader by it
        raise ValueError(f"{file} is no name for a file of tensors: let it end with {' or '.join(_TORCH)}")
    loaded = load_detector(source, query.classes)
    if file.exists() and file.samefile(loaded.path):
        raise ValueError(f"{file} is what is to be converted: give the result another name")
    architecture, model = loaded.detector.architecture, loaded.detector.state_dict()
    facts = {name: getattr(loaded, name) for name in ("category_ids", "test_short_side", "longest")}
    facts["category_ids"] = list(loaded.category_ids)
    what = f"{file}: {len(model)} tensors of {architecture}, {len(architecture.classes)} classes"
    if query.to == "plrc":
        if loaded.format == DETECTOR:
            raise ValueError(f"{source} is a checkpoint of ours already: use it as it is")
        content = {**facts, "architecture": architecture.to_dict(), "note": loaded.note, "model": model}
        save_checkpoint(file, content, kind=DETECTOR)
        named = "" if query.classes else f" ({', '.join(architecture.classes[:3])}, …)"
        return [what + named, loaded.note, f"to measure it: plrc detect eval {file} --data …"]

    test = f"FORMAT: RGB, MIN_SIZE_TEST: {loaded.test_short_side}, MAX_SIZE_TEST: {loaded.longest}"
    config = f"{_model_config(architecture, file)}INPUT: {{{test}}}\n"
    order = torch.contiguous_format
    theirs = {to_detectron2(n, architecture.neck): t.detach().clone(memory_format=order) for n, t in model.items()}
    content = {"model": theirs, "__author__": "PLRC", **facts, "classes": list(architecture.classes)}
    with written_whole(file) as unfinished:
        torch.save(content, unfinished)
    about = f"Detectron2's configuration of {file.name}, {architecture}, converted from {loaded.path.name} by plrc."
    left = ""
    if architecture.classes not in _DATA_SETS:
        left = "; name your data sets in it"
        about += "\nDATASETS is left to you: register the data with its classes in the order of the labels,"
        about += f"\n{', '.join(architecture.classes)}."
    settings = _write_config(file, architecture, about, config)
    return [
        what,
        f"{settings}: the configuration that builds it{left}",
        f"to measure it, {_script(architecture)} --eval-only --config-file {settings}",
    ]


def _write_backbone(name: str, file: Path, recipe: str) -> list[str]:
    pretrained = load(Path(name) if Path(name).exists() else name)
    c = FinetuneConfig(**{**PRESETS[recipe], "weights": str(file), "train": ("any",), "test": ("any",)})
    architecture = architecture_for(c, pretrained.origin.arch, COCO_CLASSES if "coco" in recipe else VOC_CLASSES)
    # Detectron2 draws each image's short side of a list, flips it every other time, and decays no norms by default.
    config = f"""{_model_config(architecture, file)}\
INPUT:
  FORMAT: RGB
  MIN_SIZE_TRAIN: {list(c.short_sides)}
  MAX_SIZE_TRAIN: {c.longest}
  MIN_SIZE_TEST: {c.test_short_side}
  MAX_SIZE_TEST: {c.longest}
SOLVER:
  IMS_PER_BATCH: {c.batch_size}
  BASE_LR: {c.peak_lr}
  MOMENTUM: {c.momentum}
  WEIGHT_DECAY: {c.weight_decay}
  WEIGHT_DECAY_NORM: 0.0
  STEPS: {list(c.milestones)}
  GAMMA: 0.1
  MAX_ITER: {c.iterations}
  WARMUP_ITERS: {c.warmup}
TEST:
  PRECISE_BN: {{ENABLED: true, NUM_ITER: {c.precise_bn}}}
"""
    lines = [line for line in export(pretrained, "detectron2", file) if line.startswith((str(file), "left out"))]
    about = f"{architecture} from {file.name}, by the recipe {recipe}: Detectron2's configuration, written by plrc."
    about += f"\nThe backbone is {pretrained.origin.name} ({pretrained.origin.format})."
    written = _write_config(file, architecture, about, config)
    train = f"to train it, {_script(architecture)} --num-gpus 8 --config-file {written}"
    return [*lines, f"{written}: the recipe {recipe}", train]


def architecture_for(config: FinetuneConfig, arch: str, classes: tuple[str, ...]) -> Architecture:
    """The detector that a configuration asks for."""
    same = {name: getattr(config, name) for name in ("neck", "masks", "head_norm", "roi_per_image")}
    return Architecture(arch=arch, classes=classes, **same)


def _model_config(architecture: Architecture, weights: Path) -> str:
    """The YAML that makes Detectron2 build ``Detector(architecture)``: what its own defaults have otherwise."""
    is_c4, count = architecture.neck == "c4", len(architecture.classes)
    found = re.fullmatch(r"resnet(18|34|50|101|152)", architecture.arch)
    if found is None:
        raise ValueError(f"Detectron2 has no {architecture.arch}: take a detector on a ResNet")
    depth = int(found[1])
    if is_c4 and depth < 50:
        raise ValueError(
            f"Detectron2 has no {architecture.arch}-C4, because its C4 head is made of bottlenecks: take a feature "
            "pyramid, or resnet50 or resnet101"
        )
    (before, after), (test_before, test_after) = PROPOSALS[architecture.neck]
    stages, pyramid = ("res4", "res4") if is_c4 else ("res2, res3, res4, res5", "p2, p3, p4, p5")
    text = f"""\
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: {json.dumps(str(weights.absolute()))}
  MASK_ON: {str(architecture.masks).lower()}
  PIXEL_MEAN: {list(MEAN)}
  PIXEL_STD: {list(STD)}
  BACKBONE: {{NAME: build_resnet{"" if is_c4 else "_fpn"}_backbone, FREEZE_AT: 0}}
  RESNETS:
    DEPTH: {depth}{"" if depth >= 50 else f"{chr(10)}    RES2_OUT_CHANNELS: 64"}
    NORM: SyncBN
    STRIDE_IN_1X1: false
    OUT_FEATURES: [{stages}]
  ANCHOR_GENERATOR:
    SIZES: {[list(C4_SIZES)] if is_c4 else [[FPN_SIZE * stride] for stride in (4, 8, 16, 32, 64)]}
    ASPECT_RATIOS: [{list(RATIOS)}]
  RPN:
    IN_FEATURES: [{pyramid}{"" if is_c4 else ", p6"}]
    PRE_NMS_TOPK_TRAIN: {before}
    PRE_NMS_TOPK_TEST: {test_before}
    POST_NMS_TOPK_TRAIN: {after}
    POST_NMS_TOPK_TEST: {test_after}
  ROI_HEADS:
    NAME: {"Res5ROIHeadsExtraNorm" if is_c4 else "StandardROIHeads"}
    IN_FEATURES: [{pyramid}]
    NUM_CLASSES: {count}
    BATCH_SIZE_PER_IMAGE: {architecture.roi_per_image}
"""
    if not is_c4:
        norm, layers = ('"SyncBN"', (4, 1)) if architecture.head_norm else ('""', (0, 2))
        head = "NAME: FastRCNNConvFCHead, POOLER_RESOLUTION: 7, NUM_CONV: {}, NUM_FC: {}".format(*layers)
        text += f"""\
  FPN: {{IN_FEATURES: [{stages}], OUT_CHANNELS: {FPN_CHANNELS}, NORM: SyncBN}}
  ROI_BOX_HEAD: {{{head}, NORM: {norm}}}
"""
        if architecture.masks:
            head = "NAME: MaskRCNNConvUpsampleHead, POOLER_RESOLUTION: 14, NUM_CONV: 4"
            text += f"  ROI_MASK_HEAD: {{{head}, NORM: {norm}}}\n"
    if architecture.classes in _DATA_SETS:
        text += "DATASETS: {{TRAIN: [{}], TEST: [{}]}}\n".format(*_DATA_SETS[architecture.classes])
    return text


def _write_config(file: Path, architecture: Architecture, about: str, config: str) -> Path:
    if architecture.neck == "c4":
        about += """
Res5ROIHeadsExtraNorm is a class of MoCo's, not of Detectron2's own: detection/train_net.py of
https://github.com/facebookresearch/moco registers it. Start that script with this file."""
    settings = file.with_suffix(".yaml")
    with written_whole(settings) as unfinished:
        unfinished.write_text("".join(f"# {line}\n" for line in about.splitlines()) + config)
    return settings


def _script(architecture: Architecture) -> str:
    folder = "MoCo's detection/" if architecture.neck == "c4" else "Detectron2's tools/"
    return f"in {folder}: python train_net.py"
