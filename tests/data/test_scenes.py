"""Embedded scenes: the same pixels everywhere, masks that fit the image, variety, a bounded cache."""

import hashlib
import multiprocessing
import pickle
from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, zoom

from plrc.data import scenes
from plrc.data.scenes import Scenes, compose
from plrc.data.sources import Source

CLASSES = [
    w.split() for w in ("book apple star book star leaf", "flower butterfly star", "book butterfly fish mushroom")
]
PIXELS = [[2000, 2141, 1520, 1786, 1499, 153], [550, 707, 1432], [2723, 108, 462, 824]]
MEANS = [[136.54, 116.28, 113.95], [141.14, 131.66, 117.01], [124.09, 116.67, 118.07]]


def digest(source: Scenes, i: int) -> str:
    return hashlib.sha256(source.load(i).tobytes()).hexdigest()


@pytest.mark.parametrize("size", [(160, 128), (96, 96), (90, 201), (400, 100)])
def test_image_and_masks_have_the_stated_size(size):
    source: Source = Scenes(3, size=size)  # which mypy checks
    assert [source.name(i) for i in range(len(source))] == ["scene-000000", "scene-000001", "scene-000002"]
    for i in range(3):
        image = source.load(i, at_least=(20, 10))
        assert (source.size(i), image.size, image.mode) == (size, size, "RGB")
        assert source.annotation(i).masks.shape[1:] == size[::-1]


def test_no_scene_beyond_the_last_and_no_senseless_ones():
    for method, i in product(("name", "size", "load", "annotation"), (-1, 5)):
        with pytest.raises(IndexError, match=f"scene {i} of 5"):
            getattr(Scenes(5), method)(i)
    for wrong in ({"n": 0}, {"size": (16, 128)}, {"seed": -1}):
        with pytest.raises(ValueError, match="Scenes need"):
            Scenes(**wrong)


def test_the_first_scenes_are_those_of_every_release():
    """What lies where, to the pixel; colours may differ by a rounded byte on another processor."""
    found = [Scenes(3, seed=7).annotation(i) for i in range(3)]
    assert [a.classes for a in found] == CLASSES
    assert [a.masks.sum(axis=(1, 2)).tolist() for a in found] == PIXELS
    means = [np.asarray(Scenes(3, seed=7).load(i)).mean(axis=(0, 1)).tolist() for i in range(3)]
    np.testing.assert_allclose(means, MEANS, atol=0.05)


def test_pixels_depend_on_seed_and_index_alone():
    """Neither on the order, nor the cache, nor the process: another one starts bare, with textures of its own."""
    source = Scenes(30, size=(64, 48), seed=5)
    source.annotation(3)
    here = [digest(source, i) for i in range(6)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.starmap(digest, [(Scenes(500, size=(64, 48), seed=5), i) for i in reversed(range(6))]) == here[::-1]
    assert [digest(source, i) for i in range(6)] == here  # from the cache
    assert len(set(here) | {digest(Scenes(8, size=(64, 48), seed=1), i) for i in range(6)}) == 12


def test_a_larger_image_shows_the_same_scene():
    small, large = Scenes(12), Scenes(12, size=(480, 384))
    for i in range(12):
        a, b = small.annotation(i), large.annotation(i)
        assert a.classes == b.classes
        for coarse, fine in zip(a.masks, b.masks, strict=True):
            shrunk = fine[1::3, 1::3]  # the centre of every 3 x 3 pixels
            assert (coarse & shrunk).sum() > 0.95 * (coarse | shrunk).sum()
        thirds = np.asarray(large.load(i), np.float32).reshape(128, 3, 160, 3, 3).mean((1, 3))
        near = [zoom(pixels, (0.125, 0.125, 1), order=1) for pixels in (thirds, np.asarray(small.load(i), float))]
        assert np.abs(near[0] - near[1]).mean() < 12


def test_masks_are_disjoint_and_boxes_tight():
    source = Scenes(40, size=(160, 128))
    for i in range(40):
        found = source.annotation(i)
        assert (found.masks.dtype, found.boxes.dtype) == (bool, np.float32)
        assert 2 <= len(found.masks) == len(found.boxes) == len(found.classes) <= 6
        assert set(found.classes) <= set(Scenes.CLASSES)
        assert found.masks.sum(0).max() == 1
        for mask, box in zip(found.masks, found.boxes, strict=True):
            x0, y0, x1, y1 = np.rint(box * [160, 128, 160, 128]).astype(int)
            np.testing.assert_allclose(box * [160, 128, 160, 128], [x0, y0, x1, y1], atol=1e-4)
            inside = mask[y0:y1, x0:x1]
            assert inside.sum() == mask.sum()
            assert all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@pytest.mark.parametrize("i", range(6))
def test_masks_show_where_each_object_changes_the_light(i, monkeypatch):
    """Draw the scene with and without painting one object: the pixels that differ are its mask, to an edge's width."""
    monkeypatch.setattr(scenes, "_develop", lambda rng, canvas: canvas)  # exposure would spread over all pixels
    paint, source = scenes._paint_thing, Scenes(10)
    whole = source._draw(i)
    for k, mask in enumerate(source.annotation(i).masks):
        turn = iter(range(99))

        def all_but_one(*args: object, turn=turn, k=k) -> None:
            if next(turn) != k:
                paint(*args)

        monkeypatch.setattr(scenes, "_paint_thing", all_but_one)
        changed = np.abs(source._draw(i) - whole).max(0) > 1e-3
        assert (changed & mask).sum() > 0.97 * mask.sum()
        assert (changed & ~binary_dilation(mask, iterations=2)).sum() < 0.03 * mask.sum()


def test_objects_vary_in_class_number_size_and_overlap():
    composed = [compose(0, i, (160, 128)).things for i in range(60)]
    things = [thing for listed in composed for thing in listed]
    shares = [thing.visible.sum() / (thing.d < 0).sum() for thing in things]
    assert min(shares) >= 0.25, "what is hardly seen is left out"
    assert np.mean(np.array(shares) < 0.9) > 0.1
    assert set(Counter(thing.kind for thing in things)) == set(Scenes.CLASSES)
    assert {len(listed) for listed in composed} == {2, 3, 4, 5, 6}
    assert 0.075 < min(thing.radius for thing in things) < 0.1 < 0.25 < max(thing.radius for thing in things) < 0.305


def test_cache_is_bounded_and_spares_the_second_drawing(monkeypatch):
    source = Scenes(10, size=(160, 128), cache_mb=0.2)  # room for three images of 61 440 bytes
    drawn: list[int] = []
    draw = Scenes._draw
    monkeypatch.setattr(Scenes, "_draw", lambda self, i: drawn.append(i) or draw(self, i))
    for _ in range(2):
        for i in range(10):
            source.load(i)
    assert drawn == [*range(10), *range(3, 10)]
    assert sum(pixels.nbytes for pixels in source._cache.values()) <= 0.2e6


def test_an_image_painted_over_and_a_pickle_do_not_spoil_the_cache():
    source = Scenes(50, size=(96, 64), seed=3, cache_mb=9)
    before = digest(source, 7)
    source.load(7).paste((255, 0, 0), (0, 0, 80, 60))
    assert digest(source, 7) == before
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 1000
    assert (len(again), again.size(0), digest(again, 7)) == (50, (96, 64), before)
