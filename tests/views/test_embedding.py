"""plrc.views.embedding: samples are labelled by what lies at their middle, colours stay with their basis."""

import hashlib
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from plrc.analysis.embedding import gather, kmeans, label_purity, load_basis, neighbours_kept, pca_basis, to_rgb
from plrc.analysis.features import load_encoder
from plrc.views import Session, session
from plrc.views.images import NamedImage, open_image
from tests.sets import noise, placed, ramp
from tests.views.conftest import colours, embedding, said, segments

TINY, OTHER = "random:tiny", "random:tiny@1"
TWO = ["scenes#3", "scenes#5"]


def class_at(picture, x, y):
    width, height = picture.image.size
    there = [i for i, mask in enumerate(picture.masks) if mask[int(y * height), int(x * width)]]
    return picture.classes[min(there, key=lambda i: picture.masks[i].sum())] if there else "background"


def fmap_of(spec):
    return load_encoder(TINY).features(open_image(spec).image, size=64)


@pytest.fixture
def overlapping(monkeypatch):
    """A picture, 1280 × 64: a cup on a table, a hair of 2 pixels on both, a ring around a hole."""
    masks = np.zeros((4, 64, 1280), bool)
    masks[0, 16:50, 230:330] = True
    masks[1, 8:60, 60:500] = True
    masks[2, :, 301:303] = True
    masks[3, :, 700:1200] = True
    masks[3, 8:56, 720:1180] = False
    picture = NamedImage("p", "p", noise(1280, 64), masks, ["cup", "table", "hair", "ring"])
    monkeypatch.setattr("plrc.views.session.open_image", lambda spec: picture)
    return picture


def test_regions_by_two_networks():
    specs = [f"scenes#{i}" for i in (3, 5, 9)]
    drawing = embedding(specs, [TINY, OTHER], method="pca", size=64)
    maps = load_encoder(OTHER).batch([open_image(spec).image for spec in specs], size=64)
    features = gather(maps, "regions", [torch.arange(16).reshape(4, 4)] * 3).features
    plane = drawing.arrays[f"{OTHER} coordinates"]
    assert list(drawing.arrays) == [f"{TINY} coordinates", f"{OTHER} coordinates", "image", "point", "region"]
    assert len(drawing.rows) == len(features) == len(plane) == 48
    for i, row in enumerate(drawing.rows):
        assert (row["image"], row["region"]) == (specs[i // 16], i % 16)
        assert (row["x"], row["y"]) == ((0.125 + 0.25 * (i % 4)), (0.125 + 0.25 * (i % 16 // 4)))
        assert (row[f"{OTHER} e1"], row[f"{OTHER} e2"]) == pytest.approx(plane[i].tolist(), abs=1e-5)
        assert row["label"] == class_at(open_image(row["image"]), row["x"], row["y"])
    labels = np.array([row["label"] for row in drawing.rows])
    assert "background" in labels
    assert len(set(labels)) > 2
    purity, chance = label_purity(features, labels, drawing.arrays["image"], 10)
    kept = neighbours_kept(features, plane, 10)
    assert f"neighbours kept {kept:.3f} (10 nearest, chance 0.213)" in drawing.lines[1]
    assert f"purity {purity:.3f} (10 nearest in other images, chance {chance:.3f})" in drawing.lines[1]
    texts = said(drawing)
    caption = f"neighbours kept {kept:.2f}, purity {purity:.2f}, chance {chance:.2f}"
    assert any(text.endswith(caption) for text in texts)
    assert "PCA · 48 regions (grid:4) of 3 images · layer projector, input's short side 64" in texts
    assert not np.array_equal(plane, drawing.arrays[f"{TINY} coordinates"])


def test_points_have_the_label_of_their_place(masked):
    specs = [f"{masked}#{i}" for i in range(3)]
    drawing = embedding(specs, [TINY], "points", "pca", per_image=40, size=64)
    assert [row["image"] for row in drawing.rows] == [spec for spec in specs for _ in range(40)]
    assert {row["label"] for row in drawing.rows} == {"object", "background"}
    assert all(row["label"] == class_at(open_image(row["image"]), row["x"], row["y"]) for row in drawing.rows)
    assert all(row["region"] == "" for row in drawing.rows)


def test_objects_are_regions_and_have_their_class():
    for row in embedding(TWO, [TINY], "regions", "pca", "objects", size=64).rows:
        assert row["label"] == ["background", *open_image(row["image"]).classes][row["region"]]


def test_objects_that_overlap_and_hide_their_middle(overlapping):
    drawing = embedding(["p"], [TINY], "regions", "pca", "objects", size=64)
    # The table is drawn over the cup.
    regions = {0: "background", 2: "table", 3: "hair", 4: "ring"}
    assert {row["region"]: row["label"] for row in drawing.rows} == regions
    assert drawing.figure.axes[0].images, "parts of it are shown, though no cell is left of the cup"
    drawing = embedding(["p"], [TINY], "points", "pca", per_image=2000, size=64)
    assert {row["label"] for row in drawing.rows} == {"background", "table", "cup", "ring"}
    points = drawing.arrays["point"]  # the table rounds, to either side of a border
    assert [row["label"] for row in drawing.rows] == [class_at(overlapping, x, y) for x, y in points]


@pytest.mark.parametrize(
    ("view", "how"),
    [(embedding, {"of": of, "method": "pca", "regions": "objects"}) for of in ("points", "regions", "images")]
    + [(colours, {}), (segments, {})],
)
def test_pictures_are_opened_once_a_network_when_their_turn_comes_and_all_is_let_go(monkeypatch, view, how):
    log, living, maps, most, left = [], weakref.WeakSet(), weakref.WeakSet(), [], []
    seen = Session.seen

    def opened(spec):
        log.append(spec)
        living.add(picture := open_image(spec))
        most.append(len(living))
        return picture

    def encoded(self, *arguments):
        left.append(len(maps))
        for picture, fmap in seen(self, *arguments):
            maps.add(fmap)
            yield picture, fmap

    monkeypatch.setattr("plrc.views.session.open_image", opened)
    monkeypatch.setattr(Session, "seen", encoded)
    monkeypatch.setattr("plrc.views.embedding._ON_A_SHEET", 1)
    specs = [f"scenes#{i}" for i in range(12)]
    drawing = view(specs, [TINY, OTHER], size=64, progress=lambda *step: log.append(step), **how)
    assert log[:4] == ["scenes#0", (f"images, {TINY}", 1, 12), "scenes#1", (f"images, {TINY}", 2, 12)]
    assert [entry for entry in log if isinstance(entry, str)] == specs * 2
    assert [spec for spec in drawing.inputs if spec in specs] == specs
    assert max(most) <= 5  # on a CPU one image at a time is encoded
    assert max(left) <= 1, "a network's maps are let go before the next one's come"


def test_pictures_have_the_class_of_their_largest_object():
    specs = [f"scenes#{i}" for i in (1, 2, 3, 5)]
    drawing = embedding(specs, [TINY], "images", "pca", size=64)
    for row, spec in zip(drawing.rows, specs, strict=True):
        picture = open_image(spec)
        assert row["label"] == picture.classes[picture.masks.sum(axis=(1, 2)).argmax()]
        assert (row["x"], row["y"], row["region"]) == ("", "", "")
    assert "PCA · 4 images · layer projector, input's short side 64" in said(drawing)


def test_what_tsne_was_asked_is_told():
    how = {"regions": "grid:3", "size": 64, "seed": 4, "perplexity": 5.0}
    first = embedding(["scenes#3"], [TINY], **how)
    assert "perplexity 2.667 (5 is more than a third of the others)  neighbours" in first.lines[0]
    fitting = embedding(["scenes#3"], [TINY], **(how | {"perplexity": 2.0, "layer": "c2"}))
    assert "9 regions  t-SNE (openTSNE" in fitting.lines[0]
    (foot,) = [text for text in said(fitting) if text.startswith("t-SNE (openTSNE")]
    assert ", perplexity 2, seed 4 · 9 regions (grid:3) of 1 image · layer c2, input" in foot
    assert TINY in said(fitting)


@pytest.mark.parametrize(
    ("of", "regions", "seen", "message"),
    [
        ("points", "grid:4", 1, "12 images have 120 points, and 100 can be laid out: .* --most, .* --per-image"),
        ("regions", "grid:3", 1, "12 images have 108 regions, and 100 .* --most, .* fewer --regions"),
        ("regions", "superpixels:16", 12, "12 images have 1.. regions, and 100 can be laid out"),
    ],
)
def test_too_many_samples_are_refused_as_soon_as_it_is_certain(monkeypatch, of, regions, seen, message):
    opened = []
    monkeypatch.setattr("plrc.views.embedding._MOST", 100)
    monkeypatch.setattr("plrc.views.session.open_image", lambda spec: opened.append(spec) or open_image(spec))
    specs = [f"scenes#{i}" for i in range(12)]
    with pytest.raises(ValueError, match=message):
        embedding(specs, [TINY], of, "pca", regions, per_image=10, size=64)
    assert len(opened) == seen
    embedding(specs[:5], [TINY], of, "pca", regions, per_image=10, size=64)


@pytest.fixture
def folders(tmp_path):
    """Makes so many folders of so many pictures each."""

    def make(n, each):
        specs = [tmp_path / f"{n}-{each}" / f"kind{i:03}" / f"{k}.png" for i in range(n) for k in range(each)]
        for seed, file in enumerate(specs):
            noise(16, 16, seed).save(placed(file))
        return list(map(str, specs))

    return make


def test_where_objects_are_not_known_it_is_the_folder(folders):
    """Labels that nothing shares have no key and no purity."""
    alone = embedding(folders(12, 1), [TINY], "images", "pca", size=16)
    assert not any(text.startswith("kind") or "purity" in text for text in said(alone))
    assert "purity" not in alone.lines[0]
    assert {row["label"] for row in alone.rows} == {f"kind{i:03}" for i in range(12)}  # the table has them
    # Of one picture each, but with several samples: colours tell which picture, purity nothing.
    regions = embedding(folders(3, 1), [TINY], "regions", "pca", "grid:2", size=16)
    assert {f"kind00{i} 4" for i in range(3)} <= said(regions)
    assert not any("purity" in text for text in said(regions))
    shared = embedding(folders(6, 2), [TINY], "images", "pca", size=16)
    assert {f"kind00{i} 2" for i in range(6)} <= said(shared)
    assert "purity" in shared.lines[0]
    one = embedding(folders(1, 2), [TINY], regions="grid:2", method="pca", size=64)
    assert {row["label"] for row in one.rows} == {""}  # one label would tell nothing


def test_clusters_of_the_samples_by_each_network():
    how = {"method": "pca", "regions": "grid:2", "size": 64}
    drawing = embedding([f"scenes#{i}" for i in range(4)], [TINY, OTHER], clusters=3, **how)
    for name in (TINY, OTHER):
        found = drawing.arrays[f"{name} cluster"]
        assert np.array_equal(found, drawing.clusters[name])
        assert np.all(np.diff(np.bincount(found, minlength=3)) <= 0)
        assert len(found) == 16
    assert "cohesion of 3 clusters 0." in drawing.lines[0]
    assert not embedding(TWO, [TINY], **how).clusters


# ---- Colours and segments


def test_colours_stay_with_their_basis(tmp_path):
    kept = tmp_path / "bases" / "b.npz"
    both = colours(TWO, [TINY], keep_basis=str(kept), size=64)
    alone = colours(TWO[1:], [TINY], size=64)
    reused = colours(TWO[1:], [TINY], basis=str(kept), size=64)
    name = f"{TINY} 0"
    assert np.array_equal(reused.arrays[name], both.arrays[f"{TINY} 1"])
    assert not np.array_equal(reused.arrays[name], alone.arrays[name])
    assert np.array_equal(both.arrays[name], to_rgb(fmap_of("scenes#3"), load_basis(kept)))
    assert reused.inputs[str(kept)] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert reused.lines[0].endswith(f"(3 components of the images of {kept})")
    assert both.query.keep_basis is None  # a replay does not write over it
    assert [file.name for file in kept.parent.iterdir()] == ["b.npz"]
    for i, row in enumerate(both.rows):
        assert (row["image"], row["network"]) == (TWO[i], TINY)
        mean = both.arrays[f"{TINY} {i}"].reshape(-1, 3).mean(axis=0) / 255
        assert [row[name] for name in ("red", "green", "blue")] == pytest.approx(mean.tolist(), abs=1e-4)


def test_a_basis_is_of_one_network(tmp_path):
    file = tmp_path / "b.npz"
    for how in ({"basis": "b.npz"}, {"keep_basis": "b.npz"}):
        with pytest.raises(ValueError, match="a basis belongs to one network"):
            colours(["scenes#3"], [TINY, OTHER], **how)
    colours(["scenes#3"], [TINY], keep_basis=str(file), size=64)
    with pytest.raises(OSError, match=r"b\.npz"):
        colours(["scenes#3"], [TINY], keep_basis=str(file / "b.npz"), size=64)
    with pytest.raises(ValueError, match=r"b\.npz is a basis of random:tiny \(.*\), not of random:tiny@1 \(.*: take"):
        colours(["scenes#3"], [OTHER], basis=str(file), size=64)
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **(arrays | {"network": np.array(40 * "a5")}))
    with pytest.raises(ValueError, match=r"of random:tiny \(a5a5a5a5a5a5\), not of random:tiny .*--keep-basis"):
        colours(["scenes#3"], [TINY], basis=str(file), size=64)


def test_segments():
    drawing = segments(TWO, [TINY], 3, size=64)
    centroids = drawing.arrays[f"{TINY} centroids"]
    cohesion = []
    for i, (spec, row) in enumerate(zip(TWO, drawing.rows, strict=True)):
        cells = fmap_of(spec).features.flatten(1).T.numpy()
        cosines = cells / np.linalg.norm(cells, axis=1, keepdims=True) @ centroids.T
        labels = drawing.arrays[f"{TINY} {i}"]
        assert np.array_equal(labels.ravel(), cosines.argmax(axis=1))
        cohesion += cosines.max(axis=1).tolist()
        assert row["image"] == spec
        shares = [row[f"segment {k}"] for k in range(3)]
        assert shares == pytest.approx([(labels == k).mean() for k in range(3)], abs=1e-4)
    assert drawing.lines == [f"{TINY}  cohesion {np.mean(cohesion):.3f} (3 segments)"]


def test_the_colours_of_another_network_are_matched_with_the_first_ones(monkeypatch):
    """Here that "other" network is the same one, with components and segments in another order and mirrored."""
    basis_of, centroids_of, made = pca_basis, kmeans, []

    def other_basis(*what, **how):
        basis = basis_of(*what, **how)
        made.append(basis)
        turned, flip = np.array([2, 0, 1]), np.array([-1, 1, -1], dtype=np.float32)
        if len(made) == 1:
            return basis
        low, high = np.sort([flip * basis.low[turned], flip * basis.high[turned]], axis=0)
        return replace(basis, components=basis.components[turned] * flip[:, None], low=low, high=high)

    def other_centroids(*what, **how):
        found, cohesion = centroids_of(*what, **how)
        made.append(found)
        return (found if len(made) == 1 else found[[2, 3, 1, 0]]), cohesion

    monkeypatch.setattr("plrc.analysis.embedding.pca_basis", other_basis)
    monkeypatch.setattr("plrc.analysis.embedding.kmeans", other_centroids)
    names = [TINY, f"{TINY}@0"]  # the same one
    drawing = colours(TWO, names, size=64)
    np.testing.assert_allclose(*(drawing.arrays[f"{name} components"] for name in names))
    for i in range(2):
        first, second = (drawing.arrays[f"{name} {i}"].astype(int) for name in names)
        assert np.abs(first - second).max() <= 1, "but for rounding"
        assert np.array_equal(drawing.columns[names[0]][i] * 255, first)
    made.clear()
    drawing = segments(TWO, names, 4, size=64)
    for part in ("centroids", "0", "1"):
        assert np.array_equal(*(drawing.arrays[f"{name} {part}"] for name in names))


@pytest.mark.parametrize("draw", [colours, segments])
def test_maps_that_there_is_no_room_for_are_refused_at_the_first(monkeypatch, draw):
    opened = []
    monkeypatch.setattr(session, "open_image", lambda spec: opened.append(spec) or open_image(spec))
    monkeypatch.setattr("plrc.views.embedding._ROOM", 5 * fmap_of("scenes#0").features.nbytes)
    specs = [f"scenes#{i}" for i in range(12)]
    with pytest.raises(ValueError, match=r"feature maps of 12 images take .* GB .* take 5 images with --most, or a"):
        draw(specs, [TINY], size=64)
    assert len(opened) == 1
    draw(specs[:5], [TINY, OTHER], size=64)


@pytest.mark.parametrize(
    ("draw", "how", "number"),
    [
        (colours, "three principal components, of all cells", "% of the variance"),
        (segments, "k-means of all cells, 8 segments, seed 0", "cohesion 0."),
    ],
)
def test_the_foot_says_how_the_colours_were_made_and_the_number_of_all_images(draw, how, number):
    one = said(draw(["scenes#3"], [TINY], size=64, layer="c2"))
    assert f"scene 3 · {how} · layer c2, input 80 × 64" in one
    assert any(text.startswith(f"{TINY} ") for text in one)
    assert sum(number in text for text in one) == 1
    many = said(draw([f"scenes#{i}" for i in range(6)], [TINY], size=64))
    (foot,) = [text for text in many if number in text]
    assert foot.startswith(f"scene 0, scene 1, scene 2 and 3 more · {how} · ")
    assert foot.endswith(" · layer projector, input's short side 64")


def test_without_classes_the_figure_has_the_colours_of_the_clusters():
    drawing = embedding(["sample:china"], ["random:tiny"], size=64, method="pca", clusters=3)
    sizes = np.bincount(drawing.clusters["random:tiny"])
    assert {f"cluster {k} {size}" for k, size in enumerate(sizes)} <= said(drawing)
    assert any("clusters by random:tiny" in text for text in said(drawing))


@pytest.mark.parametrize(("of", "near"), [("regions", 0.02), ("points", 0.06)])  # a cell's middle is no pixel's
def test_what_stands_for_a_dot_is_the_part_of_the_image_around_it(tmp_path, of, near):
    for name, size in (("wide", (200, 120)), ("tall", (90, 150))):
        ramp(*size).save(tmp_path / f"{name}.png")  # its colours tell the place
    drawn = embedding([str(tmp_path)], ["random:tiny"], of=of, regions="grid:3", per_image=6, method="pca", size=64)
    (axes,) = drawn.figure.axes
    shown = {int(image.get_label().split()[1]): np.asarray(image.get_array()) for image in axes.images}
    assert shown
    for k, crop in shown.items():
        h, w, _ = crop.shape
        inside = abs(drawn.samples.point[k] - 0.5) < 0.3  # at an edge the crop is moved into the image
        middle = crop[h // 2, w // 2, :2] / 255
        np.testing.assert_allclose(middle[inside], drawn.samples.point[k][inside], atol=near)
        assert (np.ptp(crop[..., :2].reshape(-1, 2), axis=0) < 250).any(), "a part"
