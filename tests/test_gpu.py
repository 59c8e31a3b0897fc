"""A training step as a GPU sees it, on a machine that has none: tensors without content take the GPU's place.

Nothing may be copied between devices but what was drawn beforehand, and nothing may wait for the device's results.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import plrc.model
from plrc import distributed, figures, run
from plrc.analysis import features
from plrc.config import load_config
from plrc.data import loader, photometric
from plrc.data.sources import open_source
from plrc.detection import train as detection
from plrc.detection.config import PRESETS, FinetuneConfig
from plrc.detection.data import DetectionData, Samples
from plrc.detection.detector import Architecture, Detector
from plrc.distributed import World
from plrc.model import PLRC
from plrc.options import load
from plrc.queries import Affinity, Colours, Correspondence, Embedding, Retrieval, Scores, Segments
from plrc.regions import GridRegions
from plrc.train import make_optimizer, train_step
from plrc.views import draw
from plrc.views.images import list_images

GPU = torch.device("meta")  # .item(), nonzero() and a copy to the CPU raise there, as its tensors have no content


class Copies(TorchDispatchMode):
    """Lists every operation that has tensors of both devices; numbers (tensors without a shape) may go along."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor) and t.ndim]
        if len({t.device for t in tensors}) > 1:
            self.found.append(f"{function} of {[tuple(t.shape) for t in tensors]}")
        return result


def allow_sent(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``sent_to`` copies, which nothing waits for, is not listed."""
    sent_to = distributed.sent_to

    def sent(x: Tensor, device: torch.device) -> Tensor:
        before = len(copies.found)
        result = sent_to(x, device)
        del copies.found[before:]
        return result

    for module in (distributed, plrc.model, photometric, features):
        monkeypatch.setattr(module, "sent_to", sent)


def copies_of_a_step(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[str]:
    """Those of a whole step: colours, forward, backward, optimiser, momentum, queue."""
    small = {"image_size": 32, "batch_size": 4, "queue_size": 16, "negatives": 24, "bn_groups": 1}
    config = load_config("demo", given={**small, **settings})
    dataset = loader.TwoViews(open_source("scenes:4"), GridRegions(2), config)
    batch = loader.collate([dataset[0, i] for i in range(4)]).to(GPU)
    model = PLRC(config).to(GPU)
    optimizer = make_optimizer(model, config)
    copies = Copies()
    allow_sent(copies, monkeypatch)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows only real devices
    with copies:
        losses = train_step(model, model, optimizer, batch, config, 0, 10, World(0, 1, GPU))
    assert {loss.device for loss in losses.values()} == {GPU}
    return copies.found


@pytest.mark.parametrize("settings", [{}, {"symmetric": True, "optimizer": "sgd"}, {"accumulate": 2}], ids=str)
def test_a_step_copies_nothing_between_devices_and_waits_for_nothing(settings, monkeypatch):
    assert copies_of_a_step(monkeypatch, **settings) == []


@pytest.mark.parametrize("how", [{}, {"size": None}, {"layer": "c3", "finer": "shifted"}], ids=str)
def test_looking_copies_nothing_but_the_picture_and_waits_for_nothing(how, monkeypatch):
    monkeypatch.setattr(features, "MAX_PIXELS", 224 * 224)  # so that a picture of 320 pixels goes through in tiles
    encoder, copies = plrc.load_encoder("plrc:tiny"), Copies()
    for part in (encoder.backbone, encoder.heads):
        part.to(GPU)
    encoder.device = GPU
    allow_sent(copies, monkeypatch)
    with copies:
        fmap = encoder.features(Image.new("RGB", (320, 320)), **{"size": 64, **how})
    assert fmap.features.device == GPU
    assert copies.found == []


class OnGPU(Tensor):
    """A tensor of ``Pretended``, with content."""


class Pretended(TorchFunctionMode):
    """A GPU on the CPU: tensors that are there cannot meet others, nor become arrays, before they are fetched."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        there = [t for t in given if isinstance(t, OnGPU)]
        if function == Tensor.device.__get__:
            return torch.device("cuda", 0) if there else torch.device("cpu")
        name = function.__name__
        if name in ("numpy", "__array__") and there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        named = [x for x in (*args[1:], *kwargs.values()) if isinstance(x, str | torch.device)]
        devices = {torch.device(x).type for x in named if str(x).split(":")[0] in ("cpu", "cuda")}
        if name == "to" and not devices and len(given) > 1:  # x.to(another)
            devices = {"cuda" if isinstance(given[1], OnGPU) else "cpu"}
        apart = [t for t in given if t.ndim and not isinstance(t, OnGPU)]
        indexed = name in ("__getitem__", "__setitem__") and isinstance(args[0], OnGPU)
        if there and apart and not indexed and name not in ("to", "copy_"):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, cuda:0 and cpu")
        cpu = torch.device("cpu")
        plain = tree_map(lambda x: x.as_subclass(Tensor) if isinstance(x, OnGPU) else x, (args, kwargs))
        args, kwargs = tree_map(lambda x: cpu if isinstance(x, torch.device) else x, plain)
        result = args[0] if name == "pin_memory" else function(*args, **kwargs)
        if name == "cpu" or not (devices == {"cuda"} or (there and devices != {"cpu"})):
            return result
        return tree_map(lambda x: x.as_subclass(OnGPU) if isinstance(x, Tensor) else x, result)


VIEWS_ON_A_GPU = {
    "affinity": Affinity(images=("scenes:2",), finer="shifted"),
    "affinity, points": Affinity(images=("scenes#1", "scenes#2"), points=((0.2, 0.3),), negatives=((0.9, 0.9),)),
    "correspond": Correspondence(images=("scenes:2",), mutual=True, ratio=0.99),
    "correspond, two": Correspondence(images=("scenes#1",), other="scenes#2"),
    "correspond, regions": Correspondence(images=("scenes:2",), regions="objects"),
    "embed": Embedding(images=("scenes:3",), method="pca", clusters=3),
    "embed, points": Embedding(images=("scenes:3",), of="points", perplexity=3.0),
    "embed, images": Embedding(images=("scenes:4",), of="images", method="pca"),
    "retrieve": Retrieval(images=("scenes#1",), among="scenes:6", of="region"),
    "colours": Colours(images=("scenes:2",)),
    "segments": Segments(images=("scenes:2",), clusters=3),
    "score": Scores(dataset="scenes:4"),
}


@pytest.mark.parametrize("query", VIEWS_ON_A_GPU.values(), ids=VIEWS_ON_A_GPU)
def test_what_is_seen_on_a_gpu_is_what_is_seen_on_the_cpu(query, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # of an index
    query, encoded = replace(query, size=64), features.DenseEncoder._encode
    if hasattr(query, "images"):
        query = replace(query, images=tuple(list_images(query.images)))
    seen = draw(query)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))

    def on_gpu(*given: Any) -> dict[str, Tensor]:  # the network, which has no choice, stays where it is
        return {name: x.as_subclass(OnGPU) for name, x in encoded(*given).items()}

    monkeypatch.setattr(features.DenseEncoder, "_encode", on_gpu)
    with Pretended():
        on_a_gpu = draw(query)
        figures.save(on_a_gpu.draw(), tmp_path / "figure.png")
    assert on_a_gpu.lines == seen.lines
    assert list(on_a_gpu.arrays) == list(seen.arrays)
    for name, array in seen.arrays.items():
        np.testing.assert_array_equal(on_a_gpu.arrays[name], array, err_msg=name)


class Waits(TorchDispatchMode):
    """Counts what would wait for a device, by our function or "torchvision", on a CPU, where it can be done."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def count(self) -> None:
        frame: Any = sys._getframe(2)
        while not re.search(r"/(plrc|torchvision)/", frame.f_code.co_filename):
            frame = frame.f_back
        self.found["torchvision" if "/torchvision/" in frame.f_code.co_filename else frame.f_code.co_name] += 1

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        chosen = [t for t in tree_leaves(args[1:2]) if isinstance(t, Tensor)] if name.startswith("index") else []
        if name in ("_local_scalar_dense", "nonzero", "masked_select") or any(t.dtype == torch.bool for t in chosen):
            self.count()
        return function(*args, **(kwargs or {}))


def test_a_detectors_step_waits_only_where_it_must(monkeypatch):
    """An R-CNN chooses by what it finds, and how much that is only the device knows: once a choice in code of ours.

    torchvision's suppression, matcher and sampler wait by themselves.
    """
    given = {"train": ("scenes:4",), "test": ("scenes:2",), "masks": True, "precision": "fp32", "roi_per_image": 16}
    config = load(FinetuneConfig, PRESETS, "small", None, given)
    data = DetectionData(config.train)
    samples = Samples(data, (64,), 96, 0, masks=True)
    detector = Detector(Architecture(arch="tiny", neck="fpn", classes=data.classes, masks=True))
    optimizer, batch, waits = detection.make_optimizer(detector, config), [samples[0, i] for i in range(2)], Waits()
    as_list = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda x: waits.count() or as_list(x))
    with waits:
        detection.train_step(detector, optimizer, batch, config, 0, World(0, 1, torch.device("cpu")))
    images = len(batch)
    del waits.found["torchvision"]
    assert waits.found == {
        "where": 3 + 3 * images,  # anchors and objects among them; proposals, regions; objects of all and of an image
        "check_step": 1,  # whether all are finite
        "pool": 2,  # how many regions each level has; of boxes and of masks
        "forward": images,  # targets, which are on the CPU still
    }


def test_a_run_that_moves_to_another_device_has_the_optimiser_of_that_one():
    network = torch.nn.Linear(3, 2)
    one, other = (torch.optim.AdamW(network.parameters(), fused=fused) for fused in (False, True))
    network(torch.ones(1, 3)).sum().backward()
    one.step()
    assert run.restore({"model": network.state_dict(), "optimizer": one.state_dict(), "step": 1}, network, other) == 1
    assert [group["fused"] for group in other.param_groups] == [True]
    other.step()
    assert [state["step"].item() for state in other.state.values()] == [2, 2]


# In place of Python: each command of the script is read as its program reads it, and answers as that would.
COMMAND = """#!{python}
import os, signal, sys
from pathlib import Path

words = sys.argv[1:]
with open(os.environ["ASKED"], "a") as file:
    print(*words, file=file)
if words[0] == "-c" or words[:2] == ["-m", "benchmarks"]:
    os.execv(sys.executable, [sys.executable, *words])

from plrc import cli, config
from plrc.detection.config import PRESETS, FinetuneConfig
from plrc.options import read_arguments

training = "train_ddp.py" in words
given = ["train", *words[words.index("train_ddp.py") + 1 :]] if training else words[2:]
options = cli.build_parser().parse_args(given)
if training:
    out = Path(read_arguments(options, config.Config, config.PRESETS).out)
    begun = (out / "checkpoints" / "last.pt").exists()
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    (out / "checkpoints" / "last.pt").touch()
    if not begun:
        signal.pause()
elif given[0] == "detect":
    print("COCO, boxes  12.5", read_arguments(options, FinetuneConfig, PRESETS).weights)
print("object AUC 0.6")
"""


def test_the_script_for_a_machine_with_a_gpu_goes_on_with_what_is_not_done(tmp_path):
    """Every part: pre-training that is interrupted and resumed, a look, an export, a detector, the costs (really)."""
    out, root, asked = tmp_path / "out", Path(__file__).parents[1], tmp_path / "asked"
    (tmp_path / "python").write_text(COMMAND.format(python=sys.executable))
    (tmp_path / "python").chmod(0o755)
    out.mkdir()
    (out / "export.done").touch()  # as after a first start
    (out / "export.log").write_text("82 tensors of it\n")
    small = {"LIMIT": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}  # the last part gets ten seconds
    small |= {"PYTHON": str(tmp_path / "python"), "ASKED": str(asked), "PYTHONPATH": str(root)}

    def called() -> subprocess.CompletedProcess[str]:
        command = ["bash", root / "benchmarks" / "gpu.sh", out]
        return subprocess.run(command, cwd=root, env=os.environ | small, capture_output=True, text=True)

    first = called()
    title, *rows = re.split(r"^(?=\w)", first.stdout, flags=re.MULTILINE)[1:]
    told = {row.split()[0]: row for row in rows}
    assert title.startswith("no GPU, ")
    assert first.returncode == 0, first.stdout + first.stderr
    assert {name: " s  ok\n" in row for name, row in told.items()} == {
        "pretrain": True, "look": True, "match": True, "export": False, "detector": True, "cost": True, "real": True,
    }  # fmt: skip
    assert "object AUC" in told["look"]
    assert f"COCO, boxes 12.5 {out}/run" in told["detector"]
    assert told["cost"].count("step / floor") == 2
    assert "done before" in told["export"]
    assert "82 tensors of it" in told["export"]
    starts = [words for words in asked.read_text().splitlines() if f"--out {out}/run --resume auto" in words]
    assert len(starts) == 2
    assert starts[0] == starts[1], "what was interrupted goes on by the same command"
    (out / "look.done").unlink()
    asked.write_text("")
    assert called().returncode == 0
    assert [words.split()[2] for words in asked.read_text().splitlines() if words[:2] == "-m"] == ["affinity"]
