"""What a run has learnt, in one figure and three lines: the network as it was drawn from the seed, and as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plrc import figures
from plrc.analysis import descriptors, scores
from plrc.analysis.affinity import affinity
from plrc.analysis.features import FeatureMap, as_tensor, input_size
from plrc.analysis.scores.table import aligned
from plrc.config import Config
from plrc.data.kept import KeptRegions
from plrc.data.loader import Batch, TwoViews, view_sampler
from plrc.data.photometric import apply
from plrc.data.sources import Source, first_decodable
from plrc.geometry import Crop, cell_centres
from plrc.model import PLRC
from plrc.pretrained.loading import begin_with
from plrc.regions import sample_points
from plrc.registry import SCORES
from plrc.run import losses_of, read_log

Networks = Sequence[descriptors.Descriptor]
Scale = tuple[int, int]  # short side at which images are described, stride
_SCORED = 200  # images behind each number
_TOO_EASY = 0.6  # where chance is right so often, there is nothing to find
_OF = "(projector, training images)"  # what is looked at, and on what


def before_and_after(model: PLRC, source: Source, regions: KeptRegions, config: Config, out: Path) -> list[str]:
    """Draw ``figures/before_after.png`` into the run folder and say in three lines what was learnt.

    The measures are those of docs/results.md, taken on the query encoder's projected map z and on training images: they
    test the training, not what a detector inherits, and the lines and the figure say so. A source without object masks
    gets two lines.
    """
    torch.manual_seed(config.seed)
    heading = _OF.replace("training ", "training\N{NO-BREAK SPACE}")  # folded before that, over a narrow image too
    start = PLRC(config).query_encoder
    if config.init:
        begin_with(config.init, start.backbone, start.projector)
    before = descriptors.network(f"before {heading}", start.to(model.queue.device))
    after = descriptors.network(f"after {heading}", model.query_encoder)
    side, stride = scale = _scale(model, config)
    dataset, networks = TwoViews(source, regions, config), (before, after)
    examples = [_example(dataset[(0, i)], source, config, networks, scale) for i in _spread(source, 3)]
    file = out / "figures" / "before_after.png"
    figures.save(figures.views_and_affinity(examples), file)

    lines = [["losses", _losses(out, config)]]
    sampler = view_sampler(config)
    seen = partial(scores.ScoredImage, short_side=side, cell=stride, sampler=sampler, side=config.image_size)
    images = (seen(i, first_decodable(source, i, source.load)[0], networks) for i in _spread(source, _SCORED))
    (match,) = scores.values_of(SCORES["views"].load(), images).values()
    # Not called "view match" as in plrc score, whose views are of 224 pixels and 7 × 7 cells whatever the run's are.
    cells = "{0}×{0} cells".format(-(-config.image_size // stride))
    if not match.images:
        lines.append(["places found", match.why])
    elif (chance := float(np.mean(match.columns[-1]))) > _TOO_EASY:
        lines.append(["places found", f"none: of {cells} chance is right in {chance:.0%}"])
    else:
        first, last, _ = map(scores.bootstrap, match.columns)
        beside = f"before {first.mean:.3f}, chance {chance:.3f}"
        lines.append(["places found", f"{last} ({beside}): points of a training view in the other one, ±1 of {cells}"])
    described = (*networks, descriptors.lab_colour(stride), descriptors.absolute_position(stride))
    known = [i for i in _spread(source, _SCORED) if _masks(source, i) is not None]
    images = (seen(k, source.load(i), described, source.annotation(i)) for k, i in enumerate(known))
    (auc,) = scores.values_of(SCORES["auc"].load(), images).values()
    if auc.images:
        first, last, lab, distance, _ = map(scores.bootstrap, auc.columns)
        beside = f"before {first.mean:.3f}, Lab colour {lab.mean:.3f}, distance {distance.mean:.3f}, chance 0.500"
        lines.append(["object AUC", f"{last} ({beside}): affinity tells a point's object from the rest"])
    number, both = len(_spread(source, _SCORED)), "both " * bool(auc.images)
    lines.append(["", f"{both}of the projector's output, on {number} training images; docs/looking.md says how"])
    return aligned([*lines, ["figure", str(file)]])


def affinity_over_training(model: PLRC, source: Source, config: Config, out: Path, step: int) -> figures.Figure:
    """Affinity of the middles of the same images by the map z as it is now; ``figures/affinity_XXXXXXX.png`` too."""
    now = descriptors.network("now", model.query_encoder)
    images = [first_decodable(source, i, source.load)[0] for i in _spread(source, 4)]
    points = torch.full((len(images), 2), 0.5)
    maps = [_map(now, image, points[:1], _scale(model, config)) for image in images]
    figure = figures.affinity_sheet(list(map(_small, images)), points.numpy(), {f"step {step} (projector)": maps})
    figures.save(figure, out / "figures" / f"affinity_{step:07d}.png")
    return figure


def _example(batch: Batch, source: Source, config: Config, networks: Networks, scale: Scale) -> figures.Example:
    """An image as training sees it, with the affinity of the middle of what both views show."""
    index, regions = int(batch.indices[0]), batch.regions[:, 0]
    crops = Crop(batch.crops.box[:, 0], batch.crops.flip[:, 0])
    draws = (2, batch.region_count, config.points_per_region, 3)
    points, _ = sample_points(regions, torch.rand(draws, generator=torch.Generator().manual_seed(config.seed)))
    image, query = source.load(index), _query(_masks(source, index), crops.box)
    coloured = (apply(batch.views[:, 0], batch.colours[:, 0]) * 255).round().byte()
    how: dict[str, Any] = {"crops": crops, "views": coloured.permute(0, 2, 3, 1).numpy(), "regions": regions.numpy()}
    maps = {network.name: _map(network, image, query, scale) for network in networks}
    return figures.Example(image=_small(image), points=points.numpy(), query=query[0].numpy(), maps=maps, **how)


def _query(masks: np.ndarray | None, boxes: Tensor) -> Tensor:
    """The query point ``(1, 2)`` of the image frame: on the object that both views show most of, else in the middle.

    masks: ``(n, H, W)``. boxes: ``(2, 4)``, the views' crops.
    """
    low, high = boxes[:, :2].amax(dim=0), boxes[:, 2:].amin(dim=0)
    middle = ((low + high) / 2).clamp(0, 1)[None]
    if masks is None:
        return middle
    centres = cell_centres(*masks.shape[1:])
    shown = torch.from_numpy(masks) & ((centres >= low) & (centres < high)).all(dim=-1)
    largest = centres[shown[shown.sum(dim=(1, 2)).argmax()]]
    nearest = (largest - largest.mean(dim=0)).square().sum(dim=1)
    return largest[nearest.argmin()][None] if len(largest) else middle


def _map(network: descriptors.Descriptor, image: Image.Image, point: Tensor, scale: Scale) -> np.ndarray:
    """Affinity ``(h, w)`` of a point ``(1, 2)`` of the image frame."""
    size = input_size(image.size, *scale)
    fmap = FeatureMap(network.maps(as_tensor(image, size))[0], image.size, size, scale[1], "projector")
    return affinity(fmap, point)[0].numpy()


def _scale(model: PLRC, config: Config) -> Scale:
    """Short side at which whole images are described (twice a view's, which shows about a quarter), and the stride."""
    stride = model.query_encoder.backbone.stride
    return max(2 * config.image_size, 4 * stride), stride


def _spread(source: Source, count: int) -> list[int]:
    """``count`` indices, or all, evenly over the source."""
    return np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist()


def _small(image: Image.Image) -> np.ndarray:
    copy = image.copy()
    copy.thumbnail((320, 320))
    return np.asarray(copy)


def _masks(source: Source, index: int) -> np.ndarray | None:
    """Those of an image's objects ``(n, H, W)``; None if it has none."""
    annotation = source.annotation(index)
    return None if annotation is None or annotation.masks is None or not len(annotation.masks) else annotation.masks


def _losses(out: Path, config: Config) -> str:
    if not (lines := read_log(out)):
        return "none, the log is empty"
    # Until the queue holds real keys, its random ones are easy to tell from an image's own, and the loss says little.
    filled = [line for line in lines if line["step"] * config.batch_size >= config.queue_size]
    first, last = (filled or lines)[0], lines[-1]
    if first is last:
        return f"{', '.join(f'{name} {last[name]:.2f}' for name in losses_of(last))} (step {last['step']})"
    changes = [f"{name} {first[name]:.2f} → {last[name]:.2f}" for name in losses_of(first) if name in last]
    return f"{', '.join(changes)} (step {first['step']} → {last['step']})"
