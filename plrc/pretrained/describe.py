"""What a checkpoint is, in lines to print: format and branches, network, training, file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plrc.config import loss_tables
from plrc.pretrained.finding import find
from plrc.pretrained.formats import LAYOUTS, PLRC_RUN
from plrc.pretrained.heads import Normalise
from plrc.pretrained.loading import Pretrained, load
from plrc.pretrained.reading import CheckpointError, read

_SETTINGS = {
    "data": "{}",
    "image_size": "views of {} px",
    "regions": "regions {}",
    "batch_size": "batch {}",
    "optimizer": "{}",
    "lr": "lr {} for a batch of 256",
}
_KEYS, _PREFIXES = 12, 6  # shown of a file that is not recognised


class NotRecognised(CheckpointError):
    """A file that can be read but not loaded. ``looks``: lines that say what it looks like."""

    def __init__(self, looks: list[str], reason: str) -> None:
        super().__init__(reason)
        self.looks = looks


def describe(path_or_name: str | Path, branch: str | None = None) -> list[str]:
    """Lines that say what ``load(path_or_name, branch)`` would give, and what else the file holds.

    Args:
        path_or_name, branch: as for ``load``.

    Raises:
        NotRecognised: the file can be read but not loaded. CheckpointError: there is no such file or name, it cannot be
            read at all, or lacks the branch; says which.
    """
    try:
        network = load(path_or_name, branch)
    except CheckpointError as error:
        if branch is not None or not Path(path_or_name).is_file():
            raise
        raise NotRecognised(_looks(Path(path_or_name)), str(error)) from error
    origin = network.origin
    content = read(origin.path) if origin.path is not None else None
    kind = origin.format
    if origin.branch:
        others = _other_branches(content, network)
        kind += f", branch {origin.branch}{' (also there: ' + ', '.join(others) + ')' if others else ''}"
    lines = [f"{origin.name}: {kind}"]
    lines += _network(network)
    if origin.format == PLRC_RUN and isinstance(content, dict):
        lines += _run(content)
    if origin.note:
        lines.append(_line("note", origin.note))
    return [*lines, *_file(origin.path, origin.sha256)]


def _line(title: str, text: str) -> str:
    return f"  {title:<13}{text}"


def _other_branches(content: object, network: Pretrained) -> list[str]:
    """The branches of the file that could have been chosen instead."""
    origin = network.origin
    layout = next(layout for layout in LAYOUTS if layout.name == origin.format)
    names = []
    for name in (branch.name for branch in layout.branches if branch.name != origin.branch):
        try:
            find(content, origin.name, name)
        except CheckpointError:
            continue  # of this file it was not saved
        names.append(name)
    return names


def _network(network: Pretrained) -> list[str]:
    side = 64  # a multiple of every stride
    with torch.no_grad():
        maps = network.backbone.maps(torch.zeros(1, 3, side, side))
    layers = ", ".join(f"{name} {m.shape[1]} at stride {side // m.shape[-1]}" for name, m in maps.items())
    parameters = sum(parameter.numel() for parameter in network.backbone.parameters())
    heads = [f"{name} {_widths(head)}" for name, head in network.heads.items()]
    return [
        _line("architecture", f"{network.origin.arch}, {parameters / 1e6:.1f} M parameters in the trunk"),
        _line("channels", layers),
        _line("heads", ", ".join(heads) or "none"),
    ]


def _widths(head: nn.Module) -> str:
    """For instance "2048 → 2048 → 128"."""
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    widths = [convolutions[0].in_channels, *(convolution.out_channels for convolution in convolutions)]
    normalised = any(isinstance(module, Normalise) for module in head.modules())
    return " → ".join(map(str, widths)) + (", L2-normalised" if normalised else "")


def _run(content: Mapping[str, Any]) -> list[str]:
    """How far a run of ours was, and the part of its configuration that decides what the features are like."""
    config, epoch = content.get("config"), content.get("epoch")
    config = config if isinstance(config, dict) else {}
    lines = []
    if isinstance(epoch, (int, float)):
        lines.append(_line("epoch", f"{epoch:.4g}" + (f" of {config['epochs']}" if "epochs" in config else "")))
    settings = [text.format(config[key]) for key, text in _SETTINGS.items() if key in config]
    if settings:
        lines.append(_line("trained with", ", ".join(settings)))
    weights = [f"{term} {weight}" for term, weight in loss_tables(config).get("weights", {}).items()]
    return [*lines, _line("loss weights", ", ".join(weights))] if weights else lines


def _file(path: Path | None, sha256: str | None) -> list[str]:
    if path is None:
        return []
    size = f"{path}, {path.stat().st_size / 1e6:.1f} MB"
    return [_line("file", f"{size}, sha256 {sha256[:12]}" if sha256 else size)]


def _looks(file: Path) -> list[str]:
    content = read(file)
    lines = [f"{file.name}: not recognised"]
    if isinstance(content, dict):
        keys = [str(key) for key in content]
        lines.append(_line("keys", ", ".join(keys[:_KEYS]) + (f", … ({len(keys)})" if len(keys) > _KEYS else "")))
    names = list(_tensor_names(content))
    lines.append(_line("tensors", str(len(names))))
    starts = Counter(".".join(name.split(".")[:2]) for name in names)
    if starts:
        common = [f"{start}* ({count})" for start, count in starts.most_common(_PREFIXES)]
        lines.append(_line("named", ", ".join(common) + (", …" if len(starts) > _PREFIXES else "")))
    return [*lines, *_file(file, None)]


def _tensor_names(content: object, depth: int = 4) -> Iterator[str]:
    """Names of all tensors in a dictionary and those within it, to a depth at which a network would lie."""
    if isinstance(content, dict) and depth:
        for name, value in content.items():
            if isinstance(value, Tensor):
                yield str(name)
            else:
                yield from _tensor_names(value, depth - 1)
