"""``plrc score``: numbers on a data set, checkpoints in columns, trivial baselines beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plrc.analysis.descriptors import dense
from plrc.analysis.scores import Table, score_table
from plrc.data.annotated import layout_of, open_annotated
from plrc.views.drawing import NO_PARAMETERS, Drawing, Progress, counted, written_whole
from plrc.views.networks import inputs_of
from plrc.views.session import Session


@dataclass(eq=False, kw_only=True)
class ScoreDrawing(Drawing):
    """A chart of scores, and its table. Its recipe holds the results too."""

    table: Table

    def save(self, out: Path, formats: Sequence[str] = ("png",), dpi: int = 200) -> list[Path]:
        """As ``Drawing.save``, and ``out.md`` with the table."""
        files = super().save(out, formats, dpi)
        with written_whole(out.parent) as folder:
            text = self.table.to_markdown() + "\n"
            (folder / f"{out.name}.md").write_text(text, "utf-8", "surrogateescape")
        return [*files, out.with_name(f"{out.name}.md")]

    def recipe(self) -> dict[str, Any]:
        """What ``replay`` needs, and ``Table.content``."""
        return super().recipe() | self.table.content()


def draw_score(
    dataset: str,
    checkpoints: Sequence[str],
    layer: str | None = None,
    branch: str | None = None,
    size: int = 448,
    most: int | None = None,
    within: int = 1,
    until: int | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    session: Session | None = None,
    through: Callable[[list[int]], Iterable[int]] = iter,
) -> ScoreDrawing:
    """All scores that a data set allows: see ``plrc.analysis.scores.score_table``.

    Arrays: what each score is the mean of, a value a picture, so that columns can be compared in pairs: see
    ``Table.arrays``. Lines: the table, but not how long it took, which is never the same again.

    Args:
        dataset: as ``plrc.data.annotated.open_annotated`` takes it. checkpoints, layer, branch: as of
            ``plrc.load_encoder``. size: pixels of a picture's shorter side, in steps of 32. most: that many pictures,
            evenly spread. within: cells of 32 pixels by which a match of views may be off.
        until: the first so many of those pictures, as after an interrupt; None for all.
        progress, session: no part of the recipe. through: goes through the pictures' numbers, and may end early; the
            recipe says after how many.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy. FileNotFoundError: there is no such data set.
    """
    parameters = {name: value for name, value in locals().items() if name not in (*NO_PARAMETERS, "through")}
    networks = (session or Session()).networks(checkpoints, device, layer, branch)
    source = open_annotated(dataset)

    def chosen(numbers: list[int]) -> Iterable[int]:
        what = f"pictures {layout_of(source)}"
        numbers = numbers[:until]
        if progress is not None:
            progress(what, 0, len(numbers))
        return counted(through(numbers), len(numbers), what, progress)

    table = score_table(
        source,
        [dense(encoder, layer, name) for name, encoder in networks.items()],
        Path(dataset).resolve().name,
        size,
        most,
        chosen,
        within,
        dataset,
    )
    return ScoreDrawing(
        kind="score",
        parameters=parameters | {"until": table.interrupted_after},
        inputs=inputs_of(networks, checkpoints) | {dataset: table.sha256},
        arrays=table.arrays(),
        draw=table.draw,
        lines=table.lines(),
        rows=table.records(),
        table=table,
    )
