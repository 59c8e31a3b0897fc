"""Views: ``draw`` answers a query (``plrc.queries``) with a figure, its arrays, its numbers, and a recipe to replay.

The command line, the app and the notebooks draw with it. ``plrc.queries.VIEWS`` names the views; each is a function of
its query, a session, which keeps what was loaded and encoded, and a progress, which is told how much is done.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plrc.distributed import from_main
from plrc.files import written_together
from plrc.options import Options
from plrc.queries import VIEWS, ImageQuery, Query
from plrc.views.images import NamedImage, file_of, list_images, open_image
from plrc.views.session import Session

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "NamedImage", "Session", "draw", "list_images", "open_image", "read_recipe", "replay"]

FORMAT, VERSION = "plrc recipe", 3
_IMAGES = {"image": "file", "with": "file of with", "answer": "file of answer"}  # columns, and those of their files
Progress = Callable[[str, int, int], Any]
"""Is told what is being done, how much of it is, how much there is. Scores end early if it returns True."""


@dataclass(eq=False, kw_only=True)
class Drawing:
    """The answer to a query. Its figure is drawn when it is first asked for: who wants the numbers need not wait.

    Attributes:
        query: what was asked, with each image of a folder by its own name, and the size of the input.
        inputs: what was read (images, checkpoints) → its SHA-256, so that a replay knows whether it is the same.
        arrays: what is drawn. draw: draws the figure. lines: the numbers beside the figure, to be printed.
        rows: of the table; empty where there is none. part: what the figure shows, if not all: "12 of 5000 images".
        extra: further entries of the recipe. texts: further files, ending → content.
    """

    query: Options
    inputs: dict[str, str]
    arrays: dict[str, np.ndarray]
    draw: Callable[[], Figure]
    lines: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    part: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    @cached_property
    def figure(self) -> Figure:
        return self.draw()

    def recipe(self) -> dict[str, Any]:
        """What ``replay`` needs."""
        import torch

        return {
            "format": FORMAT,
            "version": VERSION,
            "view": view_of(self.query),
            "query": self.query.to_dict(),
            "inputs": self.inputs,
            "files": _files_of(self.inputs),
            "arrays": {name: digest(array) for name, array in self.arrays.items()},
            "lines": self.lines,
            "torch": torch.__version__,
        } | self.extra

    def told_rows(self) -> list[dict[str, Any]]:
        """The rows; behind each image that is named by its number in a folder, ``DIR#12``, the name of its file."""
        files = _files_of(str(row[column]) for row in self.rows for column in _IMAGES if column in row)
        columns = [column for column in _IMAGES if any(row.get(column) in files for row in self.rows)]
        rows: list[dict[str, Any]] = [{} for _ in self.rows]
        for row, told in zip(self.rows, rows, strict=True):
            for name, value in row.items():
                told |= {name: value} | ({_IMAGES[name]: files.get(value, "")} if name in columns else {})
        return rows

    def save(self, out: Path, formats: Sequence[str] = ("png",), dpi: int = 200) -> list[Path]:
        """Write ``out.png`` (or the other formats), ``out.npz``, ``out.json`` and, where there are rows, ``out.csv``.

        Returns the files. Existing ones are replaced, all of them once all are written. Raises a ValueError if they
        cannot be written there.
        """
        from plrc import figures

        endings = [*formats, "npz", "json", *["csv"] * bool(self.rows), *self.texts]
        with written_together(out.parent) as folder:
            files = {ending: folder / f"{out.name}.{ending}" for ending in endings}
            for ending in formats:
                figures.save(self.figure, files[ending], dpi)
            np.savez(files["npz"], **self.arrays)  # type: ignore[arg-type]
            files["json"].write_text(json.dumps(self.recipe(), indent=1) + "\n", encoding="utf-8")
            if rows := self.told_rows():
                # Names of images may have bytes that are no UTF-8; they are written as they were.
                with files["csv"].open("w", newline="", encoding="utf-8", errors="surrogateescape") as table:
                    writer = csv.DictWriter(table, list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)
            for ending, text in self.texts.items():
                files[ending].write_text(text, "utf-8", "surrogateescape")
        return [out.with_name(file.name) for file in files.values()]


def draw(query: Options, session: Session | None = None, progress: Progress | None = None) -> Any:
    """The drawing that answers a query: a ``Drawing``, which a view's own kind of drawing may add to.

    Views with the trait ``spread`` share the work with the other ranks, if there are any, which get None.

    Args:
        session: what was loaded and encoded before. progress: see ``Progress``. Neither changes what is drawn.

    Raises:
        ValueError: bad input, in a sentence that names it and the remedy.
    """
    view = VIEWS[view_of(query)]
    if isinstance(query, ImageQuery):
        named, most = query.images, query.most
        query = replace(query, images=tuple(from_main(lambda: list_images(named, most))), most=None)
    session = session or Session()
    if isinstance(query, Query) and query.size is None:
        query = replace(query, size=session.size(query))
    return view.load()(query, session, progress or (lambda *_: None))


def view_of(query: Options) -> str:
    """The name of the view that answers queries of this kind."""
    kinds = {view.traits["query"]: name for name, view in VIEWS.items()}
    if type(query) not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{type(query).__name__} is no query of a view: give one of {known}")
    return kinds[type(query)]


def read_recipe(file: Path) -> dict[str, Any]:
    """A recipe that ``Drawing.save`` wrote. Raises a ValueError if it is missing, none, or one of another version."""
    try:
        recipe: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the recipe {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        recipe = None
    version = recipe.get("version") if isinstance(recipe, dict) and recipe.get("format") == FORMAT else None
    parts = {"view": str, "query": dict, "inputs": dict, "arrays": dict, "lines": list, "torch": str}
    if version is None or (version == VERSION and not all(isinstance(recipe.get(p), parts[p]) for p in parts)):
        written = "'plrc affinity' and the other views write one beside each figure"
        raise ValueError(f"{file} is no recipe, or no whole one: {written}")
    if version != VERSION:
        raise ValueError(
            f"{file} is a recipe of version {version!r}, and this plrc replays version {VERSION}: draw it anew, or "
            "replay it with the plrc that wrote it"
        )
    return dict(recipe)


def replay(file: Path) -> tuple[Drawing, list[str]]:
    """Draw a recipe again.

    Returns:
        The drawing, and what differs from the first one, a sentence each: nothing, on the same machine with the same
        inputs. Lines are compared, and arrays bit for bit; where the arrays' file still lies beside the recipe, a
        difference comes with its size.

    Raises:
        ValueError: no such file, no recipe, or an input is missing.
    """
    then = read_recipe(file)
    try:
        drawing = draw(VIEWS[then["view"]].traits["query"].from_dict(then["query"], "the query"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be drawn again from this folder: {error}") from error
    now, before = drawing.recipe(), dict[str, np.ndarray]()
    with suppress(Exception), np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
        before = dict(stored)  # missing or junk, it does not tell how much has changed; NumPy raises almost anything

    def differing(part: str) -> list[str]:
        return [name for name, sha in then[part].items() if now[part].get(name) != sha]

    changed = [f"{spec} is not the same as then" for spec in differing("inputs")]
    for name in (different := differing("arrays")):
        old, new, how = before.get(name), drawing.arrays.get(name), "differs"
        if new is None:
            how = "is not drawn any more"
        elif old is not None and old.shape == new.shape and new.dtype.kind == "f":
            how += f", by at most {np.nanmax(np.abs(old - new)):.2g}"
        changed.append(f"the array {name} {how}")
    changed += [f"the array {name} was not drawn then" for name in now["arrays"] if name not in then["arrays"]]
    lines = zip_longest(then["lines"], drawing.lines, fillvalue="")
    changed += [f"a line is {new!r} now, was {old!r}" for old, new in lines if new != old]
    if different and then["torch"] != now["torch"]:
        changed.append(f"torch is {now['torch']} now, was {then['torch']}")
    return drawing, changed


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and values."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def _files_of(specs: Iterable[str]) -> dict[str, str]:
    """Images that are named by their numbers, ``DIR#12`` → their files; nothing of others, or of drawn scenes."""
    found: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        with suppress(ValueError, OSError):  # gone since
            if (file := file_of(spec)) != spec and not spec.startswith("scenes"):
                found[spec] = file
    return found


def note_of(*parts: str) -> str:
    """The note at a figure's foot: how it was drawn. Empty parts are left out."""
    return " · ".join(filter(None, parts))


def few(names: Iterable[str], most: int = 4) -> str:
    """Different names, in order: all of them, or the first ones and how many more there are."""
    listed = list(dict.fromkeys(names))
    more = len(listed) - most + 1
    return ", ".join(listed) if more < 2 else f"{', '.join(listed[: most - 1])} and {more} more"
