"""Names of a ResNet's tensors in Detectron2 and in torchvision, one to one.

=====================================  ==============================
Detectron2                             torchvision
=====================================  ==============================
``stem.conv1.weight``                  ``conv1.weight``
``stem.conv1.norm.*``                  ``bn1.*``
``res<s>.<b>.conv<k>.weight``          ``layer<s-1>.<b>.conv<k>.weight``
``res<s>.<b>.conv<k>.norm.*``          ``layer<s-1>.<b>.bn<k>.*``
``res<s>.<b>.shortcut.weight``         ``layer<s-1>.<b>.downsample.0.weight``
``res<s>.<b>.shortcut.norm.*``         ``layer<s-1>.<b>.downsample.1.*``
=====================================  ==============================

with s in 2…5, b from 0, k in 1…3. A detector puts ``backbone.`` before these, with a feature pyramid
``backbone.bottom_up.``, and a C4 head keeps the fifth stage as ``roi_heads.res5``. Only names are translated: what a
tensor holds is the same in both.
"""

from __future__ import annotations

import re

_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"
_BLOCK = r"(?P<block>0|[1-9]\d*)"

_DETECTRON2 = re.compile(
    r"(?:backbone\.(?:bottom_up\.)?|roi_heads\.(?=res5\.))?"
    rf"(?:stem\.conv1|res(?P<stage>[2-5])\.{_BLOCK}\.(?:conv(?P<conv>[1-3])|(?P<shortcut>shortcut)))"
    rf"\.(?:weight|norm\.(?P<of_norm>{_NORM}))"
)
_TORCHVISION = re.compile(
    rf"(?:layer(?P<stage>[1-4])\.{_BLOCK}\.)?"
    rf"(?:conv(?P<conv>[1-3])\.weight|bn(?P<norm>[1-3])\.(?P<of_norm>{_NORM})"
    rf"|(?P<shortcut>downsample)\.(?:0\.weight|1\.(?P<of_shortcut>{_NORM})))"
)


def to_torchvision(name: str) -> str | None:
    """Torchvision's name of a tensor of Detectron2's ResNet trunk; None for whatever is not of the trunk.

    Not of the trunk are, for instance, the feature pyramid, the region proposals, the box and mask heads, the norm
    that MoCo appends to the fifth stage (``roi_heads.res5.norm.*``), and the offsets of deformable convolutions.
    """
    found = _DETECTRON2.fullmatch(name)
    if found is None:
        return None
    stage, of_norm = found["stage"], found["of_norm"]
    if stage is None:
        return f"bn1.{of_norm}" if of_norm else "conv1.weight"
    block = f"layer{int(stage) - 1}.{found['block']}"
    if found["shortcut"]:
        return f"{block}.downsample.1.{of_norm}" if of_norm else f"{block}.downsample.0.weight"
    return f"{block}.bn{found['conv']}.{of_norm}" if of_norm else f"{block}.conv{found['conv']}.weight"


def to_detectron2(name: str) -> str | None:
    """Detectron2's name, without a prefix, of a tensor of torchvision's ResNet trunk; None for others (``fc.*``)."""
    found = _TORCHVISION.fullmatch(name)
    if found is None:
        return None
    stage, of_norm = found["stage"], found["of_norm"] or found["of_shortcut"]
    tensor = f"norm.{of_norm}" if of_norm else "weight"
    if stage is not None:
        part = "shortcut" if found["shortcut"] else f"conv{found['conv'] or found['norm']}"
        return f"res{int(stage) + 1}.{found['block']}.{part}.{tensor}"
    # Before the stages there is one convolution and its norm; conv2, bn3 or downsample there are of some other network.
    return f"stem.conv1.{tensor}" if "1" in (found["conv"], found["norm"]) else None
