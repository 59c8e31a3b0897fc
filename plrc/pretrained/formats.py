"""The table of checkpoint formats that are met in the field, and which network of which format a file holds.

A format fits if much of a backbone lies under one of its prefixes; whether *all* of it does is asked later
(``plrc.pretrained.build``), so that a damaged file is told what it lacks and not that it is unknown. Names stand in the
table without the ``module.`` of DistributedDataParallel and the ``_orig_mod.`` of ``torch.compile``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from torch import Tensor, nn

from plrc.pretrained.names import DETECTRON2, HUGGING_FACE, SEQUENTIAL, TORCHVISION, Naming
from plrc.pretrained.reading import CheckpointError


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
        place: the key of the file under which it lies, if only there.
    """

    name: str
    backbone: str
    heads: Mapping[str, Head] = field(default_factory=dict)
    place: str | None = None


@dataclass(frozen=True)
class Format:
    """A format of checkpoints.

    Attributes:
        branches: the default first, without which the format does not fit. sign: a pattern that some name must match.
        naming: of the backbone's tensors, where they are not called as torchvision or timm calls them.
    """

    name: str
    branches: tuple[Branch, ...]
    sign: str = ""
    naming: Naming | None = None


PLRC_RUN = "PLRC run"
# Before the names of a library, where a file holds one network.
_PREFIXES = ("", "backbone.", "backbone.body.", "encoder.", "model.", "net.", "features.")


def _pair(query: str, key: str, backbone: str, **heads: Head) -> tuple[Branch, Branch]:
    """Two encoders, each with its heads; ``{}`` stands for what differs."""
    one, two = (
        Branch(name, backbone.format(own), {n: replace(h, prefix=h.prefix.format(own)) for n, h in heads.items()})
        for name, own in (("query", query), ("key", key))
    )
    return one, two


def _dino(place: str) -> Branch:
    return Branch(place, "backbone.", {"projector": Head("head.mlp.", nn.GELU)}, place=place)


def _neck(prefix: str) -> dict[str, Head]:
    """OpenMMLab's."""
    return {"projector": Head(f"{prefix}mlp."), "dense_projector": Head(f"{prefix}mlp2.")}


_FC = Head("{}.fc.")
_PIXPRO = Head("projector{}.", slots=("linear1", "bn1", "", "linear2"))
_RELEASED = {"projector": Head("{}.enc.fcs."), "head256": Head("{}.enc.fcs_2.mlp.", normalised=True)}
FORMATS: list[Format] = [
    Format(PLRC_RUN, _pair("query", "key", "{}_encoder.backbone.", projector=Head("{}_encoder.projector."))),
    Format("PLRC detector", (Branch("", "backbone."),), sign=r"rpn\.head\."),
    Format("released PLRC", _pair("encoder_q", "encoder_k", "{}.enc.", **_RELEASED)),
    Format("MoCo v1", _pair("encoder_q", "encoder_k", "{}.", projector=_FC), sign=r"encoder_[qk]\.fc\.(weight|bias)"),
    Format("MoCo v2", _pair("encoder_q", "encoder_k", "{}.", projector=_FC)),
    Format("MoCo v3", _pair("base_encoder", "momentum_encoder", "{}.", projector=_FC)),
    Format("DenseCL", _pair("encoder_q", "encoder_k", "{}.0.", **_neck("{}.1.")), sign=r"encoder_[qk]\.1\.mlp2\."),
    Format("OpenSelfSup", _pair("encoder_q", "encoder_k", "{}.0.", **_neck("{}.1."))),
    Format("OpenSelfSup BYOL", _pair("online_net", "target_net", "{}.0.", **_neck("{}.1."))),
    Format(
        "MMSelfSup",
        (Branch("query", "backbone.", _neck("neck.")), Branch("key", "encoder_k.0.", _neck("encoder_k.1."))),
        sign=r"neck\.",
    ),
    Format(
        "PixPro",
        _pair("", "_k", "encoder{}.", projector=_PIXPRO),
        sign=r"projector(_k)?\.linear[12]\.|encoder_k\.",
    ),
    Format("DINO", (_dino("teacher"), _dino("student"))),
    Format("SwAV", (Branch("", "", {"projector": Head("projection_head.")}),), sign=r"projection_head\.|prototypes"),
    Format(
        "VICReg",  # and Barlow Twins; VICRegL has both heads
        (Branch("", "backbone.", {"projector": Head("projector."), "maps_projector": Head("maps_projector.")}),),
        sign=r"(maps_)?projector\.",
    ),
    Format("SimSiam", (Branch("", "encoder.", {"projector": Head("encoder.fc.")}),), sign=r"encoder\.fc\.[1-9]"),
    Format("Detectron2", (Branch("", ""),), naming=DETECTRON2),
    Format("Hugging Face's names", (Branch("", "resnet."),), naming=HUGGING_FACE),
    Format("Hugging Face's names", (Branch("", ""),), naming=HUGGING_FACE),
    *(Format("torchvision's names", (Branch("", prefix),)) for prefix in _PREFIXES),
    *(Format("nn.Sequential's numbers", (Branch("", prefix),), naming=SEQUENTIAL) for prefix in _PREFIXES),
]
"""Tried from the top. One of your own goes before the others: ``FORMATS.insert(0, Format(...))``."""


# -------------------------------------------------------------------------------------------------------- recognition

# Where the tensors of a format that names no place may lie, "" being the file's top.
_PLACES = ("", "state_dict", "model", "model_state_dict")
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_VIT = r"(?:patch_embed|blocks|norm|rope_embed)\.|(?:cls_token|pos_embed|reg_token|register_tokens|storage_tokens)$"
KNOWN = f"{TORCHVISION.place}|{_VIT}"
"""Whatever begins so belongs to a backbone that is known by its tensors, and must be known there."""
_PREFIXED = re.compile(
    r"((?:\w+\.)*?)(?:conv1|bn1|layer[1-4]\.\d+\.(?:conv\d|bn\d|downsample\.\d)|blocks\.\d+\.attn\.\w+)\.\w+"
)
_ENOUGH = 20  # tensors that make a backbone worth a closer look: the smallest, ours, has 72
Places = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Found:
    """One network of a file, as the table describes it.

    Attributes:
        backbone: its tensors by torchvision's or timm's names; what is in their place but has none keeps its own.
        heads: name → description and tensors, by their names under the head's prefix.
        unused: what else there is, but for the other branches of the file: how its names begin.
        others: the branches that could have been chosen instead.
        spelled: the name of a backbone's tensor → its name in the file, also for one that is missing.
    """

    format: str
    branch: str
    backbone: dict[str, Tensor]
    heads: dict[str, tuple[Head, dict[str, Tensor]]]
    unused: list[str]
    others: tuple[str, ...]
    spelled: Callable[[str], str]


def find(content: object, file: str, branch: str | None = None, place: str = KNOWN) -> Found:
    """The network in the content of a file.

    Args:
        file: its name, for errors. branch: which of several networks; the format's first if not given. place: a
            pattern of what stands where a backbone's tensors would have to.

    Raises:
        CheckpointError: no format fits, or several networks do and none is the main one; there is no such branch.
    """
    places = _places(content)
    for format in chain(FORMATS, _unlisted(places, file)):
        here = [(b, key) for b in format.branches if (key := _key(format, b, places, place)) is not None]
        if here and here[0][0] is format.branches[0]:
            names = [b.name for b, _ in here if b.name]
            for one, key in here:
                if branch in (None, one.name):
                    return _found(format, one, places[key], tuple(n for n in names if n != one.name), place)
            choice = f"choose {' or '.join(names)}" if names else "it holds one network only, name none"
            raise CheckpointError(f"{file} ({format.name}) has no branch {branch!r}: {choice}")
    raise CheckpointError(f"{file} holds no network that is known here: {_description(content, places)}")


def _places(content: object) -> Places:
    """Every dictionary of the content that holds named tensors: its keys, joined by dots, and the tensors."""
    places: Places = {}
    waiting, seen = [("", content)], set()
    while waiting:
        key, value = waiting.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        tensors = {name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, Tensor)}
        if tensors:
            places[key] = tensors
        waiting += [(f"{key}.{name}" if key else name, v) for name, v in value.items() if isinstance(name, str)]
    return places


def _unlisted(places: Places, file: str) -> Iterator[Format]:
    """A format for a network under a prefix that is not in the table, if the file has one such."""
    there = []
    for key, tensors in places.items():
        matches = (_PREFIXED.fullmatch(_WRAPPERS.sub("", name)) for name in tensors)
        counts = Counter(match[1] for match in matches if match is not None)
        there += [(key, prefix) for prefix, count in counts.items() if count >= _ENOUGH]
    if len(there) > 1:
        shown = ", ".join(sorted(f"{key}: {prefix}*" if key else f"{prefix}*" for key, prefix in there))
        raise CheckpointError(
            f"{file} holds several networks ({shown}): keep one of them and save it as a file of its own"
        )
    for key, prefix in there:
        yield Format(f"network under {prefix or key}", (Branch("", prefix, place=key),))


def _key(format: Format, branch: Branch, places: Places, place: str) -> str | None:
    """Under which key of the file the branch lies, if it is there."""
    known = format.naming.to_torchvision if format.naming else re.compile(place).match
    for key in _PLACES if branch.place is None else (branch.place,):
        names = [_WRAPPERS.sub("", name) for name in places.get(key, ())]
        own = [name.removeprefix(branch.backbone) for name in names if name.startswith(branch.backbone)]
        fits = sum(known(name) is not None for name in own) >= _ENOUGH
        if fits and (not format.sign or any(re.match(format.sign, name) for name in names)):
            return key
    return None


def _in_backbone(format: Format, branch: Branch, name: str, place: str) -> str | None:
    """The library's name of a tensor if it is (or stands where it would have to be) one of the backbone, else None."""
    rest = name.removeprefix(branch.backbone)
    if not name.startswith(branch.backbone):
        return None
    if format.naming is None:
        return rest if re.match(place, rest) else None
    stands_there = re.match(f"(?:{format.naming.prefix})(?:{format.naming.place})", rest)
    return format.naming.to_torchvision(rest) or (rest if stands_there else None)


def _found(format: Format, branch: Branch, tensors: dict[str, Tensor], others: tuple[str, ...], place: str) -> Found:
    backbone: dict[str, Tensor] = {}
    spelling: dict[str, str] = {}
    heads: dict[str, tuple[Head, dict[str, Tensor]]] = {}
    unused: dict[str, None] = {}
    beside = [b for b in format.branches if b is not branch and b.place is None]
    elsewhere = tuple(prefix for b in beside for prefix in (b.backbone, *(h.prefix for h in b.heads.values())))
    for full, tensor in tensors.items():
        name = _WRAPPERS.sub("", full)
        own = _in_backbone(format, branch, name, place)
        head = next((n for n, h in branch.heads.items() if name.startswith(h.prefix)), None)
        if own is not None:
            backbone[own], spelling[own] = tensor, full
        elif head is not None:
            description = branch.heads[head]
            heads.setdefault(head, (description, {}))[1][name[len(description.prefix) :]] = tensor
        elif not name.startswith(elsewhere):
            unused.setdefault(_group(name.removeprefix(branch.backbone), branch))

    def spelled(missing: str) -> str:
        """A tensor that is not in the file would be called as its neighbours are, of the same stage if there are."""
        spell = format.naming.from_torchvision if format.naming else str
        for name in sorted(spelling, key=lambda name: name.split(".")[0] != missing.split(".")[0]):
            own = spell(name)
            if own is not None and spelling[name].endswith(own):
                return spelling.get(missing) or spelling[name].removesuffix(own) + (spell(missing) or missing)
        return missing

    return Found(format.name, branch.name, backbone, heads, list(unused), others, spelled)


def _group(name: str, branch: Branch) -> str:
    """How a name begins, as far as needed to tell it from the heads (``fcs_2.last_layer`` beside ``fcs_2.mlp``)."""
    heads = [head.prefix.removeprefix(branch.backbone) for head in branch.heads.values()]
    start, *rest = name.split(".")
    while rest and any(head.startswith(f"{start}.") for head in heads):
        start += f".{rest.pop(0)}"
    return start


def _description(content: object, places: Places) -> str:
    """What a file looks like: its keys, and how the names of its tensors begin."""
    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}, not a dictionary of tensors"
    keys = [str(key) for key in content]
    shown = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
    if not places:
        return f"its keys are {shown or 'none'}, and there are no tensors under them"
    names = max(places.values(), key=len)
    starts = Counter(".".join(name.split(".")[:2]) for name in names).most_common(5)
    named = ", ".join(f"{start}* ({count})" for start, count in starts)
    known = ", ".join(dict.fromkeys(format.name for format in FORMATS))
    return (
        f"its keys are {shown}; its {len(names)} tensors are named {named}; known are {known}; of a model of timm say "
        "which it is: timm:NAME@FILE"
    )
