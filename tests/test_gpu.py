"""A training step as a GPU sees it, on a machine that has none: tensors without content take the GPU's place.

Nothing may be copied between devices but what was drawn beforehand, and nothing may wait for the device's results.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import plrc.model
from plrc import distributed
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
from plrc.regions import GridRegions
from plrc.train import make_optimizer, train_step

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


# In place of Python: each command of the script is read as its program reads it, and answers as that would.
COMMAND = """#!{python}
import os, signal, sys
from pathlib import Path

words = sys.argv[1:]
with open(os.environ["ASKED"], "a") as file:
    print(*words, file=file)
if words[:2] == ["-m", "benchmarks"]:
    os.execv(sys.executable, [sys.executable, *words])
if words[0] == "-c":
    print(0)
    sys.exit()

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

    def run() -> subprocess.CompletedProcess[str]:
        command = ["bash", root / "benchmarks" / "gpu.sh", out]
        return subprocess.run(command, cwd=root, env=os.environ | small, capture_output=True, text=True)

    first = run()
    rows = {line.split()[0]: line for line in first.stdout.splitlines() if re.match(r"\w+ +\d+ s  ", line)}
    assert first.returncode == 0, first.stdout + first.stderr
    assert {name: "ok" in row for name, row in rows.items()} == {
        "pretrain": True, "look": True, "export": False, "detector": True, "cost": True, "real": True,
    }  # fmt: skip
    assert "object AUC" in rows["look"]
    assert f"COCO, boxes 12.5 {out}/run" in rows["detector"]
    assert "step / floor" in rows["cost"]
    assert "done before" in rows["export"]
    assert "82 tensors of it" in rows["export"]
    starts = [words for words in asked.read_text().splitlines() if f"--out {out}/run --resume auto" in words]
    assert len(starts) == 2
    assert starts[0] == starts[1], "what was interrupted goes on by the same command"
    (out / "look.done").unlink()
    asked.write_text("")
    assert run().returncode == 0
    assert [words.split()[2] for words in asked.read_text().splitlines() if words[:2] == "-m"] == ["affinity"]
