"""The networks of a drawing: names that tell them apart, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from plrc.analysis.features import DenseEncoder, FeatureMap


def named(encoders: Sequence[DenseEncoder], branch: str | None = None) -> dict[str, DenseEncoder]:
    """Name → network, in order; a name has the branch that was asked for, and one that two share gets a number."""
    networks: dict[str, DenseEncoder] = {}
    for encoder in encoders:
        first = f"{encoder.origin.name} {branch}" if branch else encoder.origin.name
        name, number = first, 2
        while name in networks:
            name, number = f"{first} ({number})", number + 1
        networks[name] = encoder
    return networks


def heading(name: str, fmap: FeatureMap) -> str:
    """A network's name over its maps, which says so if they are finer than the network makes them."""
    return f"{name}, {fmap.finer}" if fmap.finer else name


def sides(size: int | Sequence[int]) -> int | tuple[int, int]:
    """A size as ``DenseEncoder.features`` takes it; in a recipe width and height are a list.

    Raises:
        ValueError: it has other than two sides.
    """
    if isinstance(size, int):
        return size
    if len(size) != 2:
        raise ValueError(f"an input has a width and a height, or one number for its short side, not {list(size)}")
    return size[0], size[1]


def check_device(name: str) -> None:
    """Raise a ValueError if torch cannot use the device."""
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"--device {name} cannot be used here ({reason}): leave it out, for cpu") from error


def inputs_of(networks: dict[str, DenseEncoder], checkpoints: Sequence[str]) -> dict[str, str]:
    """What was loaded → its SHA-256; a name without a file stands for itself."""
    return {c: e.origin.sha256 or c for c, e in zip(checkpoints, networks.values(), strict=True)}
