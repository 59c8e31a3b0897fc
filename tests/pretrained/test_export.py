"""Exported files: read back with the target's own reader, compared bit for bit, and never half written."""

import copy
import functools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from plrc.backbones import Encoder, Tiny
from plrc.pretrained import CheckpointInfo, Pretrained, load
from plrc.pretrained.export import SUFFIXES, _how_to_load, export
from plrc.pretrained.formats import DETECTRON2


@functools.cache
def trained(arch: str, seed: int) -> Encoder:
    """A network none of whose tensors is what a new one would have."""
    torch.manual_seed(seed)
    encoder = Encoder(arch, dim=8)
    for name, tensor in encoder.state_dict().items():
        if "num_batches_tracked" in name:
            tensor.fill_(7)
        elif tensor.dim() == 1:
            tensor.copy_(0.5 + torch.rand_like(tensor))
    return encoder


def pretrained(arch: str = "resnet18", path: Path | None = None, seed: int = 0) -> Pretrained:
    encoder = copy.deepcopy(trained(arch, seed))
    origin = CheckpointInfo("demo/last", path, "PLRC run", "query", arch, "0" * 64, "step 3 of 9")
    return Pretrained(encoder.backbone, {"projector": encoder.projector}, origin, "projector")


def assert_same(read: dict[str, Any], expected: dict[str, Tensor]) -> None:
    assert sorted(read) == sorted(expected)
    for name, tensor in expected.items():
        there = torch.as_tensor(read[name])
        assert (there.dtype, there.shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(there, tensor), name


class PlainReader(pickle.Unpickler):
    """Lets in arrays and nothing else: no name that NumPy before 1.26 lacks."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
        return allowed[module, name]


def test_torchvisions_own_network_misses_the_classifier_only(tmp_path):
    net, file = pretrained(), tmp_path / "out.pth"
    lines = export(net, "torchvision", file)
    assert_same(torch.load(file, weights_only=True), net.backbone.state_dict())
    model = torchvision.models.resnet18()
    code = next(line.strip() for line in lines if "load_state_dict" in line)
    result = eval(code, {"model": model, "torch": torch})  # the line that a user is told to write
    assert result.missing_keys == ["fc.weight", "fc.bias"]
    assert result.unexpected_keys == []
    model.fc = model.avgpool = nn.Identity()
    images = torch.rand(2, 3, 64, 96)
    expected = net.backbone.eval()(images).flatten(1)
    assert torch.equal(model.eval()(images), expected)


@pytest.mark.parametrize("arch", ["resnet18", "convnext_atto"])
def test_timm_reads_its_file(arch, tmp_path):
    net, file = pretrained(arch), tmp_path / "timm.pth"
    lines = [line.strip() for line in export(net, "timm", file)]
    there: dict[str, Any] = {"timm": timm, "torch": torch}
    exec("\n".join(lines[lines.index("to load it:") + 1 : -1]), there)  # the lines that a user is told to write
    state, known = there["model"].state_dict(), net.backbone.named.state_dict()
    assert_same({name: state[name] for name in known}, known)
    assert load(f"timm:{arch}@{file}").origin.arch in (arch, f"timm:{arch}")


@pytest.mark.parametrize("arch", ["resnet18", "tiny"])
def test_safetensors_file_says_what_it_holds(arch, tmp_path):
    net = pretrained(arch)
    export(net, "safetensors", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as stored:
        head = {f"projector.{name}": tensor for name, tensor in net.heads["projector"].state_dict().items()}
        there = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        assert_same(there, net.backbone.state_dict() | head)
        origin = f"{arch} of demo/last (PLRC run, query)"
        assert stored.metadata() == {"format": "pt", "arch": arch, "origin": origin, "sha256": "0" * 64}
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for file in files:
        export(net, "safetensors", file)
    assert len({file.read_bytes() for file in files}) == 1, "the metadata are in order"
    again, cells = load(tmp_path / "out.safetensors"), torch.rand(1, net.backbone.width, 2, 2)
    assert (again.origin.arch, again.origin.format, again.dense) == (arch, "PLRC export", "projector")
    assert torch.equal(again.heads["projector"](cells), net.heads["projector"](cells))
    export(load("plrc:tiny"), "safetensors", tmp_path / "out.safetensors")
    assert load(tmp_path / "out.safetensors").dense == "projector"
    export(load(f"random:{arch}"), "safetensors", tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as stored:
        assert stored.metadata() == {"format": "pt", "arch": arch, "origin": f"{arch} of random:{arch} (random)"}


def test_safetensors_file_knows_the_run_that_it_is_of(tmp_path):
    run, file = {"config": {"image_size": 64, "arch": "tiny"}, "epoch": 3.5}, tmp_path / "out.safetensors"
    export(pretrained("tiny").told(run=run), "safetensors", file)
    assert load(file).origin.run == run
    tensors = pretrained("tiny").backbone.state_dict()
    for foreign in ("no JSON", "[1]", '{"config": "x", "epoch": 2}'):
        save_file(tensors, file, metadata={"arch": "tiny", "run": foreign})
        assert load(file).origin.run == ({"epoch": 2} if "epoch" in foreign else {})


def test_detectron2_file_is_as_mocos_converter_writes_it(tmp_path):
    net = pretrained()
    export(net, "detectron2", tmp_path / "out.pkl")
    with (tmp_path / "out.pkl").open("rb") as stream:
        content = PlainReader(stream).load()
    model = content.pop("model")
    assert content == {"__author__": "PLRC", "matching_heuristics": True}
    assert all(type(array) is np.ndarray and array.flags.writeable for array in model.values())
    expected = {
        str(DETECTRON2.from_torchvision(name)): tensor
        for name, tensor in net.backbone.state_dict().items()
        if "num_batches_tracked" not in name
    }
    assert_same(model, expected)
    assert model["res2.0.conv1.norm.weight"].tolist() == net.backbone.state_dict()["layer1.0.bn1.weight"].tolist()


@pytest.mark.parametrize("to", SUFFIXES)
def test_a_backbone_in_use_is_exported_as_any_other_and_lines_say_how(to, tmp_path):
    """The analysis keeps weights in channels-last order, which safetensors refuses and NumPy writes as it stands."""
    net = pretrained()
    net.backbone.to(memory_format=torch.channels_last)
    assert not net.backbone.state_dict()["conv1.weight"].is_contiguous()
    file = tmp_path / f"out{SUFFIXES[to][0]}"
    lines = export(net, to, file)
    used = file.read_bytes()
    assert export(pretrained(), to, file) == lines
    if to == "safetensors":  # it writes metadata in random order
        assert_same(safetensors.torch.load(used), safetensors.torch.load(file.read_bytes()))
    else:
        same = used == file.read_bytes()
        assert same  # not asserted above: pytest would look for the difference in 45 MB
    written = {"detectron2": 100, "safetensors": 124}.get(to, 120)
    assert lines[0].startswith(f"{file}: {written} tensors of resnet18 of demo/last (PLRC run, query), ")
    assert ("left out: 20 counters of BatchNorm (num_batches_tracked)" in lines) == (to == "detectron2")
    assert ("left out: projector; only the backbone is exported" in lines) == (to != "safetensors")
    known = {
        "torchvision": "strict=False",
        "timm": 'timm.create_model("resnet18", num_classes=0, checkpoint_path=',
        "detectron2": f"MODEL.WEIGHTS {file} MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64",
        "safetensors": "safetensors.torch.load_file(",
    }
    assert known[to] in "\n".join(lines[1:])
    assert "RGB" in lines[-1]


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("resnext50_32x4d", "MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.NUM_GROUPS 32 MODEL.RESNETS.WIDTH_PER_GROUP 4"),
        ("wide_resnet50_2", "MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.WIDTH_PER_GROUP 128"),
        ("resnet152", "MODEL.RESNETS.DEPTH 152"),
    ],
)
def test_detectron2_is_told_which_resnet_it_is(arch, settings):
    assert f"{settings} MODEL.RESNETS.STRIDE_IN_1X1 False" in _how_to_load("detectron2", arch, Path("x.pkl"))[1]


@pytest.mark.parametrize("to", ["torchvision", "timm", "detectron2"])
def test_tiny_is_a_network_of_ours_alone(to, tmp_path):
    net = pretrained("tiny")
    assert isinstance(net.backbone, Tiny)
    with pytest.raises(ValueError, match=rf"demo/last is a tiny network, which {to} has none of: .*safetensors"):
        export(net, to, tmp_path / f"out{SUFFIXES[to][0]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("to", "name"), [("torchvision", "out.pkl"), ("detectron2", "out.pth"), ("onnx", "out")])
def test_wrong_suffix_is_an_error_that_names_the_right_one(to, name, tmp_path):
    known = r"torchvision \(\.pth or \.pt\), .* detectron2 \(\.pkl\), safetensors"
    with pytest.raises(ValueError, match=rf"{name} is no name of a file for {to}: there are {known}"):
        export(pretrained("tiny"), to, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_an_older_file_is_replaced(tmp_path):
    file = tmp_path / "a" / "b" / "out.safetensors"
    export(pretrained("tiny", seed=0), "safetensors", file)
    first = file.read_bytes()
    with file.open("rb") as reader:
        export(pretrained("tiny", seed=1), "safetensors", file)
        assert reader.read() == first, "whoever reads the older file goes on reading it"
    assert file.read_bytes() != first
    assert list(file.parent.iterdir()) == [file]
    with pytest.raises(ValueError, match=r"cannot be written .*: give another place"):
        export(pretrained("tiny"), "safetensors", file / "out.safetensors")
    with pytest.raises(ValueError, match=r"out\.safetensors is the checkpoint itself"):
        export(pretrained("tiny", path=file), "safetensors", file.parent / "." / "out.safetensors")
