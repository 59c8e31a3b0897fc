"""From images to samples, and their order: painted boxes are found again where the targets say."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.data.loader import make_loader
from plrc.detection.data import DetectionData, open_detection_data
from plrc.detection.dataset import Sample, Samples, TrainingSampler, input_size

SIZES = [(97, 61), (64, 64), (50, 83), (200, 31)]
SHORT_SIDES = (24, 40, 61, 90, 128)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])


def coco_set(root: Path, pictures: list[tuple[np.ndarray, list[dict]]]) -> DetectionData:
    """Pictures (H, W, 3) with their annotations, as a COCO set on disk of the classes red, green and blue."""
    (root / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number, (pixels, items) in enumerate(pictures):
        Image.fromarray(pixels).save(root / "val" / f"{number}.png")
        height, width = pixels.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        annotations += [{**item, "id": len(annotations) + k, "image_id": number} for k, item in enumerate(items)]
    categories = [{"id": k, "name": name} for k, name in enumerate(("red", "green", "blue"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return open_detection_data([str(root)])


def painted(root: Path, crowd: bool = False, outlines: bool = True) -> DetectionData:
    """Black images, each with a red, a green and a blue rectangle that do not touch, in this order from the left."""
    rng = np.random.default_rng(3)
    pictures = []
    for width, height in SIZES:
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        items: list[dict] = []
        for k in range(3):
            left, right = k * width // 3 + 1, (k + 1) * width // 3 - 1
            x0, x1 = int(rng.integers(left, right - 6)), int(rng.integers(right - 3, right))
            y0, y1 = int(rng.integers(0, height // 2 - 4)), int(rng.integers(height // 2 + 4, height + 1))
            pixels[y0:y1, x0:x1] = COLOURS[k]
            items.append({"category_id": k, "bbox": [x0, y0, x1 - x0, y1 - y0]})
            if outlines:
                items[-1]["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if crowd:
            whole = {"counts": [0, width * height], "size": [height, width]}
            items.append({"category_id": 0, "bbox": [0, 0, width, height], "iscrowd": 1, "segmentation": whole})
        pictures.append((pixels, items))
    return coco_set(root, pictures)


def bounds(share: np.ndarray) -> np.ndarray:
    """The box of what is painted, to a fraction of a pixel: along each axis the border is where one half is covered.

    Args:
        share: (H, W) in [0, 1], how much of a pixel is painted.
    """
    found = []
    for profile in (share.max(axis=0), share.max(axis=1)):
        covered = np.flatnonzero(profile >= 0.5)
        first, last = covered[0], covered[-1]
        before = profile[first - 1] if first else profile[first]
        after = profile[last + 1] if last + 1 < len(profile) else profile[last]
        # Between two pixels' centres the share rises linearly; at the image's border nothing rises.
        low = first if not first else first + 0.5 - (profile[first] - 0.5) / max(profile[first] - before, 1e-9)
        high = last + 1 if last + 1 == len(profile) else last + 0.5 + (profile[last] - 0.5) / (profile[last] - after)
        found.append((low, high))
    (x0, x1), (y0, y1) = found
    return np.array([x0, y0, x1, y1])


def is_mirrored(sample: Sample) -> bool:
    """Red is the leftmost in the file."""
    return bool(sample.target.boxes[0, 0] > sample.target.boxes[2, 0])


def test_painted_boxes_are_where_the_targets_say_at_every_size_and_mirrored(tmp_path):
    data = painted(tmp_path)
    seen, errors = set(), []
    for seed in range(2):
        samples = Samples(data, SHORT_SIDES, 300, training=True, seed=seed)
        for sample in (samples[draw, i] for draw in range(15) for i in range(len(SIZES))):
            (_, height, width), original, target = sample.image.shape, sample.original_size, sample.target
            assert original == SIZES[sample.index]
            assert target.boxes.dtype == torch.float32
            seen.add((height, width, is_mirrored(sample)))
            exact = data.objects(sample.index).boxes * np.tile([width / original[0], height / original[1]], 2)
            if is_mirrored(sample):
                exact[:, [0, 2]] = width - exact[:, [2, 0]]
            np.testing.assert_allclose(target.boxes.numpy(), exact, atol=1e-3)
            for box, label in zip(target.boxes.numpy(), target.labels.tolist(), strict=True):
                errors.append(np.abs(bounds(sample.image[label].numpy() / 255) - box).max())
    assert len(seen) > 30, "sizes and both directions have occurred"
    assert np.max(errors) < 0.5
    assert np.mean(errors) < 0.05, "no shift of a part of a pixel"


def test_a_ramp_says_where_a_box_is_from(tmp_path):
    """Boxes between pixels: the colours at a box's corners tell the place in the original image."""
    width, height = 100, 75
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width) * 2.5, np.arange(height)[:, None] * 2.5  # x, y of centres − 0.5
    items = [{"category_id": 0, "bbox": box} for box in ([10.3, 20.7, 40.4, 30.2], [60.5, 5.25, 31.1, 60.6])]
    samples = Samples(coco_set(tmp_path, [(pixels, items)]), (60, 75, 133, 310), training=True)
    for draw in range(12):
        sample = samples[draw, 0]
        red, green = sample.image[0].double().mean(dim=0).numpy(), sample.image[1].double().mean(dim=1).numpy()
        for box, item in zip(sample.target.boxes.numpy(), items, strict=True):
            x, y, w, h = item["bbox"]
            across = np.interp(box[[0, 2]], np.arange(len(red)) + 0.5, red) / 2.5 + 0.5
            down = np.interp(box[[1, 3]], np.arange(len(green)) + 0.5, green) / 2.5 + 0.5
            np.testing.assert_allclose(sorted(across), [x, x + w], atol=0.4)
            np.testing.assert_allclose(down, [y, y + h], atol=0.4)


def test_masks_follow_the_image(tmp_path):
    data = painted(tmp_path)
    samples = Samples(data, SHORT_SIDES, 300, training=True, masks=True)
    for draw in range(6):
        for i in range(len(SIZES)):
            sample = samples[draw, i]
            assert sample.target.masks.shape == (3, *sample.image.shape[1:])
            for mask, label in zip(sample.target.masks, sample.target.labels.tolist(), strict=True):
                np.testing.assert_array_equal(mask.numpy(), sample.image[label].numpy() >= 128)


@pytest.mark.parametrize(
    ("original", "short_side", "longest", "expected"),
    [
        ((640, 480), 800, 1333, (1067, 800)),
        ((480, 640), 800, 1333, (800, 1067)),
        ((500, 333), 800, 1333, (1201, 800)),
        ((1000, 400), 800, 1333, (1333, 533)),  # the limit: 400 × 1.333 = 533.2
        ((400, 1000), 480, 1333, (480, 1200)),
        ((4, 3), 2, 1333, (3, 2)),  # 2.67
        ((16, 3), 2, 1333, (11, 2)),  # 10.67
        ((5, 2), 1, 1333, (3, 1)),  # 2.5 is rounded upwards
        ((5000, 2), 800, 1333, (1333, 1)),
    ],
)
def test_the_input_has_detectron2s_size(original, short_side, longest, expected):
    assert input_size(original, short_side, longest) == expected


def test_all_choice_is_a_function_of_seed_draw_and_index(tmp_path):
    data = painted(tmp_path)

    def drawn(seed: int, draw: int) -> list[tuple]:
        found = [Samples(data, SHORT_SIDES, training=True, seed=seed)[draw, i] for i in range(len(SIZES))]
        return [(tuple(e.image.shape), is_mirrored(e)) for e in found]

    assert drawn(1, 4) == drawn(1, 4)
    assert len({str(drawn(seed, draw)) for seed in range(3) for draw in range(3)}) == 9
    samples = Samples(data, SHORT_SIDES, training=True)
    many = [samples[draw, 1] for draw in range(200)]
    shorts = [e.image.shape[1] for e in many]
    assert set(shorts) == set(SHORT_SIDES)
    assert 70 < sum(is_mirrored(e) for e in many) < 130
    assert min(shorts.count(side) for side in SHORT_SIDES) > 10


def test_crowds_are_no_targets(tmp_path):
    data = painted(tmp_path, crowd=True)
    assert len(data.objects(0)) == 4
    for training in (True, False):
        sample = Samples(data, [40], training=training, masks=True)[0, 0]
        assert sample.target.labels.tolist() == [0, 1, 2]
        assert len(sample.target.masks) == 3


def test_a_damaged_file_is_replaced_in_training_and_an_error_in_testing(tmp_path):
    data = painted(tmp_path)
    (tmp_path / "val" / "1.png").write_bytes(b"\x89PNG")
    samples = Samples(data, [40], training=True)
    replaced, whole = samples[0, 1], samples[0, 0]
    assert [replaced.index, whole.index] == [2, 0]
    assert whole.undecodable == ()
    assert len(replaced.undecodable) == 1
    assert "1.png" in replaced.undecodable[0]
    with pytest.raises(ValueError, match=r"1\.png: .*in testing every image counts"):
        Samples(data, [40], training=False)[0, 1]


def test_wrong_use_is_said(tmp_path):
    data = painted(tmp_path)
    with pytest.raises(ValueError, match="give one short side"):
        Samples(data, [40, 50], training=False)
    for sides, longest in (([], 10), ([0], 10), ([10], 0)):
        with pytest.raises(ValueError, match="1 pixel or more"):
            Samples(data, sides, longest, training=True)
    with pytest.raises(ValueError, match="objects without outline, and a mask head needs them"):
        Samples(painted(tmp_path / "boxes", outlines=False), [40], training=True, masks=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_batches_of_the_order(tmp_path, workers):
    data = painted(tmp_path)
    samples = Samples(data, SHORT_SIDES, training=True, seed=5)
    order = TrainingSampler(data.trainable(), data.landscape(), 3, 4, seed=5)
    loaded = list(make_loader(samples, order, workers, torch.device("cpu"), list))
    assert [[sample.index for sample in batch] for batch in loaded] == [[i for _, i in batch] for batch in order]
    for batch, numbers in zip(loaded, order, strict=True):
        for sample, number in zip(batch, numbers, strict=True):
            assert torch.equal(sample.image, samples[number].image)
            assert torch.equal(sample.target.boxes, samples[number].target.boxes)


@pytest.mark.parametrize("name", ["bccd-voc", "coco128"])
def test_real_images(shared_data, name):
    data = open_detection_data([str(shared_data(name))])
    samples = Samples(data, range(480, 801, 32), training=True)
    for i in range(0, 60, 12):
        sample = samples[0, i]
        _, height, width = sample.image.shape
        assert min(height, width) in range(480, 801, 32) or max(height, width) == 1333
        boxes = sample.target.boxes
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


# --------------------------------------------------------------------------------------------------------------- order


IMAGES = [0, 2, 3, 5, 8, 9, 10, 12, 13, 17, 19]  # 11, so that passes end in the middle of a pair
LANDSCAPE = np.random.default_rng(0).random(20) < 0.6


def order(batch: int = 4, iterations: int = 20, **more: int) -> TrainingSampler:
    return TrainingSampler(IMAGES, LANDSCAPE, batch, iterations, **{"seed": 7, **more})


@pytest.mark.parametrize("batch", [1, 4, 8, 16])
def test_every_image_is_seen_once_a_pass(batch):
    visits = list(chain(*order(batch, iterations=11 * 3)))
    assert len(visits) == batch * 33
    for number in range(batch * 3):
        of_pass = visits[number * 11 : number * 11 + 11]
        assert {n for n, _ in of_pass} == {number}
        assert sorted(i for _, i in of_pass) == IMAGES
    assert max(Counter(visits).values()) == 1


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_same_global_batches(ranks):
    alone = list(order(8))
    shares = [list(order(8, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    assert {len(part) for share in shares for part in share} == {8 // ranks}


def test_a_resumed_run_goes_on_where_it_stopped():
    everything = list(order())
    for first in (0, 1, 7, 19, 20, 25):
        resumed = order(first_step=first)
        assert list(resumed) == everything[first:]
        assert len(resumed) == len(everything[first:])


def test_passes_and_seeds_differ():
    passes = [tuple(order().of_pass(n)) for n in range(8)] + [tuple(order(seed=8).of_pass(n)) for n in range(8)]
    assert len(set(passes)) == 16


@pytest.mark.parametrize("wide", range(12))
def test_neighbours_of_two_have_one_orientation_as_far_as_possible(wide):
    """Also across the end of a pass, whose images are an odd number here."""
    landscape = np.zeros(20, dtype=bool)
    landscape[IMAGES[:wide]] = True
    batches = TrainingSampler(IMAGES, landscape, 2, 44, seed=1)  # 8 passes
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in batches)
    # Of 11 images one kind is odd: its last one stands at the end of a pass, where it meets that of the next.
    assert mixed == 0
    even = TrainingSampler(IMAGES[:10], landscape, 2, 40, seed=1)
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in even)
    assert mixed == (8 if min(wide, 10) % 2 else 0), "one pair a pass, where both kinds are odd"


def test_pairs_of_both_kinds_are_mixed_within_a_pass():
    landscape = np.arange(200) < 100
    of_pass = TrainingSampler(range(200), landscape, 2, 1, seed=0).of_pass(0)
    kinds = landscape[of_pass[::2]]
    assert 15 < kinds[:50].sum() < 35, "of 50 pairs of wide images about half come in the first half"
    partners = {frozenset(pair) for pair in of_pass.reshape(-1, 2).tolist()}
    again = TrainingSampler(range(200), landscape, 2, 1, seed=0).of_pass(1)
    assert len(partners & {frozenset(pair) for pair in again.reshape(-1, 2).tolist()}) < 10, "partners change"


def test_an_order_that_cannot_be_is_said():
    with pytest.raises(ValueError, match="no image of the data has an object"):
        TrainingSampler([], LANDSCAPE, 4, 1, seed=0)
    with pytest.raises(ValueError, match="--batch-size 4 must be a multiple of the 3 ranks"):
        order(4, ranks=3)
