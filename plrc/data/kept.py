"""Region maps that take time are computed once: one file a data set and source of regions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plrc.data.sources import Source, fingerprint
from plrc.files import cache_folder
from plrc.regions import RegionMaps, raster_of

_MAGIC = b"plrc regions 1\0\0"
_SLOT = np.dtype([("offset", "<u8"), ("length", "<u8")])  # of an image's record; zeros: there is none
_RECORD = struct.Struct("<IHH")  # the image's stamp, height and width; labels follow, a byte each


class KeptRegions:
    """The region maps of a data set's images, each computed when it is first asked for.

    Those of a source that has ``settings`` (a text with all that its maps depend on) are kept in a file of
    ``plrc.files.cache_folder("regions")``: a slot for each image, and behind them the compressed rasters, in any order.
    An image that has changed since, by its ``Source.stamp``, is computed again. Any number of processes read and add
    at once: a raster is appended under a lock, and only then its slot is written. Nothing is held in memory.

    Args:
        data: where the images come from, as the user names it; without it nothing is kept.

    Attributes:
        file: None where nothing is kept.
    """

    def __init__(self, maps: RegionMaps, source: Source, data: str | None = None) -> None:
        self._maps, self._source, self._handle = maps, source, -1
        self.file: Path | None = None
        if data is not None and (settings := getattr(maps, "settings", None)):
            where = getattr(source, "base", data)  # of shards, however they are named
            where = where if "://" in where else os.path.abspath(where)
            key = "\0".join((settings, where, fingerprint(source))).encode(errors="surrogateescape")
            self.file = cache_folder("regions") / f"{hashlib.sha1(key).hexdigest()}.rasters"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_handle": -1}  # a process opens the file for itself

    def raster(self, i: int) -> Tensor:
        """The regions ``(h, w)`` int64 of image i, see ``plrc.regions.RegionMaps``. Raises an UndecodableImage."""
        found = self.stored(i)
        if found is None:
            found = raster_of(self._maps, self._source.name(i), partial(self._source.load, i))
            if self.file and int(found.max()) < 256:
                with suppress(OSError):  # a full disk, or one that knows no locks
                    self._add(i, found)
        return found

    def stored(self, i: int) -> Tensor | None:
        """The raster that the file has; None where it has none, or of another image."""
        with suppress(OSError, ValueError, IndexError, struct.error, zlib.error):  # what is damaged is computed again
            handle = self._opened()
            slot = np.frombuffer(os.pread(handle, _SLOT.itemsize, self._place(i)), _SLOT)[0]
            content = zlib.decompress(os.pread(handle, int(slot["length"]), int(slot["offset"])))
            stamp, *shape = _RECORD.unpack_from(content)
            if stamp == self._stamp(i):
                labels = np.frombuffer(content, np.uint8, offset=_RECORD.size).reshape(shape)
                return torch.from_numpy(labels.astype(np.int64))
        return None

    def missing(self) -> int:
        """How many images have no raster in the file yet."""
        if self.file is None:
            return 0
        with suppress(OSError, ValueError):
            slots = np.memmap(self.file, _SLOT, "r", len(_MAGIC), (len(self._source),))
            return len(slots) - int(np.count_nonzero(slots["length"]))
        return len(self._source)

    def _add(self, i: int, raster: Tensor) -> None:
        handle = self._opened()
        content = _RECORD.pack(self._stamp(i), *raster.shape) + raster.numpy().astype(np.uint8).tobytes()
        record = zlib.compress(content, 9)
        fcntl.lockf(handle, fcntl.LOCK_EX)
        try:
            end = os.fstat(handle).st_size
            os.pwrite(handle, record, end)
        finally:
            fcntl.lockf(handle, fcntl.LOCK_UN)
        slot = np.array([(end, len(record))], _SLOT)
        os.pwrite(handle, slot.tobytes(), self._place(i))

    def _place(self, i: int) -> int:
        return len(_MAGIC) + i * _SLOT.itemsize

    def _stamp(self, i: int) -> int:
        return zlib.crc32(getattr(self._source, "stamp", self._source.name)(i).encode(errors="surrogateescape"))

    def _opened(self) -> int:
        if self._handle < 0:
            if self.file is None:
                raise OSError("nothing is kept")
            with suppress(OSError):  # a file of somebody else's is read only
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                fcntl.lockf(self._handle, fcntl.LOCK_EX)
                if os.fstat(self._handle).st_size < self._place(len(self._source)):  # new: slots of zeros, a hole
                    os.pwrite(self._handle, _MAGIC, 0)
                    os.ftruncate(self._handle, self._place(len(self._source)))
                fcntl.lockf(self._handle, fcntl.LOCK_UN)
            if self._handle < 0:
                self._handle = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        return self._handle
