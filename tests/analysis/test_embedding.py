"""plrc.analysis.embedding: pictures keep neighbours, colours keep still, the same features give the same bits."""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor

from plrc.analysis.embedding import (
    assign,
    cluster_items,
    gather_images,
    gather_points,
    gather_regions,
    kmeans,
    label_purity,
    load_basis,
    neighbour_embedding,
    neighbours_kept,
    pca_basis,
    project,
    save_basis,
    segments,
    to_rgb,
    tsne,
)
from plrc.analysis.embedding.rows import one_thread
from plrc.analysis.features import FeatureMap


def clusters(count: int = 3, each: int = 20, channels: int = 16, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Features around ``count`` directions, and which each is around."""
    rng = np.random.default_rng(0)
    centres = np.eye(channels)[:count]
    labels = np.repeat(np.arange(count), each)
    noise = spread * rng.standard_normal((count * each, channels))
    lengths = rng.uniform(0.5, 20, (count * each, 1))  # must not matter
    return ((centres[labels] + noise) * lengths).astype(np.float32), labels


def fmap_of(features: Tensor, stride: int = 8, layer: str = "c3") -> FeatureMap:
    _, h, w = features.shape
    size = (w * stride, h * stride)
    return FeatureMap(features.float(), size, size, stride, layer)


def textured(count: int, seed: int = 0, channels: int = 12) -> list[FeatureMap]:
    """Maps whose cells vary by channel 0 most, then by channel 1, and so on, around the direction of the last."""
    generator = torch.Generator().manual_seed(seed)
    strengths = (0.5 ** torch.arange(channels))[:, None, None]
    maps = [torch.randn(channels, 6, 7, generator=generator) * strengths for _ in range(count)]
    return [fmap_of(m + 4 * torch.eye(channels)[-1][:, None, None]) for m in maps]


# ---------------------------------------------------------------------------------------------------------------- t-SNE


def test_clusters_that_are_apart_stay_apart():
    features, labels = clusters()
    picture = tsne(features, perplexity=10)
    assert picture.coordinates.shape == (60, 2)
    assert picture.coordinates.dtype == np.float32
    assert "scikit-learn" in picture.method
    distances = np.linalg.norm(picture.coordinates[:, None] - picture.coordinates, axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argsort(axis=1)[:, :10]
    assert (labels[nearest] == labels[:, None]).all()


def test_same_seed_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(neighbour_embedding, "_STEPS", 300)  # two threads on a busy machine are slow
    features, _ = clusters()
    pictures = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            pictures.append(tsne(features, seed=3).coordinates)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], tsne(features, seed=4).coordinates)


def test_linear_algebra_runs_on_one_thread():
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert threads() == {1}
        assert 2 in threads()


def test_the_length_of_features_does_not_matter_to_tsne():
    features, _ = clusters(each=5)
    np.testing.assert_array_equal(tsne(features).coordinates, tsne(features * np.float32(2)).coordinates)


@pytest.mark.parametrize(("n", "asked", "used"), [(4, 30, 1), (31, 30, 10), (31, 5, 5)])
def test_perplexity_is_at_most_a_third_of_the_others(n, asked, used):
    features = np.random.default_rng(0).standard_normal((n, 6))
    picture = tsne(features, perplexity=asked)
    assert picture.perplexity == used
    assert np.isfinite(picture.coordinates).all()


def test_features_on_a_line_part_into_two_dimensions():
    angles = np.linspace(0, 0.5, 30)
    picture = tsne(np.stack((np.cos(angles), np.sin(angles)), axis=1)[:, :2].repeat(2, axis=0)).coordinates
    assert picture.std(axis=0).min() > 0.01 * picture.std(axis=0).max()


def test_progress_of_tsne_and_what_others_print(capsys):
    features, _ = clusters(each=5)
    steps = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))
        if done == 100:
            print("still here")

    picture = tsne(features, progress=progress)
    assert capsys.readouterr().out == "still here\n"
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert len(steps) > 5
    assert steps[-1] == (1000, 1000)
    np.testing.assert_array_equal(picture.coordinates, tsne(features).coordinates)


def test_progress_can_end_the_work():
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tsne(clusters(each=5)[0], progress=stop)


@pytest.mark.skipif(importlib.util.find_spec("openTSNE") is None, reason="openTSNE is not installed (extra 'tsne')")
def test_large_sets_go_to_opentsne(monkeypatch):
    monkeypatch.setattr(neighbour_embedding, "LARGE", 10)
    monkeypatch.setattr(neighbour_embedding, "_EARLY_STEPS", 50)
    monkeypatch.setattr(neighbour_embedding, "_OPEN_TSNE_STEPS", 50)
    features, _ = clusters(each=350, spread=0.3)  # from 1000 on its approximate neighbours are approximate
    steps, pictures = [], []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        pictures.append(tsne(features, perplexity=5, progress=lambda done, total: steps.append((done, total))))
    assert "openTSNE" in pictures[0].method
    assert steps == [(50, 100), (100, 100)] * 2
    np.testing.assert_array_equal(pictures[0].coordinates, pictures[1].coordinates)
    assert neighbours_kept(features, pictures[0].coordinates) > 0.1  # a random picture keeps 0.01


def test_large_sets_without_opentsne_go_to_scikit_learn(monkeypatch):
    monkeypatch.setattr(neighbour_embedding, "LARGE", 10)
    monkeypatch.setattr(neighbour_embedding, "find_spec", lambda name: None)
    assert "scikit-learn" in tsne(clusters(each=5)[0]).method


BAD_FEATURES = [
    (np.ones((10, 4)), "all 10 features are the same"),
    (np.zeros((10, 4)), "all 10 features are the same"),
    (np.arange(1, 11)[:, None] * np.ones(4), "the same, up to their length"),
    (np.full((10, 4), 1e300) * np.eye(10, 4), "not finite"),
    (np.where(np.eye(10, 4), np.nan, 1.0), "4 of 10 features are not finite"),
    (np.zeros((0, 4)), "a row each"),
    (np.zeros(7), "a row each"),
]


@pytest.mark.parametrize(("features", "message"), BAD_FEATURES)
@pytest.mark.parametrize("function", [tsne, pca_basis])
def test_features_that_say_nothing_are_named(function, features, message):
    with pytest.raises(ValueError, match=message):
        function(features)


def test_too_few_features_and_too_small_a_perplexity():
    with pytest.raises(ValueError, match="4 features or more, not 3"):
        tsne(np.eye(3))
    with pytest.raises(ValueError, match="perplexity of 1 or more, not 0"):
        tsne(np.eye(9), perplexity=0)
    with pytest.raises(ValueError, match="perplexity of 1 or more, not nan"):
        tsne(np.eye(9), perplexity=math.nan)


# -------------------------------------------------------------------------------------------------------------- numbers


def test_neighbours_kept_against_a_loop():
    rng = np.random.default_rng(0)
    features, coordinates = rng.standard_normal((25, 5)), rng.standard_normal((25, 2)) + 1000
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    kept = []
    for i in range(25):
        others = [j for j in range(25) if j != i]
        by_cosine = sorted(others, key=lambda j: -unit[i] @ unit[j])[:4]
        there = sorted(others, key=lambda j: np.linalg.norm(coordinates[i] - coordinates[j]))[:4]
        kept.append(len(set(by_cosine) & set(there)) / 4)
    assert neighbours_kept(features, coordinates, k=4) == pytest.approx(np.mean(kept))
    assert neighbours_kept(features, unit, k=4) == 1.0


def test_label_purity_leaves_out_the_own_image(monkeypatch):
    # Two images, each with two things; the nearest of each item is in its own image, whatever its label.
    angles = np.deg2rad([0, 1, 40, 41, 90, 91, 130, 131])
    features = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    labels = np.array(["a", "b", "a", "b", "b", "b", "a", "a"])
    image = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    plain = label_purity(features, labels, k=1)
    assert plain.values.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert plain.mean == 0.5
    assert plain.chance == pytest.approx(3 / 7)  # four of each label: 3 of the 7 others
    monkeypatch.setattr("plrc.analysis.embedding.quality._AT_ONCE", 16)  # two rows at a time
    other = label_purity(features, labels, image, k=1)
    assert other.values.tolist() == [1, 0, 0, 1, 0, 0, 0, 0]
    # Image 0 has a b b b, image 1 a b a a: of the four candidates an a of image 0 finds three, and so on.
    assert other.chance == pytest.approx(np.mean([3 / 4, 1 / 4, 1 / 4, 3 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4]))


def test_label_purity_where_other_images_have_fewer_items_than_k():
    features = np.eye(4)
    purity = label_purity(features, np.array([1, 1, 1, 2]), image=np.array([0, 0, 0, 1]), k=2)
    assert purity.values.tolist() == [0, 0, 0, 0]
    assert purity.chance == 0
    with pytest.raises(ValueError, match="all items are of one image"):
        label_purity(features, np.arange(4), image=np.zeros(4), k=2)


@pytest.mark.parametrize("k", [0, 5])
def test_neighbours_must_exist(k):
    with pytest.raises(ValueError, match=f"5 items have 1 to 4 neighbours, not {k}"):
        neighbours_kept(np.eye(5), np.eye(5)[:, :2], k)
    with pytest.raises(ValueError, match="5 features need a label"):
        label_purity(np.eye(5), np.zeros(4))
    with pytest.raises(ValueError, match="5 features do not have 4 coordinates"):
        neighbours_kept(np.eye(5), np.zeros((4, 2)))


# ------------------------------------------------------------------------------------------------------------------ PCA


def test_principal_components_by_hand():
    # Unit vectors in the planes around (1, 1, 0): they vary along z most, then along (1, -1, 0).
    a, b = 0.3, 0.1
    main = np.array([1, 1, 0]) / math.sqrt(2)
    side = np.array([1, -1, 0]) / math.sqrt(2)
    up = np.array([0, 0, 1])
    features = [math.cos(a) * main + s * math.sin(a) * up for s in (1, -1)]
    features += [math.cos(b) * main + s * math.sin(b) * side for s in (1, -1)]
    basis = pca_basis(np.array(features) * [[1], [2], [3], [4]], k=2)
    mean = main * (math.cos(a) + math.cos(b)) / 2
    np.testing.assert_allclose(basis.mean, mean, atol=1e-6)
    np.testing.assert_allclose(basis.components[0], up, atol=1e-6)  # and not its opposite: its sum is positive
    np.testing.assert_allclose(np.abs(basis.components[1]), np.abs(side), atol=1e-5)
    along = ((math.cos(a) - math.cos(b)) / 2) ** 2
    total = math.sin(a) ** 2 / 2 + math.sin(b) ** 2 / 2 + along
    np.testing.assert_allclose(basis.explained, [math.sin(a) ** 2 / 2 / total, math.sin(b) ** 2 / 2 / total], rtol=1e-4)
    values = project(np.array(features), basis)
    np.testing.assert_allclose(values[:, 0], [math.sin(a), -math.sin(a), 0, 0], atol=1e-6)


def test_a_basis_of_maps_is_that_of_their_cells_and_their_order_is_nothing():
    maps = textured(5)
    cells = torch.cat([m.features.flatten(1).T for m in maps])
    of_maps, of_cells, reversed_ = pca_basis(maps), pca_basis(cells), pca_basis(maps[::-1])
    for name in ("mean", "components", "low", "high", "explained"):
        np.testing.assert_allclose(getattr(of_maps, name), getattr(of_cells, name), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(getattr(of_maps, name), getattr(reversed_, name), rtol=1e-4, atol=1e-6)
    assert of_maps.layer == "c3"
    assert (of_maps.components.sum(axis=1) >= 0).all()
    outside = [(project(m, of_maps) < of_maps.low) | (project(m, of_maps) > of_maps.high) for m in maps]
    assert np.concatenate(outside).mean(axis=0) == pytest.approx([0.02] * 3, abs=0.01)


def test_signs_stay_when_the_image_set_changes():
    maps = textured(30)
    rng = np.random.default_rng(0)
    for _ in range(10):
        part = pca_basis([maps[i] for i in rng.permutation(30)[:15]])
        assert (part.components[range(3), range(3)] > 0.95).all()  # near the first three channels, not their opposites


def test_a_stored_basis_gives_the_same_colours_alone_and_in_company(tmp_path):
    maps = textured(6)
    save_basis(pca_basis(maps, origin="demo/last", network="0123 key"), tmp_path / "colours.basis")
    basis = load_basis(tmp_path / "colours.basis")
    assert (basis.layer, basis.origin, basis.network) == ("c3", "demo/last", "0123 key")
    assert basis.file == tmp_path / "colours.basis"
    for fmap in maps:
        colours = to_rgb(fmap, basis)
        assert colours.shape == (6, 7, 3)
        assert colours.dtype == np.uint8
        np.testing.assert_array_equal(colours, to_rgb(fmap, pca_basis(maps)))
        np.testing.assert_array_equal(colours[:, 2:5], to_rgb(fmap_of(fmap.features[:, :, 2:5]), basis))


def test_colours_go_from_low_to_high():
    maps = textured(1)
    basis = pca_basis(maps)
    values, colours = project(maps[0], basis), to_rgb(maps[0], basis).reshape(-1, 3)
    for c in range(3):
        np.testing.assert_array_equal(
            np.argsort(values[:, c], kind="stable"), np.lexsort((values[:, c], colours[:, c]))
        )
        inside = (values[:, c] > basis.low[c]) & (values[:, c] < basis.high[c])
        expected = (values[inside, c] - basis.low[c]) / (basis.high[c] - basis.low[c]) * 255
        np.testing.assert_allclose(colours[inside, c], expected, atol=0.51)
        assert (colours[values[:, c] <= basis.low[c], c] == 0).all()
        assert (colours[values[:, c] >= basis.high[c], c] == 255).all()
    assert colours.min() == 0
    assert colours.max() == 255


def test_a_component_of_nothing_is_grey_and_not_noise():
    features = torch.zeros(6, 4, 5)
    features[:3] = torch.eye(3)[torch.arange(20) % 3].T.reshape(3, 4, 5)  # three kinds of cell: a plane, two components
    fmap = fmap_of(features)
    colours = to_rgb(fmap, pca_basis([fmap]))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 3
    assert set(colours[..., 2].flat) <= {127, 128}


def test_a_basis_that_does_not_fit_is_named(tmp_path):
    maps = textured(2)
    file = tmp_path / "b.npz"
    save_basis(pca_basis(maps, origin="demo"), file)
    basis = load_basis(file)
    with pytest.raises(ValueError, match=r"b\.npz \(3 components of 12 channels, demo c3\) .* layer c5 of 12"):
        to_rgb(replace(maps[0], layer="c5"), basis)
    with pytest.raises(ValueError, match=r"b\.npz .* features of 5 channels"):
        project(np.ones((2, 5)), basis)
    with pytest.raises(ValueError, match="no three components"):
        to_rgb(maps[0], pca_basis(maps, k=2))
    with pytest.raises(ValueError, match="at most 2 principal components, not 3"):
        pca_basis(np.eye(3))
    with pytest.raises(ValueError, match=r"layers c3 \(12 channels\) and c4 \(12 channels\)"):
        pca_basis([maps[0], replace(maps[1], layer="c4")])
    with pytest.raises(ValueError, match="at least one image"):
        pca_basis([])


class Touch:
    """A pickle that runs code when it is read."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self):
        return open, (self.file, "w")


def test_files_that_are_no_basis_are_named_and_not_executed(tmp_path):
    good, bad, mark = tmp_path / "good.npz", tmp_path / "bad.npz", tmp_path / "executed"
    with pytest.raises(
        ValueError, match=r"no PCA basis .*missing\.npz: plrc embed .*--keep-basis .*missing\.npz makes one"
    ):
        load_basis(tmp_path / "missing.npz")
    save_basis(pca_basis(textured(1)), good)
    with np.load(good) as stored:
        arrays = dict(stored)

    def check() -> None:
        with pytest.raises(ValueError, match=r"bad\.npz is no PCA basis"):
            load_basis(bad)

    for content in (b"", b"junk", good.read_bytes()[:-200], pickle.dumps(Touch(str(mark)))):
        bad.write_bytes(content)
        check()
    np.savez(bad, **{**arrays, "mean": np.array([Touch(str(mark))], dtype=object)})
    check()
    np.savez(bad, **{**arrays, "low": arrays["low"][:2]})
    check()
    del arrays["high"]
    np.savez(bad, **arrays)
    check()
    with bad.open("wb") as stream:
        np.save(stream, np.zeros(3))
    check()
    assert not mark.exists()


# ------------------------------------------------------------------------------------------------------------- segments


def angles_map(*degrees: float) -> FeatureMap:
    angles = torch.deg2rad(torch.tensor(degrees))
    lengths = torch.arange(1, len(degrees) + 1)  # must not matter
    return fmap_of((torch.stack((angles.cos(), angles.sin())) * lengths)[:, None])


def test_segments_by_hand():
    first, second = angles_map(80, 0, 100), angles_map(90, 10)
    found = segments([first, second], k=2)
    assert [m.tolist() for m in found.labels] == [[[0, 1, 0]], [[0, 1]]]  # the larger segment is 0
    five = math.cos(math.radians(5))
    np.testing.assert_allclose(found.centroids, [[0, 1], [five, math.sin(math.radians(5))]], atol=1e-6)
    assert found.cohesion == pytest.approx((2 * math.cos(math.radians(10)) + 1 + 2 * five) / 5)
    assert assign(angles_map(44, 50), found.centroids).tolist() == [[1, 0]]  # the border is at 47.5°


def test_segments_are_the_clusters_and_the_same_bits_for_any_number_of_threads(monkeypatch):
    features, labels = clusters(count=4, each=40)
    keep = np.concatenate([np.flatnonzero(labels == c)[:size] for c, size in enumerate((20, 38, 10, 28))])
    keep = np.random.default_rng(1).permutation(keep)
    maps = [fmap_of(torch.from_numpy(part).T.reshape(16, 4, 8)) for part in np.split(features[keep], 3)]
    monkeypatch.setattr(kmeans, "MAX_CELLS", 60)  # centroids from a part of the cells
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(segments(maps, k=4, seed=5))
    found = np.concatenate([m.ravel() for m in results[0].labels])
    pairs = set(zip(found.tolist(), labels[keep].tolist(), strict=True))
    assert len(pairs) == 4
    assert np.bincount(found).tolist() == [38, 28, 20, 10]
    np.testing.assert_array_equal(results[0].centroids, results[1].centroids)
    for fmap, label in zip(maps, results[1].labels, strict=True):
        np.testing.assert_array_equal(label, assign(fmap, results[0].centroids))
    for seed in range(6):  # other seeds find the same segments in another order, and name them by their size
        np.testing.assert_array_equal(np.concatenate([m.ravel() for m in segments(maps, 4, seed).labels]), found)


def test_clusters_of_items_are_found_and_ordered_by_size():
    rng = np.random.default_rng(0)
    centres = np.eye(8)[:3]
    labels = rng.permutation(np.repeat([0, 1, 2], [5, 40, 20]))
    features = centres[labels] * rng.uniform(0.1, 9, (65, 1)) + rng.normal(0, 0.005, (65, 8))  # length says nothing
    found, cohesion = cluster_items(features, 3)
    assert np.array_equal(found, np.array([2, 0, 1])[labels])
    assert 0.9 < cohesion <= 1
    assert np.array_equal(found, cluster_items(features, 3)[0])
    with pytest.raises(ValueError, match="65 items fall into 1 to 65 clusters, not 66"):
        cluster_items(features, 66)


def test_progress_of_segments():
    steps = []
    segments([angles_map(0, 90, 80)], k=2, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_empty_segment_takes_the_worst_cell():
    rows = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    start = np.array([[1, 0], [-1, 0]], dtype=np.float32)  # nothing is near the second
    centroids, _ = kmeans.spherical_kmeans(rows, start)
    np.testing.assert_allclose(centroids[1], [0, 1], atol=1e-6)


def test_segments_that_cannot_be():
    maps = [angles_map(0, 0, 90)]
    with pytest.raises(ValueError, match="fewer than 3 features are different"):
        segments(maps, k=3)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"1 to 3 segments, not {k}"):
            segments(maps, k=k)
    with pytest.raises(ValueError, match="at least one image"):
        segments([], k=2)
    with pytest.raises(ValueError, match="layers c3"):
        segments([*maps, *textured(1)], k=2)
    with pytest.raises(ValueError, match="centroids of 2 channels do not fit layer c3, which has 12"):
        assign(textured(1)[0], np.eye(2, dtype=np.float32))


# ---------------------------------------------------------------------------------------------------------------- items


def coordinates_map(h: int, w: int, image: int = 0) -> FeatureMap:
    """Channels: x, y of the cell's centre, and the image's number."""
    fmap = fmap_of(torch.zeros(3, h, w))
    fmap.features[:2] = fmap.centres().permute(2, 0, 1)
    fmap.features[2] = image
    return fmap


def test_points_lie_where_their_features_are_from():
    raster = torch.arange(4).reshape(2, 2)
    items = gather_points((coordinates_map(4, 6, i) for i in range(3)), per_image=5, rasters=[raster] * 3)
    assert len(items) == 15
    np.testing.assert_array_equal(items.features[:, :2], items.point)
    np.testing.assert_array_equal(items.features[:, 2], items.image)
    assert items.image.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert len(np.unique(items.point[:5], axis=0)) == 5
    expected = (items.point[:, 0] > 0.5) + 2 * (items.point[:, 1] > 0.5)
    np.testing.assert_array_equal(items.region, expected)
    assert not np.array_equal(items.point[:5], items.point[5:10])
    alone = gather_points([coordinates_map(4, 6)], per_image=5)
    np.testing.assert_array_equal(alone.point, items.point[:5])
    assert (alone.region == -1).all()
    assert not np.array_equal(alone.point, gather_points([coordinates_map(4, 6)], 5, seed=1).point)
    for count, found in ((23, 23), (100, 24)):
        points = gather_points([coordinates_map(4, 6)], per_image=count).point
        assert len(points) == len(np.unique(points, axis=0)) == found


def test_points_are_not_drawn_beyond_the_image():
    fmap = FeatureMap(torch.rand(2, 2, 2), (12, 12), (12, 12), 8, "c3")  # the second cells' centres lie on the border
    np.testing.assert_allclose(gather_points([fmap]).point, [[1 / 3, 1 / 3]])


def test_regions_have_their_mean_feature_and_middle():
    raster = torch.tensor([[3, 3, -1], [7, 7, -1]])
    items = gather_regions(
        [coordinates_map(4, 6), coordinates_map(4, 6, 1)], [raster, raster[:1]], labels=["cat", "dog"]
    )
    assert items.kind == "regions"
    assert items.region.tolist() == [3, 7, 3]
    assert items.image.tolist() == [0, 0, 1]
    assert items.labels.tolist() == ["cat", "cat", "dog"]
    np.testing.assert_allclose(items.features, [[1 / 3, 1 / 4, 0], [1 / 3, 3 / 4, 0], [1 / 3, 1 / 2, 1]], atol=1e-6)
    assert (np.abs(items.point - items.features[:, :2]) < 0.2).all()


def test_images_have_their_mean_feature():
    items = gather_images([coordinates_map(4, 6), coordinates_map(2, 2, 1)], labels=["a", "b"])
    np.testing.assert_allclose(items.features, [[0.5, 0.5, 0], [0.5, 0.5, 1]], atol=1e-6)
    assert np.isnan(items.point).all()


def test_items_that_do_not_fit():
    maps = [coordinates_map(2, 2)] * 2
    with pytest.raises(ValueError, match="no image"):
        gather_images([])
    with pytest.raises(ValueError, match="more images than labels: 1"):
        gather_images(maps, labels=["a"])
    with pytest.raises(ValueError, match="2 images, but more rasters"):
        gather_regions(maps, [torch.zeros(1, 1, dtype=torch.long)] * 3)
    with pytest.raises(ValueError, match="take all from one layer"):
        gather_points([maps[0], replace(maps[1], layer="c4")])
    with pytest.raises(ValueError, match="1 point an image or more"):
        gather_points(maps, per_image=0)


def test_rasters_and_labels_are_asked_for_when_their_map_has_come():
    log = []

    def told(what: str, values: list) -> Iterator:
        for i, value in enumerate(values):
            log.append(f"{what} {i}")
            yield value

    def labeller(points: np.ndarray, regions: np.ndarray) -> list[str]:
        return [f"{region} at {x:.2f}" for (x, _), region in zip(points, regions, strict=True)]

    maps = told("map", [coordinates_map(2, 2, i) for i in range(2)])
    rasters = told("raster", [torch.tensor([[3, 5]]), torch.tensor([[4, -1]])])
    items = gather_regions(maps, rasters, told("labels", [labeller, "cat"]))
    assert log == ["map 0", "raster 0", "labels 0", "map 1", "raster 1", "labels 1"]
    assert items.labels.tolist() == ["3 at 0.25", "5 at 0.75", "cat"]
