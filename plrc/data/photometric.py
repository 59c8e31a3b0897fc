"""Colour augmentation in two halves: workers draw a few numbers a view, the device changes whole batches by them.

The recipe is MoCo v2's, as in the released code: colour jitter (brightness, contrast, saturation and hue in a random
order), grey, Gaussian blur; `normalise` comes last. Every operation is defined as torchvision defines it for a float
image, and changes one view exactly as it would change that view alone (up to rounding of about 1e-7).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import threshold

from plrc.distributed import sent_to

# Layout of the parameters of one view. The first four positions double as the codes of the four jitter operations.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # three factors >= 0 (1: unchanged); hue shift in turns, [-0.5, 0.5]
ORDER = slice(4, 8)  # codes of the operations, first to last: a permutation of 0..3
JITTERED = 8  # 1: apply the four operations, 0: do not
GREYED = 9  # 1: make grey, 0: do not
BLUR_SIGMA = 10  # std of the blur in pixels of the view; 0: no blur
N_PARAMETERS = 11

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # red, green, blue of images in [0, 1]; released code
IMAGENET_STD = (0.229, 0.224, 0.225)

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green, blue in a grey image; torchvision
REACH = 5.5  # a Gaussian ends after so many sigmas, where its value, 3e-7 of the peak, is lost in float32; ours
STRIPE = 32  # width in pixels of the stripes that a blur is computed in; ours, fastest of 28 to 224 on one CPU core
CHUNK = 250_000  # numbers (3 H W a view) that one CPU core changes together, so that they stay in its cache; ours


@dataclass(frozen=True)
class Photometric:
    """The distribution that the colour parameters of a view are drawn from; the recipe's constants stand in the config.

    brightness: the factor is uniform in [max(0, 1 - brightness), 1 + brightness]. `contrast`, `saturation`: likewise.
    hue: the shift is uniform in [-hue, hue], in turns of the colour circle; at most 0.5. jitter_p, grey_p, blur_p:
    probability that these four are applied, that the view is made grey, is blurred. blur_sigma: (lowest, highest) std
    of the blur in pixels of the view, uniform; above 0.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    jitter_p: float
    grey_p: float
    blur_p: float
    blur_sigma: tuple[float, float]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Parameters of one view, (N_PARAMETERS,) float32, laid out as the constants of this module say. The same
        amount of `rng` is consumed always, so settings do not shift what is drawn afterwards."""
        chance = rng.random(12)
        parameters = np.empty(N_PARAMETERS, dtype=np.float32)
        for operation, spread in enumerate((self.brightness, self.contrast, self.saturation)):
            lowest = max(0.0, 1.0 - spread)
            parameters[operation] = lowest + (1.0 + spread - lowest) * chance[operation]
        parameters[HUE] = self.hue * (2.0 * chance[3] - 1.0)
        parameters[ORDER] = chance[8:].argsort()  # the order of four random numbers is a uniform permutation
        parameters[JITTERED] = chance[4] < self.jitter_p
        parameters[GREYED] = chance[5] < self.grey_p
        lowest, highest = self.blur_sigma
        parameters[BLUR_SIGMA] = lowest + (highest - lowest) * chance[7] if chance[6] < self.blur_p else 0.0
        return parameters


@torch.no_grad()
def apply(views: Tensor, parameters: Tensor) -> Tensor:
    """The views with their colours changed.

    views: (B, 3, H, W), red, green, blue; uint8, or float in [0, 1]; on any device; left as it is.
    parameters: (B, N_PARAMETERS) as `Photometric.draw` makes them, on the CPU whatever the device of the views: which
        views an operation concerns is decided there, so the device never has to be waited for.

    Returns (B, 3, H, W) float32 in [0, 1] on the device of the views, not normalised, without gradient. An operation
    whose amount is the identity (factor 1, shift 0, sigma 0) is left out, so its views stay bit for bit the same.
    Raises ValueError for other shapes or dtypes, or parameters that are not on the CPU.
    """
    known = views.dtype == torch.uint8 or views.is_floating_point()
    if not known or views.shape[1:2] != (3,) or views.ndim != 4 or parameters.shape != (len(views), N_PARAMETERS):
        raise ValueError(
            f"views must be (B, 3, H, W), uint8 or float, and parameters (B, {N_PARAMETERS}), got {views.dtype} of "
            f"shape {tuple(views.shape)} and {tuple(parameters.shape)}"
        )
    if parameters.device.type != "cpu":
        raise ValueError(f"parameters must be on the CPU, got {parameters.device}")
    result = torch.empty(views.shape, dtype=torch.float32, device=views.device)
    on_cpu = views.device.type == "cpu"  # elsewhere all views go through an operation together
    size = max(1, CHUNK * torch.get_num_threads() // max(1, views[:1].numel()) if on_cpu else len(views))
    for start in range(0, len(views), size):
        chunk = result[start : start + size].copy_(views[start : start + size])
        if views.dtype == torch.uint8:
            chunk.div_(255)
        _change(chunk, parameters[start : start + size].float())
    return result


def normalise(images: Tensor) -> Tensor:
    """Images (..., 3, H, W), float in [0, 1], to zero mean and unit variance over ImageNet; same shape and dtype."""
    constants = torch.tensor((IMAGENET_MEAN, IMAGENET_STD), dtype=images.dtype).view(2, 3, 1, 1)
    mean, std = sent_to(constants, images.device)
    return (images - mean).div_(std)


def _change(x: Tensor, parameters: Tensor) -> None:
    """Apply every operation to the views x (n, 3, H, W) in place; parameters (n, N_PARAMETERS) on the CPU."""
    table = parameters.numpy()
    amounts = sent_to(parameters, x.device)
    identity = np.array([1.0, 1.0, 1.0, 0.0], dtype=np.float32)
    wanted = (table[:, JITTERED, None] != 0) & (table[:, : len(identity)] != identity)  # (n, 4), by operation
    order = table[:, ORDER].astype(np.int64)

    for step in range(order.shape[1]):
        for operation, change in enumerate((_brighten, _contrast, _saturate, _turn_hue)):
            rows = np.flatnonzero((order[:, step] == operation) & wanted[:, operation])
            _on_rows(x, rows, change, amounts[:, operation])
    _on_rows(x, np.flatnonzero(table[:, GREYED]), _make_grey, amounts[:, GREYED])
    blurred = np.flatnonzero(table[:, BLUR_SIGMA])
    if len(blurred):
        reach = math.ceil(REACH * float(table[:, BLUR_SIGMA].max()))
        _on_rows(x, blurred, partial(_blur, reach=reach), amounts[:, BLUR_SIGMA])


def _on_rows(x: Tensor, rows: np.ndarray, change: Callable[[Tensor, Tensor], None], amounts: Tensor) -> None:
    """Apply `change(views, amounts)` to the given rows of x (n, 3, H, W) in place; amounts (n,)."""
    if len(rows) == len(x):  # nothing to pick out: the usual case where a chunk is one view
        change(x, amounts)
    elif len(rows):
        index = sent_to(torch.from_numpy(rows), x.device)
        part = x[index]
        change(part, amounts[index])
        x.index_copy_(0, index, part)


# The operations. Each changes x (n, 3, H, W), float32 in [0, 1], in place, by amounts (n,) on the same device.


def _grey(x: Tensor) -> Tensor:
    """(n, H, W): the grey image."""
    red, green, blue = x.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _brighten(x: Tensor, factor: Tensor) -> None:
    x.mul_(factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def _contrast(x: Tensor, factor: Tensor) -> None:
    # The mean of the grey image is the grey of the mean colour, which needs no grey image.
    _mix(x, _grey(x.mean((2, 3), keepdim=True)), factor)


def _saturate(x: Tensor, factor: Tensor) -> None:
    _mix(x, _grey(x), factor)


def _mix(x: Tensor, grey: Tensor, factor: Tensor) -> None:
    factor = factor.view(-1, 1, 1, 1)
    x.mul_(factor).add_(grey.unsqueeze(1) * (1 - factor)).clamp_(0, 1)


def _make_grey(x: Tensor, _: Tensor) -> None:
    x.copy_(_grey(x).unsqueeze(1))


def _turn_hue(x: Tensor, turn: Tensor) -> None:
    """Shift the hue of HSV, keeping saturation and value, without going through HSV.

    With chroma C = max - min, the hue h in sixths of a turn from red, in (-3, 3], has the closed form
    |h| C = max - 2 min + green + blue - red, and the sign of green - blue. Backwards, the channel whose pure colour is
    at hue c (red 0, green 2, blue 4) is min + clamp(2C - d, 0, C), d the distance from h to c around the circle times
    C: for e = |h - c| C up to 6C, d = 3C - |e - 3C|. Working in multiples of C needs no division, so greys (C = 0) are
    no special case, and no choice by the greatest channel. Source of the formulas: ours.
    """
    red, green, blue = x.unbind(1)
    high = torch.maximum(red, green)
    torch.maximum(high, blue, out=high)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = high - low
    hue = (green + blue).sub_(red).add_(high).sub_(low, alpha=2)  # |h| C
    side = green - blue
    hue.copysign_(side)
    floor = torch.sub(low, chroma, out=side)  # min - C, to add to |e - 3C|

    sixths = 6 * turn.view(-1, 1, 1)
    for channel, home in ((red, 0), (green, 2), (blue, 4)):
        offset = torch.remainder(sixths - home + 3, 6) - 3  # in [-3, 3), so that e stays within 6C
        distance = torch.addcmul(hue, chroma, offset).abs_()
        distance.sub_(chroma, alpha=3).abs_().add_(floor)
        torch.clamp(distance, low, high, out=channel)


def _blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """Gaussian blur of a line of `size` pixels as a matrix, (n, size, size), with mirrored borders folded into it.

    Entry (i, j) is the weight of pixel j in the new pixel i: the Gaussian at j and at the images of j in the mirrors,
    which stand on the centres of the first and the last pixel (no pixel repeats). Of these the nearest two are counted:
    all that matter for size > REACH sigma. Rows sum to 1 always.
    """
    distance = torch.arange(2 * size - 1, dtype=torch.float32, device=sigma.device)
    gaussian = (-0.5 * (distance / sigma[:, None]).square()).exp_()  # (n, 2 size - 1)
    gaussian = threshold(gaussian, math.exp(-0.5 * REACH**2), 0.0)  # a tail would only slow the products

    # Matrices whose entries depend on i - j or i + j alone are windows of `size` moving along a line.
    near = gaussian[:, :size]
    weights = torch.cat((near.flip(1), near[:, 1:]), 1).unfold(1, size, 1).flip(1)  # at |i - j|
    before = gaussian.unfold(1, size, 1)  # at i + j, mirrored in the first pixel
    after = gaussian.flip(1).unfold(1, size, 1)  # at 2 (size - 1) - i - j, mirrored in the last
    weights[..., 1:] += before[..., 1:]  # a pixel on the mirror is its own image: counted already
    weights[..., :-1] += after[..., :-1]
    return weights.div_(weights.sum(-1, keepdim=True))


def _blur(x: Tensor, sigma: Tensor, reach: int) -> None:
    """Gaussian blur; `reach` is a bound in pixels of where every kernel ends, known without asking the device. The two
    products with the (banded) matrices are taken stripe by stripe, so the zeros far from the diagonal cost nothing."""
    n, _, height, width = x.shape
    across = _blur_matrix(sigma, width)
    down = across if height == width else _blur_matrix(sigma, height)
    lines, half = x.view(n, 3 * height, width), torch.empty_like(x)
    # With out= a product never goes through autocast, whose half precision would show in the image.
    for new, old in _stripes(width, reach):
        torch.matmul(lines[..., old], across[:, new, old].mT, out=half.view_as(lines)[..., new])
    for new, old in _stripes(height, reach):
        torch.matmul(down[:, None, new, old], half[:, :, old], out=x[:, :, new])


def _stripes(size: int, reach: int) -> list[tuple[slice, slice]]:
    """Stripes of new pixels, and of the pixels that they come from."""
    starts = range(0, size, STRIPE)
    return [(slice(s, s + STRIPE), slice(max(0, s - reach), s + STRIPE + reach)) for s in starts]
