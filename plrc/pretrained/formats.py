"""The table of checkpoint formats that are met in the field, and which network of which format a file holds.

A format fits if much of a backbone lies under one of its prefixes; whether *all* of it does is asked later, so that a
damaged file is told what it lacks. Names stand in the table without ``module.`` and ``_orig_mod.``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, product

from torch import Tensor, nn

from plrc.pretrained.reading import CheckpointError
from plrc.registry import BACKBONES


@dataclass(frozen=True)
class Naming:
    """How a library calls the tensors of a ResNet. What a tensor holds is the same in all.

    Attributes:
        stem, block, shortcut: a convolution and its norm; ``{s}`` is the stage, ``{b}`` the block, from 0, and ``{k}``
            the convolution.
        place: a pattern of what stands where a tensor of the backbone would have to, known or not.
        stage, conv: the numbers of the first stage and of a block's first convolution. prefix: a pattern of what may
            stand before the names.
    """

    stem: str
    block: str
    shortcut: str
    place: str
    stage: int = 1
    conv: int = 1
    prefix: str = ""

    def to_torchvision(self, name: str) -> str | None:
        """Torchvision's name of a tensor of the backbone; None for whatever is not of it, a classifier for instance."""
        return _dictionary(self, TORCHVISION).get(re.sub(f"^(?:{self.prefix})", "", name))

    def from_torchvision(self, name: str) -> str | None:
        """The name here, without a prefix, of a tensor that torchvision calls so; None for others (``fc.*``)."""
        return _dictionary(TORCHVISION, self).get(name)

    def names(self) -> list[str]:
        """All that there may be, in the same order in every library."""
        blocks = product(range(4), range(64), enumerate([self.block] * 3 + [self.shortcut]))
        inner = [layers.format(s=self.stage + s, b=b, k=self.conv + k) for s, b, (k, layers) in blocks]
        of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        pairs = (layers.split() for layers in [self.stem, *inner])
        return [name for conv, norm in pairs for name in (f"{conv}.weight", *(f"{norm}.{t}" for t in of_norm))]


@cache
def _dictionary(one: Naming, other: Naming) -> dict[str, str]:
    return dict(zip(one.names(), other.names(), strict=True))


TORCHVISION = Naming(
    "conv1 bn1",
    "layer{s}.{b}.conv{k} layer{s}.{b}.bn{k}",
    "layer{s}.{b}.downsample.0 layer{s}.{b}.downsample.1",
    place=r"(?:conv1|bn1|layer\d+)\.",
)
DETECTRON2 = Naming(
    "stem.conv1 stem.conv1.norm",
    "res{s}.{b}.conv{k} res{s}.{b}.conv{k}.norm",
    "res{s}.{b}.shortcut res{s}.{b}.shortcut.norm",
    place=r"(?:stem|res[2-5])\.(?!norm\.)",
    stage=2,
    prefix=r"backbone\.(?:bottom_up\.)?|roi_heads\.(?=res5\.)|",  # a pyramid's; a C4 head keeps the fifth stage
)
_BLOCK = "encoder.stages.{s}.layers.{b}."
HUGGING_FACE = Naming(
    "embedder.embedder.convolution embedder.embedder.normalization",
    f"{_BLOCK}layer.{{k}}.convolution {_BLOCK}layer.{{k}}.normalization",
    f"{_BLOCK}shortcut.convolution {_BLOCK}shortcut.normalization",
    place=r"embedder\.|encoder\.stages\.",
    stage=0,
    conv=0,
)
SEQUENTIAL = Naming(  # nn.Sequential(*resnet.children())
    "0 1",
    "{s}.{b}.conv{k} {s}.{b}.bn{k}",
    "{s}.{b}.downsample.0 {s}.{b}.downsample.1",
    place=r"[014567]\.",
    stage=4,
)


@dataclass(frozen=True)
class Head:
    """Where a head lies and what its tensors do not tell: what stands at a place without tensors; a layer's name → its
    place, where names are no numbers; whether the output is L2-normalised at every position; whether training compared
    places by it, and not whole images."""

    prefix: str
    activation: type[nn.Module] = nn.ReLU
    order: Mapping[str, str] = field(default_factory=dict)
    normalised: bool = False
    dense: bool = False


@dataclass(frozen=True)
class Branch:
    """One network of a file: "query", "key", "teacher", "student", or "" where a file has one, and the prefix of its
    backbone's tensors."""

    name: str
    backbone: str
    heads: Mapping[str, Head] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A format of checkpoints: its branches, the default first, without which it does not fit; a pattern that some name
    must match; how the backbone's tensors are called, if not as torchvision or timm calls them."""

    name: str
    branches: tuple[Branch, ...]
    sign: str = ""
    naming: Naming | None = None


def _pair(one: str, two: str, backbone: str, **heads: Head) -> tuple[Branch, Branch]:
    """Two encoders, each with its heads; ``{}`` stands for what differs."""
    names = (one, two) if one == "teacher" else ("query", "key")
    own = [{n: replace(h, prefix=h.prefix.format(start)) for n, h in heads.items()} for start in (one, two)]
    return Branch(names[0], backbone.format(one), own[0]), Branch(names[1], backbone.format(two), own[1])


PLRC_RUN, PLRC_EXPORT = "PLRC run", "PLRC export"
ANOTHER = "if it is another network that timm has, say which: timm:NAME@FILE"
# Before the names of a library, where a file holds one network.
_PREFIXES = ("", "backbone.", "backbone.body.", "encoder.", "model.", "net.", "features.")
_RUN = Head("{}_encoder.projector.", dense=True)
_FC = Head("{}.fc.")
_DINO = Head("{}.head.mlp.", nn.GELU)
_PIXPRO = Head("projector{}.", order={"linear1": "0", "bn1": "1", "linear2": "3"}, dense=True)
_RELEASED = {"projector": Head("{}.enc.fcs."), "head256": Head("{}.enc.fcs_2.mlp.", normalised=True)}
_VICREG = {"projector": Head("projector."), "maps_projector": Head("maps_projector.", dense=True)}  # VICRegL has both
_NECK = {"projector": Head("{}.1.mlp."), "dense_projector": Head("{}.1.mlp2.", dense=True)}  # OpenMMLab's
_OWN_NECK = {"projector": Head("neck.mlp."), "dense_projector": Head("neck.mlp2.", dense=True)}
_MMSELFSUP = Branch("query", "backbone.", _OWN_NECK), _pair("", "encoder_k", "{}.0.", **_NECK)[1]
FORMATS: list[Format] = [
    Format(PLRC_RUN, _pair("query", "key", "{}_encoder.backbone.", projector=_RUN)),
    Format(PLRC_EXPORT, (Branch("", "", {"projector": Head("projector.", dense=True)}),), sign=r"projector\.0\."),
    Format("PLRC detector", (Branch("", "backbone."),), sign=r"rpn\.head\."),
    Format("released PLRC", _pair("encoder_q", "encoder_k", "{}.enc.", **_RELEASED)),
    Format("MoCo v1", _pair("encoder_q", "encoder_k", "{}.", projector=_FC), sign=r"encoder_[qk]\.fc\.(weight|bias)"),
    Format("MoCo v2", _pair("encoder_q", "encoder_k", "{}.", projector=_FC)),
    Format("MoCo v3", _pair("base_encoder", "momentum_encoder", "{}.", projector=_FC)),
    Format("DenseCL", _pair("encoder_q", "encoder_k", "{}.0.", **_NECK), sign=r"encoder_[qk]\.1\.mlp2\."),
    Format("OpenSelfSup", _pair("encoder_q", "encoder_k", "{}.0.", **_NECK)),
    Format("OpenSelfSup BYOL", _pair("online_net", "target_net", "{}.0.", **_NECK)),
    Format("MMSelfSup", _MMSELFSUP, sign=r"neck\."),
    Format("PixPro", _pair("", "_k", "encoder{}.", projector=_PIXPRO), sign=r"projector(_k)?\.linear\d\.|encoder_k\."),
    Format("DINO", _pair("teacher", "student", "{}.backbone.", projector=_DINO)),
    Format("SwAV", (Branch("", "", {"projector": Head("projection_head.")}),), sign=r"projection_head\.|prototypes"),
    Format("VICReg", (Branch("", "backbone.", _VICREG),), sign=r"(maps_)?projector\."),  # and Barlow Twins
    Format("SimSiam", (Branch("", "encoder.", {"projector": Head("encoder.fc.")}),), sign=r"encoder\.fc\.[1-9]"),
    Format("Detectron2", (Branch("", ""),), naming=DETECTRON2),
    *(Format("Hugging Face's names", (Branch("", prefix),), naming=HUGGING_FACE) for prefix in ("resnet.", "")),
    *(Format("torchvision's names", (Branch("", prefix),)) for prefix in _PREFIXES),
    *(Format("nn.Sequential's numbers", (Branch("", prefix),), naming=SEQUENTIAL) for prefix in _PREFIXES),
]
"""Tried from the top. One of your own goes before the others: ``FORMATS.insert(0, Format(...))``."""


_SILENT = ("state_dict", "model", "model_state_dict")  # keys at a file's top that say nothing
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_VIT = r"(?:patch_embed|blocks|norm|rope_embed)\.|(?:cls_token|pos_embed|reg_token|register_tokens|storage_tokens)$"
_KNOWN = f"{TORCHVISION.place}|{_VIT}"  # whatever begins so belongs to a backbone, and must be known there
_PREFIXED = re.compile(
    r"((?:\w+\.)*?)(?:conv1|bn1|layer[1-4]\.\d+\.(?:conv\d|bn\d|downsample\.\d)|blocks\.\d+\.attn\.\w+)\.\w+"
)
_ENOUGH = 20  # tensors that make an unknown network worth a closer look: the smallest that is known has 72
_VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1536: "giant"}


@dataclass
class Found:
    """One network of a file: its backbone's tensors by torchvision's or timm's names (what is in their place but has
    none keeps its own); the other branches that could have been chosen; name → head and its tensors; how the names
    begin of what is of no branch."""

    format: str
    branch: str
    backbone: dict[str, Tensor]
    others: tuple[str, ...]
    heads: dict[str, tuple[Head, dict[str, Tensor]]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def find(content: object, file: str, branch: str | None = None, names: Collection[str] = ()) -> Found:
    """The network in the content of a file, of several the format's first if no branch is given. Raises a
    CheckpointError if no format fits, or there is no such branch. ``names``: of the backbone's tensors, where known."""
    starts = "|".join(sorted({re.escape(name.split(".")[0]) for name in names}))
    place = rf"(?:net\.)?(?:{starts})(?:\.|$)|{_KNOWN}" if names else _KNOWN
    enough = min(_ENOUGH, len(names)) if names else _ENOUGH
    tensors = _named_tensors(content)
    for format in chain(FORMATS, _unlisted(tensors, file)):
        here = {b.name: (b, own) for b in format.branches if (own := _backbone(format, b, tensors, place, enough))}
        if format.branches[0].name not in here:
            continue
        if (chosen := format.branches[0].name if branch is None else branch) not in here:
            choice = f"choose {' or '.join(here)}" if any(here) else "it holds one network only, name none"
            raise CheckpointError(f"{file} ({format.name}) has no branch {branch!r}: {choice}")
        one, own = here[chosen]
        others = tuple(name for name in here if name != chosen)
        found = Found(format.name, chosen, {own[name]: tensors[name] for name in own}, others)
        _add_beside(found, format, one, {name: tensor for name, tensor in tensors.items() if name not in own})
        return found
    raise CheckpointError(f"{file} holds no network that is known here: {_description(content, tensors)}")


def _named_tensors(content: object) -> dict[str, Tensor]:
    """Every named tensor of the content, by its keys and its name, joined by dots."""
    found: dict[str, Tensor] = {}
    waiting, seen = [("", content)], set()
    while waiting:
        at, value = waiting.pop(0)
        if isinstance(value, Mapping) and id(value) not in seen:
            seen.add(id(value))
            for name, entry in value.items():
                if isinstance(name, str) and isinstance(entry, Tensor):
                    found.setdefault(at + _WRAPPERS.sub("", name), entry)
                elif isinstance(name, str):
                    waiting.append((at if not at and name in _SILENT else f"{at}{name}.", entry))
    return found


def _unlisted(tensors: Mapping[str, Tensor], file: str) -> Iterator[Format]:
    """A format for a network under a prefix that is not in the table, if the file has one such."""
    counts = Counter(match[1] for name in tensors if (match := _PREFIXED.fullmatch(name)))
    there = sorted(prefix for prefix, count in counts.items() if count >= _ENOUGH)
    if len(there) > 1:
        raise CheckpointError(f"{file} holds several networks ({'*, '.join(there)}*): save one as a file of its own")
    for prefix in there:
        yield Format(f"network under {prefix}", (Branch("", prefix),))


def _backbone(format: Format, branch: Branch, tensors: Mapping[str, Tensor], place: str, enough: int) -> dict[str, str]:
    """A tensor's name in the file → the library's, of all in the place of the backbone's; none if too few are known."""
    naming, found, known = format.naming, dict[str, str](), 0
    for name in tensors if not format.sign or any(re.match(format.sign, name) for name in tensors) else ():
        rest = name.removeprefix(branch.backbone)
        if name.startswith(branch.backbone):
            own = naming.to_torchvision(rest) if naming else rest if re.match(place, rest) else None
            known += own is not None
            if own or (naming and re.match(f"(?:{naming.prefix})(?:{naming.place})", rest)):
                found[name] = own or rest
    return found if known >= enough else {}


def _add_beside(found: Found, format: Format, branch: Branch, tensors: Mapping[str, Tensor]) -> None:
    """The branch's heads, and how the names begin of what is of no branch."""
    others = [b for b in format.branches if b is not branch]
    prefixes = [prefix for b in others for prefix in (b.backbone, *(head.prefix for head in b.heads.values()))]
    theirs = tuple(f"{prefix.split('.')[0]}." for prefix in prefixes)
    inner = [branch.backbone, *(head.prefix.removeprefix(branch.backbone) for head in branch.heads.values())]
    for name, tensor in tensors.items():
        head = next((own for own, head in branch.heads.items() if name.startswith(head.prefix)), None)
        if head is not None:
            prefix = branch.heads[head].prefix
            found.heads.setdefault(head, (branch.heads[head], {}))[1][name.removeprefix(prefix)] = tensor
        elif not name.startswith(theirs):
            start, *rest = name.removeprefix(branch.backbone).split(".")
            while rest and any(prefix.startswith(f"{start}.") for prefix in inner):
                start += f".{rest.pop(0)}"  # fcs_2.last_layer beside fcs_2.mlp, model.head beside model.backbone
            if start not in found.unused:
                found.unused.append(start)


def _description(content: object, tensors: Mapping[str, Tensor]) -> str:
    """What a file looks like: its keys, or how the names of its tensors begin."""
    if not isinstance(content, Mapping) or not tensors:
        named = ", ".join(map(str, content))[:200] if isinstance(content, Mapping) else ""
        keys = f" with the keys {named}" if named else ""
        return f"it is a {type(content).__name__}{keys}, and has no named tensors"
    starts = Counter(".".join(name.split(".")[:2]) for name in tensors).most_common(5)
    named, known = ", ".join(f"{s}* ({n})" for s, n in starts), ", ".join(dict.fromkeys(f.name for f in FORMATS))
    return f"its {len(tensors)} tensors are named {named}, and known are {known}; {ANOTHER}"


def arch_of(tensors: Mapping[str, Tensor], file: str) -> str:
    """The name of the backbone that has such tensors, by torchvision's or timm's names. Raises a CheckpointError that
    says what it looks like if it is none that is known."""
    if (patches := tensors.get("patch_embed.proj.weight")) is not None:  # a ViT: told apart by what each has added
        kind = "224"  # of DINO, MAE, MoCo v3, …
        if any(name.startswith(("rope_embed", "storage_tokens")) or name.endswith(".gamma_1") for name in tensors):
            kind = "dinov3"
        elif any(name.endswith(".ls1.gamma") for name in tensors):
            kind = "reg4_dinov2" if {"register_tokens", "reg_token"} & tensors.keys() else "dinov2"
        return f"timm:vit_{_VIT_SIZES.get(len(patches), len(patches))}_patch{patches.shape[-1]}_{kind}"
    form = _form(tensors)
    known = {entry.traits["form"]: name for name, entry in BACKBONES.items() if "form" in entry.traits}
    if form not in known:
        raise CheckpointError(
            f"{file} looks like a residual network of {form}, and those that are known by their tensors are "
            f"{', '.join(known.values())}; {ANOTHER}"
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
