"""From a source to batches: which image comes when, and what a worker does with it.

A global batch is the same images in the same order whatever the number of ranks, workers or accumulated parts; only
who computes them differs. One loader lasts the whole run, so that no epoch begins with a wait.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from plrc.config import Config
from plrc.data.kept import KeptRegions
from plrc.data.photometric import Photometric, apply, normalise
from plrc.data.shards import Shards
from plrc.data.sources import Source, first_decodable
from plrc.data.views import ViewParameters, ViewSampler, cut, pixels_needed
from plrc.geometry import Crop
from plrc.regions import RegionMaps, view_regions

MIXED = 16  # shards whose images are shuffled together


@dataclass
class Batch:
    """One rank's part of a batch of B images.

    Attributes:
        views: ``(2, B, 3, S, S)`` uint8, not yet coloured. colours: ``(2, B, N_PARAMETERS)`` float32, on the CPU.
        crops: of batch shape ``(2, B)``. regions: ``(2, B, 56, 56)`` uint8. region_count: R, above every one of them.
        indices: ``(B,)`` int64, the images' places in the source. undecodable: a clause for each replaced file,
        its name and the reason.
    """

    views: Tensor
    colours: Tensor
    crops: Crop
    regions: Tensor
    region_count: int
    indices: Tensor
    undecodable: frozenset[str]

    def to(self, device: torch.device) -> Batch:
        """Views and regions on the device; parameters stay on the CPU, where decisions are taken without waiting."""
        views, regions = self.views.to(device, non_blocking=True), self.regions.to(device, non_blocking=True)
        return replace(self, views=views, regions=regions)

    def pin_memory(self) -> Batch:
        return replace(self, views=self.views.pin_memory(), regions=self.regions.pin_memory())

    def coloured(self) -> Tensor:
        """The views as the network sees them: ``(2, B, 3, S, S)``, coloured, ImageNet-normalised, channels-last."""
        flat = normalise(apply(self.views.flatten(0, 1), self.colours.flatten(0, 1)))
        return flat.contiguous(memory_format=torch.channels_last).unflatten(0, self.views.shape[:2])

    def split(self, parts: int) -> list[Batch]:
        """Equal parts of the batch, in order, for gradient accumulation."""
        size = len(self.indices) // parts
        split = []
        for part in (slice(i, i + size) for i in range(0, size * parts, size)):
            columns = {name: getattr(self, name)[:, part] for name in ("views", "colours", "crops", "regions")}
            split.append(replace(self, **columns, indices=self.indices[part]))
        return split


def view_sampler(config: Config) -> ViewSampler:
    """The augmentation of a configuration."""
    colours = Photometric(*config.jitter, config.jitter_p, config.grey_p, config.blur_p, config.blur_sigma)
    return ViewSampler(config.crop_scale, config.flip_p, colours)


class TwoViews(Dataset[Batch]):
    """Two views of each image of a source. Items are asked for as (epoch, index) and come as batches of one."""

    def __init__(self, source: Source, regions: RegionMaps | KeptRegions, config: Config) -> None:
        self._source = source
        self._regions = regions if isinstance(regions, KeptRegions) else KeptRegions(regions, source)
        self._side, self._seed = config.image_size, config.seed
        self._sampler = view_sampler(config)

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, items: list[tuple[int, int]]) -> list[Batch]:
        """The samples of a batch; what can be asked of a server at once is."""
        if isinstance(self._source, Shards):
            self._source.prefetch([wanted for _, wanted in items])
        return [self[item] for item in items]

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        epoch, wanted = item

        def decode(index: int) -> tuple[ViewParameters, Image.Image]:
            drawn: list[ViewParameters] = []

            def needed(size: tuple[int, int]) -> tuple[int, int]:
                # By the place that asked, so that a neighbour does not appear twice with the same views.
                drawn.append(self._sampler.draw(self._seed, epoch, wanted, size))
                return pixels_needed(drawn[0].crops, self._side)

            image = self._source.load(index, needed)
            if not drawn:  # a source that never gives less
                needed(image.size)
            return drawn[0], image

        (parameters, image), index, undecodable = first_decodable(self._source, wanted, decode)
        raster = self._regions.raster(index)
        crops = parameters.crops
        return Batch(
            views=cut(image, crops, self._side).permute(0, 3, 1, 2)[:, None],
            colours=torch.from_numpy(parameters.colours)[:, None],
            crops=Crop(crops.box[:, None], crops.flip[:, None]),
            regions=view_regions(raster, crops)[:, None],
            region_count=int(raster.max()) + 1,
            indices=torch.tensor([index]),
            undecodable=frozenset(undecodable),
        )


def collate(samples: list[Batch]) -> Batch:
    """Batches of one as one batch."""
    crops = Crop(*(torch.cat([getattr(s.crops, name) for s in samples], dim=1) for name in ("box", "flip")))
    return Batch(
        views=torch.cat([s.views.movedim(2, -1) for s in samples], dim=1).movedim(-1, 2),  # as they lie
        **{name: torch.cat([getattr(s, name) for s in samples], dim=1) for name in ("colours", "regions")},
        crops=crops,
        region_count=max(s.region_count for s in samples),
        indices=torch.cat([s.indices for s in samples]),
        undecodable=frozenset().union(*(s.undecodable for s in samples)),
    )


class Order(Sampler[list[tuple[int, int]]]):
    """Which images this rank loads in each step from ``first_step`` on: lists of (epoch, index).

    The images of an epoch are a permutation that is a pure function of (seed, epoch), see ``order_of``; the last ones
    that do not fill a global batch are left out. Rank r takes the r-th share of each global batch.
    """

    def __init__(
        self,
        images: int,
        config: Config,
        rank: int,
        ranks: int,
        first_step: int = 0,
        shards: np.ndarray | None = None,
    ) -> None:
        self._images, self._shards, self._seed, self._batch = images, shards, config.seed, config.batch_size
        share = config.batch_size // ranks
        self._share = slice(rank * share, (rank + 1) * share)
        self.steps_per_epoch = images // config.batch_size
        self._steps = range(first_step, self.steps_per_epoch * config.epochs)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order, of_epoch = order_of(0, None, 0, 0), -1
        for step in self._steps:
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != of_epoch:
                order, of_epoch = order_of(self._images, self._shards, self._seed, epoch), epoch
            first = batch * self._batch
            yield [(epoch, int(i)) for i in order(first + self._share.start, first + self._share.stop)]


def order_of(images: int, shards: np.ndarray | None, seed: int, epoch: int) -> Callable[[int, int], np.ndarray]:
    """The order of an epoch's images: a function of two places that gives the images from the first up to the second.

    Of shards, which have ``shards`` (S,) images each, the order is a permutation of the shards, and one of the images
    within each ``MIXED`` shards that so follow one another. It takes memory for those alone, whatever comes before.
    """
    rng = np.random.default_rng((seed, epoch, 0, 1))
    if shards is None:
        permutation = rng.permutation(images)
        return lambda begin, end: permutation[begin:end]
    order = rng.permutation(len(shards))
    counts, first = shards[order], (shards.cumsum() - shards)[order]
    ends = np.append(counts.cumsum()[MIXED - 1 :: MIXED], images)  # of the groups; perhaps an empty one is the last

    @lru_cache(maxsize=2)
    def group(g: int) -> np.ndarray:
        own = slice(g * MIXED, (g + 1) * MIXED)
        listed = [np.arange(start, start + n) for start, n in zip(first[own], counts[own], strict=True)]
        return np.random.default_rng((seed, epoch, g, 2)).permutation(np.concatenate(listed))

    def places(begin: int, end: int) -> np.ndarray:
        found = list[np.ndarray]()
        while begin < end:
            g = int(np.searchsorted(ends, begin, "right"))
            start = int(ends[g - 1]) if g else 0
            found.append(group(g)[begin - start : end - start])
            begin += len(found[-1])
        return np.concatenate(found)

    return places


def cores() -> int:
    """Cores of the machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_loader(
    dataset: Dataset[Any],
    order: Iterable[list[Any]],
    workers: int,
    device: torch.device,
    collate: Callable[[list[Any]], Any] = collate,
    timeout: float = 10,
) -> Iterator[Any]:
    """Batches of this rank in order, prepared by ``workers`` processes (none: in this one), which begin at once.

    Raises a TimeoutError where they give no batch for ``timeout`` minutes; they are ended then.
    """
    before = set(multiprocessing.active_children())
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        # Forked, they share the list of names; Python 3.14's own choice would copy it into each.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=start_worker if workers else None,
    )
    batches = iter(loader)
    if not (processes := set(multiprocessing.active_children()) - before):
        return batches
    return _Watched(batches, processes, timeout)


class _Watched(Iterator[Any]):
    """Batches, and an end of the processes that make them when one is waited for too long. DataLoader's own ``timeout``
    does not see a process that stops while it hands a batch on."""

    def __init__(self, batches: Iterator[Any], processes: Iterable[BaseProcess], minutes: float) -> None:
        self._batches, self._processes, self._minutes = batches, processes, minutes
        self._silent = list[str]()

    def __next__(self) -> Any:
        watch = threading.Timer(self._minutes * 60, self._end)
        watch.daemon = True
        watch.start()
        try:
            return next(self._batches)
        except Exception:
            if not self._silent:
                raise
            living = list(self._processes)
            while living:
                with suppress(RuntimeError):  # by which DataLoader tells of each one's end, wherever we are
                    living[-1].join()
                    living.pop()
            of = f"no batch came for {self._minutes:g} minutes from loading process {', '.join(self._silent)}"
            raise TimeoutError(f"{of}: the disk or network that images come from hangs, or it was stopped") from None
        finally:
            watch.cancel()

    def _end(self) -> None:
        states = {process: _state(process.pid) for process in self._processes}
        waiting = [f"{process.pid}{state}" for process, state in states.items() if state]
        self._silent = waiting or [str(process.pid) for process in self._processes]
        for process in self._processes:
            process.kill()  # one that is stopped does not hear of SIGTERM


def _state(pid: int | None) -> str:
    """What a process waits for, in brackets; nothing where it does not, or the system does not tell."""
    with suppress(OSError):
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return {"T": " (stopped)", "D": " (waits for a disk or the network)"}.get(letter, "")
    return ""


def start_worker(worker: int) -> None:
    """A stop is the training process's decision, which still needs its workers when all are told to stop at once:
    Ctrl-C and SIGTERM are ignored here, but for a SIGTERM from that process, which so ends workers that are left."""
    torch.set_num_threads(1)
    # Without this what cannot be handed on is lost, and the training process waits for it for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_unsent)  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # not on macOS, where a worker just ends
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told_by, args=(parent.pid,), daemon=True).start()


def _end_unsent(error: Exception, batch: object) -> None:
    print(f"a loading process cannot hand on what it loaded: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
