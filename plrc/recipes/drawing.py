"""A drawing: a figure, the arrays behind it, its numbers, and the recipe from which it can be drawn again."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from plrc import figures

FORMAT, VERSION = "plrc recipe", 1


@dataclass(eq=False)
class Drawing:
    """What a recipe gives.

    Attributes:
        kind: the recipe's, a key of ``plrc.recipes.KINDS``. parameters: all it was given; numbers, strings, lists.
        inputs: what was read (pictures, checkpoints) → its SHA-256, so that a replay knows whether it is the same.
        arrays: what is drawn, as NumPy arrays. lines: the numbers beside the picture, to be printed.
        rows: one a picture, for a CSV file; empty where there is no table.
    """

    kind: str
    parameters: dict[str, Any]
    inputs: dict[str, str]
    arrays: dict[str, np.ndarray]
    figure: Figure
    lines: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def save(self, out: Path, formats: Sequence[str] = ("png",), dpi: int = 200) -> list[Path]:
        """Write ``out.png`` (or the other formats), ``out.npz``, ``out.json`` and, where there are rows, ``out.csv``.

        Returns:
            The files. Existing ones are replaced.
        """
        out.parent.mkdir(parents=True, exist_ok=True)
        files = [out.with_name(f"{out.name}.{suffix}") for suffix in (*formats, "npz", "json")]
        *pictures, arrays, recipe = files
        for file in pictures:
            figures.save(self.figure, file, dpi)
        with arrays.open("wb") as stream:
            np.savez(stream, **self.arrays)  # type: ignore[arg-type]
        recipe.write_text(json.dumps(self.recipe(), indent=1) + "\n")
        if self.rows:
            files.append(out.with_name(f"{out.name}.csv"))
            with files[-1].open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)
        return files

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
        recipe = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no recipe: it is not JSON ({error})") from error
    if not isinstance(recipe, dict) or recipe.get("format") != FORMAT:
        raise ValueError(
            f"{file} is no recipe: 'plrc affinity', 'correspond' and 'embed' write one beside each picture"
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
        inputs. Arrays are compared bit for bit; where the arrays' file still lies beside the recipe, a difference
        comes with its size.

    Raises:
        ValueError: no such file, no recipe, or an input is missing.
    """
    recipe = read_recipe(file)
    if recipe["kind"] not in kinds:
        raise ValueError(f"{file}: there is no kind of picture called {recipe['kind']!r}; known are {', '.join(kinds)}")
    drawing = kinds[recipe["kind"]](**recipe["parameters"])
    changed = [
        f"{spec} is not the same as then" for spec, sha in recipe["inputs"].items() if drawing.inputs[spec] != sha
    ]
    if recipe["torch"] != torch.__version__:
        changed.append(f"torch is {torch.__version__} now, was {recipe['torch']}")
    stored = file.with_suffix(".npz")
    before = np.load(stored, allow_pickle=False) if stored.exists() else {}
    for name, sha in recipe["arrays"].items():
        now = drawing.arrays.get(name)
        if now is None:
            changed.append(f"the array {name} is not drawn any more")
        elif digest(now) != sha:
            size = ""
            if name in before and before[name].shape == now.shape and now.dtype.kind == "f":
                size = f", by at most {np.nanmax(np.abs(before[name] - now)):.2g}"
            changed.append(f"the array {name} differs{size}")
    return drawing, changed
