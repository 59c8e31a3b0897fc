"""plrc.views: files are whole or not there, a replay tells what has changed, and a view's options stand once."""

import csv
import json
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import plrc
from plrc import config
from plrc.checkpoint import save_checkpoint
from plrc.cli import main
from plrc.model import PLRC
from plrc.options import option
from plrc.queries import VIEWS, Affinity, Query
from plrc.registry import Entry
from plrc.views import Drawing, Session, digest, draw, read_recipe, replay
from plrc.views import affinity as view
from plrc.views.images import _data_set
from tests.sets import noise
from tests.views.conftest import affinity, correspondence

TINY, OTHER = "random:tiny", "random:tiny@1"


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
    said = " ".join(capsys.readouterr().out.split())
    assert "--volume VOLUME how loud the answer is [decibels; at most 11; default 3]" in said
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
        rows = list(csv.DictReader(stream))
    assert rows == [{"image": "a\udcff, b.png", "B − A": "0.25"}, {"image": "c", "B − A": ""}]
    recipe = read_recipe(files[4])
    assert recipe["arrays"] == {name: digest(array) for name, array in drawing().arrays.items()}
    assert (recipe["version"], recipe["view"], recipe["lines"]) == (3, "affinity", ["a number"])
    assert Affinity.from_dict(recipe["query"]) == Affinity(size=64)
    assert not drawing(rows=[]).save(tmp_path / "y")[-1].name.endswith("csv")


def test_digests_see_values_shape_and_type():
    array = np.zeros((2, 3), np.float32)
    others = [array.reshape(3, 2), array.astype(np.int32), array + np.float32(1e-7)]
    assert digest(array) == digest(np.asfortranarray(array)) == digest(array.copy())
    assert len({digest(array), *map(digest, others)}) == 4


def savez(file, **arrays):
    file.write_bytes(b"half")
    raise KeyboardInterrupt


def savefig(self, file, **how):
    file.write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("where", "fails", "error", "message"),
    [
        (np, savez, KeyboardInterrupt, None),
        (Figure, savefig, ValueError, r"cannot be written \(No space left on device\): name another place"),
        (None, None, ValueError, "fields not in fieldnames"),
    ],
)
def test_a_failure_leaves_the_old_files_and_no_halves(tmp_path, monkeypatch, where, fails, error, message):
    before = {file: file.read_bytes() for file in drawing().save(tmp_path / "x")}
    new = drawing(arrays={"image": np.zeros(3)}, lines=["another"])
    if fails:
        monkeypatch.setattr(where, fails.__name__, fails)
    else:
        new.rows.append({"other": "columns"})
    with pytest.raises(error, match=message):
        new.save(tmp_path / "x")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.fixture
def drawn(tmp_path):
    """A picture and the recipe of its affinity to a point."""
    noise(64, 64, 0).save(tmp_path / "p.png")
    files = affinity([str(tmp_path / "p.png")], [TINY], [[0.3, 0.4]], size=64).save(tmp_path / "x")
    return tmp_path / "p.png", files[2]


def edit(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def test_a_replay_tells_of_another_picture(drawn):
    noise(64, 64, 1).save(drawn[0])
    _, changed = replay(drawn[1])
    assert changed[0] == f"{drawn[0]} is not the same as then"
    name, size = changed[1].split(", by at most ")
    assert name == f"the array {TINY} 0 differs"
    assert 0 < float(size) < 1
    drawn[1].with_suffix(".npz").write_bytes(b"PK junk")  # then the size is not known
    assert replay(drawn[1])[1][1] == name


def test_a_replay_compares_every_array_and_the_numbers(drawn):
    recipe = json.loads(drawn[1].read_text())
    arrays = recipe["arrays"] | {"positive 0": "0" * 64, "gone 0": recipe["arrays"]["negative 0"]}
    del arrays["negative 0"]
    edit(drawn[1], arrays=arrays, torch="0.1", lines=[*recipe["lines"], "one more"])
    assert replay(drawn[1])[1] == [
        "the array positive 0 differs, by at most 0",
        "the array gone 0 is not drawn any more",
        "the array negative 0 was not drawn then",
        "a line is '' now, was 'one more'",
        f"torch is {torch.__version__} now, was 0.1",
    ]
    edit(drawn[1], **(recipe | {"torch": "0.1"}))  # that gives the same
    assert replay(drawn[1])[1] == []


def test_a_replay_tells_of_another_mask(masked, tmp_path):
    recipe = affinity([f"{masked}#1"], [TINY], [[0.5, 0.5]], size=64).save(tmp_path / "x")[2]
    assert replay(recipe)[1] == []
    (masked / "masks" / "p0.png").replace(masked / "masks" / "p1.png")
    (masked / "masks" / "p2.png").rename(masked / "masks" / "p0.png")
    _data_set.cache_clear()
    objects, line = replay(recipe)[1]  # the AUC, too, but no map
    assert objects == f"{masked}#1 (objects) is not the same as then"
    assert line.startswith("a line is")


def test_a_replay_whose_input_is_missing_says_so(drawn):
    drawn[0].unlink()
    with pytest.raises(ValueError, match=r"x\.json cannot be drawn again from this folder: .*p\.png: there is no such"):
        replay(drawn[1])


def test_what_is_no_recipe_is_said(drawn, tmp_path):
    for content in ("no", "[]", '{"format": "else"}', '{"format": "plrc recipe"}', "\x00"):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ValueError, match=r"other\.json is no recipe"):
            read_recipe(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"the recipe .*gone\.json cannot be read: No such file"):
        read_recipe(tmp_path / "gone.json")
    recipe = json.loads(drawn[1].read_text())
    for change, message in (
        ({"version": 99}, "is a recipe of version 99, and this plrc replays version 3: draw it anew"),
        ({"version": 1}, "is a recipe of version 1"),
        ({"view": "dance"}, "unknown view 'dance': choose one of affinity"),
        ({"query": recipe["query"] | {"volume": 3}}, "the query has an unknown field 'volume'"),
        ({"query": recipe["query"] | {"size": "large"}}, "--size should be a size in pixels"),
    ):
        edit(drawn[1], **(recipe | change))
        with pytest.raises(ValueError, match=message):
            replay(drawn[1])


# ---- Sessions: a picture is encoded once, however many ask, and what is kept stays within its bound


def ask(session, picture="scenes#3", checkpoints=(TINY,), points=((0.3, 0.4),), **how):
    return affinity([picture], list(checkpoints), points=[list(p) for p in points], size=64, session=session, **how)


@pytest.mark.parametrize(
    ("how", "encoded"),
    [
        ({"points": [(0.8, 0.2)], "negatives": [[0.1, 0.1]], "colour_range": "full"}, 1),
        ({"layer": "c2"}, 2),
        ({"finer": "upscaled"}, 2),
        ({"checkpoints": [OTHER]}, 2),
        ({"picture": "scenes#4"}, 2),
    ],
)
def test_only_what_makes_another_map_is_encoded(how, encoded):
    session = Session(megabytes=50)
    ask(session)
    again = ask(session, **how)
    assert session.encoded == encoded
    assert again.recipe() == ask(None, **how).recipe()
    assert ask(bare := Session()).arrays
    assert bare.kept == 0, "nothing is kept unless asked for"


def test_views_that_are_cut_again_are_not_encoded_again():
    session = Session(megabytes=50)
    for _ in range(2):
        drawing = correspondence(["scenes#3"], [TINY, OTHER], size=64, session=session)
        assert drawing.recipe() == correspondence(["scenes#3"], [TINY, OTHER], size=64).recipe()
    assert session.encoded == 2 * 2


def test_a_changed_file_is_read_again(tmp_path):
    session, file = Session(megabytes=50), tmp_path / "a.png"
    noise(40, 60, 1).save(file)
    first = ask(session, str(file))
    noise(40, 64, 2).save(file)
    second = ask(session, str(file))
    assert first.inputs[str(file)] != second.inputs[str(file)]
    assert second.recipe()["arrays"] == ask(None, str(file)).recipe()["arrays"]


def test_what_is_kept_stays_within_its_bound():
    one = 2 * plrc.load_encoder(TINY).features(plrc.views.open_image("scenes#0").image, size=64).features.nbytes
    pictures = 5 * plrc.views.open_image("scenes#0").pixels.nbytes
    session = Session(megabytes=(3 * one + pictures) / 1e6)
    for i in range(8):
        ask(session, f"scenes#{i}")
        assert 0 < session.kept <= session.megabytes
    for i, encoded in ((7, 8), (0, 9)):  # the newest are kept, the oldest went
        ask(session, f"scenes#{i}")
        assert session.encoded == encoded
    small = Session(megabytes=0.001)
    assert ask(small).recipe() == ask(None).recipe()  # what is too large to keep is drawn all the same
    assert small.kept <= 0.001


def test_many_who_ask_at_once_share_one_encoding():
    session, found, start = Session(megabytes=50), {}, threading.Barrier(8)

    def click(user):
        start.wait()
        found[user] = ask(session, points=[(user / 8 + 0.05, 0.5)]).arrays

    threads = [threading.Thread(target=click, args=(user,)) for user in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.encoded == 1
    for user in range(8):
        alone = ask(None, points=[(user / 8 + 0.05, 0.5)]).arrays
        assert all(np.array_equal(found[user][name], array) for name, array in alone.items())


def test_a_branch_is_taken_and_names_are_different(tmp_path):
    """A run whose key encoder is another one than its query encoder."""
    demo, run = config.load_config("demo"), str(tmp_path / "demo")
    model = PLRC(demo).state_dict()
    for name in [name for name in model if "key" in name and model[name].is_floating_point()]:
        model[name] = model[name] + 0.1 * torch.randn_like(model[name]).abs()
    content = {"step": 1, "epoch": 1.0, "ranks": 1, "images": "", "config": demo.to_dict(), "optimizer": {}}
    save_checkpoint(tmp_path / "demo/checkpoints/last.pt", {**content, "model": model})

    def networks(*checkpoints, **how):
        return Session().networks(Query(checkpoints=checkpoints, **how))

    assert list(networks(TINY, OTHER, TINY, TINY)) == [TINY, OTHER, f"{TINY} (2)", f"{TINY} (3)"]
    found = networks(run, run, branch="key")
    assert list(found) == ["demo/last key", "demo/last key (2)"]
    assert found["demo/last key"].origin.branch == "key"
    query, key = (affinity(["scenes#1"], [run], size=64, branch=branch) for branch in (None, "key"))
    assert key.lines[0].startswith("demo/last key  ")
    assert abs(query.arrays["demo/last 0"] - key.arrays["demo/last key 0"]).max() > 1e-3
