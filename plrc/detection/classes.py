"""The classes of the two data sets that detectors are published for, in the order of their labels."""

from __future__ import annotations

from collections.abc import Sequence

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""PASCAL VOC's, by name."""

_COCO_RUNS = {
    1: "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant",
    13: "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    27: "backpack, umbrella",
    31: "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle",
    46: "wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, "
    "donut, cake, chair, couch, potted plant, bed",
    67: "dining table",
    70: "toilet",
    72: "tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator",
    84: "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
}
COCO_CATEGORIES = {start + i: name for start, names in _COCO_RUNS.items() for i, name in enumerate(names.split(", "))}
"""COCO's, number → name: 80 of 90 numbers, in their order."""

COCO_CLASSES = tuple(COCO_CATEGORIES.values())


def category_ids(classes: Sequence[str]) -> tuple[int, ...]:
    """The number of each class in results: COCO's own if the classes are COCO's, else 1 … K."""
    return tuple(COCO_CATEGORIES) if tuple(classes) == COCO_CLASSES else tuple(range(1, len(classes) + 1))
