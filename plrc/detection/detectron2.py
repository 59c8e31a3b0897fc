"""Names of a detector's tensors in Detectron2 and here, one to one.

=============================================  =====================================================
here                                           Detectron2
=============================================  =====================================================
``backbone.*`` (``plrc.pretrained.names``)     ``backbone.*``, with a pyramid ``backbone.bottom_up.*``
``backbone.layer4.*`` of C4                    ``roi_heads.res5.*``
``box_norm.*`` (MoCo's, C4)                    ``roi_heads.res5.norm.*``
``neck.inner_blocks.<i>.0.*``, ``.1.*``        ``backbone.fpn_lateral<i+2>.*``, ``.norm.*``
``neck.layer_blocks.<i>.0.*``, ``.1.*``        ``backbone.fpn_output<i+2>.*``, ``.norm.*``
``rpn.head.conv.0.0.*``                        ``proposal_generator.rpn_head.conv.*``
``rpn.head.cls_logits.*``                      ``proposal_generator.rpn_head.objectness_logits.*``
``rpn.head.bbox_pred.*``                       ``proposal_generator.rpn_head.anchor_deltas.*``
``box_head.fc6.*``, ``fc7.*``                  ``roi_heads.box_head.fc1.*``, ``fc2.*``
``box_head.<k-1>.0.*``, ``.1.*``, ``5.*``      ``roi_heads.box_head.conv<k>.*``, ``.norm.*``, ``fc1.*``
``box_predictor.*``                            ``roi_heads.box_predictor.*``
``mask_head.<k-1>.0.*``, ``.1.*``              ``roi_heads.mask_head.mask_fcn<k>.*``, ``.norm.*``
``mask_predictor.conv5_mask.*``                ``roi_heads.mask_head.deconv.*``
``mask_predictor.mask_fcn_logits.*``           ``roi_heads.mask_head.predictor.*``
=============================================  =====================================================

with k in 1…4 and i in 0…3. Only names are translated: what a tensor holds is the same in both, because the detector
here orders anchors and classes as Detectron2 does.
"""

from __future__ import annotations

from functools import lru_cache

from plrc.detection.design import Design
from plrc.pretrained.names import DETECTRON2

_TRUNK = "backbone."
_PARAMETERS = ("weight", "bias")
_OF_NORM = (*_PARAMETERS, "running_mean", "running_var", "num_batches_tracked")


def to_detectron2(name: str, design: Design) -> str | None:
    """Detectron2's name of a tensor of ``Detector(design)``; None for whatever is not of it.

    Everything of a detector on the tiny network is None: Detectron2 has no such trunk.
    """
    if design.arch == "tiny":
        return None
    if not name.startswith(_TRUNK):
        return _names(design).get(name)
    theirs = DETECTRON2.from_torchvision(name.removeprefix(_TRUNK))
    if theirs is None:
        return None
    if design.neck == "fpn":
        return f"backbone.bottom_up.{theirs}"
    return f"roi_heads.{theirs}" if theirs.startswith("res5.") else f"backbone.{theirs}"


def from_detectron2(name: str, design: Design) -> str | None:
    """The name in ``Detector(design)`` of a tensor of Detectron2's model; None for whatever is not of it."""
    in_trunk = DETECTRON2.to_torchvision(name)
    if in_trunk is None:
        return None if design.arch == "tiny" else _back(design).get(name)
    ours = f"{_TRUNK}{in_trunk}"
    return ours if to_detectron2(ours, design) == name else None  # that of the other neck lies elsewhere


@lru_cache(maxsize=16)
def _names(design: Design) -> dict[str, str]:
    """Ours → Detectron2's, of all tensors that may be outside the trunk."""
    plain = {
        "rpn.head.conv.0.0": "proposal_generator.rpn_head.conv",
        "rpn.head.cls_logits": "proposal_generator.rpn_head.objectness_logits",
        "rpn.head.bbox_pred": "proposal_generator.rpn_head.anchor_deltas",
        "box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
        "box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
    }
    norms: dict[str, str] = {}
    if design.neck == "c4":
        norms["box_norm"] = "roi_heads.res5.norm"
    else:
        for i in range(4):
            for ours, theirs in (("inner_blocks", "lateral"), ("layer_blocks", "output")):
                plain[f"neck.{ours}.{i}.0"] = f"backbone.fpn_{theirs}{i + 2}"
                norms[f"neck.{ours}.{i}.1"] = f"backbone.fpn_{theirs}{i + 2}.norm"
        convolutions = {"box_head": "box_head.conv"} if design.head_norm else {}
        if design.head_norm:
            plain["box_head.5"] = "roi_heads.box_head.fc1"  # 4 flattens
        else:
            plain |= {"box_head.fc6": "roi_heads.box_head.fc1", "box_head.fc7": "roi_heads.box_head.fc2"}
        if design.masks:
            convolutions["mask_head"] = "mask_head.mask_fcn"
        for ours, theirs in convolutions.items():
            for k in range(4):
                plain[f"{ours}.{k}.0"] = f"roi_heads.{theirs}{k + 1}"
                if design.head_norm:
                    norms[f"{ours}.{k}.1"] = f"roi_heads.{theirs}{k + 1}.norm"
    if design.masks:
        plain["mask_predictor.conv5_mask"] = "roi_heads.mask_head.deconv"
        plain["mask_predictor.mask_fcn_logits"] = "roi_heads.mask_head.predictor"
    return {
        f"{ours}.{tensor}": f"{theirs}.{tensor}"
        for modules, tensors in ((plain, _PARAMETERS), (norms, _OF_NORM))
        for ours, theirs in modules.items()
        for tensor in tensors
    }


@lru_cache(maxsize=16)
def _back(design: Design) -> dict[str, str]:
    return {theirs: ours for ours, theirs in _names(design).items()}
