"""plrc.analysis.scores, the table: one pass, the measures that a data set allows, and what is written of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

from plrc import cli
from plrc.analysis import descriptors
from plrc.analysis.descriptors import Descriptor
from plrc.analysis.scores import Score, ScoredImage, Table, bootstrap, result, score_table
from plrc.analysis.scores.table import _parts, aligned
from plrc.data.annotated import open_annotated
from plrc.queries import Scores
from plrc.registry import SCORES, Entry
from tests.sets import placed, thing, voc_set

OBJECTS = ["distance-matched AUC", "mask IoU", "CorLoc", "region purity", "linear probe AUC"]
VIEWS = "view match (±1 of 7×7 cells)"


def pooled(name: str = "pooled", stride: int = 32, seen: list[Tensor] | None = None) -> Descriptor:
    """Mean colours; keeps what it was given."""

    def maps(images: Tensor) -> Tensor:
        if seen is not None:
            seen.append(images)
        return nn.functional.avg_pool2d(images, stride)

    return Descriptor(name, maps, descriptors.cosine)


def scored(path: Path | str, *described: Descriptor, progress=iter, **query: object) -> Table:
    asked = Scores(dataset=str(path), **{"size": 64, **query})
    return score_table(open_annotated(str(path)), described or [pooled()], asked, progress)


@pytest.fixture(scope="module")
def table() -> tuple[Table, list[Tensor]]:
    seen: list[Tensor] = []
    return scored("scenes:4", pooled(seen=seen), pooled("finer", 16), size=96), seen


def test_the_scores_of_scenes(table):
    found, seen = table
    whole = [tuple(p.shape) for p in seen if len(p) == 1]  # in whole multiples of 32
    assert whole == [(1, 3, 96, 128)] * (4 + 3), "all but the first image also beforehand, for the thresholds"
    assert {tuple(p.shape) for p in seen if len(p) == 2} == {(2, 3, 224, 224)}
    assert found.columns == ("pooled", "finer", "Lab colour", "distance", "chance")
    assert list(found.rows) == [*OBJECTS, VIEWS]
    assert all(tuple(row) == found.columns for row in found.rows.values())
    assert {score.n for score in found.rows[OBJECTS[0]].values()} == {4}
    assert found.rows[OBJECTS[0]]["chance"].mean == 0.5
    assert set(found.seconds) == set(found.columns) - {"chance"}
    again = scored("scenes:4", pooled("finer", 16), size=96)
    assert again.rows == {name: {c: row[c] for c in again.columns} for name, row in found.rows.items()}


def test_arrays_are_what_the_scores_are_means_of(table):
    found, _ = table
    for measure, scores in found.rows.items():
        assert found.arrays[f"images of {measure}"].tolist() == [0, 1, 2, 3]
        assert found.arrays[f"names of images of {measure}"].tolist() == [f"scene-00000{i}" for i in range(4)]
        for column, score in scores.items():
            assert bootstrap(found.arrays[f"{measure}: {column}"]) == score
    assert len(found.arrays) == 6 * 7


def photo(file: Path, seed: int, hue: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 120, (24, 32, 3), dtype=np.uint8)
    pixels[..., hue] += 130
    Image.fromarray(pixels).resize((128, 96)).save(placed(file))


def masked(folder: Path, boxes: list[tuple[int, int, int, int]], name: str = "", seed: int = 0) -> Path:
    """A folder with an image for each box of its mask: left, top, right, bottom."""
    for i, (left, top, right, bottom) in enumerate(boxes):
        photo(folder / "images" / f"{name}{i}.png", seed + i)
        mask = np.zeros((96, 128), np.uint8)
        mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(placed(folder / "masks" / f"{name}{i}.png"))
    return folder


def test_class_folders_are_scored_by_neighbours(tmp_path):
    for i in range(24):
        photo(tmp_path / "ab"[i % 2] / f"{i}.png", i, i % 2)
    found = scored(tmp_path)
    assert list(found.rows) == ["11-NN accuracy", VIEWS]
    means = {column: score.mean for column, score in found.rows["11-NN accuracy"].items()}
    assert means == {"pooled": 1.0, "Lab colour": 1.0, "chance": 0.5}, "a mean place tells nothing of an image"
    arrays = [name for name in found.arrays if "11-NN" in name and "images" not in name]
    assert arrays == [f"11-NN accuracy: {c}" for c in means], "no array without a value"


def test_keypoints_are_scored_by_pck(tmp_path):
    for name in "abc":
        photo(tmp_path / f"{name}.png", ord(name))
    points = [[20, 30], [100, 20], [60, 80]]
    (tmp_path / "keypoints.json").write_text(json.dumps({f"{name}.png": points for name in "abc"}))
    found = scored(tmp_path)
    assert [name[:8] for name in found.rows] == ["PCK@0.05", "PCK@0.1 ", "PCK@0.15", "view mat"]
    assert found.columns == ("pooled", "Lab colour", "same place", "chance")
    place = found.rows["PCK@0.15 (of the keypoints' box)"]["same place"]
    assert (place.mean, place.n) == (1.0, 3), "all points are at the same place"


def test_boxes_without_masks(tmp_path):
    voc_set(tmp_path, dict.fromkeys("012", thing("x", (11, 11, 90, 80))), (128, 96))
    for i in range(3):
        photo(tmp_path / "JPEGImages" / f"{i}.jpg", i)
    found = scored(tmp_path)
    assert list(found.rows) == ["CorLoc (boxes)", "region purity (boxes)", VIEWS]
    assert found.notes()[0].endswith(": 3 images with boxes (PASCAL VOC: Annotations/, JPEGImages/)")
    assert found.notes()[1].startswith("not scored: distance-matched AUC, mask IoU and linear probe AUC (no")


def test_images_alone_and_undecodable_ones(tmp_path):
    for i in range(3):
        photo(tmp_path / "it" / f"{i}.png", i)
    (tmp_path / "it" / "broken.png").write_bytes(b"nothing")
    found = scored(tmp_path / "it")
    assert {name: row["pooled"].n for name, row in found.rows.items()} == {VIEWS: 3}
    (out,) = found.left_out
    assert out.startswith("broken.png: not a JPEG")
    assert found.notes() == [
        f"it: 3 of 4 images of which nothing is known; left out 1: {out}",
        "not scored: distance-matched AUC, mask IoU and linear probe AUC (no masks); CorLoc and region purity (no "
        "masks or boxes); PCK (no keypoints); k-NN (fewer than two class folders)",
    ]
    for i in range(3):
        (tmp_path / "it" / f"{i}.png").unlink()
    (tmp_path / "it" / "more.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of 2 images can be scored, left out 2: broken\.png[^;]*; and 1 more$"):
        scored(tmp_path / "it")


def test_images_that_do_not_count_and_bad_annotations_are_said(tmp_path):
    masked(tmp_path, [(30, 20, 90, 70), (30, 20, 34, 24), (30, 20, 90, 70), (30, 20, 90, 70)])
    Image.new("L", (100, 96)).save(tmp_path / "masks" / "3.png")
    found = scored(tmp_path)
    assert [found.rows[row]["pooled"].n for row in (OBJECTS[0], VIEWS)] == [2, found.images] == [2, 3]
    assert found.arrays["images of mask IoU"].tolist() == [0, 2]
    first, second, third = found.notes()
    assert re.search(r": 3 of 4 images with masks \(images/, masks/\); left out 1: .*3\.png.* 100 × 96", first)
    assert second == "not scored: PCK (no keypoints); k-NN (fewer than two class folders)"
    assert third == (
        "images that do not count: 1 in distance-matched AUC, mask IoU, CorLoc and region purity (no object covers 1 % "
        "to 90 % of the image)"
    )


def test_the_digest_is_of_pixels_and_of_what_is_known(tmp_path):
    def digest(right: int = 90, hole: bool = False, **how: object) -> str:
        data = masked(tmp_path / str(len(list(tmp_path.iterdir()))), [(30, 20, right, 70)] * 2, **how)
        if hole:  # the box stays
            mask = np.array(Image.open(data / "masks" / "0.png"))
            mask[40:45, 50:60] = 0
            Image.fromarray(mask).save(data / "masks" / "0.png")
        return scored(data, measures=["purity"]).sha256

    same = digest()
    assert digest(name="other") == same
    assert len({same, digest(seed=5), digest(right=91), digest(hole=True)}) == 4
    of_classes = []
    for odd in ("a", "b"):  # the class of one image is another
        for name in "0123":
            photo(tmp_path / f"classes {odd}" / (odd if name == "3" else "ab"[int(name) % 2]) / f"{name}.png", 1)
        of_classes.append(scored(tmp_path / f"classes {odd}", measures=["views"]).sha256)
    assert of_classes[0] != of_classes[1]


def test_parts_are_few_and_of_an_interrupted_data_set_the_same():
    parts = _parts(object(), range(5000), None)
    assert 400 < len(parts) <= 512
    assert [i for part in parts for i in part] == list(range(5000))
    begun = _parts(object(), range(5000), 95)
    assert begun[:-1] == parts[: len(begun) - 1]


def test_a_group_lies_in_one_part():
    class Grouped:
        def group(self, i: int) -> str:
            return "aaaaaabbbbbccc"[i]

    assert _parts(Grouped(), range(14), None) == [list(range(11)), [11, 12, 13]]  # type: ignore[arg-type]


def test_what_was_scored_until_an_interrupt_is_a_table_and_a_limit_is_spread():
    seen: list[int] = []

    def two(numbers: list[int]) -> list[int]:
        seen.extend(numbers)
        return numbers[:2]

    found = scored("scenes:9", most=3, progress=two, measures=["auc"])
    assert seen == [0, 4, 8]
    assert (found.interrupted_after, found.images, found.available) == (2, 2, 9)
    assert found.arrays[f"images of {OBJECTS[0]}"].tolist() == [0, 4]
    assert found.lines()[0].startswith("scenes:9 (interrupted after 2 images)  n ")


@pytest.mark.parametrize(
    ("described", "measures", "message"),
    [
        ([], [], "name a checkpoint"),
        ([pooled(), pooled()], [], "a name of its own, not pooled, pooled, Lab"),
        ([pooled("chance")], [], "a name of its own"),
        ([pooled()], ["acu"], r"unknown score 'acu': choose one of auc, iou, .* did you mean 'auc'"),
    ],
)
def test_what_cannot_be_scored(described, measures, message):
    with pytest.raises(ValueError, match=message):
        score_table(open_annotated("scenes:2"), described, Scores(dataset="scenes:2", measures=measures))


def brightness(image: ScoredImage) -> list[float] | str:
    """A score that a reader of CONTRIBUTING might write: the mean of each map, and 0.5."""
    if image.number == 1:
        return "too dark"
    return [*(float(maps.mean()) for maps in image.maps), 0.5]


def test_a_registered_score_is_a_row_of_plrc_score(tmp_path, capsys, monkeypatch):
    about = {"title": "mean value", "needs": "masks"}
    monkeypatch.setitem(SCORES, "brightness", Entry(brightness, "how bright the maps are", about))
    data, out = masked(tmp_path / "data", [(0, 0, 128, 96)] * 3), tmp_path / "s"
    cli.main(["score", str(data), "--measures", "brightness", "views", "--size", "64", "--out", str(out)])
    said = capsys.readouterr().out
    content = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row.split(" (")[0] for row in content] == ["view match", "mean value"]
    with np.load(out.with_suffix(".npz")) as arrays:
        assert arrays["images of mean value"].tolist() == [0, 2]
        mean = content["mean value"]["plrc:tiny"]["mean"]
        assert np.mean(arrays["mean value: plrc:tiny"]) == pytest.approx(mean)
    assert content["mean value"]["chance"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 2}
    network = json.loads(out.with_suffix(".json").read_text())["networks"]["plrc:tiny"]
    assert Path(network["checkpoint"]).name == "tiny.safetensors"
    assert re.search(r"^mean value +2 +\S", said, re.MULTILINE)
    assert "1 in mean value (too dark)" in said
    assert "mean value (no masks)" in scored(data / "images", measures=["brightness", "views"]).notes()[1]


def test_a_result_says_number_interval_and_chance():
    auc = bootstrap(values := [0.3, 0.6, 0.9, 0.7])
    assert result("object AUC", values, "distance-matched", 0.5) == (
        f"object AUC 0.625 [{auc.low:.3f}, {auc.high:.3f}] (distance-matched, chance 0.500)"
    )
    assert result("correct", 0.11, chance=0.003, more="3 of 5", style=".1%") == "correct 11.0% (chance 0.3%, 3 of 5)"
    assert result("cosine", [-0.25]) == "cosine -0.250"
    assert aligned([["a", "12", "x"], ["long", "3"]]) == ["a     12  x", "long  3"]


def test_the_interval_holds_the_mean_and_shrinks_with_the_number_of_images():
    values = np.random.default_rng(0).random(1600)
    for n in (25, 100, 400, 1600):
        score = bootstrap(values[:n].tolist())
        assert score.low < score.mean < score.high
        assert (score.mean, score.n) == (pytest.approx(values[:n].mean()), n)
        # Of the mean of n uniform numbers: ± 1.96 / sqrt(12 n)
        assert score.high - score.low == pytest.approx(2 * 1.96 / np.sqrt(12 * n), rel=0.25)


FIXED = Table(
    Scores(dataset="data/a b", size=448, most=12),
    ("net", "chance"),
    {"AUC": {"net": Score(0.75, 0.5, 1.0, 12), "chance": Score(0.5, 0.5, 0.5, 12)}, "k-NN": {"net": Score(1, 1, 1, 9)}},
    {"net": 0.1234},
    baselines=("chance",),
    networks={"net": {"checkpoint": "runs/x.pt", "layer": "c5", "sha256": "ab", "arch": "tiny", "branch": None}},
)


def test_markdown_and_text():
    assert FIXED.to_markdown().splitlines() == [
        "| a b | n | net | chance |",
        "|---|---|---|---|",
        "| layer |  | c5 | – |",
        "| AUC | 12 | 0.750 [0.500, 1.000] | 0.500 [0.500, 0.500] |",
        "| k-NN | 9 | 1.000 [1.000, 1.000] | – |",
        "| seconds an image (448 px) |  | 0.123 | – |",
    ]
    lines = FIXED.lines()
    assert lines[1].split() == ["layer", "c5", "–"]
    assert len({line.index(word) for line, word in zip(lines, ("net", "c5", "0.750", "1.000"), strict=True)}) == 1
    three = replace(FIXED, layout="with masks", left_out=("a: x", "b: y", "c: z"))
    assert three.notes()[0].endswith("; left out 3: a: x; b: y; c: z")
    four = replace(three, left_out=("a: x", "b: y", "c: z", "d"))
    assert four.notes()[0].endswith("; left out 4: a: x; b: y; c: z; and 1 more")
    known = replace(FIXED, layout="with masks", images=2, available=9, left_out=("a: x", "b: y"), missing=("none",))
    notes = ["a b: 2 of 9 images with masks; left out 2: a: x; b: y", "none"]
    assert known.notes() == known.lines()[4:] == notes
    assert known.to_markdown().splitlines()[6:] == ["", notes[0], "", notes[1]]


def test_records_and_content_hold_every_number():
    rows = FIXED.records()
    first = {"measure": "AUC", "column": "net", "mean": 0.75, "low": 0.5, "high": 1.0, "n": 12}
    asked = {"data": "data/a b", "limit": 12, "short side": 448, "within": 1}
    origin = {"checkpoint": "runs/x.pt", "layer": "c5", "sha256": "ab", "arch": "tiny", "branch": "", "format": ""}
    assert rows[0] == {**first, **asked, **origin, "note": ""}
    assert rows[1].items() >= {"column": "chance", **asked, "checkpoint": "", "layer": ""}.items()
    assert [row["measure"] for row in rows] == ["AUC", "AUC", "k-NN", "seconds an image"]
    assert rows[-1]["mean"] == 0.1234
    content = json.loads(json.dumps(FIXED.content(), allow_nan=False))
    assert content["rows"]["AUC"]["chance"] == {"mean": 0.5, "low": 0.5, "high": 0.5, "n": 12}
    assert content["rows"]["k-NN"].keys() == {"net"}
    known = {"data": "a b", "path": "data/a b", "limit": 12, "within": 1, "short_side": 448}
    known |= {"columns": ["net", "chance"], "seconds": {"net": 0.1234}, "networks": FIXED.networks}
    assert content.items() >= known.items()
    one = replace(FIXED, rows={"AUC": {"net": bootstrap([0.75])}})
    assert one.records()[0].items() >= {"mean": 0.75, "low": "", "high": "", "n": 1}.items()
    assert one.content()["rows"]["AUC"]["net"] == {"mean": 0.75, "low": None, "high": None, "n": 1}
    assert "| 0.750 (n = 1) | – |" in one.to_markdown()


def test_a_table_is_drawn():
    figure = FIXED.draw()
    dots = [[line.get_label() for line in axes.lines if line.get_marker() == "o"] for axes in figure.axes]
    assert dots == [["net"], ["net"]]
    chance = [line for line in figure.axes[0].lines if line.get_label() == "chance"]
    assert chance[0].get_xdata().tolist() == [0.5]
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"AUC, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}12", "a b", "layer c5; short side 448 px"} <= texts
    two = replace(FIXED, columns=("net", "other", "chance"), networks={**FIXED.networks, "other": {"layer": "z"}})
    assert "layers c5, z; short side 448 px" in {text.get_text() for text in two.draw().findobj(Text)}
