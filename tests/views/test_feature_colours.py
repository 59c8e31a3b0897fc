"""plrc.views.feature_colours: colours that stay with their basis, and segments that images share."""

from __future__ import annotations

import hashlib
import weakref

import numpy as np
import pytest

from plrc.analysis.embedding import load_basis, to_rgb
from plrc.analysis.features import load_encoder
from plrc.views import feature_colours, session
from plrc.views.images import open_image
from tests.views.conftest import colours, said, segments

TINY, OTHER = "random:tiny", "random:tiny@1"


def fmap_of(spec):
    return load_encoder(TINY).features(open_image(spec).image, size=64)


def test_colours_stay_with_their_basis(tmp_path):
    kept = tmp_path / "bases" / "b.npz"
    both = colours(["scenes#3", "scenes#5"], [TINY], keep_basis=str(kept), size=64)
    alone = colours(["scenes#5"], [TINY], size=64)
    reused = colours(["scenes#5"], [TINY], basis=str(kept), size=64)
    name = f"{TINY} 0"
    assert np.array_equal(reused.arrays[name], both.arrays[f"{TINY} 1"])
    assert not np.array_equal(reused.arrays[name], alone.arrays[name])
    assert np.array_equal(both.arrays[name], to_rgb(fmap_of("scenes#3"), load_basis(kept)))
    assert reused.inputs[str(kept)] == hashlib.sha256(kept.read_bytes()).hexdigest()
    assert reused.lines[0].endswith(f"(3 components of the images of {kept})")
    assert both.query.keep_basis is None  # a replay does not write over it
    assert [file.name for file in kept.parent.iterdir()] == ["b.npz"]


def test_the_table_has_the_mean_colours():
    drawing = colours(["scenes#3", "scenes#5"], [TINY, OTHER], size=64)
    assert [(row["image"], row["network"]) for row in drawing.rows] == [
        (spec, name) for name in (TINY, OTHER) for spec in ("scenes#3", "scenes#5")
    ]
    for i, row in enumerate(drawing.rows):
        red, green, blue = drawing.arrays[f"{row['network']} {i % 2}"].reshape(-1, 3).mean(axis=0) / 255
        assert (row["red"], row["green"], row["blue"]) == pytest.approx((red, green, blue), abs=1e-4)


def test_a_basis_is_of_one_network(tmp_path):
    for how in ({"basis": "b.npz"}, {"keep_basis": "b.npz"}):
        with pytest.raises(ValueError, match="a basis belongs to one network"):
            colours(["scenes#3"], [TINY, OTHER], **how)
    with pytest.raises(ValueError, match=r"there is no PCA basis .*gone\.npz"):
        colours(["scenes#3"], [TINY], basis=str(tmp_path / "gone.npz"), size=64)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        colours(["scenes#3"], [TINY], keep_basis=str(tmp_path / "file" / "b.npz"), size=64)


def test_segments():
    drawing = segments(["scenes#3", "scenes#5"], [TINY], 3, size=64)
    centroids = drawing.arrays[f"{TINY} centroids"]
    cohesion = []
    for i, spec in enumerate(("scenes#3", "scenes#5")):
        cells = fmap_of(spec).features.flatten(1).T.numpy()
        cosines = cells / np.linalg.norm(cells, axis=1, keepdims=True) @ centroids.T
        labels = drawing.arrays[f"{TINY} {i}"]
        assert np.array_equal(labels.ravel(), cosines.argmax(axis=1))
        cohesion += cosines.max(axis=1).tolist()
        row = drawing.rows[i]
        assert row["image"] == spec
        shares = [row[f"segment {k}"] for k in range(3)]
        assert shares == pytest.approx([(labels == k).mean() for k in range(3)], abs=1e-4)
    assert drawing.lines == [f"{TINY}  cohesion {np.mean(cohesion):.3f} (3 segments)"]
    again = segments(["scenes#3", "scenes#5"], [TINY], 3, size=64)
    assert all(np.array_equal(drawing.arrays[name], again.arrays[name]) for name in drawing.arrays)


@pytest.mark.parametrize("draw", [colours, segments])
def test_maps_that_there_is_no_room_for_are_refused(monkeypatch, draw):
    opened = []
    monkeypatch.setattr(session, "open_image", lambda spec: opened.append(spec) or open_image(spec))
    one = fmap_of("scenes#0").features.nbytes
    specs = [f"scenes#{i}" for i in range(12)]
    monkeypatch.setattr(feature_colours, "_ROOM", 5 * one)
    with pytest.raises(ValueError, match=r"feature maps of 12 images take .* GB .* about 5 images with --most, or a"):
        draw(specs, [TINY], size=64)
    assert len(opened) < 12  # it is certain after the first map
    monkeypatch.setattr(feature_colours, "_ROOM", 12 * one)
    draw(specs, [TINY, OTHER], size=64)


@pytest.mark.parametrize("draw", [colours, segments])
def test_a_picture_is_opened_once_a_network_and_its_map_is_let_go_before_the_next(monkeypatch, draw):
    opened, maps, left = [], weakref.WeakSet(), []
    encoded = feature_colours._Sheet._maps

    def encode(self, *arguments):
        left.append(len(maps))
        found = encoded(self, *arguments)
        maps.update(found)
        return found

    monkeypatch.setattr(session, "open_image", lambda spec: opened.append(spec) or open_image(spec))
    monkeypatch.setattr(feature_colours._Sheet, "_maps", encode)
    told = []
    specs = [f"scenes#{i}" for i in range(3)]
    drawing = draw(specs, [TINY, OTHER], size=64, progress=lambda *step: told.append((*step, len(opened))))
    assert opened == specs * 2
    assert left == [0, 0]
    assert told[0] == (f"images, {TINY}", 1, 3, 1)
    assert [spec for spec in drawing.inputs if spec in specs] == specs


def test_a_basis_of_another_network_is_refused(tmp_path):
    file = str(tmp_path / "b.npz")
    colours(["scenes#3"], [TINY], keep_basis=file, size=64)
    with pytest.raises(
        ValueError, match=r"b\.npz is a basis of random:tiny, not of random:tiny@1: take that checkpoint"
    ):
        colours(["scenes#3"], [OTHER], basis=file, size=64)
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **{**arrays, "origin": np.array("demo/last"), "network": np.array(40 * "a5")})
    with pytest.raises(ValueError, match=r"a basis of demo/last \(a5a5a5a5a5a5\), not of random:tiny: .*--keep-basis"):
        colours(["scenes#3"], [TINY], basis=file, size=64)


@pytest.mark.parametrize(
    ("draw", "how"),
    [
        (colours, "three principal components, of all cells"),
        (segments, "k-means of all cells, 8 segments, seed 0"),
    ],
)
def test_the_foot_says_how_the_colours_were_made(draw, how):
    one = said(draw(["scenes#3"], [TINY], size=64, layer="c2"))
    assert f"scene 3 · {how} · layer c2, input 80 × 64" in one
    assert any(text.startswith(f"{TINY}, c2 ") for text in one)
    many = said(draw([f"scenes#{i}" for i in range(6)], [TINY], size=64))
    assert f"scene 0, scene 1, scene 2 and 3 more · {how} · layer c3, input's short side 64" in many
