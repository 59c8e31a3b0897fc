"""Names of a ResNet's tensors in other libraries and in torchvision, one to one. What a tensor holds is the same.

``{s}`` is the stage, 1 to 4, ``{b}`` the block, from 0, ``{k}`` the convolution, 1 to 3, and ``{t}`` a tensor of a
norm. A Detectron2 detector puts ``backbone.`` before its names, with a feature pyramid ``backbone.bottom_up.``, and a
C4 head keeps the fifth stage as ``roi_heads.res5``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_PARTS = {"s": r"(?P<s>\d)", "b": r"(?P<b>0|[1-9]\d*)", "k": r"(?P<k>\d)"}
_PARTS["t"] = r"(?P<t>weight|bias|running_mean|running_var|num_batches_tracked)"


@dataclass(frozen=True)
class Naming:
    """How a library calls the tensors of a ResNet.

    Attributes:
        templates: of the stem's convolution and norm, then of a block's and of a shortcut's.
        place: a pattern of what stands where a tensor of the backbone would have to, known or not.
        stage, conv: the numbers of the first stage and of a block's first convolution. prefix: a pattern of what may
            stand before the names.
    """

    templates: tuple[str, ...]
    place: str
    stage: int = 1
    conv: int = 1
    prefix: str = ""

    def to_torchvision(self, name: str) -> str | None:
        """Torchvision's name of a tensor of the backbone; None for whatever is not of it, a classifier for instance."""
        return _renamed(name, self, TORCHVISION)

    def from_torchvision(self, name: str) -> str | None:
        """The name here, without a prefix, of a tensor that torchvision calls so; None for others (``fc.*``)."""
        return _renamed(name, TORCHVISION, self)


@cache
def _pattern(prefix: str, template: str) -> re.Pattern[str]:
    escaped = re.sub(r"\\{(\w)\\}", lambda part: _PARTS[part[1]], re.escape(template))
    return re.compile(f"(?:{prefix}){escaped}")


def _renamed(name: str, one: Naming, other: Naming) -> str | None:
    for given, template in zip(one.templates, other.templates, strict=True):
        if found := _pattern(one.prefix, given).fullmatch(name):
            parts = found.groupdict()
            stage, conv = int(parts.get("s", one.stage)) - one.stage, int(parts.get("k", one.conv)) - one.conv
            if stage in range(4) and conv in range(3):
                return template.format(**{**parts, "s": stage + other.stage, "k": conv + other.conv})
    return None


def _blocks(block: str, conv: str, norm: str, shortcut: str, shortcut_norm: str) -> tuple[str, ...]:
    parts = (f"{conv}.weight", f"{norm}.{{t}}", f"{shortcut}.weight", f"{shortcut_norm}.{{t}}")
    return tuple(f"{block}.{part}" for part in parts)


_OURS = ("conv{k}", "bn{k}", "downsample.0", "downsample.1")
TORCHVISION = Naming(
    ("conv1.weight", "bn1.{t}", *_blocks("layer{s}.{b}", *_OURS)),
    place=r"(?:conv1|bn1|layer\d+)\.",
)
DETECTRON2 = Naming(
    (
        "stem.conv1.weight",
        "stem.conv1.norm.{t}",
        *_blocks("res{s}.{b}", "conv{k}", "conv{k}.norm", "shortcut", "shortcut.norm"),
    ),
    place=r"(?:stem|res[2-5])\.(?!norm\.)",
    stage=2,
    prefix=r"backbone\.(?:bottom_up\.)?|roi_heads\.(?=res5\.)|",
)
_THEIRS = ("layer.{k}.convolution", "layer.{k}.normalization", "shortcut.convolution", "shortcut.normalization")
HUGGING_FACE = Naming(
    (
        "embedder.embedder.convolution.weight",
        "embedder.embedder.normalization.{t}",
        *_blocks("encoder.stages.{s}.layers.{b}", *_THEIRS),
    ),
    place=r"embedder\.|encoder\.stages\.",
    stage=0,
    conv=0,
)
SEQUENTIAL = Naming(  # nn.Sequential(*resnet.children())
    ("0.weight", "1.{t}", *_blocks("{s}.{b}", *_OURS)),
    place=r"[014567]\.",
    stage=4,
)
