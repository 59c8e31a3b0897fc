"""A checkpoint file as plain data: nested dictionaries and lists of tensors, numbers and strings.

The kind of file is recognised by its first bytes, never by its suffix. Nothing in a file is executed: a class or
function that is not known to be harmless gives a dictionary in its place, so that the weights beside it are read.
"""

from __future__ import annotations

import mimetypes
import pickle
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plrc.checkpoint import damage

# The pickled "magic number" with which every file starts that torch wrote before it turned to zip archives (1.6).
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_lock = threading.Lock()  # torch's list of admitted names is global


class CheckpointError(ValueError):
    """A file or name from which no network can be had: in one sentence what, why, and the remedy."""


def read(file: Path) -> Any:
    """The content of a checkpoint file, tensors on the CPU; numpy's arrays come as tensors.

    Reads what torch wrote, now or before 1.6, safetensors, and pickles of numpy arrays (Detectron2, Python 2 or 3). An
    object of any other class comes as a dictionary of its entries and attributes (a configuration, for instance).
    Raises a CheckpointError if the file cannot be opened, is damaged or of another kind.
    """
    if file.exists() and not file.is_file():  # a named pipe would be waited for
        raise CheckpointError(f"{file} is no file: name one, or the folder of a run")
    try:
        with file.open("rb") as stream:
            head = stream.read(40)
        if head.startswith((b"PK\x03\x04", _OLD_TORCH)):
            return _plain(_read_torch(file, head.startswith(b"PK")), {})
        if re.match(rb"\x80[\x02-\x05]", head):
            with file.open("rb") as stream:  # the strings of Python 2, its arrays' bytes among them, are latin1
                return _plain(_ArrayUnpickler(stream, encoding="latin1").load(), {})
        if head[8:9] == b"{":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                return tensors | {"metadata": stored.metadata() or {}}
    except Exception as error:  # on junk the readers raise almost anything
        raise CheckpointError(f"{file} cannot be read: {_reason(error)}") from error
    if not head:
        raise CheckpointError(f"{file} is empty: copy or download it again")
    if (mimetypes.guess_type(file.name)[0] or "").startswith("image/"):
        raise CheckpointError(f"{file} is an image: name a checkpoint here")
    what = "is a text, such as a web page or a pointer of Git LFS" if head.isascii() else f"begins with {head[:8]!r}"
    remedy = "download the file itself, or save it anew with a newer torch"
    known = "torch, safetensors, pickled arrays"
    raise CheckpointError(f"{file} is no checkpoint that is known here ({known}), it {what}: {remedy}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    named = re.search(r"GLOBAL (\S+)|(TorchScript)", str(error))
    if named is not None:
        return (
            f"it holds a {named[1] or named[2]}, and nothing but data is admitted here; save only its weights where it "
            "comes from, torch.save(model.state_dict(), ...), and give that file"
        )
    first = (str(error).strip().splitlines() or [""])[0][:120]
    return f"it is damaged, cut short or of another kind, copy or download it again ({type(error).__name__}: {first})"


class Skipped:
    """Stands for every class and function that is not admitted: called, it gives what entries and attributes fill."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _Array(np.ndarray):
    """An array that gets its shape with its values: a pickle of some bytes may ask for one of terabytes."""

    def __new__(cls, *_: Any, **__: Any) -> _Array:
        return super().__new__(cls, 0, "b")


def _scalar(kind: np.dtype, content: bytes) -> Any:
    return _SCALAR(kind, content)  # without a content NumPy would make room of any size


_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    # Bytes that Python 3 writes for Python 2 are latin1.
    **dict.fromkeys(("_codecs.encode", "builtins.bytes"), lambda text="", *_: text.encode("latin1")),
    "numpy.ndarray": _Array,
    "numpy.dtype": np.dtype,
    **{f"numpy.dtypes.{type(np.dtype(code)).__name__}": type(np.dtype(code)) for code in np.typecodes["All"]},
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": np.empty(1).__reduce_ex__(5)[0] for core in ("core", "_core")},
}


def _read_torch(file: Path, zipped: bool) -> Any:
    """With ``weights_only``: torch names what it does not admit, one name a try, and then that is skipped."""
    if zipped and (wrong := damage(file)):
        raise ValueError(wrong)
    admitted = dict(_HARMLESS)
    while True:
        try:
            with _lock, torch.serialization.safe_globals([(value, name) for name, value in admitted.items()]):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            name = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
            path = "" if name is None else name[1] if "." in name[1] else f"builtins.{name[1]}"
            if not path or path in admitted:
                raise
            admitted[path] = Skipped


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C reserves as many gigabytes as a damaged file asks it to number."""

    def find_class(self, module: str, name: str) -> Any:
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
        return _HARMLESS.get(path, Skipped)

    def load_build(self) -> None:
        if callable(getattr(self, "stack")[-2]):  # noqa: B009 # it would give attributes to what reads the next file
            raise pickle.UnpicklingError("a class or function cannot be changed")
        super().load_build()  # type: ignore[misc]

    def load_bytearray8(self) -> None:  # it would make room for as much as the file says
        length = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(bytearray(self.read(length)))  # type: ignore[attr-defined]

    _own: Any = {pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8}  # noqa: RUF012
    dispatch = {**pickle._Unpickler.dispatch, **_own}  # noqa: RUF012


def _state_dict(module: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """What ``state_dict()`` of a pickled module would have given."""
    state = {f"{prefix}{name}": tensor for name, tensor in {**module["_parameters"], **module["_buffers"]}.items()}
    for name, child in module["_modules"].items():
        state |= _state_dict(vars(child), f"{prefix}{name}.")
    return state


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """The data in what a reader gave. ``seen`` keeps what is done, for structures that contain themselves."""
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind not in "fiub":
            return None
        array = np.array(value, value.dtype.newbyteorder("="), order="C")
        return array.item() if isinstance(value, np.generic) else torch.from_numpy(array)
    if isinstance(value, Tensor):
        has_values = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        # A number that stands for a trillion of them, by a stride of 0, is no weight.
        return value.detach() if has_values and value.nbytes <= value.untyped_storage().nbytes() else None
    if isinstance(value, bool | int | float | str):
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, dict):
        entries: dict[Any, Any] = {}
        seen[id(value)] = (value, entries)  # with the value itself, so that its id is not given to another
        fields = value or getattr(value, "__dict__", {})
        if "_modules" in fields and "_parameters" in fields:  # a whole model
            fields = _state_dict(fields)
        entries.update((key, _plain(entry, seen)) for key, entry in fields.items())
        return entries
    if isinstance(value, list | tuple):
        samples: list[Any] = []
        seen[id(value)] = (value, samples)
        samples.extend(_plain(sample, seen) for sample in value)
        return samples
    return None
