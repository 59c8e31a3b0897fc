"""Networks that were trained here or elsewhere, read from files of any known format and written for other libraries."""

from plrc.pretrained.heads import HeadNotUnderstood
from plrc.pretrained.loading import Origin, Pretrained, load
from plrc.pretrained.reading import CheckpointError

__all__ = ["CheckpointError", "HeadNotUnderstood", "Origin", "Pretrained", "load"]
