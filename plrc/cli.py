"""``plrc``: look inside a checkpoint from the shell. Needs no display; ``plrc COMMAND --help`` tells about each."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Handler = Callable[[argparse.Namespace], None]
_POINT = re.compile(r"(-?[0-9.]+)(px)?,(-?[0-9.]+)(px)?")
_CHECKPOINT = "a file in any known format, a run folder, torchvision:resnet50 or random:resnet50"
_PICTURES = (
    "a file, a folder, DIR#12 for one picture of a data set whose objects are known, scenes#12 or scenes:20 for "
    "embedded scenes"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 for bad input, with one sentence on stderr that says what is wrong and the remedy."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    handler: Handler = options.handler
    try:
        handler(options)
    except KeyboardInterrupt:
        print("plrc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 141
    except (ValueError, OSError) as error:
        print(f"plrc {options.command}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plrc",
        description="Look inside a self-supervised checkpoint: affinity, correspondence, embeddings, scores.",
        epilog="Every picture comes with its arrays (.npz) and a recipe (.json) that 'plrc replay' draws again.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    affinity = _command(commands, "affinity", _affinity, "how alike each cell of a picture is to a point")
    _pictures(affinity)
    _points(affinity, "[an object's innermost point where objects are known, else the centre]")
    affinity.add_argument(
        "--negative",
        type=_point,
        action="append",
        default=[],
        metavar="X,Y",
        dest="negatives",
        help="a point of what is not meant: one map of all points, positive − negative",
    )
    affinity.add_argument("--to", action="append", default=[], metavar="PICTURE", help="look for the point there, too")
    affinity.add_argument("--temperature", type=float, metavar="T", help="softmax(cosine / T) over the cells")
    affinity.add_argument("--difference", action="store_true", help="the last checkpoint's map less the first one's")
    affinity.add_argument("--auto-range", action="store_true", help="colours from the maps' own range, not [−1, 1]")
    _network(affinity)
    _output(affinity, "runs/look/affinity")

    correspond = _command(commands, "correspond", _correspond, "which point of one picture is which of another")
    _pictures(correspond)
    correspond.add_argument("--with", dest="other", metavar="PICTURE", help="match with this one [two views of each]")
    _points(correspond, "[the centre of every cell]")
    correspond.add_argument("--regions", metavar="MAP", help="match regions: grid:N, superpixels:K, masks:DIR")
    correspond.add_argument("--within", type=int, default=1, metavar="K", help="right within so many cells [1]")
    correspond.add_argument("--mutual", action="store_true", help="keep matches that hold in both directions")
    correspond.add_argument("--ratio", type=float, metavar="R", help="keep matches whose ratio test is below R")
    correspond.add_argument("--seed", type=int, default=0, help="of the two views [0]")
    _network(correspond)
    _output(correspond, "runs/look/correspondence")

    embed = _command(commands, "embed", _embed, "points, regions or pictures in the plane; colours; segments")
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
    embed.add_argument("--per-picture", type=int, default=16, metavar="N", help="points of each picture [16]")
    embed.add_argument("--perplexity", type=float, default=30.0, help="of t-SNE [30]")
    embed.add_argument("--segments", type=int, default=8, metavar="K", help="of k-means [8]")
    embed.add_argument("--basis", metavar="NPZ", help="rgb: the colours that --keep-basis kept")
    embed.add_argument("--keep-basis", metavar="NPZ", help="rgb: keep the basis, for other pictures")
    embed.add_argument("--seed", type=int, default=0, help="of points, t-SNE and k-means [0]")
    _network(embed)
    _output(embed, "runs/look/embedding")

    score = _command(commands, "score", _score, "numbers on a data set, checkpoints in columns")
    score.add_argument(
        "dataset", help="a folder: images/ and masks/, keypoints.json, VOC, COCO, class folders; or scenes:N"
    )
    score.add_argument("--most", type=int, metavar="N", help="only so many pictures, evenly spread")
    _network(score, finer=False)
    score.add_argument(
        "--out", type=Path, default=Path("runs/look"), metavar="DIR", help="for CSV and JSON [runs/look]"
    )

    info = _command(commands, "info", _info, "what a checkpoint is")
    info.add_argument("file", help=_CHECKPOINT)

    export = _command(commands, "export", _export, "write a trunk for another library")
    export.add_argument("checkpoint", help=_CHECKPOINT)
    export.add_argument("--to", required=True, choices=("torchvision", "timm", "detectron2", "safetensors"))
    export.add_argument("--branch", help="query, key, teacher or student, where there are two networks")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help=".pth, .pkl or .safetensors")

    replay = _command(commands, "replay", _replay, "draw a recipe again, and compare")
    replay.add_argument("recipe", type=Path, help="the .json beside a picture")
    _output(replay, None)
    return parser


def _command(commands: Any, name: str, handler: Handler, explanation: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=explanation, description=explanation[0].upper() + explanation[1:] + "."
    )
    parser.set_defaults(handler=handler)
    return parser


def _pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help=f"{_PICTURES}; several: a sheet and a CSV")
    parser.add_argument("--most", type=int, metavar="N", help="of a folder or data set, only so many, evenly spread")


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


def _network(parser: argparse.ArgumentParser, finer: bool = True) -> None:
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
    group.add_argument("--size", type=int, default=448, help="short side of the input, pixels [448]")
    group.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … [cpu]")
    if finer:
        group.add_argument("--finer", choices=("shifted", "upscaled"), help="a map twice as fine")


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
    group.add_argument("--format", nargs="+", choices=("png", "pdf", "svg"), default=["png"], help="[png]")


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


# What each command does. torch is imported here, not above: --help and a typing mistake should not wait for it.


def _affinity(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_affinity

    drawing = draw_affinity(
        _listed(o),
        o.checkpoints,
        o.points,
        o.negatives,
        o.to,
        o.layer,
        o.size,
        o.finer,
        o.temperature,
        o.difference,
        o.auto_range,
        o.device,
    )
    _finish(drawing, o.out, o.format)


def _correspond(o: argparse.Namespace) -> None:
    from plrc.recipes import draw_correspondence

    drawing = draw_correspondence(
        _listed(o),
        o.checkpoints,
        o.other,
        o.points,
        o.regions,
        o.layer,
        o.size,
        o.finer,
        o.within,
        o.mutual,
        o.ratio,
        o.seed,
        o.device,
    )
    _finish(drawing, o.out, o.format)


def _embed(o: argparse.Namespace) -> None:
    from plrc import recipes

    network = {"layer": o.layer, "size": o.size, "finer": o.finer, "device": o.device}
    pictures = _listed(o)
    if o.method == "rgb":
        drawing = recipes.draw_rgb(pictures, o.checkpoints, o.basis, o.keep_basis, **network)
    elif o.method == "segments":
        drawing = recipes.draw_segments(pictures, o.checkpoints, o.segments, seed=o.seed, **network)
    else:
        with _steps("t-SNE") as progress:
            drawing = recipes.draw_embedding(
                pictures,
                o.checkpoints,
                o.of,
                o.method,
                o.regions,
                o.per_picture,
                o.perplexity,
                seed=o.seed,
                progress=progress,
                **network,
            )
    _finish(drawing, o.out, o.format)


def _score(o: argparse.Namespace) -> None:
    from tqdm import tqdm

    from plrc.analysis.descriptors import dense
    from plrc.analysis.scores import score_table
    from plrc.data.annotated import open_annotated
    from plrc.recipes.networks import open_networks

    networks = open_networks(o.checkpoints, o.device, o.layer)
    dataset = open_annotated(o.dataset)
    table = score_table(
        dataset,
        [dense(encoder, o.layer, name) for name, encoder in networks.items()],
        Path(o.dataset).name,
        o.size,
        o.most,
        lambda numbers: tqdm(numbers, unit="picture", disable=not sys.stderr.isatty()),
    )
    print(table.to_text())
    o.out.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", Path(o.dataset).name)
    table.to_csv(o.out / f"scores-{name}.csv")
    table.to_json(o.out / f"scores-{name}.json")
    print(f"written: {o.out / f'scores-{name}.csv'} and .json")


def _info(o: argparse.Namespace) -> None:
    from plrc.pretrained.describe import describe

    print("\n".join(describe(o.file)))


def _export(o: argparse.Namespace) -> None:
    from plrc.pretrained import load
    from plrc.pretrained.export import export

    print("\n".join(export(load(o.checkpoint, o.branch), o.to, o.out)))


def _replay(o: argparse.Namespace) -> None:
    from plrc.recipes import KINDS, replay

    drawing, changed = replay(o.recipe, KINDS)
    _finish(drawing, o.out or o.recipe.with_name(f"{o.recipe.stem}-replayed"), o.format)
    if changed:
        raise ValueError(f"not the same as {o.recipe}: " + "; ".join(changed))
    print(f"all {len(drawing.arrays)} arrays are those of {o.recipe}, to the last bit")


def _listed(o: argparse.Namespace) -> list[str]:
    from plrc.recipes import list_pictures

    return list_pictures(o.pictures, o.most)


def _finish(drawing: Any, out: Path, formats: list[str]) -> None:
    """Write everything and say so; the numbers come last, where they are seen."""
    files = drawing.save(out, formats)
    print("written: " + ", ".join(str(file) for file in files))
    print("\n".join(drawing.lines))


@contextmanager
def _steps(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for work that tells its steps; nothing where nobody looks."""
    from tqdm import tqdm

    with tqdm(desc=what, unit="step", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
