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
    from plrc.views import draw_affinity

    out, formats = _place(o)
    with _steps() as progress:
        drawing = draw_affinity(
            _listed(o),
            points=o.points,
            negatives=o.negatives,
            to=o.to,
            temperature=o.temperature,
            together=o.together,
            difference=o.difference,
            auto_range=o.auto_range,
            progress=progress,
            **_network(o),
        )
    _finish(drawing, out, formats)


def correspond(o: argparse.Namespace) -> None:
    from plrc.views import draw_correspondence

    if o.regions:
        _refuse_idle(o, "with --regions, which are matched whole", within=1)
    if o.other:
        _refuse_idle(o, "with --with: views are of one picture", seed=0, scale=None)
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
            scale=o.scale,
            progress=progress,
            **_network(o),
        )
    _finish(drawing, out, formats)


def embed(o: argparse.Namespace) -> None:
    from plrc import views

    if (o.basis or o.keep_basis) and o.method != "rgb":
        raise ValueError(f"--basis and --keep-basis are for --method rgb, not {o.method}: leave them out, or take rgb")
    method = f"with --method {o.method}"
    if o.method in ("rgb", "segments"):
        _refuse_idle(o, f"{method}, which is of every cell", of="regions", regions="grid:4", per_picture=16, clusters=0)
    elif o.of != "regions":
        _refuse_idle(o, f"with --of {o.of}", regions="grid:4")
    if o.of != "points":
        _refuse_idle(o, f"with --of {o.of}", per_picture=16)
    if o.method != "tsne":
        _refuse_idle(o, method, perplexity=30.0)
    if o.method != "segments":
        _refuse_idle(o, method, segments=8)
    if o.method == "rgb" or (o.method == "pca" and o.of != "points" and not o.clusters):
        _refuse_idle(o, method, seed=0)
    out, formats = _place(o)
    pictures = _listed(o)
    with _steps() as progress:
        how = {**_network(o), "progress": progress}
        if o.method == "rgb":
            drawing = views.draw_rgb(pictures, basis=o.basis, keep_basis=o.keep_basis, **how)
        elif o.method == "segments":
            drawing = views.draw_segments(pictures, segments_wanted=o.segments, seed=o.seed, **how)
        else:
            drawing = views.draw_embedding(
                pictures,
                of=o.of,
                method=o.method,
                regions=o.regions,
                per_picture=o.per_picture,
                perplexity=o.perplexity,
                clusters=o.clusters,
                seed=o.seed,
                **how,
            )
    _finish(drawing, out, formats)


def score(o: argparse.Namespace) -> None:
    from plrc.views import draw_score

    title = Path(o.dataset).resolve().name
    o.out = o.out or Path("runs/look", "scores-" + re.sub(r"[^\w.-]+", "-", title))
    out, formats = _place(o)
    with _steps() as progress:
        drawing = draw_score(
            o.dataset,
            o.checkpoints,
            o.layer,
            o.branch,
            o.size,
            most=o.most,
            within=o.within,
            device=o.device,
            progress=progress,
            through=_until_interrupted,
        )
    print(drawing.table.to_text())
    print("written: " + ", ".join(str(file) for file in drawing.save(out, formats)))
    if drawing.table.interrupted_after is not None:
        raise KeyboardInterrupt


def _until_interrupted(numbers: list[int]) -> Iterator[int]:
    """The numbers; at Ctrl-C the present one is the last, and at another one all is dropped."""
    before = signal.getsignal(signal.SIGINT)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        for number in numbers:
            yield number
            if stopped:
                return
    finally:
        signal.signal(signal.SIGINT, before)


def info(o: argparse.Namespace) -> None:
    from plrc.pretrained.describe import NotRecognised, describe

    try:
        print("\n".join(describe(o.file, o.branch)))
    except NotRecognised as error:
        print("\n".join(error.looks), flush=True)  # before the reason, which goes to stderr
        raise


def export(o: argparse.Namespace) -> None:
    from plrc.pretrained import load
    from plrc.pretrained.export import export

    print("\n".join(export(load(o.checkpoint, o.branch), o.to, o.out)))


def replay(o: argparse.Namespace) -> None:
    from plrc.views import KINDS, replay

    o.out = o.out or o.recipe.with_name(f"{o.recipe.stem}-replayed")
    out, formats = _place(o)
    drawing, changed = replay(o.recipe, KINDS)
    _finish(drawing, out, formats)
    if changed:
        raise ValueError(f"not the same as {o.recipe}: " + "; ".join(changed))
    print(f"all {len(drawing.arrays)} arrays are those of {o.recipe}, to the last bit")


def _refuse_idle(o: argparse.Namespace, why: str, **defaults: Any) -> None:
    """Raise a ValueError if an option was given that changes nothing."""
    given = [f"--{name.replace('_', '-')}" for name, default in defaults.items() if getattr(o, name) != default]
    if given:
        raise ValueError(f"{' and '.join(given)} would change nothing {why}: leave it out")


def _listed(o: argparse.Namespace) -> list[str]:
    from plrc.views import list_pictures

    return list_pictures(o.pictures, o.most)


def _network(o: argparse.Namespace) -> dict[str, Any]:
    names = ("checkpoints", "layer", "branch", "size", "finer", "device")
    return {name: getattr(o, name) for name in names}


def _place(o: argparse.Namespace) -> tuple[Path, list[str]]:
    """What the files are to be called, without their endings, and the pictures' formats; checked before the work."""
    from plrc.views.drawing import check_place

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
