"""What a training step, its losses, loading and looking cost: ``python -m benchmarks``, one table and ``bench.json``.

    python -m benchmarks                                            # all parts, about six minutes on two CPU cores
    python -m benchmarks step --shape resnet50,224,64 --modes bf16  # one part, another shape
    python -m benchmarks loading --photos DIR

Each ratio is of things that take turns in one process, and the median of several turns. On a GPU it synchronises around
each measurement. A part is a function below, and says what it compares.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import plrc
from plrc import model as method
from plrc import train
from plrc.analysis.affinity import affinity
from plrc.analysis.embedding import tsne
from plrc.analysis.features import FeatureMap
from plrc.config import Config, load_config
from plrc.data.kept import KeptRegions
from plrc.data.loader import Batch, TwoViews, collate
from plrc.data.photometric import N_PARAMETERS
from plrc.data.sources import open_source
from plrc.distributed import World
from plrc.figures.style import CATEGORIES
from plrc.geometry import Crop
from plrc.losses import affinity_distillation, image_contrast, point_contrast
from plrc.model import PLRC
from plrc.regions import GridRegions, open_regions, view_regions
from plrc.registry import Entry
from plrc.run import autocast, cannot_compile
from plrc.views.images import open_image

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HERE = World(0, 1, DEVICE)
MODES = ("fp32", "bf16", "bf16+compile")  # and fp32+compile, where it is asked for
Row = dict[str, Any]
Shape = tuple[str, int, int]  # backbone, side of a view, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    parser.add_argument("--shape", action="append", metavar="ARCH,SIDE,BATCH", help="of the part step; repeat it")
    parser.add_argument("--modes", nargs="+", default=MODES, choices=(*MODES, "fp32+compile"))
    parser.add_argument("--photos", metavar="DIR", help="JPEG files for the part loading; else cut from two photos")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    o = parser.parse_args()
    if strange := [part for part in o.parts if part not in PARTS]:
        parser.error(f"there is no part {strange[0]}: choose from {', '.join(PARTS)}")
    torch.backends.cudnn.benchmark = True
    found: dict[str, Any] = {"machine": machine()}
    print(", ".join(f"{key} {value}" for key, value in found["machine"].items()), flush=True)
    for name in o.parts or PARTS:
        print(f"\n{name}: {PARTS[name].__doc__}", flush=True)
        found[name] = []
        for row in PARTS[name](o):
            found[name].append(row)
            print("  " + "  ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)
        o.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if "growth" in found:
        plrc.figures.save(curves(found["growth"]), o.out.with_suffix(".png"))
    print(f"\nwritten: {o.out}")


def machine() -> dict[str, Any]:
    about = Path("/proc/cpuinfo")
    cpu = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    return {
        "GPU": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "none",
        "CPU": cpu[1] if cpu else platform.processor(),
        "AMX": torch.cpu._is_amx_tile_supported(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------------------ measuring


def seconds(function: Callable[[], object]) -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    # With one thread, of this process alone: what else the core does is not counted.
    clock = time.process_time if DEVICE.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    function()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def in_turn(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each in each of the rounds; one round before them does not count."""
    rounds = [{name: seconds(function) for name, function in functions.items()} for _ in range(repeats + 1)][1:]
    return {name: [times[name] for times in rounds] for name in functions}


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def peak(function: Callable[[], object]) -> float:
    """MiB by which memory grows while it runs: the GPU's, or this process's on Linux (0 elsewhere)."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return 0.0

    def status(field: str) -> int:
        return int(re.search(rf"{field}:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]

    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    function()
    return (status("VmHWM") - before) / 2**10


def noise(config: Config) -> Batch:
    """A batch such as a loader gives, of random pixels; whole-image crops, every second one mirrored."""
    images, side = config.batch_size, config.image_size
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, images, 4)
    crops = Crop(box, (torch.arange(2 * images) % 2 == 0).view(2, images))
    colours = torch.zeros(2, images, N_PARAMETERS)
    colours[..., :3] = 1.2
    colours[..., 3] = 0.05
    colours[..., 4:8] = torch.arange(4.0)
    colours[..., 8] = torch.rand(2, images, generator=generator) < 0.8
    colours[..., 10] = (torch.rand(2, images, generator=generator) < 0.5).float()
    raster = GridRegions(config.regions.partition(":")[2]).raster("", lambda size: None)  # type: ignore[arg-type, return-value]
    regions = [view_regions(raster, Crop(crops.box[:, i], crops.flip[:, i])) for i in range(images)]
    return Batch(
        views=torch.randint(0, 256, (2, images, 3, side, side), dtype=torch.uint8, generator=generator),
        colours=colours,
        crops=crops,
        regions=torch.stack(regions, dim=1),
        region_count=int(raster.max()) + 1,
        indices=torch.arange(images),
        undecodable=frozenset(),
    ).to(DEVICE)


class Step:
    """A step of pre-training on noise, and its floor: query forward and backward, two key forwards."""

    def __init__(self, shape: Shape, mode: str = "fp32", **given: Any) -> None:
        arch, side, batch = shape
        how = {"arch": arch, "image_size": side, "batch_size": batch, "bn_groups": 1, "precision": mode[:4]}
        how |= {"regions": "grid:3"} if arch == "tiny" else {}  # about as many as the preset's superpixels
        self.config = load_config("demo" if arch == "tiny" else "imagenet", given=how | given)
        torch.manual_seed(0)
        self.model = PLRC(self.config).to(DEVICE).to(memory_format=torch.channels_last).train()
        if "compile" in mode:
            self.model.compile_encoders()
        self.optimizer = train.make_optimizer(self.model, self.config)
        self.batch = noise(self.config)
        self.views = self.batch.coloured()

    def __call__(self) -> dict[str, Tensor]:
        return train.train_step(self.model, self.model, self.optimizer, self.batch, self.config, 0, 1000, HERE)

    def floor(self) -> None:
        with autocast(self.config.precision, DEVICE):
            z = self.model._in_groups(self.model.query_encoder, self.views[0])
            with torch.no_grad():
                both = self.views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
                self.model._in_groups(self.model.key_encoder, both)
            z.float().mean().backward()
        self.optimizer.zero_grad(set_to_none=True)


# ---------------------------------------------------------------------------------------------------------------- parts


def step(o: argparse.Namespace) -> Iterator[Row]:
    """a step against its floor, its encoders' passes: as they are, and the fastest there is (best)"""
    given = [text.split(",") for text in o.shape or ()]
    shapes = [(arch, int(side), int(batch)) for arch, side, batch in given]
    modes = list(o.modes)
    if any("compile" in mode for mode in modes) and (obstacle := cannot_compile(DEVICE)):
        yield {"compiled": f"left out, torch.compile does not work here: {obstacle}"}
        modes = [mode for mode in modes if "compile" not in mode]
    for shape in shapes or [("tiny", 64, 32), ("resnet18", 112, 32), ("resnet50", 224, 8)]:
        slow = not shapes and DEVICE.type == "cpu" and shape[0] == "resnet50"  # there compiling alone takes minutes
        fitting = [mode for mode in modes if not (slow and "compile" in mode)]
        steps = {mode: Step(shape, mode) for mode in fitting}
        first = {}
        for mode, one in steps.items():
            start = time.perf_counter()  # compilers are other processes
            one.floor()
            first[mode] = time.perf_counter() - start
        runs = {(mode, what): f for mode, one in steps.items() for what, f in (("floor", one.floor), ("step", one))}
        times = in_turn(runs, o.repeats)  # type: ignore[arg-type]
        best = min(fitting, key=lambda mode: statistics.median(times[mode, "floor"]))  # type: ignore[index]
        for mode, one in steps.items():
            own, whole = times[mode, "floor"], times[mode, "step"]  # type: ignore[index]
            memory = peak(one.floor), peak(one)
            yield {
                "shape": " ".join(map(str, shape)),
                "mode": mode,
                "floor s": statistics.median(own),
                "step s": statistics.median(whole),
                "step / floor": ratio(whole, own),
                "step / best floor": ratio(whole, times[best, "floor"]),  # type: ignore[index]
                "memory MiB": round(memory[1]),
                "memory / floor": memory[1] / memory[0] if memory[0] else 0.0,
                "first call s": first[mode],
                "waits": waiting(one) if DEVICE.type == "cuda" else "not asked of a CPU",
            }


def waiting(function: Callable[[], object]) -> str:
    """Where the first operation is that waits for the device, "none" if there is none."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    except RuntimeError as error:
        home = str(Path(plrc.__file__).parent)
        ours = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(home)]
        return f"{error}: {ours[-1].filename}:{ours[-1].lineno}" if ours else str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def split(o: argparse.Namespace) -> Iterator[Row]:
    """what a step of tiny, 64 px, batch 32, consists of: shares of its time, by torch.profiler"""
    one = Step(("tiny", 64, 32), "bf16" if "bf16" in o.modes else "fp32")
    one()
    places = {
        "colours": (Batch, "coloured"),
        "draws": (PLRC, "draw"),
        "encoders": (PLRC, "_in_groups"),
        "shuffle": (PLRC, "_shuffled"),
        "sampling": (method, "sample_points"),
        "losses": (Entry, "load"),
        "backward": (Tensor, "backward"),
        "optimiser": (type(one.optimizer), "step"),
        "momentum": (PLRC, "update_keys"),
        "queue": (PLRC, "enqueue"),
    }

    def marked(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with torch.profiler.record_function(name):
                return original(*given, **named)

        return run

    with ExitStack() as stack, torch.profiler.profile() as profiler:
        for name, (place, what) in places.items():
            original = getattr(place, what)
            of_loss = lambda entry, load=original: marked("losses", load(entry))  # noqa: E731
            replaced = of_loss if name == "losses" else marked(name, original)
            stack.enter_context(mock.patch.object(place, what, replaced))
        for _ in range(o.repeats):
            marked("step", one)()
    # On a GPU each name comes twice.
    events = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CPU]
    spent = {event.key: event.cpu_time_total for event in events}
    row: Row = {name: spent[name] / spent["step"] for name in places}
    yield row | {"rest": 1 - sum(row.values())}


def losses(o: argparse.Namespace) -> Iterator[Row]:
    """each loss and its gradient against its formula, written densely: B 8, 16 regions, 16 points, K 65,536, M 4096"""
    generator = torch.Generator().manual_seed(0)
    b, r, p, d, k, m, t = 8, 16, 16, 128, 65536, 4096, 0.2

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, d, generator=generator), dim=-1).to(DEVICE)

    points, key, own, others, queue = unit(b, r, p), unit(b, r, p), unit(b, r, p), unit(m), unit(k)
    query, image_key = unit(b), unit(b)
    valid = (torch.rand(b, r, generator=generator) < 0.8).to(DEVICE)
    image = torch.randint(0, 64, (m,), generator=generator).to(DEVICE)
    region = torch.arange(r, device=DEVICE).repeat_interleave(p)
    shows = valid.repeat_interleave(p, dim=1)  # (B, RP)
    same = region[:, None] == region

    def dense_image(query: Tensor) -> Tensor:
        positive, negatives = (query * image_key).sum(1) / t, query @ queue.T / t
        return -(positive.exp() / (positive.exp() + negatives.exp().sum(1))).log().mean()

    def dense_point(points: Tensor) -> Tensor:
        scores = (points.flatten(1, 2) @ key.flatten(1, 2).transpose(1, 2) / t).exp()  # (B, RP, RP)
        far = (points.flatten(1, 2) @ others.T / t).exp() * (image != torch.arange(b, device=DEVICE)[:, None])[:, None]
        negative = (scores * ~same * shows[:, None]).sum(2) + far.sum(2)
        pairs = -(scores / (scores + negative[:, :, None])).log()  # (B, RP, RP), of all points
        counted = same & shows[:, :, None] & shows[:, None]
        return (pairs * counted).sum() / counted.sum()

    def dense_affinity(points: Tensor) -> Tensor:
        def logits(x: Tensor, temperature: float) -> Tensor:
            scores = x.flatten(1, 2) @ key.flatten(1, 2).transpose(1, 2) / temperature
            return scores.masked_fill(~shows[:, None], -1e9)

        entropy = -(logits(own, 0.04).softmax(2) * logits(points, 0.1).log_softmax(2)).sum(2)
        return entropy[shows].mean()

    three: dict[str, tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
        "image": (query, lambda x: image_contrast(x, image_key, queue, t), dense_image),
        "point": (points, lambda x: point_contrast(x, key, valid, others, image, 0, t), dense_point),
        "affinity": (points, lambda x: affinity_distillation(x, own, key, valid, 0.1, 0.04), dense_affinity),
    }
    for name, (given, ours, dense) in three.items():
        torch.testing.assert_close(ours(given), dense(given), rtol=1e-4, atol=1e-5)  # they compute the same

        def both(loss: Callable[[Tensor], Tensor], given: Tensor = given) -> None:
            x = given.clone().requires_grad_()
            loss(x).backward()

        runs = {"ours": lambda f=ours, g=both: g(f), "dense": lambda f=dense, g=both: g(f)}
        times = in_turn(runs, 2 * o.repeats)
        memory = {what: peak(run) for what, run in runs.items()}
        yield {
            "loss": name,
            "ours ms": 1000 * statistics.median(times["ours"]),
            "time / dense": ratio(times["ours"], times["dense"]),
            "memory MiB": round(memory["ours"]),
            "of dense": round(memory["dense"]),
        }


def loading(o: argparse.Namespace) -> Iterator[Row]:
    """images a second on one core, both views of 224 px; torchvision's are of its ImageFolder and v2 transforms"""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made, mock.patch.dict(os.environ, XDG_CACHE_HOME=f"{made}/cache"):
        folder = Path(o.photos or f"{made}/data")
        if not o.photos:  # 500 × 400 pixels, cut from two photos
            (folder / "photos").mkdir(parents=True)
            rng = np.random.default_rng(0)
            for i in range(64):
                picture = open_image(("sample:china", "sample:flower")[i % 2]).image
                x, y = rng.integers(0, picture.width - 500), rng.integers(0, picture.height - 400)
                picture.crop((x, y, x + 500, y + 400)).save(folder / "photos" / f"{i:02d}.jpg", quality=90)
        source = open_source(str(folder))
        count = min(64, len(source))
        config = load_config()
        crops = [v2.RandomResizedCrop(224, config.crop_scale, antialias=True), v2.RandomHorizontalFlip()]
        jitter = v2.RandomApply([v2.ColorJitter(*config.jitter)], config.jitter_p)
        blur = v2.RandomApply([v2.GaussianBlur(23, config.blur_sigma)], config.blur_p)
        colours = [jitter, v2.RandomGrayscale(config.grey_p), blur]
        plain = v2.Compose([*crops, v2.PILToTensor()])
        full = v2.Compose([*crops, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), *colours])
        views = {"crops": ImageFolder(folder, lambda x: (plain(x), plain(x)))}
        views["crops and colours"] = ImageFolder(folder, lambda x: (full(x), full(x)))
        kept = KeptRegions(open_regions("superpixels:8", str(folder)), source, str(folder))
        grid, superpixels = (TwoViews(source, regions, config) for regions in (GridRegions(4), kept))
        files = [Path(file) for file, _ in views["crops"].samples[:count]]
        turn = iter(range(10**6))
        runs: dict[str, Callable[[], object]] = {
            "ours, crops and grid:4": lambda: collate([grid[next(turn), i] for i in range(count)]),
            "ours, crops and kept superpixels": lambda: collate([superpixels[next(turn), i] for i in range(count)]),
            "ours, crops, grid:4 and colours": lambda: collate([grid[next(turn), i] for i in range(count)]).coloured(),
            "torchvision, crops": lambda: [views["crops"][i] for i in range(count)],
            "torchvision, crops and colours": lambda: [views["crops and colours"][i] for i in range(count)],
            "decoding alone": lambda: [Image.open(file).convert("RGB") for file in files],
        }
        times = in_turn(runs, o.repeats)
    torch.set_num_threads(threads)
    for name, spent in times.items():
        speed = count / statistics.median(spent)
        yield {"what": name, "images/s": round(speed), "times decoding alone": ratio(spent, times["decoding alone"])}


def looking(o: argparse.Namespace) -> Iterator[Row]:
    """ResNet-50: features of a picture, questions to its map; t-SNE of 2000 points of 128 channels; milliseconds"""
    encoder = plrc.load_encoder("random:resnet50", DEVICE)
    picture = open_image("sample:china").image
    fmap, point = encoder.features(picture, size=448), torch.rand(1, 2)
    first = FeatureMap(fmap.features, fmap.image_size, fmap.input_size, fmap.stride, fmap.layer)
    features = torch.randn(2000, 128, generator=torch.Generator().manual_seed(0))
    runs: dict[str, Callable[[], object]] = {
        "features of a picture, short side 448": lambda: encoder.features(picture, size=448),
        "the first question to a map (normalises its cells)": lambda: affinity(replace(first), point),
        "every further one": lambda: affinity(fmap, point),
    }
    times = in_turn(runs, 2 * o.repeats)
    times["t-SNE"] = [seconds(lambda: tsne(features))]
    for name, spent in times.items():
        yield {"what": name, "ms": 1000 * statistics.median(spent)}


def detector(o: argparse.Namespace) -> Iterator[Row]:
    """a training step of the preset small (FPN on tiny, drawn scenes, batch 4), against its backbone's pass"""
    from plrc.detection import config as recipes
    from plrc.detection import train as detection
    from plrc.detection.data import DetectionData, Samples
    from plrc.detection.detector import Architecture, Detector
    from plrc.options import load

    given = {"train": ("scenes:8",), "test": ("scenes:2",)}
    settings = load(recipes.FinetuneConfig, recipes.PRESETS, "small", None, given)
    data = DetectionData(settings.train)
    samples = Samples(data, settings.short_sides, settings.longest, 0, masks=False)
    batch = [samples[0, i] for i in range(settings.batch_size)]
    torch.manual_seed(0)
    architecture = Architecture(arch="tiny", neck="fpn", classes=data.classes, roi_per_image=settings.roi_per_image)
    net = Detector(architecture).to(DEVICE).to(memory_format=torch.channels_last).train()
    optimizer = detection.make_optimizer(net, settings)

    def passes() -> None:
        with autocast(settings.precision, DEVICE):
            sum(level.float().mean() for level in net.features([s.image for s in batch])).backward()  # type: ignore[union-attr]
        optimizer.zero_grad(set_to_none=True)

    runs: dict[str, Callable[[], object]] = {"backbone": passes}
    for precision in [mode for mode in o.modes if mode in ("fp32", "bf16")]:
        how = replace(settings, precision=precision)
        runs[precision] = lambda how=how: detection.train_step(net, optimizer, batch, how, 0, HERE)  # type: ignore[misc]
    times = in_turn(runs, o.repeats)
    for name, spent in times.items():
        yield {"step": name, "s": statistics.median(spent), "of the backbone": ratio(spent, times["backbone"])}


def growth(o: argparse.Namespace) -> Iterator[Row]:
    """how a step of tiny grows: one setting changes, the others stay at 64 px, batch 32, 9 regions, 16 points"""
    base = Step(("tiny", 64, 32), "bf16" if "bf16" in o.modes else "fp32")
    for name, values in GROWTH.items():
        steps: dict[int, Step] = {}
        for value in values:
            shape = ("tiny", value if name == "image size" else 64, value if name == "batch" else 32)
            given: Row = {"regions": f"grid:{round(value**0.5)}"} if name == "regions" else {}
            given |= {"points_per_region": value} if name == "points" else {}
            steps[value] = Step(shape, base.config.precision, **given)
        times = in_turn({"base": base, **steps}, o.repeats)  # type: ignore[dict-item]
        for value in values:
            yield {"setting": name, "value": value, "times the base": ratio(times[value], times["base"])}  # type: ignore[index]


def curves(rows: list[Row]) -> Figure:
    """``growth`` as a figure: a panel a setting, all to one scale; the ring is the base."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(GROWTH), sharey=True), GROWTH, strict=True):
        x, y = zip(*((row["value"], row["times the base"]) for row in rows if row["setting"] == name), strict=True)
        panel.plot(x, y, "o-", color=CATEGORIES[0], ms=4)
        panel.plot(BASE[name], 1, "o", color=CATEGORIES[0], ms=10, mfc="none")
        panel.set(
            xlim=0,
            ylim=(0, 1.05 * max(row["times the base"] for row in rows)),
            xticks=x,
            xlabel=name + (" (px)" if name == "image size" else ""),
        )
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="0.9")
    figure.supylabel("time of a step, × the ring's", fontsize="medium")
    return figure


BASE = {"batch": 32, "image size": 64, "regions": 9, "points": 16}
GROWTH = {
    "batch": (8, 16, 32, 64),
    "image size": (32, 64, 96, 128),
    "regions": (4, 9, 16, 36),
    "points": (4, 8, 16, 32),
}
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    part.__name__: part for part in (step, split, losses, loading, looking, detector, growth)
}


if __name__ == "__main__":
    main()
