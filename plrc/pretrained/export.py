"""A pretrained trunk as a file for another library: torchvision, timm, Detectron2, or any reader of safetensors.

The trunk alone is written. Heads belong to the pre-training, and a classifier (``fc.*``) there is none.

timm's ResNets name their tensors as torchvision's do (compared for resnet18, 34, 50 and 101 with timm 1.0), so the two
files are one and the same, and only the way to load them differs. The Detectron2 file follows the one that MoCo's
converter writes: a pickled dictionary ``{"model": {name: array}, "__author__": str, "matching_heuristics": True}``.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plrc.backbones import ResNet
from plrc.pretrained.detectron2 import to_detectron2
from plrc.pretrained.loading import Pretrained

SUFFIXES = {
    "torchvision": (".pth", ".pt"),
    "timm": (".pth", ".pt"),
    "detectron2": (".pkl",),  # Detectron2 chooses its reader by it
    "safetensors": (".safetensors",),
}
"""What an export may be for, and how its file may be called."""

_COUNTER = "num_batches_tracked"


def export(pretrained: Pretrained, to: str, file: Path) -> list[str]:
    """Write the trunk for another library. The file is written whole or not at all, over an older one if there is one.

    The tensors keep their values bit for bit. For "detectron2" BatchNorm's counters (``num_batches_tracked``) are left
    out, which it has no use for.

    Args:
        to: "torchvision", "timm", "detectron2" or "safetensors".
        file: its suffix must be one of ``SUFFIXES[to]``. Missing folders are made.

    Returns:
        Lines to print: what was written, what was left out, and how to load the file.

    Raises:
        ValueError: an unknown target, a wrong suffix, a trunk or a tensor that the target has no name for, a file that
            cannot be written, or the very file that the weights came from.
    """
    origin, trunk = pretrained.origin, pretrained.backbone
    _check_file(origin.path, to, file)
    if to != "safetensors" and not isinstance(trunk, ResNet):
        raise ValueError(f"{origin.name} is a {origin.arch} network, which {to} has none of: export it to safetensors")
    # A trunk in use may lie on a GPU, in channels-last order; files hold what any trunk of these weights would.
    order = torch.contiguous_format
    tensors = {name: tensor.detach().cpu().clone(memory_format=order) for name, tensor in trunk.state_dict().items()}

    if to == "detectron2":
        content, written = _detectron2(tensors, origin.name)
    elif to == "safetensors":
        from safetensors.torch import save

        about = {"format": "pt", "arch": origin.arch, "origin": _origin(pretrained), "sha256": origin.sha256}
        content = save(tensors, metadata={key: value for key, value in about.items() if value})
        written = len(tensors)
    else:
        stream = io.BytesIO()
        torch.save(tensors, stream)
        content, written = stream.getvalue(), len(tensors)

    write_whole(file, content)
    lines = [f"{file}: {written} tensors of {_origin(pretrained)}, {len(content) / 1e6:.1f} MB"]
    if written < len(tensors):
        lines.append(f"left out: {len(tensors) - written} counters of BatchNorm ({_COUNTER})")
    if pretrained.heads:
        lines.append(f"left out: {', '.join(pretrained.heads)}; only the trunk is exported")
    return lines + _how_to_load(to, origin.arch, file)


def _check_file(source: Path | None, to: str, file: Path) -> None:
    if to not in SUFFIXES:
        raise ValueError(f"cannot export to {to!r}: choose one of {', '.join(SUFFIXES)}")
    if file.suffix.lower() not in SUFFIXES[to]:
        raise ValueError(f"{file} is no name of a file for {to}: let it end with {' or '.join(SUFFIXES[to])}")
    if source is not None and source.exists() and file.exists() and source.samefile(file):
        raise ValueError(f"{file} is the checkpoint itself, of which the trunk alone would be left: give another name")


def _detectron2(tensors: dict[str, Tensor], name: str) -> tuple[bytes, int]:
    names = {theirs: to_detectron2(theirs) for theirs in tensors}
    if not any(names.values()):
        raise ValueError(f"no tensor of {name} has a name in Detectron2: there is nothing to export")
    nameless = [theirs for theirs, ours in names.items() if ours is None]
    if nameless:
        raise ValueError(f"Detectron2's ResNet has no place for {', '.join(nameless)} of {name}: export to safetensors")
    kept = {theirs: ours for theirs, ours in names.items() if ours is not None and _COUNTER not in ours}
    model = {ours: tensors[theirs].numpy() for theirs, ours in kept.items()}
    stream = io.BytesIO()
    _ArrayPickler(stream, protocol=4).dump({"model": model, "__author__": "PLRC", "matching_heuristics": True})
    return stream.getvalue(), len(model)


class _ArrayPickler(pickle.Pickler):
    """Pickles an array as an empty ``numpy.ndarray`` that is then given its state.

    NumPy 2 by itself names a function to make the empty one, in a module that NumPy before 1.26 does not have, and
    Detectron2 is often run with such a one.
    """

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, np.ndarray):
            return np.ndarray, ((0,),), obj.__reduce__()[2]
        return NotImplemented


def _origin(pretrained: Pretrained) -> str:
    """For instance "resnet50 of moco_v2_800ep (MoCo v2, query)"."""
    origin = pretrained.origin
    kind = ", ".join(part for part in (origin.format, origin.branch) if part)
    return f"{origin.arch} of {origin.name} ({kind})"


def _how_to_load(to: str, arch: str, file: Path) -> list[str]:
    path = repr(str(file))
    if to == "torchvision":
        code = [
            f"model = torchvision.models.{arch}()",
            f"model.load_state_dict(torch.load({path}), strict=False)  # fc.weight and fc.bias are missing, no others",
        ]
    elif to == "timm":
        code = [f'model = timm.create_model("{arch}", num_classes=0, checkpoint_path={path})']
    elif to == "safetensors":
        code = [f"tensors = safetensors.torch.load_file({path})  # torchvision's names"]
    else:
        depth = arch.removeprefix("resnet")
        narrow = " MODEL.RESNETS.RES2_OUT_CHANNELS 64" if depth in ("18", "34") else ""
        return [
            "to load it, give Detectron2's training script (freezing and norm as the recipe wants them):",
            f"  MODEL.WEIGHTS {file} MODEL.RESNETS.DEPTH {depth}{narrow} MODEL.RESNETS.STRIDE_IN_1X1 False",
            '  INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[123.675,116.28,103.53]" MODEL.PIXEL_STD "[58.395,57.12,57.375]"',
        ]
    return ["to load it:", *(f"  {line}" for line in code), "input: RGB, with ImageNet's mean and deviation"]


def write_whole(file: Path, content: bytes) -> None:
    """A kill at any moment, or a full disk, leaves either the old file or the new one."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be written ({error.strerror}): give another place") from error
    finally:
        if unfinished.is_file():
            unfinished.unlink()
