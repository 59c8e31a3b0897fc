"""What each view can be asked: one frozen, torch-free dataclass a view, each field once.

The command line, ``--help``, the recipe and its replay, the app's link, controls and endpoints, and the notebooks'
widget are made from these fields (``plrc.options``). ``plrc.views.draw(query)`` answers any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plrc.files import check_folder
from plrc.options import LAST_SEED, Options, Point, Size, option
from plrc.registry import LAYOUTS, SCORES, Registry, region_specs

_IMAGES = (
    "an image file, a folder, DIR#12 for one image of a data set whose objects are known, scenes#12 or scenes:20 for "
    "embedded scenes, sample:china"
)
CHECKPOINT = (
    "a checkpoint file in any known format (FILE@key, FILE@teacher … for one of its networks), a run folder "
    "(runs/demo@5 for an epoch that it has stored, @0 for its start), plrc:tiny, torchvision:resnet50 or "
    "random:resnet50"
)
_REGIONS = f"{region_specs('objects')}, the images' own"
COLOUR_MAPS = ("viridis", "cividis", "magma", "gray")  # matplotlib's, each in even steps of lightness
SHARD_INDEX = "index.npy"  # beside the shards that plrc writes


@dataclass(frozen=True, kw_only=True)
class Query(Options):
    """What all views that look into networks have in common."""

    checkpoints: tuple[str, ...] = option(
        ("plrc:tiny",), f"{CHECKPOINT}; repeat it to compare", each="--checkpoint", path=True
    )
    layer: str | None = option(
        None,
        "c2 … c5 (block2 … of a ViT), or a head, as 'plrc info' lists them; if not given, the head by which training "
        "compared places (PLRC's projector), else the backbone's last map",
    )
    branch: str | None = option(None, "query, key, teacher or student, where a checkpoint has two networks")
    size: Size | None = option(
        None,
        "size of the input: the short side, or 640x480; if not given, twice the side of the views of a checkpoint's "
        "training, of several the largest, and 448 where none tells",
        unit="pixels",
    )
    device: str = option("cpu", "cpu, cuda, cuda:1 …")

    @property
    def side(self) -> int:
        """The short side of the input, pixels; known once a drawing answers (``plrc.views.Drawing.query``)."""
        assert self.size is not None
        return self.size.width


@dataclass(frozen=True, kw_only=True)
class ImageQuery(Query):
    """What is asked of images."""

    images: tuple[str, ...] = option((), f"{_IMAGES}; several: a sheet and a CSV", positional=True, path=True)
    most: int | None = option(None, "at most so many images of a folder or data set, evenly spread", low=1)
    finer: str | None = option(None, "a map twice as fine", choices=("shifted", "upscaled"))


@dataclass(frozen=True, kw_only=True)
class Affinity(ImageQuery):
    """How alike each cell of an image is to a point."""

    points: tuple[Point, ...] = option(
        (),
        "a point of the image, 0.4,0.6 (shares of width and height) or 120px,85px; an object's innermost point where "
        "objects are known, else the centre, if not given. One image: a map for each point; several images, --to, "
        "--negative or --together: one map, the maximum over the points",
        each="--point",
    )
    negatives: tuple[Point, ...] = option(
        (),
        "a point of what is not meant: the map is the maximum over the points minus that over these",
        each="--negative",
    )
    to: tuple[str, ...] = option((), "another image in which to look for the point", each="--to", path=True)
    together: bool = option(False, "one map for all points of an image: the maximum over them")
    temperature: float | None = option(
        None, "softmax(cosine / temperature) over the cells, as a density: 1 where it is even", above=0
    )
    difference: bool = option(False, "the last checkpoint's map minus the first one's")
    colour_range: str = option(
        "shared",
        "range of the colours: that of all maps shown; percentiles, without the lowest and the highest 2 % of them; or "
        "full, from −1 to 1",
        choices=("shared", "percentiles", "full"),
    )
    colour_map: str = option(COLOUR_MAPS[0], "colours of a range whose middle is not 0", choices=COLOUR_MAPS)


@dataclass(frozen=True, kw_only=True)
class Correspondence(ImageQuery):
    """Which point, or region, of one image is which of another image, or of another view of it."""

    other: str | None = option(
        None, "match with this image; two views of each image if not given", each="--with", path=True
    )
    points: tuple[Point, ...] = option(
        (), "a point of the left image; a grid of 16 along its longer side if not given", each="--point"
    )
    regions: str | None = option(None, f"match regions, not points: {_REGIONS}")
    within: float = option(
        0.1, "a match of a point is right within this share of the right image's longer side", above=0, high=0.5
    )
    mutual: bool = option(False, "keep only mutual nearest neighbours")
    ratio: float | None = option(
        None, "keep only matches whose distance is below this share of the next best's", above=0, high=1
    )
    seed: int = option(0, "seed of the two views", low=0, high=LAST_SEED)
    scale: float = option(0.2, "smallest crop of a view, as a fraction of the image's area", above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class Embedding(ImageQuery):
    """Points, regions or whole images in the plane."""

    of: str = option("regions", "what is laid out", choices=("points", "regions", "images"))
    method: str = option("tsne", "how", choices=("tsne", "pca"))
    regions: str = option("grid:4", f"regions: {_REGIONS}", only=("of", "regions"))
    per_image: int = option(16, "points drawn in each image", low=1, only=("of", "points"))
    perplexity: float = option(
        30.0, "perplexity of t-SNE; at most a third of the samples is taken", above=0, only=("method", "tsne")
    )
    clusters: int = option(0, "number of k-means clusters of the features; 0 for none", low=0)
    seed: int = option(0, "seed of points, t-SNE and k-means", low=0, high=LAST_SEED)


@dataclass(frozen=True, kw_only=True)
class Retrieval(ImageQuery):
    """Which patches, or images, of a folder are most like a point, a region or an image."""

    among: str = option("", "where to look: a folder, a data set, or scenes:60", path=True)
    of: str = option(
        "point",
        "what the answers are to be like: the patch around the point, the region that holds it, or the whole image",
        choices=("point", "region", "image"),
    )
    points: tuple[Point, ...] = option(
        (),
        "a point of the image, 0.4,0.6 (shares of width and height) or 120px,85px; an object's innermost point where "
        "objects are known, else the centre, if not given. Several: each is a question of its own",
        each="--point",
        only=("of", "point", "region"),
    )
    regions: str = option("superpixels:16", f"regions: {_REGIONS}", only=("of", "region"))
    answers: int = option(8, "answers by each network, at most one of an image", low=1, high=100)
    among_most: int = option(20_000, "look in at most so many images, evenly spread", low=1)
    until: int | None = option(None, "look only in the first so many of those images, as after an interrupt", low=1)


@dataclass(frozen=True, kw_only=True)
class Colours(ImageQuery):
    """The first three principal components of every cell as red, green and blue."""

    basis: str | None = option(None, "use the basis of this file, so that colours mean the same", path=True)
    keep_basis: str | None = option(None, "write the basis into this .npz file, for other images", path=True)


@dataclass(frozen=True, kw_only=True)
class Segments(ImageQuery):
    """Segments that all images share, by k-means of every cell."""

    clusters: int = option(8, "number of segments", low=1)
    seed: int = option(0, "seed of k-means", low=0, high=LAST_SEED)


@dataclass(frozen=True, kw_only=True)
class Scores(Query):
    """Every score that a data set allows, checkpoints in columns."""

    dataset: str = option("", f"a data set's folder, with {LAYOUTS.helps()}; or scenes:N", positional=True, path=True)
    measures: tuple[str, ...] = option(
        (), f"only these scores, of {', '.join(SCORES)}; all that the data set allows if not given"
    )
    most: int | None = option(None, "at most so many images, evenly spread", low=1)
    epochs: bool = option(False, "a run folder stands for its untrained start and each epoch that it has stored")
    within: int = option(1, "view match: right within so many cells of 32 pixels", unit="cells", low=0)
    until: int | None = option(None, "only the first so many of those images, as after an interrupt", low=1)


@dataclass(frozen=True, kw_only=True)
class Detections(Options):
    """What detectors find in images, beside what is there."""

    images: tuple[str, ...] = option((), f"{_IMAGES}; at most twelve are drawn", positional=True, path=True)
    detectors: tuple[str, ...] = option(
        (),
        "a run of plrc detect train, its checkpoint, or a fine-tuned Detectron2 file; repeat it to compare",
        each="--detector",
        path=True,
    )
    most: int | None = option(None, "at most so many images of a folder or data set, evenly spread", low=1)
    least: float = option(0.5, "confidence from which on a detection is drawn", low=0, high=1)
    device: str = option("cpu", "cpu, cuda, cuda:1 …")


@dataclass(frozen=True, kw_only=True)
class Run(Options):
    """The curves of one pre-training or fine-tuning run, or of several, as far as they are."""

    runs: tuple[str, ...] = option((), "run folders", positional=True, path=True)
    smooth: int = option(15, "log lines behind a point of a smoothed curve; an odd number", unit="log lines", low=1)
    affinity_at: int | None = option(
        None, "step whose affinity picture is among the arrays; the newest if not given", low=0
    )


@dataclass(frozen=True, kw_only=True)
class Loss(Options):
    """What the losses see of an image at a step of training: its two views, points, positives and negatives."""

    images: tuple[str, ...] = option((), f"the image: {_IMAGES}", positional=True, path=True)
    checkpoints: tuple[str, ...] = option(("plrc:tiny",), CHECKPOINT, each="--checkpoint", path=True)
    others: tuple[str, ...] = option(
        (),
        "the batch's other images, of whose points some are negatives: files, folders, scenes:15",
        path=True,
    )
    points: tuple[Point, ...] = option(
        (),
        "a point of the image, 0.4,0.6 (shares of width and height) or 120px,85px: that of view 1 which is nearest "
        "is looked at; the one nearest to the view's middle, if not given",
        each="--point",
    )
    regions: str | None = option(None, f"region map: {_REGIONS}; the run's own, or grid:4, if not given")
    seed: int = option(0, "seed of crops, colours and points", low=0, high=LAST_SEED)
    step: int | None = option(
        None,
        "step of the run, which with the seed says how the views are cut and coloured and where points are drawn; its "
        "next one if not given. Where a checkpoint does not tell how many there are in an epoch: the epoch",
        low=0,
    )
    size: Size | None = option(
        None, "side of a view; that of the checkpoint's training, or 224, if not given", unit="pixels"
    )
    device: str = option("cpu", "cpu, cuda, cuda:1 …")


VIEWS = Registry("view")
"""Command → the function that answers its query, a line of help. Traits: ``query``, the query's class;
``ends_early``: a progress may end it; ``spread``: processes that torchrun starts share the work.

The function takes the query, a ``plrc.views.Session`` and a ``plrc.views.Progress``, and gives a ``Drawing``.
"""

VIEWS.add("affinity", "plrc.views.affinity:affinity", "how alike each cell of an image is to a point", query=Affinity)
_help = "which point of one image is which of another"
VIEWS.add("correspond", "plrc.views.correspondence:correspondence", _help, query=Correspondence)
VIEWS.add("loss", "plrc.views.loss:loss", "what the losses see of an image at a step of training", query=Loss)
_help = "points, regions or images in the plane"
VIEWS.add("embed", "plrc.views.embedding:embedding", _help, query=Embedding, spread=True)
_help = "what in a folder is most like a point, a region or an image"
VIEWS.add("retrieve", "plrc.views.retrieval:retrieval", _help, query=Retrieval, ends_early=True)
VIEWS.add("colours", "plrc.views.embedding:colours", "three principal components as colours", query=Colours)
VIEWS.add("segments", "plrc.views.embedding:segments", "segments that all images share", query=Segments)
_help = "numbers on a data set, checkpoints in columns"
VIEWS.add("score", "plrc.views.score:scores", _help, query=Scores, ends_early=True, spread=True)
VIEWS.add("detections", "plrc.detection.look:look", "what detectors find in images", query=Detections)
VIEWS.add("run", "plrc.views.run:run", "the curves of a training run, as far as it is", query=Run)


@dataclass(frozen=True, kw_only=True)
class Shard(Options):
    """``plrc shard``: a folder of images as tar shards."""

    data: str = option("", "folder of images", path=True, positional=True)
    out: str = option("", "folder to write the shards to", path=True, positional=True)
    shard_mb: float = option(128.0, "size of a shard", unit="MB", above=0)

    def check_place(self) -> None:
        if (Path(self.out) / SHARD_INDEX).exists():
            raise ValueError(f"{self.out} holds shards already: choose another folder, or remove this one")


@dataclass(frozen=True, kw_only=True)
class Regions(Options):
    """``plrc regions``: region maps that take time, computed before a training asks for them."""

    data: str = option("", "folder of images, or shards", path=True, positional=True)
    regions: str = option("superpixels:8", "as of plrc train")
    workers: int = option(-1, "processes; -1: one a core; 0: this one", low=-1, high=256)


@dataclass(frozen=True, kw_only=True)
class Check(Options):
    """``plrc check``: what is wrong with data, without training."""

    data: tuple[str, ...] = option((), f"data sets: {LAYOUTS.helps()}", path=True, positional=True)
    out: str = option("", "table of all findings to write, a .csv", path=True)

    def check_place(self) -> None:
        if self.out:
            check_folder(Path(self.out).parent)
            if Path(self.out).is_dir():
                raise ValueError(f"--out {self.out} is a folder: name a file, such as {Path(self.out, 'found.csv')}")
