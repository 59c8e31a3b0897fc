"""plrc.views.correspondence: what sees coordinates matches all; numbers are of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.analysis.correspondence import Matches, chance
from plrc.analysis.features import load_encoder, region_numbers
from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.views.images import open_image
from tests.views.conftest import correspondence, noise, ramp, said

TINY, OTHER = "random:tiny", "random:tiny@1"


@pytest.fixture
def true_colours(monkeypatch):
    """Views keep their colours."""
    monkeypatch.setattr("plrc.views.correspondence.apply", lambda views, parameters: views.float() / 255)


@pytest.fixture
def wide(tmp_path):
    ramp(160, 96).save(tmp_path / "wide.png")
    return str(tmp_path / "wide.png")


SEEDS = (0, 2, 8, 11)  # of the four pairs of flips


@pytest.mark.parametrize("seed", SEEDS)
def test_two_views_of_coordinates_match_everywhere(seeing, true_colours, wide, seed):
    drawing = correspondence([wide], ["any"], size=128, seed=seed)
    (row,) = drawing.rows
    assert (row["matches"], row["correct"]) == (256, 1)
    assert row["right"] == row["visible"] > 0
    assert 0 < row["chance"] < 0.2
    arrays = {name.removeprefix("any "): values for name, values in drawing.arrays.items()}
    seen = arrays["visible"]
    assert (seen.sum(), arrays["right"].sum()) == (row["visible"], row["right"])
    # The truth is what the crops say, by way of the image.
    crops = view_sampler(load_config("imagenet")).draw(seed, 0, 0, (160, 96)).crops
    true = crops[1].to_view(crops[0].to_image(torch.from_numpy(arrays["start"])))
    np.testing.assert_allclose(arrays["truth"], true.numpy(), atol=1e-6)
    assert np.abs(arrays["end"] - arrays["truth"])[seen].max() < 1.5 / 16


def test_seeds_flip_views_differently():
    """Else the test above would be of one case."""
    draw = view_sampler(load_config("imagenet")).draw
    assert len({tuple(draw(seed, 0, 0, (160, 96)).crops.flip.tolist()) for seed in SEEDS}) == 4


def test_two_views_that_share_nothing_have_no_recall(seeing, wide):
    (row,) = (drawing := correspondence([wide], ["any"], size=64, seed=6)).rows
    assert (row["visible"], row["right"], row["correct"], row["chance"]) == (0, 0, "", "")
    assert "correct" not in drawing.lines[0]


def test_points_of_a_picture_are_matched_in_the_views(seeing, true_colours, wide):
    crops = view_sampler(load_config("imagenet")).draw(0, 0, 0, (160, 96)).crops
    point = crops[0].to_image(torch.tensor([[0.4, 0.7]]))[0]
    drawing = correspondence([wide], ["any"], points=[point.tolist()], size=128)
    assert drawing.arrays["any start"] == pytest.approx(np.array([[0.4, 0.7]]), abs=1e-5)
    outside = crops[0].to_image(torch.tensor([[1.2, 0.5]]))[0]
    if not 0 <= outside[0] <= 1:
        outside = crops[0].to_image(torch.tensor([[-0.2, 0.5]]))[0]
    shares = outside.clamp(0, 1).tolist()
    pixels = [round(shares[0] * 160, 2), round(shares[1] * 96, 2), "px"]
    x, y = (f"{v:g}" for v in shares)
    for bad, where in ((shares, f"{x},{y}"), (pixels, f"{pixels[0]:g}px,{pixels[1]:g}px")):
        with pytest.raises(ValueError, match=rf"wide: the point {where} lies outside the first view of --seed 0: try"):
            correspondence([wide], ["any"], points=[point.tolist(), bad], size=128)


def test_regions_of_two_views_match(seeing, true_colours, wide):
    drawing = correspondence([wide], ["any"], regions="grid:3", size=128)
    (row,) = drawing.rows
    assert row["right"] == row["visible"] > 1
    matrix = drawing.arrays["any matrix 0"]
    assert row["chance"] == pytest.approx(1 / matrix.shape[1], abs=1e-4)
    assert matrix.shape[0] == row["matches"]


def test_two_pictures(seeing, tmp_path, wide):
    ramp(96, 160).save(tmp_path / "tall.png")
    tall = str(tmp_path / "tall.png")
    drawing = correspondence([wide], ["any"], tall, points=[[40.0, 72.0, "px"]], size=64)
    assert drawing.arrays["any start"] == pytest.approx(np.array([[0.25, 0.75]]))
    assert np.abs(drawing.arrays["any end"] - [0.25, 0.75]).max() < 0.1
    (row,) = drawing.rows
    assert (row["image"], row["with"], row["correct"], row["chance"]) == (wide, tall, "", "")
    assert set(drawing.inputs) == {"any", wide, tall}
    regions = correspondence([wide], ["any"], tall, regions="grid:3", size=96)
    assert regions.arrays["any matrix 0"].argmax(axis=1).tolist() == list(range(9))
    assert regions.rows[0]["mutual"] == 1
    titles = said(regions)
    assert "9 of 9 regions have a mutual best match" in titles


def test_objects_are_regions(masked):
    data = masked()
    drawing = correspondence([f"{data}#0"], [TINY], f"{data}#1", regions="objects", size=64)
    assert drawing.arrays[f"{TINY} matrix 0"].shape == (2, 2)


def test_a_row_for_each_picture_and_network_on_one_sheet(seeing, true_colours, tmp_path, monkeypatch):
    monkeypatch.setattr("plrc.views.correspondence._ON_A_SHEET", 2)
    specs = [str(tmp_path / f"p{i}.png") for i in range(4)]
    for i, spec in enumerate(specs):
        ramp(96, 64 + 16 * i).save(spec)
    done = []
    drawing = correspondence(specs, ["one", "two"], size=64, progress=lambda *step: done.append(step))
    assert [(row["image"], row["network"]) for row in drawing.rows] == [(s, n) for n in ("one", "two") for s in specs]
    for i, spec in enumerate(specs):
        row = drawing.rows[i]
        start, end = drawing.arrays["one offset"][i : i + 2]
        assert row["matches"] == end - start > 0
        assert row["right"] == drawing.arrays["one right"][start:end].sum()
        alone = correspondence([spec], ["one"], size=64)  # of the same seed, but in the first place
        truth = drawing.arrays["one truth"][start:end]
        assert (i == 0) == np.array_equal(alone.arrays["one truth"], truth, equal_nan=True)
    assert drawing.arrays["two offset"].tolist()[-1] == len(drawing.arrays["two start"])
    assert drawing.part == "2 of 4 images"
    recalls = [row["correct"] for row in drawing.rows if row["network"] == "two" and row["correct"] != ""]
    assert f"correct {np.mean(recalls):.1%} [" in drawing.lines[1]
    assert drawing.lines[1].endswith("  4 pairs")
    titles = said(drawing)
    assert {"one", "two"} <= titles
    names = {title.split(";")[0] for title in titles}
    assert {"p0", "p2"} <= names
    assert not {"p1", "p3"} & names
    assert done[-1] == ("images", 4, 4)


def test_a_mirrored_view_says_so():
    flips = set()
    for seed in range(6):
        crops = view_sampler(load_config("imagenet")).draw(seed, 0, 0, open_image("scenes#3").image.size).crops
        flips.add(tuple(crops.flip.tolist()))
        titles = said(correspondence(["scenes#3"], [TINY], size=64, seed=seed))
        for view, flip in enumerate(crops.flip.tolist(), start=1):
            assert any(f"view {view}, mirrored" in title for title in titles) == flip
    assert len(flips) > 2


def test_only_some_matches_are_kept():
    everything, mutual, clear = (
        correspondence(["scenes#3"], [TINY], "scenes#4", size=64, **keep)
        for keep in ({}, {"mutual": True}, {"ratio": 0.9})
    )
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in everything.arrays.items()}
    assert 0 < mutual.rows[0]["matches"] == arrays["mutual"].sum() < len(arrays["mutual"])
    assert 0 < clear.rows[0]["matches"] == (arrays["ratio"] < 0.9).sum() < len(arrays["mutual"])
    assert mutual.rows[0]["mutual"] == 1
    (line,), asked = mutual.lines, len(arrays["mutual"])
    assert line == f"{TINY}  kept {mutual.rows[0]['matches']} of {asked}"  # that they are mutual is known
    assert f"kept {clear.rows[0]['matches']} of {asked}  mutual " in clear.lines[0]
    np.testing.assert_array_equal(mutual.arrays[f"{TINY} end"], arrays["end"][arrays["mutual"]])
    none = correspondence(["scenes#3"], [TINY], "scenes#4", size=64, ratio=1e-6)
    assert none.lines == [f"{TINY}  no match is left; loosen --ratio or leave out --mutual"]
    assert none.rows[0]["matches"] == 0


def test_chance_is_of_the_matches_that_are_kept():
    everything, mutual = (correspondence(["scenes#3"], [TINY], size=64, mutual=m) for m in (False, True))
    network = load_encoder(TINY)
    b = network.features(open_image("scenes#3").image, size=(64, 64))
    arrays = {name.removeprefix(f"{TINY} "): torch.from_numpy(values) for name, values in everything.arrays.items()}
    matches = Matches(**{name: values for name, values in arrays.items() if name != "offset"})
    kept = matches[matches.mutual]
    guess = chance(kept, b)
    assert guess != pytest.approx(chance(matches, b), abs=1e-3)  # else this test could not fail
    assert everything.rows[0]["chance"] == pytest.approx(chance(matches, b), abs=1e-4)
    assert mutual.rows[0]["chance"] == pytest.approx(guess, abs=1e-4)
    assert f"correct {kept.recall():.1%} (chance {guess:.1%})" in mutual.lines[0]
    assert "cycle" not in mutual.lines[0]


def test_masks_of_a_folder_are_inputs(masked):
    data = masked()
    specs, regions = [f"{data}#0", f"{data}#1"], f"masks:{data / 'masks'}"
    before = correspondence(specs[:1], [TINY], specs[1], regions=regions, size=64)
    masks = [str(data / "masks" / f"p{i}.png") for i in range(2)]
    assert set(before.inputs) == {TINY, *specs, *(f"{spec} (objects)" for spec in specs), *masks}
    Image.fromarray(np.eye(64, 96, dtype=np.uint8)).save(masks[1])
    after = correspondence(specs[:1], [TINY], specs[1], regions=regions, size=64)
    assert {name for name in after.inputs if after.inputs[name] != before.inputs[name]} >= {masks[1]}
    assert after.inputs[masks[0]] == before.inputs[masks[0]]


def test_the_numbers_are_those_of_the_arrays():
    drawing = correspondence(["scenes#3"], [TINY], size=64)
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in drawing.arrays.items()}
    (row,) = drawing.rows
    assert row["correct"] == pytest.approx(arrays["right"][arrays["visible"]].mean(), abs=1e-4)
    assert row["mutual"] == pytest.approx(arrays["mutual"].mean(), abs=1e-4)
    assert row["cosine"] == pytest.approx(arrays["similarity"].mean(), abs=1e-4)
    assert row["cycle"] == pytest.approx(np.median(arrays["cycle"]), abs=0.01)
    both = arrays["visible"] & arrays["mutual"]
    assert row["correct of mutual"] == pytest.approx(arrays["right"][both].mean(), abs=1e-4)
    (line,) = drawing.lines
    for number in (
        f"correct {row['correct']:.1%} (chance {row['chance']:.1%})",
        f"mutual {row['mutual']:.0%}, of which",
    ):
        assert number in line


def test_what_does_not_fit_together_is_refused(tmp_path):
    noise(64, 64).save(tmp_path / "p.png")
    picture = str(tmp_path / "p.png")
    with pytest.raises(ValueError, match="two views are squares: give --size one number, not 64x48"):
        correspondence([picture], [TINY], size=[64, 48])
    with pytest.raises(ValueError, match="--with matches one image with another"):
        correspondence([picture, picture], [TINY], picture)
    with pytest.raises(ValueError, match="exclude each other"):
        correspondence([picture], [TINY], picture, [[0.5, 0.5]], "grid:2")
    with pytest.raises(ValueError, match="random:tiny sees p, at 8 × 8 pixels, as one cell"):
        correspondence([picture], [TINY], size=8)


def marked(figure):
    """Rows of the matrix that have a mark."""
    lines = [line for axes in figure.axes for line in axes.lines if str(line.get_label()).startswith("best of its row")]
    return sorted(int(y) for line in lines for y in line.get_ydata())


@pytest.mark.parametrize("keep", [{"mutual": True}, {"ratio": 0.97}])
def test_the_figure_of_regions_counts_and_marks_those_that_are_kept(keep):
    whole, part = (correspondence(["scenes#3"], [TINY], regions="grid:4", size=64, **k) for k in ({}, keep))
    (row,) = part.rows
    assert 0 < row["matches"] < row["asked"]
    assert len(marked(whole.figure)) == row["asked"]
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in whole.arrays.items()}
    kept = arrays["mutual"] if "mutual" in keep else arrays["ratio"] < keep["ratio"]
    assert marked(part.figure) == np.flatnonzero(kept).tolist()
    headline = next(text for text in said(part) if "find themselves" in text)
    assert headline.startswith(f"{row['right']} of {row['visible']} regions find themselves")
    assert any(text.endswith(f"{row['matches']} of {row['asked']} matches are kept") for text in said(part))
    assert not any("are kept" in text for text in said(whole))


def test_unlike_tasks_have_their_own_chance_under_them():
    coarse = "random:resnet18"
    drawing = correspondence(["scenes#3"], [TINY, coarse], size=128)
    guesses = [row["chance"] for row in drawing.rows]
    assert guesses[1] > 5 * guesses[0] > 0
    for guess in guesses:
        shown = f"chance {100 * guess:.{0 if guess > 0.095 else 1}f} %"
        assert any(shown in text for text in said(drawing)), shown
    (row,) = (one := correspondence(["scenes#3"], [TINY], size=128)).rows
    assert any(f"chance {100 * row['chance']:.1f} %" in text for text in said(one))
    pictures = correspondence(["scenes#3"], [TINY, OTHER], "scenes#4", size=64)
    assert not any("chance" in text for text in said(pictures))


def test_the_foot_says_what_is_drawn():
    one = correspondence(["scenes#3"], [TINY], size=64, seed=3, within=2, layer="projector")
    assert "layer projector, input 64 × 64 · seed 3 · correct within 2 cells" in said(one)
    other = correspondence(["scenes#3"], [TINY], "scenes#4", size=64, mutual=True, ratio=0.9)
    kept = "mutual matches · ratio below 0.9"
    assert f"layer c3, input's short side 64 · {kept}" in said(other)
    regions = correspondence(["scenes#3"], [TINY], size=64, regions="grid:3")
    assert f"{TINY} · scene 3 · layer c3, input 64 × 64 · regions grid:3 · seed 0" in said(regions)
    sheet = correspondence(["scenes#3", "scenes#4"], [TINY], size=64, layer="c2")
    assert {f"{TINY}, c2", "layer c2, input 64 × 64 · seed 0 · correct within 1 cell"} <= said(sheet)


def test_a_sheet_of_regions_has_no_line_of_the_background():
    sheet = correspondence(["scenes#3"], [TINY, OTHER], size=64, regions="objects")
    for row, (name, (found,)) in zip(sheet.rows, sheet.found.items(), strict=True):
        numbers = region_numbers(found.pair.rasters[0])
        assert 0 in numbers
        assert len(found.lines) == len(numbers) == row["matches"]
        assert (found.lines == (numbers != 0)).all(), name
    assert any("the background has no line" in text for text in said(sheet))
    grid = correspondence(["scenes#3"], [TINY, OTHER], size=64, regions="grid:3")  # 0 is a region like others
    assert all(found.lines.all() for (found,) in grid.found.values())
    assert not any("background" in text for text in said(grid))
