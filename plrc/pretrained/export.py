"""A pretrained backbone as a file for another library: torchvision, timm, Detectron2, or any reader of safetensors.

The backbone alone is written; of PLRC's own networks safetensors gets the projector too. timm's ResNets name their
tensors as torchvision's do, so these two files are the same. The Detectron2 file is as MoCo's converter writes it: a
pickled ``{"model": {name: array}, "__author__": str, "matching_heuristics": True}``.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from plrc.backbones import ResNet, Timm
from plrc.files import written_whole
from plrc.pretrained.formats import DETECTRON2, PLRC_EXPORT, PLRC_RUN
from plrc.pretrained.loading import Pretrained
from plrc.registry import BACKBONES

SUFFIXES = {
    "torchvision": (".pth", ".pt"),
    "timm": (".pth", ".pt"),
    "detectron2": (".pkl",),  # Detectron2 chooses its reader by it
    "safetensors": (".safetensors",),
}
"""What an export may be for, and how its file may be called."""

_COUNTER = "num_batches_tracked"


def export(pretrained: Pretrained, to: str, file: Path) -> list[str]:
    """Write the network for another library; the file is written whole or not at all, over an older one.

    The tensors keep their values bit for bit. For "detectron2" BatchNorm's counters (``num_batches_tracked``) are left
    out, which it has no use for. ``to`` is a key of ``SUFFIXES``. Gives lines to print: what was written, what was left
    out, and how to load the file. Raises a ValueError for an unknown target, a wrong suffix, a backbone that the target
    does not have, a file that cannot be written, or the very file that the weights came from.
    """
    origin, backbone = pretrained.origin, pretrained.backbone
    if file.suffix.lower() not in SUFFIXES.get(to, ()):
        known = ", ".join(f"{name} ({' or '.join(suffixes)})" for name, suffixes in SUFFIXES.items())
        raise ValueError(f"{file} is no name of a file for {to}: there are {known}")
    if origin.path is not None and origin.path.exists() and file.exists() and origin.path.samefile(file):
        raise ValueError(f"{file} is the checkpoint itself, of which the backbone would be left: give another name")
    # A backbone in use may lie on a GPU, in channels-last order; files hold what any other of these weights would.
    state, order = backbone.named.state_dict(), torch.contiguous_format
    tensors = {name: tensor.detach().cpu().clone(memory_format=order) for name, tensor in state.items()}
    arrays = {DETECTRON2.from_torchvision(name): tensor.numpy() for name, tensor in tensors.items()}
    suits = isinstance(backbone, ResNet) and (to != "detectron2" or None not in arrays)
    if not (suits or to == "safetensors" or (to == "timm" and isinstance(backbone, Timm))):
        raise ValueError(f"{origin.name} is a {origin.arch} network, which {to} has none of: export it to safetensors")
    kind = ", ".join(part for part in (origin.format, origin.branch) if part)
    what = f"{origin.arch} of {origin.name} ({kind})"
    ours = to == "safetensors" and origin.format in (PLRC_RUN, PLRC_EXPORT)
    head = pretrained.heads["projector"].state_dict() if ours else {}
    stream, written = io.BytesIO(), len(tensors)
    if to == "detectron2":
        model = {name: array for name, array in arrays.items() if name and _COUNTER not in name}
        written = len(model)
        _ArrayPickler(stream, protocol=4).dump({"model": model, "__author__": "PLRC", "matching_heuristics": True})
    elif to == "safetensors":
        for name, tensor in head.items():
            tensors[f"projector.{name}"] = tensor.detach().cpu().clone(memory_format=order)
        written += len(head)
        about = {"format": "pt", "arch": origin.arch, "origin": what, "sha256": origin.sha256}
        about["run"] = json.dumps(origin.run) if origin.run else ""
        stream.write(_ordered(safetensors.torch.save(tensors, {key: value for key, value in about.items() if value})))
    else:
        torch.save(tensors, stream)
    try:
        with written_whole(file, durable=True) as unfinished:
            unfinished.write_bytes(stream.getvalue())
    except OSError as error:
        raise ValueError(f"{file} cannot be written ({error.strerror}): give another place") from error
    lines = [f"{file}: {written} tensors of {what}, {len(stream.getvalue()) / 1e6:.1f} MB"]
    if written < len(tensors):
        lines.append(f"left out: {len(tensors) - written} counters of BatchNorm ({_COUNTER})")
    if pretrained.heads and not ours:
        lines.append(f"left out: {', '.join(pretrained.heads)}; only the backbone is exported")
    return lines + _how_to_load(to, origin.arch, file)


def _ordered(file: bytes) -> bytes:
    """A safetensors file with its metadata in order, which it has at random: the same export is the same file."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


class _ArrayPickler(pickle.Pickler):
    """NumPy 2 makes an empty array by a function that NumPy before 1.26, often beside Detectron2, does not have."""

    def reducer_override(self, obj: object) -> Any:
        return (np.ndarray, ((0,),), obj.__reduce__()[2]) if isinstance(obj, np.ndarray) else NotImplemented


def _how_to_load(to: str, arch: str, file: Path) -> list[str]:
    path, create = repr(str(file)), f'model = timm.create_model("{arch.removeprefix("timm:")}", num_classes=0'
    rest = f"model.load_state_dict(torch.load({path}), strict=False)"
    code = {
        "torchvision": [
            f"model = torchvision.models.{arch}()",
            f"{rest}  # fc.weight and fc.bias are missing, no others",
        ],
        # Of timm's other models a last norm is missing, which gives no map.
        "timm": [f"{create}, checkpoint_path={path})"] if "form" in BACKBONES[arch].traits else [f"{create})", rest],
        "safetensors": [f"tensors = safetensors.torch.load_file({path})"],
    }
    if to in code:
        return ["to load it:", *(f"  {line}" for line in code[to]), "input: RGB, with ImageNet's mean and std"]
    form = re.search(r"(\d+)(?:_(\d+)x(\d+)d|_2)?$", arch)  # resnext50_32x4d, wide_resnet50_2, resnet18
    assert form is not None
    width = form[3] or ("128" if arch.startswith("wide") else "")
    more = {
        "RES2_OUT_CHANNELS": "64" if form[1] in ("18", "34") else "",
        "NUM_GROUPS": form[2],
        "WIDTH_PER_GROUP": width,
    }
    settings = "".join(f" MODEL.RESNETS.{key} {value}" for key, value in more.items() if value)
    return [
        "to load it, give Detectron2's training script (freezing and norm as the recipe wants them):",
        f"  MODEL.WEIGHTS {file} MODEL.RESNETS.DEPTH {form[1]}{settings} MODEL.RESNETS.STRIDE_IN_1X1 False",
        '  INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[123.675,116.28,103.53]" MODEL.PIXEL_STD "[58.395,57.12,57.375]"',
    ]
