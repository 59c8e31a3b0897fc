"""plrc.data.shards: the same images in a folder and in shards; order, resumption, damage, and servers."""

import gzip
import http.server
import io
import os
import re
import shutil
import tarfile
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from plrc import train
from plrc.config import load_config
from plrc.data import loader, shards
from plrc.data.images import UndecodableImage
from plrc.data.loader import MIXED, Order, TwoViews, make_loader
from plrc.data.shards import Index, Shards, write_shards
from plrc.data.sources import ImageFolder, first_decodable, open_source
from plrc.queries import Shard
from plrc.regions import GridRegions
from plrc.run import open_source_once
from tests.runs import losses, small_config
from tests.sets import noise, placed

N = 40
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, which JPEG makes files of 2 to 9 kB of."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(N):
        image = Image.effect_noise((40 + i, 70 - i), 30 + 5 * i).convert("RGB")
        image.save(placed(root / f"class{i % 3}" / f"{i}.JPEG"), quality=90)
    return root


@pytest.fixture
def sharded(folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "shards"
    write_shards(Shard(data=str(folder), out=str(out), shard_mb=0.03))
    return out


# ----------------------------------------------------------------------------------------------- what shards hold


def test_shards_hold_the_files_of_a_folder_byte_for_byte_under_webdatasets_names(folder, sharded):
    source = open_source(str(sharded))
    assert isinstance(source, Shards)
    assert len(source) == N
    assert len(source.counts) > 3
    files = sorted(file.read_bytes() for file in folder.rglob("*.JPEG"))
    assert sorted(source._member(i)[1] for i in range(N)) == files
    assert [source.name(i) for i in range(3)] == [f"000000.tar/{i:09d}.jpeg" for i in range(3)]
    with tarfile.open(sharded / "000001.tar") as tar:  # as any other program reads it
        first = tar.getmembers()[0]
        assert first.name == f"{source.counts[0]:09d}.jpeg"
        assert tar.extractfile(first).read() == source._member(int(source.counts[0]))[1]
    plain = ImageFolder(folder)
    by_bytes = {plain.path(i).read_bytes(): i for i in range(N)}
    same = [by_bytes[source._member(i)[1]] for i in range(N)]
    assert same != sorted(same), "they are shuffled"
    for i, j in enumerate(same):
        assert source.size(i) == plain.size(j)
        assert source.load(i).tobytes() == plain.load(j).tobytes()
    assert source.annotation(N - 1) is None
    with pytest.raises(IndexError):
        source.annotation(N)


def test_braces_globs_folders_and_parts_of_them_name_shards(sharded):
    whole = open_source(str(sharded))
    last = len(whole.counts) - 1
    for data in (f"{sharded}/{{000000..{last:06d}}}.tar", f"{sharded}/*.tar", f"{sharded}/"):
        assert open_source(data).names == whole.names
    some = open_source(f"{sharded}/00000{{2,0}}.tar")
    assert some.index.names == ["000002.tar", "000000.tar"]
    assert some._member(0) == whole._member(int(whole.counts[:2].sum()))
    assert some._member(len(some) - 1) == whole._member(int(whole.counts[0]) - 1)
    assert len(open_source(str(sharded / "000001.tar"))) == whole.counts[1]


def test_writing_goes_on_where_it_was_interrupted(folder, sharded, capsys):
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in sharded.iterdir()}
    again = Shard(data=str(folder), out=str(sharded), shard_mb=0.03)
    with pytest.raises(ValueError, match="holds shards already"):
        write_shards(again)
    (sharded / "index.npy").unlink()
    (sharded / "000001.tar").unlink()
    write_shards(again)
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in sharded.iterdir()}
    assert {name: content for name, (_, content) in after.items()} == {n: c for n, (_, c) in before.items()}
    written = [name for name in before if before[name] != after[name]]
    assert sorted(written) == ["000001.tar", "index.npy"]


def test_shards_are_not_written_among_other_files(folder, sharded, tmp_path):
    (sharded / "index.npy").unlink()  # interrupted, and called with other images: those of before would be mixed in
    others = tmp_path / "others"
    shutil.copytree(folder, others)
    next(others.rglob("*.JPEG")).write_bytes(b"changed")
    with pytest.raises(ValueError, match="holds other files than shards of"):
        write_shards(Shard(data=str(others), out=str(sharded), shard_mb=0.03))
    for out in (folder, folder / "class0" / "shards"):
        with pytest.raises(ValueError, match=r"lies in .*, whose images it would be among"):
            write_shards(Shard(data=str(folder), out=str(out), shard_mb=0.03))
    assert not list(folder.glob("*.tar"))


def test_names_that_cannot_be_meant_are_refused(sharded):
    for name, said in {
        "{000001..000000}": r"runs backwards: write \{000000..000001\}",
        "{000000,000000}": "names 000000.tar twice",
        "{*,000001}": "names 000001.tar twice",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_source(f"{sharded}/{name}.tar")
    packed = sharded / "packed.tar"
    packed.write_bytes(gzip.compress((sharded / "000000.tar").read_bytes()))
    with pytest.raises(ValueError, match=r"packed.tar is packed by gzip, and shards are not"):
        open_source(str(packed))


def foreign(file: Path, images: list[bytes]) -> None:
    """A shard as other programs write it: long names, labels and texts beside the images, in folders."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, content in enumerate(images):
            key = f"deep/{'x' * 120}{i}" if i % 2 else f"{i:06d}"
            for suffix, data in (("cls", b"7"), ("jpg", content), ("json", b"{}"), ("seg.png", content)):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_shards_of_others_are_read_and_their_index_is_made_once(folder, tmp_path, monkeypatch):
    files = [file.read_bytes() for file in sorted(folder.rglob("*.JPEG"))]
    root = tmp_path / "theirs"
    foreign(placed(root / "a.tar"), files[:5])
    foreign(root / "b.tar", files[5:9])
    source = open_source(str(root))
    assert [source._member(i)[1] for i in range(9)] == files[:9]
    assert source.name(1) == f"a.tar/deep/{'x' * 120}1.jpg"
    assert (root / "index.npy").is_file()
    monkeypatch.setattr(shards, "_scanned", None)
    assert open_source(f"{root}/{{b,a}}.tar")._member(0)[1] == files[5]
    monkeypatch.undo()
    foreign(root / "c.tar", files[9:11])  # the index does not know it
    assert len(open_source(str(root))) == 11
    (root / "d.tar").write_bytes((root / "b.tar").read_bytes()[:9000])
    with pytest.raises(ValueError, match=r"d\.tar is no tar file, or damaged .*: copy it again"):
        open_source(f"{root}/d.tar")
    with tarfile.open(root / "e.tar", "w"):
        pass
    with pytest.raises(ValueError, match=r"e\.tar holds no image: looked for members KEY\.jpg"):
        open_source(f"{root}/e.tar")


def test_an_archive_beside_the_images_that_came_in_it_is_no_shard(folder, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(placed(tmp_path / "a" / "1.jpg"))
    assert isinstance(open_source(str(tmp_path)), ImageFolder)


# ---------------------------------------------------------------------------------------------------------- damage


def test_a_shard_that_is_missing_or_cut_off_is_named(sharded):
    third = sharded / "000002.tar"
    whole = third.read_bytes()
    source = open_source(str(sharded))
    place = int(source.counts[:2].sum())
    third.write_bytes(whole[:2000])  # after the run has begun
    with pytest.raises(UndecodableImage, match=rf"^000002\.tar, image 2 of {source.counts[2]}: the shard is cut off"):
        source.load(place + 1)
    with pytest.raises(ValueError, match=rf"000002\.tar has 2000 bytes, and by .* {len(whole)}: copy it again"):
        open_source(str(sharded))
    third.unlink()
    source = open_source(f"{sharded}/*.tar")
    assert len(source.counts) == len(list(sharded.glob("*.tar"))), "what is named is what is there"
    with pytest.raises(FileNotFoundError, match=r"000002\.tar is missing: copy it again, or name"):
        open_source(str(sharded))
    with pytest.raises(FileNotFoundError, match=r"000002\.tar is missing: copy it again"):
        open_source(f"{sharded}/{{000000..000002}}.tar")
    (sharded / "index.npy").write_bytes((sharded / "index.npy").read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"index\.npy is no index of shards, or damaged: remove it"):
        open_source(str(sharded))


def test_a_damaged_image_or_header_is_replaced_by_its_neighbour_and_named(sharded):
    source = open_source(str(sharded))
    first = int(source.counts[0])
    _, _, begin, end = source._span(first)
    file = sharded / "000001.tar"
    data = bytearray(file.read_bytes())
    data[begin + 600 : end] = bytes(end - begin - 600)
    data[end : end + 50] = b"?" * 50  # the header of the next
    file.write_bytes(data)
    image, index, passed_over = first_decodable(source, first, source.load)
    assert index == first + 2
    assert image.size == source.size(first + 2)
    assert passed_over[0].startswith(f"000001.tar/{first:09d}.jpeg: not a JPEG")
    assert re.match(rf"000001\.tar, image 2 of {source.counts[1]}: the shard is damaged there", passed_over[1])


# ----------------------------------------------------------------------------------------------------------- order


COUNTS = np.array([7, 3, 12, 0, 5, 9, 1, 30, 2, 8] * 5)


def test_each_epoch_is_a_permutation_of_shards_and_of_the_images_of_some_that_follow_one_another():
    config = load_config("demo", given={"batch_size": 1, "epochs": 2})
    items = [item for step in Order(int(COUNTS.sum()), config, 0, 1, shards=COUNTS) for item in step]
    starts, orders = COUNTS.cumsum() - COUNTS, []
    for epoch in range(2):
        images = [i for e, i in items if e == epoch]
        order = np.random.default_rng((0, epoch, 0, 1)).permutation(len(COUNTS))
        begin = 0
        for g in range(0, len(COUNTS), MIXED):
            of_group = [i for s in order[g : g + MIXED] for i in range(starts[s], starts[s] + COUNTS[s])]
            found = images[begin : begin + len(of_group)]
            assert sorted(found) == sorted(of_group)
            assert found != of_group, "they are shuffled"
            begin += len(found)
        assert begin == len(images) == COUNTS.sum()
        orders.append(images)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_global_batch_is_the_same_for_every_number_of_ranks_and_a_resumed_order_continues(ranks):
    config, images = load_config("demo", given={"batch_size": 8, "epochs": 2}), int(COUNTS.sum())
    alone = list(Order(images, config, 0, 1, shards=COUNTS))
    shares = [Order(images, config, rank, ranks, shards=COUNTS) for rank in range(ranks)]
    assert [[item for share in step for item in share] for step in zip(*shares, strict=True)] == alone
    for first in (1, 40, len(alone) // 2, len(alone) - 1):
        assert list(Order(images, config, 0, 1, first, shards=COUNTS)) == alone[first:]


# -------------------------------------------------------------------------------------------------------- training


def test_views_are_those_of_the_same_images_in_a_folder_and_workers_change_nothing(sharded, tmp_path):
    source = open_source(str(sharded))
    unpacked = tmp_path / "unpacked"
    for file in sharded.glob("*.tar"):
        with tarfile.open(file) as tar:
            tar.extractall(unpacked, filter="data")
    config = small_config(tmp_path / "out", data=str(sharded))
    order = partial(Order, N, config, 0, 1, shards=source.counts)
    inline, plain, workers = (
        list(make_loader(TwoViews(of, GridRegions(2), config), order(), n, CPU))
        for of, n in ((source, 0), (ImageFolder(unpacked), 0), (source, 1))
    )
    assert len(inline) == 10
    for one, *others in zip(inline, plain, workers, strict=True):
        for other in others:
            for name in ("views", "colours", "regions", "indices"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_training_on_shards_that_is_killed_goes_on_bit_for_bit(sharded, tmp_path, monkeypatch, silent):
    assert train.pretrain(small_config(tmp_path / "whole", data=str(sharded))) == 0
    step_of, opened = train.train_step, []

    class Killed(BaseException):
        pass

    def killed_in_the_middle(*arguments):
        if arguments[5] == 7:
            raise Killed
        return step_of(*arguments)

    monkeypatch.setattr(train, "train_step", killed_in_the_middle)
    with pytest.raises(Killed):
        train.pretrain(small_config(tmp_path / "killed", data=str(sharded)))
    monkeypatch.setattr(train, "train_step", step_of)
    moved = sharded.rename(tmp_path / "elsewhere")  # they are the same shards
    read = shards._read
    monkeypatch.setattr(shards, "_read", lambda spans: opened.extend(spans) or read(spans))
    go_on = small_config(tmp_path / "killed", data=str(moved), resume="auto")
    assert train.pretrain(go_on) == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 10
    assert len(opened) == 3 * 8, "what was trained on before is not read again"
    (moved / "index.npy").unlink()
    (moved / "000001.tar").unlink()
    with pytest.raises(ValueError, match=r"the images of .* are not those of the saved run"):
        train.pretrain(go_on)


# --------------------------------------------------------------------------------------------------------- servers


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Of files, the byte range that is asked for; the first request for some shard fails."""

    whole = False
    asked: ClassVar[list[str]] = []
    failing: ClassVar = Counter[str]()
    at_once: ClassVar[list[int]] = []  # how many others are answered, at each
    lock = threading.Lock()
    now = 0

    def do_GET(self):
        file = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.failing[self.path] > 0:
            self.failing[self.path] -= 1
            return self.send_error(503)
        if not file.is_file() and self.missing:
            return self.send_error(self.missing)
        if not file.is_file() or not wanted or self.whole:
            return super().do_GET()
        self.asked.append(f"{self.path} {wanted[0]}")
        with self.lock:
            Ranges.now += 1
            self.at_once.append(Ranges.now)
        time.sleep(0.01)
        with self.lock:
            Ranges.now -= 1
        data = file.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{file.stat().st_size}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_an_index_is_of_its_own_folder_and_of_the_files_as_they_are(tmp_path, monkeypatch):
    """Two folders are called s, their shards 0.tar, and have as many bytes."""
    for place, count in (("p", 1), ("q", 3)):
        for name in ("0.tar", "[1].tar"):  # of one of them alone no index is written beside
            with tarfile.open(placed(tmp_path / place / "s" / name), "w") as tar:
                for i in range(count):
                    noise(8, 8, i).save(tmp_path / f"{i}.png")
                    tar.add(tmp_path / f"{i}.png", f"{i}.png")
        monkeypatch.chdir(tmp_path / place)
        assert len(open_source("s/0.tar")) == len(open_source("s/[1].tar")) == count
    assert len({file.stat().st_size for file in tmp_path.glob("*/s/0.tar")}) == 1
    shutil.copy(tmp_path / "p" / "s" / "0.tar", tmp_path / "q" / "s" / "0.tar")
    assert len(open_source("s/0.tar")) == 1


def test_processes_that_make_one_index_at_once_do_not_disturb_one_another(tmp_path):
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            with suppress(BaseException):
                for _ in range(50):
                    Index.write(tmp_path / "index.npy", ["0.tar"], [1024], [np.arange(2)])
                    Index.read(tmp_path / "index.npy")
                os._exit(0)
            os._exit(1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


@pytest.mark.parametrize(
    ("status", "message"), [(403, r"has no index\.npy and cannot be listed"), (500, "cannot be reached")]
)
def test_a_server_that_does_not_say_what_is_missing(status, message, server, sharded):
    pytest.importorskip("aiohttp")
    (sharded / "index.npy").unlink()
    Ranges.missing = status
    with pytest.raises(ValueError, match=message):
        open_source(f"{server}/")


@pytest.fixture
def server(sharded):
    Ranges.whole, Ranges.asked, Ranges.at_once, Ranges.failing = False, [], [], Counter()
    Ranges.missing = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(sharded))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_shards_of_a_web_server_give_the_batches_of_the_disk_in_worker_processes_too(
    sharded, server, tmp_path, monkeypatch
):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(shards, "time", SimpleNamespace(sleep=lambda _: None))
    local, remote = open_source(str(sharded)), open_source_once(f"{server}/")
    assert len(remote) == N
    assert remote.names == open_source(f"{server}/{{000000..{len(local.counts) - 1:06d}}}.tar").names == local.names
    config = small_config(tmp_path / "out", data=str(sharded))
    Ranges.failing["/000001.tar"] = 2
    batches = [
        list(make_loader(TwoViews(of, GridRegions(2), config), Order(N, config, 0, 1, 5, of.counts), workers, CPU))
        for of, workers in ((local, 0), (remote, 0), (remote, 1))
    ]
    for one, *others in zip(*batches, strict=True):
        for other in others:
            assert torch.equal(one.views, other.views)
            assert torch.equal(one.indices, other.indices)
    assert len(Ranges.asked) == 2 * N, "one request an image"
    assert max(Ranges.at_once) > 2, "those of a batch together"
    Ranges.whole = True
    with pytest.raises(ValueError, match=r"000000\.tar: its server sends the whole file where a part is asked for"):
        remote.load(0)
    (sharded / "000000.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"000000\.tar is missing"):
        remote.load(1)
    Ranges.failing["/000001.tar"] = 99
    with pytest.raises(OSError, match=r"000001\.tar cannot be read .*503"):
        remote.load(int(remote.counts[0]))


def test_shards_of_any_file_system_of_fsspec(sharded):
    """Its memory stands for s3://, whose library needs a server that is not here."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    local = open_source(str(sharded))
    memory.put(f"{sharded}/", "bucket/photos/", recursive=True)
    remote = open_source("memory://bucket/photos")
    assert [remote._member(i) for i in range(N)] == [local._member(i) for i in range(N)]
    memory.rm("bucket/photos/index.npy")
    foreign_to_us = open_source("memory://bucket/photos/00000*.tar")
    assert [foreign_to_us._member(i) for i in range(N)] == [local._member(i) for i in range(N)]
    memory.rm("bucket", recursive=True)
    with pytest.raises(FileNotFoundError, match="names no shards"):
        open_source("memory://bucket/photos")
    with pytest.raises(ValueError, match=r"photos/a\.JPG is an image, .*: download it"):
        open_source("memory://bucket/photos/a.JPG")
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:9/x cannot be reached: (?!.*\.npy)"):
        open_source("http://127.0.0.1:9/x/{000..001}.tar")


# ---------------------------------------------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """A fabricated index of a hundred million images: what is allocated on the way to a batch is a small part of it."""
    import tracemalloc

    shard_count, each = 10**4, 10**4
    file = tmp_path / "index.npy"
    names = [f"{i:06d}.tar" for i in range(shard_count)]
    Index.write(file, names, [10**9] * shard_count, [np.arange(1)] * shard_count)
    known = Index.read(file)
    big = Index(file, known.names, known.counts * each, known.sizes, known.starts, known.offset)
    source = object.__new__(Shards)
    tracemalloc.start()
    source.index, source._ends = big, big.counts.cumsum()
    config = load_config("demo", given={"batch_size": 256, "epochs": 2})
    steps = iter(Order(len(source), config, 0, 1, 10**5, source.counts))
    batch = next(steps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source) == 10**8
    assert max(i for _, i in batch) < 10**8
    assert peak < 10**7 < 4 * len(source), "not even a number an image"
    assert loader.MIXED * each * 8 < 10**7
    assert os.path.getsize(file) < 10**6
