"""A session: what drawings share, so that an image is encoded once and asked often; and how networks are told of."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from cachetools import LRUCache
from PIL import Image

from plrc.analysis.features import DenseEncoder, FeatureMap, load_encoder
from plrc.pretrained.loading import run_checkpoint, split_branch
from plrc.queries import ImageQuery, Query
from plrc.views.images import NamedImage, open_image

_NETWORKS = 8  # held at once
T = TypeVar("T")


class Session:
    """Networks, decoded images and feature maps, kept for the drawings that are made at it.

    Many threads may use one. What is kept is bounded: eight networks, and so many megabytes of images and maps, of
    which those that have not been used for longest go first. A file that has changed is read again.

    Attributes:
        megabytes: the bound; 0 keeps no image and no map, as a single drawing needs none twice. encoded: images that
            went through a network so far; a map that was kept does not count.
    """

    def __init__(self, megabytes: float = 0.0) -> None:
        self.megabytes = megabytes
        self.encoded = 0
        self._things: LRUCache[Hashable, Any] = LRUCache(megabytes * 1e6, getsizeof=lambda kept: kept[1])
        self._networks: LRUCache[Hashable, Any] = LRUCache(_NETWORKS)
        self._lock = threading.Lock()
        self._busy = threading.Lock()  # one image at a time goes through a network: so memory stays bounded too

    @property
    def kept(self) -> float:
        """Megabytes of images and maps that are kept now."""
        return self._things.currsize / 1e6

    def networks(self, query: Query) -> dict[str, DenseEncoder]:
        """Name → network of the query's checkpoints, in order; names tell them apart (``named``).

        Raises:
            ValueError: none is given, one cannot be loaded, or has no such layer or branch; the device is not there.
        """
        if not query.checkpoints:
            raise ValueError("name a checkpoint: a file, a run folder, torchvision:resnet50 or random:resnet50")
        _check_device(query.device)
        loaded = []
        for checkpoint in query.checkpoints:
            file = Path(split_branch(checkpoint)[0])
            key = (checkpoint, _stamp(run_checkpoint(file) if file.is_dir() else file), query.device, query.branch)
            make = partial(load_encoder, checkpoint, query.device, query.branch)
            encoder = self._once(self._networks, key, make, lambda _: 1)
            encoder.stride(query.layer)  # before any image is encoded
            loaded.append(encoder)
        return named(loaded, query.branch)

    def image(self, spec: str) -> NamedImage:
        """``plrc.views.images.open_image``, of an image that may have been opened before."""

        def weight(image: NamedImage) -> int:
            return image.pixels.nbytes + (0 if image.masks is None else image.masks.nbytes)

        return self._once(self._things, ("image", spec, _stamp(Path(spec))), partial(open_image, spec), weight)

    def maps(self, network: DenseEncoder, images: Iterable[Image.Image], query: ImageQuery) -> Iterator[FeatureMap]:
        """``network.batch`` with the query's layer, size and finer, of images that may have been encoded before."""
        how = query.layer, query.size.sides, query.finer
        if not self.megabytes:
            # On a CPU batches are hardly faster, and a map's last bits depend on what else is in its batch.
            yield from network.batch(images, *how, at_once=1 if network.device.type == "cpu" else 8)
            return
        origin = network.origin
        for image in images:

            def make(image: Image.Image = image) -> FeatureMap:
                self.encoded += 1
                return network.features(image, *how)

            # The pixels tell the image: a view that is cut again is the same one, a file that has changed another.
            pixels = hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
            weights = origin.sha256 or origin.name, origin.branch, str(network.device)
            key = ("map", weights, pixels, query.layer or network.last, *how[1:])
            # A map that was asked keeps its normalised cells too.
            yield self._once(self._things, key, make, lambda fmap: 2 * fmap.features.nbytes)

    def _once(
        self,
        cache: LRUCache[Hashable, Any],
        key: Hashable,
        make: Callable[[], T],
        weight: Callable[[T], int],
    ) -> T:
        with self._lock:
            if key in cache:
                return cache[key][0]
        with self._busy:
            with self._lock:  # another thread may have made it while this one waited
                if key in cache:
                    return cache[key][0]
            made = make()
            with self._lock, suppress(ValueError):  # larger than the whole cache: not kept
                cache[key] = made, weight(made)
        return made


def _stamp(file: Path) -> tuple[int, int] | None:
    """What changes with a file's content; None where there is none."""
    with suppress(OSError):
        state = os.stat(file)
        return state.st_mtime_ns, state.st_size
    return None


def _check_device(name: str) -> None:
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"--device {name} cannot be used here ({reason}): leave it out, for cpu") from error


# ------------------------------------------------------------------------------------------------------------ networks


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


def inputs_of(networks: Mapping[str, DenseEncoder], query: Query) -> dict[str, str]:
    """What was loaded → its SHA-256; a name without a file stands for itself."""
    return {c: e.origin.sha256 or c for c, e in zip(query.checkpoints, networks.values(), strict=True)}


def heading(name: str, fmap: FeatureMap, layer: str | None = None) -> str:
    """A network's name over its maps, with the layer that was asked for and how the maps came to be finer."""
    return ", ".join(part for part in (name, layer, fmap.finer) if part)


def made_of(maps: Mapping[str, FeatureMap], query: ImageQuery, images: int) -> str:
    """Layer and input of maps, for the note at a figure's foot; of each network if they differ.

    Args:
        maps: name → one of its maps, whose features may be gone. images: how many there are; the inputs of several have
            in common only their short side, unless the size is exact.
    """
    exact = images == 1 or query.size.height > 0
    sizes = {name: fmap.input_size for name, fmap in maps.items()}
    layers = _each({name: fmap.layer for name, fmap in maps.items()})
    seen = _each({name: f"{w} × {h}" if exact else f"{min(w, h)}" for name, (w, h) in sizes.items()})
    return f"layer {layers}, input {seen}" if exact else f"layer {layers}, input's short side {seen}"


def _each(told: Mapping[str, str]) -> str:
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{what} ({name})" for name, what in told.items())


def check_cells(name: str, image: str, fmap: FeatureMap) -> None:
    """Raise a ValueError if a map has one cell only: nothing can be compared there."""
    if fmap.shape == (1, 1):
        width, height = fmap.input_size
        raise ValueError(
            f"{name} sees {image}, at {width} × {height} pixels, as one cell, which there is nothing to compare with: "
            f"give a --size of {2 * fmap.stride} or more"
        )
