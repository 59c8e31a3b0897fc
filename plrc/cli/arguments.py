"""What may be written behind ``plrc``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from plrc.cli import commands, detect
from plrc.cli.numbers import from_0, from_1
from plrc.registry import LAYOUTS

Handler = Callable[[argparse.Namespace], int | None]
_NUMBER = r"(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
_POINT = re.compile(f"{_NUMBER}(px)?,{_NUMBER}(px)?")
_CHECKPOINT = "a file in any known format, a run folder, torchvision:resnet50 or random:resnet50"
_PICTURES = (
    "a file, a folder, DIR#12 for one picture of a data set whose objects are known, scenes#12 or scenes:20 for "
    "embedded scenes"
)


class _Parser(argparse.ArgumentParser):
    """Says of a typing mistake one sentence, not ten lines of what may be written."""

    def error(self, message: str) -> NoReturn:
        option = re.fullmatch(r"argument (--point|--negative): expected one argument", message)
        if option:  # -0.1,0.5 is taken for an option
            message = (
                f"argument {option[1]}: a point is wanted: {option[1]} 0.4,0.6, shares of width and height in [0, 1], "
                "or 120px,85px; none is negative"
            )
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="plrc",
        description="Look inside a self-supervised checkpoint (affinity, correspondence, embeddings, scores), and make "
        "a detector of it.",
        epilog="Every picture comes with its arrays (.npz) and a recipe (.json) that 'plrc replay' draws again.",
    )
    kinds = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    affinity = _command(kinds, "affinity", commands.affinity, "how alike each cell of a picture is to a point")
    _pictures(affinity)
    _points(
        affinity,
        "(a map each of one picture; of several pictures, and with --to or --negative, one map, the maximum over the "
        "points) [an object's innermost point where objects are known, else the centre]",
    )
    affinity.add_argument(
        "--negative",
        type=_point,
        action="append",
        default=[],
        metavar="X,Y",
        dest="negatives",
        help="a point of what is not meant: one map of all points, the maximum over the points less the maximum over "
        "these",
    )
    affinity.add_argument(
        "--together", action="store_true", help="one map for all points of a picture: the maximum over them"
    )
    affinity.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="PICTURE",
        help="look for the point there, too; several points are then one question, the maximum over them",
    )
    affinity.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="softmax(cosine / T) over the cells, as a density: 1 where it is even; the colours have its own range",
    )
    affinity.add_argument("--difference", action="store_true", help="the last checkpoint's map less the first one's")
    affinity.add_argument("--auto-range", action="store_true", help="colours from the maps' own range, not [−1, 1]")
    _network(affinity)
    _output(affinity, "runs/look/affinity")

    correspond = _command(kinds, "correspond", commands.correspond, "which point of one picture is which of another")
    _pictures(correspond)
    correspond.add_argument("--with", dest="other", metavar="PICTURE", help="match with this one [two views of each]")
    _points(correspond, "[the centre of every cell]")
    correspond.add_argument("--regions", metavar="MAP", help="match regions: grid:N, superpixels:K, masks:DIR, objects")
    correspond.add_argument(
        "--within", type=from_0, default=1, metavar="K", help="points: right within so many cells [1]"
    )
    correspond.add_argument("--mutual", action="store_true", help="keep matches that hold in both directions")
    correspond.add_argument("--ratio", type=float, metavar="R", help="keep matches whose ratio test is below R, 0 … 1")
    correspond.add_argument("--seed", type=from_0, default=0, help="of the two views [0]")
    correspond.add_argument("--scale", type=float, metavar="S", help="least share of the picture in a view [0.2]")
    _network(correspond)
    _output(correspond, "runs/look/correspondence")

    embed = _command(kinds, "embed", commands.embed, "points, regions or pictures in the plane; colours; segments")
    _pictures(embed)
    embed.add_argument("--of", choices=("points", "regions", "images"), default="regions", help="[regions]")
    embed.add_argument(
        "--method",
        choices=("tsne", "pca", "rgb", "segments"),
        default="tsne",
        help="t-SNE or PCA of items; PCA of all cells as RGB; k-means of all cells [tsne]",
    )
    embed.add_argument(
        "--regions", default="grid:4", metavar="MAP", help="grid:N, superpixels:K, masks:DIR, objects [grid:4]"
    )
    embed.add_argument("--per-picture", type=from_1, default=16, metavar="N", help="points of each picture [16]")
    embed.add_argument("--perplexity", type=float, default=30.0, help="of t-SNE, a third of the items at most [30]")
    embed.add_argument("--clusters", type=from_0, default=0, metavar="K", help="k-means of the items, too [0: none]")
    embed.add_argument("--segments", type=from_1, default=8, metavar="K", help="of k-means [8]")
    embed.add_argument("--basis", metavar="NPZ", help="rgb: the colours that --keep-basis kept")
    embed.add_argument("--keep-basis", metavar="NPZ", help="rgb: keep the basis, for other pictures")
    embed.add_argument("--seed", type=from_0, default=0, help="of points, t-SNE and k-means [0]")
    _network(embed)
    _output(embed, "runs/look/embedding")

    score = _command(kinds, "score", commands.score, "numbers on a data set, checkpoints in columns")
    score.add_argument("dataset", help=f"a data set's folder, with {LAYOUTS.helps()}; or scenes:N")
    score.add_argument("--most", type=from_1, metavar="N", help="only so many pictures, evenly spread")
    score.add_argument(
        "--within", type=from_0, default=1, metavar="K", help="view match: right within so many cells [1]"
    )
    _network(score, dense=False)
    score.add_argument(
        "--out",
        type=Path,
        metavar="NAME",
        help="files NAME.png, NAME.npz, NAME.json … [runs/look/scores- and the data set's name]",
    )
    _format(score)

    info = _command(kinds, "info", commands.info, "what a checkpoint is")
    info.add_argument("file", help=_CHECKPOINT)
    _branch(info)

    export = _command(kinds, "export", commands.export, "write a trunk for another library")
    export.add_argument("checkpoint", help=_CHECKPOINT)
    export.add_argument("--to", required=True, choices=("torchvision", "timm", "detectron2", "safetensors"))
    _branch(export)
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help=".pth, .pkl or .safetensors")

    detect.add_commands(kinds)

    replay = _command(kinds, "replay", commands.replay, "draw a recipe again, and compare")
    replay.add_argument("recipe", type=Path, help="the .json beside a picture")
    _output(replay, None)
    return top


def _command(kinds: Any, name: str, handler: Handler, explanation: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=explanation, description=explanation[0].upper() + explanation[1:] + "."
    )
    parser.set_defaults(handler=handler)
    return parser


def _pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help=f"{_PICTURES}; several: a sheet and a CSV")
    parser.add_argument("--most", type=from_1, metavar="N", help="of a folder or data set, only so many, evenly spread")


def _points(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--point",
        type=_point,
        action="append",
        default=[],
        metavar="X,Y",
        dest="points",
        help=f"0.4,0.6 (shares of width and height) or 120px,85px; repeat it for more {default}",
    )


def _network(parser: argparse.ArgumentParser, dense: bool = True) -> None:
    """dense: one may say more exactly of what input the maps are to be, and how fine."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        dest="checkpoints",
        metavar="C",
        help=f"{_CHECKPOINT}; repeat it to compare",
    )
    group.add_argument("--layer", help="c2 … c5, or a head as 'plrc info' lists them [the trunk's last map]")
    _branch(group)
    if dense:
        group.add_argument("--size", type=_size, default=448, metavar="N", help="short side, pixels, or 640x480 [448]")
        group.add_argument("--finer", choices=("shifted", "upscaled"), help="a map twice as fine")
    else:
        group.add_argument("--size", type=from_1, default=448, metavar="N", help="short side, pixels [448]")
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … [cpu]")


def _branch(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--branch", help="query, key, teacher or student, where there are two networks")


def _output(parser: argparse.ArgumentParser, default: str | None) -> None:
    group = parser.add_argument_group("output")
    shown = default or "the recipe's name with -replayed"
    group.add_argument(
        "--out",
        type=Path,
        default=Path(default) if default else None,
        metavar="NAME",
        help=f"files NAME.png, NAME.npz, NAME.json … [{shown}]",
    )
    _format(group)


def _format(parser: argparse._ActionsContainer) -> None:
    kinds = ",".join(commands.FORMATS)
    parser.add_argument("--format", type=_formats, metavar=kinds, help="one or several [png, or as NAME ends]")


def _point(text: str) -> list[float | str]:
    match = _POINT.fullmatch(text.strip())
    if not match or bool(match[2]) != bool(match[4]):
        raise argparse.ArgumentTypeError(f"{text!r} is no point: write 0.4,0.6 (shares) or 120px,85px")
    point: list[float | str] = [float(match[1]), float(match[3])]
    if match[2]:
        return [*point, "px"]
    if not all(0 <= float(v) <= 1 for v in point):
        raise argparse.ArgumentTypeError(f"{text}: shares lie in [0, 1]; pixels are written 120px,85px")
    return point


def _size(text: str) -> int | list[int]:
    sides = text.split("x")
    try:
        if len(sides) == 1:
            return from_1(text)
        width, height = map(from_1, sides)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 448 (short side) or 640x480, pixels") from error
    return [width, height]


def _formats(text: str) -> list[str]:
    found = text.split(",")
    if wrong := [kind for kind in found if kind not in commands.FORMATS]:
        known = ", ".join(commands.FORMATS)
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no format: choose from {known}, with commas between several")
    return list(dict.fromkeys(found))
