"""plrc.views.retrieval: answers are the most alike patches of other images, and an index is kept while it holds."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from plrc.analysis.features import load_encoder, region_features
from plrc.analysis.retrieval import patch_at, patches
from plrc.queries import Retrieval
from plrc.views import replay, retrieval
from plrc.views.images import open_image, region_raster
from plrc.views.retrieval import NothingIndexed
from tests.sets import noise, placed
from tests.views.conftest import asking, said

TINY, OTHER = "random:tiny", "random:tiny@1"
retrieve = asking(Retrieval, "images", "checkpoints", "among")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five images in each of two folders; an index has files of four images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(retrieval, "_PART", 4)
    for i in range(10):
        file = placed(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png")
        noise(64 + 32 * (i % 3), 64, i).resize((64 + 16 * i, 96)).save(file)
    return tmp_path / "photos"


def files(folder):
    return sorted(folder.parent.glob("cache/plrc/retrieval/*/*.npz"))


def expected(query_feature, folder, without, network, whole=False, size=64):
    """Each other image's best patch by a plain loop: (cosine, file, box), best first."""
    encoder, found = load_encoder(network), []
    for file in sorted(folder.rglob("*.png")):
        if file.name != without:
            features, boxes = patches(encoder.features(file, size=size))
            cosines = features @ F.normalize(query_feature, dim=0)
            best = 0 if whole else 1 + int(cosines[1:].argmax())
            found.append((float(cosines[best]), str(file), boxes[best].tolist()))
    return sorted(found, reverse=True)


def test_answers_are_the_most_alike_patches_of_other_images(folder, tmp_path):
    spec = folder / "a" / "2.png"
    copied = tmp_path / "elsewhere.png"
    Image.open(spec).save(copied)
    drawing = retrieve([spec], [TINY, OTHER], folder, points=[(0.3, 0.6)], answers=5, size=64)
    for name, network in ((TINY, TINY), (OTHER, OTHER)):
        fmap = load_encoder(network).features(spec, size=64)
        feature, box = patch_at(fmap, torch.tensor([0.3, 0.6]))
        best = expected(feature, folder, "2.png", network)[:5]
        rows = [row for row in drawing.rows if row["network"] == name]
        assert [row["answer"] for row in rows] == [file for _, file, _ in best]
        assert np.allclose(drawing.arrays[f"{name} cosine 0"], [cosine for cosine, _, _ in best], atol=1e-3)
        assert np.allclose(drawing.arrays[f"{name} box 0"], [of for _, _, of in best], atol=1e-6)
        assert drawing.arrays[f"{name} asked 0"].tolist() == box.tolist()
        same = np.mean([row["label"] == "a" for row in rows])
        assert [row["same"] for row in rows] == [int(row["label"] == "a") for row in rows]
        line = next(line for line in drawing.lines if line.startswith(f"{name} "))
        assert f"same folder {same:.3f} (in 10 images, " in line
        assert "chance 0.444" in line  # 4 of 9
        assert any(
            text.startswith(f"{name} · same folder (a) {same:.2f} (chance 0.444), cosine") for text in said(drawing)
        )
    (recipe,) = [file for file in drawing.save(tmp_path / "x") if file.suffix == ".json"]
    assert replay(recipe)[1] == []
    again = retrieve([copied], [TINY], folder, points=[(0.3, 0.6)], answers=5, size=64)
    assert [row["answer"] for row in again.rows] == [row["answer"] for row in drawing.rows][:5]


def test_a_region_is_compared_with_patches_and_an_image_with_images(folder):
    spec, encoder = str(folder / "b" / "5.png"), load_encoder(TINY)
    fmap, raster = encoder.features(spec, size=64), region_raster(open_image(spec), "grid:2")
    drawing = retrieve([spec], [TINY], folder, of="region", regions="grid:2", points=[(0.9, 0.2)], size=64)
    best = expected(region_features(fmap, raster)[1], folder, "5.png", TINY)
    assert [row["answer"] for row in drawing.rows] == [file for _, file, _ in best][:8]
    assert drawing.arrays[f"{TINY} asked 0"].tolist() == [0.5, 0, 1, 0.5]
    drawing = retrieve([spec], [TINY], folder, of="image", size=64)
    best = expected(fmap.features.mean(dim=(1, 2)), folder, "5.png", TINY, whole=True)
    assert [row["answer"] for row in drawing.rows] == [file for _, file, _ in best][:8]


def test_a_label_is_the_class_at_the_middle_of_a_patch(folder):
    drawing = retrieve(["scenes#3"], [TINY], "scenes:9", points=[(0.2, 0.5), (0.9, 0.9)], size=64)
    for row in drawing.rows:
        image = open_image(row["answer"])
        (at,) = image.objects_at(torch.tensor([[(row["x0"] + row["x1"]) / 2, (row["y0"] + row["y1"]) / 2]]))
        assert row["label"] == ([*image.classes, "background"][at])
    assert {row["point"] for row in drawing.rows} == {"0.2000,0.5000", "0.9000,0.9000"}
    assert "same class" in drawing.lines[0]


def test_a_file_of_the_data_set_has_the_label_of_the_patch_around_the_point(folder, masked):
    """Its objects are known there, though the file alone does not tell them."""
    inside, outside = (1 / 3, 0.5), (0.95, 0.05)
    of_set, of_file = (retrieve([spec], [TINY], masked, points=[inside, outside], size=64) for spec in (
        f"{masked}#0", masked / "images" / "p0.png"
    ))  # fmt: skip
    assert [line.split("  ")[1] for line in of_file.lines] == [line.split("  ")[1] for line in of_set.lines]
    assert [row["same"] for row in of_file.rows] == [row["same"] for row in of_set.rows]
    assert "same kind, object or background, " in of_file.lines[0], "no class has a name here"
    whole = retrieve([str(masked / "images" / "p0.png")], [TINY], masked, of="image", size=64)
    assert "same" not in whole.lines[0], "each image is of an object"


def test_an_index_that_was_interrupted_answers_and_goes_on(folder, tmp_path):
    spec, how = str(folder / "a" / "2.png"), {"size": 64, "points": [(0.3, 0.6)]}
    with pytest.raises(NothingIndexed, match="is not indexed yet"):
        retrieve([spec], [TINY], folder, progress=lambda what, done, total: done == 3, **how)
    part = retrieve([spec], [TINY, OTHER], folder, progress=lambda what, done, total: done == 5, **how)
    assert part.query.until == 4
    assert "in 4 of 10 images" in part.lines[0]
    looked = {row["answer"] for row in part.rows}
    first = {file: file.stat().st_mtime_ns for file in files(folder)}
    assert len(first) == 2
    whole = retrieve([spec], [TINY, OTHER], folder, **how)
    assert whole.query.until is None
    assert len(files(folder)) == 6
    assert all(file.stat().st_mtime_ns == then for file, then in first.items())
    assert len({row["answer"] for row in whole.rows}) > len(looked)
    (recipe,) = [file for file in part.save(tmp_path / "x") if file.suffix == ".json"]
    assert replay(recipe)[1] == []


def test_what_is_damaged_is_made_again_and_what_has_changed_is_seen(folder, caplog):
    spec, how = str(folder / "a" / "2.png"), {"size": 64, "points": [(0.3, 0.6)]}
    then = retrieve([spec], [TINY], folder, **how)
    for file in files(folder)[:2]:
        file.write_bytes(file.read_bytes()[:-500])
    assert retrieve([spec], [TINY], folder, **how).recipe() == then.recipe()
    assert caplog.text.count("is damaged and made again") == 2
    pixels = np.array(Image.open(spec))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "b" / "9.png")
    (folder / "b" / "bad.png").write_bytes(b"no image")
    now = retrieve([spec], [TINY], folder, **how)
    assert now.rows[0]["answer"] == str(folder / "b" / "9.png")
    assert "in 10 of 11 images" in now.lines[0]
    assert "bad.png" in caplog.text
    before = files(folder)
    os.utime(folder / "b" / "9.png", ns=(1, 1))
    retrieve([spec], [TINY], folder, **how)
    assert len(files(folder)) > len(before)


def test_what_cannot_be_answered_is_a_sentence(folder):
    for among, message in (("", "say where to look: --among"), ("gone", "gone does not exist: give")):
        with pytest.raises(ValueError, match=message):
            retrieve([str(folder / "a" / "2.png")], [TINY], among, size=64)
    noise(64, 64).save(alone := placed(folder.parent / "alone" / "x.png"))
    with pytest.raises(ValueError, match="has no other image than"):
        retrieve([str(alone)], [TINY], alone.parent, size=64)
