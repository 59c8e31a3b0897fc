"""What the items of an embedding are called: by the objects of their picture, or by its folder."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.analysis.embedding import Labeller
from plrc.analysis.features import DenseEncoder, FeatureMap
from plrc.geometry import cell_of
from plrc.views.drawing import Progress, counted
from plrc.views.networks import sides
from plrc.views.pictures import Picture, region_raster
from plrc.views.session import Session

NO_OBJECT = "background"
_THUMBNAIL = 96  # pixels of the longer side
_MOST = 20_000  # items: above, t-SNE takes more than an hour, and dots cover one another


class Pictures:
    """Pictures on their way through a network: each is opened once, and asked about when its map has come.

    Attributes:
        specs: their names. of, regions: what is made of them. session: where they are opened and encoded.
        now: the picture that is asked about, and its map. read: of those that came, what a recipe notes.
        thumbnails: for "images". objects_known: in all that came.
    """

    def __init__(self, specs: Sequence[str], of: str, regions: str, session: Session) -> None:
        self.specs, self.of, self.regions, self.session = specs, of, regions, session
        self.read: dict[str, str] = {}
        self.thumbnails: list[Image.Image] = []
        self.objects_known = True
        self.now: tuple[Picture, FeatureMap]
        self._came, self._items = 0, 0

    def maps(
        self,
        network: DenseEncoder,
        name: str,
        layer: str | None,
        size: int | Sequence[int],
        finer: str | None,
        progress: Progress | None,
    ) -> Iterator[FeatureMap]:
        waiting: deque[Picture] = deque()

        def images() -> Iterator[Image.Image]:
            for spec in self.specs:
                waiting.append(self.session.picture(spec))
                yield waiting[-1].image

        counted_images = counted(images(), len(self.specs), f"pictures, {name}", progress)
        for fmap in self.session.maps(network, counted_images, layer, sides(size), finer):
            self.now = waiting.popleft(), fmap
            yield fmap

    def rasters(self) -> Iterator[Tensor]:
        """The regions of each picture, to be asked for when its map has come."""
        for _ in self.specs:
            yield region_raster(self.now[0], self.regions)

    def labellers(self) -> Iterator[Labeller]:
        """Who names the items of each picture, to be asked for when its map has come. Notes what is kept of it."""
        for _ in self.specs:
            picture = self.now[0]
            self.read |= picture.inputs
            self.objects_known &= picture.masks is not None
            if self.of == "images":
                self.thumbnails.append(picture.image.copy())
                self.thumbnails[-1].thumbnail((_THUMBNAIL, _THUMBNAIL))
            yield self._labels

    def _labels(self, points: np.ndarray, regions: np.ndarray) -> Sequence[str]:
        """The class of each item's object; the folder where objects are not known."""
        picture = self.now[0]
        self._check_number(len(points))
        if picture.masks is None or not self.objects_known:
            return [folder_of(picture.spec)] * len(points)
        names = [*(picture.classes or []), NO_OBJECT]
        if self.of == "regions" and self.regions == "objects":
            return [names[region - 1] for region in regions]  # 0, the background, is the last
        areas = picture.masks.sum(axis=(1, 2))
        if self.of == "images":
            return [names[areas.argmax() if areas.any() else -1]]
        row, column = cell_of(torch.from_numpy(points), *picture.masks.shape[1:])
        here = np.where(picture.masks[:, row.numpy(), column.numpy()], areas[:, None], np.inf)
        everywhere = np.full((1, len(points)), picture.masks[0].size + 1.0 if len(areas) else 0)
        return [names[smallest] for smallest in np.vstack((here, everywhere)).argmin(axis=0)]

    def _check_number(self, here: int) -> None:
        """Raise a ValueError as soon as there will be too many items for certain, mostly at the first picture."""
        self._came, self._items, least = self._came + 1, self._items + here, 1
        if self.of == "points":
            least = min(here, min(self.now[1].shape) ** 2)  # the short sides of all maps are alike
        elif self.of == "regions" and self.regions.startswith("grid:"):
            least = here
        number = self._items + (len(self.specs) - self._came) * least
        if number > _MOST:
            other = {"points": ", or fewer points with --per-picture", "regions": ", or fewer --regions of each"}
            raise ValueError(
                f"{len(self.specs)} pictures have {number} {self.of} or more, and {_MOST} can be laid out: take fewer "
                f"pictures with --most{other.get(self.of, '')}"
            )


def folder_of(spec: str) -> str:
    return Path(spec).parent.name
