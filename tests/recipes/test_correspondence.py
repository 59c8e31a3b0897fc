"""plrc.recipes.correspondence: what sees coordinates matches all; numbers are of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from plrc.analysis.correspondence import Matches, chance
from plrc.analysis.features import load_encoder
from plrc.config import load_config
from plrc.data.loader import view_sampler
from plrc.recipes import draw_correspondence
from plrc.recipes.pictures import open_picture
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
    (row,) = (drawing := draw_correspondence([wide], ["any"], size=64, seed=6)).rows
    assert (row["visible"], row["right"], row["recall"], row["blind guess"]) == (0, 0, "", "")
    assert "are right" not in drawing.lines[0]


def test_points_of_a_picture_are_matched_in_the_views(seeing, true_colours, wide):
    crops = view_sampler(load_config("imagenet")).draw(0, 0, 0, (160, 96)).crops
    point = crops[0].to_image(torch.tensor([[0.4, 0.7]]))[0]
    drawing = draw_correspondence([wide], ["any"], points=[point.tolist()], size=128)
    assert drawing.arrays["any start"] == pytest.approx(np.array([[0.4, 0.7]]), abs=1e-5)
    outside = crops[0].to_image(torch.tensor([[1.2, 0.5]]))[0]
    if not 0 <= outside[0] <= 1:
        outside = crops[0].to_image(torch.tensor([[-0.2, 0.5]]))[0]
    with pytest.raises(ValueError, match="wide: a point lies outside the first view; try another --seed"):
        draw_correspondence([wide], ["any"], points=[outside.clamp(0, 1).tolist()], size=128)


def test_regions_of_two_views_match(seeing, true_colours, wide):
    drawing = draw_correspondence([wide], ["any"], regions="grid:3", size=128)
    (row,) = drawing.rows
    assert row["right"] == row["visible"] > 1
    matrix = drawing.arrays["any matrix 0"]
    assert row["blind guess"] == pytest.approx(1 / matrix.shape[1], abs=1e-4)
    assert matrix.shape[0] == row["matches"]


def test_two_pictures(seeing, tmp_path, wide):
    ramp(96, 160).save(tmp_path / "tall.png")
    tall = str(tmp_path / "tall.png")
    drawing = draw_correspondence([wide], ["any"], tall, points=[[40.0, 72.0, "px"]], size=64)
    assert drawing.arrays["any start"] == pytest.approx(np.array([[0.25, 0.75]]))
    assert np.abs(drawing.arrays["any end"] - [0.25, 0.75]).max() < 0.1
    (row,) = drawing.rows
    assert (row["picture"], row["with"], row["recall"], row["blind guess"]) == (wide, tall, "", "")
    assert set(drawing.inputs) == {"any", wide, tall}
    regions = draw_correspondence([wide], ["any"], tall, regions="grid:3", size=96)
    assert regions.arrays["any matrix 0"].argmax(axis=1).tolist() == list(range(9))
    assert regions.rows[0]["mutual"] == 1
    titles = {text.get_text() for text in regions.figure.findobj(Text)}
    assert "9 of 9 regions have a mutual best match" in titles


def test_objects_are_regions(masked):
    data = masked()
    drawing = draw_correspondence([f"{data}#0"], [TINY], f"{data}#1", regions="objects", size=64)
    assert drawing.arrays[f"{TINY} matrix 0"].shape == (2, 2)


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
        start, end = drawing.arrays["one offset"][i : i + 2]
        assert row["matches"] == end - start > 0
        assert row["right"] == drawing.arrays["one right"][start:end].sum()
        alone = draw_correspondence([spec], ["one"], size=64)  # of the same seed, but in the first place
        truth = drawing.arrays["one truth"][start:end]
        assert (i == 0) == np.array_equal(alone.arrays["one truth"], truth, equal_nan=True)
    assert drawing.arrays["two offset"].tolist()[-1] == len(drawing.arrays["two start"])
    assert drawing.part == "2 of 4 pictures"
    recalls = [row["recall"] for row in drawing.rows if row["network"] == "two" and row["recall"] != ""]
    assert f"{np.mean(recalls):.3f} [" in drawing.lines[1]
    assert drawing.lines[1].endswith(", 4 pairs")
    titles = {text.get_text() for text in drawing.figure.findobj(Text)}
    assert {"one", "two"} <= titles
    names = {title.split(";")[0] for title in titles}
    assert {"p0", "p2"} <= names
    assert not {"p1", "p3"} & names
    assert done[-1] == ("pictures", 4, 4)
    assert "progress" not in drawing.parameters


def test_a_mirrored_view_says_so():
    flips = set()
    for seed in range(6):
        crops = view_sampler(load_config("imagenet")).draw(seed, 0, 0, open_picture("scenes#3").image.size).crops
        flips.add(tuple(crops.flip.tolist()))
        figure = draw_correspondence(["scenes#3"], [TINY], size=64, seed=seed).figure
        titles = {text.get_text() for text in figure.findobj(Text)}
        for view, flip in enumerate(crops.flip.tolist(), start=1):
            assert (f"view {view}, mirrored" in titles) == flip
    assert len(flips) > 2


def test_only_some_matches_are_kept():
    everything, mutual, clear = (
        draw_correspondence(["scenes#3"], [TINY], "scenes#4", size=64, **keep)
        for keep in ({}, {"mutual": True}, {"ratio": 0.9})
    )
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in everything.arrays.items()}
    assert 0 < mutual.rows[0]["matches"] == arrays["mutual"].sum() < len(arrays["mutual"])
    assert 0 < clear.rows[0]["matches"] == (arrays["ratio"] < 0.9).sum() < len(arrays["mutual"])
    assert mutual.rows[0]["mutual"] == 1
    (line,), asked = mutual.lines, len(arrays["mutual"])
    assert line == f"{TINY}: {mutual.rows[0]['matches']} of {asked} matches are kept"  # that they are mutual is known
    assert f"{clear.rows[0]['matches']} of {asked} matches are kept; " in clear.lines[0]
    assert "hold in both directions" in clear.lines[0]
    np.testing.assert_array_equal(mutual.arrays[f"{TINY} end"], arrays["end"][arrays["mutual"]])
    none = draw_correspondence(["scenes#3"], [TINY], "scenes#4", size=64, ratio=1e-6)
    assert none.lines == [f"{TINY}: no match is left; loosen --ratio or leave out --mutual"]
    assert none.rows[0]["matches"] == 0


def test_a_blind_guess_is_of_the_matches_that_are_kept():
    everything, mutual = (draw_correspondence(["scenes#3"], [TINY], size=64, mutual=m) for m in (False, True))
    network = load_encoder(TINY)
    b = network.features(open_picture("scenes#3").image, size=(64, 64))
    arrays = {name.removeprefix(f"{TINY} "): torch.from_numpy(values) for name, values in everything.arrays.items()}
    matches = Matches(**{name: values for name, values in arrays.items() if name != "offset"})
    kept = matches[matches.mutual]
    guess = chance(kept, b)
    assert guess != pytest.approx(chance(matches, b), abs=1e-3)  # else this test could not fail
    assert everything.rows[0]["blind guess"] == pytest.approx(chance(matches, b), abs=1e-4)
    assert mutual.rows[0]["blind guess"] == pytest.approx(guess, abs=1e-4)
    assert f"{kept.recall():.3f} are right (blind guess {guess:.3f})" in mutual.lines[0]
    assert "both directions" not in mutual.lines[0]


def test_headings_say_that_maps_are_finer():
    def headings(*networks, **how):
        return {t.get_text() for t in draw_correspondence(["scenes#3"], networks, size=64, **how).figure.findobj(Text)}

    assert "view 1, shifted ×2" in headings(TINY, finer="shifted")
    assert "view 1, upscaled ×2" in headings(TINY, finer="upscaled", regions="grid:2")
    assert "view 1" in headings(TINY)
    assert {f"{name}, shifted ×2" for name in (TINY, OTHER)} <= {
        " ".join(text.split()) for text in headings(TINY, OTHER, finer="shifted")
    }


def test_masks_of_a_folder_are_inputs(masked):
    data = masked()
    specs, regions = [f"{data}#0", f"{data}#1"], f"masks:{data / 'masks'}"
    before = draw_correspondence(specs[:1], [TINY], specs[1], regions=regions, size=64)
    masks = [str(data / "masks" / f"p{i}.png") for i in range(2)]
    assert set(before.inputs) == {TINY, *specs, *(f"{spec} (objects)" for spec in specs), *masks}
    Image.fromarray(np.eye(64, 96, dtype=np.uint8)).save(masks[1])
    after = draw_correspondence(specs[:1], [TINY], specs[1], regions=regions, size=64)
    assert {name for name in after.inputs if after.inputs[name] != before.inputs[name]} >= {masks[1]}
    assert after.inputs[masks[0]] == before.inputs[masks[0]]


def test_the_numbers_are_those_of_the_arrays():
    drawing = draw_correspondence(["scenes#3"], [TINY], size=64)
    arrays = {name.removeprefix(f"{TINY} "): values for name, values in drawing.arrays.items()}
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
    with pytest.raises(ValueError, match="two views are squares: give --size one number, not 64x48"):
        draw_correspondence([picture], [TINY], size=[64, 48])
    with pytest.raises(ValueError, match="--with matches one picture with another"):
        draw_correspondence([picture, picture], [TINY], picture)
    with pytest.raises(ValueError, match="exclude each other"):
        draw_correspondence([picture], [TINY], picture, [[0.5, 0.5]], "grid:2")
    with pytest.raises(ValueError, match="--within counts cells, 0 or more, not -1"):
        draw_correspondence([picture], [TINY], picture, within=-1)
