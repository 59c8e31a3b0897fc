"""One image: every stored form comes out as the RGB that a person sees, or is named as undecodable; arrays too."""

from __future__ import annotations

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

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
HALF_RED = (255, 127, 127)  # red at alpha 128 / 255 on white


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    """Rows of RGB tuples; also asserts what holds of every decoded image."""
    assert image.mode == "RGB"
    assert not {"exif", "transparency"} & set(image.info)
    return [[tuple(int(value) for value in pixel) for pixel in row] for row in np.asarray(image)]


def greys(image: Image.Image) -> list[int]:
    return [pixel[0] for pixel in pixels(image)[0]]


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

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    values = np.array(samples).astype(">u2" if depth == 16 else ">u1").tobytes()
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(samples), 1, depth, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + values))
        + chunk(b"IEND", b"")
    )


# ------------------------------------------------------------------------------------------------- what a person sees


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_found_by_its_suffixes(kind: str, tmp_path: Path) -> None:
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
SEEN: dict[str, tuple[Callable[[], io.BytesIO], list[tuple[int, ...]]]] = {
    "one bit": (lambda: stored(row("1", 0, 255), "PNG"), [BLACK, WHITE]),
    # 257 v is exactly v of 8 bits.
    "16-bit grey": (lambda: png(16, 0, [[0], [257], [32896], [65535]]), [BLACK, (1,) * 3, (128,) * 3, WHITE]),
    "16-bit grey, a key": (lambda: png(16, 0, [[1000], [1001]], struct.pack(">H", 1000)), [WHITE, (4,) * 3]),
    "16-bit colour": (lambda: png(16, 2, [[0, 65535, 51400], [257, 514, 771]]), [(0, 255, 200), (1, 2, 3)]),
    "16-bit alpha": (lambda: png(16, 6, [[257, 514, 771, 65535], [257, 514, 771, 0]]), [(1, 2, 3), WHITE]),
    "alpha": (lambda: stored(row("RGBA", (*RED, 255), (*RED, 128), (*RED, 0)), "PNG"), [RED, HALF_RED, WHITE]),
    "alpha, WebP": (
        lambda: stored(row("RGBA", (*RED, 255), (*RED, 128), (*RED, 0)), "WEBP", lossless=True, exact=True),
        [RED, HALF_RED, WHITE],
    ),
    "grey, alpha": (lambda: stored(row("LA", (0, 255), (0, 128), (0, 0)), "PNG"), [BLACK, (127,) * 3, WHITE]),
    "palette": (lambda: stored(PALETTE, "PNG"), [RED, GREEN, BLUE]),
    "palette, an entry": (lambda: stored(PALETTE, "PNG", transparency=1), [RED, WHITE, BLUE]),
    "palette, alpha": (
        lambda: stored(PALETTE, "PNG", transparency=bytes([128, 255, 0])),
        [HALF_RED, GREEN, WHITE],
    ),
    "key colour": (lambda: stored(row("RGB", RED, BLACK), "PNG", transparency=RED), [WHITE, BLACK]),
    "key grey": (lambda: stored(row("L", 76, 0), "PNG", transparency=76), [WHITE, BLACK]),
    "16-bit TIFF": (lambda: stored(Image.fromarray(np.array([[0, 25700]], np.uint16)), "TIFF"), [BLACK, (100,) * 3]),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_is_stored_comes_out_as_it_is_seen(case: str) -> None:
    make, expected = SEEN[case]
    assert pixels(decode(make())) == [expected]


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
def test_wide_modes_take_their_usual_range(image: Image.Image, expected: list[int]) -> None:
    assert greys(to_rgb(image)) == expected


def test_palette_with_alpha_channel_is_composited_on_white() -> None:
    image = PALETTE.convert("PA")
    image.putalpha(Image.frombytes("L", (3, 1), bytes([128, 255, 0])))
    assert pixels(to_rgb(image)) == [[HALF_RED, GREEN, WHITE]]


@pytest.mark.parametrize("marker", [True, False], ids=["Adobe's marker", "no marker"])
def test_cmyk_jpeg(marker: bool) -> None:
    ink = (255, 0, 0, 55)  # full cyan, some black: (0, 200, 200) in RGB
    data = stored(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100).getvalue()
    if not marker:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    image = Image.open(io.BytesIO(data))
    assert (image.mode, "adobe" in image.info) == ("CMYK", marker)
    assert np.abs(np.asarray(decode(io.BytesIO(data))).astype(int) - (0, 200, 200)).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_first_frame_of_several(kind: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    more = {} if kind == "TIFF" else {"duration": 100}
    file = stored(frames[0], kind, save_all=True, append_images=frames[1:], **more, **options)
    assert getattr(Image.open(file), "n_frames", 1) == 3
    assert pixels(decode(file)) == [[RED] * 4] * 4


# --------------------------------------------------------------------------------------------------- stored and upright

# Where the corners of the upright image (red, green / blue, white: top left, top right / bottom left, bottom right)
# stand in the file, by the definition of the tag: what its row 0 and its column 0 are in the upright image.
STORED_CORNERS = {
    1: [[RED, GREEN], [BLUE, WHITE]],  # row 0 is the top, column 0 the left
    2: [[GREEN, RED], [WHITE, BLUE]],  # top, right
    3: [[WHITE, BLUE], [GREEN, RED]],  # bottom, right
    4: [[BLUE, WHITE], [RED, GREEN]],  # bottom, left
    5: [[RED, BLUE], [GREEN, WHITE]],  # left, top
    6: [[GREEN, WHITE], [RED, BLUE]],  # right, top
    7: [[WHITE, GREEN], [BLUE, RED]],  # right, bottom
    8: [[BLUE, RED], [WHITE, GREEN]],  # left, bottom
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int, tmp_path: Path) -> None:
    corners = Image.fromarray(np.array(STORED_CORNERS[orientation], np.uint8))
    width, height = (32, 48) if orientation >= 5 else (48, 32)  # upright it is 48 wide
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    file = stored(corners.resize((width, height), Image.Resampling.NEAREST), kind, exif=exif, **options)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    folder = ImageFolder(tmp_path)
    upright = folder.load(0)
    assert folder.size(0) == upright.size == (48, 32)
    seen = np.asarray(upright)[[4, 4, -4, -4], [4, -4, 4, -4]].astype(int)
    assert np.abs(seen - [RED, GREEN, BLUE, WHITE]).max() <= (8 if kind == "JPEG" else 0)
    assert "exif" not in upright.info  # or a caller would turn it once more
    assert upright.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_boxes_and_points_turn_with_the_image(orientation: int) -> None:
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


# --------------------------------------------------------------------------------------------------- reduced decoding


def ramp(width: int, height: int) -> Image.Image:
    """Red grows with x, green with y, so that a shift of the frame shows."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray(np.stack([255 * x, 255 * y, np.full_like(x, 90)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        ((320, 192), (320, 192)),
        ((161, 10), (320, 192)),
        ((160, 96), (160, 96)),
        ((10, 60), (160, 96)),
        ((80, 48), (80, 48)),
        ((0, 0), (40, 24)),
        ((999, 999), (320, 192)),
    ],
)
def test_reduced_jpeg_is_at_least_as_large_as_asked(at_least: tuple[int, int], size: tuple[int, int]) -> None:
    assert decode(stored(ramp(320, 192), "JPEG"), at_least).size == size
    assert decode(stored(ramp(320, 192), "PNG"), at_least).size == (320, 192)


@pytest.mark.parametrize("orientation", [1, 6])
def test_at_least_is_meant_in_the_upright_frame(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = stored(ramp(320, 192), "JPEG", exif=exif)
    wide, tall = (decode(file, at_least=at_least).size for at_least in ((160, 50), (50, 160)))
    # 192 / 160 rounds down to 1: the shorter side must not be reduced below what is asked of it.
    assert (wide, tall) == (((160, 96), (320, 192)) if orientation == 1 else ((192, 320), (96, 160)))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduced_jpeg_shows_the_same_frame(scale: int) -> None:
    file = stored(ramp(320, 192), "JPEG", quality=95)
    full = np.asarray(decode(file)).astype(float)
    boxes = full.reshape(192 // scale, scale, 320 // scale, scale, 3).mean(axis=(1, 3))
    reduced = np.asarray(decode(file, (320 // scale, 192 // scale)))
    assert reduced.shape == boxes.shape
    assert np.abs(reduced - boxes).max() <= 3  # one pixel of the reduced ramp is 0.8 to 10 grey levels
    assert np.abs(reduced - boxes).mean(axis=(0, 1)).max() <= 0.7


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_reduced_side_that_does_not_divide_is_rounded_up(scale: int) -> None:
    width, height = 323, 197
    reduced = decode(stored(ramp(width, height), "JPEG", quality=95), (width // scale, height // scale))
    assert reduced.size == (-(-width // scale), -(-height // scale))
    # Pixel j covers scale pixels of the file, so its place is known exactly; the claim is that reading it as
    # (j + 0.5) / reduced width is off by less than one of its pixels.
    columns = np.arange(reduced.width - 1)
    true = (columns + 0.5) * scale / width
    red = np.asarray(reduced)[:, :-1, 0].mean(axis=0) / 255
    assert np.abs(red - true).max() < 0.012
    assert (np.abs((columns + 0.5) / reduced.width - true) < 1 / reduced.width).all()


# ------------------------------------------------------------------------------------------------ what cannot be read


def noise(kind: str, **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return stored(Image.fromarray(values), kind, **options).getvalue()


DAMAGED = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"<html>404 Not Found</html>", "not a JPEG, PNG, WebP, GIF, BMP, TIFF"),
    "header cut": (lambda: noise("PNG")[:20], ""),
    "jpeg cut": (lambda: noise("JPEG")[:-1500], "truncated"),
    "progressive jpeg cut": (lambda: noise("JPEG", progressive=True)[:-1500], "truncated"),
    "png cut": (lambda: noise("PNG")[:-2000], "truncated"),
    "webp cut": (lambda: noise("WEBP")[:-500], ""),
    "png with a wrong byte": (lambda: noise("PNG").replace(b"IDAT", b"IDAT\xff", 1), ""),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\n%%EOF\n", "not a JPEG"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_file_is_named(case: str, tmp_path: Path) -> None:
    make, reason = DAMAGED[case]
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "bad.jpg").write_bytes(make())
    folder = ImageFolder(tmp_path)
    with pytest.raises(UndecodableImage) as caught:
        folder.load(0)
    assert caught.value.name == folder.name(0) == "class/bad.jpg"
    assert reason in caught.value.reason
    assert len(caught.value.reason) > 5
    assert str(caught.value).startswith("class/bad.jpg: ")
    assert "object at 0x" not in str(caught.value)  # the same words on every run
    assert not re.search(r"Error\b", str(caught.value))  # no name of a class of Python's


def test_size_reads_only_the_header(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):  # the pixels are not there at all, and nobody notices
        (tmp_path / f"{kind}.jpg").write_bytes(noise(kind)[:700])
    (tmp_path / "bad.png").write_bytes(b"no")
    folder = ImageFolder(tmp_path)
    assert [folder.size(0), folder.size(1)] == [(64, 64), (64, 64)]
    with pytest.raises(UndecodableImage, match=r"bad\.png"):
        folder.size(2)


def test_what_the_system_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: BaseException) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise error

        return fail

    with pytest.raises(UndecodableImage, match=r"gone\.jpg: .*No such file"):
        decode(tmp_path / "gone.jpg")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", failing(PermissionError(13, "Permission denied", "a.jpg")))
        with pytest.raises(UndecodableImage, match=r"a\.jpg: .*Permission denied"):
            decode("a.jpg")
    monkeypatch.setattr(Image, "open", failing(MemoryError()))  # which is no fault of the file
    with pytest.raises(MemoryError):
        decode(io.BytesIO(b"x"))


@pytest.mark.filterwarnings("ignore")  # pytest's own filter comes before the module's; the next test is about that
def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    file = stored(Image.new("RGB", (15, 10), RED), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 74)  # its error limit is twice that, 148 < 150 pixels
    with pytest.raises(UndecodableImage, match="bomb"):
        decode(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 75)
    assert decode(file).size == (15, 10)  # large, and no bomb


def test_no_warnings_on_damaged_exif_and_large_images(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # five entries promised, one there
    Image.new("RGB", (20, 10), RED).save(tmp_path / "a.jpg", exif=exif)
    ours = "from plrc.data.sources import ImageFolder; print(ImageFolder(sys.argv[1]).load(0).size)"
    plain = "from PIL import ImageOps; print(ImageOps.exif_transpose(Image.open(sys.argv[1] + '/a.jpg')).size)"

    def warned(script: str) -> str:
        command = f"import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = 100; {script}"
        root = Path(__file__).resolve().parents[2]
        run = subprocess.run(
            [sys.executable, "-c", command, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True
        )
        assert run.stdout == "(10, 20)\n"
        return run.stderr

    assert "Corrupt EXIF" in (loud := warned(plain))  # else this test would prove nothing
    assert "DecompressionBombWarning" in loud
    assert warned(ours) == ""


def test_error_survives_its_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(UndecodableImage("a\udcff.jpg", "truncated")))
    assert (error.name, error.reason) == ("a\udcff.jpg", "truncated")
    assert str(error).encode("utf-8") == rb"a\udcff.jpg: truncated"


# ------------------------------------------------------------------------------------------------- as Python has it

COLOURS = np.array([[RED, GREEN, BLUE], [WHITE, BLACK, (1, 2, 3)]], np.uint8)
CHANNELS_FIRST = torch.from_numpy(COLOURS.copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(COLOURS),
        Image.fromarray(COLOURS).convert("RGBA"),
        COLOURS,
        COLOURS[:, ::-1][:, ::-1],
        COLOURS / 255,
        CHANNELS_FIRST,
        (CHANNELS_FIRST / 255).requires_grad_(),
        (CHANNELS_FIRST / 255).double(),
    ],
    ids=["PIL", "RGBA", "numpy", "numpy view", "numpy float", "tensor", "float tensor", "double tensor"],
)
def test_an_image_is_taken_as_python_has_it(image: object) -> None:
    assert np.array_equal(as_image(image), COLOURS)
    assert as_image(image).mode == "RGB"


def test_an_image_is_a_path_or_grey_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "a.png", str(tmp_path / "a.png"), "~/a.png"):
        assert np.array_equal(as_image(path), COLOURS)
    for grey in (COLOURS[..., 0], torch.from_numpy(COLOURS[..., 0].copy()), CHANNELS_FIRST[:1]):
        assert np.array_equal(as_image(grey), np.repeat(COLOURS[..., :1], 3, axis=2))
    with pytest.raises(UndecodableImage, match=r"b\.png: .*No such file"):
        as_image(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((3, 4, 5), np.uint8),
            r"an image is a path, .* not one of shape \(3, 4, 5\) and type u",
        ),
        (torch.zeros(4, 5, 3), r"not one of shape \(4, 5, 3\) and type float32"),
        (torch.zeros(2, 3, 4, 5), r"not one of shape \(2, 3, 4, 5\)"),
        (np.zeros((4, 5, 3), np.int64), "type int64"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
        (None, "not NoneType"),
        (COLOURS / 100, r"in \[0, 1\], not 0 … 2\.55: undo the normalisation"),
        (np.full((4, 5, 3), np.nan), "not nan"),
    ],
)
def test_what_is_no_image_is_said_in_one_sentence(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_image(image)
