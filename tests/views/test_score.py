"""plrc.views.score: scores with the values behind them, files of all of it, and the same again from the recipe."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from plrc.analysis.features import load_encoder
from plrc.checkpoint import save_checkpoint
from plrc.config import load_config
from plrc.model import PLRC
from plrc.queries import Scores
from plrc.views import replay
from tests.views.conftest import save_masked, scores

TINY, OTHER = "random:tiny", "random:tiny@1"


@pytest.fixture
def data(monkeypatch, tmp_path):
    """A data set of three pictures, named as one stands beside it."""
    save_masked(tmp_path / "masked")
    monkeypatch.chdir(tmp_path)
    return "masked"


def test_what_is_drawn(data):
    drawing = scores(data, [TINY, OTHER], "c2", size=64, most=2, within=2)
    table = drawing.table
    assert table.columns == (TINY, OTHER, "Lab colour", "distance", "chance")
    assert table.data == data
    assert {origin["layer"] for origin in table.networks.values()} == {"c2"}
    assert drawing.lines == table.lines()
    assert drawing.lines[-2] == "masked: 2 of 3 images with masks (images/, masks/)"
    assert drawing.query == Scores(dataset=data, checkpoints=[TINY, OTHER], layer="c2", size=64, most=2, within=2)
    assert drawing.inputs == {TINY: TINY, OTHER: OTHER, data: table.sha256}
    assert len(table.rows) == 6 <= len(drawing.figure.axes)


def test_columns_of_different_layers_are_told(data, tmp_path):
    bare = tmp_path / "bare.pth"
    torch.save(load_encoder(TINY).backbone.state_dict(), bare)
    told = "columns are of different layers, c3, projector: --layer takes one"
    how = {"size": 64, "measures": ("auc",)}
    assert told in scores(data, [str(bare), TINY], None, **how).lines
    assert not any("different layers" in line for line in scores(data, [str(bare), TINY], "c3", **how).lines)


def test_names_of_any_bytes_are_written_and_replayed(data, tmp_path):
    for part in ("images", "masks"):
        (tmp_path / data / part / "p0.png").rename(tmp_path / data / part / "p\udce9.png")
    (tmp_path / data).rename(tmp_path / "caf\udce9")
    _, arrays, recipe, rows, page = scores("caf\udce9", [TINY], size=64).save(tmp_path / "s")
    assert json.loads(recipe.read_text(encoding="utf-8"))["path"] == "caf\udce9"
    assert b"caf\xe9" in rows.read_bytes()
    assert page.read_bytes().startswith(b"| caf\xe9 | n |")
    with np.load(arrays) as stored:
        assert any("p\udce9.png" in name for name in stored["names of images of region purity"].tolist())
    assert replay(recipe)[1] == []
    picture = tmp_path / "caf\udce9" / "images" / "p1.png"
    with Image.open(picture) as image:
        image.rotate(180).save(picture)
    changed = replay(recipe)[1]
    assert changed[0] == "caf\udce9 is not the same as then"
    assert any(line.startswith(f"the array distance-matched AUC: {TINY} differs, by at most 0") for line in changed)
    assert not any("images of" in line for line in changed)


def test_scores_over_the_epochs_of_a_run(data, tmp_path):
    config = load_config("demo", given={"queue_size": 64})
    torch.manual_seed(0)
    model = PLRC(config)
    folder = tmp_path / "mine"
    for epoch in (1, 3):
        with torch.no_grad():
            next(model.query_encoder.backbone.parameters()).mul_(epoch)
        content = {"step": epoch, "epoch": float(epoch), "ranks": 1, "config": config.to_dict()}
        file = folder / "checkpoints" / f"epoch_{epoch:04d}.pt"
        save_checkpoint(file, content | {"model": model.state_dict()})
    shutil.copy(file, file.with_name("last.pt"))
    log = [{"step": k, "epoch": k / 2, "point": 5.0 - k, "images_per_second": 1.0} for k in range(1, 9)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    drawing = scores(data, ["mine", OTHER], size=64, measures=["purity"], epochs=True)
    names = ("mine/untrained", "mine/epoch_0001", "mine/epoch_0003", OTHER)
    assert drawing.query.checkpoints == ("mine@0", "mine@1", "mine@3", OTHER)
    assert drawing.table.columns[:4] == names
    assert [line.split()[0] for line in drawing.lines[2:6]] == list(names), "a line each"
    single = scores(data, ["mine@1"], size=64, measures=["purity"])
    measure = "region purity: mine/epoch_0001"
    assert (drawing.arrays[measure] == single.arrays[measure]).all()
    assert drawing.arrays["mine point"].tolist() == [4, 3, 2, 1, 0, -1], "until the last epoch that is scored"
    axes = drawing.figure.axes[0]
    (curve,) = (line.get_xydata() for line in axes.lines if line.get_label() == "curve 0")
    scored = drawing.table.rows["region purity"]
    assert curve.tolist() == [[e, scored[name].mean] for e, name in zip((0, 1, 3), names[:3], strict=True)]
    recipe = drawing.save(tmp_path / "s")[2]
    with (folder / "log.jsonl").open("a") as more:
        more.write(json.dumps(log[-1] | {"step": 9, "epoch": 4.5}) + "\n")
    assert replay(recipe)[1] == [], "a run that goes on changes nothing"
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(ValueError, match="mine has stored no epochs"):
        scores(data, ["mine"], size=64, epochs=True)
    with pytest.raises(ValueError, match="no stored epochs in random:tiny: name a run folder"):
        scores(data, [TINY], size=64, measures=["purity"], epochs=True)
