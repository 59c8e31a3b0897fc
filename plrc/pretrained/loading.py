"""``load``: a file, a run folder, a name, a state dict or a module → backbone, heads and where they came from."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from plrc.backbones import Backbone, Encoder, Timm
from plrc.checkpoint import DETECTOR, FORMAT, VERSION, with_new_names
from plrc.pretrained.build import HeadNotUnderstood, arch_of, build_head, filled, skeleton
from plrc.pretrained.formats import KNOWN, PLRC_RUN, Found, find
from plrc.pretrained.reading import CheckpointError, read
from plrc.registry import BACKBONES

WHAT_MAY_BE_GIVEN = (
    "give a checkpoint file, the folder of a run, torchvision:resnet50 (its ImageNet weights), "
    "timm:vit_small_patch14_dinov2 (timm's weights; with @FILE behind, those of a file), plrc:tiny (the small network "
    "that comes with plrc) or random:resnet50 (random:resnet50@3 for another seed)"
)
SHIPPED = "plrc:tiny"
BRANCHES = ("query", "key", "teacher", "student")
# Neither can be seen in the weights.
_AS_EXPORTED = (
    "taken as RGB, normalised as ImageNet is, with the stride in the 3×3 convolutions, as converted checkpoints are; a "
    "model of Detectron2's own zoo (BGR, stride in the 1×1) gives other features here than there"
)
_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".pkl", ".bin", ".safetensors")


@dataclass(frozen=True)
class CheckpointInfo:
    """Where weights came from.

    Attributes:
        name: short, for column headings: the file's name without suffixes, ``demo/last`` for a run's; the name given.
        path: the file, None for a name. format: of the file ("PLRC run", "MoCo v2", ...), "torchvision name", "random".
        branch: "query", "key", "teacher", "student", or "" where there is one network only.
        arch: what ``plrc.backbones.build`` takes. sha256: of the file.
        note: what else is worth knowing: the step of a run, what of the file was left out.
        others: the branches that could have been chosen instead.
        run: of a run of ours: its "config", a dictionary, and its "epoch", a number, if the file has them.
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


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A network, fp32, on the CPU and in evaluation mode.

    Attributes:
        backbone: the network. heads: name → what the checkpoint applies to the backbone's last map, at every position:
            ``(B, width, h, w)`` → ``(B, D, h, w)``. The main projection head is called "projector".
        origin: where it came from.
    """

    backbone: Backbone
    heads: dict[str, nn.Module]
    origin: CheckpointInfo


def load(
    source: str | Path | Mapping[str, Any] | nn.Module, branch: str | None = None, arch: str | None = None
) -> Pretrained:
    """The network in a checkpoint of any known format (``plrc.pretrained.formats``), recognised by its contents.

    Neither is anything in a file executed nor the global random generator moved.

    Args:
        source: a file; the folder of a run, for its ``checkpoints/last.pt``; ``torchvision:resnet50`` or
            ``timm:convnext_atto``, weights downloaded as these libraries do; ``random:resnet50`` or ``random:tiny@3``,
            the untrained network of seed 0 or 3; ``plrc:tiny``, the small trained one that ships with this package
            (``shipped/README.md``); what such a file would hold, a state dict for instance; or a module, which is
            copied. A branch may stand behind: ``runs/demo@key``; and a file behind a name of timm's:
            ``timm:resnet50d@model.pth``.
        branch: "query", "key", "teacher" or "student" where there are two. The query encoder, DINO's teacher, if not
            given.
        arch: one of ``plrc.registry.BACKBONES``, where neither the tensors nor what lies beside them tell.

    Raises:
        CheckpointError: (a ValueError) there is no such file, name or branch; the file is damaged, of no known format
            or architecture, or not every tensor of the backbone is in it with the right shape. Says which.
    """
    if isinstance(source, nn.Module):
        return _from_module(source, branch, arch)
    if isinstance(source, Mapping):
        return _from_content(source, "the state dict", CheckpointInfo("state dict"), branch, arch)
    if not isinstance(source, str | Path):
        raise CheckpointError(
            f"a network cannot be had from a {type(source).__name__}: give a path, a name or a module"
        )
    path = Path(source).expanduser()
    name, behind = split_branch(str(source))
    if behind:
        found = load(name, behind, arch)
        return replace(found, origin=replace(found.origin, name=f"{found.origin.name} {behind}"))
    if path.exists():
        return _from_file(run_checkpoint(path) if path.is_dir() else path, branch, arch)
    scheme, colon, rest = str(source).partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z]{2,}", scheme):  # one letter is a drive of Windows
        raise CheckpointError(f"there is no file or folder {path}: {WHAT_MAY_BE_GIVEN}")
    if scheme == "timm" and "@" in rest:
        model, _, file = rest.partition("@")
        return load(Path(file), branch, f"timm:{model}")
    if source == SHIPPED:
        shipped = _from_file(Path(__file__).with_name("shipped") / "tiny.safetensors", branch)
        return replace(shipped, origin=replace(shipped.origin, name=SHIPPED, format="shipped with plrc"))
    named = {"torchvision": _from_torchvision, "timm": _from_timm, "random": _from_seed}
    if scheme not in named:
        raise CheckpointError(f"{source} is no file, and {scheme}: no kind of name: {WHAT_MAY_BE_GIVEN}")
    if branch is not None:
        raise CheckpointError(f"{source} has no branch {branch!r}: it is one network only, name none")
    return named[scheme](rest)


def split_branch(path_or_name: str) -> tuple[str, str]:
    """``runs/demo@key`` as name and branch; no branch where none stands behind, or a file is really called so."""
    name, at, behind = path_or_name.rpartition("@")
    if at and behind in BRANCHES and not Path(path_or_name).exists():
        return name, behind
    return path_or_name, ""


def run_checkpoint(folder: Path) -> Path:
    """The newest checkpoint of a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    for file in (folder / "checkpoints" / "last.pt", folder / "last.pt"):
        if file.is_file():
            return file
    raise CheckpointError(f"{folder} is not the folder of a run: it has no checkpoints/last.pt; name the file itself")


def _from_file(file: Path, branch: str | None, arch: str | None = None) -> Pretrained:
    content = read(file)
    beside = file.with_name("config.json")  # as timm's models lie on the Hugging Face hub
    if arch is None and beside.is_file():
        with suppress(ValueError, KeyError, TypeError):  # of another program
            content = {"arch": json.loads(beside.read_text())["architecture"], **content}
    sha256 = hashlib.sha256(np.memmap(file, mode="r").data).hexdigest()  # without room in memory for all of it
    origin = CheckpointInfo(_short_name(file), file, sha256=sha256)
    return _from_content(content, str(file), origin, branch, arch)


def _from_content(
    content: Any, file: str, origin: CheckpointInfo, branch: str | None, arch: str | None = None
) -> Pretrained:
    ours = isinstance(content, dict) and content.get("format") in (FORMAT, DETECTOR)
    if ours:
        if content.get("version", 0) > VERSION:
            raise CheckpointError(
                f"{file} was written by a newer version of PLRC (layout {content['version']}, known is {VERSION}): "
                "update plrc"
            )
        content = with_new_names(content)
    arch = arch or _arch_beside(content)
    if arch is None:
        found = find(content, file, branch)
        backbone = skeleton(arch_of(found.backbone, file))
    else:
        try:
            backbone = skeleton(arch)
        except ValueError as error:
            raise CheckpointError(f"{file} cannot be loaded as {arch!r}: {error}") from error
        parts = {re.escape(name.split(".")[0]) for name in backbone.named.state_dict()}
        found = find(content, file, branch, rf"(?:net\.)?(?:{'|'.join(sorted(parts))})(?:\.|$)|{KNOWN}")
    tensors = {name.removeprefix("net."): tensor for name, tensor in found.backbone.items()}  # ours of a timm model
    filled(backbone, tensors, file, found.spelled)
    heads, notes = _heads(found, backbone.width)
    run: dict[str, Any] = {}
    if ours and isinstance(content.get("config"), dict):
        run["config"] = content["config"]
    if ours and isinstance(content.get("epoch"), int | float):
        run["epoch"] = content["epoch"]
    if found.format == PLRC_RUN:
        notes = [*_progress(content), *notes]
    if found.format == "Detectron2":
        notes.append(_AS_EXPORTED)
    origin = replace(
        origin,
        format=found.format if backbone.named is backbone else found.format.replace("torchvision's", "timm's"),
        branch=found.branch,
        arch=backbone.name,
        note="; ".join(notes),
        others=found.others,
        run=run,
    )
    return Pretrained(backbone, heads, origin)


def _arch_beside(content: Any) -> str | None:
    """The backbone that a file names, if its tensors alone would not tell: of our runs, exports, timm's training."""
    for place in ("config", "metadata", "args", ""):
        beside = content.get(place) if place and isinstance(content, Mapping) else content
        name = beside.get("arch") if isinstance(beside, Mapping) else None
        with suppress(ValueError):  # of another program
            if isinstance(name, str) and "form" not in BACKBONES[name].traits:
                return name
    return None


def _from_module(module: nn.Module, branch: str | None, arch: str | None) -> Pretrained:
    name = type(module).__name__
    with torch.random.fork_rng(devices=[]):
        module = copy.deepcopy(module).cpu().float().eval()
    backbone = module.backbone if isinstance(module, Encoder) else module
    if isinstance(backbone, Backbone):
        heads: dict[str, nn.Module] = {"projector": module.projector} if isinstance(module, Encoder) else {}
        return Pretrained(backbone, heads, CheckpointInfo(name, format="module", arch=backbone.name))
    arch = arch or (getattr(module, "pretrained_cfg", None) or {}).get("architecture")  # timm's
    return _from_content(module.state_dict(), f"the module {name}", CheckpointInfo(name), branch, arch)


def _heads(found: Found, width: int) -> tuple[dict[str, nn.Module], list[str]]:
    """The heads that are understood, and notes of what was left out."""
    heads: dict[str, nn.Module] = {}
    notes = []
    for name, (head, tensors) in found.heads.items():
        try:
            heads[name] = build_head(tensors, width, head.activation, head.slots, head.normalised)
        except HeadNotUnderstood as reason:
            notes.append(f"head {name} not understood: {reason}")
    if found.unused and found.format != PLRC_RUN:  # there it is the queue
        shown = [f"{start} (the classifier)" if start == "fc" else start for start in found.unused[:6]]
        notes.append(f"not used: {', '.join(shown)}{', ...' if len(found.unused) > 6 else ''}")
    return heads, notes


def _progress(content: Mapping[str, Any]) -> list[str]:
    """How far a run of ours was, from what its checkpoint says."""
    step, epoch, config = content.get("step"), content.get("epoch"), content.get("config")
    epochs = config.get("epochs") if isinstance(config, dict) else None
    if isinstance(step, int) and step and isinstance(epoch, float) and isinstance(epochs, int):
        return [f"step {step} of {round(step / epoch) * epochs}"]
    return [f"step {step}"] if isinstance(step, int) else []


def _short_name(file: Path) -> str:
    stem = file.name
    while stem.endswith(_SUFFIXES) and Path(stem).stem != stem:
        stem = Path(stem).stem
    run = file.absolute().parent
    return f"{run.parent.name}/{stem}" if run.name == "checkpoints" else stem


def _from_torchvision(arch: str) -> Pretrained:
    name = f"torchvision:{arch}"
    known = [name for name, entry in BACKBONES.items() if entry.target == "plrc.backbones:ResNet"]
    if arch not in known:
        raise CheckpointError(f"{name} is not known: torchvision: takes {', '.join(known)}")
    from torchvision.models import get_model_weights

    weights = get_model_weights(arch).DEFAULT
    try:
        tensors = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network; a download cut short, whose hash is another
        raise CheckpointError(
            f"{name} could not be downloaded from {weights.url} ({error}): go online once, or fetch the file elsewhere "
            "and give its path"
        ) from error
    found = _from_content(tensors, name, CheckpointInfo(name), None)
    note = "; ".join([str(weights), found.origin.note])
    return replace(found, origin=replace(found.origin, format="torchvision name", note=note))


def _from_timm(model: str) -> Pretrained:
    name = f"timm:{model}"
    try:
        with torch.random.fork_rng(devices=[]):
            backbone = Timm(name, pretrained=True).eval()
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # of the hub's client, of timm, of the network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"{name}: its weights could not be downloaded ({reason}): go online once, fetch the file elsewhere and "
            f"give {name}@FILE, or look into random:{name}, the untrained network"
        ) from error
    note = str(backbone.net.pretrained_cfg.get("hf_hub_id") or backbone.net.pretrained_cfg.get("url") or "")
    return Pretrained(backbone, {}, CheckpointInfo(name, format="timm name", arch=backbone.name, note=note))


def _from_seed(arch_and_seed: str) -> Pretrained:
    """As ``torch.manual_seed(seed); Encoder(arch)`` makes it: the query encoder of an untrained PLRC model."""
    name = f"random:{arch_and_seed}"
    match = re.fullmatch(r"([\w.:]+?)(?:@(\d{1,18}))?", arch_and_seed)
    if match is None:
        raise CheckpointError(f"{name} is not known: random: takes a backbone's name, with @3 behind for seed 3")
    arch, seed = match[1], int(match[2] or 0)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' too
            encoder = Encoder(arch).eval()
    except ValueError as error:
        raise CheckpointError(f"{name} is not known: {error}") from error
    note = f"seed {seed}, untrained"
    origin = CheckpointInfo(name, format="random", arch=encoder.backbone.name, note=note)
    return Pretrained(encoder.backbone, {"projector": encoder.projector}, origin)
