"""Where pictures come from: a folder on disk or the embedded scenes, listed, and decoded one by one to upright RGB."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from plrc.data.listing import list_images, printable

# What a file may hold, whatever its suffix: ImageNet has a PNG named .JPEG, web collections have GIF and BMP so named.
# Not everything that Pillow knows: it would start Ghostscript for an EPS.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

# EXIF orientation -> what turns the stored picture upright (1, and anything unknown: nothing).
_T = Image.Transpose
_SIDEWAYS = {5: _T.TRANSPOSE, 6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90}  # these exchange width and height
_UPRIGHT = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, **_SIDEWAYS}

# Damaged EXIF is common and harmless; a picture between Pillow's warning limit (89 million pixels) and its error limit
# (twice that) is large, not hostile, and is decoded. Neither is worth a line per image and worker. Set once here:
# `warnings.catch_warnings` around each decode is not thread-safe and makes every other "once" warning appear again.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UndecodableImage(Exception):
    """A listed picture that cannot be decoded. `name`: the source's name of the item; `reason`: one clause."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both as args, so that it survives pickling on its way out of a worker
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Annotation:
    """What is known of the n instances in a picture of W × H pixels (upright frame).

    masks: (n, H, W) bool, the visible part of every instance, None where only boxes are known; boxes: (n, 4) float32,
    x0, y0, x1, y1 in the image frame, [0, 1]; classes: n names; difficult and crowd: numbers of such instances.
    """

    masks: np.ndarray | None
    boxes: np.ndarray
    classes: list[str]
    difficult: frozenset[int] = frozenset()  # hard to recognise: PASCAL VOC's evaluation passes over them
    crowd: frozenset[int] = frozenset()  # a group outlined as one: COCO's `iscrowd`


class Source(Protocol):
    """A numbered collection of pictures, 0 <= i < len(source)."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """A name of item i that is the same on every run and machine."""

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) in pixels of the full upright picture. Raises UndecodableImage."""

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The upright picture, mode RGB. `at_least=(w, h)`: a smaller rendering of the same frame will do, provided
        it has at least w × h pixels, or as many as there are. Raises UndecodableImage."""

    def annotation(self, i: int) -> Annotation | None:
        """What is known of the picture's instances, or None."""


class ImageFolder:
    """The pictures under a folder, at any depth, in bytewise order of their relative paths.

    `root`: ImageNet's folder (only its `train/` is used, see `list_images`) or any folder of .jpg, .jpeg, .png and
    .webp files, in small or capital letters. Hidden files and folders are skipped (macOS leaves `._x.jpg`); symbolic
    links are followed, but no folder is listed twice. `names`: another ImageFolder's `.names`, so that one rank lists
    and the others do not touch the disk. It is one bytes object, every path followed by a zero byte: 1.28 million
    `str` would be copied into every DataLoader worker as their reference counts change.
    Raises FileNotFoundError or NotADirectoryError, saying what was expected, where there is nothing to list.
    """

    def __init__(self, root: str | os.PathLike[str], names: bytes | None = None) -> None:
        self.root = os.fspath(root)
        self.names = b"".join(name + b"\0" for name in list_images(self.root)) if names is None else names
        self._ends = np.flatnonzero(np.frombuffer(self.names, dtype=np.uint8) == 0)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, i: int) -> str:
        """Path relative to `root`, with `/`. Bytes that are not UTF-8 are escaped as `os.fsdecode` does."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        return os.fsdecode(self.names[self._ends[i - 1] + 1 if i else 0 : self._ends[i]])

    def size(self, i: int) -> tuple[int, int]:
        """(width, height) of the upright picture, from the file's header. Raises UndecodableImage."""
        with opened(self._path(i), self.name(i)) as image:
            width, height = image.size
            return (height, width) if exif_orientation(image) in _SIDEWAYS else (width, height)

    def load(self, i: int, at_least: tuple[int, int] | None = None) -> Image.Image:
        """The upright picture, mode RGB: see `decode`. Raises UndecodableImage."""
        return decode(self._path(i), at_least, name=self.name(i))

    def annotation(self, i: int) -> None:
        """None: a folder of pictures knows nothing of its instances."""

    def _path(self, i: int) -> str:
        return os.path.join(self.root, self.name(i))


def open_source(data: str) -> Source:
    """The source that the command line's `--data` names.

    "scenes", "scenes:N" or "scenes:N@SEED": N embedded synthetic scenes (1000 and seed 0 unless told). Anything else
    is a folder ("./scenes" for one of that name). Raises ValueError if malformed, and what ImageFolder raises.
    """
    if not re.match(r"scenes([:@]|$)", data):
        return ImageFolder(data)
    parts = re.fullmatch(r"scenes(?::([0-9]+)(?:@([0-9]+))?)?", data)
    n, seed = (int(parts[1] or 1000), int(parts[2] or 0)) if parts else (0, 0)
    if n == 0:
        forms = "'scenes', 'scenes:N' or 'scenes:N@SEED' with whole numbers N >= 1 and SEED >= 0"
        raise ValueError(f"{data!r} names no scenes: write {forms}")
    from plrc.data.scenes import Scenes  # only here: scenes are a source themselves, and import this module

    return Scenes(n=n, seed=seed)


def decode(
    file: str | bytes | os.PathLike[str] | BinaryIO, at_least: tuple[int, int] | None = None, *, name: str = ""
) -> Image.Image:
    """Decode a picture to what a person sees: RGB, upright, transparency on white; of an animation the first frame.

    `at_least=(w, h)`, in pixels of the upright frame, lets a JPEG be decoded at 1/2, 1/4 or 1/8 by the decoder itself,
    as long as both sides stay >= w and h. The result shows the same frame with pixels as areas, except that a side
    of n pixels at 1/s becomes ceil(n / s): where s does not divide n, the last row or column reaches beyond the frame,
    and coordinates in [0, 1] are off by less than one pixel of the result.

    EXIF orientation is read from the block before the pixels. Colour profiles are not applied; a CMYK JPEG is taken
    as Adobe writes it, ink inverted, whether it says so or not.
    Raises UndecodableImage(name, reason): missing, unreadable, empty, truncated, damaged, no image, or beyond Pillow's
    decompression bomb limit (about 179 million pixels).
    """
    with opened(file, name or (os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else "image")) as image:
        orientation = exif_orientation(image)
        if at_least is not None:
            width, height = at_least[::-1] if orientation in _SIDEWAYS else at_least
            image.draft(None, (max(width, 1), max(height, 1)))  # JPEG only; rounds the scale so that the size suffices
        image.load()  # before to_rgb looks at what loading may change or complete: mode and info
        rgb = to_rgb(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def to_rgb(image: Image.Image) -> Image.Image:
    """A copy in mode RGB, of the same size and without metadata, of an image in any of Pillow's modes but LAB and La.

    Transparency, also of a palette or of one key colour (but not in a PNG of 3 × 16 bits), is composited on white.
    16-bit grey (I;16 in each byte order, and I, which Pillow 10 gives for 16-bit PNG) is divided by 257, so that white
    stays white; I is clipped to [0, 65535] first. F, which has no range of its own, is taken as [0, 1] if no pixel is
    above 1, else as [0, 255] if none is above 255, else as [0, 65535]; negative and NaN pixels are black.
    """
    key = image.info.get("transparency")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = _eight_bits(values)
        if isinstance(key, int):
            grey[values == key] = 255
        rgb = Image.fromarray(grey).convert("RGB")
    elif image.mode in ("LA", "PA", "RGBA", "RGBa") or key is not None:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")  # a copy even if it is RGB already
    rgb.info = {}  # a caller who honours the EXIF orientation must not find it again on the upright picture
    return rgb


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey (H, W) of 16 or 32 bits -> (H, W) uint8; the ranges are in `to_rgb`."""
    if values.dtype.kind != "f":
        return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    values = np.nan_to_num(values, nan=0.0, posinf=65535.0)
    top = next((limit for limit in (1.0, 255.0) if values.max(initial=0.0) <= limit), 65535.0)
    return np.rint(np.clip(values / top, 0.0, 1.0) * 255).astype(np.uint8)


def exif_orientation(image: Image.Image) -> Hashable:
    """The EXIF orientation tag, of whatever type, as `Image.open` read it: `image.getexif()` would decode a PNG."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged block raises almost anything, and says nothing against the pixels
        return 1


@contextmanager
def opened(file: str | bytes | os.PathLike[str] | BinaryIO, name: str) -> Iterator[Image.Image]:
    """Open a picture, its header read; whatever goes wrong inside the `with` becomes an UndecodableImage."""
    try:
        with open(file, "rb") if isinstance(file, str | bytes | os.PathLike) else nullcontext(file) as stream:
            if stream.seek(0, os.SEEK_END) == 0:
                raise UndecodableImage(name, "the file is empty")
            yield Image.open(stream, formats=_FORMATS)
    except (UndecodableImage, MemoryError):  # memory runs out by chance, but every run must replace the same files
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage(name, "not a JPEG, PNG, WebP, GIF or BMP image, or its header is damaged") from error
    except Exception as error:  # decoders raise almost anything: SyntaxError, struct.error, zlib.error, IndexError, ...
        raise UndecodableImage(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Why a file cannot be decoded, as one clause without the names of Python's classes."""
    if getattr(error, "strerror", None):
        return f"it cannot be read ({error.strerror})"  # type: ignore[attr-defined]
    said = " ".join(str(error).split()).rstrip(".")
    if "truncated" in said:
        return f"it is truncated ({said})" if said != "image file is truncated" else "the image file is truncated"
    return f"its pixels cannot be decoded ({said or type(error).__name__})"
