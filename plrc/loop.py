"""What happens around a training step, whatever it is that trains."""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from plrc.distributed import World, all_gather_objects, any_rank, rank
from plrc.runlog import peak_memory

EXIT_DONE = 0
EXIT_PREEMPTED = 75  # stopped by SIGTERM or Ctrl-C with everything saved: start again with --resume auto (EX_TEMPFAIL)
MOST_UNDECODABLE = 0.01  # share of the images that may be undecodable before the run stops


def data_parallel(model: nn.Module, here: World) -> nn.Module:
    """The model that averages gradients over ranks. Buffers stay each rank's own."""
    if here.size == 1:
        return model
    devices = [here.device.index] if here.device.type == "cuda" else None
    with warnings.catch_warnings():
        # The name that replaces it is unknown before torch 2.14.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context that ``--precision`` asks for."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    enabled = precision == "bf16" or (precision == "auto" and has_bf16)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a pure function of the key."""
    return torch.Generator().manual_seed(derived_seed(*key))


def derived_seed(*key: int) -> int:
    """A seed that is a pure function of the key, 0 … 2^63 − 1."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) & (2**63 - 1)


def check_finite(losses: dict[str, float], step: int) -> None:
    """Raises a ValueError at the first loss that is none."""
    for name, value in losses.items():
        if not np.isfinite(value):
            raise ValueError(f"the {name} loss is {value} at step {step}: lower --lr; the last checkpoint is untouched")


def check_undecodable(mine: set[str], named: set[str], images: int) -> set[str]:
    """Name, once and on rank 0, what any rank found undecodable; stop on every rank when it is too much."""
    if not any_rank(bool(mine)):
        return named
    everyone: set[str] = set().union(*all_gather_objects(mine))
    if rank() == 0:
        for name in sorted(everyone - named):
            print(f"cannot be decoded, its neighbour takes its place: {name}", file=sys.stderr)
    if len(everyone) > MOST_UNDECODABLE * images:
        raise ValueError(
            f"{len(everyone)} of {images} images cannot be decoded, more than {MOST_UNDECODABLE:.0%}, "
            f"among them {'; '.join(sorted(everyone)[:3])}: check the disk or the copy of the data"
        )
    return everyone


class Stopwatch:
    """Time and images since the last line of the log."""

    def __init__(self) -> None:
        self.start, self.waited, self.images = time.perf_counter(), 0.0, 0

    def read(self, device: torch.device) -> dict[str, float]:
        """Images a second, the share of the time that was spent waiting for data, and the most memory used (MiB)."""
        elapsed = time.perf_counter() - self.start
        return {
            "images_per_second": round(self.images / elapsed, 2),
            "data_wait": round(self.waited / elapsed, 4),
            "memory_mib": peak_memory(device),
        }
