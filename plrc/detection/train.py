"""Fine-tuning, to be read from top to bottom; what surrounds a step is pre-training's (``plrc.run``)."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plrc import run
from plrc.checkpoint import DETECTOR, Writer
from plrc.data.loader import make_loader
from plrc.detection.config import FinetuneConfig
from plrc.detection.data import DetectionData, Sample, Samples, TrainingSampler, warn_of_doubles
from plrc.detection.detector import Detector
from plrc.detection.evaluate import by_rule, measure, open_test_data
from plrc.detection.files import architecture_for, architecture_of
from plrc.detection.stages import Target
from plrc.distributed import World, all_mean, any_rank, from_main, world
from plrc.files import written_whole
from plrc.pretrained import load
from plrc.run import EXIT_DONE, EXIT_PREEMPTED, RunLog, Stop, autocast, derived_seed
from plrc.schedules import step_learning_rate


def finetune(config: FinetuneConfig) -> int:
    """Train a detector as configured and evaluate it; the exit status for this process.

    With several ``config.seeds`` that many, each in its own folder ``seed_<n>`` of ``config.out``. Mean and std of
    every number of their evaluations are written to ``seeds.json`` there and printed. (Published numbers on PASCAL VOC
    are means of five such runs.)

    Raises:
        ValueError, OSError: bad input, in one sentence that names what is wrong and the remedy.
    """
    with world(config.timeout) as here, run.stop_signals() as stop:
        if config.seeds == 1:
            with run.held(config.out):
                return _finetune(config, here, stop)
        each = config.each_seed()
        for one in each:
            status = EXIT_PREEMPTED
            if not any_rank(stop.requested):
                with run.held(one.out):
                    status = _finetune(one, here, stop)
            if status != EXIT_DONE:
                return status
        if here.is_main:
            found = summarise([json.loads(Path(one.out, "evaluation.json").read_text()) for one in each])
            file = Path(config.out) / "seeds.json"
            with written_whole(file) as unfinished:
                unfinished.write_text(json.dumps({"seeds": [one.seed for one in each], **found}, indent=1) + "\n")
            print(f"\nmean ± std of {config.seeds} seeds, per cent")
            rules = by_rule(found)
            for rule, of in rules.items():
                pairs = ((m, of[m]) for m in ("AP", "AP50", "AP75"))
                shown = (f"{m} {100 * x['mean']:.1f} ± {100 * x['std']:.1f}" if x else f"{m} –" for m, x in pairs)
                print("  ".join([rule.ljust(max(map(len, rules))), *shown]))
            print(f"written: {file}", flush=True)
        return EXIT_DONE


def summarise(evaluations: Sequence[Any]) -> Any:
    """The same tree as each evaluation's, with mean, std (of a sample, n − 1) and values at its leaves.

    None where a run has no number.
    """
    if isinstance(evaluations[0], dict):
        return {key: summarise([e[key] for e in evaluations]) for key in evaluations[0]}
    if None in evaluations:
        return None
    return {"mean": statistics.fmean(evaluations), "std": statistics.stdev(evaluations), "values": evaluations}


def _finetune(config: FinetuneConfig, here: World, stop: Stop) -> int:
    run.check_agreement(config, here)
    # Opened by rank 0 alone: the disk is asked once, and all ranks see the same.
    data = from_main(lambda: DetectionData(config.train, most=config.train_most).checked())
    # Now: what is wrong with the test data should not wait for the training.
    test_data, truth = open_test_data(config.test, data.classes)
    if here.is_main:
        warn_of_doubles(data, test_data)
    images = data.fingerprint() + data.objects_fingerprint()
    saved = run.resume(config, here, images, " ".join(config.train), DETECTOR)
    torch.manual_seed(config.seed)
    # random:resnet50 with this run's seed, so that several seeds are several networks
    weights = f"{config.weights}@{config.seed}" if re.fullmatch("random:[^@]+", config.weights) else config.weights
    if saved:
        detector = Detector(architecture_of(saved))
    else:
        pretrained = load(weights)
        detector = Detector(architecture_for(config, pretrained.origin.arch, data.classes), pretrained.backbone)
    detector = detector.to(here.device).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(detector, config)
    first_step = run.restore(saved, detector, optimizer)
    precise = bool(saved and saved["precise"])

    steps, warmup, *milestones = map(config.steps, (config.iterations, config.warmup, *config.milestones))
    trainable, to_come = data.trainable(), range(first_step, steps + config.precise_bn)
    samples = Samples(data, config.short_sides, config.longest, config.seed, config.masks)
    batches = TrainingSampler(trainable, data.landscape(), config.batch_size, to_come, config.seed, here)
    # Of a finished run nothing more is loaded.
    workers = 0 if precise else run.loading_processes(config.workers)
    loader = make_loader(samples, batches, workers, here.device, list, config.timeout)
    if here.size > 1 and here.device.type == "cuda":  # the parameters stay the same objects
        nn.SyncBatchNorm.convert_sync_batchnorm(detector)
    parallel = run.data_parallel(detector, here)
    out = Path(config.out)
    last = out / "checkpoints" / "last.pt"

    def save(done: int, precise: bool) -> None:
        content: dict[str, Any] = {
            "step": done,
            "precise": precise,  # whether BatchNorm's statistics are those of precise_statistics
            "ranks": here.size,
            "images": images,
            "config": config.to_dict(),
            "architecture": detector.architecture.to_dict(),
            "category_ids": list(data.category_ids),
            "test_short_side": config.test_short_side,
            "longest": config.longest,
            "model": detector.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        writer.save(last, content, kind=DETECTOR)

    with ExitStack() as stack:
        log = stack.enter_context(RunLog(out, steps, first_step)) if here.is_main else None
        writer = stack.enter_context(Writer())
        if log:
            log.keep_config(config)
            ranks = f"{here.size} rank{'s' if here.size > 1 else ''} on {here.device.type}"
            why = "are left out" if config.train_most else "have no object"
            left = f" ({len(data) - len(trainable)} more {why})" if len(trainable) < len(data) else ""
            log.say(
                f"{detector.architecture} from {weights}, {len(data.classes)} classes, {len(trainable)} images{left}, "
                f"{steps} steps of {config.batch_size}, {ranks}{f', from step {first_step}' if first_step else ''}"
            )
            if late := " and ".join(str(m) for m in milestones if m >= steps):
                log.say(f"the learning rate does not drop at {late}, the run ends at step {steps}: set --milestones")
            if here.size > 1 and here.device.type == "cpu":
                log.say("BatchNorm is not synchronised on CPUs: each rank normalises its own images alone")
        detector.train()
        progress = run.Steps(config, here, log, len(data))
        for step in range(first_step, steps):
            batch = progress.batch(loader)
            rate = step_learning_rate(step, config.peak_lr, milestones, warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = train_step(parallel, optimizer, batch, config, step, here)
            done = step + 1
            undecodable = (clause for sample in batch for clause in sample.undecodable)
            epoch = done * config.batch_size / len(trainable)
            progress.done(done, epoch, rate, losses, undecodable, last=done == steps)

            stopping = stop.agreed()
            if stopping or done % config.save_every == 0 or done == steps:
                share_statistics(detector)
                progress.check_undecodable()
                run.check_state(detector, optimizer, done)
                if log:
                    log.check_folder()
                    save(done, precise=False)
            if stopping:
                if log:
                    log.say(f"stopped after step {done} of {steps}, saved: go on with --resume auto")
                return EXIT_PREEMPTED
        if not precise and config.precise_bn and not precise_statistics(detector, loader, config, here, stop):
            if log:
                log.say("stopped before the test, the training is saved: go on with --resume auto")
            return EXIT_PREEMPTED
        run.check_state(detector, optimizer, steps)
        # A finished run may be resumed from another folder's file.
        if here.is_main and not (precise and last.exists()):
            save(steps, precise=True)
    lines = measure(detector, test_data, truth, out, (config.test_short_side, config.longest), here, config, stop)
    if lines is None:
        if here.is_main:
            print("stopped within the test, what it found is kept: go on with --resume auto", flush=True)
        return EXIT_PREEMPTED
    if here.is_main:
        print("\n".join(lines), flush=True)
    return EXIT_DONE


def train_step(
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Sample],
    config: FinetuneConfig,
    step: int,
    here: World,
) -> dict[str, Tensor]:
    """One step on this rank's share of a batch; its losses, detached."""
    losses = _losses(parallel, batch, config, (1, step), here)
    torch.stack(list(losses.values())).sum().backward()
    detector: Any = getattr(parallel, "module", parallel)

    def kept() -> dict[str, Any]:
        samples = [{**s._asdict(), "target": s.target._asdict()} for s in batch]
        return {"architecture": detector.architecture.to_dict(), "batch": samples}

    run.check_step(losses, detector, kept, config, step, here)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name: loss.detach() for name, loss in losses.items()}


def replay_step(saved: dict[str, Any]) -> list[str]:
    """As ``plrc.train.replay_step``, of a detector's step; each rank's BatchNorms then see its own share alone."""
    config = FinetuneConfig.from_dict(saved["config"], "not_finite.pt")
    batch = [Sample(**{**s, "target": Target(**s["target"])}) for s in saved["batch"]]
    detector = Detector(architecture_of(saved)).to(memory_format=torch.channels_last).train()
    detector.load_state_dict(saved["model"])

    def again() -> dict[str, Tensor]:
        losses = _losses(detector, batch, config, (1, saved["step"]), World(saved["rank"], 1, torch.device("cpu")))
        torch.stack(list(losses.values())).sum().backward()
        return losses

    return run.computed_again(detector, again, saved, len(batch))


def _losses(
    model: nn.Module, batch: Sequence[Sample], config: FinetuneConfig, key: tuple[int, int], here: World
) -> dict[str, Tensor]:
    torch.manual_seed(derived_seed(config.seed, *key, here.rank))  # anchors and regions are sampled by it
    with autocast(config.precision, here.device):
        losses: dict[str, Tensor] = model([s.image for s in batch], [s.target for s in batch])
    return losses


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]


def make_optimizer(detector: Detector, config: FinetuneConfig) -> torch.optim.Optimizer:
    """SGD with weight decay on all parameters but those of BatchNorms (Detectron2's default)."""
    of_norms = [p for norm in _norms(detector) for p in norm.parameters()]
    ids = set(map(id, of_norms))
    others = [p for p in detector.parameters() if id(p) not in ids]
    groups = [{"params": others, "weight_decay": config.weight_decay}, {"params": of_norms, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum)


@torch.no_grad()
def precise_statistics(
    model: nn.Module, loader: Iterator[Sequence[Sample]], config: FinetuneConfig, here: World, stop: Stop
) -> bool:
    """BatchNorm's running statistics as the mean over ``config.precise_bn`` batches, with weights that stand still.

    The moving average still remembers weights of some steps ago. ("PreciseBN", which MoCo's recipe asks for)

    Returns:
        False if a stop was asked for on the way; the statistics are of no use then.
    """
    momenta = [norm.momentum for norm in _norms(model)]
    for norm in _norms(model):
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    for i in range(config.precise_bn):
        _losses(model, next(loader), config, (2, i), here)
        if any_rank(stop.requested):
            return False
    for norm, momentum in zip(_norms(model), momenta, strict=True):
        norm.momentum = momentum
    share_statistics(model)
    return True


@torch.no_grad()
def share_statistics(model: nn.Module) -> None:
    """BatchNorm's running statistics as the mean over ranks where they are not synchronised."""
    for norm in _norms(model):
        if type(norm) is nn.BatchNorm2d:
            for values in (norm.running_mean, norm.running_var):
                if values is not None:
                    values.copy_(all_mean(values))
