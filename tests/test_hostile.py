"""Files as nobody wants them: each is read, or named in one sentence; nothing hangs, crashes, or takes all memory."""

import io
import json
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.workbench import Workbench
from plrc.cli import main
from plrc.config import load_config
from plrc.data.images import UndecodableImage
from plrc.data.loader import TwoViews
from plrc.data.sources import ImageFiles, ImageFolder
from plrc.detection.data import DetectionData
from plrc.files import printable
from plrc.pretrained import load, reading
from plrc.queries import Affinity
from plrc.regions import open_regions
from plrc.views import Session, draw
from tests.hostile import checkpoints, pictures
from tests.sets import noise

SECONDS, MEGABYTES = 60, 400  # for one file, on a busy machine


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    folder = tmp_path_factory.mktemp("hostile")
    made = pictures(folder)
    assert len(made) >= 250
    return folder, made


class Hangs(BaseException):
    """Not to be taken for a fault of the file."""


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what waits; and, that not more memory than this was taken."""

    def hang(*_: object) -> None:
        raise Hangs

    def held(what: str) -> int:
        return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from now on
    start, before, limits = held("VmRSS"), signal.signal(signal.SIGALRM, hang), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((held("VmSize") + 4000) * 2**20, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)
        assert held("VmHWM") - start < MEGABYTES


def read(name: str, whole: bool, attempt: Callable[[], object]) -> bool:
    """Whether the attempt succeeded; else, that a sentence says which file is wrong."""
    said = None
    try:
        with bounded():
            attempt()
    except (ValueError, UndecodableImage) as error:
        said = printable(str(error))
    assert said is None or (not whole and printable(name) in said), said
    return said is None


def test_training_reads_hostile_files_or_passes_over_them(hostile):
    folder, made = hostile
    config = load_config("demo", None, {"image_size": 32})
    regions, passed = open_regions("grid:2", str(folder)), 0
    for name, whole in made.items():
        files = ImageFiles(folder, [name, "really-png.jpg"])
        with bounded():
            batch = TwoViews(files, regions, config)[(0, 0)]
        assert batch.views.shape == (2, 1, 3, 32, 32)
        assert int(batch.indices) == len(batch.undecodable)
        assert not (whole and batch.undecodable)
        assert all(clause.startswith(printable(name) + ": ") for clause in batch.undecodable)
        passed += len(batch.undecodable)
    assert passed > 60
    listed = {ImageFolder(folder).name(i) for i in range(len(ImageFolder(folder)))}
    assert {*made} - listed == {"folder.jpg", "upwards.jpg"}


def test_looking_and_the_app_show_hostile_files_or_say_what_is_wrong(hostile):
    folder, made = hostile
    bench, session = Workbench(("plrc:tiny",), uploads=folder), Session()
    for name, whole in made.items():
        query = Affinity(images=(str(folder / name),), size=32)
        shown = read(name, whole, lambda query=query: draw(query, session))
        long = name.startswith("shape-") and "1x1." not in name
        taken = read(name, whole and not long, lambda query=query: bench.accept(Path(query.images[0])))
        assert shown >= taken
    with bounded():
        bench = Workbench(("plrc:tiny",), [folder])
        assert len(bench.thumbnails("")[0]) == 60


def test_the_gate_of_detection_takes_hostile_pictures_or_names_them(hostile, tmp_path):
    folder, made = hostile
    noise().save(tmp_path / "fine.png")
    for name, whole in made.items():
        files = [str(folder / name), "fine.png"]
        content = {
            "images": [{"id": i, "file_name": file} for i, file in enumerate(files)],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 1, 1]} for i in range(2)],
            "categories": [{"id": 1, "name": "cell"}],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))

        def attempt() -> None:
            data = DetectionData([str(tmp_path / "a.json")]).checked()
            data.load(0)
            data.objects(0)

        read(name, whole, attempt)


def test_names_are_printed_on_a_terminal_that_knows_ascii_only(hostile, tmp_path, monkeypatch):
    folder, _ = hostile
    for words in (["check", str(folder), "--out", str(tmp_path / "t.csv")], ["affinity", str(folder / "é.jpg")]):
        said = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", said)
        monkeypatch.setattr(sys, "stderr", said)
        with bounded():
            assert main(words) in (0, 1, 2)
        said.flush()
        assert re.fullmatch(rb"[ -~\n]+", said.buffer.getvalue()), "nothing steers the terminal"
    assert "latin-" in (tmp_path / "t.csv").read_text(errors="surrogateescape")


def test_hostile_checkpoints_are_named_and_neither_run_nor_take_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = reading.read(load("plrc:tiny").origin.path)
    names = checkpoints(tmp_path, {name: tensor for name, tensor in network.items() if name != "metadata"})
    assert len(names) >= 150
    loaded = [name for name in names if read(name, False, lambda name=name: load(name))]
    beside = ["bomb-projector.0.weight.pt", "bomb-fc.weight.pt"]  # without that head
    assert [name for name in loaded if not name.startswith("flipped")] == beside
    assert not (tmp_path / "executed").exists()
