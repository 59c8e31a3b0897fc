"""plrc.views.correspondence: what sees coordinates matches all; numbers are of what is drawn."""

import numpy as np
import pytest
import torch

from plrc.analysis.correspondence import Matches, chance
from plrc.analysis.features import load_encoder, region_numbers
from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.views.images import open_image
from tests.sets import ramp
from tests.views.conftest import arrays_of, correspondence, said

TINY, OTHER = "random:tiny", "random:tiny@1"
SEEDS = (0, 2, 8, 11)  # of the four pairs of flips


def crops_of(seed, size=(160, 96)):
    return view_sampler(load_config("imagenet")).draw(seed, 0, 0, size).crops


@pytest.fixture
def true_colours(monkeypatch):
    """Views keep their colours."""
    monkeypatch.setattr("plrc.views.correspondence.apply", lambda views, parameters: views.float() / 255)


@pytest.fixture
def wide(seeing, tmp_path):
    ramp(160, 96).save(tmp_path / "wide.png")
    return str(tmp_path / "wide.png")


@pytest.mark.parametrize("seed", SEEDS)
def test_two_views_of_coordinates_match_everywhere(true_colours, wide, seed):
    drawing = correspondence([wide], ["any"], size=128, seed=seed)
    (row,) = drawing.rows
    assert (row["matches"], row["correct"]) == (256, 1)
    assert row["right"] == row["visible"] > 0
    assert 0 < row["chance"] < 0.2
    arrays = arrays_of(drawing, "any")
    seen = arrays["visible"]
    assert (seen.sum(), arrays["right"].sum()) == (row["visible"], row["right"])
    crops = crops_of(seed)  # the truth is what they say, by way of the image
    assert len({tuple(crops_of(seed).flip.tolist()) for seed in SEEDS}) == 4, "else this would be of one case"
    true = crops[1].to_view(crops[0].to_image(torch.from_numpy(arrays["start"])))
    np.testing.assert_allclose(arrays["truth"], true.numpy(), atol=1e-6)
    assert np.abs(arrays["end"] - arrays["truth"])[seen].max() < 1.5 / 16
    titles = said(drawing)
    for view, flip in enumerate(crops.flip.tolist(), start=1):
        assert any(f"view {view}, mirrored" in title for title in titles) == flip


def test_two_views_that_share_nothing_have_no_recall(wide):
    (row,) = (drawing := correspondence([wide], ["any"], size=64, seed=6)).rows
    assert (row["visible"], row["right"], row["correct"], row["chance"]) == (0, 0, "", "")
    assert "correct" not in drawing.lines[0]


def test_points_of_a_picture_are_matched_in_the_views(true_colours, wide):
    crops = crops_of(0)
    point = crops[0].to_image(torch.tensor([[0.4, 0.7]]))[0]
    drawing = correspondence([wide], ["any"], points=[point.tolist()], size=128)
    assert drawing.arrays["any start"] == pytest.approx(np.array([[0.4, 0.7]]), abs=1e-5)
    outside = crops[0].to_image(torch.tensor([[1.2, 0.5], [-0.2, 0.5]]))
    shares = next(share for share in outside.tolist() if 0 <= share[0] <= 1)
    pixels = [round(shares[0] * 160, 2), round(shares[1] * 96, 2), "px"]
    x, y = (f"{v:g}" for v in shares)
    for bad, where in ((shares, f"{x},{y}"), (pixels, f"{pixels[0]:g}px,{pixels[1]:g}px")):
        with pytest.raises(ValueError, match=rf"wide: the point {where} lies outside the first view of --seed 0: try"):
            correspondence([wide], ["any"], points=[point.tolist(), bad], size=128)
    alone = crops_of(6)[0].to_image(torch.tensor([[0.5, 0.5]])).tolist()  # of two views that share nothing
    with pytest.raises(ValueError, match="lies outside the second view of --seed 6: try"):
        correspondence([wide], ["any"], points=alone, size=64, seed=6)


def test_two_pictures(tmp_path, wide):
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
    assert "9 of 9 regions have a mutual best match" in said(regions)


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
    assert "layer c3, input 64 × 64 · seed 0 · correct within 10 % of the side" in said(drawing)
    titles = said(drawing)
    assert {"one", "two"} <= titles
    assert {title.split(";")[0] for title in titles} & {"p0", "p1", "p2", "p3"} == {"p0", "p2"}
    assert done[-1] == ("images", 4, 4)


def test_only_some_matches_are_kept():
    everything, mutual, clear = (
        correspondence(["scenes#3"], [TINY], "scenes#4", size=64, **keep)
        for keep in ({}, {"mutual": True}, {"ratio": 0.9})
    )
    arrays = arrays_of(everything, TINY)
    assert 0 < mutual.rows[0]["matches"] == arrays["mutual"].sum() < len(arrays["mutual"])
    assert 0 < clear.rows[0]["matches"] == (arrays["ratio"] < 0.9).sum() < len(arrays["mutual"])
    (line,), asked = mutual.lines, len(arrays["mutual"])
    assert line == f"{TINY}  kept {mutual.rows[0]['matches']} of {asked}"  # that they are mutual is known
    assert f"kept {clear.rows[0]['matches']} of {asked}  mutual " in clear.lines[0]
    np.testing.assert_array_equal(mutual.arrays[f"{TINY} end"], arrays["end"][arrays["mutual"]])
    none = correspondence(["scenes#3"], [TINY], "scenes#4", size=64, ratio=1e-6)
    assert none.lines == [f"{TINY}  no match is left; loosen --ratio or leave out --mutual"]
    assert none.rows[0]["matches"] == 0


def test_the_numbers_are_those_of_the_arrays_and_chance_is_of_the_matches_that_are_kept():
    everything, mutual = (correspondence(["scenes#3"], [TINY], size=64, mutual=m) for m in (False, True))
    b = load_encoder(TINY).features(open_image("scenes#3").image.resize((64, 64)), size=(64, 64))
    arrays = arrays_of(everything, TINY)
    del arrays["offset"]
    matches = Matches(**{name: torch.from_numpy(values) for name, values in arrays.items()})
    kept = matches[matches.mutual]
    assert chance(kept, b) != pytest.approx(chance(matches, b), abs=1.5e-4)  # else this test could not fail
    for drawing, own in ((everything, matches), (mutual, kept)):
        (row,) = drawing.rows
        expected = {
            "chance": chance(own, b),
            "correct": own.recall(),
            "mutual": own.mutual.float().mean(),
            "cosine": own.similarity.mean(),
            "cycle": own.cycle.median(),
            "correct of mutual": own.right[own.visible & own.mutual].float().mean(),
        }
        assert [row[name] for name in expected] == pytest.approx([float(v) for v in expected.values()], abs=1e-4)
        assert f"correct {row['correct']:.1%} (chance {row['chance']:.1%})" in drawing.lines[0]
    assert f"  mutual {everything.rows[0]['mutual']:.0%}  cycle error" in everything.lines[0]
    assert "cycle" not in mutual.lines[0]


def test_masks_of_a_folder_are_inputs(masked):
    specs, regions = [f"{masked}#0", f"{masked}#1"], f"masks:{masked / 'masks'}"
    drawing = correspondence(specs[:1], [TINY], specs[1], regions=regions, size=64)
    masks = [str(masked / "masks" / f"p{i}.png") for i in range(2)]
    assert set(drawing.inputs) == {TINY, *specs, *(f"{spec} (objects)" for spec in specs), *masks}


def marked(figure):
    """Rows of the matrix that have a mark."""
    lines = [line for axes in figure.axes for line in axes.lines if str(line.get_label()).startswith("best of its row")]
    return sorted(int(y) for line in lines for y in line.get_ydata())


@pytest.mark.parametrize("keep", [{"mutual": True}, {"ratio": 0.9}])
def test_the_figure_of_regions_counts_and_marks_those_that_are_kept(keep):
    whole, part = (correspondence(["scenes#3"], [TINY], regions="grid:4", size=64, **k) for k in ({}, keep))
    (row,) = part.rows
    assert 0 < row["matches"] < row["asked"]
    assert marked(whole.figure) == list(range(row["asked"]))
    arrays = arrays_of(whole, TINY)
    kept = arrays["mutual"] if "mutual" in keep else arrays["ratio"] < keep["ratio"]
    assert marked(part.figure) == np.flatnonzero(kept).tolist()
    headline = next(text for text in said(part) if "find themselves" in text)
    assert headline.startswith(f"{row['right']} of {row['visible']} regions find themselves")
    assert any(text.endswith(f"{row['matches']} of {row['asked']} matches are kept") for text in said(part))
    assert not any("are kept" in text for text in said(whole))


def test_all_networks_are_asked_of_the_same_points_whatever_their_cells():
    drawing = correspondence(["scenes#3"], [TINY, "random:resnet18"], size=128)
    fine, coarse = (arrays_of(drawing, name) for name in (TINY, "random:resnet18"))
    for part in ("start", "truth", "visible"):
        np.testing.assert_array_equal(fine[part], coarse[part])
    assert len(fine["start"]) == 256
    guesses = [row["chance"] for row in drawing.rows]
    assert guesses == pytest.approx([np.pi / 100] * 2, rel=0.5)  # a disc of a tenth of the side, cut at borders
    assert guesses[0] != guesses[1]
    for guess in guesses:
        shown = f"chance {100 * guess:.{0 if guess > 0.095 else 1}f} %"
        assert any(shown in text for text in said(drawing)), shown


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
    other = correspondence(["scenes#3"], [TINY], "scenes#4", size=64, regions="grid:3", ratio=0.99)
    foot = f"{TINY} · scene 3 – scene 4 · layer projector, input's short side 64 · regions grid:3 · ratio below 0.99"
    assert foot in said(other)
