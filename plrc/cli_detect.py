"""``plrc detect``: train a detector on a pre-trained backbone, measure it, and convert it."""

from __future__ import annotations

import argparse
from typing import Any

from plrc.config import add_run_arguments, read_run_arguments
from plrc.detection.config import PRESETS, DetectConvert, DetectEval, FinetuneConfig
from plrc.options import add_arguments, given


def add_commands(kinds: Any) -> None:
    """The commands behind ``plrc detect``."""
    about = "train, measure and convert object detectors"
    detect = kinds.add_parser("detect", help=about, description=f"{about.capitalize()}.")
    of_detect = detect.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = of_detect.add_parser(
        "train",
        help="fine-tune a detector on a pre-trained backbone, and evaluate it",
        description="Fine-tune a detector on a pre-trained backbone, and evaluate it. With several processes: "
        "torchrun --nproc_per_node=8 -m plrc detect train …",
        epilog="Defaults are those of the voc-c4-24k preset, with the source of each where it is not ours.",
    )
    add_run_arguments(train, FinetuneConfig, PRESETS, "voc-c4-24k")
    train.set_defaults(handler=_train, command="detect train")
    for name, query, handler, help in (
        ("eval", DetectEval, _evaluate, "measure a detector, or a file of results alone"),
        ("convert", DetectConvert, _convert, "write a detector or a backbone for Detectron2, or a detector back"),
    ):
        parser = of_detect.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        add_arguments(parser, query)
        parser.set_defaults(handler=handler, command=f"detect {name}")


def _train(o: argparse.Namespace) -> int:
    config = read_run_arguments(o, FinetuneConfig, PRESETS)
    from plrc.detection.train import finetune

    return finetune(config)


def _evaluate(o: argparse.Namespace) -> None:
    query = DetectEval(**given(DetectEval, o))
    from plrc.detection.evaluate import detect_eval

    if lines := detect_eval(query):
        print("\n".join(lines))


def _convert(o: argparse.Namespace) -> None:
    query = DetectConvert(**given(DetectConvert, o))
    from plrc.detection.files import detect_convert

    print("\n".join(detect_convert(query)))
