"""Pictures of which something is known: masks, boxes, keypoints or classes, each in the layout its data set comes in.

Every reader is a ``Source``; masks and boxes come from ``annotation(i)``. Coordinates are of the image frame of the
upright picture, also where a file is stored turned (EXIF).
"""

from plrc.data.annotated.classes import ClassFolders
from plrc.data.annotated.coco import COCO
from plrc.data.annotated.keypoints import KeypointFolders
from plrc.data.annotated.masks import MaskFolder
from plrc.data.annotated.opening import KeypointSource, LabelledSource, layout_of, open_annotated
from plrc.data.annotated.voc import VOC

__all__ = [
    "COCO",
    "VOC",
    "ClassFolders",
    "KeypointFolders",
    "KeypointSource",
    "LabelledSource",
    "MaskFolder",
    "layout_of",
    "open_annotated",
]
