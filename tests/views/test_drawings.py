"""plrc.views: files are whole or not there, a replay tells what has changed, and a view's options stand once."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from matplotlib.figure import Figure

from plrc.cli import main
from plrc.options import option
from plrc.queries import VIEWS, Affinity
from plrc.registry import Entry
from plrc.views import Drawing, digest, draw, read_recipe, replay
from plrc.views import affinity as view
from plrc.views.images import _data_set
from tests.views.conftest import affinity, noise

TINY = "random:tiny"


def drawing(**changes):
    parts = {
        "query": Affinity(size=64),
        "inputs": {"a.png": "1f"},
        "arrays": {"demo/last 0": np.arange(6.0).reshape(2, 3), "image": np.array([1, 2])},
        "draw": lambda: Figure(figsize=(1, 1)),
        "lines": ["a number"],
        "rows": [{"image": "a\udcff, b.png", "B − A": 0.25}, {"image": "c", "B − A": ""}],
    }
    return Drawing(**(parts | changes))


@dataclass(frozen=True, kw_only=True)
class Louder(Affinity):
    volume: int = option(3, "how loud the answer is", unit="decibels", high=11)


def test_a_field_of_a_query_is_in_the_shell_its_help_the_recipe_and_the_replay(monkeypatch, tmp_path, capsys):
    heard = []

    def louder(query, session, progress):
        heard.append(query.volume)
        return view.affinity(query, session, progress)

    monkeypatch.setitem(VIEWS, "affinity", Entry(louder, "affinity, aloud", {"query": Louder}))
    with pytest.raises(SystemExit):
        main(["affinity", "--help"])
    assert "--volume VOLUME how loud the answer is [decibels; at most 11; default 3]" in " ".join(
        capsys.readouterr().out.split()
    )
    out = str(tmp_path / "x")
    assert main(["affinity", "scenes#3", "--size", "64", "--volume", "7", "--out", out]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["query"]["volume"] == 7
    assert replay(tmp_path / "x.json")[1] == []
    assert heard == [7, 7]
    assert main(["affinity", "scenes#3", "--volume", "12", "--out", out]) == 2
    assert "--volume must be at most 11, not 12" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Affinity is no query of a view: give one of Louder, Correspondence"):
        draw(Affinity(images=("scenes#3",)))


def test_files(tmp_path):
    files = drawing().save(tmp_path / "deep" / "x.v2", ["png", "pdf", "svg"])
    assert [file.name for file in files] == ["x.v2.png", "x.v2.pdf", "x.v2.svg", "x.v2.npz", "x.v2.json", "x.v2.csv"]
    assert sorted(files) == sorted((tmp_path / "deep").iterdir())  # nothing else is left
    with np.load(files[3]) as stored:
        assert dict(stored).keys() == {"demo/last 0", "image"}
        assert np.array_equal(stored["demo/last 0"], np.arange(6.0).reshape(2, 3))
    with files[5].open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        assert list(csv.DictReader(stream)) == [
            {"image": "a\udcff, b.png", "B − A": "0.25"},
            {"image": "c", "B − A": ""},
        ]
    recipe = read_recipe(files[4])
    assert recipe["arrays"] == {name: digest(array) for name, array in drawing().arrays.items()}
    assert (recipe["version"], recipe["view"], recipe["lines"]) == (2, "affinity", ["a number"])
    assert Affinity.from_dict(recipe["query"]) == Affinity(size=64)
    assert not drawing(rows=[]).save(tmp_path / "y")[-1].name.endswith("csv")


def test_digests_see_values_shape_and_type():
    array = np.zeros((2, 3), np.float32)
    others = [array.reshape(3, 2), array.astype(np.int32), array + np.float32(1e-7)]
    assert digest(array) == digest(np.asfortranarray(array)) == digest(array.copy())
    assert len({digest(array), *map(digest, others)}) == 4


@pytest.mark.parametrize("fails", ["savez", "savefig", "csv"])
def test_a_failure_leaves_the_old_files_and_no_halves(tmp_path, monkeypatch, fails):
    first = drawing().save(tmp_path / "x")
    before = {file: file.read_bytes() for file in first}
    new = drawing(arrays={"image": np.zeros(3)}, lines=["another"])
    if fails == "savez":

        def savez(stream, **arrays):
            stream.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "savez", savez)
    elif fails == "savefig":

        def savefig(self, file, **how):
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Figure, "savefig", savefig)
    else:
        new.rows.append({"other": "columns"})
    error, message = {
        "savez": (KeyboardInterrupt, None),
        "savefig": (ValueError, rf"{tmp_path} cannot be written \(No space left on device\): name another place"),
        "csv": (ValueError, "fields not in fieldnames"),
    }[fails]
    with pytest.raises(error, match=message):
        new.save(tmp_path / "x")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file cannot be written \(.*\): name another place with --out"):
        drawing().save(tmp_path / "file" / "x")
    (tmp_path / "y.npz").mkdir()
    with pytest.raises(ValueError, match=r"y\.npz cannot be written"):
        drawing().save(tmp_path / "y")


@pytest.fixture
def drawn(tmp_path):
    """A picture and the recipe of its affinity to a point."""
    noise(64, 64, 0).save(tmp_path / "p.png")
    files = affinity([str(tmp_path / "p.png")], [TINY], [[0.3, 0.4]], size=64).save(tmp_path / "x")
    return tmp_path / "p.png", files[2]


def edit(file, change):
    recipe = json.loads(file.read_text())
    change(recipe)
    file.write_text(json.dumps(recipe))


def test_a_replay_tells_of_another_picture(drawn):
    noise(64, 64, 1).save(drawn[0])
    _, changed = replay(drawn[1])
    assert changed[0] == f"{drawn[0]} is not the same as then"
    name, size = changed[1].split(", by at most ")
    assert name == f"the array {TINY} 0 differs"
    assert 0 < float(size) < 1
    drawn[1].with_suffix(".npz").write_bytes(b"PK junk")  # then the size is not known
    assert replay(drawn[1])[1][1] == name


def test_a_replay_compares_every_array(drawn):
    def tamper(recipe):
        recipe["arrays"]["positive 0"] = "0" * 64
        recipe["arrays"]["gone 0"] = recipe["arrays"].pop("negative 0")
        recipe["torch"] = "0.1"

    edit(drawn[1], tamper)
    changed = replay(drawn[1])[1]
    assert changed[:3] == [
        "the array positive 0 differs, by at most 0",
        "the array gone 0 is not drawn any more",
        "the array negative 0 was not drawn then",
    ]
    assert "was 0.1" in changed[3]


def test_a_replay_compares_the_numbers(drawn):
    edit(drawn[1], lambda recipe: recipe["lines"].append("one more"))
    assert replay(drawn[1])[1] == ["a line is '' now, was 'one more'"]
    edit(drawn[1], lambda recipe: recipe.update(lines=["another"]))
    (changed,) = replay(drawn[1])[1]
    assert changed.startswith(f"a line is '{TINY}  cosine ")
    assert changed.endswith(", was 'another'")


def test_a_replay_tells_of_another_mask(masked, tmp_path):
    data = masked()
    recipe = affinity([f"{data}#1"], [TINY], [[0.5, 0.5]], size=64).save(tmp_path / "x")[2]
    assert replay(recipe)[1] == []
    (data / "masks" / "p0.png").replace(data / "masks" / "p1.png")
    (data / "masks" / "p2.png").rename(data / "masks" / "p0.png")
    _data_set.cache_clear()
    changed = replay(recipe)[1]
    assert changed[0] == f"{data}#1 (objects) is not the same as then"
    assert len(changed) == 2  # the AUC, too, but no map
    assert changed[1].startswith("a line is")


def test_another_torch_that_gives_the_same_is_no_change(drawn):
    edit(drawn[1], lambda recipe: recipe.update(torch="0.1"))
    assert replay(drawn[1])[1] == []


def test_a_replay_whose_input_is_missing_says_so(drawn, tmp_path):
    edit(drawn[1], lambda recipe: recipe["query"].update(checkpoints=[str(tmp_path / "gone.pt")]))
    with pytest.raises(ValueError, match=r"x\.json cannot be drawn again from this folder: .*gone\.pt"):
        replay(drawn[1])
    drawn[0].unlink()
    edit(drawn[1], lambda recipe: recipe["query"].update(checkpoints=[TINY]))
    with pytest.raises(ValueError, match=r"p\.png: there is no such file"):
        replay(drawn[1])


def test_what_is_no_recipe_is_said(drawn, tmp_path):
    wrong = {
        "text.json": "no",
        "list.json": "[]",
        "other.json": '{"format": "else"}',
        "bare.json": '{"format": "plrc recipe"}',
    }
    for name, content in wrong.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name} is no recipe"):
            read_recipe(tmp_path / name)
    with pytest.raises(ValueError, match=r"x\.png is no recipe: it is not JSON"):
        read_recipe(drawn[1].with_suffix(".png"))
    with pytest.raises(ValueError, match=r"gone\.json cannot be read: No such file"):
        read_recipe(tmp_path / "gone.json")
    query = json.loads(drawn[1].read_text())["query"]
    for change, message in (
        ({"version": 99}, "is a recipe of version 99, and this plrc replays version 2: draw it anew"),
        ({"version": 1}, "is a recipe of version 1"),
        ({"view": "dance"}, "unknown view 'dance': choose one of affinity"),
        ({"query": query | {"volume": 3}}, "the query has an unknown field 'volume'"),
        ({"query": query | {"size": "large"}}, "--size should be a size in pixels"),
    ):
        shutil.copy(drawn[1], tmp_path / "changed.json")
        edit(tmp_path / "changed.json", lambda recipe, change=change: recipe.update(change))
        with pytest.raises(ValueError, match=message):
            replay(tmp_path / "changed.json")
