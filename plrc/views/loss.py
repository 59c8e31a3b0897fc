"""``plrc loss``: what the losses see of an image at a step of training: its views, points, positives, negatives."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from plrc.analysis.features import DenseEncoder
from plrc.analysis.scores.table import aligned
from plrc.checkpoint import load_checkpoint
from plrc.config import Config, load_config
from plrc.data.loader import Batch, TwoViews, collate
from plrc.data.photometric import apply
from plrc.geometry import Crop
from plrc.losses import Direction, affinity_distillation, affinity_logits, image_contrast, pair_losses, point_contrast
from plrc.model import PLRC
from plrc.options import Size
from plrc.pretrained.formats import PLRC_RUN
from plrc.pretrained.loading import split_branch
from plrc.queries import Loss, Query
from plrc.regions import LoadImage, open_regions
from plrc.run import generator
from plrc.schedules import teacher_temperature
from plrc.views import Drawing, Progress, note_of
from plrc.views.images import NamedImage, list_images, mask_files, points_in_frame, region_raster, source_of
from plrc.views.session import Session

if TYPE_CHECKING:
    from plrc.figures import LossPicture

_TERMS = ("image", "point", "affinity")


@dataclass(frozen=True, eq=False)
class Step:
    """One step for a batch whose first image is looked at, before any point is chosen.

    Attributes:
        crops: of its two views. shown: views, regions, points, region, teacher and student, see
            ``plrc.figures.LossPicture``.
        cosines: ``(n, n)`` of points of view 1 with those of view 2. others: ``(n, m)`` with the points of other images
            that were drawn. own: ``(n,)``, the point loss of each point of view 1. losses: of the image.
    """

    crops: Crop
    shown: Mapping[str, np.ndarray]
    cosines: np.ndarray
    others: np.ndarray
    own: np.ndarray
    losses: Mapping[str, float]

    @property
    def nbytes(self) -> int:
        return sum(of.nbytes for of in (*self.shown.values(), self.cosines, self.others, self.own)) + 1000


@dataclass(frozen=True)
class _Regions:
    """A region source of one image, see ``plrc.regions.RegionMaps``: its rasters are those of training."""

    image: NamedImage
    spec: str

    def raster(self, name: str, load: LoadImage) -> Tensor:
        if self.spec.partition(":")[0] in ("objects", "masks"):
            return region_raster(self.image, self.spec)
        # Superpixels of what training decodes, which of a large JPEG is less than all its pixels.
        return open_regions(self.spec, f"{self.image.sha256} in training", ("objects",)).raster(name, load)


@dataclass(eq=False, kw_only=True)
class LossDrawing(Drawing):
    """``picture``: what the figure shows. crop: of view 1."""

    picture: LossPicture
    crop: Crop


def loss(query: Loss, session: Session, progress: Progress) -> LossDrawing:
    """An image as a step of training sees it, and the losses that its networks would have there.

    Views, colours, regions and points are those that training draws for the seed, the step and the image's number in
    its data set (``DIR#12``; 0 for a file), as the first of a batch whose other images are ``others``; its step's
    points are thus another batch's only in where they lie. BatchNorm has its running statistics, which do not depend
    on the batch. What a checkpoint lacks is said: without a projector points are of the backbone's last map, without a
    momentum encoder the network is its own, without a queue there is no image loss.

    Numbers: each loss of this image, beside what features that are all equal would have, and how many choices it is as
    unsure as between (its exponential); the cosines of one point with its positives and negatives.
    """
    from plrc import figures

    spec, *more = list_images(query.images, 1)
    if more:
        raise ValueError("one image is looked at: name the other images of its batch with --others")
    if len(query.checkpoints) != 1:
        raise ValueError(f"one checkpoint is looked at, not {len(query.checkpoints)}: name it with --checkpoint")
    others = [other for other in (list_images(query.others) if query.others else ()) if other != spec]
    student, teacher = _networks(session, query)
    run, config = student.origin.run, _config(student, query)
    per_epoch = round(run["step"] / run["epoch"]) if run.get("step") and run.get("epoch") else 1
    step = int(run.get("step", run.get("epoch", 0))) if query.step is None else query.step
    images = [session.image(each) for each in (spec, *others)]
    image, side = images[0], Size(config.image_size)
    query = replace(query, images=(spec,), others=tuple(others), step=step, regions=config.regions, size=side)
    inputs = {query.checkpoints[0]: student.origin.sha256 or query.checkpoints[0]}
    inputs |= mask_files([spec, *others], config.regions)
    for each in images:
        inputs |= each.inputs

    key = json.dumps([replace(query, points=()).to_dict(), inputs], sort_keys=True)
    seen: Step = session.once(key, partial(_step, images, student, teacher, config, step, per_epoch))
    progress("images", 1, 1)
    crops, points, regions = seen.crops, seen.shown["points"][0], seen.shown["region"]
    where = f"--seed {query.seed} at --step {step}"
    if not len(regions):
        raise ValueError(f"{image.name}: the two views of {where} share no region: try another --seed or --step")
    chosen = _chosen(query, image, points, crops[0], where)
    mine, region = seen.cosines[chosen], regions == regions[chosen]
    kinds = {
        "positives: its region": mine[region],
        "negatives: other regions": mine[~region],
        "negatives: other images": seen.others[chosen],
    }
    place = crops[0].to_image(torch.from_numpy(points[chosen])[None])[0]
    rows = _rows(seen, config, step / per_epoch)
    lacks = _lacks(student, teacher, rows, others)
    said = [f"{what} {of.mean():.2f} ({len(of)})".replace("-", "−") for what, of in kinds.items() if len(of)]
    of_point = f"point {place[0]:.3f},{place[1]:.3f} of region {regions[chosen]}: loss {seen.own[chosen]:.2f}"
    lines = [*aligned([_cells(row) for row in rows]), f"{of_point}; mean cosine: {', '.join(said)}"]
    picture = figures.LossPicture(
        image=image.pixels,
        crops=crops,
        chosen=chosen,
        cosines=mine,
        kinds={what: values for what, values in kinds.items() if len(values)},
        losses=rows,
        **seen.shown,
    )
    arrays = {"crops": crops.box.numpy(), "mirrored": crops.flip.numpy(), **seen.shown}
    arrays |= {"chosen": np.array(chosen), "cosines": seen.cosines, "point losses": seen.own}
    named = f"{image.name}, {student.origin.name}" + f" at step {run.get('step')}" * ("step" in run)
    unit = "epoch" if "epoch" in run and "step" not in run else "step"  # a network that ships knows its epochs alone
    view = f"view {config.image_size} × {config.image_size}"
    how = note_of(f"regions {config.regions}", view, f"seed {query.seed}, {unit} {step}")
    return LossDrawing(
        query=query,
        inputs=inputs,
        arrays=arrays | dict(picture.kinds),
        draw=partial(figures.loss, picture, note_of(named, how, *lacks)),
        lines=[*lines, *lacks],
        rows=rows,
        picture=picture,
        crop=crops[0],
    )


def _networks(session: Session, query: Loss) -> list[DenseEncoder]:
    """The student and the teacher of a checkpoint, the same network twice where it has one."""
    name, _ = split_branch(query.checkpoints[0])

    def network(branch: str | None = None) -> DenseEncoder:
        return next(iter(session.networks(Query(checkpoints=(name,), branch=branch, device=query.device)).values()))

    there = {(first := network()).origin.branch, *first.origin.others}
    pairs = [pair for pair in (("query", "key"), ("student", "teacher")) if set(pair) <= there]
    return [network(branch) for branch in pairs[0]] if pairs else [first, first]


def _config(network: DenseEncoder, query: Loss) -> Config:
    """That of the network's run, else the paper's recipe, with what the query has otherwise."""
    saved = network.origin.run.get("config", {})
    config = Config.from_dict(saved, network.origin.name) if "queue_size" in saved else load_config()
    changes: dict[str, Any] = {"seed": query.seed, "regions": query.regions or config.regions}
    if query.size is not None:
        if query.size.height:
            raise ValueError(f"two views are squares: give --size one number, not {query.size}")
        changes["image_size"] = query.size.width
    return replace(config, **changes)


def _head(network: DenseEncoder) -> list[str]:
    """The head of whose maps points are sampled; none where they are of the backbone's last map."""
    return [name for name in (network.default, "projector") if name in network.heads][:1]


@torch.no_grad()
def _step(
    images: list[NamedImage], student: DenseEncoder, teacher: DenseEncoder, config: Config, step: int, per_epoch: int
) -> Step:
    samples = []
    for image in images:
        source, i = source_of(image.spec)
        samples.append(TwoViews(source, _Regions(image, config.regions), config)[(step // per_epoch, i)])
    batch = collate(samples)
    with torch.random.fork_rng(devices=[]):
        model = PLRC(replace(config, arch="tiny", queue_size=1)).eval()  # of which nothing but the steps is used
    for encoder, network in ((model.query_encoder, student), (model.key_encoder, teacher)):
        encoder.backbone = network.backbone
        encoder.projector = nn.Sequential(*(network.heads[name] for name in _head(network)))
    queue = _queue(student)
    model.queue = nn.Buffer((torch.zeros(0, config.dim) if queue is None else queue).to(student.device))
    generators = generator(config.seed, 1, step, 0), generator(config.seed, 2, step)
    draws = model.draw(len(images), batch.region_count, *generators, _TERMS)
    temperature = teacher_temperature(step / per_epoch, *config.teacher_temperature, config.teacher_warmup)
    on = batch.to(student.device)
    of_batch, *_ = model.directions(on.coloured(), on.regions, draws, True, temperature)
    return _of_first(batch, of_batch, queue is not None)


def _of_first(batch: Batch, step: Direction, queued: bool) -> Step:
    """What a step of a batch is for its first image."""
    config, valid = step.config, step.valid[:1]
    points, keys, teachers = step.points[:1], step.key_points[:1], step.teacher_points[:1]
    others, owner = step.others(step.key_points)
    contrast = points, keys, valid, others, owner, step.first_image, config.temperature
    temperatures = config.student_temperature, step.teacher_temperature
    losses = {"point": point_contrast(*contrast)}
    losses["affinity"] = affinity_distillation(points, teachers, keys, valid, *temperatures)
    if queued:
        losses["image"] = image_contrast(step.query[:1], step.key[:1], step.queue, config.temperature)
    here, drawn = valid[0].nonzero().flatten(), points.shape[2]
    flat = (here[:, None] * drawn + torch.arange(drawn, device=here.device)).flatten()
    p, k = (of[0, here].flatten(0, 1).float() for of in (points, keys))
    affinities = [
        affinity_logits(of, keys, valid, at).softmax(dim=2)[0][flat][:, flat]
        for of, at in zip((points, teachers), temperatures, strict=True)
    ]
    coloured = apply(batch.views[:, 0], batch.colours[:, 0])
    shown = {
        "views": (coloured.permute(0, 2, 3, 1) * 255).round().byte(),
        "regions": batch.regions[:, 0],
        "points": torch.stack([places[0, here].flatten(0, 1) for places in (step.places, step.key_places)]),
        "region": here.repeat_interleave(drawn),
        "teacher": affinities[1],
        "student": affinities[0],
    }
    return Step(
        crops=Crop(batch.crops.box[:, 0], batch.crops.flip[:, 0]),
        shown={name: of.cpu().numpy() for name, of in shown.items()},
        cosines=(p @ k.T).cpu().numpy(),
        others=(p @ others[owner > 0].float().T).cpu().numpy(),
        own=pair_losses(*contrast)[0].mean(dim=1).T[here].flatten().cpu().numpy(),
        losses={name: float(value) for name, value in losses.items()},
    )


def _queue(network: DenseEncoder) -> Tensor | None:
    """Keys of earlier batches ``(K, D)``, where the checkpoint is a whole run."""
    origin = network.origin
    if origin.format != PLRC_RUN or origin.path is None:
        return None
    queue: Tensor | None = load_checkpoint(origin.path)["model"].get("queue")
    return queue


def _chosen(query: Loss, image: NamedImage, points: np.ndarray, crop: Crop, where: str) -> int:
    if len(query.points) > 1:
        raise ValueError("one point is looked at: give --point once")
    wanted = crop.to_view(points_in_frame(query.points, image)) if query.points else torch.tensor([[0.5, 0.5]])
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"{image.name}: the point {query.points[0]} lies outside view 1 of {where}: give one inside")
    return int(np.square(points - wanted.numpy()).sum(axis=1).argmin())


def _rows(seen: Step, config: Config, epoch: float) -> list[dict[str, Any]]:
    """Each loss that is known, with what it is when all features are equal."""
    n, weights = len(seen.own), config.weights_at(epoch)
    negatives = n - config.points_per_region + seen.others.shape[1]
    teacher = seen.shown["teacher"].astype(np.float64)
    entropy = float(-(teacher * np.log(teacher.clip(min=1e-30))).sum(axis=1).mean())
    among = {"image": config.queue_size + 1, "point": negatives + 1, "affinity": n}
    tasks = {
        "image": "to find the image's other view among {of} keys",
        "point": "to tell a point of its region from {negatives} others",
        "affinity": "to repeat the teacher, itself as unsure as among {teacher} of {of} points",
    }
    rows = []
    for name, value in ((name, seen.losses[name]) for name in _TERMS if name in seen.losses):
        chance = math.log(among[name])
        task = tasks[name].format(of=among[name], negatives=negatives, teacher=_choices(entropy))
        as_unsure = value < chance + 0.05  # by so little above it all are nearly alike
        among_so_many = f"as unsure as among {_choices(min(value, chance))}"
        meaning = among_so_many if as_unsure else "worse than chance: sure, and wrong"
        numbers = {"value": round(value, 4), "chance": round(chance, 4), "weight": weights[name]}
        rows.append({"loss": name, **numbers, "task": task, "meaning": meaning})
    return rows


def _choices(nats: float) -> str:
    """Among how many equal choices one is as unsure."""
    return f"{math.exp(nats):.{1 if nats < math.log(100) else 0}f}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    numbers = [f"{row['value']:.3f}", f"chance {row['chance']:.3f}", f"weight {row['weight']:g}"]
    return [row["loss"], *numbers, f"{row['task']}: {row['meaning']}"]


def _lacks(student: DenseEncoder, teacher: DenseEncoder, rows: list[dict[str, Any]], others: list[str]) -> list[str]:
    """What the checkpoint does not have, and what is shown in its place."""
    said = {
        f"no projector in it: points are of the backbone's {student.last}": not _head(student),
        "no momentum encoder in it: the network is its own teacher": student is teacher,
        "no queue of a run of ours in it: the image loss is not known": rows[0]["loss"] != "image",
        "no other images in the batch (--others): all negatives are of this one": not others,
    }
    return [what for what, lacking in said.items() if lacking]
