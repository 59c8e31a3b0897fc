"""Ways to describe every cell of an image: a network's features, and the trivial baselines that they have to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plrc.analysis.features import DenseEncoder
from plrc.data.photometric import normalise
from plrc.geometry import cell_centres
from plrc.pretrained import CheckpointInfo


@dataclass(frozen=True)
class Descriptor:
    """A name, a map of features, and how alike two features are."""

    name: str
    maps: Callable[[Tensor], Tensor]  # images (B, 3, H, W) RGB in [0, 1] → (B, C, h, w)
    similarity: Callable[[Tensor, Tensor], Tensor]  # (N, C) against (K, C) → (N, K), larger is more alike
    origin: CheckpointInfo | None = None  # of a network: the checkpoint, and the layer
    layer: str = ""
    pooled: bool = True  # the mean of a map tells something of the image; that of positions does not


def network(name: str, encoder: nn.Module) -> Descriptor:
    """Point features of an encoder in evaluation mode, compared by cosine."""
    encoder.eval()

    @torch.no_grad()
    def maps(images: Tensor) -> Tensor:
        device = next(encoder.parameters()).device
        return encoder(normalise(images).to(device, memory_format=torch.channels_last)).float().cpu()

    return Descriptor(name, maps, cosine)


def dense(encoder: DenseEncoder, layer: str | None = None, name: str | None = None) -> Descriptor:
    """A layer of a pretrained encoder (the encoder's default if not given), by cosine.

    Its name is the checkpoint's, followed by the layer if one is given, unless told. Images whose sides the backbone
    does not take, as patches of 14 pixels do not fill 608, are resized. Raises a ValueError if there is no such layer.
    """
    encoder.stride(layer)  # raises where there is none
    called = name or " ".join(filter(None, (encoder.origin.name, layer)))
    used, multiple = layer or encoder.default, encoder.backbone.multiple

    def maps(images: Tensor) -> Tensor:
        sides = [max(1, round(side / multiple)) * multiple for side in images.shape[2:]]
        if sides != list(images.shape[2:]):
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        return encoder.encode(images, [used])[used].cpu()

    return Descriptor(called, maps, cosine, encoder.origin, used)


def lab_colour(stride: int) -> Descriptor:
    """Baseline: the mean CIE Lab colour of each cell of ``stride`` pixels, compared by Euclidean distance (ΔE)."""
    return Descriptor("Lab colour", lambda images: F.avg_pool2d(rgb_to_lab(images), stride, ceil_mode=True), _nearness)


def absolute_position(stride: int) -> Descriptor:
    """Baseline: where a cell lies in its image, compared by distance. For view matching: "nothing has moved"."""
    return _position("distance", stride, lambda h, w: torch.tensor([w / h, 1.0]))


def relative_position(stride: int) -> Descriptor:
    """Baseline for matching images of different proportions: the same place relative to the image's sides."""
    return _position("same place", stride, lambda h, w: torch.ones(2))


def _position(name: str, stride: int, sides: Callable[[int, int], Tensor]) -> Descriptor:
    def maps(images: Tensor) -> Tensor:
        b, _, h, w = images.shape
        centres = cell_centres(-(-h // stride), -(-w // stride)) * sides(h, w)
        return centres.permute(2, 0, 1).expand(b, -1, -1, -1)

    return Descriptor(name, maps, _nearness, pooled=False)


def _nearness(a: Tensor, b: Tensor) -> Tensor:
    return -torch.cdist(a, b)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines ``(N, K)`` of ``(N, C)`` against ``(K, C)``, in [−1, 1]."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB in [0, 1] ``(B, 3, H, W)`` → CIE Lab (D65 white), L in [0, 100]."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = torch.einsum("ij,bjhw->bihw", to_xyz / to_xyz.sum(dim=1, keepdim=True), linear)
    f = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-8) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)
