"""``plrc regions``: the region maps of a data set, computed before a training asks for them."""

from __future__ import annotations

import time

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from plrc.data.images import UndecodableImage
from plrc.data.kept import KeptRegions
from plrc.data.loader import cores, make_loader
from plrc.data.shards import Shards
from plrc.data.sources import Source, open_source
from plrc.queries import Regions
from plrc.regions import open_regions

_CHUNK = 32  # images that a process takes at a time


def compute_regions(query: Regions) -> list[str]:
    """Compute what is not there yet, on all cores; what was done. Interrupted and called again it goes on.

    Raises a ValueError at the first that cannot be kept.
    """
    source = open_source(query.data)
    kept = KeptRegions(open_regions(query.regions, query.data), source, query.data)
    if kept.file is None:
        raise ValueError(f"--regions {query.regions} is not kept: a training makes it as fast as it could be read")
    workers = cores() if query.workers < 0 else query.workers
    chunks = (list(range(i, min(i + _CHUNK, len(source)))) for i in range(0, len(source), _CHUNK))
    computed, undecodable, began = 0, list[str](), time.perf_counter()
    with tqdm(total=len(source), unit="image", disable=None, leave=False) as bar:
        for done in make_loader(_Images(kept, source), chunks, workers, torch.device("cpu"), list):
            computed += sum(of is True for of in done)
            undecodable += [of for of in done if isinstance(of, str)]
            bar.update(len(done))
    rate = computed / max(workers, 1) / (time.perf_counter() - began)
    lines = [f"{len(source)} images: {computed} computed now, {rate:.0f} images/s a process"] if computed else []
    lines += [f"cannot be decoded: {name}" for name in undecodable]
    size = kept.file.stat().st_size / len(source)
    return [*lines, f"--regions {query.regions} of {query.data} is in {kept.file}, {size:.0f} bytes an image"]


class _Images(Dataset[bool | str]):
    """Whether an image's regions had to be computed; of one that cannot be decoded, its name and the reason."""

    def __init__(self, kept: KeptRegions, source: Source) -> None:
        self._kept, self._source = kept, source

    def __getitems__(self, images: list[int]) -> list[bool | str]:
        wanted = [i for i in images if self._kept.stored(i) is None]
        if wanted and isinstance(self._source, Shards):
            self._source.prefetch(wanted)
        return [self[i] if i in wanted else False for i in images]

    def __getitem__(self, i: int) -> bool | str:
        try:
            self._kept.raster(i)
        except UndecodableImage as error:
            return str(error)
        if self._kept.stored(i) is None:  # now, not after hours
            raise ValueError(f"{self._kept.file} cannot be written to: let XDG_CACHE_HOME name a folder with room")
        return True
