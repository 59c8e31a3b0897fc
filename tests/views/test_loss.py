"""plrc.views.loss: views, points and losses are those of a training step; what a checkpoint lacks is said."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from plrc.analysis.features import load_encoder
from plrc.checkpoint import save_checkpoint
from plrc.config import load_config
from plrc.data.loader import TwoViews, collate
from plrc.data.photometric import apply
from plrc.data.sources import open_source
from plrc.model import PLRC
from plrc.queries import Loss
from plrc.regions import open_regions
from plrc.run import generator
from plrc.schedules import teacher_temperature
from plrc.views import Session, draw, replay
from plrc.views.loss import _rows
from tests.views.conftest import asking, said

IMAGE, OTHERS = "scenes:30#5", ("scenes:30#8", "scenes:30#9")
STEP, PER_EPOCH, SEED = 17, 10, 3
loss = asking(Loss, "images", "checkpoints", "others")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose two networks and queue differ, after step 30 of 10 an epoch; its model and its folder."""
    torch.manual_seed(0)
    weights = {"image": 0.3, "point": 1, "affinity": 1}
    config = replace(load_config("demo"), seed=SEED, regions="grid:3", weights=weights)
    model = PLRC(config)
    for parameter in model.key_encoder.parameters():
        parameter += 0.1 * torch.randn_like(parameter) * parameter.std()
    folder = tmp_path_factory.mktemp("runs") / "demo"
    about = {"step": 30, "epoch": 3.0, "ranks": 1, "images": "", "config": config.to_dict(), "optimizer": {}}
    save_checkpoint(folder / "checkpoints/last.pt", {**about, "model": model.state_dict()})
    return model.eval(), str(folder)


def batch_of(config, *numbers, regions="grid:3"):
    dataset = TwoViews(open_source("scenes:30"), open_regions(regions, "test"), config)
    return collate([dataset[(STEP // PER_EPOCH, i)] for i in numbers])


@torch.no_grad()
def test_views_points_and_losses_are_those_of_a_training_step(trained):
    model, run = trained
    drawing = loss([IMAGE], [run], seed=SEED, step=STEP)
    batch = batch_of(model.config, 5)
    coloured = (apply(batch.views[:, 0], batch.colours[:, 0]) * 255).round().byte().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(drawing.arrays["views"], coloured)
    np.testing.assert_array_equal(drawing.arrays["regions"], batch.regions[:, 0])
    np.testing.assert_array_equal(drawing.arrays["crops"], batch.crops.box[:, 0])
    terms = ("image", "point", "affinity")
    keys = generator(SEED, 1, STEP, 0), generator(SEED, 2, STEP)
    draws = model.draw(1, batch.region_count, *keys, terms)
    temperature = teacher_temperature(STEP / PER_EPOCH, 0.04, 0.07, model.config.teacher_warmup)
    expected = model(batch.coloured(), batch.regions, draws, teacher_temperature=temperature, terms=terms)
    assert [row["loss"] for row in drawing.rows] == list(terms)
    assert [row["value"] for row in drawing.rows] == pytest.approx([float(expected[t]) for t in terms], abs=1e-4)
    assert drawing.lines[-1].startswith("no other images in the batch")
    assert not any("no queue" in line or "no projector" in line or "no momentum" in line for line in drawing.lines)


def test_the_losses_are_those_of_the_arrays(trained):
    model, run = trained
    drawing = loss([IMAGE], [run], OTHERS, seed=SEED, step=STEP)
    arrays, config = drawing.arrays, model.config
    cosines, region, i = arrays["cosines"].astype(float), arrays["region"], int(arrays["chosen"])
    across = arrays["negatives: other images"].astype(float)
    assert len(across) > 0
    tau, same = config.temperature, region == region[i]
    negatives = sum(math.exp(c / tau) for c in [*cosines[i][~same], *across])
    pairs = [-math.log(math.exp(c / tau) / (math.exp(c / tau) + negatives)) for c in cosines[i][same]]
    assert arrays["point losses"][i] == pytest.approx(np.mean(pairs), abs=1e-4)
    of = {row["loss"]: row for row in drawing.rows}
    assert of["point"]["value"] == pytest.approx(arrays["point losses"].mean(), abs=1e-4)
    assert of["point"]["chance"] == pytest.approx(math.log(1 + (~same).sum() + len(across)), abs=1e-4)
    teacher, student = arrays["teacher"], arrays["student"]
    np.testing.assert_allclose(student, torch.from_numpy(cosines / config.student_temperature).softmax(1), atol=1e-5)
    cross = -(teacher * np.log(student)).sum(axis=1).mean()
    assert of["affinity"]["value"] == pytest.approx(cross, abs=1e-4)
    assert of["affinity"]["chance"] == pytest.approx(math.log(len(region)), abs=1e-4)
    assert of["image"]["chance"] == pytest.approx(math.log(1 + config.queue_size), abs=1e-4)
    alone = loss([IMAGE], [run], seed=SEED, step=STEP)
    np.testing.assert_array_equal(alone.arrays["views"], arrays["views"])  # other images change no view
    assert alone.rows[1]["value"] < of["point"]["value"], "fewer negatives"


def test_the_step_is_the_next_one_and_a_recipe_replays(trained, tmp_path):
    _, run = trained
    drawing = loss([IMAGE], [run], OTHERS, seed=SEED, regions="superpixels:6", size=96)
    assert (drawing.query.step, drawing.arrays["views"].shape) == (30, (2, 96, 96, 3))
    files = drawing.save(tmp_path / "x")
    assert replay(next(file for file in files if file.suffix == ".json"))[1] == []
    assert {"losses of this image", "teacher's affinity", "student's affinity"} <= said(drawing)
    same, other = (loss([IMAGE], [run], seed=SEED, step=step).arrays["crops"] for step in (31, 40))
    assert same == pytest.approx(drawing.arrays["crops"]), "an epoch"
    assert other != pytest.approx(drawing.arrays["crops"])
    objects = loss([IMAGE], [run], seed=SEED, regions="objects")
    assert set(objects.arrays["region"]) <= set(range(8))


def test_the_nearest_point_is_looked_at_and_nothing_is_encoded_for_it(trained, monkeypatch):
    _, run = trained
    asked, session, directions = [], Session(megabytes=50), PLRC.directions
    monkeypatch.setattr(PLRC, "directions", lambda *args: asked.append(1) or directions(*args))
    first = loss([IMAGE], [run], seed=SEED, step=STEP, session=session)
    places = first.arrays["points"][0]
    for i in (0, len(places) - 1):
        at = first.crop.to_image(torch.from_numpy(places[i : i + 1]))[0]
        point = loss([IMAGE], [run], seed=SEED, step=STEP, points=[(at + 1e-4).tolist()], session=session)
        assert point.arrays["chosen"] == i
        assert f"region {first.arrays['region'][i]}: loss" in point.lines[3]
    assert len(asked) == 1
    outside = first.crop.to_image(torch.tensor([[1.3, 0.5], [-0.3, 0.5], [0.5, 1.3], [0.5, -0.3]])).tolist()
    bad = next(p for p in outside if 0 <= min(p) <= max(p) <= 1)
    with pytest.raises(ValueError, match=rf"lies outside view 1 of --seed {SEED} at --step {STEP}: give one inside"):
        loss([IMAGE], [run], seed=SEED, step=STEP, points=[bad])


def test_what_a_checkpoint_lacks_is_said(tmp_path):
    shipped = draw(Loss(images=("sample:china",), others=("sample:flower",)))
    assert [row["loss"] for row in shipped.rows] == ["point", "affinity"]
    assert shipped.lines[3:] == [
        "no momentum encoder in it: the network is its own teacher",
        "no queue of a run of ours in it: the image loss is not known",
    ]
    assert (shipped.query.step, shipped.query.regions, shipped.query.size.width) == (36, "superpixels:8", 64)
    untrained = loss([IMAGE], ["random:tiny"], OTHERS, size=64, step=0)
    assert untrained.query.regions == "grid:4"
    alone = untrained.lines[3:]
    bare = load_encoder("random:tiny").backbone
    torch.save(bare.state_dict(), tmp_path / "bare.pth")
    lacking = loss([IMAGE], [str(tmp_path / "bare.pth")], OTHERS, size=64, step=0)
    assert lacking.lines[3:] == ["no projector in it: points are of the backbone's c3", *alone]
    assert alone == shipped.lines[3:]


@pytest.mark.parametrize(
    ("above", "meaning"),
    [
        (-0.5, "as unsure as among 15.8"),
        (0.006, "as unsure as among 26.0"),
        (0.06, "worse than chance: sure, and wrong"),
    ],
)
def test_what_is_hardly_above_chance_is_not_called_sure(above, meaning):
    n, config = 10, load_config("demo", given={"points_per_region": 5})
    even = np.full((n, n), 1 / n)
    seen: Any = SimpleNamespace(own=np.zeros(n), others=np.zeros((n, 20)), shown={"teacher": even})
    seen.losses = {"point": math.log(26) + above}  # its positive among 5 points of another region and 20 of others
    (row,) = _rows(seen, config, 0.0)
    assert row["meaning"] == meaning


def test_what_cannot_be_answered_is_said(trained):
    _, run = trained
    with pytest.raises(ValueError, match="one image is looked at: name the other images"):
        loss([IMAGE, *OTHERS], [run])
    with pytest.raises(ValueError, match="one checkpoint is looked at, not 2"):
        loss([IMAGE], [run, run])
    seeds = (seed for seed in range(200) if not shared(run, seed))
    with pytest.raises(ValueError, match="share no region: try another --seed or --step"):
        loss([IMAGE], [run], seed=next(seeds), step=STEP, regions="grid:8")


def shared(run, seed):
    batch = batch_of(replace(load_config("demo"), seed=seed), 5, regions="grid:8")
    return len(np.intersect1d(*batch.regions[:, 0].numpy()))
