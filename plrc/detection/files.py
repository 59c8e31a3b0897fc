"""Detectors as files: ours and Detectron2's, read all or nothing, and written for the other side.

Between Detectron2 and here only names are translated: what a tensor holds is the same in both, because the detector
orders anchors and classes as Detectron2 does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import FCN_ResNet50_Weights

from plrc.checkpoint import DETECTOR, load_checkpoint, save_checkpoint
from plrc.detection.config import PRESETS, DetectConvert, FinetuneConfig
from plrc.detection.detector import C4_SIZES, FPN_CHANNELS, FPN_SIZE, MEAN, PROPOSALS, STD, Architecture, Detector
from plrc.detection.stages import RATIOS
from plrc.files import written_whole
from plrc.pretrained import CheckpointError, load
from plrc.pretrained.export import export
from plrc.pretrained.formats import DETECTRON2 as BACKBONE
from plrc.pretrained.formats import arch_of, find
from plrc.pretrained.loading import faults_of, run_checkpoint
from plrc.pretrained.reading import read
from plrc.registry import did_you_mean

VOC_CLASSES = tuple(FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"][1:])
_NAMES = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
COCO_CATEGORIES = {number: name for number, name in enumerate(_NAMES) if name not in ("__background__", "N/A")}
"""COCO's, number → name: 80 of 90 numbers, in their order."""
COCO_CLASSES = tuple(COCO_CATEGORIES.values())
_DATA_SETS = {
    VOC_CLASSES: (["voc_2007_trainval", "voc_2012_trainval"], ["voc_2007_test"]),
    COCO_CLASSES: (["coco_2017_train"], ["coco_2017_val"]),
}

DETECTRON2 = "Detectron2"
LOADABLE = (
    "known are R-CNNs trained as MoCo's recipe says, C4 with the norm of Res5ROIHeadsExtraNorm after res5, or FPN with "
    "norms in the pyramid, saved with all of their tensors"
)
_ASSUMED = "taken as RGB, normalised as ImageNet is, with the stride in the 3×3 convolutions"
_RPN, _ROI = "proposal_generator.rpn_head", "roi_heads"
_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."

# Modules here → in Detectron2, but for the backbone's (``plrc.pretrained.formats``).
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


class LoadedDetector(NamedTuple):
    """A detector, fp32, on the CPU and in evaluation mode.

    category_ids: K, the number of label k in results. test_short_side, longest: of the input in testing, pixels, the
    second at most. format: ``plrc.checkpoint.DETECTOR`` or ``DETECTRON2``. note: a run's steps; what had to be assumed.
    """

    detector: Detector
    category_ids: tuple[int, ...]
    test_short_side: int
    longest: int
    path: Path
    format: str
    note: str


def load_detector(
    path: str | Path, classes: Sequence[str] = (), test_short_side: int | None = None, longest: int | None = None
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
        ValueError: there is no such file, it is damaged or no detector, a tensor is missing, unknown, of the wrong
            shape or not finite, it is of a BGR model, or its classes are not known.
    """
    file = Path(path)
    if not file.exists():
        wanted = "a run of plrc detect train, or a fine-tuned Detectron2 file"
        near = did_you_mean(str(path), file=True) or f": give {wanted}; a backbone is given to plrc detect train"
        raise CheckpointError(f"there is no file or folder {path}{near}")
    file = run_checkpoint(file) if file.is_dir() else file
    content = read(file)
    ours = isinstance(content, dict) and content.get("format") == DETECTOR
    if ours:
        content = load_checkpoint(file, DETECTOR)
        architecture = architecture_of(content)
        if classes and tuple(classes) != architecture.classes:
            raise CheckpointError(f"{file} knows its classes, {', '.join(architecture.classes)}: leave other names out")
        detector = load_tensors(architecture, content["model"], str(file))
        note = content.get("note") or f"step {content['step']}"  # a converted file has a note
    elif tensors := _detectron2_tensors(content):
        # plrc writes them beside the tensors
        detector = _from_detectron2(tensors, str(file), tuple(classes or content.get("classes", ())))
        after = f"iteration {content['iteration']}; " if isinstance(content.get("iteration"), int) else ""
        note = after + _ASSUMED
    else:
        try:
            what = f"a pre-trained backbone ({find(content, str(file)).format}): see plrc detect train --weights"
        except CheckpointError:
            what = f"nothing that is known here: {LOADABLE}; or give a checkpoint of plrc detect train"
        raise CheckpointError(f"{file} is no detector, it holds {what}")
    labels = detector.architecture.classes
    numbers = COCO_CATEGORIES if labels == COCO_CLASSES else range(1, len(labels) + 1)
    sides = test_short_side or content.get("test_short_side", 800), longest or content.get("longest", 1333)
    ids = tuple(content.get("category_ids") or numbers)
    return LoadedDetector(detector, ids, *sides, file, DETECTOR if ours else DETECTRON2, note)


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

    tensors: by their names in the file. spelled: our name of a tensor → its name there. The global random generator is
    not moved. Raises a CheckpointError that begins with ``file``, ends with ``remedy`` and says which tensors are
    missing, unknown, of the wrong shape or kind, or not finite.
    """
    with torch.random.fork_rng(devices=[]):
        detector = Detector(architecture).eval()
    wanted = detector.state_dict()
    if faults := faults_of(tensors, {spelled(name): like for name, like in wanted.items()}):
        raise CheckpointError(f"{file} has a {architecture}, but not whole: {faults}; {remedy}")
    detector.load_state_dict({name: tensors.get(spelled(name), like) for name, like in wanted.items()})
    return detector


def _detectron2_tensors(content: object) -> dict[str, Any]:
    """Detectron2's tensors by name, under ``model`` or at the top; none where there is no box predictor."""
    for place in (content.get("model"), content) if isinstance(content, dict) else ():
        if isinstance(place, dict):
            named = {str(name).removeprefix("module."): value for name, value in place.items()}
            if any(name.startswith(f"{_ROI}.box_predictor.") for name in named):
                # At the top there are entries of other kinds beside them.
                return {n: v for n, v in named.items() if place is not content or "." in n or n.startswith("pixel_")}
    return {}


def _from_detectron2(tensors: Mapping[str, Any], file: str, names: tuple[str, ...]) -> Detector:
    neck = "fpn" if any(name.startswith(("backbone.bottom_up.", "backbone.fpn_")) for name in tensors) else "c4"

    def spelled(name: str) -> str:
        return to_detectron2(name, neck) or name

    constants = {name: value for name, value in tensors.items() if name.startswith(("pixel_", _ANCHORS))}
    # A pickle of arrays has BatchNorm's counters as plain numbers.
    weights = {n: torch.tensor(v) if isinstance(v, int) else v for n, v in tensors.items() if n not in constants}
    backbone = {BACKBONE.to_torchvision(name): v for name, v in weights.items() if isinstance(v, Tensor)}
    known = {name: v for name, v in backbone.items() if name and spelled(f"backbone.{name}") in weights}
    scores = weights.get(f"{_ROI}.box_predictor.cls_score.weight")
    count = len(scores) - 1 if isinstance(scores, Tensor) and scores.ndim == 2 else 0  # the last is the background
    names = names or {len(classes): classes for classes in _DATA_SETS}.get(count, ())
    if len(names) != count or not count:
        raise CheckpointError(
            f"{file} has {count} classes by its box_predictor.cls_score.weight, and {len(names)} names are known: give "
            "one for each, in the order of its labels"
        )
    architecture = Architecture(
        arch=arch_of(known, file),
        neck=neck,
        classes=names,
        masks=any(name.startswith(f"{_ROI}.mask_head.") for name in weights),
        head_norm=neck == "fpn" and any(name.startswith(f"{_ROI}.box_head.conv") for name in weights),
    )
    detector = load_tensors(architecture, weights, file, spelled, LOADABLE)
    # What may lie beside the weights and is a constant here must have our values.
    ours = {"pixel_mean": torch.tensor(MEAN), "pixel_std": torch.tensor(STD)}
    ours |= {f"{_ANCHORS}{level}": cells for level, cells in enumerate(detector.rpn.cells)}
    for name, value in constants.items():
        found, wanted = (torch.as_tensor(x).flatten().float() for x in (value, ours.get(name, ())))
        if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3):
            shown = [[round(number, 3) for number in numbers.tolist()] for numbers in (found, wanted)]
            raise CheckpointError(
                f"{file} has {name} {shown[0]} instead of {shown[1]} (input is RGB, not BGR; anchors are MoCo's): its "
                "weights would not do here what they do there"
            )
    return detector


def detect_convert(query: DetectConvert) -> list[str]:
    """``plrc detect convert``: a detector to Detectron2 or back, or a pre-trained backbone to Detectron2.

    Tensors keep their values bit for bit. Beside a file for Detectron2 stands the configuration (``.yaml``) that builds
    exactly that model, of a backbone that of a recipe. A detector of Detectron2's becomes a checkpoint of ours that can
    be tested, but not trained further. Returns lines to print; raises a ValueError about a model that Detectron2 cannot
    build, a wrong suffix, the input itself as output, or a file that cannot be read or written.
    """
    file = Path(query.out)
    of_backbone = query.to == "detectron2" and file.suffix.lower() == ".pkl"
    if (of_backbone and query.classes) or (query.recipe and not of_backbone):
        raise ValueError("--classes are a detector's, --recipe is for a backbone, to a .pkl: leave out what is not")
    if of_backbone:
        return _write_backbone(query.checkpoint, file, query.recipe or "voc-c4-24k")
    if file.suffix.lower() not in (".pth", ".pt"):  # Detectron2 chooses its reader by it
        raise ValueError(f"{file} is no name for a file of tensors: let it end with .pth or .pt")
    loaded = load_detector(query.checkpoint, query.classes)
    if file.exists() and file.samefile(loaded.path):
        raise ValueError(f"{file} is what is to be converted: give the result another name")
    architecture, model = loaded.detector.architecture, loaded.detector.state_dict()
    sides = {"test_short_side": loaded.test_short_side, "longest": loaded.longest}
    facts = {"category_ids": list(loaded.category_ids), **sides}
    what = f"{file}: {len(model)} tensors of {architecture}, {len(architecture.classes)} classes"
    if query.to == "plrc":
        if loaded.format == DETECTOR:
            raise ValueError(f"{query.checkpoint} is a checkpoint of ours already: use it as it is")
        content = {**facts, "architecture": architecture.to_dict(), "note": loaded.note, "model": model}
        save_checkpoint(file, content, kind=DETECTOR)
        named = "" if query.classes else f" ({', '.join(architecture.classes[:3])}, …)"
        return [what + named, loaded.note, f"to measure it: plrc detect eval {file} --data …"]

    settings = _settings(architecture, file)
    settings["INPUT"] = {"FORMAT": "RGB", "MIN_SIZE_TEST": loaded.test_short_side, "MAX_SIZE_TEST": loaded.longest}
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
    written, script = _write_settings(file, about, settings)
    built = f"{written}: the configuration that builds it{left}"
    return [what, built, f"to measure it, {script} --eval-only --config-file {written}"]


def _write_backbone(name: str, file: Path, recipe: str) -> list[str]:
    pretrained = load(Path(name) if Path(name).exists() else name)
    c = FinetuneConfig(**{**PRESETS[recipe], "weights": str(file), "train": ("any",), "test": ("any",)})
    architecture = architecture_for(c, pretrained.origin.arch, COCO_CLASSES if "coco" in recipe else VOC_CLASSES)
    settings = _settings(architecture, file)
    # Detectron2 draws each image's short side of a list, flips it every other time, and decays no norms by default.
    train = {"MIN_SIZE_TRAIN": list(c.short_sides), "MAX_SIZE_TRAIN": c.longest}
    settings["INPUT"] = {"FORMAT": "RGB", **train, "MIN_SIZE_TEST": c.test_short_side, "MAX_SIZE_TEST": c.longest}
    sgd = {"IMS_PER_BATCH": c.batch_size, "BASE_LR": c.peak_lr, "MOMENTUM": c.momentum, "WEIGHT_DECAY": c.weight_decay}
    steps = {"STEPS": list(c.milestones), "GAMMA": 0.1, "MAX_ITER": c.iterations, "WARMUP_ITERS": c.warmup}
    settings["SOLVER"] = {**sgd, "WEIGHT_DECAY_NORM": 0.0, **steps}
    settings["TEST"] = {"PRECISE_BN": {"ENABLED": True, "NUM_ITER": c.precise_bn}}
    lines = [line for line in export(pretrained, "detectron2", file) if line.startswith((str(file), "left out"))]
    about = f"{architecture} from {file.name}, by the recipe {recipe}: Detectron2's configuration, written by plrc."
    about += f"\nThe backbone is {pretrained.origin.name} ({pretrained.origin.format})."
    written, script = _write_settings(file, about, settings)
    train_it = f"to train it, {script} --num-gpus 8 --config-file {written}"
    return [*lines, f"{written}: the recipe {recipe}", train_it]


def architecture_for(config: FinetuneConfig, arch: str, classes: tuple[str, ...]) -> Architecture:
    """The detector that a configuration asks for."""
    same = {name: getattr(config, name) for name in ("neck", "masks", "head_norm", "roi_per_image")}
    return Architecture(arch=arch, classes=classes, **same)


def _settings(architecture: Architecture, weights: Path) -> dict[str, Any]:
    """What makes Detectron2 build ``Detector(architecture)``, where its own defaults are otherwise."""
    c4, found = architecture.neck == "c4", re.fullmatch(r"resnet(18|34|50|101|152)", architecture.arch)
    depth = int(found[1]) if found else 0
    if depth < (50 if c4 else 18):  # the C4 head is made of bottlenecks
        what = f"Detectron2 has no {architecture.arch}-{architecture.neck.upper()}"
        raise ValueError(f"{what}: take a feature pyramid on a ResNet, or C4 on resnet50 or resnet101")
    limits = dict(zip(("TRAIN", "TEST"), PROPOSALS[architecture.neck], strict=True))
    stages, levels = (["res4"], ["res4"]) if c4 else ([f"res{i}" for i in range(2, 6)], [f"p{i}" for i in range(2, 6)])
    model: dict[str, Any] = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHTS": str(weights.absolute()),
        "MASK_ON": architecture.masks,
        "PIXEL_MEAN": list(MEAN),
        "PIXEL_STD": list(STD),
        "BACKBONE": {"NAME": f"build_resnet{'' if c4 else '_fpn'}_backbone", "FREEZE_AT": 0},
        "RESNETS": {"DEPTH": depth, "NORM": "SyncBN", "STRIDE_IN_1X1": False, "OUT_FEATURES": stages},
        "ANCHOR_GENERATOR": {
            "SIZES": [list(C4_SIZES)] if c4 else [[FPN_SIZE * stride] for stride in (4, 8, 16, 32, 64)],
            "ASPECT_RATIOS": [list(RATIOS)],
        },
        "RPN": {
            "IN_FEATURES": levels if c4 else [*levels, "p6"],
            **{f"PRE_NMS_TOPK_{mode}": before for mode, (before, _) in limits.items()},
            **{f"POST_NMS_TOPK_{mode}": after for mode, (_, after) in limits.items()},
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeadsExtraNorm" if c4 else "StandardROIHeads",
            "IN_FEATURES": levels,
            "NUM_CLASSES": len(architecture.classes),
            "BATCH_SIZE_PER_IMAGE": architecture.roi_per_image,
        },
    }
    if 0 < depth < 50:
        model["RESNETS"] |= {"RES2_OUT_CHANNELS": 64}
    if not c4:
        norm, convolutions, linear = ("SyncBN", 4, 1) if architecture.head_norm else ("", 0, 2)
        head = {"NAME": "FastRCNNConvFCHead", "POOLER_RESOLUTION": 7, "NUM_CONV": convolutions, "NUM_FC": linear}
        model["FPN"] = {"IN_FEATURES": stages, "OUT_CHANNELS": FPN_CHANNELS, "NORM": "SyncBN"}
        model["ROI_BOX_HEAD"] = {**head, "NORM": norm}
        if architecture.masks:
            head = {"NAME": "MaskRCNNConvUpsampleHead", "POOLER_RESOLUTION": 14, "NUM_CONV": 4}
            model["ROI_MASK_HEAD"] = {**head, "NORM": norm}
    settings: dict[str, Any] = {"VERSION": 2, "MODEL": model}
    if architecture.classes in _DATA_SETS:
        settings["DATASETS"] = dict(zip(("TRAIN", "TEST"), _DATA_SETS[architecture.classes], strict=True))
    return settings


def _write_settings(weights: Path, about: str, settings: dict[str, Any]) -> tuple[Path, str]:
    """The file that is written beside the weights, and the command that takes it."""
    folder = "Detectron2's tools/"
    if "FPN" not in settings["MODEL"]:
        folder = "MoCo's detection/"
        about += """
Res5ROIHeadsExtraNorm is a class of MoCo's, not of Detectron2's own: detection/train_net.py of
https://github.com/facebookresearch/moco registers it. Start that script with this file."""
    own = json.loads(json.dumps(settings))  # lists that occur twice would become YAML's anchors
    text = yaml.safe_dump(own, sort_keys=False, default_flow_style=None, width=120)
    with written_whole(weights.with_suffix(".yaml")) as unfinished:
        unfinished.write_text("".join(f"# {line}\n" for line in about.splitlines()) + text)
    return weights.with_suffix(".yaml"), f"in {folder}: python train_net.py"
