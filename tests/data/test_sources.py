"""Pictures from disk: every stored form comes out as the RGB picture that a person sees, or is named as undecodable."""

from __future__ import annotations

import io
import logging
import os
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
from PIL import ExifTags, Image

from plrc.data.images import UndecodableImage, decode, to_rgb
from plrc.data.sources import ImageFolder, open_source

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def pixels(image: Image.Image) -> list[list[tuple[int, ...]]]:
    """Rows of RGB tuples; also asserts what holds of every decoded picture."""
    assert image.mode == "RGB"
    assert "exif" not in image.info
    assert "transparency" not in image.info
    return [[tuple(int(value) for value in pixel) for pixel in row] for row in np.asarray(image)]


def stored(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    """The image as a file of that kind, in memory."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def png(depth: int, colour: int, samples: np.ndarray, transparent: bytes = b"") -> io.BytesIO:
    """A PNG written here, for what Pillow cannot write. `samples`: (h, w, channels)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else ">u1").tobytes() for row in samples)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def jpeg(path: Path, size: tuple[int, int] = (8, 6), colour: object = "white") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "JPEG")
    return path


def names(folder: ImageFolder) -> list[str]:
    return [folder.name(i) for i in range(len(folder))]


# ------------------------------------------------------------------------------------------------- what a person sees


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP"])
def test_lossless_colours_come_back_exactly(kind: str) -> None:
    picture = Image.new("RGB", (2, 2))
    picture.putdata([RED, GREEN, BLUE, WHITE])
    options = {"lossless": True} if kind == "WEBP" else {}
    assert pixels(decode(stored(picture, kind, **options))) == [[RED, GREEN], [BLUE, WHITE]]


def test_jpeg_colours_come_back_closely() -> None:
    decoded = decode(stored(Image.new("RGB", (16, 16), (200, 100, 50)), "JPEG", quality=95))
    assert decoded.size == (16, 16)
    assert np.abs(np.asarray(decoded).astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    assert pixels(decode(stored(Image.new("L", (8, 8), 77), kind)))[3][3] == (77, 77, 77)


def test_one_bit() -> None:
    picture = Image.new("1", (2, 1))
    picture.putpixel((1, 0), 1)
    assert pixels(decode(stored(picture, "PNG"))) == [[BLACK, WHITE]]


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = np.array([[[0], [257], [32896], [65535]]])  # 257 v is exactly v of 8 bits
    assert [row[0] for row in pixels(decode(png(16, 0, grey)))[0]] == [0, 1, 128, 255]


def test_sixteen_bit_grey_with_a_transparent_value() -> None:
    grey = np.array([[[1000], [1001]]])
    assert pixels(decode(png(16, 0, grey, struct.pack(">H", 1000)))) == [[WHITE, (4, 4, 4)]]


def test_sixteen_bit_colour() -> None:
    colour = np.array([[[0, 65535, 257 * 200], [257, 514, 771]]])
    assert pixels(decode(png(16, 2, colour))) == [[(0, 255, 200), (1, 2, 3)]]


def test_sixteen_bit_colour_with_alpha() -> None:
    colour = np.array([[[257, 514, 771, 65535], [257, 514, 771, 0]]])
    assert pixels(decode(png(16, 6, colour))) == [[(1, 2, 3), WHITE]]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_wide_integer_modes_have_sixteen_bits(dtype: str) -> None:
    values = np.array([[0, 128, 129, 25700, 65535]], dtype)  # 128 / 257 rounds to 0, 129 / 257 to 1
    image = {
        "<u2": lambda: Image.frombytes("I;16", (5, 1), values.tobytes()),
        ">u2": lambda: Image.frombytes("I;16B", (5, 1), values.tobytes()),
        "<i4": lambda: Image.frombytes("I", (5, 1), values.astype("=i4").tobytes()),
    }[dtype]()
    assert [value[0] for value in pixels(to_rgb(image))[0]] == [0, 0, 1, 100, 255]


def test_thirty_two_bit_integers_out_of_range_are_clipped() -> None:
    image = Image.fromarray(np.array([[-5, 2**20]], np.int32))
    assert pixels(to_rgb(image)) == [[BLACK, WHITE]]


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        ([0.0, 0.5, 1.0, -1.0], [0, 128, 255, 0]),
        ([0.0, 7.0, 255.0, float("nan")], [0, 7, 255, 0]),
        ([0.0, 257.0, 65535.0, float("inf")], [0, 1, 255, 255]),
    ],
)
def test_floating_point_takes_the_smallest_usual_range(values: list[float], grey: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert image.mode == "F"
    assert [value[0] for value in pixels(to_rgb(image))[0]] == grey


HALF_RED = (255, 127, 127)  # red at alpha 128 / 255 on white


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_rgba_is_composited_on_white(kind: str) -> None:
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(255, 0, 0, 255), (255, 0, 0, 128), (255, 0, 0, 0)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert pixels(decode(stored(picture, kind, **options))) == [[RED, HALF_RED, WHITE]]


def test_grey_with_alpha_is_composited_on_white() -> None:
    picture = Image.new("LA", (3, 1))
    picture.putdata([(0, 255), (0, 128), (0, 0)])
    assert pixels(decode(stored(picture, "PNG"))) == [[BLACK, (127, 127, 127), WHITE]]


def palette() -> Image.Image:
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.putdata([0, 1, 2])
    return picture


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [RED, GREEN, BLUE]),
        ({"transparency": 1}, [RED, WHITE, BLUE]),
        ({"transparency": bytes([128, 255, 0])}, [HALF_RED, GREEN, WHITE]),
    ],
    ids=["opaque", "one transparent entry", "alpha of each entry"],
)
def test_palette(options: dict[str, object], expected: list[tuple[int, ...]]) -> None:
    file = stored(palette(), "PNG", **options)
    assert Image.open(file).mode == "P"
    assert pixels(decode(file)) == [expected]


def test_palette_with_alpha_channel_is_composited_on_white() -> None:
    picture = palette().convert("PA")
    picture.putalpha(Image.frombytes("L", (3, 1), bytes([128, 255, 0])))
    assert picture.mode == "PA"
    assert pixels(to_rgb(picture)) == [[HALF_RED, GREEN, WHITE]]


@pytest.mark.parametrize(("mode", "key"), [("RGB", RED), ("L", 76)])
def test_transparent_key_colour_becomes_white(mode: str, key: object) -> None:
    picture = Image.new("RGB", (2, 1), "red")
    picture.putpixel((1, 0), BLACK)
    assert pixels(decode(stored(picture.convert(mode), "PNG", transparency=key))) == [[WHITE, BLACK]]


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


# Where the corners of the upright picture (red, green / blue, white: top left, top right / bottom left, bottom right)
# stand in the file, by the definition of the tag: what its row 0 and its column 0 are in the upright picture.
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
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


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_first_frame_of_an_animation(kind: str, options: dict[str, object]) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    file = stored(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
    assert getattr(Image.open(file), "n_frames", 1) == 3
    assert pixels(decode(file)) == [[RED] * 4] * 4


def test_png_named_jpeg_is_decoded(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), RED).save(tmp_path / "a.JPEG", "PNG")
    assert pixels(ImageFolder(tmp_path).load(0)) == [[RED, RED]] * 2


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
        ((1, 1), (40, 24)),
        ((0, 0), (40, 24)),
        ((999, 999), (320, 192)),
    ],
)
def test_reduced_jpeg_is_at_least_as_large_as_asked(at_least: tuple[int, int], size: tuple[int, int]) -> None:
    assert decode(stored(ramp(320, 192), "JPEG"), at_least).size == size


@pytest.mark.parametrize("orientation", [1, 6])
def test_at_least_is_meant_in_the_upright_frame(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    ramp(320, 192).save(tmp_path / "a.jpg", exif=exif)
    folder = ImageFolder(tmp_path)
    wide, tall = (folder.load(0, at_least=at_least).size for at_least in ((160, 50), (50, 160)))
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
    file = stored(ramp(width, height), "JPEG", quality=95)
    reduced = decode(file, (width // scale, height // scale))
    assert reduced.size == (-(-width // scale), -(-height // scale))
    # Pixel j covers scale pixels of the file, so its place is known exactly; the claim is that reading it as
    # (j + 0.5) / reduced width is off by less than one of its pixels.
    columns = np.arange(reduced.width - 1)
    true = (columns + 0.5) * scale / width
    red = np.asarray(reduced)[:, :-1, 0].mean(axis=0) / 255
    assert np.abs(red - true).max() < 0.012
    assert (np.abs((columns + 0.5) / reduced.width - true) < 1 / reduced.width).all()


def test_at_least_changes_nothing_but_jpeg() -> None:
    picture = ramp(64, 48)
    assert np.array_equal(decode(stored(picture, "PNG"), (8, 8)), picture)


# ------------------------------------------------------------------------------------------------ what cannot be read


def noise(kind: str, **options: object) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return stored(Image.fromarray(values), kind, **options).getvalue()


DAMAGED = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"<html>404 Not Found</html>", "not a JPEG"),
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
    jpeg(tmp_path / "class" / "good.jpg")
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
    folder.load(1)


def test_size_of_what_is_no_image_is_undecodable_too(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(UndecodableImage, match=r"bad\.png"):
        ImageFolder(tmp_path).size(0)


def test_size_reads_only_the_header(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG"):  # the pixels are not there at all, and nobody notices
        (tmp_path / f"{kind}.jpg").write_bytes(noise(kind)[:700])
    folder = ImageFolder(tmp_path)
    assert [folder.size(0), folder.size(1)] == [(64, 64), (64, 64)]


def test_vanished_and_forbidden_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jpeg(tmp_path / "a.jpg")
    folder = ImageFolder(tmp_path)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", forbidden)
        with pytest.raises(UndecodableImage, match=r"a\.jpg: .*Permission denied"):
            folder.load(0)
    path.unlink()
    with pytest.raises(UndecodableImage, match=r"a\.jpg: .*No such file"):
        folder.load(0)


def test_running_out_of_memory_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", exhausted)
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


def test_no_warnings_on_damaged_exif_and_large_pictures(tmp_path: Path) -> None:
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


# ------------------------------------------------------------------------------------------------------------ folders


def test_folder_is_listed_by_bytewise_order_of_paths(tmp_path: Path) -> None:
    wanted = ["B/x.png", "Z.webp", "a-b/1.JPG", "a.jpeg", "a/10.jpg", "a/9.jpg", "a/deep/er/x.Png", "é.jpg"]
    for name in reversed(wanted):
        jpeg(tmp_path / name)
    for name in ("notes.txt", "a/x.heic", "jpg", ".hidden.jpg", "a/._9.jpg", ".cache/x.jpg"):
        jpeg(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    folder = ImageFolder(tmp_path)
    assert names(folder) == wanted == sorted(wanted, key=os.fsencode)
    assert folder.load(len(wanted) - 1).size == folder.size(0) == (8, 6)
    assert folder.annotation(0) is None


def test_imagenet_layout_uses_train_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG", "val/n01/v.JPEG", "test/t.JPEG"):
        jpeg(tmp_path / name)
    with caplog.at_level(logging.INFO, "plrc.data.sources"):
        folder = ImageFolder(tmp_path)
    assert names(folder) == ["train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG"]
    assert "the 2 images of its train/ only" in caplog.text
    assert names(ImageFolder(tmp_path / "train")) == ["n01/n01_1.JPEG", "n02/n02_1.JPEG"]
    jpeg(tmp_path / "root.jpg")  # a folder with images of its own is no such layout
    assert len(ImageFolder(tmp_path)) == 5


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/1.jpg", "val/1.jpg", "labels/1.png"], ["train/1.jpg"]),
        (["train/dog/1.jpg", "extra/1.jpg"], ["train/dog/1.jpg"]),
        (["apple/1.jpg", "train/1.jpg", "tulip/1.jpg"], ["apple/1.jpg", "train/1.jpg", "tulip/1.jpg"]),
        (["other/1.jpg", "train/notes.txt", "val/2.jpg"], ["other/1.jpg", "val/2.jpg"]),
    ],
    ids=["flat splits", "train with classes", "a class named train", "a train folder without images"],
)
def test_train_is_the_split_or_one_class_of_many(files: list[str], expected: list[str], tmp_path: Path) -> None:
    for name in files:
        jpeg(tmp_path / name)
    assert names(ImageFolder(tmp_path)) == expected


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    jpeg(root / "b" / "1.jpg")
    jpeg(tmp_path / "outside" / "2.jpg")
    jpeg(tmp_path / "outside" / "deep" / "3.jpg")
    (root / "b" / "up").symlink_to(root)  # a loop
    (root / "a").symlink_to(root / "b")  # the same folder by another name, earlier in the alphabet
    (root / "c").symlink_to(tmp_path / "outside")
    (root / "d").symlink_to(tmp_path / "outside")
    (root / "e.jpg").symlink_to(tmp_path / "outside" / "2.jpg")
    (root / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    folder = ImageFolder(root)
    assert names(folder) == ["b/1.jpg", "c/2.jpg", "c/deep/3.jpg", "e.jpg", "gone.jpg", "self.jpg"]
    with pytest.raises(UndecodableImage, match=r"gone\.jpg"):
        folder.load(4)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode on this system")
def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    jpeg(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.jpg")))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xea.jpg")).write_bytes(b"")
    folder = ImageFolder(tmp_path)
    assert os.fsencode(folder.name(0)) == b"\xff\xe9.jpg"
    assert folder.load(0).size == (8, 6)
    with pytest.raises(UndecodableImage) as caught:
        folder.load(1)
    str(caught.value).encode("utf-8")  # what a log does with it


def test_names_are_compact_and_can_be_handed_over(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/1.jpg"):
        jpeg(tmp_path / name)
    listed = ImageFolder(tmp_path)
    assert listed.names == b"a/1.jpg\0b/2.jpg\0"
    jpeg(tmp_path / "c.jpg")  # not seen: the folder is not listed again
    given = ImageFolder(tmp_path, names=listed.names)
    assert names(given) == ["a/1.jpg", "b/2.jpg"]
    assert given.load(1).size == (8, 6)
    many = ImageFolder(tmp_path, names=b"".join(b"n%08d/%08d.JPEG\0" % (i // 100, i) for i in range(100_000)))
    assert many.name(99_999) == "n00000999/00099999.JPEG"
    with pytest.raises(IndexError):
        many.name(100_000)
    with pytest.raises(IndexError):
        many.name(-1)


def test_missing_empty_and_mistaken_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere' does not exist: .*\.webp.*train/<class>"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"a\.jpg' is a file, not a folder: .*\.webp.*train/<class>"):
        ImageFolder(jpeg(tmp_path / "a.jpg"))
    empty = tmp_path / "empty"
    (empty / "train" / "n01").mkdir(parents=True)
    (empty / "train" / "n01" / "x.tar").touch()
    with pytest.raises(FileNotFoundError, match=r"empty' has no images in it: .*\.webp.*train/<class>"):
        ImageFolder(empty)


def test_unlistable_subfolder_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg(tmp_path / "a" / "1.jpg")
    jpeg(tmp_path / "b" / "2.jpg")
    scandir = os.scandir

    def forbidding(path: bytes) -> object:
        if path.endswith(b"b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert names(ImageFolder(tmp_path)) == ["a/1.jpg"]
    assert "/b: left out, it cannot be listed (Permission denied)" in caplog.text


# -------------------------------------------------------------------------------------------------------- open_source


@pytest.mark.parametrize(("data", "n"), [("scenes", 1000), ("scenes:12", 12), ("scenes:12@7", 12)])
def test_scenes_by_name(data: str, n: int) -> None:
    source = open_source(data)
    assert len(source) == n
    assert source.annotation(0) is not None


def test_seed_of_the_scenes_is_passed_on() -> None:
    seven, again, default = (open_source(data).load(0).tobytes() for data in ("scenes:2@7", "scenes:2@7", "scenes:2"))
    assert seven == again != default
    assert default == open_source("scenes:2@0").load(0).tobytes()


@pytest.mark.parametrize(
    "data", ["scenes:", "scenes:0", "scenes:-3", "scenes:x", "scenes:5@", "scenes@5", "scenes:5@-1"]
)
def test_malformed_scenes_say_what_is_accepted(data: str) -> None:
    with pytest.raises(ValueError, match="'scenes', 'scenes:N' or 'scenes:N@SEED'") as caught:
        open_source(data)
    assert repr(data) in str(caught.value)


def test_anything_else_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg(tmp_path / "scenes" / "a.jpg")
    jpeg(tmp_path / "scenes-of-life" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    for data, name in (("./scenes", "a.jpg"), ("scenes-of-life", "b.jpg")):
        source = open_source(data)
        assert isinstance(source, ImageFolder)
        assert names(source) == [name]


# --------------------------------------------------------------------------------------------------------- real photos


def test_imagenet_mini(shared_data: Callable[[str], Path]) -> None:
    folder = ImageFolder(shared_data("imagenet-mini"))
    assert len(folder) == 800
    assert folder.name(0).startswith("train/n0")
    for i in range(0, 800, 20):
        full, reduced = folder.load(i), folder.load(i, at_least=(120, 100))
        assert full.mode == reduced.mode == "RGB"
        assert full.size == folder.size(i)
        assert reduced.width >= min(120, full.width)
        assert reduced.height >= min(100, full.height)


def test_real_greyscale_photo_comes_out_as_rgb(shared_data: Callable[[str], Path]) -> None:
    folder = ImageFolder(shared_data("coco128"))
    assert len(folder) == 128
    i = [folder.name(i) for i in range(128)].index("train2017/000000000086.jpg")
    red, green, blue = folder.load(i).split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()


def test_a_file_that_cannot_be_decoded_is_named_without_being_told(tmp_path: Path) -> None:
    with pytest.raises(UndecodableImage, match=r"photo\.jpg: "):
        decode(tmp_path / "photo.jpg")
