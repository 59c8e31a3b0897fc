"""Pictures, and small data sets of every layout, made here: all that is in them is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

W, H = 40, 30  # of a picture, if nothing else is said
CATEGORIES = ({"id": 9, "name": "ant"}, {"id": 3, "name": "bee"}, {"id": 5, "name": "wasp"})


def noise(width: int = W, height: int = H, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ramp(width: int, height: int, blue: int = 0) -> Image.Image:
    """Red is x, green is y of each pixel's centre, so that a shift of the frame shows."""
    pixels = np.full((height, width, 3), blue, dtype=np.uint8)
    pixels[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
    pixels[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    return Image.fromarray(pixels)


def noises(folder: Path, count: int, width: int = 48, height: int = 48) -> Path:
    """A folder of so many different pictures: 000.png, 001.png …"""
    for i in range(count):
        noise(width, height, i).save(placed(folder / f"{i:03d}.png"))
    return folder


def placed(file: Path) -> Path:
    """The file, for which folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def picture(file: Path, size: tuple[int, int] = (W, H), orientation: int = 1) -> Path:
    """A plain one; with an EXIF orientation its stored size is ``size``."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (90, 60, 30)).save(placed(file), exif=exif)
    return file


def thing(name: str, box: Sequence[Any], more: str = "") -> str:
    """An object as PASCAL VOC writes it."""
    corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def voc_set(root: Path, files: dict[str, str], size: tuple[int, int] | None = (W, H)) -> Path:
    """Names → objects, or the whole XML file."""
    sides = "<size><width>{}</width><height>{}</height><depth>3</depth></size>".format(*size) if size else ""
    for name, content in files.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        whole = content if content.startswith("<annotation>") else f"<annotation>{sides}{content}</annotation>"
        placed(root / "Annotations" / f"{name}.xml").write_text(whole)
    return root


def voc_split(root: Path, name: str, listed: str) -> Path:
    """The file of one split."""
    file = placed(root / "ImageSets" / "Main" / f"{name}.txt")
    file.write_text(listed, encoding="utf-8")
    return file


def entry(number: int, image: int, bbox: list[float], category: int = 3, **more: Any) -> dict[str, Any]:
    """An annotation as COCO writes it."""
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


def coco_set(
    root: Path,
    annotations: list[dict[str, Any]],
    images: Sequence[int] = (21, 7),
    categories: Sequence[dict[str, Any]] = CATEGORIES,
    folder: str = "val",
) -> Path:
    """``annotations/instances_val.json``, and a picture ``NUMBER.png`` in the folder for each number of an image."""
    listed = [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in images]
    for image in listed:
        picture(root / folder / image["file_name"])
    content = {"images": listed, "annotations": annotations, "categories": categories}
    placed(root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root
