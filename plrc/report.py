"""What a run has learnt, in one figure and three lines: the network as it was drawn from the seed, and as it is now."""

from __future__ import annotations

from collections.abc import Sequence
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
from plrc.config import Config
from plrc.data.loader import TwoViews, view_sampler
from plrc.data.photometric import apply
from plrc.data.sources import Source, first_decodable
from plrc.geometry import cell_centres
from plrc.model import PLRC
from plrc.regions import RegionMaps, sample_points
from plrc.registry import SCORES
from plrc.run import losses_of, read_log

_EXAMPLES = 3  # images in the figure
_SCORED = 200  # images behind each number
_TOO_EASY = 0.6  # where chance is right so often, there is nothing to find
_SHOWN_SIDE = 320  # pixels of the longer side of an image in a figure
_OF = "(projector, training images)"  # what is looked at, and on what


def before_and_after(model: PLRC, source: Source, regions: RegionMaps, config: Config, out: Path) -> list[str]:
    """Draw ``figures/before_after.png`` into the run folder and say in three lines what was learnt.

    The measures are those of docs/results.md, taken on the query encoder's projected map z and on training images: they
    test the training, not what a detector inherits, and the lines and the figure say so. A source without object masks
    gets two lines.
    """
    torch.manual_seed(config.seed)
    heading = _OF.replace("training ", "training\N{NO-BREAK SPACE}")  # folded before that, over a narrow image too
    before = descriptors.network(f"before {heading}", PLRC(config).query_encoder)
    after = descriptors.network(f"after {heading}", model.query_encoder)
    stride = model.query_encoder.backbone.stride
    side = _scoring_side(config, stride)

    dataset = TwoViews(source, regions, config)
    examples = [_example(dataset, source, i, config, (before, after), side, stride) for i in _spread(source, _EXAMPLES)]
    file = out / "figures" / "before_after.png"
    figures.save(figures.views_and_affinity(examples), file)

    lines = [_losses_line(out, config)]
    how: dict[str, Any] = {
        "short_side": side,
        "cell": stride,
        "sampler": view_sampler(config),
        "side": config.image_size,
    }
    loaded = ((i, first_decodable(source, i, source.load)[0]) for i in _spread(source, _SCORED))
    images = (scores.ScoredImage(i, image, (before, after), **how) for i, image in loaded)
    (match,) = scores.values_of(SCORES["views"].load(), images).values()
    if not match.images:
        lines.append(f"view match: {match.why}")
    elif (chance := float(np.mean(match.columns[-1]))) > _TOO_EASY:
        cells = -(-config.image_size // stride)
        lines.append(
            f"view match: says nothing on a map of {cells} × {cells} cells, where chance is right in {chance:.0%}"
        )
    else:
        first, last, _ = map(scores.bootstrap, match.columns)
        lines.append(
            f"view match {_OF}: {last} of points find their place in the other view within one cell "
            f"(before training {first.mean:.3f}, chance {chance:.3f})"
        )
    described = (before, after, descriptors.lab_colour(stride), descriptors.absolute_position(stride))
    known = (
        scores.ScoredImage(k, source.load(i), described, source.annotation(i), **how)
        for k, i in enumerate(i for i in _spread(source, _SCORED) if _masks(source, i) is not None)
    )
    (auc,) = scores.values_of(SCORES["auc"].load(), known).values()
    if auc.images:
        first, last, lab, distance, _ = map(scores.bootstrap, auc.columns)
        lines.append(
            f"objects {_OF}: affinity ranks a pixel of a point's object above one outside, equally far, "
            f"{last} of the time (before {first.mean:.3f}, Lab colour {lab.mean:.3f}, distance {distance.mean:.3f})"
        )
    return [*lines, f"figure: {file}"]


def affinity_over_training(model: PLRC, source: Source, config: Config, out: Path, step: int) -> figures.Figure:
    """Affinity maps of the same points of the same training images, by the projected map as it is now.

    Also written to ``figures/affinity_XXXXXXX.png``.
    """
    stride = model.query_encoder.backbone.stride
    side = _scoring_side(config, stride)
    encoder = model.query_encoder
    now = descriptors.network("now", encoder)
    images = [first_decodable(source, i, source.load)[0] for i in _spread(source, 4)]
    points = torch.tensor([0.5, 0.5]).expand(len(images), 2)
    maps = [_map(now, image, points[:1], side, stride) for image in images]
    encoder.train()
    columns = {f"step {step} (projector)": maps}
    figure = figures.affinity_sheet([np.asarray(_small(image)) for image in images], points.numpy(), columns)
    figures.save(figure, out / "figures" / f"affinity_{step:07d}.png")
    return figure


def _example(
    dataset: TwoViews,
    source: Source,
    index: int,
    config: Config,
    networks: Sequence[descriptors.Descriptor],
    side: int,
    stride: int,
) -> figures.Example:
    """Image ``index`` as epoch 0 trains on it, with the affinity of the middle of what both views show."""
    batch = dataset[(0, index)]
    image = source.load(int(batch.indices[0]))
    draws = (2, batch.region_count, config.points_per_region, 3)
    points, seen = sample_points(
        batch.regions[:, 0], torch.rand(draws, generator=torch.Generator().manual_seed(config.seed))
    )
    query = _query(source, int(batch.indices[0]), batch.crops.box[:, 0])
    coloured = apply(batch.views[:, 0], batch.colours[:, 0])
    return figures.Example(
        image=np.asarray(_small(image)),
        box=batch.crops.box[:, 0].numpy(),
        flip=batch.crops.flip[:, 0].numpy(),
        views=(coloured * 255).round().byte().permute(0, 2, 3, 1).numpy(),
        regions=batch.regions[:, 0].numpy(),
        points=points.numpy(),
        valid=seen.all(dim=0).numpy(),
        query=query[0].numpy(),
        maps={network.name: _map(network, image, query, side, stride) for network in networks},
    )


def _query(source: Source, index: int, boxes: Tensor) -> Tensor:
    """The query point ``(1, 2)`` of the image frame: on the object that both views show most of, else in the middle.

    Args:
        boxes: ``(2, 4)``, the views' crops.
    """
    low, high = boxes[:, :2].amax(dim=0), boxes[:, 2:].amin(dim=0)
    middle = ((low + high) / 2).clamp(0, 1)[None]
    masks = _masks(source, index)
    if masks is None:
        return middle
    centres = cell_centres(*masks.shape[1:])
    shared = ((centres >= low) & (centres < high)).all(dim=-1)
    shown = torch.from_numpy(masks) & shared
    largest = centres[shown[shown.sum(dim=(1, 2)).argmax()]]
    if not len(largest):
        return middle
    return largest[(largest - largest.mean(dim=0)).square().sum(dim=1).argmin()][None]


def _map(network: descriptors.Descriptor, image: Image.Image, point: Tensor, side: int, stride: int) -> np.ndarray:
    """Affinity ``(h, w)`` of a point ``(1, 2)`` of the image frame."""
    size = input_size(image.size, side, stride)
    fmap = FeatureMap(network.maps(as_tensor(image, size))[0], image.size, size, stride, "projector")
    return affinity(fmap, point)[0].numpy()


def _scoring_side(config: Config, stride: int) -> int:
    """Short side at which whole images are described: twice a view's, as a view shows about a quarter of the area."""
    return max(2 * config.image_size, 4 * stride)


def _spread(source: Source, count: int) -> list[int]:
    """``count`` indices, or all, evenly over the source."""
    return [int(i) for i in np.linspace(0, len(source) - 1, min(count, len(source)))]


def _small(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    return copy


def _masks(source: Source, index: int) -> np.ndarray | None:
    """Those of an image's objects ``(n, H, W)``; None if it has none."""
    annotation = source.annotation(index)
    return None if annotation is None or annotation.masks is None or not len(annotation.masks) else annotation.masks


def _losses_line(out: Path, config: Config) -> str:
    lines = read_log(out)
    # Until the queue holds real keys, its random ones are easy to tell from an image's own, and the loss says little.
    filled = [line for line in lines if line["step"] * config.batch_size >= config.queue_size]
    first, last = (filled or lines)[0], lines[-1]
    changes = [f"{name} {first[name]:.2f} → {last[name]:.2f}" for name in losses_of(first) if name in last]
    return f"losses: {', '.join(changes)} (step {first['step']} → {last['step']})"
