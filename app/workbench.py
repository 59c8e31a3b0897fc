"""What a server offers: checkpoints, images, runs; and what it has encoded so far."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps

from plrc.analysis.features import DEFAULT_SIZE
from plrc.data.images import LONGEST, UndecodableImage, decode
from plrc.files import at_home
from plrc.options import Options
from plrc.pretrained.loading import SHIPPED, run_checkpoint, split_branch, stored_epochs
from plrc.queries import Affinity, Query
from plrc.registry import did_you_mean, region_examples
from plrc.views import Drawing, NamedImage, Progress, Session, draw, list_images
from plrc.views.images import SAMPLES, are_several, file_of, open_image, search
from plrc.views.session import stamp

EXAMPLES = ("scenes#12", "scenes#3", "scenes#7", "scenes#21", *SAMPLES)
MOST = 3  # checkpoints or runs side by side
MOST_IMAGES = 200  # of one query; of a folder so many are listed, evenly spread, and any other can be named in a link
_THUMBNAIL, _THUMBNAILS = (128, 96), 60  # pixels; of a page
_SIZES = ("64", "112", "224", "320", "448", "640", "896")  # of an input, pixels
_REGIONS = re.compile(r"objects|grid:[0-9]{1,2}|superpixels:[0-9]{1,3}")
_RUNS = ("runs", "detectors")
_GIVEN = dict.fromkeys(
    ("images", "other", "others", "to", "dataset", "among"), "start the app with --images FOLDER, or upload it"
)
_GIVEN |= {"checkpoints": "start the app with --checkpoint NAME"} | dict.fromkeys(_RUNS, "it is not below --runs")
_FOOT = "add it at the foot of the page, or "


class Workbench:
    """What is offered, and the session that all users share. Nothing else can be reached through the page.

    Attributes:
        session: networks, images and maps, up to a number of megabytes. shown: the checkpoints that are shown first.
        finer: how maps are at first: twice as fine where the networks' own input is small, and a map has few cells.
        images: that are listed. folders: whose images may be shown, or files of data sets. devices: to choose from.
        adds: whether more can be added from the page.
        uploads: where the page puts the images that it is given; what it gives lies there too.
    """

    def __init__(
        self,
        checkpoints: Sequence[str] = (),
        folders: Sequence[Path] = (),
        runs: Path = Path("runs"),
        megabytes: float = 1024.0,
        uploads: Path | None = None,
    ) -> None:
        """Raises a ValueError if a checkpoint cannot be loaded, or a folder has no image."""
        for folder in folders:
            if not (folder.exists() and are_several(str(folder))):
                raise ValueError(f"{folder} is no folder or data set: --images takes one with images in it")
        self.session, self.adds = Session(megabytes), False
        self.folders = [folder.resolve() for folder in folders]
        self.uploads = (uploads or Path(tempfile.gettempdir(), "gradio")).resolve()
        self.devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        self._runs, self._named = runs, list(checkpoints)
        saved = [run for run in self.runs() if Path(run, "checkpoints", "last.pt").exists()]
        self._named = self._named or [SHIPPED, *saved[:1]]
        query = Query(checkpoints=tuple(self._named))
        networks = self.session.networks(query)  # what is wrong with one is said now, not at the first click
        self.finer = "shifted" if self.session.size(query).width < DEFAULT_SIZE / 2 else None
        self._untrained = list(dict.fromkeys(f"random:{network.origin.arch}" for network in networks.values()))
        self._list([spec for folder in folders for spec in list_images([str(folder)], MOST_IMAGES)])
        self.shown = [*(self._untrained[:1] if len(checkpoints) < 2 else ()), *self._named][:MOST]

    def _list(self, images: list[str]) -> None:
        labels = [_label(spec) for spec in images]
        self._short = {s: n for s, n in zip(images, labels, strict=True) if labels.count(n) == 1}
        self._long = {name: spec for spec, name in self._short.items()}
        self.images = [*images, *EXAMPLES]

    def prepare(self) -> None:
        """Encode what the page opens with."""
        with suppress(ValueError):  # said where it is seen
            self.draw(Affinity(images=tuple(self.images[:1]), checkpoints=tuple(self.shown), finer=self.finer))

    def add(self, path: str) -> str:
        """Offer a folder of images, or a checkpoint, from now on; what it is. Raises a ValueError if it is neither."""
        if not path.strip():
            raise ValueError("give a folder of images, a run, or a checkpoint's file or name, such as random:resnet18")
        place = at_home(path.strip())
        data = place.is_dir() or (place.suffix == ".json" and place.exists())
        if not data or (place / "checkpoints").is_dir():
            name = str(place) if place.exists() else path.strip()
            (network,) = self.session.networks(Query(checkpoints=(name,))).values()
            self._named.append(name)
            return f"{name}: {network.origin.format}, {network.origin.arch}; under Checkpoints from now on"
        new = list_images([str(place)], MOST_IMAGES)
        self.folders = list(dict.fromkeys([*self.folders, place.resolve()]))
        self._list(list(dict.fromkeys([*new, *(spec for spec in self.images if spec not in EXAMPLES)])))
        every = len(search(str(place), ""))
        of = f", {len(new)} of them" * (len(new) < every)
        return f"{place}: {every} images{of}, first in the lists from now on"

    def runs(self, *where: str) -> list[str]:
        """The runs that there are now, the newest first."""
        below = chain(*(self._runs.glob(place) for place in where or ("*/log.jsonl",)))
        named = filter(Path.is_file, (Path(name, "log.jsonl") for name in self._named))
        logs = sorted({*below, *named}, key=lambda log: log.stat().st_mtime, reverse=True)
        return [str(log.parent) for log in logs]

    def detectors(self) -> list[str]:
        """The runs of ``plrc detect train`` that there are now, the newest first."""
        found = []
        for run in self.runs("*/log.jsonl", "*/seed_*/log.jsonl"):
            with suppress(OSError, UnicodeDecodeError):
                if re.search("^neck:", Path(run, "config.yaml").read_text(encoding="utf-8"), re.MULTILINE):
                    found.append(run)
        return found

    def checkpoints(self) -> list[str]:
        """Those that there are now: of each run its momentum encoder too, and what it was during training."""
        found = list(self._named)
        for run in dict.fromkeys([*(name for name in self._named if Path(name).is_dir()), *self.runs()]):
            with suppress(ValueError):  # of one that has just begun
                run_checkpoint(Path(run))
                found += [run, f"{run}@key", *(f"{run}@{epoch}" for epoch in stored_epochs(Path(run)))]
        return list(dict.fromkeys([*found, SHIPPED, *self._untrained]))

    def short(self, spec: str) -> str:
        """An image's name in links: that which its list shows, where that names no other one."""
        return self._short.get(spec, spec)

    def long(self, name: str) -> str:
        """The opposite of ``short``; of an image that is not listed, too, by the end of its path."""
        if name in self._long or not name or self._may_show(name):
            return self._long.get(name, name)
        found = chain.from_iterable(search(str(folder), Path(name).name) for folder in self.folders)
        return next((spec for spec in found if Path(file_of(spec)).match(name)), name)

    def layers(self, checkpoints: Sequence[str]) -> list[str]:
        """The layers and heads that all of these have."""
        networks = list(self.session.networks(Query(checkpoints=tuple(checkpoints))).values()) if checkpoints else []
        return [name for name in networks[0].layers if all(name in n.layers for n in networks)] if networks else []

    def sets(self) -> list[tuple[str, str]]:
        """What stands for several images: label, name."""
        return [("drawn scenes, objects known", "scenes"), *(("/".join(f.parts[-2:]), str(f)) for f in self.folders)]

    def choices(self, field: str, several: bool | None = True) -> list[Any]:
        """What a list in the page offers for a field of a query; nothing where any value may be given. several: it
        takes several values, so that a set of images may be one."""
        if field == "regions":
            return ["objects", *region_examples()]
        if field in ("images", "other", "others"):
            sets = self.sets() if several and field == "images" else []
            return [*sets, *((_label(spec), spec) for spec in self.images)]
        if field in ("checkpoints", *_RUNS):
            return list(getattr(self, field)())
        if field == "dataset":
            return [("60 drawn scenes", "scenes:60@1"), *self.sets()[1:]]
        if field == "among":
            return [*self.sets()[1:], ("60 drawn scenes", "scenes:60")]
        fixed: dict[str, Sequence[str]] = {"size": _SIZES, "device": self.devices}
        return self.layers(self.shown) if field == "layer" else list(fixed.get(field, ()))

    def thumbnails(self, text: str) -> tuple[list[tuple[np.ndarray, str, str]], int]:
        """Small image ``(96, 128, 3)``, label and name of each that is listed, or of all whose names have this text, a
        page of them, not of those that are gone or cannot be decoded; and how many there are."""

        def small(spec: str) -> np.ndarray:
            image = decode(Path(spec), _THUMBNAIL) if Path(spec).is_file() else open_image(spec).image
            return np.asarray(ImageOps.fit(image, _THUMBNAIL))

        found = list[tuple[np.ndarray, str, str]]()
        listed = [spec for label, spec in self.choices("images", several=False) if text.lower() in label.lower()]
        further = chain.from_iterable(search(str(folder), text) for folder in self.folders) if text else ()
        every = dict.fromkeys([*listed, *further])
        for spec in every:
            with suppress(ValueError, OSError, UndecodableImage):
                key = "thumbnail", spec, stamp(Path(spec))
                found.append((self.session.once(key, partial(small, spec)), _label(spec), spec))
            if len(found) == _THUMBNAILS:
                break
        return found, len(every)

    def draw(self, query: Options, progress: Progress | None = None) -> Any:
        """``plrc.views.draw`` of what is offered. Raises a ValueError."""
        self.check(query)
        return draw(query, self.session, progress)

    def check(self, query: Options) -> None:
        """Raise a ValueError if a query names what this server does not offer; a path in an unknown field, too."""
        for field in dataclasses.fields(query):
            value = getattr(query, field.name)
            named, listed = [value] if isinstance(value, str) else value, field.name in ("checkpoints", *_RUNS)
            if field.name == "regions" and value and not _REGIONS.fullmatch(value):
                raise ValueError(f"regions are grid:2 … grid:16, superpixels:16 or objects here, not {value}")
            if not field.metadata["path"] or not value:
                continue
            if field.name not in _GIVEN:
                raise ValueError(f"{value} cannot be given here: {field.name} is for the command line alone")
            if listed and len(named) > MOST:
                raise ValueError(f"choose at most {MOST} {field.name}, not {len(named)}")
            for name in named:
                offered = self.choices(field.name) if listed else ()
                if not ({name, split_branch(name)[0]} & {*offered} if listed else self._may_show(name)):
                    known = offered or chain(*self.choices("images"))
                    near = did_you_mean(name, known)
                    how = _FOOT * (self.adds and field.name not in _RUNS) + _GIVEN[field.name]
                    remedy = f"{near} Else {how}" if near else f": {how}"
                    raise ValueError(f"{name} is not offered here{remedy}")
        of = query.to_dict()
        specs = [*of.get("images", ()), *of.get("others", ()), *filter(None, [of.get("dataset")])]
        several = sum(map(are_several, specs))
        if len(specs) + several * ((of.get("most") or MOST_IMAGES + 1) - 1) > MOST_IMAGES:
            raise ValueError(f"{MOST_IMAGES} images are looked at here at most: take fewer, or use plrc in the shell")

    def _may_show(self, spec: str) -> bool:
        name = spec.rpartition("#")[0]
        if spec in EXAMPLES or (name or spec).partition(":")[0] == "scenes":
            return True
        file = Path(name if name and not Path(spec).exists() else spec).resolve()
        if self.uploads in file.parents:
            return file.is_file()  # a message about one that is not there would tell what others have sent
        return any(folder == file or folder in file.parents for folder in self.folders)

    def accept(self, file: Path) -> NamedImage:
        """An image that was uploaded, decoded. Raises a ValueError if it is none, or far too long."""
        with unplaced(file):
            image = self.session.image(str(file))
        width, height = image.image.size
        if max(width, height) > LONGEST * min(width, height):  # the short side is what an input's size says
            raise ValueError(f"{file.name} has {width} × {height} pixels: {LONGEST} times as long as wide is the most")
        return image

    def uploaded(self, spec: Any) -> bool:
        """Whether it is an image that came from a browser, so that its name means nothing elsewhere."""
        return isinstance(spec, str) and Path(spec).is_absolute() and self.uploads in Path(spec).resolve().parents

    def export(self, name: str, drawings: Sequence[Drawing]) -> list[Path]:
        """Write each drawing as ``plrc`` does: PNG, SVG, NPZ, its recipe, and a table; and all of it as one ZIP file.

        Uploaded images lie beside them, named by their names alone: ``plrc replay`` in that folder draws them again.
        """
        (self.uploads / "exports").mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="export-", dir=self.uploads / "exports"))
        files: dict[Path, None] = {}
        for number, drawing in enumerate(drawings):
            sent = {spec: Path(spec).name for spec in drawing.inputs if self.uploaded(spec)}
            query = type(drawing.query).from_dict(_renamed(drawing.query.to_dict(), sent))
            inputs, rows = _renamed(drawing.inputs, sent), _renamed(drawing.rows, sent)
            other = "difference" if getattr(query, "difference", False) else str(number)
            out = place / (f"{name}-{other}" if number else name)
            files |= dict.fromkeys(replace(drawing, query=query, inputs=inputs, rows=rows).save(out, ("png", "svg")))
            files |= dict.fromkeys(Path(shutil.copy(spec, place / short)) for spec, short in sent.items())
        bundle = place / f"plrc-{name}.zip"
        with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
        return [bundle, *files]


@contextmanager
def unplaced(file: Path) -> Iterator[None]:
    """A ValueError calls a file that was sent by its name, not by where it lies on the server."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(str(file), file.name)) from error


def _label(spec: str) -> str:
    """An image's name in a list: an example says that it is one."""
    if spec in SAMPLES:
        return f"{spec.removeprefix('sample:')} (photograph)"
    if spec in EXAMPLES:
        return f"scene {spec.removeprefix('scenes#')} (drawn, objects known)"
    return "/".join(Path(file_of(spec)).parts[-2:])


def _renamed(thing: Any, names: dict[str, str]) -> Any:
    """The same with other names; keys too."""
    if isinstance(thing, dict):
        return {names.get(key, key): _renamed(value, names) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_renamed(value, names) for value in thing]
    return names.get(thing, thing) if isinstance(thing, str) else thing
