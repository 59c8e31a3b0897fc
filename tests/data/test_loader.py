"""plrc.data.loader: the same batches for every number of ranks, workers and parts; nothing undecodable stops a run."""

import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from plrc.config import Config, load_config
from plrc.data import images, sources
from plrc.data.images import AtLeast
from plrc.data.loader import Batch, Order, TwoViews, collate, make_loader
from plrc.data.photometric import apply, normalise
from plrc.data.sources import UndecodableImage, open_source
from plrc.geometry import cell_centres
from plrc.regions import VIEW_RASTER, GridRegions
from tests.runs import finish, start
from tests.sets import ramp

CPU = torch.device("cpu")


class Ramps:
    """A source of ramps: red is x, green is y, blue the image's number. Some items cannot be decoded."""

    def __init__(self, n: int = 12, broken_header: tuple[int, ...] = (), broken_pixels: tuple[int, ...] = ()) -> None:
        self._n, self._broken_header, self._broken_pixels = n, broken_header, broken_pixels

    def __len__(self) -> int:
        return self._n

    def name(self, i: int) -> str:
        return f"ramp-{i}"

    def size(self, i: int) -> tuple[int, int]:
        if i in self._broken_header:
            raise UndecodableImage(self.name(i), "the file is empty")
        return (240, 160) if i % 2 else (150, 210)

    def load(self, i: int, at_least: AtLeast = None) -> Image.Image:
        width, height = self.size(i)
        if i in self._broken_pixels:
            raise UndecodableImage(self.name(i), "the file is truncated")
        return ramp(width, height, blue=10 * i)


class RegionsByImage:
    """As many stripes as the image's number has, and two."""

    def raster(self, name: str, load: object) -> torch.Tensor:
        return torch.arange(2 + int(name.split("-")[1]))[None]


def config(**given: object) -> Config:
    return load_config("demo", given={"image_size": 32, "batch_size": 4, "epochs": 3, **given})


def dataset(source: Ramps | None = None, **given: object) -> TwoViews:
    return TwoViews(source or Ramps(), GridRegions(4), config(**given))


def order(images: int, rank: int = 0, ranks: int = 1, first_step: int = 0, **given: object) -> list:
    return list(Order(images, config(**given), rank, ranks, first_step))


def assert_same(ours: Batch, theirs: Batch) -> None:
    for name in ("views", "colours", "regions", "indices"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert torch.equal(ours.crops.box, theirs.crops.box)
    assert torch.equal(ours.crops.flip, theirs.crops.flip)


def test_each_epoch_is_a_permutation_of_its_own():
    steps = order(13, batch_size=4)
    assert len(steps) == 9
    epochs = [[item for step in steps[3 * e : 3 * e + 3] for item in step] for e in range(3)]
    images = [[i for _, i in items] for items in epochs]
    assert [{e for e, _ in items} for items in epochs] == [{0}, {1}, {2}]
    for listed in images:
        assert len(set(listed) & set(range(13))) == 12 == len(listed), "no image twice; one of 13 is left out"
        assert listed != sorted(listed)
    assert len(set(map(tuple, images))) == 3
    assert set().union(*images) == set(range(13)), "not the same one is left out every time"


def test_a_file_is_opened_once_and_decoded_no_larger_than_its_views_need(tmp_path, monkeypatch):
    ramp(1600, 1200).save(tmp_path / "a.jpg")
    opening, seen = images.opened, []

    @contextmanager
    def opened(*arguments):
        with opening(*arguments) as image:
            yield image
            seen.append(image.size)

    for module in (images, sources):
        monkeypatch.setattr(module, "opened", opened)
    dataset(open_source(str(tmp_path)), crop_scale=[0.9, 1])[0, 0]
    assert seen == [(200, 150)]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_global_batch_is_the_same_for_every_number_of_ranks(ranks):
    alone = order(20, batch_size=8)
    shares = [order(20, rank, ranks, batch_size=8) for rank in range(ranks)]
    assert [[item for share in step for item in share] for step in zip(*shares, strict=True)] == alone
    assert all(len(share[0]) == 8 // ranks for share in shares)
    assert order(20, batch_size=8) == alone != order(20, batch_size=8, seed=1)
    assert Order(3, config(), 0, 1).steps_per_epoch == len(order(3)) == 0


@pytest.mark.parametrize("first_step", [0, 1, 3, 4, 8, 9])
def test_a_resumed_order_continues(first_step):
    resumed = Order(13, config(), 0, 1, first_step)
    assert list(resumed) == order(13)[first_step:]
    assert len(resumed) == 9 - first_step


def test_a_sample_is_a_pure_function_of_seed_epoch_and_image():
    first = dataset()
    samples = {item: first[item] for item in [(0, 3), (1, 3), (0, 4)]}
    again = dataset()
    for item in reversed(samples):
        assert_same(again[item], samples[item])
    assert not torch.equal(samples[0, 3].views, samples[1, 3].views)
    assert not torch.equal(samples[0, 3].crops.box, samples[0, 4].crops.box)
    assert not torch.equal(dataset(seed=1)[0, 3].crops.box, samples[0, 3].crops.box)


def test_picture_and_regions_are_flipped_by_one_coin():
    """What the pixels of a ramp say about where a view lies, its regions say too."""
    samples = dataset(flip_p=0.5)
    flips = []
    for i in range(12):
        batch = samples[0, i]
        x, y = batch.views[:, 0, :2].float().div(255).unbind(1)  # (2, 32, 32): where in the image
        seen = torch.nn.functional.interpolate(batch.regions[:, 0, None].float(), (32, 32), mode="nearest-exact")[:, 0]
        by_pixels = (y * 4).long().clamp(max=3) * 4 + (x * 4).long().clamp(max=3)
        distance = torch.stack(((x * 4) % 1, (y * 4) % 1)).sub(0.5).abs().amax(dim=0)
        inner = distance < 0.4  # away from the grid's lines by more than a cell of the view
        assert inner.float().mean() > 0.4
        assert torch.equal(seen[inner].long(), by_pixels[inner])
        named = batch.crops.to_image(cell_centres(32, 32).view(1, 1, -1, 2).expand(2, 1, -1, -1)).view(2, 32, 32, 2)
        torch.testing.assert_close(torch.stack((x, y), dim=-1)[:, 2:-2, 2:-2], named[:, 2:-2, 2:-2], rtol=0, atol=0.004)
        flips += batch.crops.flip.flatten().tolist()
    assert 4 < sum(flips) < 20


def test_the_number_of_regions_is_that_of_the_batchs_richest_image():
    samples = TwoViews(Ramps(), RegionsByImage(), config())
    batch = collate([samples[0, i] for i in (3, 9, 0)])
    assert [samples[0, i].region_count for i in (3, 9, 0)] == [5, 11, 2]
    assert (batch.region_count, batch.indices.tolist()) == (11, [3, 9, 0])
    assert (batch.regions.shape, batch.regions.dtype) == ((2, 3, VIEW_RASTER, VIEW_RASTER), torch.uint8)


def test_the_number_of_workers_changes_nothing():
    samples = dataset(Ramps(12, broken_pixels=(4,)))
    inline, workers = ([*make_loader(samples, Order(12, config(epochs=2), 0, 1), n, CPU)] for n in (0, 2))
    assert len(inline) == len(workers) == 6
    for ours, theirs in zip(inline, workers, strict=True):
        assert_same(ours, theirs)
        assert (ours.views[:, :, 2] == 10 * ours.indices[:, None, None]).all(), "every view is of its place's image"
        assert ours.undecodable == theirs.undecodable
    assert frozenset().union(*(b.undecodable for b in workers)) == samples[0, 4].undecodable
    assert sorted(i for b in workers[:3] for i in b.indices.tolist()) == [0, 1, 2, 3, 5, 5, 6, 7, 8, 9, 10, 11]
    assert not torch.equal(samples[0, 4].crops.box, samples[0, 5].crops.box), "not twice with the same views"


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_accumulated_parts_are_the_batch(parts):
    batch = collate([dataset()[0, i] for i in range(4)])
    split = batch.split(parts)
    assert [len(part.indices) for part in split] == [4 // parts] * parts
    assert_same(collate(split), batch)
    assert all(part.region_count == batch.region_count for part in split)


def test_a_batch_is_coloured_by_its_own_parameters():
    batch = collate([dataset(jitter_p=1.0)[0, i] for i in range(3)])
    coloured = batch.coloured()
    assert coloured.shape == (2, 3, 3, 32, 32)
    for v in range(2):
        for i in range(3):
            expected = normalise(apply(batch.views[v, i : i + 1], batch.colours[v, i : i + 1]))
            torch.testing.assert_close(coloured[v, i : i + 1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("broken", ["broken_header", "broken_pixels"])
def test_an_undecodable_image_is_replaced_by_its_neighbour_and_named(broken):
    samples = dataset(Ramps(12, **{broken: (4, 5, 11)}))
    for wanted, instead, names in ((4, 6, ["ramp-4", "ramp-5"]), (5, 6, ["ramp-5"]), (11, 0, ["ramp-11"]), (7, 7, [])):
        sample = samples[0, wanted]
        assert sample.indices.tolist() == [instead]
        assert (sample.views[:, 0, 2] == 10 * instead).all()
        assert sorted(line.split(":")[0] for line in sample.undecodable) == names
        assert_same(samples[0, wanted], sample)
    reason = "the file is empty" if broken == "broken_header" else "the file is truncated"
    assert all(reason in line for line in samples[0, 4].undecodable)
    batch = collate([samples[0, i] for i in (4, 7, 11)])
    assert {line.split(":")[0] for line in batch.undecodable} == {"ramp-4", "ramp-5", "ramp-11"}


FAILING = """
from tests.data.test_loader import CPU, Order, Ramps, config, dataset, make_loader

source = Ramps(4, broken_pixels=(0, 1, 2, 3) if {where!r} == "worker" else ())
batches = iter(make_loader(dataset(source), Order(4, config(epochs=50), 0, 1), 1, CPU))
next(batches)
raise ValueError("out of memory")
"""


@pytest.mark.parametrize(("where", "message"), [("worker", "4 files in a row"), ("training", "out of memory")])
def test_an_error_ends_the_process_and_its_workers(where, message):
    """Not the message alone: a rank that hangs after its error is not seen by torchrun, and holds every other rank."""
    script = FAILING.format(where=where)
    assert message in finish(start("-c", script), code=1, timeout=25)


def test_real_photos_of_all_sizes(shared_data):
    """Through the folder, draft decoding and EXIF: two workers give what one process gives."""
    source = open_source(str(shared_data("imagenet-mini")))
    assert len(source) == 800
    settings = config(image_size=64, batch_size=8, epochs=1)
    samples = TwoViews(source, GridRegions(4), settings)
    batches = [next(iter(make_loader(samples, Order(800, settings, 0, 1), workers, CPU))) for workers in (0, 2)]
    assert_same(*batches)
    assert batches[0].undecodable == frozenset()
    assert (batches[0].views.float().std(dim=(2, 3, 4)) > 1).all()


class Stopping(Dataset):
    """Its second item stops the process that makes it: before it is made, or as soon as it is handed on."""

    def __init__(self, after: float) -> None:
        self._after = after

    def __getitem__(self, item):
        if item == (0, 1):
            stop = threading.Timer(self._after, os.kill, (os.getpid(), signal.SIGSTOP))
            stop.start()
            stop.join(0 if self._after else None)
        return torch.zeros(3)


@pytest.mark.parametrize("after", [0, 1])
def test_a_loading_process_that_hangs_is_ended_and_named(after):
    """Also one that stops while it hands batches on, of which DataLoader's own time-out knows nothing."""
    batches = make_loader(Stopping(after), [[(0, i)] for i in range(9)], 1, CPU, list, timeout=1 / 60)
    time.sleep(2 * after)
    with pytest.raises(TimeoutError, match=r"from loading process \d+ \(stopped\): "):
        list(batches)
    assert not multiprocessing.active_children()


class Unsendable(Dataset):
    def __getitem__(self, item):
        return lambda: item


def test_what_a_loading_process_cannot_hand_on_ends_it_instead_of_waiting_for_ever(capfd):
    loader = make_loader(Unsendable(), [[(0, 0)]], 1, torch.device("cpu"), list)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        next(iter(loader))
    assert "a loading process cannot hand on what it loaded: " in capfd.readouterr().err
