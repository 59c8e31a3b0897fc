"""Pictures whose colours are their coordinates, a network that sees them, and a data set with masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

from plrc.analysis.features import DenseEncoder
from plrc.backbones import Backbone
from plrc.options import Options
from plrc.pretrained import CheckpointInfo, Pretrained
from plrc.queries import Affinity, Colours, Correspondence, Embedding, Run, Scores, Segments
from plrc.views import Session, draw
from tests.sets import noise, placed


class Coordinates(Backbone):
    """Stride 8, for pictures whose red is x and whose green is y: the cosine of cells falls with distance."""

    name, strides, channels = "coordinates", {"c3": 8}, {"c3": 4}

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        angles = nn.functional.avg_pool2d(images[:, :2], 8, ceil_mode=True) * torch.pi / 2
        return {"c3": torch.cat((angles.cos(), angles.sin()), dim=1)}


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint is a ``Coordinates`` of the name that was given."""

    def load_encoder(name: str, device: str, branch: str | None = None) -> DenseEncoder:
        origin = CheckpointInfo(name=name, path=None, format="random", branch="", arch="tiny", sha256=None, note="")
        return DenseEncoder(Pretrained(backbone=Coordinates(), heads={}, origin=origin), device)

    monkeypatch.setattr("plrc.views.session.load_encoder", load_encoder)
    monkeypatch.setattr("plrc.analysis.features.normalise", lambda pictures: pictures)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_photos(tmp_path / "photos")


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    return save_masked(tmp_path / "masked")


def save_photos(folder: Path) -> Path:
    """A folder: a square PNG, a wide JPEG, a tall JPEG that is stored on its side, as its EXIF orientation says."""
    noise(64, 64, 1).save(placed(folder / "a.png"))
    noise(96, 64, 2).save(folder / "b.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    on_its_side = noise(48, 80, 3).transpose(Image.Transpose.ROTATE_90)
    on_its_side.save(folder / "c.jpg", exif=exif, quality=100, subsampling=0)
    return folder


def save_masked(root: Path, count: int = 3) -> Path:
    """A data set of pictures, 96 × 64, whose objects lie elsewhere in each of three."""
    for i in range(count):
        k, mask = i % 3, np.zeros((64, 96), np.uint8)
        mask[8 + 8 * k : 40 + 8 * k, 16 * k : 16 * k + 40] = 255
        for part, image in (("images", noise(96, 64, i)), ("masks", Image.fromarray(mask))):
            image.save(placed(root / part / f"p{i}.png"))
    return root


def asking(kind: type[Options], *positional: str) -> Callable[..., Any]:
    """``draw`` of a query of this kind, whose first fields are given by position."""

    def ask(*values: Any, session: Session | None = None, progress: Any = None, **how: Any) -> Any:
        return draw(kind(**dict(zip(positional, values, strict=False)), **how), session, progress)

    return ask


affinity = asking(Affinity, "images", "checkpoints", "points", "negatives")
correspondence = asking(Correspondence, "images", "checkpoints", "other", "points", "regions")
embedding = asking(Embedding, "images", "checkpoints", "of", "method", "regions")
colours = asking(Colours, "images", "checkpoints")
segments = asking(Segments, "images", "checkpoints", "clusters")
scores = asking(Scores, "dataset", "checkpoints", "layer")
draw_run = asking(Run, "runs")


def said(drawing: Any) -> set[str]:
    """All texts of its figure."""
    return {" ".join(text.get_text().split()) for text in drawing.figure.findobj(Text)}


def arrays_of(drawing: Any, name: str) -> dict[str, np.ndarray]:
    """The arrays of one network, without its name."""
    arrays = {key.partition(f"{name} ")[2]: array for key, array in drawing.arrays.items()}
    return {key: array for key, array in arrays.items() if key}
