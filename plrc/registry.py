"""What can be extended, and by which line: every loss, region source, score, backbone and data layout by its name.

An extension is one file of its own and one ``add`` line here. The line names the implementation as ``module:name``, so
that this page needs no torch: command lines and the app list what there is without loading it. A test, or a script of
one's own, may add the object itself.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

_BESIDE = 10_000  # files that a mistyped one is compared with: a tenth of a second


@dataclass(frozen=True)
class Entry:
    """One registered thing.

    Attributes:
        target: the implementation, or where it is: ``module:name``. help: for ``--help`` and the app, a short phrase.
        traits: what may be known of it before it is loaded; which ones, each registry says.
    """

    target: Any
    help: str
    traits: Mapping[str, Any]

    def load(self) -> Any:
        """The implementation; imported on first use."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        return getattr(import_module(module), name)


def did_you_mean(name: str, known: Iterable[str] = (), file: bool = False) -> str:
    """The end of a message about an unknown name; nothing where no known one is near.

    file: it may be a path, too: what lies beside the first part of it that is missing is known.
    """
    near = difflib.get_close_matches(name, known, n=1)
    if file and not near:
        missing = Path(os.path.expanduser(name))
        while not missing.parent.is_dir():
            missing = missing.parent
        with suppress(OSError):
            beside = (e.name for e in islice(missing.parent.iterdir(), _BESIDE) if e != missing)  # a link to nothing
            rest = Path(os.path.expanduser(name)).relative_to(missing)
            found = difflib.get_close_matches(missing.name, beside, n=1, cutoff=0.75)  # the suffix alone is much alike
            near = [str(missing.with_name(name) / rest) for name in found]
    return f"; did you mean {near[0]!r}?" if near else ""


class Registry(dict[str, Entry]):
    """Name → entry, in the order in which they are listed everywhere."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, target: Any, help: str, **traits: Any) -> None:
        """Register ``name``. Raises a ValueError if the name is taken."""
        if name in self:
            raise ValueError(f"there is a {self.kind} {name!r} already: choose another name")
        self[name] = Entry(target, help, traits)

    def helps(self) -> str:
        """What is registered, for help texts and errors."""
        return "; ".join(entry.help for entry in self.values())

    def __missing__(self, name: str) -> Entry:
        near = "; several stand apart by spaces" if "," in name else did_you_mean(name, self)
        raise ValueError(f"unknown {self.kind} {name!r}: choose one of {', '.join(self)}{near}")


LOSSES = Registry("loss")
"""Terms of the total loss: functions of a ``plrc.losses.Direction``. Traits: ``weight``, the default, 0 for a loss that
is left out unless asked for; ``source`` of that default; ``own_keys``, True for a loss that needs the key encoder's map
of the queries' own view, which costs a third forward."""

_code = "released code"
LOSSES.add("image", "plrc.losses:image", "MoCo's image contrast", weight=0.7, source=_code)
LOSSES.add("point", "plrc.losses:point", "point-level region contrast", weight=0.3, source=_code)
LOSSES.add("affinity", "plrc.losses:affinity", "affinity distillation", weight=0.3, source=_code, own_keys=True)
LOSSES.add("region", "plrc.losses:region", "contrast of pooled regions, DetCon's, to compare with", weight=0.0)

REGIONS = Registry("region source")
"""What ``--regions NAME:ARGUMENT`` may say: a class that is made from the argument and the name of what the images come
from (``plrc.regions.RegionMaps``). Traits: ``argument``, what stands behind the colon, for help; ``examples``, whole
specifications to choose from in the app."""

_grids, _superpixels = [f"grid:{n}" for n in range(2, 9)], ["superpixels:8", "superpixels:16", "superpixels:36"]
REGIONS.add("grid", "plrc.regions:GridRegions", "N × N equal rectangles", argument="N", examples=_grids)
REGIONS.add("superpixels", "plrc.regions:SuperpixelRegions", "K superpixels", argument="K", examples=_superpixels)
REGIONS.add("masks", "plrc.regions:MaskRegions", "a label PNG for each image", argument="DIR")


def region_specs(*others: str) -> str:
    """What ``--regions`` may say, for help and errors: "grid:N, superpixels:K or masks:DIR", with further ones."""
    *first, last = [*(f"{name}:{source.traits['argument']}" for name, source in REGIONS.items()), *others]
    return f"{', '.join(first)} or {last}"


def region_examples() -> list[str]:
    """Region maps to choose from without a folder of one's own."""
    return [example for source in REGIONS.values() for example in source.traits.get("examples", ())]


SCORES = Registry("score")
"""Measures of ``plrc score``, in the order of its rows. Each is a function of a ``plrc.analysis.scores.ScoredImage``
that returns a value for each of its descriptors and, last, the one by chance, or a text: why this image has none. One
that needs more than one image is a class, see ``plrc.analysis.scores.table``. Traits: ``title``, of its
row; ``needs``, what must be known of an image: "masks", "objects" (or boxes), "keypoints", "classes"; nothing: "".
"""
SCORES.add("auc", "plrc.analysis.scores.objects:auc", "objects, by masks", title="distance-matched AUC", needs="masks")
SCORES.add("iou", "plrc.analysis.scores.objects:MaskIoU", "one threshold", title="mask IoU", needs="masks")
SCORES.add("corloc", "plrc.analysis.scores.objects:CorLoc", "boxes found", title="CorLoc", needs="objects")
_nearest = "plrc.analysis.scores.objects:region_purity"
SCORES.add("purity", _nearest, "nearest cells", title="region purity", needs="objects")
_probe = "plrc.analysis.scores.probe:LinearProbe"
SCORES.add("probe", _probe, "foreground, learnt", title="linear probe AUC", needs="masks")
SCORES.add("pck", "plrc.analysis.scores.matching:PCK", "keypoints found again", title="PCK", needs="keypoints")
SCORES.add("knn", "plrc.analysis.scores.matching:NearestNeighbours", "classes", title="k-NN", needs="classes")
SCORES.add("views", "plrc.analysis.scores.matching:views", "two views of an image", title="view match")


class _Backbones(Registry):
    def __missing__(self, name: str) -> Entry:
        prefix = f"{name.partition(':')[0]}:"
        if prefix in self:
            return self[prefix]
        if find_spec("timm") is not None and import_module("timm").is_model(name.partition(".")[0]):
            return self["timm:"]
        return super().__missing__(name)


BACKBONES = _Backbones("backbone")
"""What ``--arch`` may say. An entry is called with the name and returns a ``plrc.backbones.Backbone``. An entry whose
name ends with a colon takes all names that begin so; ``timm:`` may be left out (``convnext_atto``). Traits: ``form``,
the residual blocks by which a checkpoint's tensors are recognised; ``c4``: it has a last stage of its own, which can be
a C4 detector's head."""
_FORMS = {
    "resnet18": "2-2-2-2 basic blocks of 64",
    "resnet34": "3-4-6-3 basic blocks of 64",
    "resnet50": "3-4-6-3 bottlenecks of 64",
    "resnet101": "3-4-23-3 bottlenecks of 64",
    "resnet152": "3-8-36-3 bottlenecks of 64",
    "wide_resnet50_2": "3-4-6-3 bottlenecks of 128",
    "wide_resnet101_2": "3-4-23-3 bottlenecks of 128",
    "resnext50_32x4d": "3-4-6-3 bottlenecks of 128 in 32 groups",
    "resnext101_32x8d": "3-4-23-3 bottlenecks of 256 in 32 groups",
    "resnext101_64x4d": "3-4-23-3 bottlenecks of 256 in 64 groups",
}
BACKBONES.add("tiny", "plrc.backbones:Tiny", "1 M parameters, stride 8", form="1-4 basic blocks of 64")
for _name, _form in _FORMS.items():
    BACKBONES.add(_name, "plrc.backbones:ResNet", f"torchvision's, {_form}", form=_form, c4=True)
BACKBONES.add("timm:", "plrc.backbones:Timm", "any model of timm that gives maps: timm:convnext_atto, …")

LAYOUTS = Registry("data layout")
"""Data sets on disk, in the order in which a folder is tried. Each is a function of a path that gives a
``plrc.data.sources.Source``, or None where the path holds another layout; ``help`` says what it looks for. Trait:
``last``: it takes folders of any kind, and is tried after all others."""

LAYOUTS.add("coco", "plrc.data.coco:open_coco", "annotations/instances_*.json (COCO)")
LAYOUTS.add("voc", "plrc.data.annotated:open_voc", "Annotations/*.xml and JPEGImages/ (PASCAL VOC)")
LAYOUTS.add("yolo", "plrc.data.yolo:open_yolo", "images/ and labels/*.txt (YOLO)")
LAYOUTS.add("masks", "plrc.data.annotated:open_masks", "images/ and masks/ (masks)")
LAYOUTS.add("keypoints", "plrc.data.annotated:open_keypoints", "keypoints.json, in it or in its folders (keypoints)")
_OF_ANY_KIND = "<class>/* or train/<class>/* (classes), or images at any depth"
LAYOUTS.add("images", "plrc.data.annotated:open_images", _OF_ANY_KIND, last=True)
