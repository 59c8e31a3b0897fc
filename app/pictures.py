"""Pictures inside the page, as data URIs: exact ones as PNG, photographs as JPEG."""

from __future__ import annotations

import base64
import io

from PIL import Image


def as_png(image: Image.Image) -> str:
    return _data_uri(image, "png", compress_level=1)


def as_jpeg(image: Image.Image) -> str:
    return _data_uri(image.convert("RGB"), "jpeg", quality=90, subsampling=0)


def _data_uri(image: Image.Image, kind: str, **how: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
