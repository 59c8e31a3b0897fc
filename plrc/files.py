"""Files that are there whole or not at all, and the place for what is computed once."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def written_whole(file: Path, durable: bool = False) -> Iterator[Path]:
    """A path to write to; at the end of the block it becomes ``file``, so that nobody ever reads half of it.

    Makes the folder. A kill or an error leaves the old file. Several processes may write the same file at once.

    Args:
        durable: the content is on the disk before the old file goes. Such a file has one writer at a time: what a
            kill left unfinished is written over by the next one.

    Raises:
        OSError: the file cannot be written; names ``file``, not the path that was given out.
    """
    unfinished = file.with_name(f".{file.name}.{'' if durable else f'{os.getpid()}-{threading.get_ident()}.'}tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if durable:
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as error:
        ours = {str(path) for path in (None, unfinished, file, *file.parents)}
        if error.errno is None or str(error.filename) not in ours:  # of something that was read in the block
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        with suppress(OSError):  # usually it is gone
            unfinished.unlink()


@contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """A hidden place for files, which are moved to ``folder`` at the end: none appears before all are whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".plrc-", dir=folder) as hidden:
            yield Path(hidden)
            for file in sorted(Path(hidden).iterdir()):
                file.replace(folder / file.name)
    except OSError as error:
        where = error.filename2 or folder  # not the hidden one
        raise ValueError(f"{where} cannot be written ({error.strerror}): name another place with --out") from error


def check_place(out: Path) -> None:
    """Raise a ValueError, before any work is done, if files named after ``out`` cannot be written, or it is taken."""
    if out.exists():
        what, where = ("folder", out) if out.is_dir() else ("file", out.parent)
        raise ValueError(f"--out {out} is a {what}: give a name for new files, such as {where / 'look'}")
    with written_together(out.parent):
        pass


def check_folder(out: Path) -> None:
    """Raise a ValueError, before any work is done, if nothing can be written into this folder, which may be missing."""
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file, name a folder")
    if not os.access(there, os.W_OK):
        raise ValueError(f"--out {out}: {there} cannot be written to, name another folder")


def printable(name: str) -> str:
    """The name with escapes for bytes that are not UTF-8, which a log cannot encode, and for what would steer the
    terminal: controls, line ends, changes of the direction of writing."""
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", lambda c: ascii(c[0])[1:-1], name)


def at_home(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` is the home folder, where it means one: a file may be called ``~1.jpg``, too."""
    return Path(os.path.expanduser(path))


def cache_folder(name: str) -> Path:
    """Where results of this name are kept between runs: ``$XDG_CACHE_HOME/plrc/NAME``, or ``~/.cache/plrc/NAME``."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or at_home("~/.cache"))
    if folder.parts[0] == "~":  # a user without a home, as containers have them
        folder = Path(tempfile.gettempdir())
    return folder / "plrc" / name
