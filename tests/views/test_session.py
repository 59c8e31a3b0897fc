"""plrc.views.session: a picture is encoded once, however many ask, and what is kept stays within its bound."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import plrc
from plrc.views import Session, draw_affinity, draw_correspondence
from views.conftest import noise

TINY, OTHER = "random:tiny", "random:tiny@1"


def ask(session, picture="scenes#3", checkpoints=(TINY,), points=((0.3, 0.4),), **how):
    return draw_affinity(
        [picture], list(checkpoints), points=[list(p) for p in points], size=64, session=session, **how
    )


def test_another_click_runs_no_encoder():
    session = Session(megabytes=50)
    first = ask(session)
    assert session.encoded == 1
    second = ask(session, points=[(0.8, 0.2)], negatives=[[0.1, 0.1]], auto_range=True)
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


def test_drawings_are_those_of_no_desk():
    session = Session(megabytes=50)
    for _ in range(2):
        for draw in (draw_affinity, draw_correspondence):
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
    one = 2 * plrc.load_encoder(TINY).features(plrc.views.open_picture("scenes#0").image, size=64).features.nbytes
    pictures = 5 * plrc.views.open_picture("scenes#0").pixels.nbytes
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
