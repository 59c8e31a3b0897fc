"""What surrounds the steps of a run, whatever it trains: how it starts and goes on, its checks, its log.

Ranks that disagree, images that cannot be decoded and losses that are not finite stop a run on every rank, in one
sentence.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shlex
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from plrc.checkpoint import FORMAT, STEP, load_checkpoint, newest_whole, save_checkpoint
from plrc.config import RunOptions
from plrc.data.loader import cores
from plrc.data.shards import Shards
from plrc.data.sources import Source, open_source, too_many_undecodable
from plrc.distributed import (
    World,
    all_gather_objects,
    all_mean,
    any_rank,
    ask_ranks,
    broadcast_object,
    from_main,
    told,
    world_size,
)
from plrc.files import check_folder, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

T = TypeVar("T")
EXIT_DONE = 0
EXIT_PREEMPTED = 75  # stopped by SIGTERM or Ctrl-C with everything saved: start again with --resume auto (EX_TEMPFAIL)

# Files of a run folder that ``written_whole`` had not finished.
_UNFINISHED = (
    "checkpoints/.*.pt.tmp",
    "figures/.*.*-*.tmp",
    ".config.yaml.*-*.tmp",
    ".log.jsonl.*-*.tmp",
    ".not_finite.pt.tmp",
)
_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second", "data_wait", "memory_mib")  # of a line of the log


def check_agreement(config: RunOptions, here: World) -> None:
    """Raise a ValueError on every rank if ranks differ in configuration, torch release or kind of device."""
    mine = {**config.to_dict(), "the torch release": torch.__version__, "the kind of device": here.device.type}
    everyone = all_gather_objects(mine)
    for number, theirs in enumerate(everyone):
        for name, value in theirs.items():
            if value != everyone[0][name]:
                raise ValueError(
                    f"ranks disagree on {name}: {everyone[0][name]!r} on rank 0, {value!r} on rank {number}; "
                    "start every node with the same command"
                )


def open_source_once(data: str) -> Source:
    """The source, listed by rank 0 alone: a million files are asked of the disk once, and all ranks see the same."""
    if not data:
        raise ValueError(
            "--data is missing: name a folder of images, or scenes:1000 for the embedded demo scenes; to go on with a "
            "run, give the flags that it began with, or its --config RUN/config.yaml"
        )
    source = from_main(lambda: open_source(data))
    # An index that does not stand beside its shards is each machine's own.
    return open_source(data) if isinstance(source, Shards) and not source.index.file.is_file() else source


def loading_processes(workers: int) -> int:
    """``--workers``; for -1 this rank's share of the machine's cores, at most 8."""
    if workers >= 0:
        return workers
    return max(1, min(8, cores() // max(1, told("LOCAL_WORLD_SIZE", 1))))


@contextmanager
def held(folder: str) -> Iterator[None]:
    """The run folder, for this run alone. What a kill left unfinished in it is removed.

    Raises:
        ValueError: on every rank, if another process holds it; names that one.
    """
    streams = list[IO[str]]()
    from_main(lambda: streams.append(_locked(Path(folder))))
    try:
        yield
    finally:
        for stream in streams:
            stream.close()


def _locked(folder: Path) -> IO[str]:
    check_folder(folder / "checkpoints")  # now, not when the first one is written
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a+")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to ({error.strerror}): name another --out") from error
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it goes with the process, and no loader inherits it
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            stream.seek(0)
            who = stream.read() or "another process"
            stream.close()
            raise ValueError(f"{folder} is in use by {who}: wait for it, or choose another --out") from error
        # else the file system knows no locks
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    for name in _UNFINISHED:  # by their names: the folder may hold what is another's
        for unfinished in folder.glob(name):
            unfinished.unlink(missing_ok=True)
    return stream


def _holder(folder: Path) -> tuple[int, ...]:
    """Tells the lock in a run's folder from one that another run made or wrote into; nothing if there is none.

    Not by what is in it: a process that closes a file, after reading it too, gives up its own lock on it (POSIX).
    """
    try:
        state = (folder / ".lock").stat()
    except OSError:
        return ()
    return state.st_dev, state.st_ino, state.st_mtime_ns


def resume(config: RunOptions, here: World, images: str, data: str, kind: str = FORMAT) -> dict[str, Any] | None:
    """The checkpoint that ``--resume`` names; None for a new run.

    Args:
        images: the fingerprint of what is trained on. data: how the user named it. kind: of the checkpoint, see
            ``plrc.checkpoint``.

    Raises:
        ValueError: ``--out`` holds a run, but ``--resume`` does not ask to go on with it; or the checkpoint belongs to
            a run with another configuration or other images.
    """
    folder = Path(config.out) / "checkpoints"
    restarted = any_rank(told("TORCHELASTIC_RESTART_COUNT", 0) > 0)
    exists = broadcast_object(any(folder.glob("*.pt")))
    file = Path(config.resume)
    if not restarted:
        from_main(config.check_place)
    if config.resume in ("auto", "never") and not exists:
        return None
    if config.resume == "auto" or (restarted and exists):
        file = from_main(lambda: newest_whole(folder))
    if broadcast_object(file.is_file()) and not file.is_file():
        raise ValueError(f"there is no {file} on rank {here.rank}: put --out on a disk that all nodes share")
    saved = load_checkpoint(file, kind)
    if "optimizer" not in saved:
        raise ValueError(f"{file} holds weights alone, as a converted checkpoint does, and cannot be trained further")
    contradictions = config.contradictions(saved["config"])
    if not images.startswith(saved["images"]):  # until 0.1 that of a detector's images had not their objects
        what = "objects" if images[:16] == saved["images"][:16] else "images"
        contradictions.append(f"the {what} of {data} are not those of the saved run")
    if contradictions:
        longer = f" (with --init {config.out}, to train longer)" * any("--epochs" in what for what in contradictions)
        raise ValueError(
            f"cannot resume {file}: {'; '.join(contradictions)}. "
            f"Leave out what differs, choose another --out{longer}, or {config.anew}"
        )
    if saved["ranks"] != here.size and here.is_main:
        print(
            f"{file} was written by {saved['ranks']} rank{'s' * (saved['ranks'] > 1)}, now there are {here.size}: "
            "training goes on, but not bit for bit (each rank draws its own points)",
            file=sys.stderr,
        )
    return saved


def restore(saved: dict[str, Any] | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint's state back; the number of steps already done, 0 for a new run."""
    if saved is None:
        return 0
    model.load_state_dict(saved["model"])
    fused = {"fused": optimizer.defaults["fused"]}  # as this device has it, not the one that saved
    groups = [group | fused for group in saved["optimizer"]["param_groups"]]
    optimizer.load_state_dict(saved["optimizer"] | {"param_groups": groups})
    return int(saved["step"])


class Stop:
    """Whether a signal has asked this process to stop."""

    requested = False
    _asked: Callable[[], bool] | None = None

    def agreed(self) -> bool:
        """Whether any rank was asked to stop, the same on every rank; called once a step.

        Of several ranks the answer is that of the step before, so that no rank waits for another's host.
        """
        if world_size() == 1:
            return self.requested
        asked, self._asked = self._asked, ask_ranks(self.requested)
        return asked is not None and asked()


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """SIGTERM (pre-emption) and Ctrl-C ask for a stop after the running step; a second Ctrl-C stops at once."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGINT and os.environ.get("RANK", "0") == "0":  # not by print, which it may interrupt
            os.write(2, b"\nstopping after the running step, once it is saved; Ctrl-C again stops at once\n")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
        if stop._asked:
            stop._asked()  # no rank leaves while another still waits for its word
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16(precision, device))


def in_bf16(precision: str, device: torch.device) -> bool:
    """Whether ``--precision`` means bf16; ``auto`` does where the hardware multiplies matrices in it.

    On a CPU that is AMX, or AVX-512's instructions for bf16 of AMD's; by Intel's bf16 is slower than fp32
    (docs/performance.md).
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    amd = torch.cpu._is_avx512_bf16_supported() and _is_amd()
    return device.type == "cpu" and (amd or torch.cpu._is_amx_tile_supported())


@cache
def _is_amd() -> bool:
    about = Path("/proc/cpuinfo")
    return about.exists() and "AuthenticAMD" in about.read_text()


def cannot_compile(device: torch.device) -> str:
    """Why ``torch.compile`` does not work here, on one line: tried on a small function; nothing if it does."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler, header or Triton, each in its own way
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a pure function of the key."""
    return torch.Generator().manual_seed(derived_seed(*key))


def derived_seed(*key: int) -> int:
    """A seed that is a pure function of the key, 0 … 2^63 − 1."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) & (2**63 - 1)


def check_state(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Raise a ValueError on every rank that names a tensor of what is to be saved which is not finite.

    A step's losses are those before it: only the state tells what it led to.
    """
    of_optimizer = optimizer.state_dict()["state"]
    state = {
        **model.state_dict(),
        **{f"{key} of parameter {i}": t for i, of in of_optimizer.items() for key, t in of.items()},
    }
    broken = [name for name, t in state.items() if isinstance(t, Tensor) and not t.isfinite().all()]
    if named := sorted(set().union(*all_gather_objects(broken[:1]))):
        raise ValueError(f"{named[0]} is not finite after step {step}: lower --lr; the last checkpoint is untouched")


def check_step(
    losses: Mapping[str, Tensor],
    model: nn.Module,
    kept: Callable[[], dict[str, Any]],
    config: RunOptions,
    step: int,
    here: World,
) -> None:
    """Raise a ValueError on every rank if losses or gradients are not finite, before the weights become so.

    One rank that saw it, or the first, writes ``not_finite.pt`` into the run folder: ``kept()``, the model and the
    configuration, from which the step is computed again. On a GPU it is looked for when the losses are logged, as the
    GPU is waited for then anyway.
    """
    if here.device.type != "cpu" and (step + 1) % config.log_every:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    everything = [*losses.values(), nn.utils.get_total_norm(gradients, torch.inf)]
    if not any_rank(not torch.stack(everything).isfinite().all()):
        return
    seen = all_gather_objects([f"the {name} loss is {x.item()}" for name, x in losses.items() if not x.isfinite()])
    writer = next((r for r, of in enumerate(seen) if of), 0)
    file, told = Path(config.out) / "not_finite.pt", ""
    if here.rank == writer:
        precision = "bf16" if in_bf16(config.precision, here.device) else "fp32"
        content = {"step": step, "rank": here.rank, "ranks": here.size, "model": model.state_dict(), **kept()}
        content["config"] = {**config.to_dict(), "precision": precision}
        try:
            save_checkpoint(file, content, kind=STEP)
            told = f", plrc replay {shlex.quote(str(file))} computes it again"
        except OSError as error:
            told = f", the step cannot be saved ({error.strerror})"
    said = " and ".join(seen[writer]) or "the gradient is not finite"
    if not all(p.isfinite().all() for p in model.parameters() if p.requires_grad):
        told += "; it began earlier: the same command with --resume auto --log-every 1 comes to the first such step"
    raise ValueError(f"{said} at step {step + 1}: lower --lr; the last checkpoint is untouched{told}")


def computed_again(
    model: nn.Module, again: Callable[[], Mapping[str, Tensor]], saved: Mapping[str, Any], images: int
) -> list[str]:
    """Lines that tell the losses which a step gives, and what in it was not finite first.

    again: computes losses and gradients. saved: what ``check_step`` has kept. images: of the batch.
    """
    found = list[str]()

    def note(what: str, of: Any) -> None:
        if isinstance(of, Tensor):
            found.extend([what] * (not of.isfinite().all()))
        elif isinstance(of, list | tuple):
            for part in of:
                note(what, part)

    for name, parameter in model.named_parameters():
        note(f"{name}, before the step", parameter)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda p, n=name: note(f"the gradient of {n}", p.grad))
    for name, buffer in model.named_buffers():
        if "running_" not in name:  # BatchNorm's are those after it
            note(f"{name}, before the step", buffer)
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, out, n=name: note(f"what {n} gives", out))
    losses = again()
    found = list(dict.fromkeys(found))
    more = f" (of {len(found)})" if len(found) > 1 else ""
    return [
        f"step {saved['step'] + 1}, rank {saved['rank']} of {saved['ranks']}: {images} images",
        *(f"the {name} loss is {loss.item():.6g}" for name, loss in losses.items()),
        f"not finite first{more}: {found[0]}" if found else "here all is finite",
    ]


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Raise a ValueError that names the losses which are infinite or not a number."""
    if broken := {name: value for name, value in losses.items() if not np.isfinite(value)}:
        said = " and ".join(f"the {name} loss is {value}" for name, value in broken.items())
        again = "the same command with --resume auto --log-every 1 comes to the first such step again"
        raise ValueError(f"{said} at step {step}: lower --lr; the last checkpoint is untouched, {again}")


class Steps:
    """What the steps of a run share, whatever it trains: the wait for data, the log, images that cannot be decoded.

    Args:
        config: with ``log_every`` and ``batch_size``. log: of rank 0, None on others. images: in the data.
    """

    def __init__(self, config: Any, here: World, log: RunLog | None, images: int) -> None:
        self._config, self._here, self._log, self._images = config, here, log, images
        self._undecodable, self._named = set[str](), set[str]()
        self._start, self._waited, self._count = time.perf_counter(), 0.0, 0
        if log and config.precision == "bf16" and not in_bf16("auto", here.device):
            log.say("note: here bf16 is computed by way of fp32, a step takes several times as long: --precision auto")

    def batch(self, loader: Iterator[T]) -> T:
        """The next batch. How long it is waited for goes into the log."""
        waiting = time.perf_counter()
        try:
            batch = next(loader)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; --timeout says how long to wait, --resume auto goes on") from error
        self._waited += time.perf_counter() - waiting
        return batch

    def done(
        self, step: int, epoch: float, rate: float, losses: Mapping[str, Tensor], undecodable: Iterable[str], last: bool
    ) -> None:
        """Count a step; check and log every ``log_every``-th one, and the last.

        Raises:
            ValueError: on every rank, if a loss is not finite or too many images cannot be decoded.
        """
        self._count += self._config.batch_size
        self._undecodable.update(undecodable)
        if step % self._config.log_every == 0 or last:
            values = dict(zip(losses, all_mean(torch.stack(list(losses.values()))).tolist(), strict=True))
            check_finite(values, step)
            self.check_undecodable()
            elapsed = time.perf_counter() - self._start
            pace = {"images_per_second": round(self._count / elapsed, 2), "data_wait": round(self._waited / elapsed, 4)}
            if self._log:
                memory = peak_memory(self._here.device)
                line = {"step": step, "epoch": round(epoch, 4), **values, "lr": rate, **pace, "memory_mib": memory}
                self._log.write(line)
            self._start, self._waited, self._count = time.perf_counter(), 0.0, 0
        if self._log:
            self._log.advance()

    def check_undecodable(self) -> None:
        """Name each of them once, on rank 0, and stop every rank when there are too many: before anything is saved."""
        if not any_rank(bool(self._undecodable)):
            return
        everyone: set[str] = set().union(*all_gather_objects(self._undecodable))
        if self._log:
            for name in sorted(everyone - self._named):
                self._log.say(f"cannot be decoded, its neighbour takes its place: {name}")
        if too_many := too_many_undecodable(len(everyone), self._images):
            named = "; ".join(sorted(everyone)[:3])
            raise ValueError(f"{too_many}, among them {named}: check the disk or the copy of the data")
        self._named = everyone


class RunLog:
    """The log of rank 0; a context manager.

    On a terminal the progress is a bar; in a file, such as a batch system's, each log step is a line of its own.

    Args:
        folder: the run folder. total: steps of the whole run. first_step: steps already done. What an interrupted run
            logged after them is dropped, so that a resumed run's log reads as if it had never stopped.
    """

    def __init__(self, folder: Path, total: int, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import, and only rank 0 needs it

        self._file = folder / "log.jsonl"
        kept = [line for line in read_log(folder) if line["step"] <= first_step]
        with written_whole(self._file) as unfinished:
            unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._stream = self._file.open("a", buffering=1)
        self._folder, self._holder = folder, _holder(folder)
        self._board: SummaryWriter | None = SummaryWriter(
            str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None
        )
        self._failed, threading.excepthook = threading.excepthook, self._thread_failed
        self._total, self._first, self._start = total, first_step, time.perf_counter()
        self._bar = tqdm(
            total=total,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            file=sys.stderr,
            disable=None,  # where stderr is no terminal
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._bar.close()
        self._on_board(lambda board: board.close())
        threading.excepthook = self._failed
        self._stream.close()

    def keep_config(self, config: RunOptions) -> None:
        """``config.yaml``, from which the run can be repeated."""
        with written_whole(self._file.with_name("config.yaml")) as unfinished:
            unfinished.write_text(yaml.safe_dump(config.repeatable(), sort_keys=False), encoding="utf-8")

    def advance(self) -> None:
        """One step is done."""
        with suppress(OSError):
            self._bar.update()

    def write(self, line: dict[str, Any]) -> None:
        """One line of the log: ``step``, ``epoch``, ``images_per_second`` and other scalars, and losses by name."""
        self.check_folder()
        self._stream.write(json.dumps(line) + "\n")

        def scalars(board: SummaryWriter) -> None:
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    board.add_scalar(name, value, line["step"])

        self._on_board(scalars)
        losses = " ".join(f"{name} {line[name]:.3f}" for name in losses_of(line))
        rate = line["images_per_second"]
        said = f"epoch {line['epoch']:.1f}  {rate:.{int(rate < 1)}f} images/s  {losses}"
        if self._bar.disable:
            elapsed = time.perf_counter() - self._start
            left = elapsed * (self._total - line["step"]) / max(line["step"] - self._first, 1)
            clock = f"{tqdm.format_interval(elapsed)}, {tqdm.format_interval(left)} left"
            self.say(f"step {line['step']}/{self._total} [{clock}]  {said}")
        else:
            self._bar.set_postfix_str(said, refresh=False)

    def picture(self, name: str, figure: Figure, step: int) -> None:
        """A figure among TensorBoard's images."""
        self._on_board(lambda board: board.add_figure(name, figure, step))

    def _on_board(self, write: Callable[[SummaryWriter], object]) -> None:
        """TensorBoard's events are beside the log: where they cannot be written, the training goes on."""
        try:
            if self._board:
                write(self._board)
        except OSError as error:
            self._board = None
            self.say(f"note: no more events for TensorBoard, they cannot be written: {error}")

    def _thread_failed(self, how: threading.ExceptHookArgs) -> None:
        if not (issubclass(how.exc_type, OSError) and "tensorboard" in type(how.thread).__module__):
            self._failed(how)  # else it is told when the next event is written

    def check_folder(self) -> None:
        """Raise a ValueError if the run folder was moved or removed, or is another run's by now."""
        if _holder(self._folder) != self._holder:
            raise ValueError(
                f"{self._folder} was moved or removed, or is another run's now: nothing is written there; "
                "what was saved before is in this run's own folder, go on there with --resume auto"
            )

    def say(self, message: str) -> None:
        """A line for people, above the progress bar. A full disk, or a terminal that has gone, ends no training."""
        with suppress(OSError):
            self._bar.write(message, file=sys.stderr)


def losses_of(line: Iterable[str]) -> list[str]:
    """Names of the losses in a line of the log, in its order."""
    return [name for name in line if name not in _NOT_LOSSES]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run folder's ``log.jsonl``, oldest first, up to one that a kill or a disk has damaged."""
    file = folder / "log.jsonl"
    if not file.exists():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if isinstance(line, dict) and isinstance(line.get("step"), int | float):
            lines.append(line)
    return lines


def peak_memory(device: torch.device) -> int:
    """Peak memory so far, MiB: the GPU's, or this process's on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak // (2**20 if sys.platform == "darwin" else 2**10)
