"""Files of any kind become plain data, and nothing in them runs."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from plrc.pretrained import CheckpointError, load, reading
from plrc.pretrained.reading import read
from tests.hostile import Payload, zipped

WEIGHTS = torch.arange(6.0).reshape(2, 3)
ADMITTED_BY_TORCH = set(torch.serialization.get_safe_globals())


def metadata():
    """What old training scripts save beside the weights."""
    return {
        "args": argparse.Namespace(lr=0.1, data=Path("/data"), sizes=[1, 2], nested=argparse.Namespace(a=1)),
        "best_acc1": np.float64(71.5),
        "count": np.int64(3),
        "history": np.arange(4, dtype=np.float32),
        "classes": np.array(["cat", "dog"]),
        "objects": np.array([None, 1], dtype=object),
        "losses": defaultdict(list, a=[0.5]),
        "path": PurePosixPath("a") / "b",
        "flags": {1, 2},
        "epoch": 7,
        "state_dict": OrderedDict(w=WEIGHTS),
    }


def torch_file(tmp_path, content, **options):
    torch.save(content, tmp_path / "a.pth", **options)
    return tmp_path / "a.pth"


@pytest.mark.parametrize("zipped", [True, False])
def test_what_research_code_saves_beside_weights_is_no_obstacle(zipped, tmp_path):
    content = read(torch_file(tmp_path, metadata(), _use_new_zipfile_serialization=zipped))
    assert torch.equal(content["state_dict"]["w"], WEIGHTS)
    assert (content["epoch"], content["best_acc1"], content["count"]) == (7, 71.5, 3)
    assert content["args"] == {"lr": 0.1, "data": {}, "sizes": [1, 2], "nested": {"a": 1}}
    assert content["history"].tolist() == [0, 1, 2, 3]
    assert (content["classes"], content["objects"], content["path"]) == (None, None, {})
    assert content["losses"] == {"a": [0.5]}
    assert nothing_is_admitted()


def nothing_is_admitted() -> bool:
    """Reading leaves torch's list as it is, but for what torch adds of modules that are imported meanwhile."""
    more = set(torch.serialization.get_safe_globals()) - ADMITTED_BY_TORCH
    return all(str(kind).startswith("<class 'torch.") for kind in more)


class Entries(dict):
    """As EasyDict and Lightning's AttributeDict write themselves: entries, and attributes beside them."""


class Attributes:
    """As OmegaConf's DictConfig writes itself: attributes alone."""


def test_objects_of_other_packages_are_their_entries_or_attributes(tmp_path, monkeypatch):
    """Neither package needs to be here; the weights beside them are read."""
    module = types.ModuleType("omegaconf")
    for kind in (Entries, Attributes):
        monkeypatch.setattr(kind, "__module__", "omegaconf")
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "omegaconf", module)
    entries, attributes = Entries(lr=0.1), Attributes()
    entries.lr = attributes.lr = 0.1
    content = {"hyper_parameters": entries, "cfg": attributes, "state_dict": {"w": WEIGHTS.numpy()}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    torch_file(tmp_path, content)
    monkeypatch.delitem(sys.modules, "omegaconf")
    for file in (tmp_path / "a.pth", tmp_path / "a.pkl"):
        found = read(file)
        assert torch.equal(found.pop("state_dict")["w"], WEIGHTS)
        assert found == {"hyper_parameters": {"lr": 0.1}, "cfg": {"lr": 0.1}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays(protocol, tmp_path):
    arrays = {
        "f4": WEIGHTS.numpy(),
        "f2": np.ones(3, np.float16),
        "big": np.arange(3, dtype=">f4"),
        "i8": np.int64([[1, 2]]),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float32),
        "single": np.array(2.5),
    }
    others = {"scalar": np.float32(1.5), "names": np.array(["x"])}
    content = {"model": OrderedDict(arrays | others), "__author__": "who"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    content = read(tmp_path / "a.pkl")
    model = content.pop("model")
    assert (model.pop("scalar"), model.pop("names"), content) == (1.5, None, {"__author__": "who"})
    for name, array in arrays.items():
        known = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        torch.testing.assert_close(model[name], known, rtol=0, atol=0)


def test_arrays_pickled_by_python_2(tmp_path):
    """Its strings are bytes, an array's data too: written here by hand, opcode by opcode."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    minus_one = b"J\xff\xff\xff\xff"
    dtype = (
        b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R(K\x03" + text(b"<") + b"NNN" + minus_one * 2 + b"K\x00tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01K\x02\x85"
    array += dtype + b"\x89" + text(np.float32([1.5, -2.0]).tobytes()) + b"tb"
    (tmp_path / "two.pkl").write_bytes(b"\x80\x02}" + text(b"w\xe9") + array + b"s.")
    content = read(tmp_path / "two.pkl")
    assert {name: tensor.tolist() for name, tensor in content.items()} == {"wé": [1.5, -2.0]}


def test_safetensors_under_any_name(tmp_path):
    save_file({"w": WEIGHTS, "h": WEIGHTS.bfloat16()}, tmp_path / "weights.pth", metadata={"format": "pt"})
    content = read(tmp_path / "weights.pth")
    assert torch.equal(content["w"], WEIGHTS)
    assert content["h"].dtype == torch.bfloat16
    assert content["metadata"] == {"format": "pt"}
    save_file({"w": WEIGHTS}, tmp_path / "plain.safetensors")
    assert read(tmp_path / "plain.safetensors")["metadata"] == {}


def test_structures_that_contain_themselves(tmp_path):
    content: dict = {"w": nn.Parameter(WEIGHTS), "m": WEIGHTS.to("meta"), "one": torch.zeros(1).expand(10**6)}
    content["self"] = [content]
    plain = read(torch_file(tmp_path, content))
    assert plain["self"][0] is plain
    assert plain["m"] is None, "it has no values"
    assert plain["one"] is None, "one number that stands for a million"
    assert not plain["w"].requires_grad
    with pytest.raises(CheckpointError, match="holds no network"):
        load(tmp_path / "a.pth")


PAYLOADS = {
    "os.mkdir": Payload(),
    "os.system": Payload(os.system, "mkdir executed"),
    "eval": Payload(eval, "__import__('os').mkdir('executed')"),
    "getattr": Payload(getattr, dict, "fromkeys"),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", ["zip", "old torch", "pickle 2", "pickle 5", "inside"])
def test_a_file_that_tries_to_run_code_does_not(payload, kind, tmp_path, monkeypatch):
    """What is called gives an empty dictionary, and torch refuses what lies in some modules altogether."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("evil.pkl" if kind.startswith("pickle") else "evil.pth")
    content = {"state_dict": {"w": WEIGHTS}, "x": PAYLOADS[payload]}
    if kind.startswith("pickle"):
        file.write_bytes(pickle.dumps({"model": {}, "x": PAYLOADS[payload]}, protocol=int(kind[-1])))
    elif kind == "inside":
        torch.save({"args": argparse.Namespace(x=PAYLOADS[payload]), "w": WEIGHTS}, file)
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=r"evil\.p\w+ (cannot be read: it holds a .*is admitted|holds no network)"):
        load(file)
    assert not (tmp_path / "executed").exists()
    assert nothing_is_admitted()


def test_the_weights_of_a_whole_model_are_read(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    content = read(torch_file(tmp_path, {"model": model}))["model"]
    assert content.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, content[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("path", ["argparse.Namespace", "numpy.ndarray", "numpy.dtype", "_codecs.encode"])
def test_a_pickle_cannot_change_what_reads_the_next(path, tmp_path):
    """BUILD sets attributes of whatever lies on the stack: here of the class itself."""
    named = "{}\n{}\n".format(*path.rsplit(".", 1)).encode()
    build = b"\x80\x02c" + named + b"N}X\x0c\x00\x00\x00__setstate__K\x01s\x86b."
    (tmp_path / "evil.pkl").write_bytes(build)
    stand_in = reading._HARMLESS.get(path, reading.Skipped)
    before = dict(vars(stand_in))
    with pytest.raises(CheckpointError, match=r"evil\.pkl cannot be read"):
        read(tmp_path / "evil.pkl")
    assert dict(vars(stand_in)) == before


TORCHSCRIPT = [(f"x/{name}", b"what it holds") for name in ("data.pkl", "constants.pkl", "code/x.py")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: copy or download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is no checkpoint .* is a text, such as .* Git LFS"),
        (b"\x80", "is no checkpoint that is known here"),
        (b"\x80\x04.", "cannot be read: it is damaged, cut short or of another kind"),
        (b"PK\x03\x04 and no more", "cannot be read: it is damaged"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all", "cannot be read: it is damaged"),
        (pickle.dumps([1, 2], protocol=4), "holds no network .* it is a list, and has no named tensors"),
        (pickle.dumps({"a": 1}, protocol=4), "it is a dict with the keys a, and has no named tensors"),
        (pickle.dumps({}, protocol=4), "it is a dict, and has no named tensors"),
        (zipped(*TORCHSCRIPT, packed=True), r"it holds a TorchScript, .*torch\.save\(model"),
        (zipped(("a.npy", b"of NumPy"), packed=True), r"it is an archive, but torch\.save has not written it"),
    ],
)
def test_what_is_no_checkpoint_is_named_and_told_why(content, message, tmp_path):
    file = tmp_path / "model.pth"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.pth {message}|model\.pth .*{message}"):
        load(file)


def test_flipped_bytes_are_found(tmp_path):
    file = torch_file(tmp_path, {"w": torch.rand(1000)})
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth cannot be read: it is damaged, .*is not what was written"):
        read(file)
    checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        assert read(torch_file(tmp_path, {"w": WEIGHTS}))["w"].tolist() == WEIGHTS.tolist()
    finally:
        torch.serialization.set_crc32_options(checksums)


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mine.pth").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"mine\.pth cannot be read: Permission denied"):
        load(tmp_path / "mine.pth")
