"""plrc.analysis.retrieval: patches cover an image, answers are those of a plain loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from plrc.analysis.features import FeatureMap
from plrc.analysis.retrieval import Index, patch_at, patches, principal


def map_of(h, w, channels=3, seed=0):
    features = torch.randn(channels, h, w, generator=torch.Generator().manual_seed(seed))
    return FeatureMap(features, (w * 8 - 5, h * 8 - 3), (w * 8 - 5, h * 8 - 3), 8, "c3")  # the map reaches beyond it


@pytest.mark.parametrize(("shape", "side"), [((8, 8), 1), ((16, 16), 2), ((28, 42), 5), ((1, 70), 2), ((7, 10), 2)])
def test_patches_are_means_of_blocks_that_cover_the_image(shape, side):
    fmap = map_of(*shape)
    (h, w), extent = shape, fmap.extent.numpy()
    features, boxes = patches(fmap)
    expected, covered = [fmap.features.mean(dim=(1, 2))], np.zeros(shape)
    for y in range(0, h, side):
        for x in range(0, w, side):
            expected.append(fmap.features[:, y : y + side, x : x + side].mean(dim=(1, 2)))
            covered[y : y + side, x : x + side] += 1
            box = np.array([x / w, y / h, min(x + side, w) / w, min(y + side, h) / h]) * np.tile(extent, 2)
            assert np.allclose(boxes[len(expected) - 1], box.clip(max=1), atol=1e-6)
    assert (covered == 1).all()
    assert len(features) == len(boxes) == len(expected) <= 65
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert torch.allclose(features, F.normalize(torch.stack(expected), dim=1), atol=1e-6)


def test_the_patch_around_the_middle_of_a_patch_is_that_patch():
    fmap = map_of(16, 24)
    features, boxes = patches(fmap)
    for feature, (x0, y0, x1, y1) in zip(features[1:], boxes[1:].tolist(), strict=True):
        if x1 < 1 and y1 < 1:  # those at the border are cut off by the image
            found, box = patch_at(fmap, torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2]))
            assert torch.allclose(F.normalize(found, dim=0), feature, atol=1e-6)
            assert torch.allclose(box, torch.tensor([x0, y0, x1, y1]), atol=1e-6)
    corner = fmap.features[:, :3, 21:].mean(dim=(1, 2))
    assert torch.allclose(patch_at(fmap, torch.tensor([1.0, 0.0]))[0], corner, atol=1e-6)


def index_of(n=40, channels=5, seed=0):
    """Of n images with 2 to 6 rows; image 7 has the pixels of image 3; labels are a or b, in two parts."""
    rng, parts, number = np.random.default_rng(seed), [], 0
    for names, count in ((["a", "b"], n // 2), (["b"], n - n // 2)):
        image = np.repeat(np.arange(number, number + count), rng.integers(2, 7, count)).astype(np.int32)
        number += count
        features = F.normalize(torch.from_numpy(rng.standard_normal((len(image), channels))), dim=1).half().numpy()
        pixels = np.where(image == 7, 3, image).astype(np.uint64) + np.uint64(100)
        part = {"features": features, "image": image, "pixels": pixels, "names": np.array(names)}
        part |= {
            "box": rng.random((len(image), 4)).astype(np.float32),
            "label": rng.integers(0, len(names), len(image)),
        }
        parts.append(part | {"axes": np.zeros(0, np.float32), "lost": np.array(0.0)})
    return Index.of(parts), parts


@pytest.mark.parametrize("whole", [False, True])
def test_answers_are_those_of_a_plain_loop(whole):
    index, parts = index_of()
    question = torch.randn(5, generator=torch.Generator().manual_seed(1))
    features = np.concatenate([part["features"] for part in parts]).astype(np.float64)
    labels = np.concatenate([part["names"][part["label"]] for part in parts])
    cosines = features @ (question / question.norm()).double().numpy()
    best, shares, seen = {}, [], set()
    for row, (image, pixels) in enumerate(zip(index.image.tolist(), index.pixels.tolist(), strict=True)):
        first = image not in seen
        seen.add(image)
        if first == whole and pixels != 112 and cosines[row] > best.get(pixels, (-2, 0))[0]:
            best[pixels] = cosines[row], row
    for image in set(index.image.tolist()) - {12}:
        rows = np.flatnonzero(index.image == image)
        shares.append((labels[rows[:1] if whole else rows[1:]] == "b").mean())
    expected = sorted(best.values(), reverse=True)
    assert index.nearest(question, 9, whole, without=112)[0].tolist() == [row for _, row in expected[:9]]
    rows, found = index.nearest(question, 100, whole, without=112)
    assert rows.tolist() == [row for _, row in expected]
    assert np.allclose(found, [cosine for cosine, _ in expected], atol=1e-5)
    assert index.chance(index.names.index("b"), whole, without=112) == pytest.approx(np.mean(shares))
    assert len(index.nearest(question, 100, whole)[0]) == 39  # of two with the same pixels one


def test_of_wide_features_the_principal_axes_are_kept():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(300, 120, generator=generator))[0]
    features = F.normalize(torch.randn(500, 120, generator=generator) @ basis.T, dim=1)
    axes, lost = principal(features)
    assert axes.shape == (300, 128)
    assert lost == pytest.approx(0, abs=1e-5)
    assert torch.allclose((features @ axes) @ (features @ axes).T, features @ features.T, atol=1e-4)
    features = torch.randn(500, 300, generator=generator)
    squares = torch.linalg.svdvals(features).square()
    assert principal(features)[1] == pytest.approx(float(squares[128:].sum() / squares.sum()), abs=1e-4)
