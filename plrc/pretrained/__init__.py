"""Networks that were trained here or elsewhere, read from files of any known format and written for other libraries."""

from plrc.pretrained.loading import CheckpointInfo, Pretrained, load
from plrc.pretrained.reading import CheckpointError

__all__ = ["CheckpointError", "CheckpointInfo", "Pretrained", "load"]
