"""A session: what drawings share, so that an image is encoded once and asked often; and how networks are told of."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from cachetools import LRUCache
from PIL import Image

from plrc.analysis.features import DEFAULT_SIZE, DenseEncoder, FeatureMap, check_device, load_encoder
from plrc.options import Size
from plrc.pretrained.loading import checkpoint_file
from plrc.queries import ImageQuery, Query
from plrc.views.images import NamedImage, open_image

_NETWORKS = 1e9  # bytes of networks that are held at once; three of any size are


class Session:
    """Networks, decoded images and feature maps, kept for the drawings that are made at it.

    Many threads may use one. What is kept is bounded: a gigabyte of networks, and so many megabytes of images and
    maps, of which those that have not been used for longest go first. A file that has changed is read again.

    Attributes:
        megabytes: the bound; 0 keeps no image and no map, as a single drawing needs none twice. encoded: images that
            went through a network so far; a map that was kept does not count.
    """

    def __init__(self, megabytes: float = 0.0) -> None:
        self.megabytes = megabytes
        self.encoded = 0
        self._things: LRUCache[Hashable, Any] = LRUCache(megabytes * 1e6, getsizeof=_bytes)
        self._networks: LRUCache[Hashable, Any] = LRUCache(_NETWORKS, getsizeof=_weights)
        self._lock = threading.Lock()
        self._busy = threading.Lock()  # one image at a time goes through a network: so memory stays bounded too

    @property
    def kept(self) -> float:
        """Megabytes of images and maps that are kept now."""
        return self._things.currsize / 1e6

    def networks(self, query: Query) -> dict[str, DenseEncoder]:
        """Name → network of the query's checkpoints, in order.

        A name has the branch that was asked for, and one that two share gets a number.

        Raises:
            ValueError: none is given, one cannot be loaded, or has no such layer or branch; the device is not there.
        """
        if not query.checkpoints:
            raise ValueError("name a checkpoint: a file, a run folder, torchvision:resnet50 or random:resnet50")
        check_device(query.device, "--device")
        named: dict[str, DenseEncoder] = {}
        for checkpoint in query.checkpoints:
            key = (checkpoint, stamp(checkpoint_file(checkpoint)), query.device, query.branch)
            make = partial(load_encoder, checkpoint, query.device, query.branch)
            encoder = self.once(key, make, network=True)
            encoder.stride(query.layer)  # before any image is encoded
            named[not_taken(" ".join(filter(None, (encoder.origin.name, query.branch))), named)] = encoder
        return named

    def size(self, query: Query) -> Size:
        """Of the input: the query's own, or twice the side of the views of training, where a checkpoint tells it."""
        views = [network.origin.view for network in self.networks(query).values()] if query.size is None else []
        return query.size or Size(2 * max(views) or DEFAULT_SIZE)

    def image(self, spec: str) -> NamedImage:
        """``plrc.views.images.open_image``, of an image that may have been opened before."""
        return self.once(("image", spec, stamp(Path(spec))), partial(open_image, spec))

    def features(self, network: DenseEncoder, image: Image.Image, query: ImageQuery, keep: bool = True) -> FeatureMap:
        """``network.features`` with the query's layer, size and finer, of an image that may have been encoded before.

        keep: else the maps of very many images would drive out all others.
        """
        how = query.layer, self.size(query).sides, query.finer
        if not (keep and self.megabytes):
            with self._busy:
                return network.features(image, *how)

        def make() -> FeatureMap:
            self.encoded += 1
            return network.features(image, *how)

        # The pixels tell the image: a view that is cut again is the same one, a file that has changed another.
        pixels = hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
        on, layer = str(network.device), query.layer or network.default
        return self.once(("map", *network.origin.identity, on, pixels, layer, *how[1:]), make)

    def seen(
        self, name: str, network: DenseEncoder, query: ImageQuery, progress: Callable[[str, int, int], Any]
    ) -> Iterator[tuple[NamedImage, FeatureMap]]:
        """The query's images with their maps by a network of this name; each is opened when its turn comes."""
        for done, image in enumerate(map(self.image, query.images), start=1):
            yield image, self.features(network, image.image, query)
            progress(f"images, {name}", done, len(query.images))

    def once(self, key: Hashable, make: Callable[[], Any], network: bool = False) -> Any:
        """What ``make`` gives, and may have given before; it must not ask the session.

        It is a network, or else tells its ``nbytes``.
        """
        cache = self._networks if network else self._things
        with self._lock:
            if key in cache:
                return cache[key]
        with self._busy:
            with self._lock:  # another thread may have made it while this one waited
                if key in cache:
                    return cache[key]
            made = make()
            with self._lock, suppress(ValueError):  # larger than the whole cache: not kept
                cache[key] = made
        return made


def _weights(network: Any) -> float:
    parts = (network.detector,) if hasattr(network, "detector") else (network.backbone, network.heads)
    return min(sum(w.nbytes for part in parts for w in part.parameters()), _NETWORKS / 3)


def _bytes(thing: Any) -> int:
    if isinstance(thing, FeatureMap):
        return 2 * thing.features.nbytes  # one that was asked keeps its normalised cells too
    if not isinstance(thing, NamedImage):
        return int(thing.nbytes)
    return thing.pixels.nbytes + (0 if thing.masks is None else thing.masks.nbytes)


def stamp(file: Path) -> tuple[int, int] | None:
    """What changes with a file's content; None where there is none."""
    with suppress(OSError):
        state = file.stat()
        return state.st_mtime_ns, state.st_size
    return None


def not_taken(name: str, taken: Container[str]) -> str:
    """A name, with a number behind it if it is taken."""
    return next(n for n in chain([name], (f"{name} ({k})" for k in count(2))) if n not in taken)


def inputs_of(networks: Mapping[str, DenseEncoder], query: Query) -> dict[str, str]:
    """What was loaded → its SHA-256; a name without a file stands for itself."""
    return {c: e.origin.sha256 or c for c, e in zip(query.checkpoints, networks.values(), strict=True)}


def made_of(maps: Mapping[str, FeatureMap], query: ImageQuery, images: int) -> str:
    """Layer and input of a map of each network, for the note at a figure's foot; of each if they differ. And how maps
    came to be finer.

    Of several images the inputs have in common only their short side, unless the size is exact.
    """

    def each(told: list[str]) -> str:
        named = (f"{what} ({name})" for name, what in zip(maps, told, strict=True))
        return told[0] if len(set(told)) == 1 else ", ".join(named)

    exact, sizes = images == 1 or bool(query.size and query.size.height), [fmap.input_size for fmap in maps.values()]
    seen = each([f"{w} × {h}" if exact else f"{min(w, h)}" for w, h in sizes])
    layers, side = each([fmap.layer for fmap in maps.values()]), "" if exact else "'s short side"
    finer = next(iter(maps.values())).finer
    return f"layer {layers}, {f'{finer}, ' * bool(finer)}input{side} {seen}"


def check_cells(name: str, image: str, fmap: FeatureMap) -> None:
    """Raise a ValueError if a map has one cell only: nothing can be compared there."""
    if fmap.shape == (1, 1):
        raise ValueError(
            f"{name} sees {image}, at {' × '.join(map(str, fmap.input_size))} pixels, as one cell, which there is "
            f"nothing to compare with: give a --size of {2 * fmap.stride} or more"
        )
