"""What each command does. torch is imported inside: ``--help`` and a typing mistake should not wait for it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMATS = ("png", "pdf", "svg")


def affinity(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_affinity

    with _steps() as progress:
        drawing = draw_affinity(
            _listed(o),
            o.checkpoints,
            o.points,
            o.negatives,
            o.to,
            o.layer,
            o.size,
            o.finer,
            o.temperature,
            o.difference,
            o.auto_range,
            o.device,
            progress,
        )
    _finish(drawing, o.out, o.format)


def correspond(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_correspondence

    with _steps() as progress:
        drawing = draw_correspondence(
            _listed(o),
            o.checkpoints,
            o.other,
            o.points,
            o.regions,
            o.layer,
            o.size,
            o.finer,
            o.within,
            o.mutual,
            o.ratio,
            o.seed,
            o.device,
            progress,
        )
    _finish(drawing, o.out, o.format)


def embed(o: argparse.Namespace) -> None:
    from plrc import recipes

    pictures = _listed(o)
    with _steps() as progress:
        how = {"layer": o.layer, "size": o.size, "finer": o.finer, "device": o.device, "progress": progress}
        if o.method == "rgb":
            drawing = recipes.draw_rgb(pictures, o.checkpoints, o.basis, o.keep_basis, **how)
        elif o.method == "segments":
            drawing = recipes.draw_segments(pictures, o.checkpoints, o.segments, seed=o.seed, **how)
        else:
            items = (o.of, o.method, o.regions, o.per_picture, o.perplexity)
            drawing = recipes.draw_embedding(pictures, o.checkpoints, *items, seed=o.seed, **how)
    _finish(drawing, o.out, o.format)


def score(o: argparse.Namespace) -> None:
    from tqdm import tqdm

    from plrc.analysis.descriptors import dense
    from plrc.analysis.scores import score_table
    from plrc.data.annotated import open_annotated
    from plrc.recipes.drawing import written_whole
    from plrc.recipes.networks import open_networks

    networks = open_networks(o.checkpoints, o.device, o.layer)
    dataset, title = open_annotated(o.dataset), Path(o.dataset).resolve().name
    table = score_table(
        dataset,
        [dense(encoder, o.layer, name) for name, encoder in networks.items()],
        title,
        o.size,
        o.most,
        lambda numbers: tqdm(numbers, unit="picture", disable=not sys.stderr.isatty()),
    )
    print(table.to_text())
    name = "scores-" + re.sub(r"[^\w.-]+", "-", title)
    with written_whole(o.out) as folder:
        table.to_csv(folder / f"{name}.csv")
        table.to_json(folder / f"{name}.json")
    print(f"written: {o.out / name}.csv, {o.out / name}.json")


def info(o: argparse.Namespace) -> None:
    from plrc.pretrained.describe import describe

    print("\n".join(describe(o.file)))


def export(o: argparse.Namespace) -> None:
    from plrc.pretrained import load
    from plrc.pretrained.export import export

    print("\n".join(export(load(o.checkpoint, o.branch), o.to, o.out)))


def replay(o: argparse.Namespace) -> None:
    from plrc.recipes import KINDS, replay

    drawing, changed = replay(o.recipe, KINDS)
    _finish(drawing, o.out or o.recipe.with_name(f"{o.recipe.stem}-replayed"), o.format)
    if changed:
        raise ValueError(f"not the same as {o.recipe}: " + "; ".join(changed))
    print(f"all {len(drawing.arrays)} arrays are those of {o.recipe}, to the last bit")


def _listed(o: argparse.Namespace) -> list[str]:
    from plrc.recipes import list_pictures

    return list_pictures(o.pictures, o.most)


def _finish(drawing: Any, out: Path, formats: list[str] | None) -> None:
    """Write everything and say so; the numbers come last, where they are seen."""
    ending = out.suffix[1:]
    if ending in FORMATS:  # --out map.pdf
        out = out.with_suffix("")
    files = drawing.save(out, formats or [ending if ending in FORMATS else "png"])
    print("written: " + ", ".join(str(file) for file in files))
    print("\n".join(drawing.lines))


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for work that tells its steps; nothing where nobody looks."""
    from tqdm import tqdm

    with tqdm(disable=not sys.stderr.isatty(), leave=False) as bar:
        at = ""

        def progress(what: str, done: int, total: int) -> None:
            nonlocal at
            if what != at:  # work of another kind begins
                bar.set_description(at := what, refresh=False)
                bar.reset(total)
            bar.update(done - bar.n)

        yield progress
