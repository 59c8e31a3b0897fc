"""plrc.data.kept: region maps are computed once, by whichever process comes first, and never taken for another's."""

import os
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plrc import cli, regions, train
from plrc.data.kept import KeptRegions
from plrc.data.shards import write_shards
from plrc.data.sources import ImageFolder, UndecodableImage, open_source
from plrc.queries import Shard
from plrc.regions import GridRegions, SuperpixelRegions
from tests.runs import small_config
from tests.sets import placed

N = 12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "plrc" / "regions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(N):
        blobs = np.random.default_rng(i).integers(0, 255, (5, 4 + i % 3, 3), np.uint8)
        image = Image.fromarray(blobs).resize((150, 110 + i), Image.Resampling.BICUBIC)
        image.save(placed(tmp_path / "data" / f"{i:02d}.png"))
    return tmp_path / "data"


def kept_of(folder: Path, k: int = 5) -> KeptRegions:
    return KeptRegions(SuperpixelRegions(k), open_source(str(folder)), str(folder))


def computed(folder: Path, k: int = 5) -> list[torch.Tensor]:
    source = ImageFolder(folder)
    return [SuperpixelRegions(k).raster("", lambda size, i=i: source.load(i, size)) for i in range(len(source))]


@pytest.fixture
def no_more(monkeypatch: pytest.MonkeyPatch):
    """From when it is called on, nothing is computed."""

    def fails(*_):
        raise AssertionError("computed again")

    return lambda: monkeypatch.setattr(regions, "_merged", fails)


def test_a_map_is_computed_once_and_found_again_bit_for_bit(folder, cache, no_more):
    expected, kept = computed(folder), kept_of(folder)
    assert kept.missing() == N
    order = [7, 0, 3, *range(N)]
    assert all(torch.equal(kept.raster(i), expected[i]) for i in order)
    assert kept.missing() == 0
    assert len(list(cache.iterdir())) == 1
    no_more()
    for again in (kept_of(folder), pickle.loads(pickle.dumps(kept))):
        assert all(torch.equal(again.raster(i), expected[i]) for i in range(N))
    for other in (kept_of(folder, 6), KeptRegions(SuperpixelRegions(5), open_source(str(folder)))):
        with pytest.raises(AssertionError, match="computed again"):
            other.raster(0)
    assert kept_of(folder, 6).file != kept.file
    assert KeptRegions(GridRegions(3), open_source(str(folder)), str(folder)).file is None


def test_an_image_that_changed_and_a_damaged_map_are_computed_again(folder):
    kept = kept_of(folder)
    for i in range(N):
        kept.raster(i)
    Image.open(folder / "03.png").transpose(Image.Transpose.ROTATE_180).save(folder / "02.png")
    assert kept.stored(2) is None
    assert torch.equal(kept.raster(2), computed(folder)[2])
    data = bytearray(kept.file.read_bytes())
    data[len(data) // 2] ^= 255
    kept.file.write_bytes(data)
    assert sum(kept_of(folder).stored(i) is None for i in range(N)) == 1
    kept.file.write_bytes(data[: len(data) // 2])  # as a full disk leaves it
    assert all(torch.equal(kept_of(folder).raster(i), raster) for i, raster in enumerate(computed(folder)))
    kept.file.write_bytes(b"")
    assert kept_of(folder).missing() == N
    assert torch.equal(kept_of(folder).raster(1), computed(folder)[1])


def slow_fstat(handle: int, fstat=os.fstat) -> os.stat_result:
    """Gives other processes time to come between."""
    found = fstat(handle)
    time.sleep(0.01)
    return found


def test_processes_that_add_at_once_do_not_write_over_one_another(folder):
    children = []
    for first in range(3):
        if not (child := os.fork()):
            kept = kept_of(folder)
            os.fstat = slow_fstat
            for i in [*range(first * 4, N), *range(first * 4)]:
                kept.raster(i)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    kept = kept_of(folder)
    assert all(torch.equal(kept.stored(i), raster) for i, raster in enumerate(computed(folder)))


def test_where_nothing_can_be_kept_maps_are_computed_but_not_by_the_command(folder, cache, capsys):
    placed(cache).write_text("no folder")
    kept = kept_of(folder)
    assert torch.equal(kept.raster(4), computed(folder)[4])
    assert kept.missing() == N
    for workers in ("0", "1"):
        assert cli.main(["regions", str(folder), "--regions", "superpixels:5", "--workers", workers]) == 2
        assert ".rasters cannot be written to: let XDG_CACHE_HOME name a folder" in capsys.readouterr().err


def test_the_command_computes_what_is_missing_of_folders_and_shards(folder, tmp_path, capsys, no_more):
    (folder / "05.png").write_bytes(b"no image")
    write_shards(Shard(data=str(folder), out=str(tmp_path / "shards"), shard_mb=0.05))
    kept_of(folder).raster(0)
    for data, left in ((folder, N - 2), (tmp_path / "shards", N - 1)):
        command = ["regions", str(data), "--regions", "superpixels:5", "--workers"]
        assert cli.main([*command, "1"]) == 0
        told = capsys.readouterr().out
        assert f"{N} images: {left} computed now, " in told
        assert told.count("cannot be decoded: ") == 1
        assert kept_of(data).missing() == 1
    last = max(file.name for file in (tmp_path / "shards").glob("*.tar"))
    for named in (f"{{000000..{last[:6]}}}.tar", "*.tar"):
        assert kept_of(tmp_path / "shards" / named).missing() == 1, "the same shards, named otherwise"
    no_more()
    assert cli.main([*command, "0"]) == 0
    assert "computed now" not in capsys.readouterr().out
    broken = next(i for i in range(N) if kept_of(tmp_path / "shards").stored(i) is None)
    with pytest.raises(UndecodableImage):
        kept_of(tmp_path / "shards").raster(broken)
    assert cli.main(["regions", str(folder), "--regions", "grid:4"]) == 2
    assert "--regions grid:4 is not kept" in capsys.readouterr().err


def test_training_says_what_is_missing_and_reads_what_is_there(folder, tmp_path, capsys, no_more, silent):
    folder = folder.rename(tmp_path / "my data")
    small = {"data": str(folder), "epochs": 1, "batch_size": 4, "regions": "superpixels:5"}
    assert train.pretrain(small_config(tmp_path / "a", **small)) == 0
    note = f"regions of {N} images are computed on the way; on all cores before: plrc regions '{folder}' --regions "
    assert f"{note}superpixels:5" in capsys.readouterr().err
    no_more()
    assert train.pretrain(small_config(tmp_path / "b", **small)) == 0
    assert "computed on the way" not in capsys.readouterr().err


def test_threads_that_read_share_a_file(folder):
    kept, expected, wrong = kept_of(folder), computed(folder), []
    for i in range(N):
        kept.raster(i)

    def read():
        wrong.extend(i for i in range(N) if not torch.equal(kept.stored(i), expected[i]))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
