"""Which picture comes when: a global batch holds the same pictures on one rank and on eight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_STREAM = 3  # of the random numbers of (seed, pass): see plrc.data.loader and plrc.detection.examples for the others


class TrainingOrder(Sampler[list[tuple[int, int]]]):
    """The pictures that this rank loads in each iteration from ``first_step`` on: lists of (pass, index).

    Passes over the data follow one another without a gap, so that a batch may lie in two. The order of a pass is a pure
    function of (seed, pass). In it, neighbours of two are both wide or both high as far as possible: pictures that are
    computed together are padded to one size, and two a GPU is the recipe's share (Detectron2 groups per GPU).
    Rank r takes the r-th share of each global batch.

    Args:
        pictures: places in the data, such as ``DetectionData.trainable()``. landscape: of all the data, see there.
        batch_size: of all ranks together. iterations: of the whole training.

    Raises:
        ValueError: there are no pictures, or the batch cannot be shared evenly.
    """

    def __init__(
        self,
        pictures: Sequence[int],
        landscape: np.ndarray,
        batch_size: int,
        iterations: int,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        first_step: int = 0,
    ) -> None:
        if not len(pictures):
            raise ValueError("no picture of the data has an object to train on")
        if batch_size < 1 or batch_size % ranks:
            raise ValueError(
                f"a batch of {batch_size} pictures cannot be shared by {ranks} processes: make it a multiple"
            )
        self._pictures = np.asarray(pictures, dtype=np.int64)
        self._wide = np.asarray(landscape, dtype=bool)[self._pictures]
        self._batch, self._share, self._rank = batch_size, batch_size // ranks, rank
        self._seed, self._first, self._iterations = seed, first_step, iterations

    def __len__(self) -> int:
        return max(0, self._iterations - self._first)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        count, order, of_pass = len(self._pictures), self._pictures, -1
        for step in range(self._first, self._iterations):
            start = step * self._batch + self._rank * self._share
            batch = []
            for place in range(start, start + self._share):
                number, at = divmod(place, count)
                if number != of_pass:
                    order, of_pass = self.of_pass(number), number
                batch.append((number, int(order[at])))
            yield batch

    def of_pass(self, number: int) -> np.ndarray:
        """All pictures in the order of one pass over the data."""
        rng = np.random.default_rng((self._seed, number, 0, _STREAM))
        shuffled = rng.permutation(len(self._pictures))
        wide = self._wide[shuffled]
        # At most one of either kind is left over; those two are a pair. What has no partner at all stands where pairs
        # do not shift: at the end, or, where the pass before it ended in the middle of a pair, at the beginning.
        kinds = [shuffled[wide], shuffled[~wide]]
        rest = np.concatenate([kind[len(kind) // 2 * 2 :] for kind in kinds])
        pairs = np.concatenate([*(kind[: len(kind) // 2 * 2] for kind in kinds), rest[: len(rest) // 2 * 2]])
        pairs = rng.permutation(pairs.reshape(-1, 2)).ravel()
        single = rest[len(rest) // 2 * 2 :]
        starts_within_a_pair = number * len(shuffled) % 2 == 1
        return self._pictures[np.concatenate((single, pairs) if starts_within_a_pair else (pairs, single))]


def evaluation_order(pictures: int, batch_size: int, rank: int = 0, ranks: int = 1) -> list[list[tuple[int, int]]]:
    """Batches of (0, index) of the pictures that this rank evaluates: every ``ranks``-th from the ``rank``-th on."""
    mine = [(0, i) for i in range(rank, pictures, ranks)]
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
