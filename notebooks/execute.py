"""Run the notebooks and keep their pictures: ``python -m notebooks.execute`` all of them, or ``… 01 03``.

Each is written back as a reader finds it after *Run all*, less what differs from one run or machine to the next. Run it
from a fresh clone, without ``runs/``, so that what is kept is what others will get.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

# Where Colab gets the project from: the address of its git repository, which this is the only place to know. Whoever
# publishes it writes it here and runs `python -m notebooks.execute`. Empty: Colab's users are told to give one.
REPOSITORY = ""
HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
_LONGEST = 1200  # seconds a cell may take, on a busy machine


def execute(file: Path) -> NotebookNode:
    """The notebook with its outputs, run in its own folder, as JupyterLab runs it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; with its traceback.
    """
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_LONGEST,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(file.parent)}},
    )
    client.execute()
    return clean(notebook)


def clean(notebook: NotebookNode) -> NotebookNode:
    """With the address of the repository in its first code cell; without the versions of the machine's tools, and
    without views of widgets, whose kernel is gone: a viewer that finds such a view shows an error in place of the
    picture beside it. Pictures are packed as tightly as PNG allows."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code[:1]:
        cell.source = re.sub(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{REPOSITORY}"', cell.source, flags=re.MULTILINE)
    for cell in code:
        for output in cell.outputs:
            data = output.get("data", {})
            data.pop(WIDGET, None)
            if "image/png" in data:
                packed = io.BytesIO()
                with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
                    picture.convert("RGB").save(packed, "png", optimize=True)
                data["image/png"] = base64.b64encode(packed.getvalue()).decode()
    return notebook


def main(wanted: list[str]) -> None:
    for file in sorted(HERE.glob("*.ipynb")):
        if not wanted or file.name.startswith(tuple(wanted)):
            print(file.name)
            nbformat.write(execute(file), file)


if __name__ == "__main__":
    main(sys.argv[1:])
