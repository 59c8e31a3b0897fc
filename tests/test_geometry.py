"""plrc.geometry: ramps whose values are their own coordinates say where a point really lands."""

import pytest
import torch
from torch import Tensor

from plrc.geometry import Crop, cell_centres, cell_of, sample

# (height, width): wide, tall, one row, one column, square
SIZES = [(3, 7), (11, 4), (1, 5), (5, 1), (8, 8)]


def ramp(h: int, w: int) -> Tensor:
    """(1, 2, h, w): channel 0 is each cell's x, channel 1 its y. The coordinates are computed here, not by plrc."""
    x = torch.tensor([(j + 0.5) / w for j in range(w)])
    y = torch.tensor([(i + 0.5) / h for i in range(h)])
    return torch.stack((x.expand(h, w), y[:, None].expand(h, w)))[None]


def random_points(n: int, seed: int = 0) -> Tensor:
    return torch.rand(1, n, 2, generator=torch.Generator().manual_seed(seed))


def random_crops(*shape: int, seed: int = 0) -> Crop:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(*shape, 2, generator=generator) * 0.5
    high = low + 0.1 + torch.rand(*shape, 2, generator=generator) * 0.4
    return Crop(torch.cat((low, high), dim=-1), torch.rand(shape, generator=generator) < 0.5)


@pytest.mark.parametrize("size", SIZES)
def test_a_ramp_sampled_at_a_point_gives_the_point(size):
    h, w = size
    points = random_points(500)
    half_a_cell = torch.tensor([0.5 / w, 0.5 / h])
    expected = torch.maximum(torch.minimum(points, 1 - half_a_cell), half_a_cell)  # beyond, the border is continued
    torch.testing.assert_close(sample(ramp(h, w), points), expected, rtol=0, atol=1e-6)


def test_sample_reads_each_image_at_its_own_points():
    maps = torch.cat([ramp(3, 5), ramp(3, 5) + 10])
    points = torch.tensor([[[0.3, 0.5]], [[0.6, 0.5]]])
    expected = torch.tensor([[[0.3, 0.5]], [[10.6, 10.5]]])
    torch.testing.assert_close(sample(maps, points), expected, rtol=0, atol=1e-5)


def test_sample_passes_gradients_to_the_maps():
    maps = torch.zeros(1, 1, 2, 2, requires_grad=True)
    sample(maps, torch.tensor([[[0.25, 0.25], [0.5, 0.5]]])).sum().backward()
    torch.testing.assert_close(maps.grad[0, 0], torch.tensor([[1.25, 0.25], [0.25, 0.25]]))


@pytest.mark.parametrize("size", SIZES)
def test_cell_centres(size):
    centres = cell_centres(*size)
    assert centres.shape == (*size, 2)
    torch.testing.assert_close(centres.permute(2, 0, 1)[None], ramp(*size), rtol=0, atol=1e-7)


def test_cell_of_points_on_and_beyond_the_border():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-0.1, 1.3], [0.2500001, 0.4999]])
    row, column = cell_of(points, 2, 4)
    assert row.tolist() == [0, 1, 1, 0]
    assert column.tolist() == [0, 3, 0, 1]


@pytest.mark.parametrize(
    ("flip", "view", "image"),
    [
        (False, (0.0, 0.0), (0.2, 0.5)),
        (False, (1.0, 1.0), (0.6, 0.9)),
        (False, (0.25, 0.5), (0.3, 0.7)),
        (True, (0.0, 0.0), (0.6, 0.5)),
        (True, (1.0, 1.0), (0.2, 0.9)),
        (True, (0.25, 0.5), (0.5, 0.7)),
    ],
)
def test_a_crop_by_hand(flip, view, image):
    crop = Crop(torch.tensor([0.2, 0.5, 0.6, 0.9]), torch.tensor(flip))
    torch.testing.assert_close(crop.to_image(torch.tensor([view])), torch.tensor([image]))
    torch.testing.assert_close(crop.to_view(torch.tensor([image])), torch.tensor([view]))


def test_a_batch_of_crops_does_what_each_crop_does():
    crops = random_crops(2, 3, seed=2)
    points = torch.rand(2, 3, 5, 2, generator=torch.Generator().manual_seed(3))
    assert 0 < crops.flip.sum() < 6, "both kinds are in the batch"
    for i in range(2):
        for j in range(3):
            one = Crop(crops.box[i, j], crops.flip[i, j])
            assert torch.equal(crops.to_image(points)[i, j], one.to_image(points[i, j]))
            assert torch.equal(crops.to_view(points)[i, j], one.to_view(points[i, j]))


@pytest.mark.parametrize("flip", [False, True])
def test_the_view_of_a_ramp_holds_the_image_points_that_the_crop_names(flip):
    """A view is cut from a non-square ramp by slicing and mirroring its cells: the crop must say the same."""
    image = ramp(20, 30)
    view = image[:, :, 5:15, 6:24]
    view = view.flip(3) if flip else view
    crop = Crop(torch.tensor([[6 / 30, 5 / 20, 24 / 30, 15 / 20]]), torch.tensor([flip]))
    inside = 0.06 + 0.88 * random_points(200)
    torch.testing.assert_close(sample(view, inside), crop.to_image(inside), rtol=0, atol=1e-6)
    centres = cell_centres(10, 18).view(1, -1, 2)
    torch.testing.assert_close(crop.to_image(centres), view.flatten(2).transpose(1, 2), rtol=0, atol=1e-6)
