"""What a checkpoint is, in lines to print: format and branches, network, training, file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from plrc.config import loss_tables
from plrc.pretrained.build import Normalise
from plrc.pretrained.loading import load

_SETTINGS = {
    "data": "{}",
    "image_size": "views of {} px",
    "regions": "regions {}",
    "batch_size": "batch {}",
    "optimizer": "{}",
    "lr": "lr {} for a batch of 256",
}


def describe(path_or_name: str | Path, branch: str | None = None) -> list[str]:
    """Lines that say what ``load(path_or_name, branch)`` gives, and what else the file holds.

    Raises:
        CheckpointError: what ``load`` raises.
    """
    network = load(path_or_name, branch)
    origin, backbone = network.origin, network.backbone
    kind = origin.format
    if origin.branch:
        others = f" (also there: {', '.join(origin.others)})" if origin.others else ""
        kind += f", branch {origin.branch}{others}"
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    layers = [f"{layer} {backbone.channels[layer]} at stride {backbone.strides[layer]}" for layer in backbone.layers]
    heads = [f"{name} {_widths(head)}" for name, head in network.heads.items()]
    told = {
        "architecture": f"{origin.arch}, {parameters / 1e6:.1f} M parameters in the backbone",
        "channels": ", ".join(layers),
        "heads": ", ".join(heads) or "none",
        **_run(origin.run),
        "note": origin.note,
    }
    if origin.path is not None:
        told["file"] = f"{origin.path}, {origin.path.stat().st_size / 1e6:.1f} MB, sha256 {(origin.sha256 or '')[:12]}"
    return [f"{origin.name}: {kind}", *(f"  {title:<13}{text}" for title, text in told.items() if text)]


def _widths(head: nn.Module) -> str:
    """For instance "2048 → 2048 → 128"."""
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    widths = [convolutions[0].in_channels, *(convolution.out_channels for convolution in convolutions)]
    normalised = any(isinstance(module, Normalise) for module in head.modules())
    return " → ".join(map(str, widths)) + (", L2-normalised" if normalised else "")


def _run(run: Mapping[str, Any]) -> dict[str, str]:
    """How far a run of ours was, and the part of its configuration that decides what the features are like."""
    config: Mapping[str, Any] = run.get("config", {})
    epoch = f"{run['epoch']:.4g}" + (f" of {config['epochs']}" if "epochs" in config else "") if "epoch" in run else ""
    weights = [f"{term} {weight}" for term, weight in loss_tables(config).get("weights", {}).items()]
    return {
        "epoch": epoch,
        "trained with": ", ".join(text.format(config[key]) for key, text in _SETTINGS.items() if key in config),
        "loss weights": ", ".join(weights),
    }
