"""plrc.regions: a region keeps its name in both views, and points are drawn evenly where their region lies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label
from scipy.stats import chisquare
from torch import Tensor

from plrc import regions
from plrc.geometry import Crop
from plrc.regions import (
    MAX_REGIONS,
    VIEW_RASTER,
    GridRegions,
    MaskRegions,
    SuperpixelRegions,
    open_regions,
    sample_points,
    view_regions,
)
from tests.sets import placed

UNLIKELY = 1e-3  # p below which a drawing is called uneven; the seeds are fixed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points_in(labels: Tensor, count: int, per_region: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    return sample_points(labels, torch.rand(len(labels), count, per_region, 3, generator=source))


def no_picture(at_least: tuple[int, int]) -> Image.Image:
    raise AssertionError("the picture is not needed")


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Four quarters of different colours, so that superpixels have something to follow."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[height // 2 :, width // 2 :] = (30, 200, 30)
    pixels[: height // 2, width // 2 :] = (30, 30, 200)
    return Image.fromarray(pixels)


def crop(*boxes: tuple[float, float, float, float], flip: tuple[bool, ...] = ()) -> Crop:
    return Crop(torch.tensor(boxes), torch.tensor(flip or (False,) * len(boxes)))


# ------------------------------------------------------------------------------------------------- regions in views


def test_the_grid_is_numbered_row_by_row():
    raster = GridRegions(3).raster("any", no_picture)
    assert raster.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def naive_view_regions(raster: Tensor, box: list[float], flip: bool) -> Tensor:
    """Every cell's centre taken into the image by hand, and looked up."""
    h, w = raster.shape
    seen = torch.empty(VIEW_RASTER, VIEW_RASTER, dtype=torch.uint8)
    for i in range(VIEW_RASTER):
        for j in range(VIEW_RASTER):
            across = (j + 0.5) / VIEW_RASTER
            across = 1 - across if flip else across
            x = box[0] + across * (box[2] - box[0])
            y = box[1] + (i + 0.5) / VIEW_RASTER * (box[3] - box[1])
            seen[i, j] = raster[min(int(y * h), h - 1), min(int(x * w), w - 1)]
    return seen


@pytest.mark.parametrize("shape", [(4, 4), (5, 9), (120, 37)])
def test_regions_of_views_are_those_of_the_image_points_they_show(shape):
    raster = torch.randint(0, 12, shape, generator=generator(3))
    boxes = [(0.113, 0.271, 0.613, 0.871), (0.337, 0.019, 0.987, 0.719)]
    seen = view_regions(raster, crop(*boxes, flip=(False, True)))
    for view, box, flip in zip(seen, boxes, (False, True), strict=True):
        wrong = view != naive_view_regions(raster, list(box), flip)
        assert wrong.float().mean() < 0.002  # centres on a border: rounding


# -------------------------------------------------------------------------------------------------- points in regions


def patches(h: int = 12, w: int = 8) -> Tensor:
    """(2, h, w): regions of odd shapes; image 0 has no region 3, image 1 nothing but 3 and one cell of 1."""
    labels = torch.zeros(2, h, w, dtype=torch.uint8)
    labels[0, 3:, :5] = 1
    labels[0, 2:9, 6:] = 2
    labels[1] = 3
    labels[1, h - 1, w - 1] = 1
    return labels


def test_points_lie_in_their_region():
    labels = patches()
    points, seen = points_in(labels, 5, 300, generator())
    assert points.shape == (2, 5, 300, 2)
    assert seen.tolist() == [[True, True, True, False, False], [False, True, False, True, False]]
    assert ((points >= 0) & (points <= 1)).all(), "placeholders too: they are sampled before they are masked"
    for b in range(2):
        for r in range(5):
            if seen[b, r]:
                column = (points[b, r, :, 0] * 8).long().clamp(max=7)
                row = (points[b, r, :, 1] * 12).long().clamp(max=11)
                assert (labels[b, row, column] == r).all()


def test_points_are_spread_evenly_over_the_region():
    labels = patches()[:1]
    points, _ = points_in(labels, 3, 20_000, generator(1))
    for r in range(3):
        x, y = points[0, r].unbind(-1)
        cell = (y * 12).long() * 8 + (x * 8).long()
        own = (labels[0].flatten() == r).nonzero().flatten()
        within = ((y * 12 * 4).long() % 4) * 4 + (x * 8 * 4).long() % 4
        counts = torch.bincount(cell * 16 + within, minlength=96 * 16).view(96, 16)[own]
        assert counts.sum() == 20_000
        for each in (counts, counts.sum(dim=1), counts.sum(dim=0)):  # a sixteenth of a cell, a cell, a place in all
            assert chisquare(each.flatten().numpy()).pvalue > UNLIKELY


# --------------------------------------------------------------------------------------------------------- superpixels


def test_superpixels_follow_the_picture(tmp_path: Path):
    raster = SuperpixelRegions(16).raster("a.jpg", lambda at_least: picture())
    assert raster.dtype == torch.int64
    assert 4 <= len(raster.unique()) <= MAX_REGIONS
    assert raster.unique().tolist() == list(range(int(raster.max()) + 1))
    pixels = np.asarray(picture().resize((raster.shape[1], raster.shape[0]), Image.Resampling.NEAREST))
    colour = torch.from_numpy((pixels > 100) @ np.array([1, 2, 4]))
    impure = sum(int((colour[raster == r] != colour[raster == r].mode().values).sum()) for r in raster.unique())
    assert impure <= 0.02 * raster.numel(), "a superpixel has one colour, but for a pixel at its border"


@pytest.mark.parametrize("k", [5, 16, 32])
def test_superpixels_are_as_many_as_asked_each_in_one_piece(k: int):
    """An image of soft blobs and noise, as photos are: SLIC asked for 16 gives about 10 of it."""
    blobs = np.random.default_rng(k).uniform(0, 255, (6, 8, 3)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 12, (120, 160, 3))
    soft = np.asarray(Image.fromarray(blobs).resize((160, 120), Image.Resampling.BICUBIC))
    image = Image.fromarray((soft + noise).clip(0, 255).astype(np.uint8))
    raster = SuperpixelRegions(k).raster("a.jpg", lambda at_least: image)
    assert raster.unique().tolist() == list(range(k))
    assert [label(raster.numpy() == region)[1] for region in range(k)] == [1] * k


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (300, 4)])
def test_small_and_narrow_images_have_superpixels(size: tuple[int, int]):
    raster = SuperpixelRegions(16).raster("a.jpg", lambda at_least: picture(*size))
    assert len(raster.unique()) == int(raster.max()) + 1 <= 16


def test_superpixels_do_not_depend_on_the_resolution_that_training_decodes(tmp_path: Path):
    """Else they would depend on which crop happened to be drawn when they were first computed."""
    asked = []

    def load(at_least: tuple[int, int]) -> Image.Image:
        asked.append(at_least)
        return picture(960, 640)

    SuperpixelRegions(16).raster("a.jpg", load)
    assert asked == [(regions.SUPERPIXEL_SIDE, regions.SUPERPIXEL_SIDE)]


# --------------------------------------------------------------------------------------------------------------- masks


def write(file: Path, labels: np.ndarray) -> None:
    Image.fromarray(labels).save(placed(file))


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (333, 7)])
def test_masks_of_any_size(shape, tmp_path: Path):
    labels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8) * 100
    write(tmp_path / "train" / "a.png", labels)
    raster = MaskRegions(tmp_path).raster("train/a.JPEG", no_picture)
    assert raster.dtype == torch.int64
    present = np.unique(labels).tolist()
    assert raster.tolist() == [[present.index(value) for value in row] for row in labels.tolist()]


def test_masks_of_every_one_channel_mode(tmp_path: Path):
    labels = np.array([[0, 7], [7, 255]], dtype=np.uint8)
    expected = [[0, 1], [1, 2]]
    write(tmp_path / "grey.png", labels)
    write(tmp_path / "deep.png", labels.astype(np.uint16) * 257)
    indexed = Image.fromarray(labels).convert("P")
    indexed.putdata(labels.flatten().tolist())
    indexed.save(tmp_path / "palette.png")
    for name in ("grey", "deep", "palette"):
        assert MaskRegions(tmp_path).raster(f"{name}.jpg", no_picture).tolist() == expected, name
    write(tmp_path / "two.png", labels > 0)
    assert MaskRegions(tmp_path).raster("two.jpg", no_picture).tolist() == [[0, 1], [1, 1]]


def test_masks_that_are_refused(tmp_path: Path):
    write(tmp_path / "rgb.png", np.zeros((2, 2, 3), dtype=np.uint8))
    for name, message in (("b", r"b\.png is missing"), ("rgb", r"rgb\.png is a colour image \(RGB\)")):
        with pytest.raises(ValueError, match=message):
            MaskRegions(tmp_path).raster(f"{name}.jpg", no_picture)
    write(tmp_path / "most.png", np.arange(MAX_REGIONS, dtype=np.uint8).reshape(8, -1))
    write(tmp_path / "more.png", np.arange(MAX_REGIONS + 1, dtype=np.uint8)[None])
    assert MaskRegions(tmp_path).raster("most.jpg", no_picture).max() == MAX_REGIONS - 1
    with pytest.raises(ValueError, match=rf"more\.png has {MAX_REGIONS + 1} regions; an image may have {MAX_REGIONS}"):
        MaskRegions(tmp_path).raster("more.jpg", no_picture)


# ------------------------------------------------------------------------------------------------------- specification


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("grid:1", "makes 1 regions an image; between 2 and 64"),
        ("grid:9", "makes 81 regions"),
        ("superpixels:1", "makes 1 regions"),
        ("superpixels:65", "makes 65 regions"),
        ("grid", "is not known: write grid:N, superpixels:K"),
        ("grid:", "is not known"),
        ("grid:-4", "is not known"),
        ("grid:4.5", "is not known"),
        ("masks:", "is not known"),
        ("slic:16", "is not known"),
        ("", "is not known"),
        ("masks:no/such/folder", "no such folder"),
    ],
)
def test_specifications_that_are_refused(spec, message, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        open_regions(spec, "source")


def test_as_few_and_as_many_regions_as_there_may_be():
    assert open_regions("grid:8", "source").raster("a.jpg", no_picture).max() == MAX_REGIONS - 1
    for count in (2, MAX_REGIONS):
        raster = open_regions(f"superpixels:{count}", "source").raster("a.jpg", lambda at_least: picture())
        assert raster.max() == count - 1
    whole = crop((0, 0, 1, 1))
    assert view_regions(torch.tensor([[MAX_REGIONS - 1]]), whole).unique().tolist() == [MAX_REGIONS - 1]
    with pytest.raises(ValueError, match=rf"an image has {MAX_REGIONS + 1} regions; {MAX_REGIONS} at most"):
        view_regions(torch.tensor([[MAX_REGIONS]]), whole)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (torch.zeros(2, 3), r"torch\.float32 \(2, 3\)"),
        (torch.zeros(3, dtype=torch.int64), r"torch\.int64 \(3,\)"),
        (torch.tensor([[0, -1]]), r"torch\.int64 \(1, 2\)"),
        (np.zeros((2, 3), dtype=np.int64), "ndarray"),
    ],
)
def test_a_source_of_ones_own_that_gives_something_else_is_named(given, named):
    class Mine:
        def raster(self, name, load):
            return given

    with pytest.raises(ValueError, match=rf"Mine\.raster\('a\.jpg'\) gives {named}: a region map is a torch\.int64"):
        regions.raster_of(Mine(), "a.jpg", no_picture)
    given = torch.tensor([[0, 1]])
    assert regions.raster_of(Mine(), "a.jpg", no_picture) is given
