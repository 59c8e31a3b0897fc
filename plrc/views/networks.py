"""The networks of a drawing: names that tell them apart, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def heading(name: str, fmap: FeatureMap, layer: str | None = None) -> str:
    """A network's name over its maps; it says of which layer they are, if one was asked for, and whether they are finer
    than the network makes them.
    """
    return ", ".join(part for part in (name, layer, fmap.finer) if part)


@dataclass(frozen=True)
class Made:
    """What is said of a network's maps when they are gone: layer and input's width and height."""

    layer: str
    input_size: tuple[int, int]

    @classmethod
    def of(cls, fmap: FeatureMap) -> Made:
        return cls(fmap.layer, fmap.input_size)


def made_of(maps: Mapping[str, Made | FeatureMap], size: int | Sequence[int], pictures: int) -> str:
    """Layer and input of maps, for the note at a figure's foot; of each network if they differ.

    Args:
        maps: name → one of its maps. size: that was asked for. pictures: how many there are; the inputs of several
            have in common only their short side, unless the size is exact.
    """
    exact = pictures == 1 or not isinstance(size, int)
    sizes = {name: fmap.input_size for name, fmap in maps.items()}
    layers = _each({name: fmap.layer for name, fmap in maps.items()})
    seen = _each({name: f"{w} × {h}" if exact else f"{min(w, h)}" for name, (w, h) in sizes.items()})
    return f"layer {layers}, input {seen}" if exact else f"layer {layers}, input's short side {seen}"


def _each(told: Mapping[str, str]) -> str:
    """What is told of networks: once if it is the same of all."""
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{what} ({name})" for name, what in told.items())


def check_cells(name: str, picture: str, fmap: FeatureMap) -> None:
    """Raise a ValueError if a map has one cell only: nothing can be compared there."""
    if fmap.shape == (1, 1):
        width, height = fmap.input_size
        raise ValueError(
            f"{name} sees {picture}, at {width} × {height} pixels, as one cell, which there is nothing to compare "
            f"with: give a --size of {2 * fmap.stride} or more"
        )


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
