"""``load``: a file, a run folder, a name, a state dict or a module → backbone, heads and where they came from."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plrc.backbones import Backbone, Encoder, Timm, build
from plrc.checkpoint import DETECTOR, FORMAT, VERSION, with_new_names
from plrc.config import loss_tables
from plrc.files import at_home
from plrc.pretrained.formats import ANOTHER, PLRC_RUN, Head, arch_of, find
from plrc.pretrained.reading import CheckpointError, read
from plrc.registry import BACKBONES, did_you_mean

WHAT_MAY_BE_GIVEN = (
    "give a checkpoint file, the folder of a run (runs/demo@5 for an epoch that it has stored), torchvision:resnet50 "
    "(its ImageNet weights), "
    "timm:vit_small_patch14_dinov2 (timm's weights; with @FILE behind, those of a file), plrc:tiny (the small network "
    "that comes with plrc) or random:resnet50 (random:resnet50@3 for another seed)"
)
SHIPPED = "plrc:tiny"
BRANCHES = ("query", "key", "teacher", "student")
_AS_EXPORTED = (  # neither can be seen in the weights
    "taken as RGB, normalised as ImageNet is, with the stride in the 3×3 convolutions, as converted checkpoints are; a "
    "model of Detectron2's own zoo (BGR, stride in the 1×1) gives other features here than there"
)
_TOLD = "{data}, views of {image_size} px, regions {regions}, batch {batch_size}, {optimizer}, lr {lr} for a batch of"
_COUNTER = "num_batches_tracked"
_SHOWN = 4  # names in an error


@dataclass(frozen=True)
class CheckpointInfo:
    """Where weights came from.

    Attributes:
        name: short, for column headings: the file's name without suffixes, ``demo/last`` for a run's; the name given.
        path: the file, None for a name. format: of the file ("PLRC run", "MoCo v2", ...), "torchvision name", "random".
        branch: "query", "key", "teacher", "student", or "" where there is one network only; others: those there are.
        arch: what ``plrc.backbones.build`` takes. sha256: of the file. note: the step of a run, what was left out.
        run: of a run of ours, or an export of it: its "config", a dictionary, and its "epoch" and "step", numbers, if
            the file has them.
    """

    name: str
    path: Path | None = None
    format: str = ""
    branch: str = ""
    arch: str = ""
    sha256: str | None = None
    note: str = ""
    others: tuple[str, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[Any, str]:
        """What tells these weights from others, by any name: their SHA-256 or, without a file, what made them."""
        return self.sha256 or (self.name, self.arch, self.note), self.branch

    @property
    def view(self) -> int:
        """Side of the views that it was trained with, pixels; 0 where that is not known."""
        return int(self.run.get("config", {}).get("image_size", 0))


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A network, fp32, on the CPU and in evaluation mode.

    Attributes:
        backbone: the network. heads: name → what the checkpoint applies to the backbone's last map, at every position:
            ``(B, width, h, w)`` → ``(B, D, h, w)``. The main projection head is called "projector".
        origin: where it came from. dense: the head by which training compared places, "" where there is none.
    """

    backbone: Backbone
    heads: dict[str, nn.Module]
    origin: CheckpointInfo
    dense: str = ""

    def told(self, **changes: Any) -> Pretrained:
        """The same network with another origin."""
        return replace(self, origin=replace(self.origin, **changes))


def load(
    source: str | Path | Mapping[str, Any] | nn.Module, branch: str | None = None, arch: str | None = None
) -> Pretrained:
    """The network in a checkpoint of any known format (``plrc.pretrained.formats``), recognised by its contents.

    Neither is anything in a file executed nor the global random generator moved. Raises a CheckpointError (a
    ValueError) if there is no such file, name or branch; if the file is damaged, of no known format or architecture, or
    not every tensor of the backbone is in it with the right shape.

    Args:
        source: a file; the folder of a run, for its ``checkpoints/last.pt``; ``torchvision:resnet50`` or
            ``timm:convnext_atto``, weights downloaded as these libraries do; ``random:resnet50`` or ``random:tiny@3``,
            the untrained network of seed 0 or 3; ``plrc:tiny``, the small trained one that ships with this package
            (``shipped/README.md``); what such a file would hold, a state dict for instance; or a module, which is
            copied. Behind it may stand a branch, ``runs/demo@key``, an epoch that a run has stored, ``runs/demo@5``,
            0 for its untrained start, or a file, ``timm:resnet50d@model.pth``.
        branch: "query", "key", "teacher" or "student" where there are two; the query encoder, DINO's teacher, if not
            given. arch: one of ``BACKBONES``, where neither the tensors nor what lies beside them tell.
    """
    if isinstance(source, nn.Module):
        return _from_module(source, branch, arch)
    if isinstance(source, Mapping):
        return _from_content(source, "the state dict", CheckpointInfo("state dict"), branch, arch)
    if not isinstance(source, str | Path):
        raise CheckpointError(f"a network cannot be had from a {type(source).__name__}: {WHAT_MAY_BE_GIVEN}")
    path, (name, behind) = at_home(source), split_branch(str(source))
    if behind:
        found = load(name, behind, arch)
        return found.told(name=f"{found.origin.name} {behind}")
    if path.exists():
        return _from_file(run_checkpoint(path) if path.is_dir() else path, branch, arch)
    folder, epoch = split_epoch(name)
    if epoch is not None:
        return _from_epoch(Path(folder), epoch, branch)
    if source == SHIPPED:
        shipped = _from_file(Path(__file__).with_name("shipped") / "tiny.safetensors", branch)
        return shipped.told(name=SHIPPED)
    scheme, _, rest = name.partition(":")
    model, at, file = rest.partition("@")
    if scheme == "timm" and at:
        return load(Path(file), branch, f"timm:{model}")
    named: dict[str, Any] = {"torchvision": _from_torchvision, "timm": _from_timm, "random": _from_seed}
    if scheme not in named:
        near = did_you_mean(str(source), (SHIPPED,), file=True)
        raise CheckpointError(f"there is no file or folder {source}{near or f': {WHAT_MAY_BE_GIVEN}'}")
    if branch is not None:
        raise CheckpointError(f"{source} has no branch {branch!r}: it is one network only, name none")
    try:
        with torch.random.fork_rng(devices=[]):
            return named[scheme](name, model, file)
    except Exception as error:  # none has that name, or there is no way to the network: whatever timm and the hub raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{source} cannot be had ({reason}): {WHAT_MAY_BE_GIVEN}") from error


def split_branch(path_or_name: str) -> tuple[str, str]:
    """``runs/demo@key`` as name and branch; no branch where none stands behind, or a file is really called so."""
    name, at, behind = path_or_name.rpartition("@")
    return (name, behind) if at and behind in BRANCHES and not Path(path_or_name).exists() else (path_or_name, "")


def run_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run's folder, or the weights of a folder as Hugging Face's hub has them. Raises a
    CheckpointError if there is none."""
    for name in ("checkpoints/last.pt", "last.pt", "model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder} is not the folder of a run, it has no checkpoints/last.pt, nor one of Hugging Face: name the file "
        "itself"
    )


def split_epoch(path_or_name: str) -> tuple[str, int | None]:
    """``runs/demo@5`` as a run's folder and an epoch; None where none stands behind, or what is before is no folder."""
    name, _, behind = path_or_name.rpartition("@")
    there = behind.isdecimal() and at_home(name).is_dir() and not Path(path_or_name).exists()
    return (str(at_home(name)), int(behind)) if there else (path_or_name, None)


def stored_epochs(folder: Path) -> list[int]:
    """The epochs of a run that ``FOLDER@N`` names: 0, its untrained start, and those that it has stored; [] of none."""
    stored = [file.stem.removeprefix("epoch_") for file in (folder / "checkpoints").glob("epoch_*.pt")]
    return sorted({0, *map(int, filter(str.isdecimal, stored))}) if stored else []


def checkpoint_file(path_or_name: str) -> Path:
    """The file that is read of what ``load`` takes; of a name without a file a path where there is nothing."""
    name, epoch = split_epoch(split_branch(path_or_name)[0])
    if epoch is not None:
        return _epoch_file(Path(name), epoch)
    path = at_home(name)
    return run_checkpoint(path) if path.is_dir() else path


def _epoch_file(folder: Path, epoch: int) -> Path:
    """The checkpoint of an epoch; of the untrained start the first one. Raises a CheckpointError if there is none."""
    there = stored_epochs(folder)
    if epoch not in there:
        those = f"it has stored {', '.join(map(str, there))}" if there else "it has stored none, see --keep-every"
        raise CheckpointError(f"{folder} has no checkpoint of epoch {epoch}: {those}")
    return folder / "checkpoints" / f"epoch_{epoch or there[1]:04d}.pt"


def _from_epoch(folder: Path, epoch: int, branch: str | None) -> Pretrained:
    found = _from_file(file := _epoch_file(folder, epoch), branch)
    if epoch:
        return found
    config = found.origin.run.get("config", {})
    if not {"arch", "seed", "dim"} <= config.keys():
        raise CheckpointError(f"{file} does not tell how its run began: name one of its epochs")
    run = folder.absolute().name
    with torch.random.fork_rng(devices=[]):  # both branches begin as this one
        start = _from_seed(f"{run}/untrained", config["arch"], str(config["seed"]), config["dim"])
    if init := config.get("init"):
        taken = begin_with(init, start.backbone, start.heads["projector"])
        start = start.told(name=f"{run}/start", format=found.origin.format, note=f"begun with {taken}")
    return replace(start, dense=found.dense).told(run={"config": config, "epoch": 0})


def begin_with(source: str, backbone: Backbone, projector: nn.Module) -> str:
    """Put a checkpoint's weights, see ``load``, into a backbone, and those of the head by which it compared places into
    a projector, if it has one of the same shape; says what was taken. Raises a CheckpointError for another backbone."""
    found = load(source)
    if (arch := found.backbone.name) != backbone.name:
        raise CheckpointError(f"--init {source} is a {arch}, not a {backbone.name}: give --arch {arch}")
    backbone.load_state_dict(found.backbone.state_dict())
    head = found.heads.get(found.dense or "projector", nn.Identity()).state_dict()
    shapes, wanted = ({name: t.shape for name, t in of.items()} for of in (head, projector.state_dict()))
    if shapes != wanted:
        return f"the backbone of {source}"
    projector.load_state_dict(head)
    return f"{source}, its backbone and its projector"


def _from_file(file: Path, branch: str | None, arch: str | None = None) -> Pretrained:
    content = read(file)
    beside = file.with_name("config.json")  # as timm's models lie on the Hugging Face hub
    if arch is None and beside.is_file():
        with suppress(ValueError, KeyError, TypeError):  # of another program
            content = {"arch": json.loads(beside.read_text())["architecture"], **content}
    sha256 = hashlib.sha256(np.memmap(file, mode="r").data).hexdigest()  # without room in memory for all of it
    name, run = re.sub(r"(?<=.)(\.(pth|pt|tar|ckpt|pkl|bin|safetensors))+$", "", file.name), file.absolute().parent
    name = f"{run.parent.name}/{name}" if run.name == "checkpoints" else name
    return _from_content(content, str(file), CheckpointInfo(name, file, sha256=sha256), branch, arch)


def _from_content(
    content: Any, file: str, origin: CheckpointInfo, branch: str | None = None, arch: str | None = None
) -> Pretrained:
    ours = isinstance(content, dict) and content.get("format") in (FORMAT, DETECTOR)
    if ours and content.get("version", 0) > VERSION:
        raise CheckpointError(f"{file} was written by a newer version of PLRC: update plrc")
    content = with_new_names(content) if ours else content
    try:
        arch = arch or _arch_beside(content if isinstance(content, Mapping) else {}, ours)
        backbone = skeleton(arch) if arch else None
    except ValueError as error:
        raise CheckpointError(f"{file} cannot be loaded as {arch or 'its configuration says'}: {error}") from error
    found = find(content, file, branch, backbone.named.state_dict() if backbone else ())
    backbone = backbone or skeleton(arch_of(found.backbone, file))
    below = "" if backbone.named is backbone else "net."  # a model of timm that was trained here
    fill(backbone, {name.removeprefix(below): tensor for name, tensor in found.backbone.items()}, file)
    beside = content.get("metadata") if isinstance(content, Mapping) else None
    run = _run_of(content if ours else beside.get("run") if isinstance(beside, Mapping) else None)
    heads, notes = dict[str, nn.Module](), list[str]()
    if found.format == PLRC_RUN and isinstance(content.get("step"), int):
        epochs, epoch, step = run.get("config", {}).get("epochs"), run.get("epoch"), content["step"]
        notes.append(f"step {step}" + (f" of {round(step / epoch) * epochs}" if epochs and epoch else ""))
        notes += [f"begun with {init}" for init in [run.get("config", {}).get("init")] if init]
    for name, (head, tensors) in found.heads.items():
        try:
            heads[name] = build_head(tensors, backbone.width, head)
        except ValueError as reason:
            notes.append(f"head {name} not understood: {reason}")
    if found.unused and found.format != PLRC_RUN:  # there it is the queue
        shown = [f"{start} (the classifier)" if start == "fc" else start for start in found.unused[:6]]
        notes.append(f"not used: {', '.join(shown)}{', ...' if len(found.unused) > 6 else ''}")
    if found.format == "Detectron2":
        notes.append(_AS_EXPORTED)
    format = found.format if backbone.named is backbone else found.format.replace("torchvision's", "timm's")
    about = replace(origin, format=format, branch=found.branch, arch=backbone.name, others=found.others, run=run)
    dense = next((name for name, (head, _) in found.heads.items() if head.dense and name in heads), "")
    return Pretrained(backbone, heads, replace(about, note="; ".join(notes)), dense)


def _run_of(about: Any) -> dict[str, Any]:
    """What is known of the run that a checkpoint of ours is of, or an export of it, which has that as JSON."""
    if isinstance(about, str):
        with suppress(ValueError):
            about = json.loads(about)
    kinds = {"config": dict, "epoch": int | float, "step": int}
    return {k: about[k] for k, kind in kinds.items() if isinstance(about, Mapping) and isinstance(about.get(k), kind)}


def _arch_beside(content: Mapping[str, Any], ours: bool) -> str | None:
    """The backbone that a file names, if its tensors alone would not tell: of our runs, exports, timm's training."""
    places = [content.get(key) for key in ("config", "architecture", "metadata", "args")]
    for name in (place.get("arch") for place in (*places, content) if isinstance(place, Mapping)):
        with suppress(*(() if ours else (ValueError,))):  # of another program
            if isinstance(name, str) and "form" not in BACKBONES[name].traits:
                return name
    return None


def _from_module(module: nn.Module, branch: str | None, arch: str | None) -> Pretrained:
    info = CheckpointInfo(type(module).__name__, format="module")
    with torch.random.fork_rng(devices=[]):
        module = copy.deepcopy(module).cpu().float().eval()
    backbone = module.backbone if isinstance(module, Encoder) else module
    if isinstance(backbone, Backbone):
        heads: dict[str, nn.Module] = {"projector": module.projector} if isinstance(module, Encoder) else {}
        return Pretrained(backbone, heads, replace(info, arch=backbone.name), "projector" if heads else "")
    arch = arch or (getattr(module, "pretrained_cfg", None) or {}).get("architecture")  # timm's
    return _from_content(module.state_dict(), f"the module {info.name}", info, branch, arch)


def _from_torchvision(name: str, arch: str, _: str) -> Pretrained:
    known = [name for name, entry in BACKBONES.items() if entry.target == "plrc.backbones:ResNet"]
    if arch not in known:
        raise ValueError(f"torchvision: takes {', '.join(known)}")
    from torchvision.models import get_model_weights

    weights = get_model_weights(arch).DEFAULT
    tensors = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    found = _from_content(tensors, name, CheckpointInfo(name))
    return found.told(format="torchvision name", note="; ".join([str(weights), found.origin.note]))


def _from_timm(name: str, model: str, _: str) -> Pretrained:
    backbone = Timm(name, pretrained=True).eval()
    note = str(backbone.net.pretrained_cfg.get("hf_hub_id") or backbone.net.pretrained_cfg.get("url") or "")
    return Pretrained(backbone, {}, CheckpointInfo(name, format="timm name", arch=backbone.name, note=note))


def _from_seed(name: str, arch: str, seed: str, dim: int = 128) -> Pretrained:
    """As ``torch.manual_seed(seed); Encoder(arch, dim)`` makes it: the query encoder of an untrained PLRC model."""
    if seed and not seed.isdecimal():
        raise ValueError(f"{seed!r} is no seed, which is a whole number: random:{arch}@3")
    torch.random.default_generator.manual_seed(int(seed or 0))  # torch.manual_seed would seed the GPUs' too
    encoder = Encoder(arch, dim).eval()
    info = CheckpointInfo(name, format="random", arch=encoder.backbone.name, note=f"seed {int(seed or 0)}, untrained")
    return Pretrained(encoder.backbone, {"projector": encoder.projector}, info, "projector")


def skeleton(arch: str) -> Backbone:
    """``build(arch)``, to be filled; the global random generator is not moved."""
    # Without memory, where the file has every tensor of it: timm's models have some that are not saved.
    device = "meta" if "form" in BACKBONES[arch].traits else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return build(arch)


def fill(backbone: Backbone, tensors: Mapping[str, Tensor], file: str) -> None:
    """Every tensor of the backbone from ``tensors``, by torchvision's or timm's names, as copies; in evaluation mode.

    BatchNorm's counters may be missing. Raises a CheckpointError if a tensor is missing, unknown, of the wrong shape or
    kind, or not finite.
    """
    named = backbone.named
    wanted = named.state_dict()
    # timm's own way from what others publish to its names; position embeddings of another size are resampled.
    if filter_fn := getattr(sys.modules[type(named).__module__], "checkpoint_filter_fn", None):
        try:
            tensors = filter_fn(dict(tensors), named)
        except Exception as error:  # on tensors of another network it raises almost anything
            raise CheckpointError(f"{file} is no {backbone.name}: timm cannot take its tensors ({error})") from error
        parts = {name.split(".")[0] for name in wanted}
        tensors = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in parts}
    state = {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    if faults := faults_of(state, wanted):
        stem = next(iter(wanted))
        what = f"looks like a {backbone.name}, but not a whole one: {faults}; take another checkpoint or save it anew"
        if stem in state and state[stem].ndim == 4 and state[stem].shape[1:] != wanted[stem].shape[1:]:
            theirs, ours = ("{1} × {2} pixels and {0} channels".format(*of[stem].shape[1:]) for of in (state, wanted))
            what = f"is a {backbone.name} for other images: its first convolution sees {theirs}, and here {ours}"
        elif f"{stem.removesuffix('.weight')}.0.weight" in state:
            what = f"is a {backbone.name} with several first convolutions, perhaps timm:{backbone.name}d@{file}"
        raise CheckpointError(f"{file} {what}; {ANOTHER}")
    named.load_state_dict({name: _copy(tensor) for name, tensor in state.items()}, assign=True)
    backbone.eval()


def faults_of(tensors: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str:
    """Which tensors are missing, unknown, of the wrong shape or kind, or not finite, in clauses; "" if none is.

    wanted: a network's, by the names in the file. BatchNorm's counters may be missing.
    """
    faults: dict[str, list[str]] = {
        "lacks": [name for name in wanted if name not in tensors and not name.endswith(_COUNTER)],
        "has what such a network has not,": [name for name in tensors if name not in wanted],
        "has": [],
    }
    for name, like, value in ((name, wanted[name], tensors[name]) for name in wanted if name in tensors):
        if not isinstance(value, Tensor) or value.shape != like.shape:
            shape = tuple(getattr(value, "shape", ()))
            faults["has"].append(f"{name} of shape {shape} instead of {tuple(like.shape)}")
        elif (like.is_floating_point() and not value.is_floating_point()) or not value.isfinite().all():
            faults["has"].append(f"{name} of whole numbers or infinite or undefined ones")
    said = []
    for how, names in faults.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        said += [f"it {how} {', '.join(names[:_SHOWN])}{more}"] * bool(names)
    return "; ".join(said)


def _copy(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True, memory_format=torch.contiguous_format)


# A head of the image, applied to the pooled feature, is linear layers, norms and activations; as 1×1 convolutions the
# same tensors give every cell its own output (Wang et al. 2021, DenseCL; PLRC's released code).


class Normalise(nn.Module):
    """L2-normalise over the channels at every position."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, D, h, w)`` → the same, each position of length 1."""
        return F.normalize(maps, dim=1)


def build_head(tensors: Mapping[str, Tensor], channels: int, head: Head) -> nn.Sequential:
    """A head from tensors named as those of an ``nn.Sequential`` (``0.weight``, ``1.running_mean``, …), or one layer's.

    Linear layers (2-d weights) and 1×1 convolutions become 1×1 convolutions, BatchNorm1d and 2d become BatchNorm2d,
    affine or not, and a position without tensors is the activation, which a checkpoint does not name. Gives a module in
    evaluation mode that maps ``(B, channels, h, w)``, the backbone's last map, to ``(B, D, h, w)``. Raises a
    ValueError for a layer of another kind, one that does not fit the one before it, or a missing tensor.
    """
    layers: dict[int, dict[str, Tensor]] = {}
    modules: list[nn.Module] = []
    try:
        for name, tensor in tensors.items():
            layer, dot, kind = name.rpartition(".")
            place = head.order.get(layer, layer if dot else "0")
            if not place.isdecimal():
                raise ValueError(f"{layer} has no place in an order of layers")
            if kind != _COUNTER:
                weight = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
                layers.setdefault(int(place), {})[kind] = weight
        if absent := [layer for layer, place in head.order.items() if int(place) not in layers]:
            raise ValueError(f"{absent[0]} is missing")
        if any(after - before > 2 for before, after in pairwise([-2, -1, *sorted(layers)])) or 0 not in layers:
            raise ValueError("layers without tensors come first, or two in a row")
        for i in range(max(layers) + 1):
            modules.append(_layer(layers[i], channels) if i in layers else head.activation())
            channels = getattr(modules[-1], "out_channels", channels)
    except (IndexError, RuntimeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not any(isinstance(module, nn.Conv2d) for module in modules):
        raise ValueError("it has no linear layer")
    return nn.Sequential(*modules, *([Normalise()] if head.normalised else [])).eval()


def _layer(tensors: Mapping[str, Tensor], width: int) -> nn.Module:
    """Raises a RuntimeError, torch's, or a ValueError where they are not the tensors of a layer on so many channels."""
    with torch.device("meta"):  # no random numbers are drawn
        if {"running_mean", "running_var"} & tensors.keys():
            layer: nn.Module = nn.BatchNorm2d(width, affine="weight" in tensors)
        elif "weight" not in tensors:
            raise ValueError(f"a layer has {', '.join(sorted(tensors))} alone, which is no linear layer")
        else:
            layer = nn.Conv2d(width, tensors["weight"].shape[0], 1, bias="bias" in tensors)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("its tensors have infinite or undefined values")
    layer.load_state_dict({name: _copy(tensor) for name, tensor in tensors.items()}, assign=True)
    return layer


def describe(path_or_name: str | Path, branch: str | None = None) -> list[str]:
    """Lines that say what ``load(path_or_name, branch)`` gives, and what else the file holds."""
    network = load(path_or_name, branch)
    info, backbone, config = network.origin, network.backbone, network.origin.run.get("config", {})
    others = f" (also there: {', '.join(info.others)})" if info.others else ""
    of = f" of {config['epochs']}" if "epochs" in config else ""
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    weights = loss_tables(config).get("weights")  # a detector's are the name of its backbone's
    known = f"{_TOLD} {16 if 'iterations' in config else 256}"  # a detector's rate is for 16
    settings = [text.format(**config) for text in known.split(", ") if re.split("[{}]", text)[1] in config]
    terms = ", ".join(f"{term} {w}" for term, w in weights.items() if w) if isinstance(weights, dict) else ""
    told = {
        "architecture": f"{info.arch}, {parameters / 1e6:.1f} M parameters in the backbone",
        "channels": ", ".join(f"{c} {backbone.channels[c]} at stride {backbone.strides[c]}" for c in backbone.layers),
        "heads": ", ".join(f"{name} {_widths(head)}" for name, head in network.heads.items()) or "none",
        "epoch": f"{info.run['epoch']:.4g}{of}" if "epoch" in info.run else "",
        "trained with": ", ".join(settings),
        "loss weights": terms,
        "note": info.note,
    }
    if info.path is not None:
        told["file"] = f"{info.path}, {info.path.stat().st_size / 1e6:.1f} MB, sha256 {(info.sha256 or '')[:12]}"
    kind = f"{info.format}, branch {info.branch}{others}" if info.branch else info.format
    return [f"{info.name}: {kind}", *(f"  {title:<13}{text}" for title, text in told.items() if text)]


def _widths(head: nn.Module) -> str:
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
    widths = [layer.in_channels for layer in layers[:1]] + [layer.out_channels for layer in layers]
    normalised = any(isinstance(module, Normalise) for module in head.modules())
    return " → ".join(map(str, widths)) + (", L2-normalised" if normalised else "")
