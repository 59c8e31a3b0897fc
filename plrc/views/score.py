"""``plrc score``: numbers on a data set, checkpoints in columns, trivial baselines beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from plrc.analysis.descriptors import dense
from plrc.analysis.scores import Table, score_table
from plrc.data.annotated import layout_of, open_annotated
from plrc.queries import Scores
from plrc.views import Drawing, Progress
from plrc.views.session import Session, inputs_of


@dataclass(eq=False, kw_only=True)
class ScoreDrawing(Drawing):
    """A chart of scores, and its table. Its recipe holds the results too."""

    table: Table


def scores(query: Scores, session: Session, progress: Progress) -> ScoreDrawing:
    """All scores that a data set allows: see ``plrc.analysis.scores.score_table``.

    Arrays: what each score is the mean of, a value an image, so that columns can be compared in pairs: see
    ``Table``. Lines: the table, but not how long it took, which is never the same again. Where the progress asks
    for an early end, the drawing's query says after how many images (``until``).
    """
    networks = session.networks(query)
    source = open_annotated(query.dataset)

    def chosen(numbers: list[int]) -> Iterator[int]:
        what, numbers = f"images {layout_of(source)}", numbers[: query.until]
        progress(what, 0, len(numbers))
        for done, number in enumerate(numbers, start=1):
            yield number
            if progress(what, done, len(numbers)):
                return

    described = [dense(encoder, query.layer, name) for name, encoder in networks.items()]
    table = score_table(source, described, query, chosen)
    return ScoreDrawing(
        query=replace(query, until=table.interrupted_after),
        inputs=inputs_of(networks, query) | {query.dataset: table.sha256},
        arrays=dict(table.arrays),
        draw=table.draw,
        lines=table.lines(),
        rows=table.records(),
        extra=table.content(),
        texts={"md": table.to_markdown() + "\n"},
        table=table,
    )
