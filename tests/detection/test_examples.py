"""plrc.detection.examples: painted boxes are found again where the targets say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.detection.data import DetectionData, open_detection_data
from plrc.detection.examples import Example, Examples, collate, input_size, make_loader, to_original
from plrc.detection.order import TrainingOrder, evaluation_order

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
    """Black pictures, each with a red, a green and a blue rectangle that do not touch, in this order from the left."""
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
        # Between two pixels' centres the share rises linearly; at the picture's border nothing rises.
        low = first if not first else first + 0.5 - (profile[first] - 0.5) / max(profile[first] - before, 1e-9)
        high = last + 1 if last + 1 == len(profile) else last + 0.5 + (profile[last] - 0.5) / (profile[last] - after)
        found.append((low, high))
    (x0, x1), (y0, y1) = found
    return np.array([x0, y0, x1, y1])


def is_mirrored(example: Example) -> bool:
    """Red is the leftmost in the file."""
    return bool(example.target.boxes[0, 0] > example.target.boxes[2, 0])


def test_painted_boxes_are_where_the_targets_say_at_every_size_and_mirrored(tmp_path):
    data = painted(tmp_path)
    seen, errors = set(), []
    for seed in range(2):
        examples = Examples(data, SHORT_SIDES, 300, training=True, seed=seed)
        batch = collate([examples[draw, i] for draw in range(15) for i in range(len(SIZES))])
        for image, target, index, original in zip(
            batch.images, batch.targets, batch.indices, batch.original_sizes, strict=True
        ):
            _, height, width = image.shape
            assert original == SIZES[index]
            assert target.boxes.dtype == torch.float32
            mirrored = bool(target.boxes[0, 0] > target.boxes[2, 0])
            seen.add((height, width, mirrored))
            exact = data.objects(index).boxes * np.tile([width / original[0], height / original[1]], 2)
            if mirrored:
                exact[:, [0, 2]] = width - exact[:, [2, 0]]
            np.testing.assert_allclose(target.boxes.numpy(), exact, atol=1e-3)
            for box, label in zip(target.boxes.numpy(), target.labels.tolist(), strict=True):
                errors.append(np.abs(bounds(image[label].numpy() / 255) - box).max())
    assert len(seen) > 30, "sizes and both directions have occurred"
    assert np.max(errors) < 0.5
    assert np.mean(errors) < 0.05, "no shift of a part of a pixel"


def test_a_ramp_says_where_a_box_is_from(tmp_path):
    """Boxes between pixels: the colours at a box's corners tell the place in the original picture."""
    width, height = 100, 75
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width) * 2.5, np.arange(height)[:, None] * 2.5  # x, y of centres − 0.5
    items = [{"category_id": 0, "bbox": box} for box in ([10.3, 20.7, 40.4, 30.2], [60.5, 5.25, 31.1, 60.6])]
    examples = Examples(coco_set(tmp_path, [(pixels, items)]), (60, 75, 133, 310), training=True)
    for draw in range(12):
        example = examples[draw, 0]
        red, green = example.image[0].double().mean(dim=0).numpy(), example.image[1].double().mean(dim=1).numpy()
        for box, item in zip(example.target.boxes.numpy(), items, strict=True):
            x, y, w, h = item["bbox"]
            across = np.interp(box[[0, 2]], np.arange(len(red)) + 0.5, red) / 2.5 + 0.5
            down = np.interp(box[[1, 3]], np.arange(len(green)) + 0.5, green) / 2.5 + 0.5
            np.testing.assert_allclose(sorted(across), [x, x + w], atol=0.4)
            np.testing.assert_allclose(down, [y, y + h], atol=0.4)


def test_to_original_inverts_the_resizing(tmp_path):
    data = painted(tmp_path)
    examples = Examples(data, [77], 150, training=False)
    for i in range(len(SIZES)):
        example = examples[0, i]
        height, width = example.image.shape[1:]
        back = to_original(example.target.boxes, (width, height), example.original_size)
        np.testing.assert_allclose(back.numpy(), data.objects(i).boxes, atol=1e-3)
        assert not is_mirrored(example)


def test_masks_follow_the_picture(tmp_path):
    data = painted(tmp_path)
    examples = Examples(data, SHORT_SIDES, 300, training=True, masks=True)
    for draw in range(6):
        for i in range(len(SIZES)):
            example = examples[draw, i]
            assert example.target.masks.shape == (3, *example.image.shape[1:])
            for mask, label in zip(example.target.masks, example.target.labels.tolist(), strict=True):
                np.testing.assert_array_equal(mask.numpy(), example.image[label].numpy() >= 128)


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
        found = [Examples(data, SHORT_SIDES, training=True, seed=seed)[draw, i] for i in range(len(SIZES))]
        return [(tuple(e.image.shape), is_mirrored(e)) for e in found]

    assert drawn(1, 4) == drawn(1, 4)
    assert len({str(drawn(seed, draw)) for seed in range(3) for draw in range(3)}) == 9
    examples = Examples(data, SHORT_SIDES, training=True)
    many = [examples[draw, 1] for draw in range(200)]
    shorts = [e.image.shape[1] for e in many]
    assert set(shorts) == set(SHORT_SIDES)
    assert 70 < sum(is_mirrored(e) for e in many) < 130
    assert min(shorts.count(side) for side in SHORT_SIDES) > 10


def test_crowds_are_no_targets(tmp_path):
    data = painted(tmp_path, crowd=True)
    assert len(data.objects(0)) == 4
    for training in (True, False):
        example = Examples(data, [40], training=training, masks=True)[0, 0]
        assert example.target.labels.tolist() == [0, 1, 2]
        assert len(example.target.masks) == 3


def test_a_damaged_file_is_replaced_in_training_and_an_error_in_testing(tmp_path):
    data = painted(tmp_path)
    (tmp_path / "val" / "1.png").write_bytes(b"\x89PNG")
    examples = Examples(data, [40], training=True)
    batch = collate([examples[0, 1], examples[0, 0]])
    assert batch.indices == [2, 0]
    assert len(batch.undecodable) == 1
    assert "1.png" in next(iter(batch.undecodable))
    with pytest.raises(ValueError, match=r"1\.png: .*in testing every picture counts"):
        Examples(data, [40], training=False)[0, 1]


def test_wrong_use_is_said(tmp_path):
    data = painted(tmp_path)
    with pytest.raises(ValueError, match="give one short side"):
        Examples(data, [40, 50], training=False)
    for sides, longest in (([], 10), ([0], 10), ([10], 0)):
        with pytest.raises(ValueError, match="1 pixel or more"):
            Examples(data, sides, longest, training=True)
    with pytest.raises(ValueError, match="objects without outline, and a mask head needs them"):
        Examples(painted(tmp_path / "boxes", outlines=False), [40], training=True, masks=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_gives_the_batches_of_the_order(tmp_path, workers):
    data = painted(tmp_path)
    examples = Examples(data, SHORT_SIDES, training=True, seed=5)
    order = TrainingOrder(data.trainable(), data.landscape(), 3, 4, seed=5)
    loaded = list(make_loader(examples, order, workers, torch.device("cpu")))
    assert [b.indices for b in loaded] == [[i for _, i in batch] for batch in order]
    for batch, items in zip(loaded, order, strict=True):
        for image, target, item in zip(batch.images, batch.targets, items, strict=True):
            assert torch.equal(image, examples[item].image)
            assert torch.equal(target.boxes, examples[item].target.boxes)
    moved = loaded[0].to(torch.device("cpu"))
    assert torch.equal(moved.images[0], loaded[0].images[0])
    tested = make_loader(Examples(data, [40], training=False), evaluation_order(4, 3), workers, torch.device("cpu"))
    assert [b.indices for b in tested] == [[0, 1, 2], [3]]


@pytest.mark.parametrize("name", ["bccd-voc", "coco128"])
def test_real_pictures(shared_data, name):
    data = open_detection_data([str(shared_data(name))])
    examples = Examples(data, range(480, 801, 32), training=True)
    for i in range(0, 60, 12):
        example = examples[0, i]
        _, height, width = example.image.shape
        assert min(height, width) in range(480, 801, 32) or max(height, width) == 1333
        boxes = example.target.boxes
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= width + 1e-3).all()
        assert (boxes[:, 3] <= height + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
