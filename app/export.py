"""What is seen, as files: pictures for paper and screen, the arrays, and the recipe that draws them again."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from app.workbench import Workbench
from plrc.views import Drawing

FORMATS = ("png", "svg")


def export(bench: Workbench, name: str, drawings: list[Drawing], folder: Path) -> list[Path]:
    """Write each drawing as ``plrc`` does: PNG, SVG, NPZ, its recipe, and a table; and all of it as one ZIP file.

    A picture that was uploaded lies beside them, and the recipe names it by its name alone: ``plrc replay`` in that
    folder draws it again.

    Args:
        name: of the view. folder: where files that a browser fetches may lie; a new one is made in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="export-", dir=folder))
    files: list[Path] = []
    for number, drawing in enumerate(drawings):
        sent = [Path(spec) for spec in drawing.inputs if bench.uploaded(spec)]
        for picture in sent:
            shutil.copy(picture, place / picture.name)
        drawing.parameters = _renamed(drawing.parameters, sent)
        drawing.inputs = {_renamed(spec, sent): sha for spec, sha in drawing.inputs.items()}
        drawing.rows = _renamed(drawing.rows, sent)
        title = name if number == 0 else f"{name}-{'difference' if drawing.parameters.get('difference') else number}"
        files += drawing.save(place / title, FORMATS)
        files += [place / picture.name for picture in sent if place / picture.name not in files]
    bundle = place / f"plrc-{name}.zip"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    return [bundle, *files]


def _renamed(thing: Any, sent: list[Path]) -> Any:
    """The same with the names of uploaded pictures in place of where they lie on the server."""
    names = {str(picture): picture.name for picture in sent}
    if isinstance(thing, dict):
        return {key: _renamed(value, sent) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_renamed(value, sent) for value in thing]
    return names.get(thing, thing) if isinstance(thing, str) else thing
