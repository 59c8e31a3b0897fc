"""plrc.views.session: a picture is encoded once, however many ask, and what is kept stays within its bound."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import plrc
from plrc import config
from plrc.checkpoint import save_checkpoint
from plrc.model import PLRC
from plrc.queries import Query
from plrc.views import Session
from tests.views.conftest import affinity, correspondence, noise

TINY, OTHER = "random:tiny", "random:tiny@1"


def ask(session, picture="scenes#3", checkpoints=(TINY,), points=((0.3, 0.4),), **how):
    return affinity([picture], list(checkpoints), points=[list(p) for p in points], size=64, session=session, **how)


def test_another_click_runs_no_encoder():
    session = Session(megabytes=50)
    first = ask(session)
    assert session.encoded == 1
    second = ask(session, points=[(0.8, 0.2)], negatives=[[0.1, 0.1]], colour_range="full")
    assert session.encoded == 1
    assert not np.array_equal(first.arrays[f"{TINY} 0"], second.arrays[f"{TINY} 0"])


@pytest.mark.parametrize(
    "how", [{"layer": "c2"}, {"finer": "upscaled"}, {"checkpoints": [OTHER]}, {"picture": "scenes#4"}]
)
def test_what_makes_another_map_is_encoded(how):
    session = Session(megabytes=50)
    ask(session)
    ask(session, **how)
    assert session.encoded == 2


def test_drawings_are_those_without_a_session():
    session = Session(megabytes=50)
    for _ in range(2):
        for draw in (affinity, correspondence):
            kept, alone = (draw(["scenes#3"], [TINY, OTHER], size=64, session=d) for d in (session, None))
            assert kept.recipe() == alone.recipe()
    assert session.encoded == 2 * 3  # the picture and its two views, by each network


def test_nothing_is_kept_unless_asked_for():
    session = Session()
    ask(session)
    assert session.kept == 0


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
    assert session.encoded == 8
    ask(session, "scenes#7")
    assert session.encoded == 8  # the newest are kept
    ask(session, "scenes#0")
    assert session.encoded == 9  # the oldest went


def test_what_is_too_large_to_keep_is_drawn_all_the_same():
    session = Session(megabytes=0.001)
    assert ask(session).recipe() == ask(None).recipe()
    assert session.kept <= 0.001


def test_many_who_ask_at_once_share_one_encoding():
    session, found = Session(megabytes=50), {}
    start = threading.Barrier(8)

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


@pytest.fixture
def run(tmp_path):
    """A run whose key encoder is another one than its query encoder."""
    demo = config.load_config("demo")
    torch.manual_seed(0)
    model = PLRC(demo).state_dict()
    key = [name for name in model if "key" in name and model[name].is_floating_point()]
    assert key
    for name in key:
        model[name] = model[name] + 0.1 * torch.randn_like(model[name]).abs()
    content = {"step": 1, "epoch": 1.0, "ranks": 1, "images": "", "config": demo.to_dict(), "optimizer": {}}
    save_checkpoint(tmp_path / "demo/checkpoints/last.pt", {**content, "model": model})
    return str(tmp_path / "demo")


def networks(*checkpoints, **how):
    return Session().networks(Query(checkpoints=checkpoints, **how))


def test_names_are_different():
    assert list(networks(TINY, OTHER, TINY)) == [TINY, OTHER, f"{TINY} (2)"]


def test_a_branch_is_taken_and_named(run):
    found = networks(run, run, branch="key")
    assert list(found) == ["demo/last key", "demo/last key (2)"]
    assert found["demo/last key"].origin.branch == "key"
    query, key = (affinity(["scenes#1"], [run], size=64, branch=branch) for branch in (None, "key"))
    assert key.lines[0].startswith("demo/last key  ")
    assert abs(query.arrays["demo/last 0"] - key.arrays["demo/last key 0"]).max() > 1e-3
    with pytest.raises(ValueError, match="random:tiny has no branch 'key'"):
        networks(TINY, branch="key")
    with pytest.raises(ValueError, match="name a checkpoint: a file, a run folder"):
        networks()
