"""plrc.views.affinity: the map peaks where one points, and each number is of its own image and network."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from plrc.analysis.affinity import affinity as affinity_of
from plrc.analysis.features import load_encoder
from plrc.analysis.scores import point_auc
from plrc.pretrained import load
from plrc.pretrained.export import export
from plrc.queries import Affinity
from plrc.views import Session, replay
from plrc.views.images import NamedImage, innermost, open_image
from tests.sets import noise, ramp
from tests.views.conftest import affinity, said

TINY, OTHER, COARSE = "random:tiny", "random:tiny@1", "random:resnet18"


def peak(values):
    return np.unravel_index(values.argmax(), values.shape)


@pytest.fixture
def wide(seeing, tmp_path):
    ramp(96, 64).save(tmp_path / "wide.png")
    return str(tmp_path / "wide.png")


@pytest.mark.parametrize("size", [(96, 64), (48, 96), (100, 63)])
def test_the_map_peaks_in_the_cell_that_was_pointed_at(seeing, tmp_path, size):
    ramp(*size).save(tmp_path / "ramp.png")
    points = [[0.05, 0.9], [0.3, 0.2], [0.95, 0.55]]
    drawing = affinity([str(tmp_path / "ramp.png")], ["any"], points, size=64)
    assert len(drawing.rows) == 3
    for i, (x, y) in enumerate(points):
        values = drawing.arrays[f"any {i}"]
        h, w = values.shape
        assert (w > h) == (size[0] > size[1])
        assert peak(values) == (int(y * h), int(x * w))
        assert drawing.arrays[f"positive {i}"] == pytest.approx(np.array([[x, y]]))


def test_where_nobody_points_and_no_object_is_known_it_is_the_centre(photos):
    drawing = affinity([str(photos / "b.jpg")], [TINY], size=64)
    assert drawing.arrays["positive 0"].tolist() == [[0.5, 0.5]]
    assert drawing.rows[0]["AUC"] == ""


def test_negative_points_are_subtracted(wide):
    drawing = affinity([wide], ["any"], [[0.1, 0.2], [0.3, 0.2]], [[0.9, 0.9]], size=64)
    assert len(drawing.rows) == 1  # one question, not two
    values = drawing.arrays["any 0"]
    assert min(values[1, 1], values[1, 3]) > 0.3
    assert values[7, 10] < -0.3
    assert drawing.arrays["negative 0"].tolist() == pytest.approx(np.array([[0.9, 0.9]]))
    assert "positive − negative" in {text.split(":")[0] for text in said(drawing)}


def test_a_row_for_each_picture_and_network_with_its_own_numbers(masked):
    """Several pictures, two networks: AUC, half, lowest and highest by hand."""
    specs, point = [f"{masked}#{i}" for i in range(3)], [0.45, 0.5]  # in the objects of 1 and 2, not of 0
    drawing = affinity(specs, [TINY, OTHER], [point], size=64)
    assert [(row["image"], row["network"]) for row in drawing.rows] == [(s, n) for n in (TINY, OTHER) for s in specs]
    assert [row["file"] for row in drawing.told_rows()] == [f"{masked}/images/p{i}.png" for i in range(3)] * 2
    assert drawing.recipe()["files"] == {f"{masked}#{i}": f"{masked}/images/p{i}.png" for i in range(3)}
    assert "file" not in affinity(["scenes#3"], [TINY], size=64).told_rows()[0]
    aucs = []
    for row in drawing.rows:
        number, picture = specs.index(row["image"]), open_image(row["image"])
        fmap = load_encoder(row["network"]).features(picture.image, size=64)
        values = affinity_of(fmap, torch.tensor([point]))
        torch.testing.assert_close(torch.from_numpy(drawing.arrays[f"{row['network']} {number}"]), values[0])
        auc = point_auc(values[0], fmap.extent, torch.from_numpy(picture.masks[0].copy()), torch.tensor(point))
        assert row["AUC"] == ("" if number == 0 else pytest.approx(auc, abs=1e-4))
        low, high = float(values.min()), float(values.max())
        assert (row["lowest"], row["highest"]) == pytest.approx((low, high), abs=1e-4)
        assert row["half"] == pytest.approx(float((values > (low + high) / 2).float().mean()), abs=1e-4)
        assert row["point"] == "0.450,0.500"
        aucs.append(row["AUC"])
    assert len({auc for auc in aucs if auc != ""}) == 4
    for name, line in zip((TINY, OTHER), drawing.lines, strict=True):
        mine = [row for row in drawing.rows if row["network"] == name]
        mean = np.mean([r["AUC"] for r in mine if r["AUC"] != ""])
        assert re.match(rf"{name} +object AUC {mean:.3f} \[.*\] \(distance-matched, chance 0.500, 2 of 3 maps\)", line)
        low, high = min(r["lowest"] for r in mine), max(r["highest"] for r in mine)
        assert line.endswith(f"cosine {low:.2f} to {high:.2f}  3 maps".replace("-", "−"))


@pytest.fixture
def nested(monkeypatch):
    """A picture whose objects overlap: a frame with a spot in the middle, a large one in the frame, a small one."""
    masks = np.zeros((3, 64, 96), bool)
    masks[0, :, :90] = True
    masks[0, 4:60, 4:88] = False
    masks[0, 30:34, 28:36] = True  # over the innermost point of the next
    masks[1, 4:60, 4:88] = True
    masks[2, 20:44, 36:60] = True
    picture = NamedImage("p", "p", noise(96, 64), masks, ["frame", "large", "small"])
    monkeypatch.setattr("plrc.views.session.open_image", lambda spec: picture)
    return masks


@pytest.mark.parametrize(
    ("points", "thing"),
    [([], 0), ([[0.32, 0.5]], 0), ([[0.42, 0.4]], 2), ([[0.1, 0.5]], 1), ([[0.99, 0.5]], None)],
)
def test_the_object_that_is_meant(nested, points, thing):
    """The smallest one at the point, also at the one that is taken where nobody points; its class is told."""
    drawing = affinity(["p"], [TINY], points, size=64)
    fmap = load_encoder(TINY).features(noise(96, 64), size=64)
    values, point = torch.from_numpy(drawing.arrays[f"{TINY} 0"]), torch.from_numpy(drawing.arrays["positive 0"])
    aucs = [point_auc(values, fmap.extent, torch.from_numpy(mask), point[0]) for mask in nested]
    assert len({round(auc, 4) for auc in aucs}) == 3
    assert point[0].tolist() == pytest.approx((points or [innermost(nested[1])])[0])
    assert drawing.rows[0]["AUC"] == ("" if thing is None else pytest.approx(aucs[thing], abs=1e-4))
    name = "background" if thing is None else ["frame", "large", "small"][thing]
    assert drawing.rows[0]["object"] == name
    told = "the point is outside every object" if thing is None else f"({name}, distance-matched, chance 0.500)"
    assert told in drawing.lines[0]


def test_the_interval_is_over_pictures_not_over_points(masked):
    """Points of one picture say nothing of another one, and one that is asked twice weighs as one."""
    points = [[0.45, 0.5], [0.42, 0.45], [0.5, 0.6]]
    one = affinity([f"{masked}#1"], [TINY], points, size=64)
    assert f"object AUC {np.mean([row['AUC'] for row in one.rows]):.3f} (" in one.lines[0]
    twice = affinity([f"{masked}#1", f"{masked}#1", f"{masked}#2"], [TINY], points[:1], size=64)
    first, again, other = (row["AUC"] for row in twice.rows)
    assert first == again != other
    assert f"object AUC {(first + other) / 2:.3f} [" in twice.lines[0]


def test_the_difference_is_the_last_minus_the_first():
    one, three = (
        affinity(["scenes#3"], [TINY, OTHER], [[0.4, 0.6]], size=64, difference=difference)
        for difference in (False, True)
    )
    title = f"{OTHER} − {TINY}"
    expected = one.arrays[f"{OTHER} 0"] - one.arrays[f"{TINY} 0"]
    np.testing.assert_allclose(three.arrays[f"{title} 0"], expected, atol=1e-6)
    assert set(three.arrays) == {f"{title} 0", "positive 0", "negative 0"}
    *networks, own = three.rows
    assert networks == one.rows
    assert [answer.row for (answer,) in one.columns.values()] == one.rows
    # Its own lowest and highest, not those of the two networks, in the table, under the map and in a line.
    low, high = float(expected.min()), float(expected.max())
    assert (own["network"], own["half"], own["AUC"], own["IoU"]) == (title, "", "", "")
    assert (own["lowest"], own["highest"]) == pytest.approx((low, high), abs=1e-4)
    first, last = (row["AUC"] for row in one.rows)
    span = f"{low:.2f} to {high:.2f}".replace("-", "−")
    assert {f"{span}, AUC {first:.2f} → {last:.2f}", title} <= said(three)
    assert [line.split("  ")[0] for line in three.lines] == [TINY, OTHER, title]
    assert f"object AUC {first:.3f} → {last:.3f}  " in three.lines[2]
    assert three.lines[2].endswith(f"difference {span}")
    assert (three.scale.low, three.scale.quantity) == (-three.scale.high, "difference")
    assert three.scale.high == pytest.approx(np.abs(expected).max(), abs=1e-5)


def test_a_point_is_looked_for_in_other_pictures(wide, tmp_path):
    ramp(64, 96).transpose(method=0).save(tmp_path / "mirrored.png")  # left and right
    specs = [wide, str(tmp_path / "mirrored.png")]
    drawing = affinity(specs[:1], ["any"], [[0.1, 0.8]], to=specs[1:], size=64)
    assert drawing.arrays["any 1"].shape == (12, 8)
    assert peak(drawing.arrays["any 1"]) == (9, 7)
    assert [row["image"] for row in drawing.rows] == specs
    assert [row["point"] for row in drawing.rows] == ["0.100,0.800", ""]  # it is no point of the other
    shares = affinity(specs[:1], ["any"], [[0.1, 0.8]], to=specs[1:], size=64, temperature=0.1).arrays
    # Densities: as large together as there are cells.
    assert shares["any 0"].sum() + shares["any 1"].sum() == pytest.approx(2 * 12 * 8, rel=1e-5)


def test_a_long_folder_is_all_in_the_table_and_in_part_on_the_sheet(seeing, tmp_path):
    specs, done = [str(tmp_path / f"{i:02}.png") for i in range(15)], []
    for spec in specs:
        ramp(16, 16).save(spec)
    drawing = affinity(specs, ["any"], [[0.2, 0.2]], size=16, progress=lambda *step: done.append(step))
    assert [row["image"] for row in drawing.rows] == specs
    assert {f"any {i}" for i in range(15)} <= set(drawing.arrays)
    assert sum(any(i.get_label() == "picture" for i in axes.images) for axes in drawing.figure.axes) == 12
    assert drawing.part == "12 of 15 images"
    points = [[0.2, i / 20] for i in range(15)]
    assert affinity(specs[:1], ["any", "other"], points, size=16).part == "12 of 15 maps"
    assert affinity(specs[:1], ["any"], points, size=16).part == ""  # a map a point
    assert done == [("images", i, 15) for i in range(1, 16)]


def test_softmax_maps_of_different_strides_can_be_compared(photos):
    """Shares fall as cells grow in number: of 6 cells each has sixteen times that of 96."""
    images, how = [str(photos / "b.jpg")], {"points": [[0.4, 0.6]], "size": 64}
    both = affinity(images, [TINY, COARSE], temperature=1e6, **how)  # so warm that all is even
    shapes = {name: values.shape for name, values in both.arrays.items() if "random" in name}
    assert shapes == {f"{TINY} 0": (8, 12), f"{COARSE} 0": (2, 3)}
    for name in shapes:
        np.testing.assert_allclose(both.arrays[name], 1, atol=1e-3)
    # Where it is not even: as much is added as is taken away.
    cold = affinity(images, [TINY, COARSE], difference=True, temperature=0.2, **how)
    values = cold.arrays[f"{COARSE} − {TINY} 0"]
    assert values.min() < -0.02 < 0.02 < values.max()
    assert abs(values.mean()) < 0.1 * values.max()


def test_of_a_softmax_half_is_where_half_of_it_lies(wide):
    drawing = affinity([wide], ["any"], [[0.3, 0.4]], temperature=0.05, size=64)
    values = np.sort(drawing.arrays["any 0"].ravel())[::-1].astype(float)
    cells = 1 + next(i for i in range(96) if values[: i + 1].sum() >= values.sum() / 2)
    assert 1 < cells < 48
    assert drawing.rows[0]["half"] == round(cells / 96, 4)
    assert drawing.lines == [f"any  half of the softmax in {cells / 96:.1%} of the image"]


FOOT = "b · layer projector, input 96 × 64"


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"layer": "c3"}, "b · layer c3, input 96 × 64"),
        ({"layer": "c2", "finer": "shifted"}, "b · layer c2, shifted ×2, input 96 × 64"),
        ({"checkpoints": [TINY, COARSE], "layer": "c3"}, "b · layer c3, input 96 × 64"),
        ({"temperature": 0.25}, f"{FOOT} · softmax at temperature 0.25"),
        ({"points": 2 * [[0.1, 0.1]]}, FOOT),
        (
            {"points": 2 * [[0.1, 0.1]], "negatives": 3 * [[0.9, 0.9]]},
            f"{FOOT} · maximum over 2 points minus that over 3 negative ones",
        ),
        ({"images": ["a.png", "b.jpg"]}, "a, b · layer projector, input's short side 64"),
    ],
)
def test_headings_and_the_foot_say_what_is_drawn(photos, monkeypatch, how, text):
    monkeypatch.chdir(photos)
    assert text in said(affinity(**({"images": ["b.jpg"], "checkpoints": [TINY], "size": 64} | how)))


def test_the_colours_have_the_range_of_all_maps_or_the_full_one():
    shared, full = (affinity(["scenes#3"], [TINY, OTHER], size=64, colour_range=r) for r in ("shared", "full"))
    values = np.concatenate([shared.arrays[f"{name} 0"].ravel() for name in (TINY, OTHER)])
    assert (shared.scale.low, shared.scale.high) == pytest.approx((values.min(), values.max()))
    assert (full.scale.low, full.scale.high) == (-1, 1)
    assert all(np.array_equal(shared.arrays[name], full.arrays[name]) for name in shared.arrays)


def test_the_input_is_twice_the_views_of_training_where_a_checkpoint_tells_them(photos, tmp_path):
    files = []
    for view in (16, 24):
        files.append(str(tmp_path / f"{view}.safetensors"))
        export(load("random:tiny").told(run={"config": {"image_size": view}}), "safetensors", Path(files[-1]))

    def size(*checkpoints, **how):
        return affinity([str(photos / "b.jpg")], checkpoints, **how).query.size

    assert size(files[0]) == (32, 0)
    assert size(TINY, *files) == (48, 0), "of several the largest"
    assert size(*files, size="40x24") == (40, 24)
    assert Session().size(Affinity(checkpoints=(TINY,))) == (448, 0), "none tells"
    drawing = affinity([str(photos / "b.jpg")], files)
    drawing.save(tmp_path / "drawn")
    assert drawing.recipe()["query"]["size"] == 48
    assert replay(tmp_path / "drawn.json")[1] == []
