"""What decides a detector's tensors and what it computes: all that a file must say beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from plrc.registry import BACKBONES


@dataclass(frozen=True, kw_only=True)
class Design:
    """A detector's design.

    Attributes:
        arch: of the trunk, one of ``plrc.registry.BACKBONES``.
        neck: "c4" (proposals and pooling on c4, the fifth stage as the box head) or "fpn" (feature pyramid).
        classes: names, label k is ``classes[k]``. masks: with a mask head (Mask R-CNN).
        head_norm: FPN only: the box head has four convolutions with normalisation before one linear layer, and the mask
            head's convolutions have it too.
        roi_per_image: regions of interest that are sampled of a picture in training.

    Raises:
        ValueError: an unknown trunk or neck, no class or one twice, or parts that do not go together.
    """

    arch: str
    neck: str
    classes: tuple[str, ...]
    masks: bool = False
    head_norm: bool = False
    roi_per_image: int = 512

    def __post_init__(self) -> None:
        BACKBONES[self.arch]  # or a ValueError
        if self.neck not in ("c4", "fpn"):
            raise ValueError(f"unknown neck {self.neck!r}: choose c4 or fpn")
        if self.neck == "c4" and self.arch == "tiny":
            raise ValueError("the tiny network ends at stride 8 and has no c4: choose the neck fpn, or a ResNet")
        if self.neck == "c4" and self.head_norm:
            raise ValueError(
                "the C4 box head is the trunk's fifth stage, which is normalised anyway: leave head_norm out"
            )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be one name or more, each once, not {', '.join(self.classes) or 'none'}")
        if self.roi_per_image < 1:
            raise ValueError(f"roi_per_image must be above 0, not {self.roi_per_image}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a file holds them."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Design:
        """What ``to_dict`` wrote."""
        return cls(**{**values, "classes": tuple(values["classes"])})
