"""What ``plrc correspond`` matches: two pictures, or two views of one, cut and coloured as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.data.photometric import apply
from plrc.data.views import cut
from plrc.geometry import Crop
from plrc.regions import view_regions
from plrc.views.pictures import points_in_frame, region_raster
from plrc.views.session import Session


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures, or two views of one.

    Attributes:
        specs: what the two pictures were named by; of views twice the same. name: of the pair, for headings.
        points: ``(n, 2)`` of the left one; None for all. crops: of views, where they lie. rasters: regions, if wanted.
        background: the number of the region that is no object; None where every region is one.
    """

    specs: tuple[str, str]
    name: str
    left: Image.Image
    right: Image.Image
    points: Tensor | None
    crops: tuple[Crop, Crop] | None
    rasters: tuple[Tensor, Tensor] | None
    background: int | None = None

    @property
    def mirrored(self) -> tuple[str, str]:
        """ ", mirrored" for each view that is, else nothing."""
        left, right = (", mirrored" * bool(crop.flip) for crop in self.crops) if self.crops else ("", "")
        return left, right


def pairs_of(
    session: Session,
    pictures: Sequence[str],
    other: str | None,
    points: Sequence[Sequence[Any]],
    regions: str | None,
    size: int | Sequence[int],
    seed: int,
    scale: float | None,
) -> Iterator[tuple[Pair, dict[str, str]]]:
    """Each pair, and what was read for it: name → SHA-256."""
    background = 0 if regions == "objects" else None
    sampler = view_sampler(load_config("imagenet"))
    if scale is not None:
        sampler = replace(sampler, scale=(scale, sampler.scale[1]))
    for i, spec in enumerate(pictures):
        picture = session.picture(spec)
        wanted = points_in_frame(points, picture) if points else None
        if other is not None:
            second = session.picture(other)
            rasters = (region_raster(picture, regions), region_raster(second, regions)) if regions else None
            name = f"{picture.name} – {second.name}"
            pair = Pair((spec, other), name, picture.image, second.image, wanted, None, rasters, background)
            yield pair, picture.inputs | second.inputs
            continue
        if not isinstance(size, int):
            raise ValueError(f"two views are squares: give --size one number, not {size[0]}x{size[1]}")
        drawn = sampler.draw(seed, 0, i, picture.image.size)
        pixels = apply(cut(picture.image, drawn.crops, size).permute(0, 3, 1, 2), torch.from_numpy(drawn.colours))
        left, right = (Image.fromarray((view.permute(1, 2, 0) * 255).round().byte().numpy()) for view in pixels)
        if wanted is not None:
            wanted = drawn.crops[0].to_view(wanted)
            outside = ~((wanted >= 0) & (wanted < 1)).all(dim=1)
            if outside.any():
                x, y, *unit = points[int(outside.nonzero()[0])]
                where = f"{x:g}px,{y:g}px" if unit else f"{x:g},{y:g}"
                raise ValueError(
                    f"{picture.name}: the point {where} lies outside the first view of --seed {seed}: try another "
                    "--seed, or a larger --scale"
                )
        both = None
        if regions:
            seen = view_regions(region_raster(picture, regions), drawn.crops).long()
            both = (seen[0], seen[1])
        crops = (drawn.crops[0], drawn.crops[1])
        yield Pair((spec, spec), picture.name, left, right, wanted, crops, both, background), picture.inputs
