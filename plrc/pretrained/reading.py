"""A checkpoint file as plain data: nested dictionaries and lists of tensors, numbers and strings.

The kind of file is recognised by its first bytes, never by its suffix. Nothing in a file is executed: a class or
function that is not known to be harmless gives an inert dictionary in its place, so that the weights beside it
are read.
"""

from __future__ import annotations

import pickle
import re
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The pickled "magic number" with which every file starts that torch wrote before it turned to zip archives (1.6).
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ONLY_WEIGHTS = "save only its weights where it comes from, torch.save(model.state_dict(), ...), and give that file"
_MOST_SKIPPED = 200  # names of one file
_lock = threading.Lock()  # torch's list of admitted names is global


class CheckpointError(ValueError):
    """A file (or name) from which no network can be had. The message is one sentence: what, why, and the remedy."""


def read(file: Path) -> Any:
    """The content of a checkpoint file, tensors on the CPU; numpy's arrays come as tensors.

    Reads what torch wrote, now or before 1.6, safetensors, and pickles of numpy arrays (Detectron2, Python 2 or 3). An
    object of any other class comes as a dictionary of its entries and attributes (a configuration, for instance).

    Raises:
        CheckpointError: the file cannot be opened, is damaged or of another kind.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
        size = file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{file} cannot be opened: {error.strerror or error}") from error
    try:
        if head.startswith(b"PK\x03\x04"):
            content = _read_torch(file, mmap=_checked(file))
        elif head.startswith(_OLD_TORCH):
            content = _read_torch(file)
        elif head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            with file.open("rb") as stream:  # the strings of Python 2, its arrays' bytes among them, are latin1
                content = _ArrayUnpickler(stream, encoding="latin1").load()
        elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
            from safetensors import safe_open

            with safe_open(file, framework="pt") as stored:
                content = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                content |= {"metadata": stored.metadata() or {}}
        else:
            raise CheckpointError(f"{file} {_not_a_checkpoint(head, size)}")
        return _plain(content, {})
    except CheckpointError:
        raise
    except Exception as error:  # on junk the readers raise almost anything
        raise CheckpointError(f"{file} cannot be read: {_reason(error)}") from error


def _not_a_checkpoint(head: bytes, size: int) -> str:
    if size == 0:
        return "is empty: copy or download it again"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it, or load it with an older torch and save it anew"
    text = head[:40].decode("latin1")
    if re.fullmatch(r"[\s\x20-\x7e]+", text):
        return f"is a text ({text.strip().splitlines()[0]!r} ...), no checkpoint: download the file itself"
    return "is no checkpoint that is known here (torch, safetensors, pickled arrays): it is damaged or something else"


def _reason(error: Exception) -> str:
    if "TorchScript" in str(error):
        return f"it is a TorchScript program; {_ONLY_WEIGHTS}"
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is not None:
        return f"it holds a {named[1]}, and nothing but data is admitted here; {_ONLY_WEIGHTS}"
    first = (str(error).strip().splitlines() or [""])[0][:120]
    return f"it is damaged, cut short or of another kind, copy or download it again ({type(error).__name__}: {first})"


class Skipped:
    """Stands for every class and function that is not admitted: called, it gives what entries and attributes fill."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    return text.encode("latin1")  # with which Python 3 writes bytes for Python 2


_HARMLESS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _bytes,
    "builtins.bytes": _bytes,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"numpy.dtypes.{type(np.dtype(code)).__name__}": type(np.dtype(code)) for code in np.typecodes["All"]},
    **{f"numpy.{core}.multiarray._reconstruct": np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": np.float64(0).__reduce__()[0] for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": np.empty(1).__reduce_ex__(5)[0] for core in ("core", "_core")},
}


def _read_torch(file: Path, mmap: bool = False) -> Any:
    """With ``weights_only``: torch names what it does not admit, one name a try, and then that is skipped."""
    admitted = dict(_HARMLESS)
    while True:
        try:
            with _lock, torch.serialization.safe_globals([(value, name) for name, value in admitted.items()]):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            name = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
            if name is None or len(admitted) > _MOST_SKIPPED:
                raise
            path = name[1] if "." in name[1] else f"builtins.{name[1]}"
            if path in admitted:
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

    dispatch = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[dict-item] # noqa: RUF012


def _checked(file: Path) -> bool:
    """True; an error if a part of the archive is not what was written (torch may be told to write no checksums)."""
    with zipfile.ZipFile(file) as archive:
        if any(part.CRC for part in archive.infolist()) and (damaged := archive.testzip()):
            raise OSError(f"{damaged} in it is not what was written")
    return True


def _state_dict(module: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """What ``state_dict()`` of a pickled module would have given."""
    own = {**module["_parameters"], **module["_buffers"]}
    state = {f"{prefix}{name}": tensor for name, tensor in own.items() if tensor is not None}
    for name, child in module["_modules"].items():
        state |= _state_dict(vars(child), f"{prefix}{name}.")
    return state


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """The data in what a reader gave. ``seen`` keeps what is done, for structures that contain themselves."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind not in "fiub":
            return None
        plain = np.ascontiguousarray(value, value.dtype.newbyteorder("=")).reshape(value.shape)
        return plain.item() if isinstance(value, np.generic) else torch.from_numpy(plain.copy())
    if isinstance(value, Tensor):
        has_values = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        return value.detach() if has_values else None
    if id(value) in seen:
        return seen[id(value)][1]
    given = value
    if isinstance(value, dict):
        value = value or getattr(value, "__dict__", {})
        if "_modules" in value and "_parameters" in value:  # a whole model
            value = _state_dict(value)
        entries: dict[Any, Any] = {}
        seen[id(given)] = (given, entries)  # with the value itself, so that its id is not given to another
        entries.update((key, _plain(entry, seen)) for key, entry in value.items())
        return entries
    if isinstance(value, (list, tuple)):
        samples: list[Any] = []
        seen[id(value)] = (value, samples)
        samples.extend(_plain(sample, seen) for sample in value)
        return samples
    return None
