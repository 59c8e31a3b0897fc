"""From an image with boxes to what the network is given, and which image comes when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from plrc.data.images import UndecodableImage
from plrc.data.sources import first_decodable
from plrc.detection.data import DetectionData, Objects
from plrc.detection.types import Target

# Streams of the random numbers of (seed, draw or pass, index): pre-training's loader and views draw from others.
_DRAWS, _ORDER = 2, 3


@dataclass(eq=False)
class Sample:
    """One image as the network is given it; a batch is a list of them, since images differ in size.

    Attributes:
        image: ``(3, H, W)`` uint8, RGB. target: in pixels of ``image``; without crowds. index: the image's place in
        the data. original_size: (width, height) of the upright image. undecodable: a clause, name and reason, for
        each file that it stands in for.
    """

    image: Tensor
    target: Target
    index: int
    original_size: tuple[int, int]
    undecodable: tuple[str, ...] = ()

    def pin_memory(self) -> Sample:
        masks = None if self.target.masks is None else self.target.masks.pin_memory()
        target = Target(self.target.boxes.pin_memory(), self.target.labels.pin_memory(), masks)
        return replace(self, image=self.image.pin_memory(), target=target)


class Samples(Dataset[Sample]):
    """Images of the data at the size that the network is given. Samples are asked for as (draw, index).

    In training the short side is drawn from several and every second image is mirrored; a file that cannot be decoded
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
            raise ValueError(f"in testing every image has one size: give one short side, not {list(short_sides)}")
        if masks and not data.has_masks:
            named = ", ".join(data.paths)
            raise ValueError(f"{named}: there are objects without outline, and a mask head needs them: --no-masks")
        self._data, self._short_sides, self._longest = data, tuple(short_sides), longest
        self._training, self._seed, self._masks = training, seed, masks
        self._trainable = np.array(data.trainable() if training else [], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        """Raises:
        ValueError: the file cannot be decoded (in training: nor can a hundred after it), or an annotation is wrong.
        """
        draw, wanted = item
        short_side, mirrored = self._short_sides[0], False
        if self._training:
            rng = np.random.default_rng((self._seed, draw, wanted, _DRAWS))
            short_side = self._short_sides[int(rng.integers(len(self._short_sides)))]
            mirrored = bool(rng.random() < 0.5)

        def sample(index: int) -> Sample:
            image = self._data.load(index)
            objects = self._data.objects(index, self._masks)
            size = input_size(image.size, short_side, self._longest)
            target = target_of(objects.chosen(~objects.crowd), image.size, size, mirrored)
            return Sample(_resized(image, size, mirrored), target, index, image.size)

        if not self._training:
            try:
                return sample(wanted)
            except UndecodableImage as error:
                raise ValueError(f"{error}: in testing every image counts, get the file again") from error
        # A neighbour without objects would not have been trained on either.
        after = np.searchsorted(self._trainable, wanted, side="right")
        candidates = [wanted, *np.roll(self._trainable, -after).tolist()]
        found, _, undecodable = first_decodable(candidates, 0, lambda k: sample(candidates[k]))
        return replace(found, undecodable=tuple(undecodable))


def input_size(original: tuple[int, int], short_side: int, longest: int) -> tuple[int, int]:
    """(width, height) of an image of ``original`` (width, height) as the network is given it, in pixels.

    The shorter side becomes ``short_side``; if the longer would exceed ``longest``, that one becomes ``longest``
    (Detectron2's rule, and its rounding, half a pixel upwards; ``v2.RandomShortestSize`` rounds down).
    """
    scale = min(short_side / min(original), longest / max(original))
    width, height = (max(1, int(side * scale + 0.5)) for side in original)
    return width, height


def target_of(objects: Objects, original: tuple[int, int], size: tuple[int, int], mirrored: bool) -> Target:
    """Objects of an image of ``original`` pixels as they lie in the input image, ``size`` = (width, height).

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
            # Resized like the image, as shares of a pixel; a pixel belongs to the object from one half on.
            resized[:] = _resized(Image.fromarray(mask.astype(np.uint8) * 255), size, mirrored)[0] >= 128
    return Target(torch.from_numpy(boxes), torch.from_numpy(objects.labels), masks)


def _resized(image: Image.Image, size: tuple[int, int], mirrored: bool) -> Tensor:
    """``(channels, H, W)`` uint8, bilinear with the support that Pillow gives it, as in Detectron2."""
    pixels: Tensor = pil_to_tensor(image.resize(size, Image.Resampling.BILINEAR))
    return pixels.flip(-1) if mirrored else pixels


class TrainingSampler(Sampler[list[tuple[int, int]]]):
    """The images that this rank loads in each iteration from ``first_step`` on: lists of (pass, index).

    Passes over the data follow one another without a gap, so that a batch may lie in two. The order of a pass is a pure
    function of (seed, pass). In it, neighbours of two are both wide or both high as far as possible: images that are
    computed together are padded to one size, and two a GPU is the recipe's share (Detectron2 groups per GPU).
    Rank r takes the r-th share of each global batch, which is the same on one rank and on eight.

    Args:
        images: places in the data, such as ``DetectionData.trainable()``. landscape: of all the data, see there.
        batch_size: of all ranks together. iterations: of the whole training.

    Raises:
        ValueError: there are no images, or the batch cannot be shared evenly.
    """

    def __init__(
        self,
        images: Sequence[int],
        landscape: np.ndarray,
        batch_size: int,
        iterations: int,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        first_step: int = 0,
    ) -> None:
        if not len(images):
            raise ValueError("no image of the data has an object to train on")
        if batch_size < 1 or batch_size % ranks:
            raise ValueError(f"--batch-size {batch_size} must be a multiple of the {ranks} ranks")
        self._images = np.asarray(images, dtype=np.int64)
        self._wide = np.asarray(landscape, dtype=bool)[self._images]
        self._batch, self._share, self._rank = batch_size, batch_size // ranks, rank
        self._seed, self._first, self._iterations = seed, first_step, iterations

    def __len__(self) -> int:
        return max(0, self._iterations - self._first)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        count, order, of_pass = len(self._images), self._images, -1
        for step in range(self._first, self._iterations):
            start = step * self._batch + self._rank * self._share
            batch = []
            for place in range(start, start + self._share):
                number, at = divmod(place, count)
                if number != of_pass:
                    order, of_pass = self.of_pass(number), number
                batch.append((number, int(order[at])))
            yield batch

    def of_pass(self, number: int) -> np.ndarray:
        """All images in the order of one pass over the data."""
        rng = np.random.default_rng((self._seed, number, 0, _ORDER))
        shuffled = rng.permutation(len(self._images))
        wide = self._wide[shuffled]
        # At most one of either kind is left over; those two are a pair. What has no partner at all stands where pairs
        # do not shift: at the end, or, where the pass before it ended in the middle of a pair, at the beginning.
        kinds = [shuffled[wide], shuffled[~wide]]
        rest = np.concatenate([kind[len(kind) // 2 * 2 :] for kind in kinds])
        pairs = np.concatenate([*(kind[: len(kind) // 2 * 2] for kind in kinds), rest[: len(rest) // 2 * 2]])
        pairs = rng.permutation(pairs.reshape(-1, 2)).ravel()
        single = rest[len(rest) // 2 * 2 :]
        starts_within_a_pair = number * len(shuffled) % 2 == 1
        return self._images[np.concatenate((single, pairs) if starts_within_a_pair else (pairs, single))]
