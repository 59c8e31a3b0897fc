"""Figures as files."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def save(figure: Figure, file: str | Path, dpi: int = 150) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes. Makes the folder if need be.

    Args:
        file: its suffix says the format, .png, .pdf or .svg. dpi: of a PNG, and of the pictures inside the others
            (300 for print); lines and type of a PDF or SVG are vectors.

    Raises:
        ValueError: another suffix. OSError: it cannot be written there; names the file.
    """
    file = Path(file)
    no_dates: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    if file.suffix not in no_dates:
        raise ValueError(f"a figure can be a .png, .pdf or .svg file, not {file.name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    # Names in an SVG are random unless salted; conferences want TrueType (42) in a PDF.
    with matplotlib.rc_context({"svg.hashsalt": "plrc", "pdf.fonttype": 42}):
        try:
            figure.savefig(unfinished, format=file.suffix[1:], dpi=dpi, metadata=no_dates[file.suffix])
            unfinished.replace(file)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(file)) from error  # not the unfinished one
        finally:
            unfinished.unlink(missing_ok=True)
