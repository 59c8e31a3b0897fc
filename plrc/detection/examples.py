"""From a picture with boxes to what the network is given: resized, perhaps mirrored, boxes along with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from plrc.data.loader import start_worker
from plrc.data.sources import UndecodableImage, first_decodable
from plrc.detection.data import DetectionData
from plrc.detection.objects import Objects
from plrc.detection.target import Target

_STREAM = 2  # of the random numbers of (seed, draw, index): pre-training's views draw from another


@dataclass(eq=False)
class Example:
    """One picture as the network is given it.

    Attributes:
        image: ``(3, H, W)`` uint8, RGB. target: in pixels of ``image``; without crowds. index: the picture's place in
        the data. original_size: (width, height) of the upright picture. undecodable: a clause, name and reason, for
        each file that it stands in for.
    """

    image: Tensor
    target: Target
    index: int
    original_size: tuple[int, int]
    undecodable: tuple[str, ...] = ()


@dataclass(eq=False)
class DetectionBatch:
    """One rank's part of a batch: lists of B, as pictures differ in size. For the parts see ``Example``."""

    images: list[Tensor]
    targets: list[Target]
    indices: list[int]
    original_sizes: list[tuple[int, int]]
    undecodable: frozenset[str]

    def to(self, device: torch.device) -> DetectionBatch:
        images = [image.to(device, non_blocking=True) for image in self.images]
        return replace(self, images=images, targets=[target.to(device) for target in self.targets])

    def pin_memory(self) -> DetectionBatch:
        targets = [
            Target(t.boxes.pin_memory(), t.labels.pin_memory(), None if t.masks is None else t.masks.pin_memory())
            for t in self.targets
        ]
        return replace(self, images=[image.pin_memory() for image in self.images], targets=targets)


def collate(examples: Sequence[Example]) -> DetectionBatch:
    """Examples as one batch."""
    return DetectionBatch(
        images=[e.image for e in examples],
        targets=[e.target for e in examples],
        indices=[e.index for e in examples],
        original_sizes=[e.original_size for e in examples],
        undecodable=frozenset(clause for e in examples for clause in e.undecodable),
    )


class Examples(Dataset[Example]):
    """Pictures of the data at the size that the network is given. Items are asked for as (draw, index).

    In training the short side is drawn from several and every second picture is mirrored; a file that cannot be decoded
    is replaced by its neighbour, which may be one without objects. What is drawn is a pure function of
    (seed, draw, index). In testing nothing is drawn, and such a file is an error.

    Args:
        short_sides: pixels, one of which is drawn; in testing one. longest: pixels that the long side must not exceed,
            where need be at the cost of the short side (Detectron2's default: 1333).
        training: draw, mirror, replace. masks: with the objects' masks, for a mask head.

    Raises:
        ValueError: a side is below 1 pixel, there is none, or in testing more than one; or masks are asked for and the
            data have none.
    """

    def __init__(
        self,
        data: DetectionData,
        short_sides: Sequence[int],
        longest: int = 1333,
        *,
        training: bool,
        seed: int = 0,
        masks: bool = False,
    ) -> None:
        if not short_sides or min(*short_sides, longest) < 1:
            raise ValueError(f"sides must be 1 pixel or more, not {list(short_sides)} with the longest at {longest}")
        if not training and len(short_sides) > 1:
            raise ValueError(f"in testing every picture has one size: give one short side, not {list(short_sides)}")
        if masks and not data.has_masks:
            named = ", ".join(data.paths)
            raise ValueError(f"{named}: there are objects without outline, and a mask head needs them: --no-masks")
        self._data, self._short_sides, self._longest = data, tuple(short_sides), longest
        self._training, self._seed, self._masks = training, seed, masks
        self._trainable = np.array(data.trainable() if training else [], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, item: tuple[int, int]) -> Example:
        """Raises:
        ValueError: the file cannot be decoded (in training: nor can a hundred after it), or an annotation is wrong.
        """
        draw, wanted = item
        short_side, mirrored = self._short_sides[0], False
        if self._training:
            rng = np.random.default_rng((self._seed, draw, wanted, _STREAM))
            short_side = self._short_sides[int(rng.integers(len(self._short_sides)))]
            mirrored = bool(rng.random() < 0.5)

        def example(index: int) -> Example:
            image = self._data.load(index)
            objects = self._data.objects(index, self._masks)
            size = input_size(image.size, short_side, self._longest)
            target = target_of(objects.chosen(~objects.crowd), image.size, size, mirrored)
            return Example(_resized(image, size, mirrored), target, index, image.size)

        if not self._training:
            try:
                return example(wanted)
            except UndecodableImage as error:
                raise ValueError(f"{error}: in testing every picture counts, get the file again") from error
        # A neighbour without objects would not have been trained on either.
        after = np.searchsorted(self._trainable, wanted, side="right")
        candidates = [wanted, *np.roll(self._trainable, -after).tolist()]
        found, _, undecodable = first_decodable(candidates, 0, lambda k: example(candidates[k]))
        return replace(found, undecodable=tuple(undecodable))


def input_size(original: tuple[int, int], short_side: int, longest: int) -> tuple[int, int]:
    """(width, height) of a picture of ``original`` (width, height) as the network is given it, in pixels.

    The shorter side becomes ``short_side``; if the longer would exceed ``longest``, that one becomes ``longest``
    (Detectron2's rule, and its rounding: half a pixel upwards).
    """
    scale = min(short_side / min(original), longest / max(original))
    width, height = (max(1, int(side * scale + 0.5)) for side in original)
    return width, height


def target_of(objects: Objects, original: tuple[int, int], size: tuple[int, int], mirrored: bool) -> Target:
    """Objects of a picture of ``original`` pixels as they lie in the input picture, ``size`` = (width, height).

    Boxes are scaled by the ratio of the sides, each axis by its own. Mirrored, x becomes W − x.
    """
    boxes = objects.boxes * np.tile(np.array(size) / np.array(original), 2)
    if mirrored:
        boxes = np.stack((size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]), axis=1)
    # In float32, as the network has them, a sliver may have no area left.
    boxes = boxes.astype(np.float32)
    lasting = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes, objects = boxes[lasting], objects.chosen(lasting)
    masks = None
    if objects.masks is not None:
        masks = torch.zeros((len(objects), size[1], size[0]), dtype=torch.bool)
        for resized, mask in zip(masks, objects.masks, strict=True):
            # Resized like the picture, as shares of a pixel; a pixel belongs to the object from one half on.
            share = _resized(Image.fromarray(mask.astype(np.uint8) * 255), size, mirrored)
            resized[:] = share[0] >= 128
    return Target(torch.from_numpy(boxes), torch.from_numpy(objects.labels), masks)


def to_original(boxes: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Boxes ``(n, 4)`` in pixels of the input picture, ``size`` = (width, height), in pixels of the original one.

    For pictures that are not mirrored, as in testing.
    """
    (width, height), (w, h) = original, size
    return boxes * boxes.new_tensor([width / w, height / h, width / w, height / h])


def _resized(image: Image.Image, size: tuple[int, int], mirrored: bool) -> Tensor:
    """``(channels, H, W)`` uint8, bilinear with the support that Pillow gives it, as in Detectron2."""
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR))
    pixels = pixels.reshape(*pixels.shape[:2], -1)  # a mask has no axis of channels
    return torch.from_numpy(np.ascontiguousarray((pixels[:, ::-1] if mirrored else pixels).transpose(2, 0, 1)))


def make_loader(
    examples: Examples, order: Iterable[list[tuple[int, int]]], workers: int, device: torch.device
) -> DataLoader[DetectionBatch]:
    """Batches of this rank in the order of (draw, index), prepared by ``workers`` processes (none: in this one)."""
    return DataLoader(
        examples,  # type: ignore[arg-type]  # an item is an Example, a batch of them another type
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=start_worker if workers else None,
    )
