"""``plrc score``: numbers on a data set, checkpoints in columns, trivial baselines beside them."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch

import plrc
from plrc.analysis.descriptors import dense
from plrc.analysis.features import DenseEncoder
from plrc.analysis.scores import Table, score_table
from plrc.data.annotated import layout_of, open_annotated
from plrc.data.sources import Source
from plrc.distributed import from_main
from plrc.files import cache_folder
from plrc.pretrained.loading import split_branch, split_epoch, stored_epochs
from plrc.queries import Scores
from plrc.registry import SCORES
from plrc.run import losses_of
from plrc.views import Drawing, Progress
from plrc.views.run import read_run
from plrc.views.session import Session, inputs_of


@dataclass(eq=False, kw_only=True)
class ScoreDrawing(Drawing):
    """A chart of scores, and its table. Its recipe holds the results too."""

    table: Table


def scores(query: Scores, session: Session, progress: Progress) -> ScoreDrawing | None:
    """All scores that a data set allows: see ``plrc.analysis.scores.score_table``.

    Arrays: what each score is the mean of, a value an image, so that columns can be compared in pairs: see
    ``Table``. Lines: the table, but not how long it took, which is never the same again. Where the progress asks
    for an early end, the drawing's query says after how many images (``until``).

    With ``epochs`` a run folder stands for its stored epochs, which the drawing's query names each; the chart is over
    the epochs, beside the losses of the run's log until then, which are among the arrays.

    Of several ranks each scores its share, and the first one has the drawing, others None. What was scored when the
    work was killed, or ended early, is kept on the disk, and the next call goes on; it is removed where all is done.
    """
    if query.epochs:
        query = replace(query, checkpoints=tuple(chain(*map(_epochs_of, query.checkpoints))))
        if all(split_epoch(split_branch(c)[0])[1] is None for c in query.checkpoints):
            raise ValueError(
                f"no stored epochs in {', '.join(query.checkpoints)}: name a run folder (--keep-every stores them), or "
                "leave out --epochs"
            )
    networks = session.networks(query)
    source = from_main(lambda: open_annotated(query.dataset))
    keep = from_main(lambda: _folder(query, networks, source))

    def chosen(numbers: list[int]) -> Iterator[int]:
        what = f"images {layout_of(source)}"
        progress(what, 0, len(numbers))
        for done, number in enumerate(numbers, start=1):
            yield number
            if progress(what, done, len(numbers)):
                return

    described = [dense(encoder, query.layer, name) for name, encoder in networks.items()]
    table = score_table(source, described, query, chosen, keep)
    if table is None:
        return None
    if keep and not table.interrupted_after:
        shutil.rmtree(keep, ignore_errors=True)
    epochs = dict[str, tuple[str, int]]()  # column → run, epoch
    losses = dict[str, dict[str, np.ndarray]]()
    for checkpoint, name in zip(query.checkpoints, networks, strict=True) if query.epochs else ():
        file, branch = split_branch(checkpoint)
        folder, epoch = split_epoch(file)
        if epoch is not None:
            run = f"{Path(folder).absolute().name} {branch or query.branch or ''}".strip()
            epochs[name] = run, epoch
            with suppress(ValueError):  # a run without its log
                losses[run] = _losses(Path(folder), epoch)
    return ScoreDrawing(
        query=replace(query, until=table.interrupted_after),
        inputs=inputs_of(networks, query) | {query.dataset: table.sha256},
        arrays=dict(table.arrays) | {f"{run} {q}": v for run, of in losses.items() for q, v in of.items()},
        draw=partial(table.draw_over_epochs, epochs, losses) if query.epochs else table.draw,
        lines=table.lines(),
        rows=table.records(),
        extra=table.content(),
        texts={"md": table.to_markdown() + "\n"},
        table=table,
    )


def _folder(query: Scores, networks: Mapping[str, DenseEncoder], source: Source) -> Path | None:
    """Where what is scored is kept until all is: named by all that it depends on, so that a change begins anew.

    That is the package's own code too; a score from elsewhere may change unseen, and nothing is kept then.
    """
    if not all(isinstance(entry.target, str) for entry in SCORES.values()):
        return None
    known = hashlib.sha256(repr(replace(query, checkpoints=(), dataset=os.path.abspath(query.dataset))).encode())
    for file in sorted(Path(plrc.__file__).parent.rglob("*.py")):
        known.update(file.read_bytes())
    for name, network in networks.items():
        known.update(repr((name, *network.origin.identity, network.device.type)).encode())
    known.update(torch.__version__.encode() + pickle.dumps(source))  # with what it has read: boxes, classes, keypoints
    if hasattr(source, "stamp"):
        for i in range(len(source)):
            with suppress(OSError):  # a dangling link
                known.update(source.stamp(i).encode(errors="surrogateescape"))
    return cache_folder("scores") / known.hexdigest()[:32]


def _epochs_of(checkpoint: str) -> list[str]:
    """``runs/demo@0``, ``runs/demo@5`` … of ``runs/demo``; of what is no folder, itself."""
    folder, branch = split_branch(checkpoint)
    if not Path(folder).is_dir():
        return [checkpoint]
    if not (stored := stored_epochs(Path(folder))):
        raise ValueError(f"{folder} has stored no epochs: train it with --keep-every, or leave out --epochs")
    return [f"{folder}@{epoch}{f'@{branch}' * bool(branch)}" for epoch in stored]


def _losses(folder: Path, last: int) -> dict[str, np.ndarray]:
    """ "epoch" and the losses of a run's log ``(m,)``, as far as an epoch: a run that goes on draws the same again."""
    curves = read_run(folder).curves
    until = curves["epoch"] <= last
    return {name: curves[name][until] for name in ("epoch", *losses_of(curves)) if until.any()}
