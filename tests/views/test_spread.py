"""Scores and embeddings by two ranks, and scores that were killed: the same numbers as one process undisturbed."""

import json
import os
import pickle
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from plrc.data.annotated import MaskFolder
from plrc.data.shards import write_shards
from plrc.queries import Embedding, Scores, Shard
from plrc.views import draw
from tests.runs import by_two, finish, start
from tests.sets import noises
from tests.views.conftest import save_masked, scores

TINY = "random:tiny"
BY_RANKS = """
import pickle, sys
from plrc.distributed import world
from plrc.views import draw
with world() as here:
    drawings = [draw(query) for query in pickle.load(open(sys.argv[1], "rb"))]
    assert here.is_main or drawings == [None] * len(drawings)
    if here.is_main:
        pickle.dump([(d.arrays, d.inputs, d.lines) for d in drawings], open(sys.argv[2], "wb"))
"""
KILLED = """
import os, signal
from plrc.__main__ import main
from plrc.analysis.scores import table
keep = table._keep
def killed(folder, p, part):
    there = keep(folder, p, part)
    if p == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return there
table._keep = killed
raise SystemExit(main())
"""


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path) -> Path:
    """Where parts of scores are kept: a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "plrc" / "scores"


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Scores, Path]:
    """A score of twenty images: it was killed when two of its three parts, of 8, 8 and 4, were kept; where they are."""
    folder = tmp_path_factory.mktemp("killed")
    data = str(save_masked(folder / "objects", 20))
    query = Scores(dataset=data, checkpoints=(TINY,), size=64, measures=("iou",))
    process = start("-c", KILLED, *flags(query), "--out", folder / "one", XDG_CACHE_HOME=folder / "cache")
    finish(process, -signal.SIGKILL)
    return query, folder / "cache"


@pytest.fixture
def objects(killed, tmp_path) -> Scores:
    shutil.copytree(killed[1], tmp_path / "cache")
    return killed[0]


def flags(query: Scores) -> list[str]:
    return ["score", query.dataset, "--checkpoint", TINY, "--size", "64", "--measures", *query.measures]


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_the_first_of_two_ranks_writes_and_prints_what_one_process_does(kept, objects, tmp_path):
    assert len(list(kept.glob("*/*.pt"))) == 2, "of three parts, from which they go on"
    said = by_two("-m", "plrc", *flags(objects), "--out", tmp_path / "two", apart=True)
    alone = draw(objects)
    told = [line for line in said.splitlines() if not line.startswith("[Gloo]")]  # as torch 2.9 does
    assert told[1:] == alone.lines
    assert len(list(tmp_path.glob("two.*"))) == 5
    with np.load(tmp_path / "two.npz") as arrays:
        same(dict(arrays), alone.arrays)
    assert json.loads((tmp_path / "two.json").read_text())["inputs"] == alone.inputs
    assert not list(kept.iterdir())


def test_two_ranks_keep_groups_together_and_images_in_order(tmp_path):
    for group, n in (("a", 6), ("b", 5), ("c", 2)):
        noises(tmp_path / "keys" / group, n, 48, 40)
        points = {f"{i:03d}.png": [[3 + i, 9], [30, 20 + i], [8, 30]] for i in range(n)}
        (tmp_path / "keys" / group / "keypoints.json").write_text(json.dumps(points))
    (tmp_path / "keys" / "b" / "001.png").write_bytes(b"nothing")
    keypoints = Scores(dataset=str(tmp_path / "keys"), checkpoints=(TINY,), size=64, measures=("pck",))
    how = {"images": (str(save_masked(tmp_path / "masked", 5)),), "size": 64, "method": "pca"}
    regions = Embedding(checkpoints=(TINY, "random:tiny@1"), regions="objects", **how)
    queries = [keypoints, regions, Embedding(checkpoints=(TINY,), of="images", **how)]
    (tmp_path / "queries").write_bytes(pickle.dumps(queries))
    by_two("-c", BY_RANKS, tmp_path / "queries", tmp_path / "found")
    found = pickle.loads((tmp_path / "found").read_bytes())
    for (arrays, inputs, lines), query in zip(found, queries, strict=True):
        alone = draw(query)
        same(arrays, alone.arrays)
        assert (list(inputs.items()), lines) == (list(alone.inputs.items()), alone.lines)


def test_a_score_that_was_killed_goes_on(kept, objects, monkeypatch):
    (part,) = kept.glob("*/0001.pt")
    (part.parent / "0000.pt").write_bytes(part.read_bytes()[:1000])
    read, seen = MaskFolder.annotation, []
    monkeypatch.setattr(MaskFolder, "annotation", lambda self, i: seen.append(i) or read(self, i))
    found = draw(objects)
    again = [0, *range(20), *range(1, 8), *range(16, 20)]
    assert seen == again, "the first image; all that set the thresholds; the damaged part, the missing one"
    assert not list(kept.iterdir())
    same(found.arrays, draw(objects).arrays)
    assert found.inputs == draw(objects).inputs


def test_an_early_end_is_gone_on_from_unless_something_changed(kept, tmp_path, monkeypatch):
    data, seen = save_masked(tmp_path / "masked"), []
    monkeypatch.setattr("plrc.analysis.scores.table._PART", 1)
    ask = {"size": 64, "measures": ["purity"]}

    def told(what, done, total):
        seen.append(done)
        return done == 2 and len(seen) == 3

    assert scores(str(data), [TINY], progress=told, **ask).table.interrupted_after == 2
    (folder,) = kept.iterdir()
    assert [file.name for file in sorted(folder.iterdir())] == ["0000.pt", "0001.pt"]
    os.utime(data / "masks" / "p0.png", (1, 1))
    for how in (ask, {**ask, "layer": "c2"}):
        assert scores(str(data), [TINY], **how).table.interrupted_after is None
        assert list(kept.iterdir()) == [folder], "kept elsewhere, and removed at the end"


def test_shards_are_scored_as_a_folder_of_their_order_is(tmp_path):
    photos, ordered = noises(tmp_path / "photos", 3), noises(tmp_path / "ordered", 3)
    for i, seed in enumerate(np.random.default_rng(0).permutation(3)):
        shutil.copy(photos / f"{seed:03d}.png", ordered / f"{i:03d}.png")
    write_shards(Shard(data=str(photos), out=str(tmp_path / "shards")))
    ordered, shards = (
        {name: array for name, array in scores(data, [TINY], size=64).arrays.items() if "images of" not in name}
        for data in (str(ordered), f"{tmp_path}/shards/{{000000..000000}}.tar")
    )
    assert len(shards) == 4
    same(shards, ordered)
