"""The table of layouts: where the trunk and the heads lie in checkpoints that are met in the field.

``LAYOUTS`` is tried from the top (``plrc.pretrained.finding``). Names stand in it without the ``module.`` of
DistributedDataParallel and the ``_orig_mod.`` of ``torch.compile``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True)
class Head:
    """Where a head lies and what its tensors do not tell; see ``build_head``."""

    prefix: str
    activation: type[nn.Module] = nn.ReLU
    slots: tuple[str, ...] = ()
    normalised: bool = False


@dataclass(frozen=True)
class Branch:
    """One network of a file.

    Attributes:
        name: "query", "key", "teacher", "student", or "" where a file has one. backbone: the prefix of its tensors.
        place: the key of the file under which it lies, if only there. copy: a prefix under which the file repeats it.
    """

    name: str
    backbone: str
    heads: Mapping[str, Head] = field(default_factory=dict)
    place: str | None = None
    copy: str | None = None


@dataclass(frozen=True)
class Layout:
    """A format: its branches, the default first, without which it does not fit; a pattern that some name must match."""

    name: str
    branches: tuple[Branch, ...]
    sign: str = ""
    translated: bool = False  # from Detectron2's names


PLRC_RUN = "PLRC run"
_PIXPRO = ("linear1", "bn1", "", "linear2")


def _released(encoder: str) -> dict[str, Head]:
    return {"projector": Head(f"{encoder}fcs."), "head256": Head(f"{encoder}fcs_2.mlp.", normalised=True)}


def _neck(prefix: str) -> dict[str, Head]:
    return {"projector": Head(f"{prefix}mlp."), "dense_projector": Head(f"{prefix}mlp2.")}


def _dino(place: str) -> Branch:
    return Branch(place, "backbone.", {"projector": Head("head.mlp.", nn.GELU)}, place=place)


def _momentum_pair(query: str, key: str, head: str = "") -> tuple[Branch, Branch]:
    """Two encoders, each with its projector inside, under ``head``."""
    return (
        Branch("query", query, {"projector": Head(f"{query}{head}")}),
        Branch("key", key, {"projector": Head(f"{key}{head}")}),
    )


LAYOUTS = (
    Layout(
        PLRC_RUN,
        (
            Branch("query", "query_encoder.backbone.", {"projector": Head("query_encoder.projector.")}),
            Branch("key", "key_encoder.backbone.", {"projector": Head("key_encoder.projector.")}),
        ),
    ),
    Layout("PLRC detector", (Branch("", "backbone."),), sign=r"rpn\.head\."),
    Layout(
        "released PLRC",
        (
            Branch("query", "encoder_q.enc.", _released("encoder_q.enc.")),
            Branch("key", "encoder_k.enc.", _released("encoder_k.enc.")),
        ),
    ),
    Layout("MoCo v1", _momentum_pair("encoder_q.", "encoder_k.", "fc."), sign=r"encoder_[qk]\.fc\.(weight|bias)"),
    Layout("MoCo v2", _momentum_pair("encoder_q.", "encoder_k.", "fc.")),
    Layout("MoCo v3", _momentum_pair("base_encoder.", "momentum_encoder.", "fc.")),
    Layout(
        "DenseCL",
        (
            Branch("query", "encoder_q.0.", _neck("encoder_q.1."), copy="backbone."),
            Branch("key", "encoder_k.0.", _neck("encoder_k.1.")),
        ),
        sign=r"encoder_[qk]\.1\.mlp2\.",
    ),
    Layout(
        "OpenSelfSup",
        (
            Branch("query", "encoder_q.0.", _neck("encoder_q.1."), copy="backbone."),
            Branch("key", "encoder_k.0.", _neck("encoder_k.1.")),
        ),
    ),
    Layout(
        "OpenSelfSup BYOL",
        (
            Branch("query", "online_net.0.", _neck("online_net.1."), copy="backbone."),
            Branch("key", "target_net.0.", _neck("target_net.1.")),
        ),
    ),
    Layout(
        "MMSelfSup",
        (
            Branch("query", "backbone.", _neck("neck.")),
            Branch("key", "encoder_k.0.", _neck("encoder_k.1.")),
        ),
        sign=r"neck\.",
    ),
    Layout(
        "PixPro",
        (
            Branch("query", "encoder.", {"projector": Head("projector.", slots=_PIXPRO)}),
            Branch("key", "encoder_k.", {"projector": Head("projector_k.", slots=_PIXPRO)}),
        ),
        sign=r"projector(_k)?\.linear[12]\.|encoder_k\.",
    ),
    Layout("DINO", (_dino("teacher"), _dino("student"))),
    Layout("SwAV", (Branch("", "", {"projector": Head("projection_head.")}),), sign=r"projection_head\.|prototypes"),
    Layout(
        "VICReg",  # and Barlow Twins; VICRegL has both heads
        (Branch("", "backbone.", {"projector": Head("projector."), "maps_projector": Head("maps_projector.")}),),
        sign=r"(maps_)?projector\.",
    ),
    Layout("SimSiam", (Branch("", "encoder.", {"projector": Head("encoder.fc.")}),), sign=r"encoder\.fc\.[1-9]"),
    Layout("Detectron2", (Branch("", ""),), translated=True),
    *(
        Layout("torchvision's names", (Branch("", prefix),))
        for prefix in ("", "backbone.", "backbone.body.", "encoder.")
    ),
)
