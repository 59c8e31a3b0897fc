"""plrc.analysis.embedding: the plane keeps neighbours, colours keep still, the same features give the same bits."""

import math
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from plrc.analysis import embedding
from plrc.analysis.embedding import assign, gather, kmeans, label_purity, neighbours_kept, pca_basis, project, tsne
from plrc.analysis.features import FeatureMap
from tests.analysis.maps import blank, map_of
from tests.hostile import Payload

ARRAYS = ("mean", "components", "low", "high", "explained")


def clusters(count: int = 3, each: int = 20, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Features around ``count`` directions, and which each is around."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), each)
    noise = spread * rng.standard_normal((count * each, 16))
    lengths = rng.uniform(0.5, 20, (count * each, 1))  # must not matter
    return ((np.eye(16)[labels] + noise) * lengths).astype(np.float32), labels


def fmap_of(features: Tensor) -> FeatureMap:
    return map_of(features.float(), features.shape[2] * 8, features.shape[1] * 8, 8)


def textured(count: int) -> list[FeatureMap]:
    """Maps whose cells vary by channel 0 most, then by channel 1, and so on, around the direction of the last."""
    generator = torch.Generator().manual_seed(0)
    strengths = (0.5 ** torch.arange(12))[:, None, None]
    maps = [torch.randn(12, 6, 7, generator=generator) * strengths for _ in range(count)]
    return [fmap_of(m + 4 * torch.eye(12)[-1][:, None, None]) for m in maps]


def angles_map(*degrees: float) -> FeatureMap:
    angles = torch.deg2rad(torch.tensor(degrees))
    lengths = torch.arange(1, len(degrees) + 1)  # must not matter
    return fmap_of((torch.stack((angles.cos(), angles.sin())) * lengths)[:, None])


def test_clusters_that_are_apart_stay_apart_whatever_the_lengths():
    features, labels = clusters()
    coordinates, made = tsne(features, perplexity=10)
    assert (coordinates.shape, coordinates.dtype) == ((60, 2), np.float32)
    assert re.fullmatch(r"t-SNE \(openTSNE .*\), perplexity 10", made)
    assert tsne(features[::2], perplexity=30)[1].endswith(", perplexity 9.667"), "at most a third of the others"
    distances = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argsort(axis=1)[:, :10]] == labels[:, None]).all()
    np.testing.assert_array_equal(coordinates, tsne(features * np.float32(2), perplexity=10)[0])


def test_tsne_is_the_same_for_any_number_of_threads_and_tells_its_steps(monkeypatch):
    monkeypatch.setattr(embedding, "_EARLY_STEPS", 50)
    monkeypatch.setattr(embedding, "_STEPS", 100)
    features, _ = clusters(each=350, spread=0.3)  # from 1000 on approximate neighbours would be approximate
    steps, found = [], []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(tsne(features, 3, perplexity=5, progress=lambda *step: steps.append(step))[0])
    assert steps == [(50, 150), (100, 150), (150, 150)] * 2
    np.testing.assert_array_equal(*found)
    assert not np.array_equal(found[0], tsne(features, 4, perplexity=5)[0])
    assert neighbours_kept(features, found[0]) > 0.1  # random coordinates keep 0.01
    with pytest.raises(ZeroDivisionError):
        tsne(features[:20], progress=lambda *_: 1 / 0)


def test_features_on_a_line_part_into_two_dimensions():
    angles = np.linspace(0, 0.5, 30)
    coordinates, _ = tsne(np.stack((np.cos(angles), np.sin(angles)), axis=1).repeat(2, axis=0))
    assert coordinates.std(axis=0).min() > 0.01 * coordinates.std(axis=0).max()


@pytest.mark.parametrize("function", [tsne, pca_basis])
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((10, 4)), "all 10 features are the same"),
        (np.arange(1, 11)[:, None] * np.ones(4), "the same, up to their length"),
        (np.full((10, 4), 1e300) * np.eye(10, 4), "not finite"),
        (np.where(np.eye(10, 4), np.nan, 1.0), "4 of 10 features are not finite"),
        (np.zeros((0, 4)), "a row each"),
        (np.zeros(7), "a row each"),
    ],
)
def test_features_that_say_nothing_are_named(function, features, message):
    with pytest.raises(ValueError, match=message):
        function(features)


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


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("sizes", [[14, 12, 4], [1] * 30])
def test_label_purity_against_a_loop(k, sizes):
    """Images of very different sizes: one has fewer samples elsewhere than k."""
    rng = np.random.default_rng(k)
    image = np.repeat(np.arange(len(sizes)), sizes)
    features, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    shares, chances = [], []
    for i in range(30):
        others = [j for j in range(30) if image[j] != image[i]]
        nearest = sorted(others, key=lambda j: -unit[i] @ unit[j])[:k]
        shares.append(np.mean(labels[nearest] == labels[i]))
        chances.append(np.mean(labels[others] == labels[i]))
    asked = image if max(sizes) > 1 else None
    assert label_purity(features, labels.astype(str), asked, k) == pytest.approx((np.mean(shares), np.mean(chances)))


@pytest.mark.parametrize("n", [8, 60])  # fewer and more features than channels, as the solver depends on it
def test_principal_components_against_a_singular_value_decomposition(n):
    features = np.random.default_rng(0).standard_normal((n, 12)) * 0.7 ** np.arange(12)
    basis = pca_basis(features * np.arange(1, n + 1)[:, None])
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    _, sizes, axes = np.linalg.svd(rows - rows.mean(axis=0))
    axes = axes[:3] * np.sign(axes[:3].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(basis.mean, rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(basis.components, axes, atol=1e-4)
    np.testing.assert_allclose(basis.explained, (sizes**2 / (sizes**2).sum())[:3], rtol=1e-4)
    np.testing.assert_allclose(project(features, basis), (rows - rows.mean(axis=0)) @ axes.T, atol=1e-4)


def test_a_basis_of_maps_is_that_of_their_cells_and_their_order_is_nothing():
    maps = textured(5)
    of_maps = pca_basis(maps)
    for other in (pca_basis(torch.cat([m.features.flatten(1).T for m in maps])), pca_basis(maps[::-1])):
        for name in ARRAYS:
            np.testing.assert_allclose(getattr(of_maps, name), getattr(other, name), rtol=1e-4, atol=1e-6)
    outside = [(project(m, of_maps) < of_maps.low) | (project(m, of_maps) > of_maps.high) for m in maps]
    assert np.concatenate(outside).mean(axis=0) == pytest.approx([0.02] * 3, abs=0.01)


def test_signs_stay_when_the_image_set_changes_and_when_cells_are_drawn(monkeypatch):
    maps, rng = textured(30), np.random.default_rng(0)
    parts = [pca_basis([maps[i] for i in rng.permutation(30)[:15]]) for _ in range(10)]
    monkeypatch.setattr(embedding, "_PCA_CELLS", 500)  # of 1260
    for part in (*parts, drawn := pca_basis(maps)):
        assert (part.components[range(3), range(3)] > 0.95).all()  # near the first three channels, not their opposites
    assert not np.array_equal(drawn.mean, pca_basis(maps[:12]).mean)


def test_a_stored_basis_gives_the_same_colours_alone_and_in_company(tmp_path):
    maps = textured(6)
    embedding.save_basis(pca_basis(maps, origin="demo/last", network="0123 key"), tmp_path / "colours.basis")
    basis = embedding.load_basis(tmp_path / "colours.basis")
    assert (basis.layer, basis.origin, basis.network) == ("c5", "demo/last", "0123 key")
    assert basis.file == tmp_path / "colours.basis"
    for fmap in maps:
        colours = embedding.to_rgb(fmap, basis)
        assert (colours.shape, colours.dtype) == ((6, 7, 3), np.uint8)
        np.testing.assert_array_equal(colours, embedding.to_rgb(fmap, pca_basis(maps)))
        np.testing.assert_array_equal(colours[:, 2:5], embedding.to_rgb(fmap_of(fmap.features[:, :, 2:5]), basis))
        expected = ((project(fmap, basis) - basis.low) / (basis.high - basis.low)).clip(0, 1) * 255
        np.testing.assert_allclose(colours.reshape(-1, 3), expected, atol=0.51)


def test_a_component_of_nothing_is_grey_and_not_noise():
    features = torch.zeros(6, 4, 5)
    features[:3] = torch.eye(3)[torch.arange(20) % 3].T.reshape(3, 4, 5)  # three kinds of cell: a plane, two components
    fmap = fmap_of(features)
    colours = embedding.to_rgb(fmap, pca_basis([fmap]))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 3
    assert set(colours[..., 2].flat) <= {127, 128}


def test_files_that_are_no_basis_are_named_and_not_executed(tmp_path):
    good, bad, mark = tmp_path / "good.npz", tmp_path / "bad.npz", tmp_path / "executed"
    with pytest.raises(ValueError, match=r"no PCA basis .*bad\.npz: plrc colours .*--keep-basis .*bad\.npz makes one"):
        embedding.load_basis(bad)
    embedding.save_basis(pca_basis(textured(1)), good)
    with np.load(good) as stored:
        arrays = dict(stored)
    contents = [b"", b"junk", good.read_bytes()[:-200], pickle.dumps(Payload(open, str(mark), "w"))]
    for other in (
        {**arrays, "mean": np.array([Payload(open, str(mark), "w")], dtype=object)},
        {**arrays, "low": arrays["low"][:2]},
        {name: array for name, array in arrays.items() if name != "high"},
    ):
        np.savez(bad, **other)
        contents.append(bad.read_bytes())
    with bad.open("wb") as stream:
        np.save(stream, np.zeros(3))
    for content in [*contents, bad.read_bytes()]:
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz is no PCA basis"):
            embedding.load_basis(bad)
    assert not mark.exists()


def test_segments_by_hand():
    first, second = angles_map(80, 0, 100), angles_map(90, 10)
    centroids, cohesion = kmeans([first, second], k=2)
    five = math.cos(math.radians(5))
    np.testing.assert_allclose(centroids, [[0, 1], [five, math.sin(math.radians(5))]], atol=1e-6)  # the larger first
    assert [assign(m, centroids).tolist() for m in (first, second)] == [[[0, 1, 0]], [[0, 1]]]
    assert cohesion == pytest.approx((2 * math.cos(math.radians(10)) + 1 + 2 * five) / 5)
    assert assign(angles_map(44, 50), centroids).tolist() == [[1, 0]]  # the border is at 47.5°


def test_clusters_are_found_and_ordered_by_size_and_the_same_bits_for_any_number_of_threads():
    features, labels = clusters(count=4, each=400)
    keep = np.concatenate([np.flatnonzero(labels == c)[:size] for c, size in enumerate((200, 380, 100, 280))])
    keep = np.random.default_rng(1).permutation(keep)
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(kmeans(features[keep], 4, seed=5))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    expected = np.array([2, 0, 3, 1])[labels[keep]]
    for seed in range(6):  # other seeds find the same clusters, and order them by their size
        centroids, cohesion = kmeans(features[keep], 4, seed)
        np.testing.assert_array_equal(assign(features[keep], centroids), expected)
        assert 0.9 < cohesion <= 1


def coordinates_map(h: int, w: int, image: int = 0) -> FeatureMap:
    """Channels: x, y of the cell's centre, and the image's number."""
    centres = blank(8 * w, 8 * h, 8).centres().permute(2, 0, 1)
    return fmap_of(torch.cat((centres, torch.full((1, h, w), image))))


def test_points_lie_where_their_features_are_from():
    samples = gather((coordinates_map(4, 6, i) for i in range(3)), per_image=5)
    np.testing.assert_array_equal(samples.features, np.column_stack((samples.point, samples.image)))
    assert samples.image.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert (samples.region == -1).all()
    assert not np.array_equal(samples.point[:5], samples.point[5:10])
    np.testing.assert_array_equal(gather([coordinates_map(4, 6)], per_image=5).point, samples.point[:5])
    assert not np.array_equal(samples.point[:5], gather([coordinates_map(4, 6)], per_image=5, seed=1).point)
    for count, found in ((5, 5), (23, 23), (100, 24)):
        points = gather([coordinates_map(4, 6)], per_image=count).point
        assert len(points) == len(np.unique(points, axis=0)) == found
    beyond = map_of(torch.rand(2, 2, 2), 12, 12, 8)  # the second cells' centres lie on the border
    np.testing.assert_allclose(gather([beyond]).point, [[1 / 3, 1 / 3]])


def test_regions_and_images_have_their_mean_feature():
    raster = torch.tensor([[3, 3, -1], [7, 7, -1]])
    maps = [coordinates_map(4, 6), coordinates_map(4, 6, 1)]
    regions = gather(maps, "regions", [raster, raster[:1]], labels=["cat", "dog"])
    assert regions.region.tolist() == [3, 7, 3]
    assert regions.image.tolist() == [0, 0, 1]
    assert regions.labels.tolist() == ["cat", "cat", "dog"]
    np.testing.assert_allclose(regions.features, [[1 / 3, 1 / 4, 0], [1 / 3, 3 / 4, 0], [1 / 3, 1 / 2, 1]], atol=1e-6)
    assert (np.abs(regions.point - regions.features[:, :2]) < 0.2).all()
    images = gather([*maps[:1], coordinates_map(2, 2, 1)], "images", labels=["a", "b"])
    np.testing.assert_allclose(images.features, [[0.5, 0.5, 0], [0.5, 0.5, 1]], atol=1e-6)
    assert np.isnan(images.point).all()
    assert (images.region == -1).all()


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
    samples = gather(maps, "regions", rasters, told("labels", [labeller, "cat"]))
    assert log == ["map 0", "raster 0", "labels 0", "map 1", "raster 1", "labels 1"]
    assert samples.labels.tolist() == ["3 at 0.25", "5 at 0.75", "cat"]


MAPS, TEXTURED = [coordinates_map(2, 2)] * 2, textured(1)
BASIS = pca_basis(TEXTURED, origin="demo")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: embedding.to_rgb(TEXTURED[0], replace(BASIS, layer="c4")),
            r"the PCA basis \(3 components .*, demo c4\) .* c5",
        ),
        (lambda: project(np.ones((2, 5)), replace(BASIS, file="b.npz")), r"^b\.npz .* features of 5 channels"),
        (lambda: embedding.to_rgb(TEXTURED[0], pca_basis(TEXTURED, k=2)), "no three components"),
        (lambda: gather([]), "no image"),
        (lambda: gather(MAPS, labels=["a"]), "not as many maps, .*: one of them ends after 1"),
        (lambda: gather(MAPS, "regions", [torch.zeros(1, 1).long()] * 3), "not as many maps, rasters .* after 2"),
        (lambda: gather([MAPS[0], replace(MAPS[1], layer="c4")]), "take all from one layer"),
        (lambda: gather(MAPS, per_image=0), "1 point an image or more"),
        (lambda: gather(MAPS, "regions"), "regions .which need rasters."),
        (lambda: gather(MAPS, "cells"), "not 'cells'"),
        (lambda: pca_basis(np.eye(3)), "at most 2 principal components, not 3"),
        (lambda: pca_basis([MAPS[0], *TEXTURED]), r"layers c5 \(3 channels\) and c5 \(12 channels\)"),
        (lambda: pca_basis([]), "at least one image"),
        (lambda: kmeans([angles_map(0, 0, 90)], 3), "fewer than 3 features are different"),
        (lambda: kmeans([angles_map(0, 0, 90)], 0), "3 features fall into 1 to 3 clusters, not 0"),
        (lambda: kmeans([angles_map(0, 0, 90)], 4), "3 features fall into 1 to 3 clusters, not 4"),
        (lambda: assign(TEXTURED[0], np.eye(2, dtype=np.float32)), "2 channels do not fit .* c5 of 12"),
        (lambda: neighbours_kept(np.eye(5), np.eye(5)[:, :2], 0), "5 samples have 1 to 4 neighbours, not 0"),
        (lambda: neighbours_kept(np.eye(5), np.eye(5)[:, :2], 5), "5 samples have 1 to 4 neighbours, not 5"),
        (lambda: neighbours_kept(np.eye(5), np.zeros((4, 2))), "5 features do not have 4 coordinates"),
        (lambda: label_purity(np.eye(5), np.zeros(4)), "5 features need a label"),
        (lambda: label_purity(np.eye(4), np.arange(4), np.zeros(4), 2), "all samples are of one image"),
        (lambda: tsne(np.eye(3)), "4 features or more, not 3"),
        (lambda: tsne(np.eye(9), perplexity=0), "perplexity of 1 or more, not 0"),
        (lambda: tsne(np.eye(9), perplexity=math.nan), "perplexity of 1 or more, not nan"),
    ],
)
def test_bad_questions_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask()
