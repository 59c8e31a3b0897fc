"""``plrc detect``: train a detector on a pre-trained trunk, measure it, and convert it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from plrc.config import add_run_arguments, read_run_arguments
from plrc.detection.config import PRESETS, FinetuneConfig


def _whole(text: str, least: int) -> int:
    if not text.strip().lstrip("-").isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} upwards")
    return int(text)


def from_0(text: str) -> int:
    return _whole(text, 0)


def from_1(text: str) -> int:
    return _whole(text, 1)


_DETECTOR = "a run folder, its checkpoint, or a fine-tuned Detectron2 file (C4 or FPN)"
RECIPES = tuple(name for name in PRESETS if name != "small")


def add_commands(kinds: Any) -> None:
    """The commands behind ``plrc detect``."""
    detect = kinds.add_parser(
        "detect",
        help="train, measure and convert object detectors",
        description="Train, measure and convert object detectors.",
    )
    of_detect = detect.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(of_detect)
    _add_eval(of_detect)
    _add_convert(of_detect)


def _add_train(kinds: Any) -> None:
    train = kinds.add_parser(
        "train",
        help="fine-tune a detector on a pre-trained trunk, and evaluate it",
        description="Fine-tune a detector on a pre-trained trunk, and evaluate it. With several processes: "
        "torchrun --nproc_per_node=8 -m plrc detect train …",
        epilog="Defaults are those of the voc-c4-24k preset; with the source of each where it is not ours.",
    )
    add_run_arguments(train, FinetuneConfig, PRESETS, "voc-c4-24k")
    train.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="N trainings, with --seed, --seed + 1 …, in folders seed_0 … of --out, and their mean and deviation",
    )
    train.set_defaults(handler=_train, command="detect train")


def _add_eval(kinds: Any) -> None:
    parser = kinds.add_parser(
        "eval",
        help="measure a detector, or a file of results alone",
        description="Measure a detector, or a file of results alone.",
    )
    add = parser.add_argument
    add("what", help=f"{_DETECTOR}; or results in COCO's format (.json)")
    add(
        "--data",
        nargs="+",
        required=True,
        metavar="DATA",
        help="what it is measured on; of results, a COCO JSON will do",
    )
    add("--voc", action="store_true", help="by VOC's rules too, also where the data are not in VOC's layout")
    add("--classes", nargs="+", metavar="NAME", help="of a Detectron2 file of neither 20 nor 80 classes, in its order")
    add("--short-side", type=from_1, metavar="N", help="of the input, pixels [as the checkpoint says, else 800]")
    add("--longest", type=from_1, metavar="N", help="most pixels of a long side [as the checkpoint says, else 1333]")
    add("--pictures", type=from_0, default=12, metavar="N", help="that are drawn with their detections [12]")
    add("--workers", type=int, default=-1, metavar="N", help="loading processes a rank [its share of the cores]")
    add("--out", type=Path, metavar="DIR", help="folder for numbers and figures [runs/eval- and the name]")
    parser.set_defaults(handler=_evaluate, command="detect eval")


def _add_convert(kinds: Any) -> None:
    parser = kinds.add_parser(
        "convert",
        help="to Detectron2 and back",
        description="A detector to Detectron2 or back; or a pre-trained trunk to Detectron2, with a recipe's YAML.",
    )
    add = parser.add_argument
    add("checkpoint", type=_path_or_name, help=f"{_DETECTOR}; or a pre-trained trunk, as plrc info knows it")
    add("--to", required=True, choices=("detectron2", "plrc"))
    add("--out", type=Path, required=True, metavar="FILE", help=".pth of a detector, .pkl of a trunk; a YAML beside it")
    add("--recipe", choices=RECIPES, help="of a trunk's YAML [voc-c4-24k]")
    add("--classes", nargs="+", metavar="NAME", help="of a Detectron2 file of neither 20 nor 80 classes, in its order")
    parser.set_defaults(handler=_convert, command="detect convert")


def _short_name(what: Path) -> str:
    """``voc-seed_0`` of ``runs/voc/seed_0`` and of the checkpoint in it, so that two runs' do not meet."""
    run = what.absolute()
    if run.parent.name == "checkpoints":
        run = run.parent.parent
    return f"{run.parent.name}-{run.stem}" if run.parent.name not in ("", "runs") else run.stem


def _path_or_name(text: str) -> str | Path:
    return Path(text) if Path(text).exists() else text


def _train(o: argparse.Namespace) -> int:
    config = read_run_arguments(o, FinetuneConfig, PRESETS)
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise ValueError(f"--out {config.out} is a file: name a folder")
    from plrc.detection.finetune import finetune
    from plrc.detection.seeds import finetune_seeds
    from plrc.distributed import world
    from plrc.run import stop_signals

    with world() as here, stop_signals() as stop:
        return finetune(config, here, stop) if o.seeds is None else finetune_seeds(config, o.seeds, here, stop)


def _evaluate(o: argparse.Namespace) -> None:
    from plrc.detection import measure

    what = Path(o.what)
    out: Path = o.out or Path("runs") / f"eval-{_short_name(what)}"
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: name a folder")
    if what.suffix.lower() == ".json":
        idle = [f"--{n}" for n in ("classes", "short_side", "longest") if getattr(o, n) is not None]
        if idle:
            raise ValueError(f"{idle[0].replace('_', '-')} would change nothing of results: leave it out")
        lines = measure.results_file(what, o.data, out, voc=o.voc, pictures=o.pictures)
    else:
        lines = measure.detector(
            what,
            o.data,
            out,
            voc=o.voc,
            pictures=o.pictures,
            classes=o.classes,
            short_side=o.short_side,
            longest=o.longest,
            workers=o.workers,
        )
    if lines:
        print("\n".join(lines))


def _convert(o: argparse.Namespace) -> None:
    from plrc.detection import convert
    from plrc.detection.loading import load_detector
    from plrc.pretrained import load

    trunk = o.to == "detectron2" and o.out.suffix.lower() == ".pkl"
    if trunk and o.classes:
        raise ValueError("--classes would change nothing of a trunk: leave it out")
    if o.recipe and not trunk:
        raise ValueError("--recipe is for a trunk, written as .pkl, not for a whole detector: leave it out")
    if isinstance(o.checkpoint, str) and not trunk:  # a name, such as random:resnet50, or nothing at all
        raise ValueError(
            f"{o.checkpoint} is no detector's file, or there is none of that name; a pre-trained trunk is converted "
            "--to detectron2 --out NAME.pkl"
        )
    if o.to == "plrc":
        lines = convert.from_detectron2_file(o.checkpoint, o.out, o.classes)
    elif trunk:
        lines = convert.backbone_file(load(o.checkpoint), o.out, o.recipe or RECIPES[0])
    else:
        lines = convert.to_detectron2_file(load_detector(o.checkpoint, o.classes), o.out)
    print("\n".join(lines))
