"""Modules from tensors: the backbone, every tensor accounted for, and heads that work at every position of a map."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plrc.backbones import Backbone, build
from plrc.pretrained.reading import CheckpointError
from plrc.registry import BACKBONES

_COUNTER = "num_batches_tracked"
_SHOWN = 4  # names in an error
_ANOTHER = "if it is another network that timm has, say which: timm:NAME@FILE"
_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}


def arch_of(tensors: Mapping[str, Tensor], file: str) -> str:
    """The name of the backbone that has such tensors, by torchvision's or timm's names.

    Raises:
        CheckpointError: it is none that is known; says what it looks like.
    """
    patches = tensors.get("patch_embed.proj.weight")
    if patches is not None:
        return _vit(tensors, patches)
    form = _form(tensors)
    known = {entry.traits["form"]: name for name, entry in BACKBONES.items() if "form" in entry.traits}
    if form not in known:
        raise CheckpointError(
            f"{file} looks like a residual network of {form}, and those that are known by their tensors are "
            f"{', '.join(known.values())}; {_ANOTHER}"
        )
    return known[form]


def _form(tensors: Mapping[str, Tensor]) -> str:
    """For instance "3-4-6-3 bottlenecks of 64", the trait in ``BACKBONES``. One misnamed tensor makes no block."""
    blocks = Counter(match[0] for name in tensors if (match := re.match(r"layer\d\.\d+\.", name)))
    stages = Counter(block[5] for block, members in blocks.items() if members > 2)
    kind = "bottlenecks" if sum(".conv3." in name for name in tensors) > 1 else "basic blocks"
    form = f"{'-'.join(str(stages[stage]) for stage in sorted(stages)) or 'no'} {kind}"
    for name, inner in tensors.items():
        if re.fullmatch(r"layer1\.\d+\.conv2\.weight", name) and inner.ndim == 4:
            groups = len(inner) // max(1, inner.shape[1])
            return f"{form} of {len(inner)}" + (f" in {groups} groups" if groups != 1 else "")
    return form


def _vit(tensors: Mapping[str, Tensor], patches: Tensor) -> str:
    """timm's name of a ViT: of DINO, MAE, MoCo v3, …, of DINOv2 or of DINOv3, told apart by what each has added."""
    kind = "224"
    if any(name.startswith(("rope_embed", "storage_tokens")) or name.endswith(".gamma_1") for name in tensors):
        kind = "dinov3"
    elif any(name.endswith(".ls1.gamma") for name in tensors):
        kind = "reg4_dinov2" if {"register_tokens", "reg_token"} & tensors.keys() else "dinov2"
    return f"timm:vit_{_VIT_SIZES.get(len(patches), len(patches))}_patch{patches.shape[-1]}_{kind}"


def skeleton(arch: str) -> Backbone:
    """``build(arch)``, to be filled; the global random generator is not moved."""
    # Without memory, where the file has every tensor of it: timm's models have some that are not saved.
    device = "meta" if "form" in BACKBONES[arch].traits else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return build(arch)


def filled(backbone: Backbone, tensors: Mapping[str, Tensor], file: str, spelled: Callable[[str], str]) -> Backbone:
    """The backbone with every one of its tensors from ``tensors``, as copies; fp32 and in evaluation mode.

    Args:
        tensors: by torchvision's or timm's names. BatchNorm's counters may be missing.
        file: for errors. spelled: a tensor's name in the file, for errors too.

    Raises:
        CheckpointError: a tensor is missing, unknown, of the wrong shape or kind, or not finite.
    """
    named = backbone.named
    # timm's own way from what others publish to its names; position embeddings of another size are resampled.
    filter_fn = getattr(sys.modules[type(named).__module__], "checkpoint_filter_fn", None)
    if filter_fn is not None:
        try:
            tensors = filter_fn(dict(tensors), named)
        except Exception as error:  # on tensors of another network it raises almost anything
            raise CheckpointError(f"{file} is no {backbone.name}: timm cannot take its tensors ({error})") from error
        known = {name.split(".")[0] for name in named.state_dict()}
        tensors = {name: tensor for name, tensor in tensors.items() if name.split(".")[0] in known}
    wanted = named.state_dict()
    _check(tensors, wanted, backbone.name, file, spelled)
    state = {
        name: torch.zeros((), dtype=torch.long)
        if name.endswith(_COUNTER)
        else tensors[name].detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name in wanted
    }
    not_finite = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise CheckpointError(
            f"{file} has infinite or undefined values in {_listed(not_finite, spelled)}: its training diverged, "
            "take an earlier checkpoint"
        )
    named.load_state_dict(state, assign=True)
    return backbone.eval()


def _check(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], arch: str, file: str, spelled: Callable[[str], str]
) -> None:
    missing = [name for name in wanted if name not in tensors and not name.endswith(_COUNTER)]
    unknown = [name for name in tensors if name not in wanted]
    known = {name: tensor for name, tensor in tensors.items() if name in wanted and not name.endswith(_COUNTER)}
    other = [name for name, tensor in known.items() if tensor.shape != wanted[name].shape]
    kinds = [name for name, tensor in known.items() if not tensor.is_floating_point()]
    faults = []
    if missing:
        faults.append(f"lacks {_listed(missing, spelled)}")
    if other:
        more = f" (and {len(other) - 1} more tensors of other shapes)" if len(other) > 1 else ""
        shapes = f"{tuple(known[other[0]].shape)} instead of {tuple(wanted[other[0]].shape)}"
        faults.append(f"has {spelled(other[0])} of shape {shapes}{more}")
    if unknown:
        faults.append(f"has {_listed(unknown, spelled)}, which a {arch} has not")
    if kinds and not faults:
        faults.append(f"has no floating-point numbers in {_listed(kinds, spelled)}")
    if faults:
        remedy = _ANOTHER if other or unknown else "save it anew where it comes from, with all of its tensors"
        raise CheckpointError(f"{file} looks like a {arch}, but not a whole one: it {'; it '.join(faults)}; {remedy}")


def _listed(names: list[str], spelled: Callable[[str], str]) -> str:
    shown = ", ".join(spelled(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more ({len(names)} in all)" if len(names) > _SHOWN else shown


# A head of the image, applied to the pooled feature, is linear layers, norms and activations; as 1×1 convolutions the
# same tensors give every cell its own output (Wang et al. 2021, DenseCL; PLRC's released code).


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
        channels: of the backbone's last map. activation: what stands at a position without tensors.
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
        if kind != _COUNTER:
            layers.setdefault(layer, {})[kind] = tensor
    strange = [layer for layer in layers if not layer.isdecimal()]
    if not slots and strange not in ([], [""]):
        raise HeadNotUnderstood(f"{strange[0] or 'its weight'} has no place in an order of layers")
    order = slots or strange or [str(i) for i in range(max(map(int, layers), default=-1) + 1)]
    for layer in {*filter(None, slots), *layers}:
        if layer not in layers or layer not in order:
            raise HeadNotUnderstood(f"{layer} is {'missing' if layer in order else 'not known'}")
    modules: list[nn.Module] = []
    for layer in order:
        if layer in layers:
            modules.append(_layer(layer or "the layer", layers[layer], channels))
            channels = len(modules[-1].weight) if isinstance(modules[-1], nn.Conv2d) else channels
        elif modules and not isinstance(modules[-1], activation):
            modules.append(activation())
        else:
            raise HeadNotUnderstood("layers without tensors come first, or two in a row")
    if not any(isinstance(module, nn.Conv2d) for module in modules):
        raise HeadNotUnderstood("it has no linear layer")
    return nn.Sequential(*modules, *([Normalise()] if normalised else [])).eval()


def _layer(layer: str, tensors: Mapping[str, Tensor], width: int) -> nn.Conv2d | nn.BatchNorm2d:
    weight = tensors.get("weight")
    shape = tuple(weight.shape) if weight is not None else ()
    is_norm = bool(tensors.keys() & {"running_mean", "running_var"})
    with torch.device("meta"):  # no random numbers are drawn
        convolution = nn.Conv2d(width, shape[0] if shape else 1, 1, bias="bias" in tensors)
        module = nn.BatchNorm2d(width, affine=weight is not None) if is_norm else convolution
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items() if name != _COUNTER}
    if tensors.keys() != wanted.keys():
        kind = "BatchNorm" if is_norm else "linear layer"
        raise HeadNotUnderstood(f"{layer} has {', '.join(sorted(tensors))}, which is no {kind}")
    if not is_norm and (len(shape) not in (2, 4) or shape[2:] not in ((), (1, 1))):
        raise HeadNotUnderstood(f"{layer} has a weight of {shape}, which is no linear layer")
    state = {name: t[:, :, None, None] if t.ndim == 2 else t for name, t in tensors.items()}
    if any(tensor.shape != wanted[name] for name, tensor in state.items()):
        what = "is a BatchNorm that" if is_norm else f"has a weight of {shape}, which"
        raise HeadNotUnderstood(f"{layer} {what} does not fit {width} channels")
    wrong = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise HeadNotUnderstood(f"its {', '.join(wrong)} has infinite or undefined values")
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()}
    module.load_state_dict(copies | ({_COUNTER: torch.tensor(0)} if is_norm else {}), assign=True)
    return module
