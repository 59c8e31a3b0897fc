"""A session: what drawings share, so that a picture is encoded once and asked often."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from plrc.analysis.features import DenseEncoder, FeatureMap, load_encoder
from plrc.pretrained.loading import run_checkpoint, split_branch
from plrc.views.networks import check_device, named
from plrc.views.pictures import Picture, open_picture

_NETWORKS = 8  # held at once


class Session:
    """Networks, decoded pictures and feature maps, kept for the drawings that are made at it.

    Many threads may use one. What is kept is bounded: eight networks, and so many megabytes of pictures and maps, of
    which those that have not been used for longest go first. A file that has changed is read again.

    Attributes:
        megabytes: the bound; 0 keeps nothing, as a single drawing needs no more. encoded: pictures that went through a
            network so far; a map that was kept does not count.
    """

    def __init__(self, megabytes: float = 0.0) -> None:
        self.megabytes = megabytes
        self.encoded = 0
        self._things = _Shelf(megabytes * 1e6)
        self._networks = _Shelf(_NETWORKS)
        self._busy = threading.Lock()  # one picture at a time goes through a network: so memory stays bounded too

    @property
    def kept(self) -> float:
        """Megabytes of pictures and maps that are kept now."""
        return self._things.weight / 1e6

    def networks(
        self, checkpoints: Sequence[str], device: str, layer: str | None, branch: str | None = None
    ) -> dict[str, DenseEncoder]:
        """Name → network, in order; names tell them apart (``plrc.views.networks.named``).

        Raises:
            ValueError: none is given, one cannot be loaded, or has no such layer or branch; the device is not there.
        """
        if not checkpoints:
            raise ValueError("name a checkpoint: a file, a run folder, torchvision:resnet50 or random:resnet50")
        check_device(device)
        loaded = []
        for checkpoint in checkpoints:
            encoder = self._network(checkpoint, device, branch)
            encoder.stride(layer)  # before any picture is encoded
            loaded.append(encoder)
        return named(loaded, branch)

    def picture(self, spec: str) -> Picture:
        """``plrc.views.pictures.open_picture``, of a picture that may have been opened before."""
        if not self.megabytes:
            return open_picture(spec)
        key = ("picture", spec, _stamp(Path(spec)))
        kept = self._things.get(key)
        if kept is None:
            kept = open_picture(spec)
            masks = 0 if kept.masks is None else kept.masks.nbytes
            self._things.put(key, kept, kept.pixels.nbytes + masks)
        return kept

    def maps(
        self,
        network: DenseEncoder,
        images: Iterable[Image.Image],
        layer: str | None,
        size: int | tuple[int, int],
        finer: str | None,
    ) -> Iterator[FeatureMap]:
        """``network.batch``, of pictures that may have been encoded before."""
        if not self.megabytes:
            # On a CPU batches are hardly faster, and a map's last bits depend on what else is in its batch.
            yield from network.batch(images, layer, size, finer, at_once=1 if network.device.type == "cpu" else 8)
            return
        for image in images:
            # The pixels tell the picture: a view that is cut again is the same one, a file that has changed another.
            pixels = hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
            key = ("map", _identity(network), pixels, layer or network.last, size, finer)
            yield self._once(self._things, key, partial(self._encode, network, image, layer, size, finer))

    def _encode(
        self,
        network: DenseEncoder,
        image: Image.Image,
        layer: str | None,
        size: int | tuple[int, int],
        finer: str | None,
    ) -> tuple[FeatureMap, float]:
        fmap = network.features(image, layer, size, finer)
        self.encoded += 1
        return fmap, 2 * fmap.features.nbytes  # a map that was asked keeps its normalised cells too

    def _network(self, checkpoint: str, device: str, branch: str | None) -> DenseEncoder:
        if not self.megabytes:
            return load_encoder(checkpoint, device, branch)
        file = Path(split_branch(checkpoint)[0])
        key = (checkpoint, _stamp(run_checkpoint(file) if file.is_dir() else file), device, branch)
        return self._once(self._networks, key, lambda: (load_encoder(checkpoint, device, branch), 1))

    def _once(self, shelf: _Shelf, key: Hashable, make: Callable[[], tuple[Any, float]]) -> Any:
        kept = shelf.get(key)
        if kept is None:
            with self._busy:
                kept = shelf.get(key)  # another thread may have made it while this one waited
                if kept is None:
                    kept, weight = make()
                    shelf.put(key, kept, weight)
        return kept


class _Shelf:
    """Things by their keys, up to a total weight; what has not been used for longest goes first."""

    def __init__(self, room: float) -> None:
        self.weight = 0.0
        self._room = room
        self._things: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """None where there is none."""
        with self._lock:
            if key not in self._things:
                return None
            self._things.move_to_end(key)
            return self._things[key][0]

    def put(self, key: Hashable, thing: Any, weight: float) -> None:
        """A thing that is heavier than the whole room is not kept."""
        with self._lock:
            if weight > self._room:
                return
            if key in self._things:
                self.weight -= self._things.pop(key)[1]
            self._things[key] = thing, weight
            self.weight += weight
            while self.weight > self._room:
                self.weight -= self._things.popitem(last=False)[1][1]


def _stamp(file: Path) -> tuple[int, int] | None:
    """What changes with a file's content; None where there is none."""
    try:
        state = os.stat(file)
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _identity(network: DenseEncoder) -> tuple[str, ...]:
    """What tells a network's weights from all others."""
    origin = network.origin
    return (origin.sha256 or origin.name, origin.branch, str(network.device))
