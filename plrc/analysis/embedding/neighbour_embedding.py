"""t-SNE: a picture in which neighbours by cosine are neighbours; distances and sizes beyond that mean little."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from plrc.analysis.embedding.pca import principal_axes
from plrc.analysis.embedding.rows import Features, one_thread, unit_rows

LARGE = 5000  # features above which openTSNE is used where it is installed: at 10 000 it takes half the time
_COMPONENTS = 50  # principal components that t-SNE sees (van der Maaten and Hinton 2008, section 4.2: 30)
_SPREAD = 1e-4  # standard deviation of the start along the first axis (scikit-learn's and openTSNE's)
_JITTER = 0.01  # of that spread. Equal features, or features on a line, could otherwise never part
_EARLY_STEPS = 250  # with attraction exaggerated; the libraries' default, as are the next two
_OPEN_TSNE_STEPS = 500  # after those
_STEPS = 1000  # scikit-learn's, those included
_EVERY = 50  # steps between two reports of openTSNE; scikit-learn's are as far apart

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, eq=False)
class Embedding:
    """A picture of n features.

    Attributes:
        coordinates: ``(n, 2)`` fp32; their unit means nothing. method: what made it, with its version. perplexity: the
            one used, (n − 1) / 3 where that is less than what was asked. seed: of the start.
    """

    coordinates: np.ndarray
    method: str
    perplexity: float
    seed: int


def tsne(features: Features, seed: int = 0, perplexity: float = 30, progress: Progress | None = None) -> Embedding:
    """t-SNE of features by cosine: of length 1, on their first 50 principal components, starting from the first two.

    Above ``LARGE`` features by openTSNE where it is installed (``pip install -e '.[tsne]'``), else by scikit-learn.
    Both give the same bits on every run on one machine, for any number of threads; not the same picture as each other.
    On a machine that is busy otherwise, ``OMP_WAIT_POLICY=PASSIVE``, set before Python starts, is several times faster.

    Args:
        features: ``(n, C)``, n ≥ 4. seed: another seed, a slightly different start: what stays in the picture is in the
            features. perplexity: about how many neighbours count; (n − 1) / 3 at most is used.
        progress: called about every 50 steps with the steps done and those in all; an exception that it raises ends
            the work. scikit-learn's steps are read from what it prints, since it tells them nowhere else.

    Raises:
        ValueError: fewer than 4 features, a perplexity below 1, features that are not finite or all the same.
    """
    rows = unit_rows(features)
    n = len(rows)
    if n < 4:
        raise ValueError(f"t-SNE needs 4 features or more, not {n}: take more points an image, or more images")
    if not perplexity >= 1:
        raise ValueError(f"t-SNE needs a perplexity of 1 or more, not {perplexity}")
    perplexity = min(float(perplexity), (n - 1) / 3)
    mean, components, _ = principal_axes(lambda: [rows], min(_COMPONENTS, n - 1, rows.shape[1]))
    with one_thread():
        reduced = (rows - mean) @ components.T
    start = np.zeros((n, 2))
    start[:, : min(2, reduced.shape[1])] = reduced[:, :2] / reduced[:, 0].std()
    start += _JITTER * np.random.default_rng(seed).standard_normal((n, 2))
    run = _open_tsne if n > LARGE and find_spec("openTSNE") else _sklearn_tsne
    coordinates, method = run(reduced, (_SPREAD * start).astype(np.float32), perplexity, seed, progress)
    return Embedding(np.ascontiguousarray(coordinates, dtype=np.float32), method, perplexity, seed)


def _open_tsne(
    rows: np.ndarray, start: np.ndarray, perplexity: float, seed: int, progress: Progress | None
) -> tuple[np.ndarray, str]:
    library: Any = import_module("openTSNE")
    steps, done = _EARLY_STEPS + _OPEN_TSNE_STEPS, 0

    def callback(step: int, error: float, embedding: np.ndarray) -> None:
        nonlocal done
        done += _EVERY  # it counts the steps of its two phases apart
        if progress is not None:
            progress(min(done, steps), steps)

    coordinates = library.TSNE(
        perplexity=perplexity,
        initialization=start,
        early_exaggeration_iter=_EARLY_STEPS,
        n_iter=_OPEN_TSNE_STEPS,
        neighbors="exact",  # its approximate neighbours depend on the number of threads
        n_jobs=torch.get_num_threads(),
        random_state=seed,
        callbacks=callback,
        callbacks_every_iters=_EVERY,
    ).fit(rows)
    return np.asarray(coordinates), f"t-SNE (openTSNE {library.__version__})"


def _sklearn_tsne(
    rows: np.ndarray, start: np.ndarray, perplexity: float, seed: int, progress: Progress | None
) -> tuple[np.ndarray, str]:
    import sklearn
    from sklearn.manifold import TSNE

    verbose = 0 if progress is None else 2
    estimator = TSNE(perplexity=perplexity, init=start, max_iter=_STEPS, random_state=seed, verbose=verbose)
    if progress is None:
        coordinates = estimator.fit_transform(rows)
    else:
        with _ONE_LISTENER, redirect_stdout(_Listener(progress, _STEPS)):
            coordinates = estimator.fit_transform(rows)
        progress(_STEPS, _STEPS)  # it stops early once nothing moves
    return coordinates, f"t-SNE (scikit-learn {sklearn.__version__})"


_ONE_LISTENER = threading.Lock()  # standard output is the whole process's: two listeners could not tell theirs apart


class _Listener(io.TextIOBase):
    """Standard output while scikit-learn runs: its lines become progress, what anybody else prints goes through."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress, self._steps = progress, steps
        self._stdout, self._thread = sys.stdout, threading.get_ident()
        self._ours = False  # print() writes a line and its end apart

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._stdout.write(text)
        if text.startswith("[t-SNE]"):
            self._ours = True
            if found := re.match(r"\[t-SNE\] Iteration (\d+):", text):
                self._progress(min(int(found[1]), self._steps), self._steps)
        elif self._ours and text == "\n":
            self._ours = False
        else:
            return self._stdout.write(text)
        return len(text)

    def flush(self) -> None:
        self._stdout.flush()
