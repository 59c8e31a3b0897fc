"""A checkpoint file as plain data: nested dictionaries and lists of tensors, numbers and strings.

The kind of file is recognised by its first bytes, never by its suffix. Nothing in a file is executed: the classes that
old research checkpoints name (``argparse.Namespace``, numpy's arrays, paths, ...) are not called either; each admitted
name means one of the inert stand-ins below, and a file that names anything else is refused.
"""

from __future__ import annotations

import pickle
import re
import threading
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The pickled "magic number" with which every file starts that torch wrote before it turned to zip archives (1.6).
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ONLY_WEIGHTS = "save only its weights where it comes from, torch.save(model.state_dict(), ...), and give that file"


class CheckpointError(ValueError):
    """A file (or name) from which no network can be had. The message is one sentence: what, why, and the remedy."""


def read(file: Path) -> Any:
    """The content of a checkpoint file, tensors on the CPU; numpy's arrays come as tensors, unknown objects as None.

    Reads what torch wrote, now or before 1.6, safetensors, and pickles of numpy arrays (Detectron2, Python 2 or 3).

    Raises:
        CheckpointError: the file cannot be opened, is damaged, of another kind, or names a class that is not admitted.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
        size = file.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{file} cannot be opened: {error.strerror or error}") from error
    reader = _READERS.get(_kind(head, size))
    if reader is None:
        raise CheckpointError(f"{file} {_not_a_checkpoint(head, size)}")
    try:
        return _plain(reader(file), {})
    except Exception as error:  # on junk the readers raise almost anything
        raise CheckpointError(f"{file} cannot be read: {_reason(error)}") from error


def _kind(head: bytes, size: int) -> str:
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_OLD_TORCH):
        return "torch"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    return ""


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
    named = re.search(r"GLOBAL (\S+)", str(error))
    if named is not None:
        return f"it holds a {named[1]}, and nothing but data is admitted here; {_ONLY_WEIGHTS}"
    if "TorchScript" in str(error):
        return f"it is a TorchScript program; {_ONLY_WEIGHTS}"
    first = (str(error).strip().splitlines() or [""])[0]
    detail = f"{type(error).__name__}: {first[:120]}" if first else type(error).__name__
    return f"it is damaged, cut short or of another kind, copy or download it again ({detail})"


# ------------------------------------------------------------------------------------------------------------- readers

_lock = threading.Lock()  # torch's list of admitted names is global


def _read_torch(file: Path, mmap: bool = False) -> Any:
    with _lock, torch.serialization.safe_globals([(stand_in, name) for name, stand_in in _ADMITTED.items()]):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)


def _read_zip(file: Path) -> Any:
    return _read_torch(file, mmap=True)  # an optimiser's state, twice the weights, is never read from disk


def _read_safetensors(file: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(file)


def _read_pickle(file: Path) -> Any:
    with file.open("rb") as stream:
        return _DataUnpickler(stream, encoding="latin1").load()  # the strings of Python 2, its arrays' bytes among them


class _DataUnpickler(pickle._Unpickler):
    """The unpickler in Python: the one in C reserves as many gigabytes as a damaged file asks it to number."""

    def find_class(self, module: str, name: str) -> Any:
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
        if path not in _ADMITTED:
            raise pickle.UnpicklingError(f"GLOBAL {path} is not admitted")
        return _ADMITTED[path]


_READERS = {"zip": _read_zip, "torch": _read_torch, "safetensors": _read_safetensors, "pickle": _read_pickle}


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """The data in what a reader gave. ``seen`` keeps what is done, for structures that contain themselves."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        has_values = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        return value.detach() if has_values else None
    if isinstance(value, _Array):
        return value.tensor
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, _Record):
        value = vars(value)
    if isinstance(value, dict):
        entries: dict[Any, Any] = {}
        seen[id(value)] = (value, entries)  # with the value itself, so that its id is not given to another
        entries.update((key, _plain(entry, seen)) for key, entry in value.items())
        return entries
    if isinstance(value, (list, tuple)):
        items: list[Any] = []
        seen[id(value)] = (value, items)
        items.extend(_plain(item, seen) for item in value)
        return items
    return None


# ----------------------------------------------------------------------------------------- stand-ins for what is named


class _Sealed(type):
    """Of the stand-ins: a pickle may set attributes of whatever it names, and these stay as they are."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a stand-in cannot be changed")


class _Record(metaclass=_Sealed):
    """An object that only has attributes: ``argparse.Namespace``."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Dictionary(metaclass=_Sealed):
    """A dictionary whose class does not matter: ``collections.defaultdict``, made from its factory."""

    def __new__(cls, *arguments: Any) -> Any:
        return {}


class _Path(metaclass=_Sealed):
    def __new__(cls, *parts: str) -> Any:
        return str(PurePosixPath(*map(str, parts)))


class _Bytes(metaclass=_Sealed):
    """``_codecs.encode``, with which Python 3 writes bytes for Python 2, and ``bytes()``, with which it writes none."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> Any:
        return str(text).encode("latin1")


class _DType(metaclass=_Sealed):
    """``numpy.dtype``; only of plain numbers."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="

    def parse(self, raw: bytes | str) -> np.ndarray | None:
        """The numbers in the bytes, ``(n,)``, or None where they are no numbers (strings, objects, records)."""
        if not re.fullmatch(r"[fiub]\d", self.code):
            return None
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        stored = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        return np.frombuffer(data, stored).astype(stored.newbyteorder("="))


class _Array(metaclass=_Sealed):
    """``numpy.ndarray``."""

    tensor: Tensor | None = None

    def __new__(cls, *_: Any) -> _Array:
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, raw = state[-4:]  # before them the version of this layout, 1
        self.fill(raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> None:
        values = dtype.parse(raw)
        if values is not None:
            ordered = values.reshape(shape, order="F" if order == "F" else "C")
            self.tensor = torch.from_numpy(np.ascontiguousarray(ordered).reshape(shape))


class _Buffer(metaclass=_Sealed):
    """``numpy.core.numeric._frombuffer``, of pickle protocol 5."""

    def __new__(cls, raw: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> Any:
        array = _Array()
        array.fill(raw, dtype, shape, order)
        return array


class _Scalar(metaclass=_Sealed):
    """``numpy.core.multiarray.scalar``: a Python number, or None for anything else."""

    def __new__(cls, dtype: _DType, raw: bytes | str = b"") -> Any:
        values = dtype.parse(raw) if isinstance(raw, (bytes, str)) else None
        return None if values is None else values[0].item()


# OrderedDict takes the attributes that these dictionaries carry beside their entries.
_CONFIGURATIONS = (
    "easydict.EasyDict",
    "yacs.config.CfgNode",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "addict.addict.Dict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
)
_ADMITTED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _Dictionary,
    **{f"builtins.{kind.__name__}": kind for kind in (list, dict, set, int, float, str, bool)},  # their factories
    **dict.fromkeys(_CONFIGURATIONS, OrderedDict),
    "argparse.Namespace": _Record,
    "mmengine.logging.history_buffer.HistoryBuffer": _Record,
    **{
        f"{module}.{name}": _Path
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
    "_codecs.encode": _Bytes,
    "builtins.bytes": _Bytes,
    "numpy.ndarray": _Array,
    "numpy.dtype": _DType,
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _Buffer for core in ("core", "_core")},
}
