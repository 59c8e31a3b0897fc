"""plrc.data.photometric: torchvision's colours view by view, and parameters from the recipe's distribution."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from plrc.data import photometric
from plrc.data.photometric import BLUR_SIGMA, GREYED, JITTERED, N_PARAMETERS, ORDER, Photometric, apply, normalise

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
RECIPE = Photometric(0.4, 0.4, 0.4, 0.1, jitter_p=0.8, grey_p=0.2, blur_p=0.5, blur_sigma=(0.1, 2.0))
ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
KERNEL = 23  # taps of the reference's blur: enough for sigma 2


def unchanged(n: int = 1) -> Tensor:
    """(n, N_PARAMETERS): jittered, by amounts that change nothing; neither grey nor blurred."""
    parameters = torch.zeros(n, N_PARAMETERS)
    parameters[:, [BRIGHTNESS, CONTRAST, SATURATION]] = 1.0
    parameters[:, ORDER] = torch.arange(4.0)
    parameters[:, JITTERED] = 1.0
    return parameters


def drawn(n: int, seed: int = 0, settings: Photometric = RECIPE) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([settings.draw(rng) for _ in range(n)]))


def random_views(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(n, 3, height, width) float in [0, 1], on few levels, so that equal channels, black and white occur."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (n, 3, height, width), generator=generator) / 8


def reference(view: Tensor, parameters: Tensor) -> Tensor:
    """One view (3, H, W), float in [0, 1], by torchvision's functions."""
    if parameters[JITTERED]:
        for code in parameters[ORDER].long().tolist():
            view = ADJUST[code](view, float(parameters[code]))
    if parameters[GREYED]:
        view = tv.rgb_to_grayscale(view, num_output_channels=3)
    if parameters[BLUR_SIGMA]:
        view = tv.gaussian_blur(view, KERNEL, float(parameters[BLUR_SIGMA]))
    return view


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 71), (96, 33)])
def test_a_batch_equals_torchvision_view_by_view(height, width):
    views, parameters = random_views(64, height, width), drawn(64)
    expected = torch.stack([reference(view, p) for view, p in zip(views, parameters, strict=True)])
    torch.testing.assert_close(apply(views, parameters), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("operation", [BRIGHTNESS, CONTRAST, SATURATION, HUE])
def test_each_operation_equals_torchvision(operation):
    amounts = (-0.5, -0.37, -0.1, -1 / 6, 0.03, 1 / 3, 0.41, 0.5) if operation == HUE else (0.0, 0.6, 1.4, 2.0, 3.0)
    views, parameters = random_views(len(amounts), 24, 25), unchanged(len(amounts))
    parameters[:, operation] = torch.tensor(amounts)
    expected = torch.stack([ADJUST[operation](view, amount) for view, amount in zip(views, amounts, strict=True)])
    assert (expected - views).abs().max() > 0.05
    torch.testing.assert_close(apply(views, parameters), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (13, 80), (70, 12)])
def test_the_blur_equals_torchvision(height, width):
    sigmas = (0.1, 0.3, 0.9, 1.5, 2.0)
    views, parameters = random_views(len(sigmas), height, width), unchanged(len(sigmas))
    parameters[:, BLUR_SIGMA] = torch.tensor(sigmas)
    expected = torch.stack([tv.gaussian_blur(view, KERNEL, sigma) for view, sigma in zip(views, sigmas, strict=True)])
    torch.testing.assert_close(apply(views, parameters), expected, rtol=0, atol=1e-5)


def test_identity_parameters_change_no_bit():
    views = random_views(3, 17, 18)
    assert torch.equal(apply(views, unchanged(3)), views)
    parameters = drawn(3)
    parameters[:, [JITTERED, GREYED, BLUR_SIGMA]] = 0.0  # amounts without effect
    assert torch.equal(apply(views, parameters), views)


def test_bytes_are_scaled_and_the_input_stays():
    views = torch.randint(0, 256, (4, 3, 20, 21), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for given in (views, views.float() / 255):
        before = given.clone()
        result = apply(given, drawn(4))
        assert torch.equal(given, before)
        torch.testing.assert_close(result, apply(views.float() / 255, drawn(4)), rtol=0, atol=0)


def test_a_view_does_not_depend_on_its_neighbours(monkeypatch):
    views, parameters = random_views(24, 36, 50), drawn(24, seed=3)
    alone = torch.cat([apply(views[i : i + 1], parameters[i : i + 1]) for i in range(24)])
    for chunk in (3 * 36 * 50, 5 * 3 * 36 * 50, 10**9):
        monkeypatch.setattr(photometric, "CHUNK", chunk)
        torch.testing.assert_close(apply(views, parameters), alone, rtol=0, atol=1e-6)


def test_autocast_does_not_coarsen_the_blur():
    views, parameters = random_views(4, 32, 32), unchanged(4)
    parameters[:, BLUR_SIGMA] = 1.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = apply(views, parameters)
    assert torch.equal(coarse, apply(views, parameters))


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (2, 3, 1, 1), (2, 3, 2, 5)])
def test_empty_batches_and_tiny_views(shape):
    parameters = unchanged(shape[0])
    parameters[:, BLUR_SIGMA] = 2.0
    result = apply(torch.full(shape, 0.25), parameters)
    torch.testing.assert_close(result, torch.full(shape, 0.25))  # any blur leaves a uniform picture


def test_what_does_not_fit_is_refused():
    views, parameters = random_views(2, 8, 8), unchanged(2)
    for other, others in (
        (views[:, :1], parameters),
        (views[0], parameters),
        (views.long(), parameters),
        (views, parameters[:1]),
    ):
        with pytest.raises(ValueError, match=r"views must be \(B, 3, H, W\), uint8 or float, and parameters"):
            apply(other, others)
    with pytest.raises(ValueError, match="on the CPU"):
        apply(views, parameters.to("meta"))


def test_normalise_is_torchvisions():
    views = random_views(2, 9, 10)
    expected = tv.normalize(views, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(views), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(normalise(views[0]), normalise(views)[0], rtol=0, atol=0)


def test_draws_follow_the_recipe():
    n = 8000
    table = drawn(n, seed=7).double()
    for factor in (BRIGHTNESS, CONTRAST, SATURATION):
        check_uniform(table[:, factor], 0.6, 1.4)
    check_uniform(table[:, HUE], -0.1, 0.1)
    sigma = table[:, BLUR_SIGMA]
    check_uniform(sigma[sigma > 0], 0.1, 2.0)
    for flag, p in [(table[:, JITTERED], 0.8), (table[:, GREYED], 0.2), ((sigma > 0).double(), 0.5)]:
        assert set(flag.tolist()) == {0.0, 1.0}
        assert abs(flag.mean().item() - p) < 5 * (p * (1 - p) / n) ** 0.5
    orders = Counter(tuple(order) for order in table[:, ORDER].int().tolist())
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(orders) == 24
    assert max(abs(count - n / 24) for count in orders.values()) < 5 * (n / 24) ** 0.5


def check_uniform(values: Tensor, lowest: float, highest: float) -> None:
    assert values.min() >= lowest - 1e-6
    assert values.max() <= highest + 1e-6
    quarters = torch.histc(values, bins=4, min=lowest, max=highest)
    expected = len(values) / 4
    assert (quarters - expected).abs().max() < 5 * expected**0.5


def test_everything_is_drawn_independently():
    table = drawn(8000, seed=11).double()
    correlation = torch.corrcoef(table.T)
    independent = [BRIGHTNESS, CONTRAST, SATURATION, HUE, JITTERED, GREYED, BLUR_SIGMA, ORDER.start]
    among = correlation[independent][:, independent]
    assert (among - torch.eye(len(independent))).abs().max() < 0.06


def test_draws_are_a_function_of_the_generator():
    first, again, other = (RECIPE.draw(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert (first.dtype, first.shape) == (np.float32, (N_PARAMETERS,))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # Whatever the settings, the same amount of the generator is consumed.
    left = np.random.default_rng(5), np.random.default_rng(5)
    RECIPE.draw(left[0])
    replace(RECIPE, jitter_p=0.0, grey_p=0.0, blur_p=0.0).draw(left[1])
    assert left[0].random() == left[1].random()


def test_factors_never_fall_below_zero_and_probabilities_of_zero_and_one_are_certain():
    check_uniform(drawn(2000, settings=replace(RECIPE, contrast=2.0))[:, CONTRAST], 0.0, 3.0)
    never = drawn(500, settings=replace(RECIPE, jitter_p=0.0, grey_p=0.0, blur_p=0.0))
    always = drawn(500, settings=replace(RECIPE, jitter_p=1.0, grey_p=1.0, blur_p=1.0))
    assert not never[:, [JITTERED, GREYED, BLUR_SIGMA]].any()
    assert always[:, [JITTERED, GREYED, BLUR_SIGMA]].all()
