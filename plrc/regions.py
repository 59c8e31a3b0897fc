"""Region maps, and points drawn in regions.

A region map is an integer raster over the *whole image*: which region each image point belongs to. A view point's
region is the raster's value at the image point that its crop maps it to, so a region keeps its name in both views
(paper figure 1).

A region source is a class like those below, registered by one line in ``plrc.registry``; it may stand in any module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc.files import at_home
from plrc.geometry import Crop, cell_centres, cell_of
from plrc.registry import REGIONS, region_specs

MAX_REGIONS = 64  # of one image: the point losses cost (regions · points)² an image
VIEW_RASTER = 56  # a view's regions are looked up on a 56 × 56 raster (ours: 8 × 8 cells for each cell of a 7 × 7 map)
SUPERPIXEL_SIDE = 96  # longest side in pixels at which superpixels are computed
_PIECES = 200  # that SLIC cuts an image into, before they are merged
_PLACE = 50.0  # the image's longer side, in the units of Lab in which pieces are alike


LoadImage = Callable[[tuple[int, int]], Image.Image]


class RegionMaps(Protocol):
    """Anything that gives an image's regions.

    A registered source is a class, made from what stands behind the colon of ``--regions`` and from what the images
    come from (an absolute path, or anything else that names them). It raises a ValueError for an argument that it does
    not understand. If it is slow, it has ``settings``, a text with all that its maps depend on but the images: then
    they are kept (``plrc.data.kept``).
    """

    def raster(self, name: str, load: LoadImage) -> Tensor:
        """Region numbers ``(h, w)`` int64 in ``0 … n − 1`` over the whole image, at any resolution.

        Args:
            name: the image's name in its source. load: gives the upright image at no less than a (width, height).
        """
        ...


class GridRegions:
    """The n × n grid of equal rectangles, the paper's default with n = 4 (paper figure 1)."""

    def __init__(self, n: int | str, source: str = "") -> None:
        side = _whole_number("grid", n, 2)
        self._raster = torch.arange(side * side).reshape(side, side)

    def raster(self, name: str, load: LoadImage) -> Tensor:
        return self._raster


class SuperpixelRegions:
    """k superpixels an image (fewer if it has not so many pixels), kept by ``plrc.data.kept``.

    Scikit-image's SLIC cuts an image into many small pieces; of neighbours, those that are most alike in colour and
    place are merged until k are left (Ward's criterion). SLIC asked for k itself gives a third fewer, and they follow
    objects less well.
    """

    def __init__(self, k: int | str, source: str = "") -> None:
        self._k = _whole_number("superpixels", k, 1)
        self.settings = f"merged {self._k} {_PIECES} {_PLACE} {SUPERPIXEL_SIDE}"

    def raster(self, name: str, load: LoadImage) -> Tensor:
        from skimage.segmentation import slic  # takes a second to import

        small = load((SUPERPIXEL_SIDE, SUPERPIXEL_SIDE))  # not the decoded crop: regions must not depend on it
        small.thumbnail((SUPERPIXEL_SIDE, SUPERPIXEL_SIDE), Image.Resampling.BILINEAR)
        pixels = np.array(small)
        pieces = _dense(slic(pixels, n_segments=_PIECES, compactness=20, start_label=0))
        return torch.from_numpy(_merged(pixels, pieces, self._k)).long()


class MaskRegions:
    """One label PNG an image, of any size, in ``folder`` under the image's name with the suffix .png.

    Its frame is the upright image's. Each distinct value is a region, 0 too: the loss needs only to know what belongs
    together.
    """

    def __init__(self, folder: Path | str, source: str = "") -> None:
        self._folder = at_home(folder)
        if not self._folder.is_dir():
            raise ValueError(f"--regions masks:{folder}: there is no such folder; it should hold a label PNG an image")

    def raster(self, name: str, load: LoadImage) -> Tensor:
        file = self._folder / Path(name).with_suffix(".png")
        if not file.exists():
            raise ValueError(f"{file} is missing: masks:DIR needs a label PNG for every image, under the image's name")
        try:
            with Image.open(file) as labels:
                mode, regions = labels.mode, _dense(np.array(labels))
        except (OSError, SyntaxError) as error:  # Pillow's two ways to say that a PNG is damaged
            raise ValueError(f"{file} cannot be read as a PNG: {error}") from error
        if mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(f"{file} is a colour image ({mode}): a label PNG has one channel of region numbers")
        if (count := int(regions.max()) + 1) > MAX_REGIONS:
            raise ValueError(f"{file} has {count} regions; an image may have {MAX_REGIONS} at most")
        return torch.from_numpy(regions).long()


def _merged(pixels: np.ndarray, pieces: np.ndarray, count: int) -> np.ndarray:
    """Pieces ``(h, w)`` of an RGB image, merged until ``count`` connected ones are left."""
    from scipy.sparse import coo_matrix
    from skimage.color import rgb2lab
    from sklearn.cluster import AgglomerativeClustering

    if (n := int(pieces.max()) + 1) <= count:
        return pieces
    places = np.indices(pieces.shape) * (_PLACE / max(pieces.shape))
    flat = pieces.ravel()
    sums = [np.bincount(flat, values.ravel()) for values in (*np.moveaxis(rgb2lab(pixels), 2, 0), *places)]
    means = np.stack(sums, axis=1) / np.bincount(flat)[:, None]
    one = np.concatenate((pieces[1:].ravel(), pieces[:, 1:].ravel()))
    other = np.concatenate((pieces[:-1].ravel(), pieces[:, :-1].ravel()))
    touch = coo_matrix((np.ones(len(one)), (one, other)), (n, n))
    found: np.ndarray = AgglomerativeClustering(count, connectivity=touch + touch.T).fit_predict(means)
    return found[pieces]


def open_regions(spec: str, source: str, others: Sequence[str] = ()) -> RegionMaps:
    """The region source that ``--regions`` names: ``NAME:ARGUMENT``, with a name of ``plrc.registry.REGIONS``.

    Args:
        source: what the images come from (an absolute path).
        others: further specifications that the caller knows, for the error.

    Raises:
        ValueError: there is no such source, or its argument is missing, wrong or out of range.
    """
    kind, _, argument = spec.partition(":")
    if kind not in REGIONS or not argument:
        raise ValueError(f"--regions {spec!r} is not known: write {region_specs(*others)}")
    made = REGIONS[kind].load()
    try:
        return made(argument, source)
    except ValueError as error:
        raise ValueError(f"--regions {spec}: {str(error).removeprefix(f'--regions {spec}').lstrip(': ')}") from error


def raster_of(maps: RegionMaps, name: str, load: LoadImage) -> Tensor:
    """An image's region map. Raises a ValueError if a source of one's own gives something else."""
    raster = maps.raster(name, load)
    if isinstance(raster, Tensor) and raster.ndim == 2 and raster.dtype == torch.int64 and (raster >= 0).all():
        return raster
    given = f"{raster.dtype} {tuple(raster.shape)}" if isinstance(raster, Tensor) else type(raster).__name__
    where = f"{type(maps).__name__}.raster({name!r})"
    raise ValueError(f"{where} gives {given}: a region map is a torch.int64 tensor (h, w) of 0 and more")


def _whole_number(kind: str, argument: int | str, power: int) -> int:
    """A number, that to this power of regions being possible."""
    spec = f"--regions {kind}:{argument}"
    if not str(argument).isdecimal():
        raise ValueError(f"{spec} is not known: behind the colon stands a whole number")
    if not 2 <= (count := int(argument) ** power) <= MAX_REGIONS:
        raise ValueError(f"{spec} makes {count} regions an image; between 2 and {MAX_REGIONS} are possible")
    return int(argument)


def _dense(labels: np.ndarray) -> np.ndarray:
    """The same raster with its distinct values renamed to 0 … n − 1."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


_DIAGONAL = cell_centres(VIEW_RASTER, VIEW_RASTER).diagonal().T  # (56, 2)


def view_regions(raster: Tensor, crops: Crop) -> Tensor:
    """Regions that views of one image see: ``(V, 56, 56)`` uint8, for its raster and crops of batch shape ``(V,)``.

    Raises:
        ValueError: the raster has more than ``MAX_REGIONS`` regions.
    """
    if (count := int(raster.max()) + 1) > MAX_REGIONS:
        raise ValueError(f"an image has {count} regions; {MAX_REGIONS} at most are possible: see --regions")
    views = crops.box.shape[0]
    # A view's columns are columns of its image, and its rows rows: the diagonal tells them all.
    row, column = cell_of(crops.to_image(_DIAGONAL.expand(views, -1, -1)), *raster.shape)
    return raster[row[:, :, None], column[:, None, :]].to(torch.uint8)


def sample_points(regions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Points drawn uniformly in region ∩ view, with replacement: a cell of the view's raster, then a place in the cell.

    Args:
        regions: ``(B, h, w)`` integer, the region that each cell of each view sees, each in ``0 … R − 1``.
        draws: ``(B, R, P, 3)`` random numbers, uniform in [0, 1), for P points in each of R regions.

    Returns:
        Points ``(B, R, P, 2)`` in the view frame, and ``(B, R)`` bool: which regions the view shows at all. Points of a
        region that it does not show are placeholders, to be masked.
    """
    b, h, w = regions.shape
    count = draws.shape[1]
    # Cells sorted by region: those of region r are a run from start[r] of length size[r], and a draw is one look-up.
    ordered, cells = regions.reshape(b, h * w).long().sort(dim=1, stable=True)
    edges = torch.searchsorted(ordered, torch.arange(count + 1, device=regions.device).expand(b, -1).contiguous())
    start, size = edges[:, :-1], edges.diff(dim=1)  # (B, R)
    pick = start[:, :, None] + (draws[..., 0] * size[:, :, None]).long().clamp(max=(size[:, :, None] - 1).clamp(min=0))
    cell = cells.gather(1, pick.clamp(max=h * w - 1).flatten(1)).view(pick.shape)
    x = (cell % w + draws[..., 1]) / w
    y = (cell // w + draws[..., 2]) / h
    return torch.stack((x, y), dim=-1), size > 0
