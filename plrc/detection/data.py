"""What a detector is trained and tested on: data sets with boxes, images as it is given them, and their order."""

from __future__ import annotations

import hashlib
import logging
import marshal
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2.functional import pil_to_tensor

from plrc.data.annotated import VOC, BoxFiles, layout_of, open_annotated
from plrc.data.coco import COCO, COCOFile
from plrc.data.images import UndecodableImage, printable, spread
from plrc.data.scenes import Scenes
from plrc.data.sources import Annotation, ImageFiles, first_decodable, warn_left_out
from plrc.detection.metrics import run_lengths
from plrc.detection.stages import Target
from plrc.distributed import World

_LONGEST_NAME = 200  # letters of a class: more are a mistake, and take minutes to draw
_LEAST = 1e-5  # pixels: a box with a shorter side is none (Detectron2's default)
_ACCEPTED = (
    "PASCAL VOC (Annotations/, JPEGImages/, or its ImageSets/Main/<split>.txt), COCO (annotations/instances_*.json), "
    "YOLO (images/ with labels/), images/ with masks/, or 'scenes:N'"
)
# Streams of the random numbers of (seed, draw or pass, index): pre-training's loader and views draw from others.
_DRAWS, _ORDER = 2, 3


class Objects(NamedTuple):
    """The n objects of an image of W × H pixels (original, upright).

    boxes ``(n, 4)`` float64, x0, y0, x1, y1 in pixels from the left and upper border, every side above 0; labels
    ``(n,)`` int64; crowd and difficult ``(n,)`` bool, COCO's ``iscrowd`` and PASCAL VOC's ``difficult``; masks
    ``(n, H, W)`` bool, None where they were not asked for.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    masks: np.ndarray | None

    def chosen(self, keep: np.ndarray) -> Objects:
        """Those where ``keep``, ``(n,)`` bool, is True."""
        parts: Any = (part if part is None else part[keep] for part in self)
        return Objects(*parts)


class DetectionData:
    """Images with boxes, from one data set or several: PASCAL VOC 07 trainval and 12 trainval, say.

    Args:
        paths: of each data set what ``plrc.data.annotated.open_annotated`` takes. Images come in this order.
        classes: a detector's. Without them those of the data: of COCO all categories of the file, by their numbers; of
            PASCAL VOC those that occur, by name; of data sets that differ in classes, all of them, by name.
        most: to train on at most so many images with objects, evenly spread over them all: few labels.

    Attributes:
        classes: K names; labels are places in it. category_ids: K numbers, label k is category ``category_ids[k]`` in
            ``truth()``: COCO's own where it has the class, else k + 1. image_ids: likewise COCO's own, else i + 1.
        metric: "voc" if all is in PASCAL VOC's layout, and VOC's AP is the usual figure, else "coco".
        has_masks: of every object; then ``objects`` gives them.

    Raises:
        FileNotFoundError: there is no such path. ValueError: a data set is malformed, has no boxes, or has an object
        of none of ``classes``.
    """

    def __init__(self, paths: Sequence[str], classes: Sequence[str] | None = None, most: int | None = None) -> None:
        self._most = most
        self.paths, self._sources = tuple(paths), [open_annotated(path) for path in paths]
        self._starts = [0, *accumulate(map(len, self._sources))]
        known = [_classes(path, source) for path, source in zip(paths, self._sources, strict=True)]
        if classes is None:
            several = {of_set for of_set, _, _ in known}
            classes = known[0][0] if len(several) == 1 else sorted(set().union(*several))
            if not classes:
                raise ValueError(f"{', '.join(paths)}: no image has an object: a detector needs some to learn")
        if long := [name for name in classes if len(name) > _LONGEST_NAME or not name.strip()]:
            raise ValueError(
                f"{', '.join(paths)}: the class name {long[0][:20]!r}… has {len(long[0])} letters: correct it"
            )
        self.classes = tuple(classes)
        self._labels = {name: k for k, name in enumerate(self.classes)}
        for path, (_, used, _) in zip(paths, known, strict=True):
            if lacking := sorted(used - set(self.classes)):
                known_here = ", ".join(self.classes)
                raise ValueError(f"{path} has objects of {lacking[0]}, a class that is none of {known_here}")
        self.has_masks = all(has_masks for _, _, has_masks in known)
        self.metric = "voc" if all(isinstance(source, VOC) for source in self._sources) else "coco"
        self.category_ids, self.image_ids = tuple(range(1, len(self.classes) + 1)), tuple(range(1, len(self) + 1))
        coco = [source for source in self._sources if isinstance(source, COCO)]
        if len(coco) == len(paths):
            categories = coco[0].categories
            if all(source.categories == categories for source in coco):
                number, free = {name: n for n, name in categories.items()}, max(categories, default=0)
                self.category_ids = tuple(number.get(name, free + 1 + k) for k, name in enumerate(self.classes))
            own = tuple(source.image(at)["id"] for source in coco for at in range(len(source)))
            self.image_ids = own if len(set(own)) == len(self) else self.image_ids

    def checked(self) -> DetectionData:
        """Itself. Opens every image's header; raises a ValueError if images are of another size than was annotated.

        One that cannot be decoded is no error here: what meets it says so, or passes over it.
        """
        wrong = [clause for source in self._sources if isinstance(source, BoxFiles) for clause in source.misfits()]
        if wrong:
            raise ValueError(wrong[0] + (f"; {len(wrong) - 1} more images have other sizes" if len(wrong) > 1 else ""))
        return self

    def __len__(self) -> int:
        return self._starts[-1]

    def about(self) -> dict[str, Any]:
        """What results on these images must go with to be understood."""
        categories = dict(zip(map(str, self.category_ids), self.classes, strict=True))
        return {"data": list(self.paths), "pictures": self.fingerprint(), "categories": categories}

    @property
    def title(self) -> str:
        """Short, for figures: ``bccd-voc test`` of ``bccd-voc/ImageSets/Main/test.txt``, ``coco val2017`` of its
        ``instances_val2017.json``, else the folders' names."""
        shown = []
        for file in map(Path, self.paths):
            shown.append(file.name)
            if file.is_file():
                root = file.absolute().parents[2 if file.suffix == ".txt" else 1]
                shown[-1] = f"{root.name} {file.stem.removeprefix('instances_')}"
        return " + ".join(shown)

    def name(self, i: int) -> str:
        """Of the image, in its data set."""
        source, at = self._place(i)
        return str(source.name(at))

    def load(self, i: int) -> Any:
        """The upright image, mode RGB: see ``plrc.data.sources.Source``. Raises UndecodableImage."""
        source, at = self._place(i)
        return source.load(at)

    def objects(self, i: int, masks: bool = False) -> Objects:
        """The objects of image i, without those of no area; boxes in pixels of the upright image.

        Raises a ValueError if it was annotated at another size, or has no masks and they are asked for.
        """
        found, counts = self._objects(i, masks)
        return found.chosen(counts)

    def _objects(self, i: int, masks: bool) -> tuple[Objects, np.ndarray]:
        """All of image i, and which have an area."""
        source, at = self._place(i)
        known = _known(source, at, masks)
        if masks and known.masks is None:
            raise ValueError(f"the objects of {source.name(at)} have no outlines: leave masks out")
        if isinstance(source, BoxFiles):
            boxes = source.pixel_boxes(at)
        else:
            boxes = known.boxes.astype(np.float64) * (source.size(at) * 2)
            # Masks begin and end between pixels; the boxes' fractions are rounded to 32 bits.
            boxes = boxes if known.masks is None else np.rint(boxes)
        labels = np.array([self._labels[name] for name in known.classes], dtype=np.int64)
        crowd, difficult = (np.isin(np.arange(len(boxes)), list(of)) for of in (known.crowd, known.difficult))
        found = Objects(boxes, labels, crowd, difficult, known.masks if masks else None)
        return found, (boxes[:, 2:] - boxes[:, :2] > _LEAST).all(axis=1)

    def landscape(self) -> np.ndarray:
        """Which images are wider than high, ``(len(self),)`` bool; if possible as annotated, without opening them."""
        wide = np.zeros(len(self), dtype=bool)
        for i in range(len(self)):
            source, at = self._place(i)
            with suppress(UndecodableImage):  # the training passes over it
                width, height = getattr(source, "frame", source.size)(at)
                wide[i] = width > height
        return wide

    def trainable(self) -> list[int]:
        """The images with an object that is not a crowd, or ``most`` of them. Detectron2 trains on no others."""
        found = list[int]()
        for i in range(len(self)):
            try:
                has_objects = _has_objects(*self._place(i))
            except UndecodableImage:  # the training passes over it, and names it
                has_objects = True
            found += [i] * has_objects
        return [found[k] for k in spread(len(found), self._most)]

    def fingerprint(self) -> str:
        """Tells these images, in this order and with these classes, from others, on every machine."""
        names = [*(self.name(i) for i in range(len(self))), *self.classes]
        names += [f"seed {seed}" for source in self._sources if (seed := getattr(source, "seed", 0))]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def objects_fingerprint(self) -> str:
        """Tells the images' objects, as their files have them, from others, without opening a picture. Of masks it has
        the sizes of their files alone."""
        known = hashlib.sha256()
        for i in range(len(self)):
            source, at = self._place(i)
            # Of pickle's bytes it would matter which of two equal texts are one object; JSON takes long.
            known.update(marshal.dumps(source.noted(at) if hasattr(source, "noted") else None, 2))
        return known.hexdigest()[:16]

    def truth(self) -> dict[str, Any]:
        """All images and objects in COCO's format: images, annotations, categories; for an evaluator.

        COCO's own annotations are as the file has them, also those without area; those of an image that is stored
        turned are turned. All others have ``difficult`` 0 or 1. Opens every image's header; raises a ValueError if
        one is no image, or was annotated at another size.
        """
        images, annotations = [], []
        for i, number in enumerate(self.image_ids):
            source, at = self._place(i)
            with _none_missing():
                width, height = source.size(at)
                objects = list(self._annotations(i))
            images.append({"id": number, "file_name": source.name(at), "width": width, "height": height})
            for label, item in objects:
                annotations.append({**_filled(item), "image_id": number, "category_id": self.category_ids[label]})
        return _truth(images, annotations, dict(zip(self.category_ids, self.classes, strict=True)))

    def _annotations(self, i: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Label and annotation in COCO's format of each object."""
        source, at = self._place(i)
        of_file: list[dict[str, Any]] = []
        if isinstance(source, COCO):
            if source.turn(at) == 1:
                for item in source.entries(at):
                    yield self._labels[source.categories[item["category_id"]]], item
                return
            of_file = source.instances(at)  # but boxes and outlines are of the stored image
        found, counts = self._objects(i, self.has_masks)
        for k in np.flatnonzero(counts).tolist():
            x0, y0, x1, y1 = found.boxes[k].tolist()
            flags = {"iscrowd": int(found.crowd[k]), "difficult": int(found.difficult[k])}
            item = {**(of_file[k] if of_file else {}), "bbox": [x0, y0, x1 - x0, y1 - y0], **flags}
            if found.masks is not None:
                item = {"area": float(found.masks[k].sum()), **item, "segmentation": run_lengths(found.masks[k])}
            yield int(found.labels[k]), item

    def _place(self, i: int) -> tuple[Any, int]:
        """The source that image i is of, and its place there."""
        part = bisect_right(self._starts, i) - 1
        return self._sources[part], i - self._starts[part]


def warn_of_doubles(*several: DetectionData) -> None:
    """One line for each data set that has images of another one."""
    seen, real = dict[tuple[str, str], str](), cache(os.path.realpath)
    for data in several:
        for path, source in zip(data.paths, data._sources, strict=True):
            doubles, own = Counter[str](), dict[tuple[str, str], str]()
            for i in range(len(source)):
                place = source.path(i) if isinstance(source, ImageFiles) else Path(f"{path}/{source.name(i)}")
                file = real(place.parent), place.name
                own[file] = path
                doubles.update([seen[file]] if file in seen else ())
            seen |= own
            for other, n in doubles.items():
                said = f"{n} of {len(source)} images of {path} are in {other}, too"
                logging.getLogger(__name__).warning("note: %s", printable(said))


def _classes(path: str, source: Any) -> tuple[tuple[str, ...], set[str], bool]:
    """All classes that a data set's objects may have; those that they have, if known; whether all have masks."""
    has_masks = not isinstance(source, VOC)
    if isinstance(source, COCO):
        used = {source.categories[number] for number in source.used}
        return tuple(source.categories.values()), used, not source.bare
    if isinstance(source, VOC):
        used = {name for i in range(len(source)) for name, _ in source.instances(i)}
    elif hasattr(source, "CLASSES"):  # masks; of scenes all kinds that are painted, however few the scenes are
        used = set(source.CLASSES)
    elif getattr(source, "has_objects", False):  # a layout of one's own
        known = [source.annotation(i) for i in range(len(source))]
        used, has_masks = {n for one in known for n in one.classes}, all(one.masks is not None for one in known)
    else:
        splits = [str(file.parent) for file in sorted(Path(path).glob("*/_annotations.coco.json"))]  # Roboflow's
        wanted = f"one of its splits: {', '.join(splits)}" if splits else _ACCEPTED
        raise ValueError(f"{path} holds images {layout_of(source)}, without boxes: give {wanted}")
    return tuple(sorted(used)), used, has_masks


def _known(source: Any, i: int, masks: bool) -> Annotation:
    if masks or not isinstance(source, COCO):
        known: Annotation = source.annotation(i)
        return known
    items = source.instances(i)  # to paint the outlines takes long
    crowd = frozenset(k for k, item in enumerate(items) if item.get("iscrowd"))
    return Annotation(None, np.zeros(0), [source.categories[item["category_id"]] for item in items], crowd=crowd)


def _has_objects(source: Any, i: int) -> bool:
    """Whether the image has an object that is not a crowd, without opening it where that tells."""
    if isinstance(source, VOC | Scenes):  # no scene is empty, and to paint them all takes long
        return isinstance(source, Scenes) or bool(source.instances(i))
    known = _known(source, i, masks=False)
    return len(known.classes) > len(known.crowd)


def _filled(item: dict[str, Any]) -> dict[str, Any]:
    """An annotation with what its file does not say."""
    return {"iscrowd": 0, "area": item["bbox"][2] * item["bbox"][3], **item}


@contextmanager
def _none_missing() -> Iterator[None]:
    try:
        yield
    except UndecodableImage as error:
        raise ValueError(f"{error}: in testing every image counts, get the file again") from error


def truth_of_json(file: str | Path) -> dict[str, Any]:
    """A COCO file of boxes as ``DetectionData.truth`` gives it, where the images are not at hand.

    Raises a ValueError that says what is wrong with it, or FileNotFoundError.
    """
    content = COCOFile(Path(file))
    for why, entries in content.left_out.items():
        warn_left_out(logging.getLogger(__name__), Path(file), why, entries)
    images = [{key: value for key, value in image.items() if value is not None} for image in content.images.values()]
    return _truth(images, [_filled(item) for item in content.annotations], content.categories)


def _truth(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: dict[int, str]
) -> dict[str, Any]:
    numbers = {item.get("id", 0) for item in annotations}
    if len(numbers) < len(annotations) or 0 in numbers:  # COCO's evaluation takes the number 0 for "no match"
        annotations = [{**item, "id": k} for k, item in enumerate(annotations, start=1)]
    listed = [{"id": number, "name": name} for number, name in sorted(categories.items())]
    return {"images": images, "annotations": annotations, "categories": listed}


class Sample(NamedTuple):
    """One image as the network is given it; a batch is a list of them, since images differ in size.

    image ``(3, H, W)`` uint8, RGB; target, in pixels of ``image``, without crowds; number, the image's place in the
    data; original_size, (width, height) of the upright image; undecodable, a clause, name and reason, for each file
    that it stands in for.
    """

    image: Tensor
    target: Target
    number: int
    original_size: tuple[int, int]
    undecodable: tuple[str, ...] = ()


class Samples(Dataset[Sample]):
    """Images of the data at the size that the network is given. Samples are asked for as (draw, index).

    In training the short side is drawn from several and every second image is mirrored; a file that cannot be decoded
    is replaced by its neighbour, which has objects. What is drawn is a pure function of (seed, draw, index). In
    testing nothing is drawn, and such a file is an error.

    Args:
        short_sides: pixels, one of which is drawn; in testing one. longest: pixels that the long side must not exceed,
            where need be at the cost of the short side. seed: of training; None in testing.
        masks: with the objects' masks, for a mask head. A ValueError if the data have none.
    """

    def __init__(
        self,
        data: DetectionData,
        short_sides: Sequence[int],
        longest: int,
        seed: int | None = None,
        masks: bool = False,
    ) -> None:
        if masks and not data.has_masks:
            bare = [name for source in data._sources for name in getattr(source, "bare", ())]
            some = f" (in {', '.join(bare)} …)" if bare else ""
            lacking = f"{', '.join(data.paths)}: there are objects without outline{some}"
            raise ValueError(f"{lacking}, and a mask head needs them: --no-masks")
        self._data, self._short_sides, self._longest = data, tuple(short_sides), longest
        self._seed, self._masks = seed, masks
        self._trainable = np.array([] if seed is None else data.trainable(), dtype=np.int64)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        """Raises a ValueError if the file cannot be decoded (in training: nor a hundred after it)."""
        draw, wanted = item
        if self._seed is None:
            with _none_missing():
                return self._sample(wanted, self._short_sides[0], mirrored=False)
        rng = np.random.default_rng((self._seed, draw, wanted, _DRAWS))
        short_side = self._short_sides[int(rng.integers(len(self._short_sides)))]
        mirrored = bool(rng.random() < 0.5)
        # A neighbour without objects would not have been trained on either.
        after = np.searchsorted(self._trainable, wanted, side="right")
        candidates = [wanted, *np.roll(self._trainable, -after).tolist()]
        found, _, undecodable = first_decodable(
            candidates, 0, lambda k: self._sample(candidates[k], short_side, mirrored)
        )
        return found._replace(undecodable=tuple(undecodable))

    def _sample(self, index: int, short_side: int, mirrored: bool) -> Sample:
        image = self._data.load(index)
        objects = self._data.objects(index, self._masks)
        size = input_size(image.size, short_side, self._longest)
        target = target_of(objects.chosen(~objects.crowd), image.size, size, mirrored)
        return Sample(_resized(image, size, mirrored), target, index, image.size)


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
        masks = torch.zeros((len(boxes), size[1], size[0]), dtype=torch.bool)
        for resized, mask in zip(masks, objects.masks, strict=True):
            # Resized like the image, as shares of a pixel; a pixel belongs to the object from one half on.
            resized[:] = _resized(Image.fromarray(mask.astype(np.uint8) * 255), size, mirrored)[0] >= 128
    return Target(torch.from_numpy(boxes), torch.from_numpy(objects.labels), masks)


def _resized(image: Image.Image, size: tuple[int, int], mirrored: bool) -> Tensor:
    """``(channels, H, W)`` uint8, bilinear with the support that Pillow gives it, as in Detectron2."""
    pixels: Tensor = pil_to_tensor(image.resize(size, Image.Resampling.BILINEAR))
    return pixels.flip(-1) if mirrored else pixels


class TrainingSampler(Sampler[list[tuple[int, int]]]):
    """The images that this rank loads in each step: lists of (pass, index).

    Passes over the data follow one another without a gap, so that a batch may lie in two. The order of a pass is a pure
    function of (seed, pass). In it, neighbours of two are both wide or both high as far as possible: images that are
    computed together are padded to one size, and two a GPU is the recipe's share (Detectron2 groups per GPU).
    Rank r takes the r-th share of each global batch, which is the same on one rank and on eight.

    Args:
        images: places in the data, such as ``DetectionData.trainable()``. landscape: of all the data, see there.
        batch_size: of all ranks together, a multiple of their number. steps: those to come, of the whole training.
    """

    def __init__(
        self, images: Sequence[int], landscape: np.ndarray, batch_size: int, steps: range, seed: int, here: World
    ) -> None:
        if not len(images):
            raise ValueError("no image of the data has an object to train on")
        if batch_size % here.size:
            raise ValueError(f"--batch-size {batch_size} must be a multiple of the {here.size} ranks")
        self._images = np.asarray(images, dtype=np.int64)
        self._wide = np.asarray(landscape, dtype=bool)[self._images]
        self._batch, self._share, self._rank = batch_size, batch_size // here.size, here.rank
        self._seed, self._steps = seed, steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        count, order, of_pass = len(self._images), self._images, -1
        for step in self._steps:
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
