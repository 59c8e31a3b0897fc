"""One image: every stored form comes out as the RGB that a person sees, or is named as undecodable; arrays too."""

import errno
import io
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from plrc.data.images import (
    FORMATS,
    UndecodableImage,
    as_image,
    decode,
    to_rgb,
    upright_boxes,
    upright_masks,
    upright_points,
    upright_size,
)
from plrc.data.sources import ImageFolder
from tests.hostile import chunk
from tests.sets import noise, placed, ramp

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
ROOT = Path(__file__).resolve().parents[2]
HALF_RED = (255, 127, 127)  # red at alpha 128 / 255 on white


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    """Rows of RGB tuples; also asserts what holds of every decoded image."""
    assert image.mode == "RGB"
    assert not {"exif", "transparency"} & set(image.info)
    return [[tuple(int(value) for value in pixel) for pixel in row] for row in np.asarray(image)]


def stored(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    """The image as a file of that kind, in memory."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def row(mode: str, *values: object) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


def png(depth: int, colour: int, samples: list, transparent: bytes = b"") -> io.BytesIO:
    """A PNG of one row written here, for what Pillow cannot write. ``samples``: (w, channels)."""
    values = np.array(samples).astype(">u2" if depth == 16 else ">u1").tobytes()
    header = struct.pack(">IIBBBBB", len(samples), 1, depth, colour, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": transparent, b"IDAT": zlib.compress(b"\0" + values), b"IEND": b""}
    written = [chunk(kind, data) for kind, data in chunks.items() if data or kind == b"IEND"]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(written))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_found_by_its_suffixes(kind, tmp_path):
    full = {"quality": 100, "subsampling": "4:4:4"}
    exact = {"WEBP": {"lossless": True}, "JPEG": full, "AVIF": full}
    image = Image.fromarray(np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)).resize((32, 32), 0)
    data = stored(image, kind, **exact.get(kind, {})).getvalue()
    for suffix in FORMATS[kind].split():
        (tmp_path / f"a{suffix.upper()}").write_bytes(data)
    folder = ImageFolder(tmp_path)
    assert len(folder) == len(FORMATS[kind].split())
    far = np.abs(np.asarray(folder.load(0)).astype(int) - np.asarray(image)).max()
    assert far <= (0 if kind not in ("JPEG", "AVIF") else 12)


PALETTE = row("P", 0, 1, 2)
PALETTE.putpalette([*RED, *GREEN, *BLUE])
REDS = row("RGBA", (*RED, 255), (*RED, 128), (*RED, 0))
SEEN = {
    "one bit": (stored(row("1", 0, 255), "PNG"), [BLACK, WHITE]),
    # 257 v is exactly v of 8 bits.
    "16-bit grey": (png(16, 0, [[0], [257], [32896], [65535]]), [BLACK, (1,) * 3, (128,) * 3, WHITE]),
    "16-bit grey, a key": (png(16, 0, [[1000], [1001]], struct.pack(">H", 1000)), [WHITE, (4,) * 3]),
    "16-bit colour": (png(16, 2, [[0, 65535, 51400], [257, 514, 771]]), [(0, 255, 200), (1, 2, 3)]),
    "16-bit alpha": (png(16, 6, [[257, 514, 771, 65535], [257, 514, 771, 0]]), [(1, 2, 3), WHITE]),
    "alpha": (stored(REDS, "PNG"), [RED, HALF_RED, WHITE]),
    "alpha, WebP": (stored(REDS, "WEBP", lossless=True, exact=True), [RED, HALF_RED, WHITE]),
    "grey, alpha": (stored(row("LA", (0, 255), (0, 128), (0, 0)), "PNG"), [BLACK, (127,) * 3, WHITE]),
    "palette": (stored(PALETTE, "PNG"), [RED, GREEN, BLUE]),
    "palette, an entry": (stored(PALETTE, "PNG", transparency=1), [RED, WHITE, BLUE]),
    "palette, alpha": (stored(PALETTE, "PNG", transparency=bytes([128, 255, 0])), [HALF_RED, GREEN, WHITE]),
    "key colour": (stored(row("RGB", RED, BLACK), "PNG", transparency=RED), [WHITE, BLACK]),
    "key grey": (stored(row("L", 76, 0), "PNG", transparency=76), [WHITE, BLACK]),
    "16-bit TIFF": (stored(Image.fromarray(np.array([[0, 25700]], np.uint16)), "TIFF"), [BLACK, (100,) * 3]),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_is_stored_comes_out_as_it_is_seen(case):
    file, expected = SEEN[case]
    assert pixels(decode(file)) == [expected]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.frombytes("I;16", (3, 1), np.array([128, 129, 65535], "<u2").tobytes()), [0, 1, 255]),
        (Image.frombytes("I;16B", (3, 1), np.array([128, 129, 65535], ">u2").tobytes()), [0, 1, 255]),
        (Image.fromarray(np.array([[-5, 25700, 2**20]], np.int32)), [0, 100, 255]),
        (Image.fromarray(np.array([[0.0, 0.5, 1.0, -1.0]], np.float32)), [0, 128, 255, 0]),
        (Image.fromarray(np.array([[0.0, 7.0, 255.0, np.nan]], np.float32)), [0, 7, 255, 0]),
        (Image.fromarray(np.array([[0.0, 257.0, 65535.0, np.inf]], np.float32)), [0, 1, 255, 255]),
    ],
    ids=["I;16", "I;16B", "I", "F to 1", "F to 255", "F to 65535"],
)
def test_wide_modes_take_their_usual_range(image, expected):
    assert pixels(to_rgb(image)) == [[(grey,) * 3 for grey in expected]]


def test_palette_with_alpha_channel_is_composited_on_white():
    image = PALETTE.convert("PA")
    image.putalpha(Image.frombytes("L", (3, 1), bytes([128, 255, 0])))
    assert pixels(to_rgb(image)) == [[HALF_RED, GREEN, WHITE]]


@pytest.mark.parametrize("marker", [True, False], ids=["Adobe's marker", "no marker"])
def test_cmyk_jpeg(marker):
    ink = (255, 0, 0, 55)  # full cyan, some black: (0, 200, 200) in RGB
    data = stored(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100).getvalue()
    if not marker:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    image = Image.open(io.BytesIO(data))
    assert (image.mode, "adobe" in image.info) == ("CMYK", marker)
    assert np.abs(np.asarray(decode(io.BytesIO(data))).astype(int) - (0, 200, 200)).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_first_frame_of_several(kind, options):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    more = {} if kind == "TIFF" else {"duration": 100}
    file = stored(frames[0], kind, save_all=True, append_images=frames[1:], **more, **options)
    assert getattr(Image.open(file), "n_frames", 1) == 3
    assert pixels(decode(file)) == [[RED] * 4] * 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind, tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        file = stored(ramp(48, 32), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        (tmp_path / "a.jpg").write_bytes(file.getvalue())
        folder, expected = ImageFolder(tmp_path), ImageOps.exif_transpose(Image.open(file))
        upright = folder.load(0)
        assert folder.size(0) == upright.size == expected.size == ((32, 48) if orientation >= 5 else (48, 32))
        np.testing.assert_array_equal(upright, expected)
        assert "exif" not in upright.info  # or a caller would turn it once more
        assert upright.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_boxes_and_points_turn_with_the_image(orientation):
    """Pillow turns the mask of a block as it turns an image; box and points must follow."""
    W, H = 40, 30
    stored = np.zeros((1, H, W), dtype=bool)
    stored[0, 5:15, 4:24] = True
    image = Image.fromarray(stored[0].astype(np.uint8))
    image.getexif()[ExifTags.Base.Orientation] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image)) > 0
    np.testing.assert_array_equal(upright_masks(stored, orientation)[0], expected)
    assert upright_size((W, H), orientation) == expected.shape[::-1]
    ys, xs = np.nonzero(expected)
    around = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
    np.testing.assert_array_equal(upright_boxes(np.array([[4.0, 5, 24, 15]]), (W, H), orientation), around)
    stored[0] = False
    stored[0, 5, 4] = True
    (y,), (x,) = np.nonzero(upright_masks(stored, orientation)[0])
    np.testing.assert_array_equal(upright_points(np.array([4.5, 5.5]), (W, H), orientation), [x + 0.5, y + 0.5])


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        ((161, 10), (320, 192)),
        ((160, 96), (160, 96)),
        ((10, 60), (160, 96)),
        ((0, 0), (40, 24)),
        ((999, 9), (320, 192)),
    ],
)
def test_reduced_jpeg_is_at_least_as_large_as_asked_in_the_upright_frame(at_least, size):
    assert decode(stored(ramp(320, 192), "JPEG"), at_least).size == size
    assert decode(stored(ramp(320, 192), "PNG"), at_least).size == (320, 192)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode(stored(ramp(320, 192), "JPEG", exif=exif), at_least[::-1]).size == size[::-1]


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduced_jpeg_shows_the_same_frame(scale):
    file = stored(ramp(320, 192), "JPEG", quality=95)
    full = np.asarray(decode(file)).astype(float)
    boxes = full.reshape(192 // scale, scale, 320 // scale, scale, 3).mean(axis=(1, 3))
    reduced = np.asarray(decode(file, (320 // scale, 192 // scale)))
    assert reduced.shape == boxes.shape
    assert np.abs(reduced - boxes).max() <= 3  # one pixel of the reduced ramp is 0.8 to 10 grey levels
    assert np.abs(reduced - boxes).mean(axis=(0, 1)).max() <= 0.7
    uneven = decode(stored(ramp(323, 197), "JPEG"), (323 // scale, 197 // scale))
    assert uneven.size == (-(-323 // scale), -(-197 // scale)), "rounded up"


def noisy(kind: str, **options: object) -> bytes:
    return stored(noise(64, 64), kind, **options).getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 Not Found</html>", "not a JPEG, PNG, WebP, GIF, BMP, TIFF"),
        (noisy("PNG")[:20], ""),
        (noisy("JPEG")[:-1500], "truncated"),
        (noisy("JPEG", progressive=True)[:-1500], "truncated"),
        (noisy("PNG")[:-2000], "truncated"),
        (noisy("WEBP")[:-500], ""),
        (noisy("PNG").replace(b"IDAT", b"IDAT\xff", 1), ""),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\n%%EOF\n", "not a JPEG"),
    ],
    ids=["empty", "text", "header", "jpeg", "progressive", "png", "webp", "a wrong byte", "postscript"],
)
def test_damaged_file_is_named(data, reason, tmp_path):
    placed(tmp_path / "class" / "bad.jpg").write_bytes(data)
    folder = ImageFolder(tmp_path)
    with pytest.raises(UndecodableImage) as caught:
        folder.load(0)
    assert caught.value.name == folder.name(0) == "class/bad.jpg"
    assert reason in caught.value.reason
    assert len(caught.value.reason) > 5
    assert str(caught.value).startswith("class/bad.jpg: ")
    assert "object at 0x" not in str(caught.value)  # the same words on every run
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # on its way out of a worker
    assert not re.search(r"Error\b", str(caught.value))  # no name of a class of Python's


def test_size_reads_only_the_header(tmp_path):
    for kind in ("JPEG", "PNG"):  # the pixels are not there at all, and nobody notices
        (tmp_path / "a.jpg").write_bytes(noisy(kind)[:700])
        assert ImageFolder(tmp_path).size(0) == (64, 64)
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(UndecodableImage, match=r"a\.jpg"):
        ImageFolder(tmp_path).size(0)


def test_what_the_system_refuses_is_said(tmp_path, monkeypatch):
    def failing(error: BaseException) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    with pytest.raises(UndecodableImage, match=r"gone\.jpg: .*No such file"):
        decode(tmp_path / "gone.jpg")
    monkeypatch.setattr(Image, "open", failing(PermissionError(13, "Permission denied", "a.jpg")))
    with pytest.raises(UndecodableImage, match=r"image: .*Permission denied"):
        decode(io.BytesIO(b"x"))
    for error in (MemoryError(), OSError(errno.EMFILE, "Too many open files")):  # which is no fault of the file
        monkeypatch.setattr(Image, "open", failing(error))
        with pytest.raises(type(error)):
            decode(io.BytesIO(b"x"))


@pytest.mark.filterwarnings("ignore")  # pytest's own filter comes before the module's; the next test is about that
def test_decompression_bomb(monkeypatch):
    file = stored(Image.new("RGB", (15, 10), RED), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 74)  # its error limit is twice that, 148 < 150 pixels
    with pytest.raises(UndecodableImage, match="bomb"):
        decode(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 75)
    assert decode(file).size == (15, 10)  # large, and no bomb


def test_no_warnings_on_damaged_exif_and_large_images(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # five entries promised, one there
    Image.new("RGB", (20, 10), RED).save(tmp_path / "a.jpg", exif=exif)
    ours = "from plrc.data.sources import ImageFolder; print(ImageFolder(sys.argv[1]).load(0).size)"
    plain = "from PIL import ImageOps; print(ImageOps.exif_transpose(Image.open(sys.argv[1] + '/a.jpg')).size)"
    warned = []
    for script in (ours, plain):  # without the plain one this test would prove nothing
        command = f"import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = 100; {script}"
        run = subprocess.run([sys.executable, "-c", command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
        assert run.stdout == "(10, 20)\n"
        warned.append(run.stderr)
    assert warned[0] == ""
    assert all(warning in warned[1] for warning in ("Corrupt EXIF", "DecompressionBombWarning"))


COLOURS = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (1, 2, 3)]], np.uint8)
CHANNELS_FIRST = torch.from_numpy(COLOURS.copy()).permute(2, 0, 1)


def test_an_image_is_taken_as_python_has_it(tmp_path, monkeypatch):
    pil, floats = Image.fromarray(COLOURS), CHANNELS_FIRST / 255
    pil.save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = (tmp_path / "a.png", str(tmp_path / "a.png"), "~/a.png")
    arrays = (
        COLOURS,
        COLOURS[:, ::-1][:, ::-1],
        COLOURS / 255,
        CHANNELS_FIRST,
        floats.requires_grad_(),
        floats.double(),
    )
    for image in (pil, pil.convert("RGBA"), *arrays, *paths):
        assert as_image(image).mode == "RGB"
        assert np.array_equal(as_image(image), COLOURS)
    for grey in (COLOURS[..., 0], torch.from_numpy(COLOURS[..., 0].copy()), CHANNELS_FIRST[:1]):
        assert np.array_equal(as_image(grey), np.repeat(COLOURS[..., :1], 3, axis=2))
    with pytest.raises(UndecodableImage, match=r"b\.png: .*No such file"):
        as_image(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"an image is a path, .* not one of shape \(3, 4, 5\) and type u"),
        (torch.zeros(4, 5, 3), r"not one of shape \(4, 5, 3\) and type float32"),
        (torch.zeros(2, 3, 4, 5), r"not one of shape \(2, 3, 4, 5\)"),
        (np.zeros((4, 5, 3), np.int64), "type int64"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (None, "not NoneType"),
        (COLOURS / 100, r"in \[0, 1\], not values of 0 … 2\.55 \(divide by 255, or undo"),
        (np.full((4, 5, 3), np.nan), "not values of nan"),
    ],
)
def test_what_is_no_image_is_said_in_one_sentence(image, message):
    with pytest.raises(ValueError, match=message):
        as_image(image)
