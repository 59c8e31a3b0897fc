"""Heads: what a checkpoint puts after its trunk, as modules that work at every position of a map.

A head of the image, applied to the pooled feature, is linear layers, norms and activations; as 1×1 convolutions the
same tensors give every cell its own output (Wang et al. 2021, DenseCL; PLRC's released code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NORM = {"running_mean", "running_var"}
_AFFINE = {"weight", "bias"}
_COUNTER = "num_batches_tracked"
Layer = TypeVar("Layer", bound=nn.Module)


class HeadNotUnderstood(ValueError):
    """Tensors of a head that are not layers known here; the message says which, in a clause."""


class Normalise(nn.Module):
    """L2-normalise over the channels at every position."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, D, h, w)`` → the same, each position of length 1."""
        return F.normalize(maps, dim=1)


def build_head(
    tensors: Mapping[str, Tensor],
    channels: int,
    activation: type[nn.Module] = nn.ReLU,
    slots: Sequence[str] = (),
    normalised: bool = False,
) -> nn.Sequential:
    """A head from tensors named as those of an ``nn.Sequential`` (``0.weight``, ``1.running_mean``, …), or one layer's.

    Linear layers (2-d weights) and 1×1 convolutions become 1×1 convolutions, BatchNorm1d and 2d become BatchNorm2d,
    affine or not, and a position without tensors is the activation, which a checkpoint does not name.

    Args:
        channels: of the trunk's last map.
        activation: what stands at a position without tensors.
        slots: the names of the layers in order where they are no numbers, "" for an activation.
        normalised: L2-normalise the output at every position.

    Returns:
        A module in evaluation mode that maps ``(B, channels, h, w)`` to ``(B, D, h, w)``.

    Raises:
        HeadNotUnderstood: a layer of another kind, one that does not fit the one before it, a missing tensor.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = tensor
    modules: list[nn.Module] = []
    width = channels
    for layer in _order(layers, slots):
        if layer not in layers:
            modules.append(activation())
        elif _NORM & layers[layer].keys():
            modules.append(_norm(layer, layers[layer], width))
        else:
            modules.append(_linear(layer, layers[layer], width))
            width = layers[layer]["weight"].shape[0]
    if not any(isinstance(module, nn.Conv2d) for module in modules):
        raise HeadNotUnderstood("it has no linear layer")
    if normalised:
        modules.append(Normalise())
    return nn.Sequential(*modules).eval()


def _order(layers: Mapping[str, object], slots: Sequence[str]) -> list[str]:
    """The layers in the order of their work, an activation's place among them."""
    if slots:
        order = list(slots)
    elif set(layers) == {""}:
        order = [""]
    elif all(layer.isdecimal() for layer in layers):
        order = [str(i) for i in range(max(map(int, layers)) + 1)]
    else:
        strange = next(layer for layer in layers if not layer.isdecimal())
        raise HeadNotUnderstood(f"{strange or 'its weight'} has no place in an order of layers")
    missing = [slot for slot in slots if slot and slot not in layers]
    strange_layers = [layer for layer in layers if layer not in order]
    if missing or strange_layers:
        raise HeadNotUnderstood(f"{(missing + strange_layers)[0]} {'is missing' if missing else 'is not known'}")
    gaps = [i for i, layer in enumerate(order) if layer not in layers]
    if 0 in gaps or any(i + 1 in gaps for i in gaps):
        raise HeadNotUnderstood("layers without tensors come first, or two in a row")
    return order


def _linear(layer: str, tensors: Mapping[str, Tensor], width: int) -> nn.Conv2d:
    here = layer or "the layer"
    if not {"weight"} <= tensors.keys() <= _AFFINE:
        raise HeadNotUnderstood(f"{here} has {', '.join(sorted(tensors))}, which is no linear layer")
    weight, bias = tensors["weight"], tensors.get("bias")
    shape = tuple(weight.shape)
    if weight.ndim == 2:
        weight = weight[:, :, None, None]
    if weight.ndim != 4 or weight.shape[2:] != (1, 1):
        raise HeadNotUnderstood(f"{here} has a weight of {shape}, which is no linear layer")
    if weight.shape[1] != width or (bias is not None and bias.shape != weight.shape[:1]):
        raise HeadNotUnderstood(f"{here} has a weight of {shape}, which does not fit {width} channels")
    with torch.device("meta"):
        module = nn.Conv2d(width, weight.shape[0], 1, bias=bias is not None)
    return _filled(module, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})


def _norm(layer: str, tensors: Mapping[str, Tensor], width: int) -> nn.BatchNorm2d:
    affine = "weight" in tensors
    needed = _NORM | _AFFINE if affine else _NORM
    if tensors.keys() - {_COUNTER} != needed:
        raise HeadNotUnderstood(f"{layer} has {', '.join(sorted(tensors))}, which is no BatchNorm")
    if any(tensors[name].shape != (width,) for name in needed):
        raise HeadNotUnderstood(f"{layer} is a BatchNorm that does not fit {width} channels")
    with torch.device("meta"):
        module = nn.BatchNorm2d(width, affine=affine)
    return _filled(module, {**{name: tensors[name] for name in needed}, _COUNTER: torch.tensor(0)})


def _filled(module: Layer, tensors: Mapping[str, Tensor]) -> Layer:
    wrong = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise HeadNotUnderstood(f"its {', '.join(wrong)} has infinite or undefined values")
    own = {name: t.to(torch.float32 if name != _COUNTER else torch.long, copy=True) for name, t in tensors.items()}
    module.load_state_dict(own, assign=True)
    return module
