"""What each command does. torch is imported inside: ``--help`` and a typing mistake should not wait for it."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMATS = ("png", "pdf", "svg")
_EVERY = 15.0  # seconds between two lines of progress where there is no terminal


def affinity(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_affinity

    out, formats = _place(o)
    with _steps() as progress:
        drawing = draw_affinity(
            _listed(o),
            points=o.points,
            negatives=o.negatives,
            to=o.to,
            temperature=o.temperature,
            difference=o.difference,
            auto_range=o.auto_range,
            progress=progress,
            **_network(o),
        )
    _finish(drawing, out, formats)


def correspond(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_correspondence

    out, formats = _place(o)
    with _steps() as progress:
        drawing = draw_correspondence(
            _listed(o),
            other=o.other,
            points=o.points,
            regions=o.regions,
            within=o.within,
            mutual=o.mutual,
            ratio=o.ratio,
            seed=o.seed,
            progress=progress,
            **_network(o),
        )
    _finish(drawing, out, formats)


def embed(o: argparse.Namespace) -> None:
    from plrc import recipes

    if (o.basis or o.keep_basis) and o.method != "rgb":
        raise ValueError(f"--basis and --keep-basis are for --method rgb, not {o.method}: leave them out, or take rgb")
    out, formats = _place(o)
    pictures = _listed(o)
    with _steps() as progress:
        how = {**_network(o), "progress": progress}
        if o.method == "rgb":
            drawing = recipes.draw_rgb(pictures, basis=o.basis, keep_basis=o.keep_basis, **how)
        elif o.method == "segments":
            drawing = recipes.draw_segments(pictures, segments_wanted=o.segments, seed=o.seed, **how)
        else:
            drawing = recipes.draw_embedding(
                pictures,
                of=o.of,
                method=o.method,
                regions=o.regions,
                per_picture=o.per_picture,
                perplexity=o.perplexity,
                seed=o.seed,
                **how,
            )
    _finish(drawing, out, formats)


def score(o: argparse.Namespace) -> None:
    from plrc import figures
    from plrc.analysis.descriptors import dense
    from plrc.analysis.scores import score_table
    from plrc.data.annotated import open_annotated
    from plrc.recipes.drawing import written_whole
    from plrc.recipes.networks import open_networks

    title = Path(o.dataset).resolve().name
    o.out = o.out or Path("runs/look", "scores-" + re.sub(r"[^\w.-]+", "-", title))
    out, formats = _place(o)
    networks = open_networks(o.checkpoints, o.device, o.layer, o.branch)
    dataset = open_annotated(o.dataset)
    table = score_table(
        dataset,
        [dense(encoder, o.layer, name) for name, encoder in networks.items()],
        title,
        o.size,
        o.most,
        _until_interrupted,
        o.within,
        o.dataset,
    )
    print(table.to_text())
    pictures = [f"{out.name}.{suffix}" for suffix in formats]
    with written_whole(out.parent) as folder:
        table.to_csv(folder / f"{out.name}.csv")
        table.to_json(folder / f"{out.name}.json")
        (folder / f"{out.name}.md").write_text(table.to_markdown() + "\n", "utf-8", "surrogateescape")
        chart = table.draw()
        for name in pictures:
            figures.save(chart, folder / name, dpi=200)
    names = [*pictures, *(f"{out.name}.{suffix}" for suffix in ("csv", "json", "md"))]
    print("written: " + ", ".join(str(out.with_name(name)) for name in names))
    if table.interrupted_after is not None:
        raise KeyboardInterrupt


def _until_interrupted(numbers: list[int]) -> Iterator[int]:
    """The numbers, and how far they are; at Ctrl-C the present one is the last, and at another one all is dropped."""
    before = signal.getsignal(signal.SIGINT)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        with _steps() as progress:
            for done, number in enumerate(numbers, start=1):
                yield number
                progress("pictures", done, len(numbers))
                if stopped:
                    return
    finally:
        signal.signal(signal.SIGINT, before)


def info(o: argparse.Namespace) -> None:
    from plrc.pretrained.describe import describe

    print("\n".join(describe(o.file, o.branch)))


def export(o: argparse.Namespace) -> None:
    from plrc.pretrained import load
    from plrc.pretrained.export import export

    print("\n".join(export(load(o.checkpoint, o.branch), o.to, o.out)))


def replay(o: argparse.Namespace) -> None:
    from plrc.recipes import KINDS, replay

    o.out = o.out or o.recipe.with_name(f"{o.recipe.stem}-replayed")
    out, formats = _place(o)
    drawing, changed = replay(o.recipe, KINDS)
    _finish(drawing, out, formats)
    if changed:
        raise ValueError(f"not the same as {o.recipe}: " + "; ".join(changed))
    print(f"all {len(drawing.arrays)} arrays are those of {o.recipe}, to the last bit")


def _listed(o: argparse.Namespace) -> list[str]:
    from plrc.recipes import list_pictures

    return list_pictures(o.pictures, o.most)


def _network(o: argparse.Namespace) -> dict[str, Any]:
    names = ("checkpoints", "layer", "branch", "size", "finer", "device")
    return {name: getattr(o, name) for name in names}


def _place(o: argparse.Namespace) -> tuple[Path, list[str]]:
    """What the files are to be called, without their endings, and the pictures' formats; checked before the work."""
    from plrc.recipes.drawing import check_place

    out: Path = o.out
    ending = out.suffix[1:]
    if ending in FORMATS:  # --out map.pdf
        out = out.with_suffix("")
    check_place(out)
    return out, o.format or [ending if ending in FORMATS else "png"]


def _finish(drawing: Any, out: Path, formats: list[str]) -> None:
    """Write everything and say so; the numbers come last, where they are seen."""
    files = drawing.save(out, formats)
    print("written: " + ", ".join(str(file) for file in files))
    if drawing.part:
        print(f"sheet: {drawing.part}, all are in {out}.csv")
    print("\n".join(drawing.lines))


@contextmanager
def _steps() -> Iterator[Callable[[str, int, int], None]]:
    """Tells of work how far it is: a bar on a terminal, elsewhere a line now and then."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    with tqdm(disable=not terminal, leave=False) as bar:
        at, told = "", time.monotonic()

        def progress(what: str, done: int, total: int) -> None:
            nonlocal at, told
            if terminal and what != at:  # work of another kind begins
                bar.set_description(at := what, refresh=False)
                bar.reset(total)
            bar.update(done - bar.n)
            if not terminal and time.monotonic() - told > _EVERY:
                told = time.monotonic()
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

        yield progress
