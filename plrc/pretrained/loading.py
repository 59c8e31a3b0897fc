"""``load``: a file, a run folder or a name → trunk, heads and where they came from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from plrc.backbones import Backbone, Encoder
from plrc.checkpoint import DETECTOR, FORMAT, VERSION, with_new_names
from plrc.pretrained.finding import Found, find
from plrc.pretrained.formats import PLRC_RUN
from plrc.pretrained.heads import HeadNotUnderstood, build_head
from plrc.pretrained.reading import CheckpointError, read
from plrc.pretrained.trunks import build_trunk
from plrc.registry import BACKBONES

RESNETS = tuple(name for name, entry in BACKBONES.items() if entry.target == "plrc.backbones:ResNet")
WHAT_MAY_BE_GIVEN = (
    "give a checkpoint file, the folder of a run, torchvision:resnet50 (its ImageNet weights), plrc:tiny (the small "
    "network that comes with plrc) or random:resnet50 (random:resnet50@3 for another seed)"
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
class Origin:
    """Where weights came from.

    Attributes:
        name: short, for column headings: the file's name without suffixes, ``demo/last`` for a run's; the name given.
        path: the file, None for a name. format: of the file ("PLRC run", "MoCo v2", ...), "torchvision name", "random".
        branch: "query", "key", "teacher", "student", or "" where there is one network only.
        arch: see ``plrc.registry.BACKBONES``. sha256: of the file.
        note: what else is worth knowing: the step of a run, what of the file was left out.
    """

    name: str
    path: Path | None
    format: str
    branch: str
    arch: str
    sha256: str | None
    note: str


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A network, fp32, on the CPU and in evaluation mode.

    Attributes:
        backbone: the network. heads: name → what the checkpoint applies to the backbone's last map, at every position:
            ``(B, channels, h, w)`` → ``(B, D, h, w)``. The main projection head is called "projector".
    """

    backbone: Backbone
    heads: dict[str, nn.Module]
    origin: Origin


def load(path_or_name: str | Path, branch: str | None = None) -> Pretrained:
    """The network in a checkpoint of any known format (``plrc.pretrained.formats``), recognised by its contents.

    Neither is anything in the file executed nor the global random generator moved.

    Args:
        path_or_name: a file; the folder of a run, for its ``checkpoints/last.pt``; ``torchvision:resnet50``, downloaded
            as torchvision does; ``random:resnet50`` or ``random:tiny@3``, the untrained network of seed 0 or 3;
            ``plrc:tiny``, the small trained one that ships with this package (``shipped/README.md``). A branch may
            stand behind: ``runs/demo@key``.
        branch: "query", "key", "teacher" or "student" where there are two. The query encoder, DINO's teacher, if not
            given.

    Raises:
        CheckpointError: (a ValueError) there is no such file, name or branch; the file is damaged, of no known format
            or architecture, or not every tensor of the trunk is in it with the right shape. Says which.
    """
    path = Path(path_or_name)
    name, behind = split_branch(str(path_or_name))
    if behind:
        found = load(name, behind)
        return replace(found, origin=replace(found.origin, name=f"{found.origin.name} {behind}"))
    if path.is_dir():
        return _from_file(run_checkpoint(path), branch)
    if path.exists():
        return _from_file(path, branch)
    scheme, colon, rest = str(path_or_name).partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z]{2,}", scheme):  # one letter is a drive of Windows
        raise CheckpointError(f"there is no file or folder {path}: {WHAT_MAY_BE_GIVEN}")
    if path_or_name == SHIPPED:
        shipped = _from_file(Path(__file__).with_name("shipped") / "tiny.safetensors", branch)
        return replace(shipped, origin=replace(shipped.origin, name=SHIPPED, format="shipped with plrc"))
    if scheme not in ("torchvision", "random"):
        raise CheckpointError(f"{path_or_name} is no file, and {scheme}: no kind of name: {WHAT_MAY_BE_GIVEN}")
    if branch is not None:
        raise CheckpointError(f"{path_or_name} has no branch {branch!r}: it is one network only, name none")
    return _from_torchvision(rest) if scheme == "torchvision" else _from_seed(rest)


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


def _from_file(file: Path, branch: str | None) -> Pretrained:
    content = read(file)
    if isinstance(content, dict) and content.get("format") in (FORMAT, DETECTOR):
        content = with_new_names(content)
    if isinstance(content, dict) and content.get("format") == FORMAT and content.get("version", 0) > VERSION:
        raise CheckpointError(
            f"{file} was written by a newer version of PLRC (layout {content['version']}, known is {VERSION}): "
            "update plrc"
        )
    found = find(content, str(file), branch)
    arch, trunk = build_trunk(found.backbone, str(file), found.spelled)
    heads, notes = _heads(found, trunk.width)
    if found.layout == PLRC_RUN:
        notes = [*_progress(content), *notes]
    if found.layout == "Detectron2":
        notes.append(_AS_EXPORTED)
    origin = Origin(_short_name(file), file, found.layout, found.branch, arch, _sha256(file), "; ".join(notes))
    return Pretrained(trunk, heads, origin)


def _heads(found: Found, channels: int) -> tuple[dict[str, nn.Module], list[str]]:
    """The heads that are understood, and notes of what was left out."""
    heads: dict[str, nn.Module] = {}
    notes = []
    for name, (head, tensors) in found.heads.items():
        try:
            heads[name] = build_head(tensors, channels, head.activation, head.slots, head.normalised)
        except HeadNotUnderstood as reason:
            notes.append(f"head {name} not understood: {reason}")
    if found.unused and found.layout != PLRC_RUN:  # there it is the queue
        shown = [f"{start} (the classifier)" if start == "fc" else start for start in found.unused[:6]]
        notes.append(f"not used: {', '.join(shown)}{', ...' if len(found.unused) > 6 else ''}")
    return heads, notes


def _progress(content: dict[str, Any]) -> list[str]:
    """How far a run of ours was, from what its checkpoint says."""
    step, epoch, config = content.get("step"), content.get("epoch"), content.get("config")
    if not isinstance(step, int):
        return []
    epochs = config.get("epochs") if isinstance(config, dict) else None
    if step and isinstance(epoch, float) and isinstance(epochs, int):
        return [f"step {step} of {round(step / epoch) * epochs}"]
    return [f"step {step}"]


def _short_name(file: Path) -> str:
    stem = file.name
    while stem.endswith(_SUFFIXES) and Path(stem).stem != stem:
        stem = Path(stem).stem
    run = file.absolute().parent
    return f"{run.parent.name}/{stem}" if run.name == "checkpoints" else stem


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _from_torchvision(arch: str) -> Pretrained:
    name = f"torchvision:{arch}"
    if arch not in RESNETS:
        raise CheckpointError(f"{name} is not known: torchvision: takes {', '.join(RESNETS)}")
    from torchvision.models import get_model_weights

    weights = get_model_weights(arch).DEFAULT
    try:
        tensors = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network; a download cut short, whose hash is another
        raise CheckpointError(
            f"{name} could not be downloaded from {weights.url} ({error}): go online once, or fetch the file elsewhere "
            "and give its path"
        ) from error
    found = find(tensors, name)
    arch, trunk = build_trunk(found.backbone, name, found.spelled)
    note = "; ".join([str(weights), *_heads(found, trunk.width)[1]])
    return Pretrained(trunk, {}, Origin(name, None, "torchvision name", "", arch, None, note))


def _from_seed(arch_and_seed: str) -> Pretrained:
    """As ``torch.manual_seed(seed); Encoder(arch)`` makes it: the query encoder of an untrained PLRC model."""
    name = f"random:{arch_and_seed}"
    match = re.fullmatch(r"(\w+?)(?:@(\d{1,18}))?", arch_and_seed)
    if match is None or match[1] not in BACKBONES:
        raise CheckpointError(f"{name} is not known: random: takes {', '.join(BACKBONES)}, with @3 behind for seed 3")
    arch, seed = match[1], int(match[2] or 0)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' too
        encoder = Encoder(arch).eval()
    origin = Origin(name, None, "random", "", arch, None, f"seed {seed}, untrained")
    return Pretrained(encoder.backbone, {"projector": encoder.projector}, origin)
