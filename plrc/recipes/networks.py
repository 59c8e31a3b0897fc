"""The checkpoints of a drawing, loaded once, under names that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from plrc.analysis.features import DenseEncoder, load_encoder


def open_networks(checkpoints: Sequence[str], device: str, layer: str | None) -> dict[str, DenseEncoder]:
    """Name → network, in order; a name that two share gets a number.

    Raises:
        ValueError: none is given, one cannot be loaded, or has no such layer; the device is not there.
    """
    if not checkpoints:
        raise ValueError("name a checkpoint: a file, a run folder, torchvision:resnet50 or random:resnet50")
    _check_device(device)
    networks: dict[str, DenseEncoder] = {}
    for checkpoint in checkpoints:
        encoder = load_encoder(checkpoint, device)
        encoder.stride(layer)  # before any picture is encoded
        name, number = encoder.origin.name, 2
        while name in networks:
            name, number = f"{encoder.origin.name} ({number})", number + 1
        networks[name] = encoder
    return networks


def _check_device(name: str) -> None:
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"--device {name} cannot be used here ({reason}): leave it out, for cpu") from error


def inputs_of(networks: dict[str, DenseEncoder], checkpoints: Sequence[str]) -> dict[str, str]:
    """What was loaded → its SHA-256; a name without a file stands for itself."""
    return {c: e.origin.sha256 or c for c, e in zip(checkpoints, networks.values(), strict=True)}
