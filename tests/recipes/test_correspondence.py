"""plrc.recipes.correspondence: what sees coordinates matches all; numbers are of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.text import Text

from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.recipes import draw_correspondence
from recipes.conftest import noise, ramp

TINY, OTHER = "random:tiny", "random:tiny@1"


@pytest.fixture
def true_colours(monkeypatch):
    """Views keep their colours."""
    monkeypatch.setattr("plrc.recipes.correspondence.apply", lambda views, parameters: views.float() / 255)


@pytest.fixture
def wide(tmp_path):
    ramp(160, 96).save(tmp_path / "wide.png")
    return str(tmp_path / "wide.png")


SEEDS = (0, 2, 8, 11)  # of the four pairs of flips


@pytest.mark.parametrize("seed", SEEDS)
def test_two_views_of_coordinates_match_everywhere(seeing, true_colours, wide, seed):
    drawing = draw_correspondence([wide], ["any"], size=128, seed=seed)
    (row,) = drawing.rows
    assert (row["matches"], row["recall"]) == (256, 1)
    assert row["right"] == row["visible"] > 0
    assert 0 < row["blind guess"] < 0.2
    arrays = {name.removeprefix("any 0 "): values for name, values in drawing.arrays.items()}
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
    (row,) = (drawing := draw_correspondence([wide], ["any"], size=64, seed=6)).rows
    assert (row["visible"], row["right"], row["recall"], row["blind guess"]) == (0, 0, "", "")
    assert "are right" not in drawing.lines[0]


def test_points_of_a_picture_are_matched_in_the_views(seeing, true_colours, wide):
    crops = view_sampler(load_config("imagenet")).draw(0, 0, 0, (160, 96)).crops
    point = crops[0].to_image(torch.tensor([[0.4, 0.7]]))[0]
    drawing = draw_correspondence([wide], ["any"], points=[point.tolist()], size=128)
    assert drawing.arrays["any 0 start"] == pytest.approx(np.array([[0.4, 0.7]]), abs=1e-5)
    outside = crops[0].to_image(torch.tensor([[1.2, 0.5]]))[0]
    if not 0 <= outside[0] <= 1:
        outside = crops[0].to_image(torch.tensor([[-0.2, 0.5]]))[0]
    with pytest.raises(ValueError, match="wide: a point lies outside the first view; try another --seed"):
        draw_correspondence([wide], ["any"], points=[outside.clamp(0, 1).tolist()], size=128)


def test_regions_of_two_views_match(seeing, true_colours, wide):
    drawing = draw_correspondence([wide], ["any"], regions="grid:3", size=128)
    (row,) = drawing.rows
    assert row["right"] == row["visible"] > 1
    matrix = drawing.arrays["any 0 matrix"]
    assert row["blind guess"] == pytest.approx(1 / matrix.shape[1], abs=1e-4)
    assert matrix.shape[0] == row["matches"]


def test_two_pictures(seeing, tmp_path, wide):
    ramp(96, 160).save(tmp_path / "tall.png")
    tall = str(tmp_path / "tall.png")
    drawing = draw_correspondence([wide], ["any"], tall, points=[[40.0, 72.0, "px"]], size=64)
    assert drawing.arrays["any 0 start"] == pytest.approx(np.array([[0.25, 0.75]]))
    assert np.abs(drawing.arrays["any 0 end"] - [0.25, 0.75]).max() < 0.1
    (row,) = drawing.rows
    assert (row["picture"], row["with"], row["recall"], row["blind guess"]) == (wide, tall, "", "")
    assert set(drawing.inputs) == {"any", wide, tall}
    regions = draw_correspondence([wide], ["any"], tall, regions="grid:3", size=96)
    assert regions.arrays["any 0 matrix"].argmax(axis=1).tolist() == list(range(9))
    assert regions.rows[0]["mutual"] == 1
    titles = {text.get_text() for text in regions.figure.findobj(Text)}
    assert "9 of 9 regions have a mutual best match" in titles


def test_objects_are_regions(masked):
    data = masked()
    drawing = draw_correspondence([f"{data}#0"], [TINY], f"{data}#1", regions="objects", size=64)
    assert drawing.arrays[f"{TINY} 0 matrix"].shape == (2, 2)


def test_a_row_for_each_picture_and_network_on_one_sheet(seeing, true_colours, tmp_path, monkeypatch):
    monkeypatch.setattr("plrc.recipes.correspondence._ON_A_SHEET", 2)
    specs = [str(tmp_path / f"p{i}.png") for i in range(4)]
    for i, spec in enumerate(specs):
        ramp(96, 64 + 16 * i).save(spec)
    done = []
    drawing = draw_correspondence(specs, ["one", "two"], size=64, progress=lambda *step: done.append(step))
    assert [(row["picture"], row["network"]) for row in drawing.rows] == [(s, n) for n in ("one", "two") for s in specs]
    for i, spec in enumerate(specs):
        row = drawing.rows[i]
        assert row["right"] == drawing.arrays[f"one {i} right"].sum()
        alone = draw_correspondence([spec], ["one"], size=64)  # of the same seed, but in the first place
        assert (i == 0) == np.array_equal(alone.arrays["one 0 truth"], drawing.arrays[f"one {i} truth"], equal_nan=True)
    recalls = [row["recall"] for row in drawing.rows if row["network"] == "two" and row["recall"] != ""]
    assert f"{np.mean(recalls):.3f} [" in drawing.lines[1]
    assert drawing.lines[1].endswith(", 4 pairs")
    titles = {text.get_text() for text in drawing.figure.findobj(Text)}
    assert {"one", "two", "p0", "p2"} <= titles
    assert not {"p1", "p3"} & titles
    assert done[-1] == ("pictures", 4, 4)
    assert "progress" not in drawing.parameters


def test_only_some_matches_are_kept():
    everything, mutual, clear = (
        draw_correspondence(["scenes#3"], [TINY], "scenes#4", size=64, **keep)
        for keep in ({}, {"mutual": True}, {"ratio": 0.9})
    )
    arrays = {name.removeprefix(f"{TINY} 0 "): values for name, values in everything.arrays.items()}
    assert 0 < mutual.rows[0]["matches"] == arrays["mutual"].sum() < len(arrays["mutual"])
    assert 0 < clear.rows[0]["matches"] == (arrays["ratio"] < 0.9).sum() < len(arrays["mutual"])
    assert mutual.rows[0]["mutual"] == 1
    np.testing.assert_array_equal(mutual.arrays[f"{TINY} 0 end"], arrays["end"][arrays["mutual"]])
    none = draw_correspondence(["scenes#3"], [TINY], "scenes#4", size=64, ratio=1e-6)
    assert none.lines == [f"{TINY}: no match is left; loosen --ratio or leave out --mutual"]
    assert none.rows[0]["matches"] == 0


def test_the_numbers_are_those_of_the_arrays():
    drawing = draw_correspondence(["scenes#3"], [TINY], size=64)
    arrays = {name.removeprefix(f"{TINY} 0 "): values for name, values in drawing.arrays.items()}
    (row,) = drawing.rows
    assert row["recall"] == pytest.approx(arrays["right"][arrays["visible"]].mean(), abs=1e-4)
    assert row["mutual"] == pytest.approx(arrays["mutual"].mean(), abs=1e-4)
    assert row["cosine"] == pytest.approx(arrays["similarity"].mean(), abs=1e-4)
    assert row["cycle"] == pytest.approx(np.median(arrays["cycle"]), abs=0.01)
    both = arrays["visible"] & arrays["mutual"]
    assert row["recall of mutual"] == pytest.approx(arrays["right"][both].mean(), abs=1e-4)
    (line,) = drawing.lines
    for number in (f"{row['recall']:.3f} are right", f"blind guess {row['blind guess']:.3f}", f"{row['mutual']:.0%}"):
        assert number in line


def test_what_does_not_fit_together_is_refused(tmp_path):
    noise(64, 64).save(tmp_path / "p.png")
    picture = str(tmp_path / "p.png")
    with pytest.raises(ValueError, match="--with matches one picture with another"):
        draw_correspondence([picture, picture], [TINY], picture)
    with pytest.raises(ValueError, match="exclude each other"):
        draw_correspondence([picture], [TINY], picture, [[0.5, 0.5]], "grid:2")
    with pytest.raises(ValueError, match="--within counts cells, 0 or more, not -1"):
        draw_correspondence([picture], [TINY], picture, within=-1)
