"""plrc.views.embedding: items are labelled by what lies at their middle, and the table is of the picture."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import torch

from plrc.analysis.embedding import gather, label_purity, neighbours_kept
from plrc.analysis.features import load_encoder
from plrc.views.images import open_image
from tests.views.conftest import embedding, noise, said

TINY, OTHER = "random:tiny", "random:tiny@1"


def class_at(picture, x, y):
    width, height = picture.image.size
    there = [i for i, mask in enumerate(picture.masks) if mask[int(y * height), int(x * width)]]
    return picture.classes[min(there, key=lambda i: picture.masks[i].sum())] if there else "background"


@pytest.fixture
def overlapping(tmp_path):
    """A COCO set of a picture, 1280 × 64: a cup on a table, a hair of 2 pixels on both, a ring around a hole."""
    for part in ("images", "annotations"):
        (tmp_path / "things" / part).mkdir(parents=True)
    noise(1280, 64).save(tmp_path / "things/images/a.png")
    corners = {
        "cup": [(230, 16, 330, 50)],
        "table": [(60, 8, 500, 60)],
        "hair": [(301, 0, 303, 64)],
        "ring": [(700, 0, 1200, 8), (700, 56, 1200, 64), (700, 8, 720, 56), (1180, 8, 1200, 56)],
    }
    outlines = {k: [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes] for k, boxes in corners.items()}
    names = list(corners)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 1280, "height": 64}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": i,
                "segmentation": outlines[name],
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
            for i, name in enumerate(names)
        ],
    }
    (tmp_path / "things/annotations/instances_all.json").write_text(json.dumps(content))
    return f"{tmp_path / 'things'}#0"


def items_of(specs, name):
    maps = load_encoder(name).batch([open_image(spec).image for spec in specs], size=64)
    return gather(maps, "regions", [torch.arange(16).reshape(4, 4)] * len(specs))


def test_regions_by_two_networks():
    specs = [f"scenes#{i}" for i in (3, 5, 9)]
    drawing = embedding(specs, [TINY, OTHER], method="pca", size=64)
    features, plane = items_of(specs, OTHER).features, drawing.arrays[f"{OTHER} coordinates"]
    assert list(drawing.arrays) == [f"{TINY} coordinates", f"{OTHER} coordinates", "image", "point", "region"]
    assert len(drawing.rows) == len(features) == len(plane) == 48
    for i, row in enumerate(drawing.rows):
        assert (row["image"], row["region"]) == (specs[i // 16], i % 16)
        assert (row["x"], row["y"]) == ((0.125 + 0.25 * (i % 4)), (0.125 + 0.25 * (i % 16 // 4)))
        assert (row[f"{OTHER} e1"], row[f"{OTHER} e2"]) == tuple(plane[i].tolist())
    assert all(row["label"] == class_at(open_image(row["image"]), row["x"], row["y"]) for row in drawing.rows)
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
    assert "PCA · 48 regions (grid:4) of 3 images · layer c3, input's short side 64" in texts
    assert not np.array_equal(plane, drawing.arrays[f"{TINY} coordinates"])


@pytest.mark.parametrize("i", range(3))
def test_points_have_the_label_of_their_place(masked, i):
    spec = f"{masked()}#{i}"
    drawing = embedding([spec], [TINY], "points", "pca", per_image=40, size=64)
    assert len(drawing.rows) == 40
    assert {row["label"] for row in drawing.rows} == {"object", "background"}
    assert all(row["label"] == class_at(open_image(spec), row["x"], row["y"]) for row in drawing.rows)
    assert all(row["region"] == "" for row in drawing.rows)


def test_objects_are_regions_and_have_their_class():
    drawing = embedding(["scenes#3", "scenes#5"], [TINY], "regions", "pca", "objects", size=64)
    for row in drawing.rows:
        classes = ["background", *open_image(row["image"]).classes]
        assert row["label"] == classes[row["region"]]


def test_objects_that_overlap_and_hide_their_middle(overlapping):
    drawing = embedding([overlapping], [TINY], "regions", "pca", "objects", size=64)
    assert {row["region"]: row["label"] for row in drawing.rows} == {
        0: "background", 2: "table", 3: "hair", 4: "ring",  # the table is drawn over the cup
    }  # fmt: skip
    drawing = embedding([overlapping], [TINY], "points", "pca", per_image=2000, size=64)
    assert {row["label"] for row in drawing.rows} == {"background", "table", "cup", "ring"}
    picture, points = open_image(overlapping), drawing.arrays["point"]  # the table rounds, to either side of a border
    assert [row["label"] for row in drawing.rows] == [class_at(picture, x, y) for x, y in points]


@pytest.mark.parametrize("of", ["points", "regions", "images"])
def test_a_picture_is_opened_once_a_network_and_progress_begins_with_the_first(monkeypatch, of):
    log = []

    def opened(spec):
        log.append(spec)
        return open_image(spec)

    monkeypatch.setattr("plrc.views.session.open_image", opened)
    specs = [f"scenes#{i}" for i in range(12)]
    embedding(specs, [TINY, OTHER], of, "pca", size=64, progress=lambda *step: log.append(step))
    assert log[:4] == ["scenes#0", (f"images, {TINY}", 1, 12), "scenes#1", (f"images, {TINY}", 2, 12)]
    assert [entry for entry in log if isinstance(entry, str)] == specs * 2


@pytest.mark.parametrize("of", ["points", "regions", "images"])
def test_pictures_are_let_go(monkeypatch, of):
    living = weakref.WeakSet()
    most = 0

    def opened(spec):
        nonlocal most
        living.add(picture := open_image(spec))
        most = max(most, len(living))
        return picture

    monkeypatch.setattr("plrc.views.session.open_image", opened)
    embedding([f"scenes#{i}" for i in range(40)], [TINY], of, "pca", "objects", size=64)
    assert most <= 18  # two batches of 8 and what is asked about


def test_pictures_have_the_class_of_their_largest_object():
    specs = [f"scenes#{i}" for i in (1, 2, 3, 5)]
    drawing = embedding(specs, [TINY], "images", size=64)
    for row, spec in zip(drawing.rows, specs, strict=True):
        picture = open_image(spec)
        assert row["label"] == picture.classes[picture.masks.sum(axis=(1, 2)).argmax()]
        assert (row["x"], row["y"], row["region"]) == ("", "", "")


def test_where_objects_are_not_known_it_is_the_folder(tmp_path):
    specs = []
    for i, folder in enumerate(("cats", "dogs", "cats")):
        (tmp_path / folder).mkdir(exist_ok=True)
        noise(40, 40, i).save(tmp_path / folder / f"{i}.png")
        specs.append(str(tmp_path / folder / f"{i}.png"))
    drawing = embedding(specs, [TINY], regions="grid:2", method="pca", size=64)
    assert [row["label"] for row in drawing.rows[::4]] == ["cats", "dogs", "cats"]
    one = embedding(specs[:1], [TINY], regions="grid:2", method="pca", size=64)
    assert {row["label"] for row in one.rows} == {""}  # one label would tell nothing


def test_tsne_is_the_same_each_time_and_tells_its_steps():
    told = []
    how = {"regions": "grid:3", "size": 64, "seed": 4, "perplexity": 5.0}
    first = embedding(["scenes#3"], [TINY], progress=lambda *step: told.append(step), **how)
    again = embedding(["scenes#3"], [TINY], **how)
    name = f"{TINY} coordinates"
    assert np.array_equal(first.arrays[name], again.arrays[name])
    assert told[0] == (f"images, {TINY}", 1, 1)
    assert told[-1] == (f"t-SNE steps, {TINY}", 750, 750)
    assert "perplexity 2.667 (5 is more than a third of the others)  neighbours" in first.lines[0]
    assert "9 regions  t-SNE (openTSNE" in embedding(["scenes#3"], [TINY], **{**how, "perplexity": 2.0}).lines[0]


@pytest.mark.parametrize(
    ("of", "regions", "seen", "message"),
    [
        (
            "points",
            "grid:4",
            8,
            "12 images have 120 points or more, and 100 .* --most, or fewer points .*--per-image",
        ),
        ("regions", "grid:3", 8, "12 images have 108 regions or more, and 100 .* with --most, or fewer --regions"),
        ("regions", "superpixels:16", 12, "12 images have 1.. regions or more, and 100 can be laid out"),
    ],
)
def test_too_many_items_are_refused_as_soon_as_it_is_certain(monkeypatch, of, regions, seen, message):
    opened = []
    monkeypatch.setattr("plrc.views.embedding._MOST", 100)
    monkeypatch.setattr("plrc.views.session.open_image", lambda spec: opened.append(spec) or open_image(spec))
    specs = [f"scenes#{i}" for i in range(12)]
    with pytest.raises(ValueError, match=message):
        embedding(specs, [TINY], of, "pca", regions, per_image=10, size=64)
    assert len(opened) <= seen + 1
    embedding(specs[:5], [TINY], of, "pca", regions, per_image=10, size=64)


def test_points_are_the_same_for_all_networks(monkeypatch):
    with pytest.raises(
        ValueError, match="has maps of other cells than random:tiny, and points are drawn among the cells"
    ):
        embedding(["scenes#3"], [TINY, "random:resnet18"], "points", "pca", size=64)


def test_the_foot_says_how_the_plane_was_made():
    drawing = embedding(["scenes#3"], [TINY], regions="grid:3", size=64, seed=4, perplexity=2.0, layer="c2")
    (foot,) = [text for text in said(drawing) if text.startswith("t-SNE (openTSNE")]
    assert ", perplexity 2, seed 4 · 9 regions (grid:3) of 1 image · layer c2, input" in foot
    assert f"{TINY}, c2" in said(drawing)
    images = embedding([f"scenes#{i}" for i in range(4)], [TINY], "images", "pca", size=64)
    assert "PCA · 4 images · layer c3, input's short side 64" in said(images)


@pytest.fixture
def folders(tmp_path):
    """Makes so many folders of so many pictures each."""

    def make(n, each):
        specs = []
        for i in range(n):
            (tmp_path / f"{n}-{each}" / f"kind{i:03}").mkdir(parents=True)
            for k in range(each):
                file = tmp_path / f"{n}-{each}" / f"kind{i:03}" / f"{k}.png"
                noise(16, 16, 10 * i + k).save(file)
                specs.append(str(file))
        return specs

    return make


def test_labels_that_nothing_shares_have_no_key_and_no_purity(folders):
    alone = embedding(folders(12, 1), [TINY], "images", "pca", size=16)
    assert not any(text.startswith("kind") or "purity" in text for text in said(alone))
    assert "purity" not in alone.lines[0]
    assert {row["label"] for row in alone.rows} == {f"kind{i:03}" for i in range(12)}  # the table has them
    # Of one picture each, but with several items: colours tell which picture, purity nothing.
    regions = embedding(folders(3, 1), [TINY], "regions", "pca", "grid:2", size=16)
    assert {f"kind00{i} 4" for i in range(3)} <= said(regions)
    assert not any("purity" in text for text in said(regions))
    shared = embedding(folders(6, 2), [TINY], "images", "pca", size=16)
    assert {f"kind00{i} 2" for i in range(6)} <= said(shared)
    assert any("purity" in text for text in said(shared))
    assert "purity" in shared.lines[0]


def test_clusters_of_the_items_by_each_network():
    how = {"method": "pca", "regions": "grid:2", "size": 64}
    drawing = embedding([f"scenes#{i}" for i in range(4)], [TINY, OTHER], clusters=3, **how)
    for name in (TINY, OTHER):
        found = drawing.arrays[f"{name} cluster"]
        assert np.array_equal(found, drawing.clusters[name])
        assert np.all(np.diff(np.bincount(found, minlength=3)) <= 0)
        assert len(found) == 16
    assert "cohesion of 3 clusters 0." in drawing.lines[0]
    assert not embedding(["scenes#0", "scenes#1"], [TINY], **how).clusters
