"""Images in tar shards of WebDataset's form, on disk or at any address that fsspec reads (https://, s3://, …).

An index beside the shards says how many images each has and where they begin, so that any image is one read of its own
bytes: nothing is unpacked, nothing is read that is not used, and what stays in memory is a few numbers a shard.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import tarfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from plrc.data.images import SUFFIXES, AtLeast, UndecodableImage, decode, exif_orientation, opened, upright_size
from plrc.data.sources import Annotation, ImageFolder, open_source
from plrc.files import at_home, cache_folder, written_whole
from plrc.queries import SHARD_INDEX as INDEX
from plrc.queries import Shard

logger = logging.getLogger(__name__)
_BLOCK, _FORMAT = tarfile.BLOCKSIZE, tarfile.USTAR_FORMAT
_TRIES = 5  # of a read from a server, with pauses of 1, 2, 4 and 8 seconds
_MISSING = "copy it again, or name the shards that are there"
_NOTE = ".made_of"  # beside the shards that plrc writes: a hash of the files that it took, and of their size
_KEPT = 64  # shards whose images' places a process keeps


def is_shards(data: str) -> bool:
    """Whether ``--data`` names shards: an address, tar files, or a folder that holds tar files and no other data."""
    if "://" in data or data.endswith(".tar"):
        return True
    folder = at_home(data)
    if not folder.is_dir() or (folder / INDEX).is_file():
        return folder.is_dir()
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    others = any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in entries)
    return not others and any(entry.name.endswith(".tar") for entry in entries)


class Shards:
    """A Source of the images in tar shards: ``'DIR/{000000..000146}.tar'``, ``'DIR/*.tar'``, a folder, an address.

    A sample's image is its member ``KEY.jpg`` (or another of ``plrc.data.images.SUFFIXES``); what stands beside it
    (``KEY.json``, ``KEY.cls``) is passed over. Shards without an index get one, made once from their headers.

    Raises a FileNotFoundError if there are none or one is missing, a ValueError if one is cut off or holds no image.
    """

    layout = "in shards (*.tar)"

    def __init__(self, data: str) -> None:
        self.base, listed = _listed(os.path.expanduser(data))
        self.index = _index(self.base, listed, everything=not data.endswith(".tar"))
        self._ends = self.counts.cumsum()
        self._places = dict[int, np.ndarray]()
        self._held = dict[int, tuple[str, bytes] | UndecodableImage]()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def counts(self) -> np.ndarray:
        """Images of each shard ``(S,)`` int64."""
        return self.index.counts

    @property
    def names(self) -> bytes:
        """What tells these shards from others, wherever they lie: their names, images and sizes."""
        return "\0".join(self.index.names).encode() + self.counts.tobytes() + self.index.sizes.tobytes()

    def name(self, i: int) -> str:
        """The shard and the member, such as "000003.tar/000003210.jpg"."""
        return self._member(i)[0]

    def stamp(self, i: int) -> str:
        """What tells whether an image is still the same."""
        shard, _, begin, _ = self._span(i)
        return f"{self.index.names[shard]} {self.index.sizes[shard]} {begin}"

    def size(self, i: int) -> tuple[int, int]:
        name, data = self._member(i)
        with opened(io.BytesIO(data), name) as image:
            return upright_size(image.size, exif_orientation(image))

    def load(self, i: int, at_least: AtLeast = None) -> Image.Image:
        name, data = self._member(i)
        return decode(io.BytesIO(data), at_least, name=name)

    def annotation(self, i: int) -> Annotation | None:
        self._span(i)  # an index that is out of range is an error here too
        return None

    def prefetch(self, images: Sequence[int]) -> None:
        """Ask a server for several images at once; they are held until others are asked for."""
        if "://" in self.base:
            self._fetch(images)

    def _member(self, i: int) -> tuple[str, bytes]:
        """Name and bytes of an image. Raises an UndecodableImage if the shard is damaged there."""
        if i not in self._held:
            self._fetch([i])
        if isinstance(found := self._held[i], UndecodableImage):
            raise found
        return found

    def _fetch(self, images: Sequence[int]) -> None:
        spans = [self._span(i) for i in images]
        read = _read([(f"{self.base}/{self.index.names[shard]}", begin, end) for shard, _, begin, end in spans])
        self._held = {i: self._image(span, data) for i, span, data in zip(images, spans, read, strict=True)}

    def _image(self, span: tuple[int, int, int, int], data: bytes) -> tuple[str, bytes] | UndecodableImage:
        shard, k, begin, end = span
        where = self.index.names[shard]
        place = f"{where}, image {k + 1} of {self.counts[shard]}"
        if len(data) < end - begin:
            return UndecodableImage(place, f"the shard is cut off: it should have {self.index.sizes[shard]} bytes")
        try:
            member = tarfile.TarInfo.frombuf(data[:_BLOCK], "utf-8", "surrogateescape")
            member.offset_data = _BLOCK
            if not member.isfile():  # a long name stands before it
                member = tarfile.TarFile(fileobj=io.BytesIO(data)).next() or member
        except tarfile.TarError as error:
            return UndecodableImage(place, f"the shard is damaged there ({error})")
        if not member.isfile() or member.offset_data + member.size > len(data):
            return UndecodableImage(place, "the shard is damaged there (the header is not an image's)")
        return f"{where}/{member.name}", data[member.offset_data : member.offset_data + member.size]

    def _span(self, i: int) -> tuple[int, int, int, int]:
        """Of an image: the number of its shard, its number in it, and the bytes from its header to the next image's."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        shard = int(np.searchsorted(self._ends, i, "right"))
        k = i - int(self._ends[shard] - self.counts[shard])
        if (places := self._places.pop(shard, None)) is None:
            places = self.index.places(shard)
        self._places[shard] = places  # the latest stands last
        if len(self._places) > _KEPT:
            del self._places[next(iter(self._places))]
        end = int(places[k + 1]) * _BLOCK if k + 1 < len(places) else int(self.index.sizes[shard])
        return shard, k, int(places[k]) * _BLOCK, end


# ------------------------------------------------------------------------------------------------------ which shards


def _listed(data: str) -> tuple[str, list[str] | None]:
    """What all shards lie in, and their names in it; None where only the index can tell."""
    if data.lower().endswith(SUFFIXES):
        raise ValueError(f"{data} is an image, and of what a server has only shards (.tar) are read: download it")
    if data.endswith(".tar") and os.path.isfile(data):  # though its name has a bracket
        base, _, name = data.rpartition("/")
        return base or ("/" if data.startswith("/") else "."), [name]
    if not data.endswith(".tar"):
        base = data.rstrip("/")
        if data.startswith("http"):
            return base, None
        patterns = ["*.tar"]
    else:
        base, slash, _ = re.split(r"[{*?\[]", data)[0].rpartition("/")
        patterns, base = _expanded(data.removeprefix(base + slash)), base or "."
    globs = [_globbed(base, pattern) if re.search(r"[*?\[]", pattern) else [pattern] for pattern in patterns]
    if not (names := [name for found in globs for name in found]):
        raise FileNotFoundError(f"{data} names no shards: looked for {base}/{', '.join(patterns)}")
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"{data} names {twice[0]} twice: its images would be trained on twice as often")
    return base, names


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces means, {000..146} or {a,b}, in order."""
    if not (brace := re.search(r"\{([^{}]*)\}", pattern)):
        return [pattern]
    if steps := re.fullmatch(r"(\d+)\.\.(\d+)", brace[1]):
        if int(steps[1]) > int(steps[2]):
            raise ValueError(f"the range in {pattern} runs backwards: write {{{steps[2]}..{steps[1]}}}")
        items = [f"{n:0{len(steps[1])}d}" for n in range(int(steps[1]), int(steps[2]) + 1)]
    else:
        items = brace[1].split(",")
    ends = _expanded(pattern[brace.end() :])
    return [f"{pattern[: brace.start()]}{item}{end}" for item in items for end in ends]


def _globbed(base: str, pattern: str) -> list[str]:
    if "://" not in base:
        return sorted(os.path.relpath(file, base) for file in glob(f"{escape(base)}/{pattern}"))
    fs, path = _filesystem(base)
    root = path.rstrip("/") + "/"
    return sorted(found.removeprefix(root) for found in fs.glob(root + pattern))


def _filesystem(address: str) -> tuple[Any, str]:
    """Anew in each process: what fsspec keeps of a server does not outlive a fork."""
    try:
        from fsspec.core import url_to_fs

        found: tuple[Any, str] = url_to_fs(address)
    except ImportError as error:
        raise ValueError(f"{address} needs more packages: pip install 'plrc[remote]' ({error})") from error
    return found


def _read(spans: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Bytes begin … end − 1 of files, or as many as there are. A server that fails is asked again."""
    if "://" not in spans[0][0]:
        read = list[bytes]()
        for address, begin, end in spans:
            with open(address, "rb", buffering=0) as stream:
                read.append(os.pread(stream.fileno(), end - begin, begin))
        return read
    got, waiting = dict[int, Any](), list(range(len(spans)))
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        fs, _ = _filesystem(spans[0][0])
        addresses, begins, ends = map(list, zip(*(spans[i] for i in waiting), strict=True))
        parts = fs.cat_ranges([fs._strip_protocol(a) for a in addresses], begins, ends, on_error="return")
        got |= zip(waiting, parts, strict=True)
        for i in waiting:
            if isinstance(got[i], FileNotFoundError):
                raise FileNotFoundError(f"{spans[i][0]} is missing")
            if isinstance(got[i], bytes) and len(got[i]) > spans[i][2] - spans[i][1]:
                raise ValueError(f"{spans[i][0]}: its server sends the whole file where a part is asked for")
        if not (waiting := [i for i in waiting if not isinstance(got[i], bytes)]):
            return [got[i] for i in range(len(spans))]
    failed = waiting[0]
    raise OSError(f"{spans[failed][0]} cannot be read ({got[failed]!r}): when it can, go on with --resume auto")


# ---------------------------------------------------------------------------------------------------------- the index


@dataclass(frozen=True)
class Index:
    """What is kept in memory of an index: of each of S shards the name, the images, the bytes, and which of the file's
    places is its first. ``offset``: where the places begin in the file; they are read when they are needed."""

    file: Path
    names: list[str]
    counts: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    offset: int

    @staticmethod
    def write(file: Path, names: Sequence[str], sizes: Sequence[int], places: Sequence[np.ndarray]) -> None:
        """Names (bytes, each followed by a zero), images and bytes of each shard, and the block of 512 bytes in its
        shard where each image's header begins: uint8, int64, int64 and uint32, as ``numpy.save`` writes them."""
        with written_whole(file) as unfinished, unfinished.open("wb") as stream:
            np.save(stream, np.frombuffer(b"".join(os.fsencode(name) + b"\0" for name in names), np.uint8))
            np.save(stream, np.array([len(of) for of in places], np.int64))
            np.save(stream, np.array(sizes, np.int64))
            np.save(stream, np.concatenate(places).astype(np.uint32))

    @classmethod
    def read(cls, file: Path) -> Index:
        try:
            with file.open("rb") as stream:
                names, counts, sizes = (np.load(stream) for _ in range(3))
                np.lib.format.read_magic(stream)
                (total,), _, _ = np.lib.format.read_array_header_1_0(stream)
                offset = stream.tell()
            if total != counts.sum() or file.stat().st_size != offset + 4 * total:
                raise EOFError
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is no index of shards, or damaged: remove it, and it is made anew") from error
        return cls(file, os.fsdecode(names.tobytes()).split("\0")[:-1], counts, sizes, counts.cumsum() - counts, offset)

    def of(self, names: Sequence[str]) -> Index | None:
        """The index of these shards, in this order; None if some are not in it."""
        rows = {name: i for i, name in enumerate(self.names)}
        if not rows.keys() >= set(names):
            return None
        chosen = [rows[name] for name in names]
        counts, sizes, starts = (column[chosen] for column in (self.counts, self.sizes, self.starts))
        return Index(self.file, list(names), counts, sizes, starts, self.offset)

    def places(self, shard: int) -> np.ndarray:
        with self.file.open("rb") as stream:
            stream.seek(self.offset + 4 * int(self.starts[shard]))
            return np.fromfile(stream, np.uint32, int(self.counts[shard]))


def _index(base: str, names: list[str] | None, everything: bool) -> Index:
    """The index of these shards; made if there is none that knows them all. Of everything in a folder none may lack."""
    remote, beside = "://" in base, Path(base, INDEX)
    try:
        about = [] if remote else [os.stat(f"{base}/{name}") for name in names or ()]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename} is missing: {_MISSING}") from error
    sizes = [of.st_size for of in about]
    if remote:
        beside = cache_folder("shards") / f"{hashlib.sha1(base.encode()).hexdigest()}.npy"
        fs, path = _filesystem(f"{base}/{INDEX}")
        try:
            with written_whole(beside) as unfinished:
                try:
                    fs.get_file(path, str(unfinished))
                except FileNotFoundError:
                    raise
                except Exception as error:  # here, where it does not yet name the file beside; aiohttp's is no OSError
                    if getattr(error, "status", 0) in (401, 403):  # so some answer for what is not there
                        raise FileNotFoundError from error
                    raise ValueError(f"{base} cannot be reached: {error}") from error
        except FileNotFoundError:
            beside.unlink(missing_ok=True)
    if beside.is_file():
        whole = Index.read(beside)
        if everything and names and (missing := sorted(set(whole.names) - set(names))):
            raise FileNotFoundError(f"{base}/{missing[0]} is missing: {_MISSING}")
        if found := whole if names is None else whole.of(names):
            for name, size, known in zip(found.names, sizes, found.sizes, strict=False):
                if size != known:
                    raise ValueError(
                        f"{base}/{name} has {size} bytes, and by {beside} it should have {known}: copy it again; if it "
                        "was made anew, remove the index"
                    )
            return found
    if names is None:
        raise ValueError(f"{base} has no {INDEX} and cannot be listed: name its shards, {base}/{{000..146}}.tar")
    known = [base] if remote else [os.path.abspath(base), *(of.st_mtime_ns for of in about)]
    key = hashlib.sha1("\0".join(map(str, (*known, *names, *sizes))).encode(errors="surrogateescape")).hexdigest()
    kept = cache_folder("shards") / f"{key}.npy"
    if not kept.is_file():
        logger.info("%s: reading the headers of %d shards, once", base, len(names))
        scanned = [_scanned(f"{base}/{name}") for name in tqdm(names, unit="shard", disable=None, leave=False)]
        if not remote and not beside.exists() and names == _globbed(base, "*.tar"):
            with suppress(OSError):  # the folder may be another's
                Index.write(beside, names, *zip(*scanned, strict=True))
                return Index.read(beside)
        Index.write(kept, names, *zip(*scanned, strict=True))
    return Index.read(kept)


def _scanned(address: str) -> tuple[int, np.ndarray]:
    """A shard's size in bytes, and the blocks where its images begin, by its headers."""
    places, last = list[int](), ""
    fs, path = _filesystem(address) if "://" in address else (None, address)
    try:
        with fs.open(path, "rb") if fs else open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                # Python 3.10 asks an empty archive for what lies before its beginning
                for member in iter(tar.next, None) if tar.firstmember else ():  # type: ignore[attr-defined]
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError("it is cut off")
                    folder, _, name = member.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    if member.isfile() and f".{suffix.lower()}" in SUFFIXES and key and f"{folder}/{key}" != last:
                        places.append(member.offset // _BLOCK)
                        last = f"{folder}/{key}"
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{address} is missing") from error
    except tarfile.TarError as error:
        with suppress(OSError), fs.open(path, "rb") if fs else open(path, "rb") as stream:
            if stream.read(2) == b"\x1f\x8b":
                raise ValueError(f"{address} is packed by gzip, and shards are not: unpack it by gunzip") from error
        raise ValueError(f"{address} is no tar file, or damaged ({error}): copy it again") from error
    if not places:
        raise ValueError(f"{address} holds no image: looked for members KEY{', KEY'.join(SUFFIXES)}")
    return size, np.array(places, np.uint32)


# --------------------------------------------------------------------------------------------------------- plrc shard


def write_shards(query: Shard) -> list[str]:
    """``plrc shard``: the files of a folder's images, byte for byte, in tar shards with an index; what was written.

    The images are shuffled, so that any shard is a sample of them all. What an interrupted call wrote is kept,
    if it was of the same files.
    """
    source, out = open_source(query.data), Path(query.out)
    if not isinstance(source, ImageFolder):
        raise ValueError(f"{query.data} is no folder of image files")
    if out.resolve().is_relative_to(Path(query.data).resolve()):
        raise ValueError(f"{out} lies in {query.data}, whose images it would be among: choose a place elsewhere")
    query.check_place()
    note = out / _NOTE
    meant = hashlib.sha256(f"{query.shard_mb} ".encode())
    for i in range(len(source)):
        meant.update(f"{source.name(i)} {source.path(i).stat().st_size} ".encode(errors="surrogateescape"))
    if not out.is_dir() or not any(out.iterdir()):
        with written_whole(note) as unfinished:
            unfinished.write_text(meant.hexdigest())
    elif not note.is_file() or note.read_text() != meant.hexdigest():
        raise ValueError(f"{out} holds other files than shards of {query.data} as it is: choose a new folder")
    shards = list[tuple[str, int, np.ndarray]]()
    with tqdm(total=len(source), unit="image", disable=None, leave=False) as bar:
        for members in _planned(source, query.shard_mb * 1e6):
            name = f"{len(shards):06d}.tar"
            blocks = np.array([_blocks(member) for member, _ in members])
            size = -(-(int(blocks.sum()) + 2) * _BLOCK // tarfile.RECORDSIZE) * tarfile.RECORDSIZE  # as tarfile ends it
            if not (out / name).exists() or (out / name).stat().st_size != size:
                with written_whole(out / name) as unfinished, tarfile.open(unfinished, "w", format=_FORMAT) as tar:
                    for member, file in members:
                        with file.open("rb") as image:
                            tar.addfile(member, image)
            shards.append((name, size, blocks.cumsum() - blocks))
            bar.update(len(members))
    names, sizes, places = zip(*shards, strict=True)
    Index.write(out / INDEX, names, sizes, places)
    shown = f"{{000000..{names[-1].removesuffix('.tar')}}}.tar" if len(names) > 1 else names[0]
    count = f"{len(names)} shard{'s' * (len(names) > 1)}"
    return [f"{len(source)} images in {count}, {sum(sizes) / 1e9:.3g} GB: --data '{out}/{shown}'"]


def _planned(source: ImageFolder, most: float) -> Iterator[list[tuple[tarfile.TarInfo, Path]]]:
    """The members of each shard and the files that they are made of, up to ``most`` bytes a shard."""
    members, size = list[tuple[tarfile.TarInfo, Path]](), 0
    for n, i in enumerate(np.random.default_rng(0).permutation(len(source))):
        file = source.path(int(i))
        member = tarfile.TarInfo(f"{n:09d}{file.suffix.lower()}")
        member.size = file.stat().st_size
        if members and size + _blocks(member) * _BLOCK > most:
            yield members
            members, size = [], 0
        members.append((member, file))
        size += _blocks(member) * _BLOCK
    yield members


def _blocks(member: tarfile.TarInfo) -> int:
    return 1 + -(-member.size // _BLOCK)
