"""Pre-training, to be read from top to bottom."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plrc import report, run
from plrc.checkpoint import Writer
from plrc.config import Config
from plrc.data.kept import KeptRegions
from plrc.data.loader import Batch, Order, TwoViews, make_loader
from plrc.data.sources import fingerprint
from plrc.distributed import World, world
from plrc.geometry import Crop
from plrc.model import PLRC
from plrc.pretrained.loading import begin_with
from plrc.regions import open_regions
from plrc.run import EXIT_DONE, EXIT_PREEMPTED, RunLog
from plrc.schedules import cosine_learning_rate, teacher_temperature

COMPILING_PAYS = 10_000  # steps from which ``--compile auto`` compiles; as config.py says (docs/performance.md)


def pretrain(config: Config) -> int:
    """Pre-train as configured; the exit status for this process.

    Raises:
        ValueError, OSError: bad input, in one sentence that names what is wrong and the remedy.
    """
    with ExitStack() as of_run, world(config.timeout) as here, run.stop_signals() as stop:
        run.check_agreement(config, here)
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True  # all batches have one shape

        source = run.open_source_once(config.data)
        maps = open_regions(config.regions, os.path.abspath(config.data))
        regions = KeptRegions(maps, source, config.data)
        dataset = TwoViews(source, regions, config)
        model = PLRC(config)
        images = fingerprint(source)
        of_run.enter_context(run.held(config.out))
        saved = run.resume(config, here, images, config.data)
        begun, start = "", model.query_encoder
        if config.init and not saved:
            begun = begin_with(config.init, start.backbone, start.projector)
            model.key_encoder.load_state_dict(start.state_dict())
        model = model.to(here.device).to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, config)
        first_step = run.restore(saved, model, optimizer)

        order = Order(len(source), config, here.rank, here.size, first_step, getattr(source, "counts", None))
        per_epoch = order.steps_per_epoch
        steps = per_epoch * config.epochs
        _check_sizes(config, here, len(source), per_epoch)
        parallel = run.data_parallel(model, here)
        workers = run.loading_processes(config.workers)
        loader = make_loader(dataset, order, workers, here.device, timeout=config.timeout)
        out = Path(config.out)

        def save(done: int) -> None:
            """``last.pt``, and every ``keep_every`` epochs the same under a name that stays."""
            epoch, rest = divmod(done, per_epoch)
            keep = rest == 0 and (epoch % config.keep_every == 0 or done == steps)
            content = {
                "step": done,
                "epoch": done / per_epoch,
                "ranks": here.size,
                "images": images,
                "config": config.to_dict(),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            folder = out / "checkpoints"
            writer.save(folder / "last.pt", content, also=folder / f"epoch_{epoch:04d}.pt" if keep else None)

        with ExitStack() as stack:
            log = stack.enter_context(RunLog(out, steps, first_step)) if here.is_main else None
            writer = stack.enter_context(Writer())
            if log:
                log.keep_config(config)
                if missing := regions.missing():
                    how = shlex.join(("plrc", "regions", config.data, "--regions", config.regions))
                    log.say(f"note: regions of {missing} images are computed on the way; on all cores before: {how}")
                log.say(_opening(config, here, model, len(source), steps, first_step, begun))
                if config.weights["image"] and config.queue_size >= len(source):
                    log.say(_long_queue(config.queue_size, len(source)))
                if config.image_size <= (stride := start.backbone.stride):
                    what = f"a view of {config.image_size} pixels is one cell of stride {stride}"
                    log.say(f"note: {what}, in which no places can be told apart: take a larger --image-size")
            long = steps >= COMPILING_PAYS and run.in_bf16(config.precision, here.device)
            if config.compile == "on" or (config.compile == "auto" and long):
                if not (obstacle := run.cannot_compile(here.device)):
                    model.compile_encoders()
                elif log:
                    log.say(f"note: the encoders are not compiled, torch.compile does not work here: {obstacle}")
            model.train()
            progress = run.Steps(config, here, log, len(source))
            for step in range(first_step, steps):
                batch = progress.batch(loader).to(here.device)
                rate = cosine_learning_rate(step, steps, config.peak_lr)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                losses = train_step(model, parallel, optimizer, batch, config, step, per_epoch, here)
                done = step + 1
                progress.done(done, done / per_epoch, rate, losses, batch.undecodable, last=done == steps)

                stopping = stop.agreed()
                if stopping or done % config.save_every == 0 or done % per_epoch == 0 or done == steps:
                    progress.check_undecodable()
                    run.check_state(model, optimizer, done)
                    if log:
                        log.check_folder()
                        save(done)
                if config.picture_every and done % config.picture_every == 0 and log:
                    try:  # drawing never ends a training, and its shapes are not worth a search for algorithms
                        torch.backends.cudnn.benchmark = False
                        log.picture("affinity", report.affinity_over_training(model, source, config, out, done), done)
                    except Exception as error:
                        log.say(f"no picture of step {done}: {error}")
                    torch.backends.cudnn.benchmark = True
                    model.train()
                if stopping and done < steps:
                    if log:
                        log.say(f"stopped after step {done} of {steps}, saved: go on with --resume auto")
                    return EXIT_PREEMPTED
            if log and first_step == steps and not (out / "checkpoints" / "last.pt").exists():
                save(steps)  # a finished run of another folder
        of_report = of_run.pop_all()
    with of_report:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # nothing is left to be saved
        if here.is_main:  # the other ranks need not wait for it
            torch.backends.cudnn.benchmark = False
            try:
                print("\n".join(report.before_and_after(model, source, regions, config, out)), flush=True)
            except Exception as error:
                print(f"the run is finished and saved, but its report failed: {error}", file=sys.stderr)
    return EXIT_DONE


def train_step(
    model: PLRC,
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: Config,
    step: int,
    steps_per_epoch: int,
    here: World,
) -> dict[str, Tensor]:
    """One step on this rank's share of a batch; its losses, detached and unweighted, averaged over accumulated parts.

    ``parallel`` is the model as DistributedDataParallel wraps it, or the model itself.
    """
    model.update_keys()
    sums = _backward(model, parallel, batch, config, step, steps_per_epoch, here)

    def kept() -> dict[str, Any]:
        parts = {**vars(batch), "crops": list(vars(batch.crops).values()), "undecodable": []}
        return {"steps_per_epoch": steps_per_epoch, "bn_groups": model.bn_groups, "batch": parts}

    run.check_step(sums, model, kept, config, step, here)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.enqueue()
    return sums


def _backward(
    model: PLRC, parallel: nn.Module, batch: Batch, config: Config, step: int, steps_per_epoch: int, here: World
) -> dict[str, Tensor]:
    """The gradients of a step; the losses as ``train_step`` gives them."""
    epoch = step / steps_per_epoch
    weights = config.weights_at(epoch)
    terms = [name for name, weight in weights.items() if weight]
    temperature = teacher_temperature(epoch, *config.teacher_temperature, config.teacher_warmup)
    points, shuffle = run.generator(config.seed, 1, step, here.rank), run.generator(config.seed, 2, step)

    sums: dict[str, Tensor] = {}
    parts = batch.split(config.accumulate)
    for i, part in enumerate(parts):
        draws = model.draw(len(part.indices), part.region_count, points, shuffle, terms)
        views = part.coloured()
        last = i == len(parts) - 1
        with nullcontext() if last or parallel is model else parallel.no_sync():  # type: ignore[operator]
            with run.autocast(config.precision, here.device):
                losses: dict[str, Tensor] = parallel(
                    views, part.regions, draws, teacher_temperature=temperature, terms=terms
                )
            total = sum(
                (weights[name] * loss for name, loss in losses.items()), start=torch.zeros((), device=here.device)
            )
            (total / len(parts)).backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0) + loss.detach() / len(parts)
    return sums


def replay_step(saved: dict[str, Any]) -> list[str]:
    """Compute again, on the CPU, the step at which a run stopped; its losses, and what in it was not finite first.

    saved: what the run's ``not_finite.pt`` holds. Of several ranks it is one's share alone, whose keys are shuffled
    among themselves.
    """
    config = Config.from_dict(saved["config"], "not_finite.pt")
    batch = Batch(**{**saved["batch"], "crops": Crop(*saved["batch"]["crops"])})
    model = PLRC(config).to(memory_format=torch.channels_last)
    model.bn_groups = saved["bn_groups"]
    model.load_state_dict(saved["model"])
    here = World(saved["rank"], 1, torch.device("cpu"))
    again = partial(_backward, model, model, batch, config, saved["step"], saved["steps_per_epoch"], here)
    return run.computed_again(model, again, saved, len(batch.indices))


def make_optimizer(model: PLRC, config: Config) -> torch.optim.Optimizer:
    """The optimiser of the query encoder; weight decay on every parameter, as in the released code."""
    parameters, rate, decay = model.query_encoder.parameters(), config.peak_lr, config.weight_decay
    fused = model.queue.is_cuda  # one kernel for all parameters; on CPUs it would change old runs' last bits
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
    return torch.optim.SGD(parameters, rate, momentum=config.sgd_momentum, weight_decay=decay, fused=fused)


def _check_sizes(config: Config, here: World, images: int, steps_per_epoch: int) -> None:
    groups = config.bn_groups_of_a_part(here.size)
    parts = here.size * config.accumulate * groups
    shown = f"ranks {here.size} × accumulated parts {config.accumulate} × BatchNorm groups {groups}"
    if config.batch_size % parts:
        raise ValueError(f"--batch-size {config.batch_size} must be a multiple of {parts}, that is {shown}")
    if config.batch_size // parts < 2:
        raise ValueError(
            f"--batch-size {config.batch_size} leaves BatchNorm one image at a time ({shown}): "
            f"take {2 * parts} or more{', or lower --bn-groups' * (groups > 1)}"
        )
    if steps_per_epoch == 0:
        raise ValueError(
            f"{config.data} has {images} images, fewer than one batch of {config.batch_size}: lower --batch-size"
        )


def _opening(config: Config, here: World, model: PLRC, images: int, steps: int, first_step: int, begun: str) -> str:
    size = sum(p.numel() for p in model.query_encoder.parameters()) / 1e6
    ranks = f"{here.size} rank{'s' if here.size > 1 else ''} on {here.device.type}"
    start = f", from step {first_step}" if first_step else f", begun with {begun}" if begun else ""
    what = f"{config.arch} ({size:.1f} M parameters), {images} images of {config.data}"
    return f"{what}, {steps} steps of {config.batch_size}, {ranks}{start}"


def _long_queue(queue_size: int, images: int) -> str:
    """A note, no error: it costs accuracy (docs/results.md), but a trial run on a few images is no mistake."""
    times = queue_size / images
    return (
        f"note: a queue of {queue_size} keys holds each of the {images} images {times:.3g} times, so that an image's "
        f"older keys are its own negatives; --queue-size {max(1, images // 3)} or less keeps most of them out"
    )
