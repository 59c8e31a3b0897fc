"""One image: decoded to upright RGB, or taken as Python has it; what turns with it where a file is stored turned."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from plrc.files import printable

# What a file may hold, whatever its suffix (ImageNet has a PNG named .JPEG), and the suffixes by which it is found.
# Not everything that Pillow knows: it would start Ghostscript for an EPS.
FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif .tiff",
}  # fmt: skip
if "avif" in features.modules and features.check("avif"):
    FORMATS["AVIF"] = ".avif"
SUFFIXES = tuple(" ".join(FORMATS.values()).split())

# EXIF orientation → what turns the stored image upright (1: nothing).
LONGEST = 8  # times the short side: longer pictures show a network little, and would need gigabytes
SIDEWAYS = (5, 6, 7, 8)  # width and height change places
_MIRRORED, _UPSIDE_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)  # after that
_T = Image.Transpose
_UPRIGHT = {
    2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE, 6: _T.ROTATE_270, 7: _T.TRANSVERSE, 8: _T.ROTATE_90,
}  # fmt: skip

# Damaged EXIF is common and harmless; an image between Pillow's warning limit (89 million pixels) and its error limit
# (twice that) is large, not hostile, and is decoded. Neither is worth a line per image and worker. Set once here:
# `warnings.catch_warnings` around each decode is not thread-safe and makes every other "once" warning appear again.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

File = str | bytes | os.PathLike[str] | BinaryIO
Size = tuple[int, int]  # width and height in pixels, of the upright frame
AtLeast = Size | Callable[[Size], Size] | None  # of a rendering; or what tells it from the image's size


class UndecodableImage(Exception):
    """A listed image that cannot be decoded. ``name``: the source's name of it; ``reason``: one clause."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both as args, so that it survives pickling on its way out of a worker
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.reason}"


def as_image(image: Any) -> Image.Image:
    """An image as Python has it, mode RGB.

    It is a path (decoded upright, see ``decode``); a PIL image (as it stands, transparency on white); a numpy array
    (H, W, 3) or (H, W); or a tensor (3, H, W), (1, H, W) or (H, W). Numbers are uint8, or float in [0, 1], which are
    rounded to 8 bits. Raises a ValueError if it is none of these, an UndecodableImage if a file cannot be decoded.
    """
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else to_rgb(image)
    if isinstance(image, str | os.PathLike):
        return decode(os.path.expanduser(image))
    if is_tensor := hasattr(image, "cpu"):
        image = image.detach().cpu()
        image = (image.float() if image.is_floating_point() else image).numpy()
    values = np.asarray(image)
    shown = f"one of shape {values.shape} and type {values.dtype}" if values.dtype != object else type(image).__name__
    if is_tensor and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
        values = values[..., 0] if values.shape[-1] == 1 else values
    is_image = (values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 3)) and values.size > 0
    if is_image and values.dtype.kind == "f":
        shown = f"values of {values.min():g} … {values.max():g} (divide by 255, or undo a normalisation)"
        is_image = values.min() >= 0 and values.max() <= 1
        values = np.rint(values * 255).astype(np.uint8) if is_image else values
    if not is_image or values.dtype != np.uint8:
        raise ValueError(
            "an image is a path, a PIL image, a numpy array (H, W, 3) or (H, W), or a tensor (3, H, W), of uint8 or of "
            f"float in [0, 1], not {shown}"
        )
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


def decode(file: File, at_least: AtLeast = None, *, name: str = "") -> Image.Image:
    """Decode an image to what a person sees: RGB, upright, transparency on white; of an animation the first frame.

    EXIF orientation is read from the block before the pixels. Colour profiles are not applied; a CMYK JPEG is taken
    as Adobe writes it, ink inverted, whether it says so or not. Raises an UndecodableImage if it is missing, empty,
    damaged, no image, or beyond Pillow's decompression bomb limit (about 179 million pixels).

    Args:
        at_least: (w, h), or what tells it once the image's size is known: a JPEG may be decoded at 1/2, 1/4 or 1/8 by
            the decoder itself, as long as both sides stay >= w and h. The result shows the same frame with pixels as
            areas, except that a side of n pixels at 1/s becomes ceil(n / s): where s does not divide n, the last row or
            column reaches beyond the frame, and coordinates in [0, 1] are off by less than one pixel of the result.
        name: for the error; the file's if not given.
    """
    with opened(file, name) as image:
        orientation = exif_orientation(image)
        if at_least is not None:
            needed = at_least(upright_size(image.size, orientation)) if callable(at_least) else at_least
            width, height = upright_size(needed, orientation)
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
        if image.mode == "F":
            values = np.nan_to_num(values, nan=0.0, posinf=65535.0)
            top = next((limit for limit in (1.0, 255.0) if values.max(initial=0.0) <= limit), 65535.0)
            grey = np.rint(np.clip(values / top, 0.0, 1.0) * 255).astype(np.uint8)
        else:
            grey = ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
        if isinstance(key, int):
            grey[values == key] = 255
        rgb = Image.fromarray(grey).convert("RGB")
    elif image.mode in ("LA", "PA", "RGBA", "RGBa") or key is not None:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    else:
        rgb = image.convert("RGB")  # a copy even if it is RGB already
    rgb.info = {}  # a caller who honours the EXIF orientation must not find it again on the upright image
    return rgb


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 … 8, as `Image.open` read it: `image.getexif()` would decode a PNG."""
    exif = Image.Exif()
    with suppress(Exception):  # a damaged block raises almost anything, and says nothing against the pixels
        exif.load(image.info.get("exif", b""))
        return next(n for n in range(1, 9) if n == exif.get(ExifTags.Base.Orientation))
    return 1


# Not the file's fault, and gone the next time: another image in its place would make a run that cannot be repeated.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)


@contextmanager
def opened(file: File, name: str = "") -> Iterator[Image.Image]:
    """Open an image, its header read; what goes wrong inside the `with`, unless it passes, is an UndecodableImage."""
    named = isinstance(file, str | bytes | os.PathLike)
    name = name or (os.fsdecode(file) if named else "image")  # type: ignore[arg-type]
    try:
        with open(file, "rb", opener=_at_once) if named else nullcontext(file) as stream:  # type: ignore[arg-type]
            if stream.seek(0, os.SEEK_END) == 0:  # type: ignore[union-attr]
                raise UndecodableImage(name, "the file is empty")
            yield Image.open(stream, formats=tuple(FORMATS))
    except (UndecodableImage, MemoryError):  # memory runs out by chance, but every run must replace the same files
        raise
    except UnidentifiedImageError as error:
        kinds = " or ".join(", ".join(FORMATS).replace("WEBP", "WebP").rsplit(", ", 1))
        raise UndecodableImage(name, f"not a {kinds} image, or its header is damaged") from error
    except Exception as error:  # decoders raise almost anything: SyntaxError, struct.error, zlib.error, IndexError, ...
        if isinstance(error, OSError) and error.errno in _PASSING:
            raise
        said = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".") or "its pixels are damaged"
        raise UndecodableImage(name, f"it cannot be decoded ({said})") from error


def _at_once(path: str, flags: int) -> int:
    """Opens a named pipe too without waiting for who writes into it; it is no image."""
    return os.open(path, flags | os.O_NONBLOCK)


# A photo with an EXIF orientation has two frames, that of the stored pixels and the upright one. Which of the two an
# annotation means is told by the size written beside it. Where both fit (a square image, one upside down) the stored
# pixels are meant, as COCO's and PASCAL VOC's tools saw them.


def stored_frame(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) of the stored pixels, and the EXIF orientation 1 … 8. Raises UndecodableImage."""
    with opened(path) as image:
        return image.size, exif_orientation(image)


def turn_needed(path: Path, annotated_size: tuple[int, int], source: str) -> int:
    """The orientation by which an annotation, ``source``, is to be turned; 1, not at all, if it is of the upright one.

    Raises a ValueError if its size, (width, height), is neither that of the stored pixels nor of the upright image.
    """
    stored, orientation = stored_frame(path)
    if annotated_size not in (stored, upright_size(stored, orientation)):
        sizes = "is of {} × {} pixels and {} has {} × {}".format(*annotated_size, path, *stored)
        raise ValueError(f"{source} {sizes}: use the image that was annotated, or correct the annotation")
    return orientation if annotated_size == stored else 1


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of the upright image, of the stored one's."""
    return (size[1], size[0]) if orientation in SIDEWAYS else size


def upright_points(points: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Points ``(..., 2)`` in pixels of the stored frame, ``size`` = (width, height), in pixels of the upright one."""
    turned = points[..., ::-1] if orientation in SIDEWAYS else points
    mirrored = [orientation in _MIRRORED, orientation in _UPSIDE_DOWN]
    return np.where(mirrored, np.array(upright_size(size, orientation)) - turned, turned)


def upright_boxes(boxes: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Boxes ``(n, 4)``, x0, y0, x1, y1, in pixels of the stored frame, in pixels of the upright one, clipped to it."""
    corners = upright_points(boxes.clip(0, np.array(size * 2)).reshape(-1, 2, 2), size, orientation)
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def upright_masks(masks: np.ndarray, orientation: int) -> np.ndarray:
    """Masks ``(n, H, W)`` of the stored pixels over the upright image."""
    turned = masks.swapaxes(1, 2) if orientation in SIDEWAYS else masks
    down, right = (-1 if orientation in flipped else 1 for flipped in (_UPSIDE_DOWN, _MIRRORED))
    return np.ascontiguousarray(turned[:, ::down, ::right])


def boxes_of(masks: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Bounding boxes ``(n, 4)`` of masks ``(n, H, W)``, none of them empty, in the image frame."""
    spans: Any = masks.any(axis=1), masks.any(axis=2)  # columns and rows
    low = [shown.argmax(axis=1) / shown.shape[1] for shown in spans]
    high = [(shown.shape[1] - shown[:, ::-1].argmax(axis=1)) / shown.shape[1] for shown in spans]
    return np.stack((*low, *high), axis=1).astype(dtype)


def spread(n: int, most: int | None) -> list[int]:
    """At most so many of 0 … n − 1, evenly spread."""
    return list(range(n)) if most is None or n <= most else [i * n // most for i in range(most)]
