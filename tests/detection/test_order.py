"""plrc.detection.order: every picture once a pass, the same global batches on one rank and on two."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from plrc.detection.order import TrainingOrder, evaluation_order

PICTURES = [0, 2, 3, 5, 8, 9, 10, 12, 13, 17, 19]  # 11, so that passes end in the middle of a pair
LANDSCAPE = np.random.default_rng(0).random(20) < 0.6


def order(batch: int = 4, iterations: int = 20, **more: int) -> TrainingOrder:
    return TrainingOrder(PICTURES, LANDSCAPE, batch, iterations, **{"seed": 7, **more})


@pytest.mark.parametrize("batch", [1, 4, 8, 16])
def test_every_picture_is_seen_once_a_pass(batch):
    visits = list(chain(*order(batch, iterations=11 * 3)))
    assert len(visits) == batch * 33
    for number in range(batch * 3):
        of_pass = visits[number * 11 : number * 11 + 11]
        assert {n for n, _ in of_pass} == {number}
        assert sorted(i for _, i in of_pass) == PICTURES
    assert max(Counter(visits).values()) == 1


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_same_global_batches(ranks):
    alone = list(order(8))
    shares = [list(order(8, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == alone
    assert {len(part) for share in shares for part in share} == {8 // ranks}


def test_a_resumed_run_goes_on_where_it_stopped():
    everything = list(order())
    for first in (0, 1, 7, 19, 20, 25):
        resumed = order(first_step=first)
        assert list(resumed) == everything[first:]
        assert len(resumed) == len(everything[first:])


def test_passes_and_seeds_differ():
    passes = [tuple(order().of_pass(n)) for n in range(8)] + [tuple(order(seed=8).of_pass(n)) for n in range(8)]
    assert len(set(passes)) == 16


@pytest.mark.parametrize("wide", range(12))
def test_neighbours_of_two_have_one_orientation_as_far_as_possible(wide):
    """Also across the end of a pass, whose pictures are an odd number here."""
    landscape = np.zeros(20, dtype=bool)
    landscape[PICTURES[:wide]] = True
    batches = TrainingOrder(PICTURES, landscape, 2, 44, seed=1)  # 8 passes
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in batches)
    # Of 11 pictures one kind is odd: its last one stands at the end of a pass, where it meets that of the next.
    assert mixed == 0
    even = TrainingOrder(PICTURES[:10], landscape, 2, 40, seed=1)
    mixed = sum(landscape[a] != landscape[b] for (_, a), (_, b) in even)
    assert mixed == (8 if min(wide, 10) % 2 else 0), "one pair a pass, where both kinds are odd"


def test_pairs_of_both_kinds_are_mixed_within_a_pass():
    landscape = np.arange(200) < 100
    of_pass = TrainingOrder(range(200), landscape, 2, 1, seed=0).of_pass(0)
    kinds = landscape[of_pass[::2]]
    assert 15 < kinds[:50].sum() < 35, "of 50 pairs of wide pictures about half come in the first half"
    partners = {frozenset(pair) for pair in of_pass.reshape(-1, 2).tolist()}
    again = TrainingOrder(range(200), landscape, 2, 1, seed=0).of_pass(1)
    assert len(partners & {frozenset(pair) for pair in again.reshape(-1, 2).tolist()}) < 10, "partners change"


def test_wrong_use_is_said():
    with pytest.raises(ValueError, match="no picture of the data has an object"):
        TrainingOrder([], LANDSCAPE, 4, 1, seed=0)
    with pytest.raises(ValueError, match="a batch of 4 pictures cannot be shared by 3"):
        order(4, ranks=3)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_takes_every_picture_once_and_in_order(ranks):
    shares = [evaluation_order(10, 2, rank, ranks) for rank in range(ranks)]
    flat = [[i for batch in share for draw, i in batch if draw == 0] for share in shares]
    assert sorted(chain(*flat)) == list(range(10))
    assert all(share == sorted(share) for share in flat)
    assert all(len(batch) <= 2 for share in shares for batch in share)
    assert evaluation_order(1, 2, 1, 2) == []
