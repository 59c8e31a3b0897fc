"""plrc.recipes.cells: colours that stay with their basis, and segments that pictures share."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from plrc.analysis.embedding import load_basis, to_rgb
from plrc.analysis.features import load_encoder
from plrc.recipes import draw_rgb, draw_segments
from plrc.recipes.pictures import open_picture

TINY, OTHER = "random:tiny", "random:tiny@1"


def fmap_of(spec):
    return load_encoder(TINY).features(open_picture(spec).image, size=64)


def test_colours_stay_with_their_basis(tmp_path):
    kept = tmp_path / "bases" / "b.npz"
    both = draw_rgb(["scenes#3", "scenes#5"], [TINY], keep_basis=str(kept), size=64)
    alone = draw_rgb(["scenes#5"], [TINY], size=64)
    reused = draw_rgb(["scenes#5"], [TINY], basis=str(kept), size=64)
    name = f"{TINY} 0"
    assert np.array_equal(reused.arrays[name], both.arrays[f"{TINY} 1"])
    assert not np.array_equal(reused.arrays[name], alone.arrays[name])
    assert np.array_equal(both.arrays[name], to_rgb(fmap_of("scenes#3"), load_basis(kept)))
    assert reused.inputs[str(kept)] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert f"of the variance of the pictures that {kept} was made from" in reused.lines[0]
    assert "keep_basis" not in both.parameters  # a replay does not write over it
    assert [file.name for file in kept.parent.iterdir()] == ["b.npz"]


def test_the_table_has_the_mean_colours():
    drawing = draw_rgb(["scenes#3", "scenes#5"], [TINY, OTHER], size=64)
    assert [(row["picture"], row["network"]) for row in drawing.rows] == [
        (spec, name) for name in (TINY, OTHER) for spec in ("scenes#3", "scenes#5")
    ]
    for i, row in enumerate(drawing.rows):
        red, green, blue = drawing.arrays[f"{row['network']} {i % 2}"].reshape(-1, 3).mean(axis=0) / 255
        assert (row["red"], row["green"], row["blue"]) == pytest.approx((red, green, blue), abs=1e-4)


def test_a_basis_is_of_one_network(tmp_path):
    for how in ({"basis": "b.npz"}, {"keep_basis": "b.npz"}):
        with pytest.raises(ValueError, match="a basis belongs to one network"):
            draw_rgb(["scenes#3"], [TINY, OTHER], **how)
    with pytest.raises(ValueError, match=r"there is no PCA basis .*gone\.npz"):
        draw_rgb(["scenes#3"], [TINY], basis=str(tmp_path / "gone.npz"), size=64)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file cannot be written"):
        draw_rgb(["scenes#3"], [TINY], keep_basis=str(tmp_path / "file" / "b.npz"), size=64)


def test_segments():
    drawing = draw_segments(["scenes#3", "scenes#5"], [TINY], 3, size=64)
    centroids = drawing.arrays[f"{TINY} centroids"]
    cohesion = []
    for i, spec in enumerate(("scenes#3", "scenes#5")):
        cells = fmap_of(spec).features.flatten(1).T.numpy()
        cosines = cells / np.linalg.norm(cells, axis=1, keepdims=True) @ centroids.T
        labels = drawing.arrays[f"{TINY} {i}"]
        assert np.array_equal(labels.ravel(), cosines.argmax(axis=1))
        cohesion += cosines.max(axis=1).tolist()
        row = drawing.rows[i]
        assert row["picture"] == spec
        shares = [row[f"segment {k}"] for k in range(3)]
        assert shares == pytest.approx([(labels == k).mean() for k in range(3)], abs=1e-4)
    assert f"with its centroid {np.mean(cohesion):.3f}" in drawing.lines[0]
    again = draw_segments(["scenes#3", "scenes#5"], [TINY], 3, size=64)
    assert all(np.array_equal(drawing.arrays[name], again.arrays[name]) for name in drawing.arrays)


def test_too_many_pictures_are_refused():
    for draw in (draw_rgb, draw_segments):
        with pytest.raises(ValueError, match="401 pictures are too many to hold at once: take 400 of them with --most"):
            draw(["scenes#0"] * 401, [TINY])
