"""What a server offers: checkpoints, pictures, runs; and what it has encoded so far."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.pictures import as_jpeg, as_png
from plrc import figures
from plrc.data.images import SUFFIXES
from plrc.pretrained.loading import SHIPPED, run_checkpoint
from plrc.views import Picture, Session, list_pictures
from plrc.views.pictures import SAMPLES, file_of

EXAMPLES = ("scenes#12", "scenes#3", "scenes#7", "scenes#21", *SAMPLES)
RUNS = Path("runs")
_LISTED = 200  # pictures of a folder, evenly spread; any other of it can be named in a link
_SIDE = 1024  # pixels of the longer side in the page
_UPLOAD = 50_000_000  # bytes
_LONGEST = 8  # times the shorter side
_REGIONS = re.compile(r"objects|grid:[0-9]{1,2}|superpixels:[0-9]{1,3}")


class Workbench:
    """What is offered, and the session that all users share. Nothing else can be reached through the page.

    Attributes:
        session: networks, pictures and maps, up to a number of megabytes. checkpoints: the first are shown first.
        pictures: that are listed. folders: whose pictures may be shown. runs: folders of runs, the newest first.
        uploads: where the page puts the pictures that it is given. exports: where the files that it gives lie.
    """

    def __init__(
        self,
        checkpoints: Sequence[str] = (),
        folders: Sequence[Path] = (),
        runs: Path = RUNS,
        megabytes: float = 1024.0,
        uploads: Path | None = None,
    ) -> None:
        """Raises a ValueError if a checkpoint cannot be loaded, or a folder has no picture."""
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"{folder} is no folder: --images takes one with pictures in it")
        self.session = Session(megabytes)
        self.folders = [folder.resolve() for folder in folders]
        self.uploads = (uploads or Path(tempfile.gettempdir(), "gradio")).resolve()
        self.exports = self.uploads / "exports"
        self.runs = sorted(_runs(runs), key=_changed, reverse=True)
        shown = list(checkpoints) or [str(run) for run in self.runs[:1]] or [SHIPPED]
        self.session.networks(shown, "cpu", None)  # said at the start, not at the first click
        self.checkpoints = list(dict.fromkeys([*shown, *_variants(shown, self.runs), SHIPPED, *self._untrained(shown)]))
        listed = [spec for folder in folders for spec in list_pictures([str(folder)], _LISTED)]
        self.pictures = [*listed, *EXAMPLES]
        self.shown = shown[:3] if len(shown) > 1 else [self._untrained(shown)[0], shown[0]]

    def check(
        self,
        checkpoints: Iterable[str] = (),
        pictures: Iterable[str] = (),
        runs: Iterable[str] = (),
        regions: str | None = None,
    ) -> None:
        """Raise a ValueError if one of them is none that this server offers, or was given.

        regions: as of ``plrc.views``, but for "masks:DIR": a page may not ask for any folder of the server.
        """
        for checkpoint in checkpoints:
            if checkpoint not in self.checkpoints:
                raise ValueError(f"{checkpoint} is not offered here: start the app with --checkpoint {checkpoint}")
        for picture in pictures:
            if not self._may_show(picture):
                raise ValueError(f"{picture} is not offered here: start the app with --images FOLDER, or upload it")
        if regions and not _REGIONS.fullmatch(regions):
            raise ValueError(f"regions are grid:2 … grid:16, superpixels:16 or objects here, not {regions}")
        for run in runs:
            if run not in map(str, self.runs):
                raise ValueError(f"{run} is no run that is offered here: runs are looked for in {RUNS}/ at the start")

    def accept(self, file: Path) -> Picture:
        """A picture that was uploaded, decoded.

        Raises:
            ValueError: it is too large, or no picture.
        """
        if file.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{file.name} is no picture that is read here: give one of {', '.join(SUFFIXES)}")
        if file.stat().st_size > _UPLOAD:
            raise ValueError(f"{file.name} has {file.stat().st_size / 1e6:.0f} MB; {_UPLOAD / 1e6:.0f} MB are taken")
        try:
            picture = self.session.picture(str(file))
        except ValueError as error:  # not where it lies on the server
            raise ValueError(str(error).replace(str(file), file.name)) from error
        width, height = picture.image.size
        if max(width, height) > _LONGEST * min(width, height):  # the short side is what an input's size says
            raise ValueError(
                f"{file.name} has {width} × {height} pixels, and {_LONGEST} times as long as wide is the most"
            )
        return picture

    def picture_choices(self) -> list[tuple[str, str]]:
        """What a list shows, and the picture it stands for."""
        return [(_label(spec), spec) for spec in self.pictures]

    def uploaded(self, spec: str) -> bool:
        """Whether a picture came from a browser, so that its name means nothing elsewhere."""
        return Path(spec).is_absolute() and self.uploads in Path(spec).resolve().parents

    def page_picture(self, spec: str) -> dict[str, Any]:
        """A picture as the viewers take it: data URIs of at most 1024 pixels a side, and its own size."""
        picture = self.session.picture(spec)
        return page_image(picture.image) | {"name": picture.name}

    def _untrained(self, checkpoints: Sequence[str]) -> list[str]:
        """Untrained networks of the architectures there are, to compare with."""
        networks = self.session.networks(checkpoints, "cpu", None)
        return list(dict.fromkeys(f"random:{network.origin.arch}" for network in networks.values()))

    def _may_show(self, spec: str) -> bool:
        if spec in self.pictures or spec in EXAMPLES:
            return True
        name = spec.rpartition("#")[0]
        if name.partition(":")[0] == "scenes" or spec.partition("#")[0] == "scenes":
            return True
        file = Path(name if name and not Path(spec).exists() else spec).resolve()
        return any(folder == file or folder in file.parents for folder in [*self.folders, self.uploads])


def _label(spec: str) -> str:
    """A picture's name in a list: an example says that it is one."""
    if spec in SAMPLES:
        return f"{spec.removeprefix('sample:')} (photograph)"
    if spec in EXAMPLES:
        return f"scene {spec.removeprefix('scenes#')} (drawn, objects known)"
    file = Path(file_of(spec))
    return f"{file.parent.name}/{file.name}"


def page_image(image: Image.Image) -> dict[str, Any]:
    """``src`` (JPEG) and ``outlines`` (PNG) as data URIs, ``width`` and ``height``: of the picture itself."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    outlines = Image.fromarray(figures.outlines(np.asarray(small), opacity=1.0))
    return {"src": as_jpeg(small), "outlines": as_png(outlines), "width": image.width, "height": image.height}


def _runs(folder: Path) -> list[Path]:
    return [log.parent for log in folder.glob("*/log.jsonl")]


def _changed(run: Path) -> float:
    return (run / "log.jsonl").stat().st_mtime


def _variants(shown: Sequence[str], runs: Sequence[Path]) -> list[str]:
    """Of each run its momentum encoder, and what it was during training."""
    found: list[str] = []
    for run in dict.fromkeys([*(s for s in shown if Path(s).is_dir()), *map(str, runs)]):
        try:
            run_checkpoint(Path(run))
        except ValueError:  # it has just begun
            continue
        found += [run, f"{run}@key", *sorted(map(str, Path(run, "checkpoints").glob("epoch_*.pt")))]
    return found
