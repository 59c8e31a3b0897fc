"""plrc.analysis.scores: features whose score is known beforehand, and baselines that must earn nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.color import rgb2lab
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor, picture_tensor, rgb_to_lab
from plrc.analysis.scores import (
    MaskedImage,
    ViewPairs,
    bootstrap,
    distance_matched_auc,
    draw_view_pairs,
    view_match,
    view_match_by_chance,
)
from plrc.data.photometric import Photometric
from plrc.data.views import ViewSampler
from plrc.geometry import Crop, cell_centres, sample

PLAIN = Photometric(
    brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, jitter_p=0.0, grey_p=0.0, blur_p=0.0, blur_sigma=(0.1, 1.0)
)
SAMPLER = ViewSampler((0.3, 1.0), 0.5, PLAIN)


class Ramps:
    """A source of pictures that say where they are: red is x, green is y."""

    def __init__(self, n: int, size: tuple[int, int] = (320, 240)) -> None:
        self._n, self._size = n, size

    def __len__(self) -> int:
        return self._n

    def name(self, i: int) -> str:
        return str(i)

    def size(self, i: int) -> tuple[int, int]:
        return self._size

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        width, height = self._size
        pixels = np.full((height, width, 3), 128, dtype=np.uint8)
        pixels[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
        pixels[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
        return Image.fromarray(pixels)

    def annotation(self, i: int) -> None:
        return None


def nearest(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def where_in_image(cell: int) -> Descriptor:
    """The place in the image that each cell of a ramp's view shows: perfect features."""
    return Descriptor("place", lambda views: F.avg_pool2d(views[:, :2], cell), nearest)


def noise(cell: int) -> Descriptor:
    generator = torch.Generator().manual_seed(0)

    def maps(views: Tensor) -> Tensor:
        return torch.randn(len(views), 8, views.shape[2] // cell, views.shape[3] // cell, generator=generator)

    return Descriptor("noise", maps, descriptors.cosine)


# ----------------------------------------------------------------------------------------------------------- bootstrap


def test_a_bootstrap_of_equal_values_is_that_value():
    score = bootstrap([0.25] * 7)
    assert (score.mean, score.low, score.high, score.n) == (0.25, 0.25, 0.25, 7)
    assert str(score) == "0.250 [0.250, 0.250]"


def test_the_interval_holds_the_mean_and_shrinks_with_the_number_of_images():
    values = np.random.default_rng(0).random(1600)
    widths = []
    for n in (25, 100, 400, 1600):
        score = bootstrap(values[:n].tolist())
        assert score.low < score.mean < score.high
        assert score.mean == pytest.approx(values[:n].mean())
        assert score.n == n
        widths.append(score.high - score.low)
        # Of the mean of n uniform numbers: ± 1.96 / sqrt(12 n)
        assert widths[-1] == pytest.approx(2 * 1.96 / np.sqrt(12 * n), rel=0.25)
    assert widths == sorted(widths, reverse=True)


def test_a_bootstrap_is_reproducible_and_needs_a_value():
    values = [0.1, 0.5, 0.9, 0.3]
    assert bootstrap(values) == bootstrap(values)
    with pytest.raises(ValueError, match="no image to score"):
        bootstrap([])


def test_of_one_image_there_is_no_interval():
    score = bootstrap([0.0625])
    assert (score.mean, score.n) == (0.0625, 1)
    assert np.isnan([score.low, score.high]).all()
    assert str(score) == "0.062 (n = 1)"


# ---------------------------------------------------------------------------------------------------------- view match


def test_pairs_of_points_show_the_same_place():
    pairs = draw_view_pairs(Ramps(20), SAMPLER, 64, range(20), points=12)
    n = pairs.points.shape[0]
    assert 15 <= n <= 20
    assert pairs.views.shape == (2, n, 3, 64, 64)
    assert pairs.points.shape == pairs.targets.shape == (n, 12, 2)
    assert ((pairs.targets >= 0) & (pairs.targets < 1)).all()
    inner = ((pairs.points - 0.5).abs() < 0.45).all(2) & ((pairs.targets - 0.5).abs() < 0.45).all(2)
    here, there = sample(pairs.views[0, :, :2], pairs.points), sample(pairs.views[1, :, :2], pairs.targets)
    torch.testing.assert_close(here[inner], there[inner], rtol=0, atol=0.01)
    assert inner.sum() > 100


def test_pairs_are_the_views_that_training_would_draw():
    pairs = draw_view_pairs(Ramps(4), SAMPLER, 32, [3])
    crops = SAMPLER.draw(12345, 0, 3, (320, 240)).crops
    expected = crops[1].to_view(crops[0].to_image(pairs.points[0]))
    torch.testing.assert_close(pairs.targets[0], expected)
    again = draw_view_pairs(Ramps(4), SAMPLER, 32, range(4))
    assert torch.equal(again.views[:, -1], pairs.views[:, 0]), "whichever other images are scored"


def test_perfect_features_find_every_place():
    pairs = draw_view_pairs(Ramps(30), SAMPLER, 64, range(30))
    score = view_match(pairs, where_in_image(8))
    assert score.mean == 1.0
    assert (score.low, score.high) == (1.0, 1.0)
    assert score.n == len(pairs.points)


def test_features_of_the_wrong_view_do_not():
    """Places in the view itself ("nothing has moved") are not those in the image."""
    pairs = draw_view_pairs(Ramps(30), SAMPLER, 64, range(30))
    assert view_match(pairs, descriptors.position(8)).mean < 0.7


def test_random_features_score_what_chance_gives():
    pairs = draw_view_pairs(Ramps(100), SAMPLER, 64, range(100))
    chance = view_match_by_chance(pairs, 8, 8)
    score = view_match(pairs, noise(8))
    assert 6 / 64 < chance.mean < 9 / 64, "nine cells inside, four or six at the border"
    assert score.low - 0.01 < chance.mean < score.high + 0.01


@pytest.mark.parametrize("within", [0, 1, 2])
def test_a_match_may_be_so_many_cells_off(within):
    """Features that are shifted by one cell to the right are right for 1 and wrong for 0."""
    n, k, side = 3, 10, 8
    centres = cell_centres(side, side)
    points = (centres[1:-1, 1:-1].flatten(0, 1))[torch.randperm(36)[:k]].expand(n, k, 2)
    pairs = ViewPairs(torch.zeros(2, n, 3, 64, 64), points, points)
    first = centres.permute(2, 0, 1).expand(n, -1, -1, -1)
    maps = iter([first, first - torch.tensor([1 / side, 0]).view(1, 2, 1, 1)])
    shifted = Descriptor("shifted", lambda views: next(maps), nearest)
    assert view_match(pairs, shifted, within).mean == (1.0 if within else 0.0)


@pytest.mark.parametrize(("h", "w", "within"), [(4, 7, 1), (5, 5, 2), (6, 3, 0), (2, 2, 1)])
def test_chance_counts_the_cells_that_are_right(h, w, within):
    points = torch.rand(5, 6, 2, generator=torch.Generator().manual_seed(0))
    pairs = ViewPairs(torch.zeros(2, 5, 3, 8, 8), points, points)
    shares = []
    for image in points.tolist():
        for x, y in image:
            row, column = int(y * h), int(x * w)
            right = sum(abs(i - row) <= within and abs(j - column) <= within for i in range(h) for j in range(w))
            shares.append(right / (h * w))
    assert view_match_by_chance(pairs, h, w, within).mean == pytest.approx(np.mean(shares))


# ------------------------------------------------------------------------------------------------ distance-matched AUC

WIDTH, HEIGHT = 96, 64


def objects(n: int = 12, seed: int = 0) -> list[MaskedImage]:
    """Pictures of noise with one or two ellipses, which only the masks know of."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for i in range(n):
        masks = []
        for _ in range(1 + i % 2):
            cx, cy, a, b = rng.uniform(20, 76), rng.uniform(16, 48), rng.uniform(10, 24), rng.uniform(8, 16)
            masks.append(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        found.append(MaskedImage(Image.fromarray(pixels), np.stack(masks)))
    return found


def constant(pictures: Tensor) -> Tensor:
    return torch.full((1, 16, pictures.shape[2] // 8, pictures.shape[3] // 8), 0.3)


def test_features_that_know_the_mask_rank_every_pair_rightly():
    images = [item for item in objects() if len(item.masks) == 1]
    masks = iter([torch.from_numpy(item.masks.astype(np.float32)) for item in images])

    def maps(pictures: Tensor) -> Tensor:
        share = F.interpolate(next(masks)[None], (32, 48), mode="area")
        return torch.cat(((share > 0.5).float(), (share <= 0.5).float()), dim=1)

    score = distance_matched_auc(images, Descriptor("mask", maps, descriptors.cosine), 64, 8)
    assert score.mean == pytest.approx(1.0, abs=1e-6)
    assert score.n == len(images)


def test_features_that_know_the_mask_but_prefer_the_other_side_score_nothing():
    images = [item for item in objects() if len(item.masks) == 1]
    masks = iter([torch.from_numpy(item.masks.astype(np.float32)) for item in images])

    def maps(pictures: Tensor) -> Tensor:
        share = F.interpolate(next(masks)[None], (32, 48), mode="area")
        return torch.cat(((share > 0.5).float(), (share <= 0.5).float()), dim=1)

    score = distance_matched_auc(images, Descriptor("mask", maps, lambda a, b: -descriptors.cosine(a, b)), 64, 8)
    assert score.mean == pytest.approx(0.0, abs=1e-6)


def test_constant_features_score_a_half():
    score = distance_matched_auc(objects(), Descriptor("constant", constant, descriptors.cosine), 64, 8)
    assert score.mean == 0.5
    assert score.n == 12


def test_random_features_score_about_a_half():
    score = distance_matched_auc(objects(40), noise(4), 64, 8)
    assert abs(score.mean - 0.5) < 0.04


def test_distance_earns_nothing_although_an_ordinary_auc_rewards_it():
    images = objects(30)
    score = distance_matched_auc(images, descriptors.position(4), 64, 8)
    assert abs(score.mean - 0.5) < 0.05
    ordinary = []
    for item in images:
        mask = item.masks[0].flatten()
        y, x = np.divmod(np.arange(mask.size), WIDTH)
        point = np.flatnonzero(mask)[mask.sum() // 2]
        ordinary.append(roc_auc_score(mask, -np.hypot(x - x[point], y - y[point])))
    assert np.mean(ordinary) > 0.8


def test_distance_earns_nothing_on_photos(shared_data):
    folder: Path = shared_data("ecssd-mini")
    images = []
    for file in sorted((folder / "masks").glob("*.png"))[:40]:
        with Image.open(file) as mask, Image.open(folder / "images" / f"{file.stem}.jpg") as image:
            images.append(MaskedImage(image.convert("RGB"), np.asarray(mask.convert("L"))[None] > 127))
    score = distance_matched_auc(images, descriptors.position(8), 128, 8)
    assert score.n >= 35
    assert 0.45 < score.mean < 0.56


def test_objects_that_are_tiny_or_nearly_everything_are_left_out():
    masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    masks[0, 10:12, 10:12] = True
    masks[1] = True
    item = MaskedImage(Image.new("RGB", (WIDTH, HEIGHT)), masks)
    with pytest.raises(ValueError, match="no image to score"):
        distance_matched_auc([item], Descriptor("constant", constant, descriptors.cosine), 64, 8)
    masks[2, 16:48, 24:60] = True
    both = [item, objects(1)[0]]
    assert distance_matched_auc(both, Descriptor("constant", constant, descriptors.cosine), 64, 8).n == 2


def test_masks_may_have_any_resolution():
    fine = objects(6)
    coarse = [MaskedImage(i.image.resize((48, 32)), i.masks) for i in fine]
    descriptor = Descriptor("constant", constant, descriptors.cosine)
    assert distance_matched_auc(coarse, descriptor, 64, 8).mean == 0.5


# --------------------------------------------------------------------------------------------------------- descriptors


def test_lab_is_that_of_scikit_image():
    pictures = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    pictures[0, :, :4] = torch.rand(3, 4, 30, generator=torch.Generator().manual_seed(1)) * 0.04  # the linear part
    pictures[0, :, 5], pictures[0, :, 6] = 0.0, 1.0
    expected = torch.from_numpy(rgb2lab(pictures.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    torch.testing.assert_close(rgb_to_lab(pictures), expected.float(), rtol=1e-3, atol=0.05)
    white = rgb_to_lab(torch.ones(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(white, torch.tensor([100.0, 0.0, 0.0]), rtol=0, atol=1e-3)


def test_lab_colour_tells_colours_apart():
    picture = torch.zeros(1, 3, 16, 24)
    picture[:, 0, :, 8:] = 1.0  # red but for the left third
    descriptor = descriptors.lab_colour(8)
    maps = descriptor.maps(picture)
    assert maps.shape == (1, 3, 2, 3)
    similar = descriptor.similarity(maps[0, :, 0, 2][None], maps[0].flatten(1).T).view(2, 3)
    torch.testing.assert_close(similar[:, 1:], torch.zeros(2, 2), rtol=0, atol=0.05)
    assert (similar[:, 0] < -50).all()


def test_position_measures_distances_in_a_common_unit():
    """Of a picture twice as wide as high, a step along the width is as far as one down."""
    descriptor = descriptors.position(8)
    maps = descriptor.maps(torch.zeros(2, 3, 32, 64))
    assert maps.shape == (2, 2, 4, 8)
    here = maps[0, :, 1, 1][None]
    similar = descriptor.similarity(here, maps[0].flatten(1).T).view(4, 8)
    assert similar[1, 2].item() == pytest.approx(similar[2, 1].item(), abs=1e-5)
    assert similar.argmax() == 1 * 8 + 1
    assert descriptor.maps(torch.zeros(1, 3, 33, 57)).shape == (1, 2, 5, 8), "as many cells as a network of stride 8"


def test_a_network_is_described_in_evaluation_mode_on_normalised_pictures():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    descriptor = descriptors.network("net", encoder.train())
    pictures = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    before = [b.clone() for b in encoder.buffers()]
    maps = descriptor.maps(pictures)
    assert not maps.requires_grad
    normalised = (pictures - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(maps, encoder.eval()(normalised).detach())
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.buffers(), strict=True))


@pytest.mark.parametrize("size", [(500, 375), (200, 633), (64, 64)])
def test_pictures_are_resized_to_whole_cells(size):
    image = Ramps(1, size).load(0)
    picture = picture_tensor(image, 128, 16)
    height, width = picture.shape[2:]
    assert picture.shape[:2] == (1, 3)
    assert height % 16 == width % 16 == 0
    assert min(height, width) == 128
    assert abs(max(height, width) - 128 * max(size) / min(size)) <= 8
    crop = Crop(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([False]))
    inside = 0.1 + 0.8 * torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample(picture[:, :2], inside), crop.to_image(inside), rtol=0, atol=0.006)
