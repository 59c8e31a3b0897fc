"""A trunk from its tensors: which architecture they are, and whether every one is there with the right shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from plrc.backbones import Backbone, build
from plrc.pretrained.reading import CheckpointError

# (has bottlenecks, blocks of layer1 … layer4) → architecture
_ARCHITECTURES = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (False, (1, 4, 0, 0)): "tiny",
}
_COUNTER = "num_batches_tracked"
_SHOWN = 4  # names in an error


def build_trunk(tensors: Mapping[str, Tensor], file: str, spelled: Callable[[str], str]) -> tuple[str, Backbone]:
    """The architecture and the trunk, fp32 and in evaluation mode, with every one of its tensors from ``tensors``.

    Args:
        tensors: by torchvision's names. BatchNorm's counters may be missing.
        file: for errors. spelled: a tensor's name in the file, for errors too.

    Raises:
        CheckpointError: another architecture; a tensor that is missing, unknown, of the wrong shape or kind, or not
            finite.
    """
    arch = _architecture(tensors, file)
    with torch.device("meta"):  # no memory, and no random numbers drawn
        trunk = build(arch)
    wanted = trunk.state_dict()
    _check(tensors, wanted, arch, file, spelled)
    state = {
        name: torch.zeros((), dtype=torch.long)
        if name.endswith(_COUNTER)
        else tensors[name].to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name in wanted
    }
    not_finite = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if not_finite:
        raise CheckpointError(
            f"{file} has infinite or undefined values in {_listed(not_finite, spelled)}: its training diverged, "
            "take an earlier checkpoint"
        )
    trunk.load_state_dict(state, assign=True)
    return arch, trunk.eval()


def _architecture(tensors: Mapping[str, Tensor], file: str) -> str:
    signature = _signature(tensors)
    if signature not in _ARCHITECTURES:
        raise CheckpointError(f"{file} looks like {_variant(tensors)}, and only {_loadable()} can be loaded")
    return _ARCHITECTURES[signature]


def _signature(tensors: Mapping[str, Tensor]) -> tuple[bool, tuple[int, ...]]:
    """Has bottlenecks; blocks of each layer. A block counts from three tensors on: one misnamed tensor makes none."""
    members: dict[tuple[int, int], int] = {}
    thirds = 0
    for name in tensors:
        match = re.match(r"layer([1-4])\.(\d+)\.(conv3\.)?", name)
        if match is not None:
            block = int(match[1]), int(match[2])
            members[block] = members.get(block, 0) + 1
            thirds += match[3] is not None
    blocks = tuple(sum(layer == i and count > 2 for (layer, _), count in members.items()) for i in range(1, 5))
    return thirds > 1, blocks


def _check(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], arch: str, file: str, spelled: Callable[[str], str]
) -> None:
    missing = [name for name in wanted if name not in tensors and not name.endswith(_COUNTER)]
    unknown = [name for name in tensors if name not in wanted]
    other = [
        name
        for name, tensor in tensors.items()
        if name in wanted and not name.endswith(_COUNTER) and tensor.shape != wanted[name].shape
    ]
    if len(other) > len(wanted) // 10 or len(unknown) > len(wanted) // 10:
        raise CheckpointError(
            f"{file} looks like {_variant(tensors)}, and only {_loadable()} can be loaded: as a {arch} it has "
            f"{len(other)} tensors of other shapes, lacks {len(missing)} and has {len(unknown)} that are not known"
        )
    faults = []
    if missing:
        faults.append(f"lacks {_listed(missing, spelled)}")
    if other:
        name = other[0]
        more = f" (and {len(other) - 1} more tensors of other shapes)" if len(other) > 1 else ""
        shapes = f"{tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        faults.append(f"has {spelled(name)} of shape {shapes}{more}")
    if unknown:
        faults.append(f"has {_listed(unknown, spelled)}, which a {arch} has not")
    kinds = [name for name, t in tensors.items() if not name.endswith(_COUNTER) and not t.is_floating_point()]
    if kinds and not faults:
        faults.append(f"has no floating-point numbers in {_listed(kinds, spelled)}")
    if faults:
        raise CheckpointError(
            f"{file} has the trunk of a {arch}, but not whole: it {'; it '.join(faults)}; "
            "save it anew where it comes from, with all of its tensors"
        )


def _listed(names: list[str], spelled: Callable[[str], str]) -> str:
    shown = ", ".join(spelled(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more ({len(names)} in all)" if len(names) > _SHOWN else shown


def _loadable() -> str:
    return ", ".join(_ARCHITECTURES.values())


def _variant(tensors: Mapping[str, Tensor]) -> str:
    """The family of a network that cannot be loaded, as far as its tensors show it."""
    has_bottlenecks, blocks = _signature(tensors)
    depth = sum(blocks) * (3 if has_bottlenecks else 2) + 2
    traits = []
    if any(name.startswith("conv1.") and name != "conv1.weight" for name in tensors):
        traits.append("a deep stem (ResNet-C or -D)")
    if any(".se." in name or ".attn" in name for name in tensors):
        traits.append("attention in its blocks (SE-ResNet, ECA, ...)")
    stem, inner = tensors.get("conv1.weight"), tensors.get("layer1.0.conv2.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[0] not in (32, 64):
        traits.append(f"channels × {stem.shape[0] / 64:g} (resnet{depth}w{stem.shape[0] / 64:g})")
    elif inner is not None and inner.ndim == 4 and has_bottlenecks:
        width, a_group = inner.shape[0], inner.shape[1]
        if a_group != width:
            traits.append(f"{width // a_group} groups (ResNeXt-{depth} {width // a_group}×{a_group}d)")
        elif width != 64:
            traits.append(f"wide bottlenecks (wide_resnet{depth}_{width / 64:g})")
    blocks_shown = "-".join(map(str, blocks))
    kind = f"a resnet{depth} ({blocks_shown} {'bottlenecks' if has_bottlenecks else 'basic blocks'})"
    return f"{kind} with {' and '.join(traits)}" if traits else kind
