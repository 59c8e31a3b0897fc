"""The fine-tuning loop, to be read from top to bottom; what surrounds a step is pre-training's (``plrc.run``)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.config import FinetuneConfig
from plrc.detection.data import DetectionData
from plrc.detection.design import Design
from plrc.detection.detector import Detector
from plrc.detection.examples import DetectionBatch, Examples, make_loader
from plrc.detection.norm import synchronise
from plrc.detection.opening import open_by_all_ranks, truth_on_rank_0
from plrc.detection.order import TrainingOrder
from plrc.detection.predict import predict
from plrc.detection.report import report
from plrc.detection.results import save_results
from plrc.distributed import World, all_mean, any_rank
from plrc.pretrained import load
from plrc.run import (
    EXIT_DONE,
    EXIT_PREEMPTED,
    RunLog,
    Stop,
    Stopwatch,
    autocast,
    check_agreement,
    check_finite,
    check_undecodable,
    data_parallel,
    derived_seed,
    loading_processes,
    restore,
    resume,
)
from plrc.schedules import step_learning_rate


def finetune(config: FinetuneConfig, here: World, stop: Stop) -> int:
    """Train a detector as configured and evaluate it; the exit status for this process.

    Raises:
        ValueError, OSError: bad input, in one sentence that names what is wrong and the remedy.
    """
    check_agreement(config, here)
    _check_batch(config, here)
    data = open_by_all_ranks(config.train, here)
    # Now: what is wrong with the test data should not wait for the training.
    test_data = open_by_all_ranks(config.test, here, data.classes)
    truth = truth_on_rank_0(test_data, here)
    saved = resume(config, here, data.fingerprint(), " ".join(config.train), DETECTOR)
    torch.manual_seed(config.seed)
    detector = (Detector(Design.from_dict(saved["design"])) if saved else _new(config, data)).to(here.device)
    detector = detector.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(detector, config)
    first_step = restore(saved, detector, optimizer) if saved else 0
    precise = bool(saved and saved["precise"])

    steps = config.steps(config.iterations)
    milestones, warmup = [config.steps(m) for m in config.milestones], config.steps(config.warmup)
    trainable = data.trainable()
    examples = Examples(data, config.short_sides, config.longest, training=True, seed=config.seed, masks=config.masks)
    order = TrainingOrder(
        trainable,
        data.landscape(),
        config.batch_size,
        steps + config.precise_bn,
        seed=config.seed,
        rank=here.rank,
        ranks=here.size,
        first_step=first_step,
    )
    workers = loading_processes(config.workers)
    model = synchronise(detector, here.device)
    parallel = data_parallel(model, here)
    # Of a finished run nothing more is loaded.
    loader = iter(make_loader(examples, order, 0 if precise else workers, here.device))
    out = Path(config.out)
    undecodable: set[str] = set()
    named: set[str] = set()

    with ExitStack() as stack:
        log = stack.enter_context(RunLog(out, steps, first_step)) if here.is_main else None
        if log:
            (out / "config.yaml").write_text(yaml.safe_dump(config.repeatable(), sort_keys=False))
            log.say(_opening(config, here, detector, data, len(trainable), steps, first_step))
            if late := [m for m in milestones if m >= steps]:
                log.say(_no_drop(late, steps))
        model.train()
        since = Stopwatch()
        for step in range(first_step, steps):
            waiting = time.perf_counter()
            batch = next(loader).to(here.device)
            since.waited += time.perf_counter() - waiting

            rate = step_learning_rate(step, config.peak_lr, milestones, warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = train_step(parallel, optimizer, batch, config, step, here)
            since.images += config.batch_size
            done = step + 1

            undecodable |= batch.undecodable
            if done % config.log_every == 0 or done == steps:
                values = {name: float(all_mean(loss)) for name, loss in losses.items()}
                check_finite(values, done)
                named = check_undecodable(undecodable, named, len(data))
                if log:
                    epoch = done * config.batch_size / len(trainable)
                    log.write({"step": done, "epoch": round(epoch, 4), **values, "lr": rate, **since.read(here.device)})
                since = Stopwatch()
            if log:
                log.advance()

            stopping = any_rank(stop.requested)
            if stopping or done % config.save_every == 0 or done == steps:
                check_finite({name: float(all_mean(loss)) for name, loss in losses.items()}, done)
                if here.is_main:
                    _save(config, here, data, detector, optimizer, done, precise=False)
            if stopping:
                if log:
                    log.say(f"stopped after step {done} of {steps}, saved: go on with --resume auto")
                return EXIT_PREEMPTED
        if not precise:
            if config.precise_bn and not precise_statistics(model, loader, config, here, stop):
                if log:
                    log.say("stopped before the test, the training is saved: go on with --resume auto")
                return EXIT_PREEMPTED
            if here.is_main:
                _save(config, here, data, detector, optimizer, steps, precise=True)
        elif here.is_main and not (out / "checkpoints" / "last.pt").exists():  # resumed from another folder's file
            _save(config, here, data, detector, optimizer, steps, precise=True)
    results = predict(detector, test_data, config.test_short_side, config.longest, here, workers)
    if here.is_main:
        save_results(out / "detections.json", results, test_data.about())
        _, lines = report(
            truth,
            results,
            out,
            voc=test_data.metric == "voc",
            masks=config.masks and test_data.has_masks,
            title=f"{out.name} on {test_data.title}",
            data=test_data,
            pictures=config.pictures,
        )
        print("\n".join(lines), flush=True)
    return EXIT_DONE


def _new(config: FinetuneConfig, data: DetectionData) -> Detector:
    """A detector that has not been trained yet, on its pre-trained trunk."""
    pretrained = load(_drawn_from_seed(config))
    design = Design(
        arch=pretrained.origin.arch,
        neck=config.neck,
        classes=data.classes,
        masks=config.masks,
        head_norm=config.head_norm,
        roi_per_image=config.roi_per_image,
    )
    return Detector(design, pretrained.backbone)


def train_step(
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: DetectionBatch,
    config: FinetuneConfig,
    step: int,
    here: World,
) -> dict[str, Tensor]:
    """One step on this rank's share of a batch; its losses, detached."""
    torch.manual_seed(derived_seed(config.seed, 1, step, here.rank))  # anchors and regions are sampled by it
    with autocast(config.precision, here.device):
        losses: dict[str, Tensor] = parallel(batch.images, batch.targets)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name: loss.detach() for name, loss in losses.items()}


def make_optimizer(detector: Detector, config: FinetuneConfig) -> torch.optim.Optimizer:
    """SGD with weight decay on all parameters but those of norms (Detectron2's default)."""
    norms = {id(p) for m in detector.modules() if isinstance(m, nn.modules.batchnorm._NormBase) for p in m.parameters()}
    groups = [
        {"params": [p for p in detector.parameters() if id(p) not in norms], "weight_decay": config.weight_decay},
        {"params": [p for p in detector.parameters() if id(p) in norms], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum)


@torch.no_grad()
def precise_statistics(
    model: nn.Module, loader: Iterator[DetectionBatch], config: FinetuneConfig, here: World, stop: Stop
) -> bool:
    """BatchNorm's running statistics as the mean over ``config.precise_bn`` batches, with weights that stand still.

    The moving average still remembers weights of some steps ago. ("PreciseBN", which MoCo's recipe asks for)

    Returns:
        False if a stop was asked for on the way; the statistics are of no use then.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    for i in range(config.precise_bn):
        batch = next(loader).to(here.device)
        torch.manual_seed(derived_seed(config.seed, 2, i, here.rank))
        with autocast(config.precision, here.device):
            model(batch.images, batch.targets)
        if any_rank(stop.requested):
            return False
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return True


def _save(
    config: FinetuneConfig,
    here: World,
    data: DetectionData,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    done: int,
    precise: bool,
) -> None:
    content: dict[str, Any] = {
        "step": done,
        "precise": precise,  # whether BatchNorm's statistics are those of precise_statistics
        "ranks": here.size,
        "images": data.fingerprint(),
        "config": config.to_dict(),
        "design": detector.design.to_dict(),
        "category_ids": list(data.category_ids),
        "test_short_side": config.test_short_side,
        "longest": config.longest,
        "model": detector.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    save_checkpoint(Path(config.out) / "checkpoints" / "last.pt", content, kind=DETECTOR)


def _drawn_from_seed(config: FinetuneConfig) -> str:
    """``random:resnet50`` with this run's seed, so that several seeds are several networks."""
    return f"{config.weights}@{config.seed}" if re.fullmatch(r"random:\w+", config.weights) else config.weights


def _check_batch(config: FinetuneConfig, here: World) -> None:
    if config.batch_size % here.size:
        raise ValueError(f"--batch-size {config.batch_size} must be a multiple of the {here.size} ranks")


def _opening(
    config: FinetuneConfig,
    here: World,
    detector: Detector,
    data: DetectionData,
    trainable: int,
    steps: int,
    first_step: int,
) -> str:
    ranks = f"{here.size} rank{'s' if here.size > 1 else ''} on {here.device.type}"
    left = f" ({len(data) - trainable} more have no object)" if trainable < len(data) else ""
    start = f", from step {first_step}" if first_step else ""
    kind = "Mask" if config.masks else "Faster"
    return (
        f"{kind} R-CNN {detector.design.arch}-{config.neck.upper()} from {_drawn_from_seed(config)}, "
        f"{len(data.classes)} classes, {trainable} pictures{left}, {steps} steps of {config.batch_size}, {ranks}{start}"
    )


def _no_drop(late: Sequence[int], steps: int) -> str:
    named = " and ".join(map(str, late))
    return f"the learning rate does not drop at {named}, the run ends at step {steps}: set --milestones to suit"
