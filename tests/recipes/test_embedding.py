"""plrc.recipes.embedding: items are labelled by what lies at their middle, and the table is of the picture."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from plrc.analysis.embedding import label_purity, neighbours_kept
from plrc.recipes import draw_embedding
from plrc.recipes.pictures import open_picture
from recipes.conftest import noise

TINY, OTHER = "random:tiny", "random:tiny@1"


def class_at(spec, x, y):
    picture = open_picture(spec)
    width, height = picture.image.size
    for mask, name in zip(picture.masks, picture.classes, strict=True):
        if mask[int(y * height), int(x * width)]:
            return name
    return "background"


def test_regions_by_two_networks():
    specs = [f"scenes#{i}" for i in (3, 5, 9)]
    drawing = draw_embedding(specs, [TINY, OTHER], method="pca", size=64)
    features, plane = drawing.arrays[f"{OTHER} features"], drawing.arrays[f"{OTHER} coordinates"]
    assert len(drawing.rows) == len(features) == len(plane) == 48
    for i, row in enumerate(drawing.rows):
        assert (row["picture"], row["region"]) == (specs[i // 16], i % 16)
        assert (row["x"], row["y"]) == ((0.125 + 0.25 * (i % 4)), (0.125 + 0.25 * (i % 16 // 4)))
        assert (row[f"{OTHER} e1"], row[f"{OTHER} e2"]) == tuple(plane[i].tolist())
    # The objects are looked up on a raster of 160 cells: a border may lie a pixel or two elsewhere.
    agree = [row["label"] == class_at(row["picture"], row["x"], row["y"]) for row in drawing.rows]
    assert np.mean(agree) > 0.95
    labels = np.array([row["label"] for row in drawing.rows])
    assert "background" in labels
    assert len(set(labels)) > 2
    purity = label_purity(features, labels, drawing.arrays["image"], 10)
    kept = neighbours_kept(features, plane, 10)
    assert f"keeps {kept:.3f} of the 10 nearest" in drawing.lines[1]
    assert f"{purity.mean:.3f} have the same label (chance {purity.chance:.3f})" in drawing.lines[1]
    texts = {" ".join(text.get_text().split()) for text in drawing.figure.findobj(Text)}
    assert any(f"neighbours kept {kept:.2f}, purity {purity.mean:.2f}" in text for text in texts)
    assert not np.array_equal(plane, drawing.arrays[f"{TINY} coordinates"])


@pytest.mark.parametrize("i", range(3))
def test_points_have_the_label_of_their_place(masked, i):
    spec = f"{masked()}#{i}"
    drawing = draw_embedding([spec], [TINY], "points", "pca", per_picture=40, size=64)
    assert len(drawing.rows) == 40
    assert {row["label"] for row in drawing.rows} == {"object", "background"}
    assert all(row["label"] == class_at(spec, row["x"], row["y"]) for row in drawing.rows)
    assert all(row["region"] == "" for row in drawing.rows)


def test_objects_are_regions_and_have_their_class():
    drawing = draw_embedding(["scenes#3", "scenes#5"], [TINY], "regions", "pca", "objects", size=64)
    for row in drawing.rows:
        classes = ["background", *open_picture(row["picture"]).classes]
        assert row["label"] == classes[row["region"]]


def test_pictures_have_the_class_of_their_largest_object():
    specs = [f"scenes#{i}" for i in (1, 2, 3, 5)]
    drawing = draw_embedding(specs, [TINY], "images", size=64)
    for row, spec in zip(drawing.rows, specs, strict=True):
        picture = open_picture(spec)
        assert row["label"] == picture.classes[picture.masks.sum(axis=(1, 2)).argmax()]
        assert (row["x"], row["y"], row["region"]) == ("", "", "")


def test_where_objects_are_not_known_it_is_the_folder(tmp_path):
    specs = []
    for i, folder in enumerate(("cats", "dogs", "cats")):
        (tmp_path / folder).mkdir(exist_ok=True)
        noise(40, 40, i).save(tmp_path / folder / f"{i}.png")
        specs.append(str(tmp_path / folder / f"{i}.png"))
    drawing = draw_embedding(specs, [TINY], regions="grid:2", method="pca", size=64)
    assert [row["label"] for row in drawing.rows[::4]] == ["cats", "dogs", "cats"]
    one = draw_embedding(specs[:1], [TINY], regions="grid:2", method="pca", size=64)
    assert {row["label"] for row in one.rows} == {""}  # one label would tell nothing


def test_tsne_is_the_same_each_time_and_tells_its_steps():
    told = []
    how = {"regions": "grid:3", "size": 64, "seed": 4, "perplexity": 5.0}
    first = draw_embedding(["scenes#3"], [TINY], progress=lambda *step: told.append(step), **how)
    again = draw_embedding(["scenes#3"], [TINY], **how)
    name = f"{TINY} coordinates"
    assert np.array_equal(first.arrays[name], again.arrays[name])
    assert told[0] == (f"pictures, {TINY}", 1, 1)
    assert told[-1] == (f"t-SNE steps, {TINY}", 1000, 1000)
    assert "perplexity 2.66667 of 9 regions" in first.lines[0]
    assert first.parameters == again.parameters
    assert "progress" not in first.parameters
