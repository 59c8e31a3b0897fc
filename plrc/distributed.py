"""Ranks: how processes find each other and what they say to each other.

Every function does the sensible thing in a single process without a process group, so that the same code runs in
pytest, on a laptop and under torchrun.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Its functions' default arguments name the group that exists when it is imported. DistributedDataParallel would do so
# later: that group is never freed, and gloo's threads, running when Python ends, abort the process now and then.
import torch.distributed.nn.functional
from torch import Tensor

T = TypeVar("T")
_LOST = "[Tt]imed out|[Cc]onnection (closed|reset)|Broken pipe"  # what gloo says of a rank that does not answer
_BY_TORCHRUN = "start it by torchrun or srun, or unset it to train with one process"
_GRACE = 2  # seconds in which all ranks that still run have found out


@dataclass(frozen=True)
class World:
    """This process among all of a run. ``device`` is its GPU, or the CPU where there is none."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@contextmanager
def world(minutes: float = 10) -> Iterator[World]:
    """Join the process group that the environment of torchrun, or of a task of Slurm's srun, describes; one process
    without either is a world of its own.

    Tensors on GPUs travel by nccl, those on CPU by gloo. ``minutes`` bound how long a rank waits for one that hangs:
    then a ValueError names it (of gloo; nccl ends the process by itself).
    """
    if "RANK" not in os.environ:
        os.environ.update(_ranks_of_slurm())
    rank, size, local_rank = told("RANK", 0), told("WORLD_SIZE", 1), told("LOCAL_RANK", 0)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if size > 1 and name not in os.environ]
    if missing or not 0 <= rank < size:
        wrong = f"{missing[0]} is missing" if missing else f"RANK is {rank}"
        raise ValueError(f"the environment has WORLD_SIZE={size}, but {wrong}: {_BY_TORCHRUN}")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {local_rank} of this machine has no GPU: it has {torch.cuda.device_count()}; "
                f"start torchrun with --nproc_per_node={torch.cuda.device_count()} or fewer"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    timeout = timedelta(minutes=minutes)
    if size > 1:
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        except dist.DistError as error:
            raise ValueError(_not_met(error, rank, size, minutes)) from error
        if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
            # torchrun gives restarted processes the store of the dead ones (seen with torch 2.14): without a prefix of
            # its own, a rank finds a dead peer's address there and is refused. Nodes count restarts apart, so for
            # several of them the README's command turns the sharing off instead.
            store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield World(rank, size, device)
    except RuntimeError as error:
        if size == 1 or not re.search(_LOST, str(error)):
            raise
        raise ValueError(
            f"{_silent(store, rank, size)} did not answer within {minutes:g} minutes (--timeout), or ended: see what "
            "it said last, and start again, a training with --resume auto"
        ) from error
    if dist.is_initialized():
        dist.destroy_process_group()  # not after an error: it would wait for peers that wait for this rank


def told(name: str, default: int) -> int:
    """A number that torchrun or Slurm told this process by its environment. Raises a ValueError if it is none."""
    text = os.environ.get(name, "") or str(default)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name}={text} in the environment is no whole number: {_BY_TORCHRUN}") from error


def _not_met(error: Exception, rank: int, size: int, minutes: float) -> str:
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    if "EADDRINUSE" in str(error):
        return f"the port of {place} (MASTER_PORT) is taken by another process: take another one, or use torchrun"
    if rank:
        return f"rank {rank} cannot reach rank 0 at {place} (MASTER_ADDR, MASTER_PORT) within {minutes:g} minutes"
    lacking = joined[1] if (joined := re.search(r"(\d+)/\d+ clients joined", str(error))) else "not all"
    return f"{lacking} of {size} ranks came to {place} within {minutes:g} minutes (--timeout): start all of them"


def _silent(store: dist.Store, rank: int, size: int) -> str:
    """The ranks that do not say that they wait."""
    try:
        store.set_timeout(timedelta(seconds=_GRACE))
        store.set(f"rank {rank} waits", "")
        time.sleep(_GRACE)
        named = [f"rank {r}" for r in range(size) if not store.check([f"rank {r} waits"])]
    except RuntimeError:  # the store went with the rank that held it
        named = ["rank 0"]
    return ", ".join(named) or "another rank"


def _ranks_of_slurm() -> dict[str, str]:
    """What torchrun would say to this process, if it is one of several tasks that srun has started; nothing if not.

    Raises:
        ValueError: the job has several tasks, and this process is none of them: it would train alone.
    """
    slurm = {name.removeprefix("SLURM_"): value for name, value in os.environ.items() if name.startswith("SLURM_")}
    tasks = told("SLURM_STEP_NUM_TASKS", 0)
    if not tasks and (meant := told("SLURM_NTASKS", 1)) > 1:
        raise ValueError(
            f"Slurm has {meant} tasks for this job, but started this process by itself: start it by srun, or by "
            "torchrun; one that is to train alone by srun --ntasks=1"
        )
    if tasks <= 1:
        return {}
    local = slurm["LOCALID"] if torch.cuda.device_count() != 1 else "0"  # --gpus-per-task shows each its own
    # The first of "node[003-006,9],other".
    listed = slurm.get("STEP_NODELIST") or slurm["JOB_NODELIST"]
    first = re.sub(r"\[(\w+)[^\]]*\]", r"\1", re.split(r",(?![^\[]*\])", listed)[0])
    port = 20000 + (told("SLURM_JOB_ID", 0) + told("SLURM_STEP_ID", 0)) % 10000
    place = {"MASTER_ADDR": first, "MASTER_PORT": str(port)} | {
        name: os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in os.environ
    }
    return {"RANK": slurm["PROCID"], "WORLD_SIZE": str(tasks), "LOCAL_RANK": local, **place}


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def all_gather(x: Tensor) -> Tensor:
    """Every rank's ``(n, …)``, in the order of ranks: ``(world · n, …)``. No gradient flows through it."""
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def all_gather_objects(x: Any) -> list[Any]:
    """Every rank's picklable object, in the order of ranks."""
    if world_size() == 1:
        return [x]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, x)
    return parts


def gather_objects(x: Any) -> list[Any]:
    """Every rank's picklable object, in the order of ranks, on rank 0; nothing on others."""
    if world_size() == 1:
        return [x]
    parts: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(x, parts, dst=0)
    return parts or []


def broadcast_object(x: Any) -> Any:
    """Rank 0's picklable object, on every rank."""
    if world_size() == 1:
        return x
    box = [x]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_main(compute: Callable[[], T]) -> T:
    """What rank 0 computes (picklable), on every rank. Its ValueError or OSError stops them all, as a ValueError."""
    result, error = None, None
    if rank() == 0:
        try:
            result = compute()
        except (ValueError, OSError) as problem:
            error = str(problem)
    result, error = broadcast_object((result, error))
    if error is not None:
        raise ValueError(error)
    return result


def all_mean(x: Tensor) -> Tensor:
    """Mean of every rank's tensor of the same shape."""
    if world_size() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / world_size()


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. Travels by gloo, so that no GPU has to be waited for."""
    return ask_ranks(flag)()


def ask_ranks(flag: bool) -> Callable[[], bool]:
    """``any_rank`` whose answer is waited for when it is called for; every rank calls for it."""
    if world_size() == 1:
        return lambda: flag
    votes = torch.tensor(int(flag))
    work = dist.all_reduce(votes, op=dist.ReduceOp.MAX, async_op=True)

    def answer() -> bool:
        work.wait()
        return bool(votes)

    return answer


def sent_to(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device. Nothing waits: from memory that is not pinned, a copy to a GPU stops all its work."""
    pinned = x.pin_memory() if device.type == "cuda" and not x.is_cuda else x
    return pinned.to(device, non_blocking=True)


class BatchShuffle:
    """One random permutation of the global batch, and the way back (ShuffleBN of MoCo).

    BatchNorm statistics of a query and of its own key must not come from the same images, else the network can tell
    from them which key belongs to which query. Each rank sends every sample straight to the rank that normalises it
    (all-to-all), so that no rank holds more than its own share.

    Args:
        n: samples a rank, the same on every rank. device: where they are.
        generator: a CPU generator *in the same state on every rank*.
    """

    def __init__(self, n: int, generator: torch.Generator, device: torch.device) -> None:
        size, me = world_size(), rank()
        # Shuffled place p holds the sample source[p]; rank r owns samples and places r·n … (r+1)·n − 1.
        source = torch.randperm(size * n, generator=generator)
        mine = (source // n == me).nonzero().flatten()  # places that my samples go to, ascending: by receiving rank
        self._outgoing = sent_to(source[mine] % n, device)
        self._sent = torch.bincount(mine // n, minlength=size).tolist()
        senders = source[me * n : (me + 1) * n] // n
        # What arrives is ordered by sender; its places within my share.
        self._incoming = sent_to(senders.argsort(stable=True), device)
        self._received = torch.bincount(senders, minlength=size).tolist()

    def scatter(self, x: Tensor) -> Callable[[], Tensor]:
        """``(n, …)`` of this rank → ``(n, …)`` drawn from all ranks, on their way until they are called for."""
        return _all_to_all(x[self._outgoing], self._sent, self._received, self._incoming)

    def restore(self, x: Tensor) -> Tensor:
        """Results ``(n, …)`` for the scattered samples → ``(n, …)`` for this rank's own, in their order."""
        return _all_to_all(x[self._incoming], self._received, self._sent, self._outgoing)()


def _all_to_all(x: Tensor, sent: list[int], received: list[int], places: Tensor) -> Callable[[], Tensor]:
    """What arrives, in order of senders, put into its places."""
    arrived, work = x, None
    if world_size() > 1:
        arrived, x = x.new_empty((sum(received), *x.shape[1:])), x.contiguous()
        work = dist.all_to_all_single(arrived, x, received, sent, async_op=True)

    def answer() -> Tensor:
        if work is not None:
            work.wait()
        placed = torch.empty_like(arrived)
        placed[places] = arrived
        return placed

    return answer
