"""A drawing: a figure, the arrays behind it, its numbers, and the recipe from which it can be drawn again."""

from __future__ import annotations

import csv
import hashlib
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure

from plrc import figures

FORMAT, VERSION = "plrc recipe", 1
Progress = Callable[[str, int, int], None]  # what is being done, how much of it is, how much there is
NO_PARAMETERS = ("progress", "session")  # of a recipe's function: they change nothing in what is drawn
Item = TypeVar("Item")


@dataclass(eq=False, kw_only=True)
class Drawing:
    """What a recipe gives. Its figure is drawn when it is first asked for: who wants the numbers need not wait.

    Attributes:
        kind: the recipe's, a key of ``plrc.views.KINDS``. parameters: all it was given; numbers, strings, lists.
        inputs: what was read (pictures, checkpoints) → its SHA-256, so that a replay knows whether it is the same.
        arrays: what is drawn, as NumPy arrays. draw: draws the figure. lines: the numbers beside the picture, to be
            printed.
        rows: one a picture, for a CSV file; empty where there is no table.
        part: what of it the figure shows, if not all: "12 of 5000 pictures".
    """

    kind: str
    parameters: dict[str, Any]
    inputs: dict[str, str]
    arrays: dict[str, np.ndarray]
    draw: Callable[[], Figure]
    lines: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    part: str = ""

    @cached_property
    def figure(self) -> Figure:
        return self.draw()

    def save(self, out: Path, formats: Sequence[str] = ("png",), dpi: int = 200) -> list[Path]:
        """Write ``out.png`` (or the other formats), ``out.npz``, ``out.json`` and, where there are rows, ``out.csv``.

        Returns:
            The files. Existing ones are replaced, all of them once all are written.

        Raises:
            ValueError: they cannot be written there.
        """
        names = [f"{out.name}.{suffix}" for suffix in (*formats, "npz", "json")] + [f"{out.name}.csv"] * bool(self.rows)
        with written_whole(out.parent) as folder:
            for name in names[: len(formats)]:
                figures.save(self.figure, folder / name, dpi)
            with (folder / f"{out.name}.npz").open("wb") as stream:
                np.savez(stream, **self.arrays)  # type: ignore[arg-type]
            (folder / f"{out.name}.json").write_text(json.dumps(self.recipe(), indent=1) + "\n", encoding="utf-8")
            if self.rows:
                # Names of pictures may have bytes that are no UTF-8; they are written as they were.
                how = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
                with (folder / f"{out.name}.csv").open("w", **how) as table:  # type: ignore[call-overload]
                    writer = csv.DictWriter(table, list(self.rows[0]))
                    writer.writeheader()
                    writer.writerows(self.rows)
        return [out.with_name(name) for name in names]

    def recipe(self) -> dict[str, Any]:
        """What ``replay`` needs."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "parameters": self.parameters,
            "inputs": self.inputs,
            "arrays": {name: digest(array) for name, array in self.arrays.items()},
            "lines": self.lines,
            "torch": torch.__version__,
        }


def counted(items: Iterable[Item], total: int, what: str, progress: Progress | None) -> Iterator[Item]:
    """The items, and each time the next is asked for, how many there were."""
    for done, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            progress(what, done, total)


def note_of(*parts: str) -> str:
    """The note at a figure's foot: how it was drawn. Empty parts are left out."""
    return " · ".join(part for part in parts if part)


def few(names: Iterable[str], most: int = 4) -> str:
    """Different names, in order: all of them, or the first ones and how many more there are."""
    listed = list(dict.fromkeys(names))
    if len(listed) <= most:
        return ", ".join(listed)
    return f"{', '.join(listed[: most - 1])} and {len(listed) - most + 1} more"


def check_place(out: Path) -> None:
    """Raise a ValueError, before any work is done, if files named after ``out`` cannot be written, or it is taken."""
    if out.exists():
        what = "a folder" if out.is_dir() else "a file"
        raise ValueError(
            f"{out} is {what}: --out names new files, without their endings, such as {out.parent / 'look'}"
        )
    with written_whole(out.parent):
        pass


def check_seed(seed: int) -> None:
    """Raise a ValueError if it is none that scikit-learn knows."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"--seed takes a number from 0 to {2**32 - 1}, not {seed}")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A hidden place for files, which are moved to ``folder`` at the end: none appears before all are whole.

    Raises:
        ValueError: the folder cannot be written to; names the file or folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".plrc-", dir=folder) as hidden:
            yield Path(hidden)
            for file in sorted(Path(hidden).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        where = error.filename2 or folder  # not the hidden one
        raise ValueError(f"{where} cannot be written ({error.strerror}): name another place with --out") from error


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and values."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def read_recipe(file: Path) -> dict[str, Any]:
    """A recipe that ``Drawing.save`` wrote.

    Raises:
        ValueError: the file is missing or is no recipe.
    """
    try:
        recipe = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the recipe {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no recipe: it is not JSON ({error})") from error
    parts = ("version", "kind", "parameters", "inputs", "arrays", "lines", "torch")
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT or any(part not in recipe for part in parts):
        raise ValueError(
            f"{file} is no recipe: 'plrc affinity', 'correspond', 'embed' and 'score' write one beside each picture"
        )
    if recipe["version"] > VERSION:
        raise ValueError(
            f"{file} was written by a newer version of PLRC (recipe {recipe['version']}, known is {VERSION})"
        )
    return recipe


def replay(file: Path, kinds: Mapping[str, Callable[..., Drawing]]) -> tuple[Drawing, list[str]]:
    """Draw a recipe again.

    Returns:
        The drawing, and what differs from the first one, a sentence each: nothing, on the same machine with the same
        inputs. Lines are compared, and arrays bit for bit; where the arrays' file still lies beside the recipe, a
        difference comes with its size.

    Raises:
        ValueError: no such file, no recipe, or an input is missing.
    """
    recipe = read_recipe(file)
    if recipe["kind"] not in kinds:
        raise ValueError(f"{file}: there is no kind of picture called {recipe['kind']!r}; known are {', '.join(kinds)}")
    draw = kinds[recipe["kind"]]
    try:
        inspect.signature(draw).bind(**recipe["parameters"])
    except TypeError as error:
        raise ValueError(f"{file} was written by another version of PLRC, or by hand: {error}") from error
    try:
        drawing = draw(**recipe["parameters"])
    except ValueError as error:
        raise ValueError(f"{file} cannot be drawn again from this folder: {error}") from error
    changed = [
        f"{spec} is not the same as then" for spec, sha in recipe["inputs"].items() if drawing.inputs.get(spec) != sha
    ]
    before = _stored(file.with_suffix(".npz"))
    different = [name for name, sha in recipe["arrays"].items() if _digest_of(drawing, name) != sha]
    for name in different:
        now = drawing.arrays.get(name)
        if now is None:
            changed.append(f"the array {name} is not drawn any more")
            continue
        size = ""
        if name in before and before[name].shape == now.shape and now.dtype.kind == "f":
            size = f", by at most {np.nanmax(np.abs(before[name] - now)):.2g}"
        changed.append(f"the array {name} differs{size}")
    changed += [f"the array {name} was not drawn then" for name in drawing.arrays if name not in recipe["arrays"]]
    lines = zip_longest(recipe["lines"], drawing.lines, fillvalue="")
    changed += [f"a line is {new!r} now, was {old!r}" for old, new in lines if new != old]
    if different and recipe["torch"] != torch.__version__:
        changed.append(f"torch is {torch.__version__} now, was {recipe['torch']}")
    return drawing, changed


def _digest_of(drawing: Drawing, name: str) -> str | None:
    return digest(drawing.arrays[name]) if name in drawing.arrays else None


def _stored(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file; none where there is none, or it is damaged: they tell only how much has changed."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except Exception:  # on junk NumPy raises almost anything
        return {}
