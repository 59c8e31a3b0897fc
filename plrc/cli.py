"""``plrc``: pre-train, look inside a checkpoint, and detect, from the shell. ``plrc COMMAND --help`` tells about each.

Needs no display. torch is imported by the commands alone: ``--help`` and a typing mistake do not wait for it.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import plrc
from plrc import config
from plrc.detection import config as detection
from plrc.files import at_home, cache_folder, check_place, printable
from plrc.options import Parser, add_arguments, leave_to_first_rank, read_arguments
from plrc.queries import CHECKPOINT, VIEWS, Check, Query, Regions, Shard
from plrc.registry import Registry

Handler = Callable[[argparse.Namespace], int | None]
FORMATS = ("png", "pdf", "svg")
_DAY = 24 * 60.0  # minutes
_EVERY = 15.0  # seconds between two lines of progress where there is no terminal
_NO_MEMORY = "out of memory|not enough memory|an't allocate memory|annot allocate memory|bad_alloc"
_RANKS = "; with several processes: torchrun --nproc_per_node=8 -m plrc"
JOBS = Registry("command")
"""Command → the function that does what its options say; it gives an exit status or lines to print. Traits:
``kind``, their class; ``presets``, and ``preset``, the one that is taken where none is named."""
_train = {"kind": config.Config, "presets": config.PRESETS, "preset": "imagenet"}
_tune = {"kind": detection.FinetuneConfig, "presets": detection.PRESETS, "preset": "voc-c4-24k"}
_help = "what is wrong with a data set or a folder of images, without training"
JOBS.add("check", "plrc.data.check:check", _help, kind=Check)
JOBS.add("shard", "plrc.data.shards:write_shards", "write a folder of images as tar shards", kind=Shard)
_help = "compute superpixels before a training asks for them, on all cores"
JOBS.add("regions", "plrc.data.precompute:compute_regions", _help, kind=Regions)
JOBS.add("train", "plrc.train:pretrain", f"pre-train on unlabelled images{_RANKS} train …", **_train)
_help = f"fine-tune a detector, and evaluate it{_RANKS} detect train …"
JOBS.add("detect train", "plrc.detection.train:finetune", _help, **_tune)
_help = "measure a detector, or a file of results alone"
JOBS.add("detect eval", "plrc.detection.evaluate:detect_eval", _help, kind=detection.DetectEval)
_help = "write a detector or a backbone for Detectron2, or a detector back"
JOBS.add("detect convert", "plrc.detection.files:detect_convert", _help, kind=detection.DetectConvert)
_SMALLER = {
    "train": "--batch-size, or more parts of it with --accumulate",
    "detect": "--batch-size, or smaller images with --short-sides or --short-side",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 for bad input, with one sentence on stderr that says what is wrong and the remedy."""
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:  # closed: the next file would have its number, and get a library's warnings
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of a terminal that knows neither é nor …
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "app":  # which reads its own
        options.parser.refuse(rest)
    options.rest = rest
    try:
        os.getcwd()
    except FileNotFoundError:  # torch's libraries would end the process
        options.parser.exit(2, "plrc: the folder that this was called in was removed: cd to another one\n")
    name = f"plrc {options.command}" + (f", rank {os.environ['RANK']}" if "RANK" in os.environ else "")
    try:
        return options.handler(options) or 0
    except KeyboardInterrupt as interrupt:
        print(f"plrc: interrupted{interrupt}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 141
    except (ValueError, OSError) as error:
        leave_to_first_rank()
        print(f"{name}: {_sentence(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        remedy = f"a smaller {_SMALLER.get(options.command.split()[0], '--size, or fewer images with --most')}"
        if "DataLoader" in str(error) or "shared memory" in str(error):  # Docker gives 64 MB of it
            room = "shared memory (df /dev/shm; docker run --shm-size=8g) or open files (ulimit -n 4096)"
            print(f"{name}: a loading process ended: take fewer --workers, or give more {room}", file=sys.stderr)
            return 2
        if isinstance(error, RuntimeError) and not re.search(_NO_MEMORY, str(error)):
            raise  # a mistake of ours, and its traceback is wanted
        print(f"{name}: memory is not enough: take {remedy}", file=sys.stderr)
        return 2


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all the rest of a help text."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"plrc {plrc.__version__}")
        parser.exit()


def build_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of all commands. Its help has the defaults of the preset that the arguments name."""
    top = Parser(
        prog="plrc",
        description="Pre-train detection backbones without labels, see what they learn, and make detectors of them.",
        epilog="Every figure comes with its arrays (.npz) and a recipe (.json) that 'plrc replay' draws again.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="say which release this is, and end")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, handler: Handler, help: str, among: Any = commands) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = among.add_parser(
            name.split()[-1], help=help, description=help[0].upper() + help[1:] + ".", add_help=name != "app"
        )
        parser.set_defaults(handler=handler, command=name, parser=parser)
        return parser

    for name, view in VIEWS.items():
        parser = command(name, _view, view.help)
        add_arguments(parser, view.traits["query"])
        _add_output(parser, f"runs/look/{name}")

    replay = command("replay", _replay, "draw a recipe again, and compare")
    replay.add_argument(
        "recipe", type=at_home, help="the .json beside a figure; a run's not_finite.pt is computed again"
    )
    _add_output(replay, None)

    info = command("info", _info, "what a checkpoint is")
    info.add_argument("checkpoint", help=CHECKPOINT)
    export = command("export", _export, "write a backbone for another library")
    export.add_argument("checkpoint", help=CHECKPOINT)
    export.add_argument("--to", required=True, choices=("torchvision", "timm", "detectron2", "safetensors"))
    export.add_argument("--out", type=at_home, required=True, metavar="FILE", help=".pth, .pkl or .safetensors")
    for parser in (info, export):
        parser.add_argument("--branch", help=Query.__dataclass_fields__["branch"].metadata["help"])

    about = "train, measure and convert object detectors"
    detect = commands.add_parser("detect", help=about, description=f"{about.capitalize()}.")
    detecting = detect.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, job in JOBS.items():
        parser = command(name, _job, job.help, detecting if name.startswith("detect ") else commands)
        named = re.search(r"--preset[ =](\S+)", " ".join(arguments))
        preset = named[1] if named and named[1] in job.traits.get("presets", ()) else job.traits.get("preset", "")
        add_arguments(parser, **{**job.traits, "preset": preset})
    command("app", _app, "the workbench in a browser")
    return top


def _add_output(parser: argparse.ArgumentParser, default: str | None) -> None:
    named = f"[default {default or 'the name of the recipe with -replayed'}]"
    about = f"--out results/cat writes cat.png, cat.npz, … into results, and replaces earlier ones {named}"
    parser.add_argument("--out", type=at_home, default=default, metavar="NAME", help=about)
    about = "one or several [as NAME ends, or png]"
    parser.add_argument("--format", type=_formats, metavar=",".join(FORMATS), help=about)


def _formats(text: str) -> list[str]:
    found = text.split(",")
    if wrong := [kind for kind in found if kind not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no format: choose from {','.join(FORMATS)}")
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------------------------------------------------ commands


def _view(o: argparse.Namespace) -> None:
    view = VIEWS[o.command]
    query = read_arguments(o, view.traits["query"])
    with _ranks(view.traits.get("spread", False)) as (rank, ranks):
        if rank:  # the first one answers for all
            from plrc.views import draw

            draw(query)
            return
        early = view.traits.get("ends_early", False) and ranks == 1
        with _place(o) as save, _steps(early) as (progress, stopped):
            from plrc.views import draw

            try:
                save(draw(query, progress=progress))
            except ValueError as error:
                if stopped:
                    raise KeyboardInterrupt(f": {_sentence(error)}") from error
                raise
    if stopped:
        raise KeyboardInterrupt


@contextmanager
def _ranks(spread: bool) -> Iterator[tuple[int, int]]:
    """This process among those that torchrun or srun started, for work that is spread over them: its rank, and how
    many there are."""
    if not spread or ("RANK" not in os.environ and os.environ.get("SLURM_STEP_NUM_TASKS", "") in ("", "0", "1")):
        yield 0, 1
        return
    from plrc.distributed import world

    with world(minutes=_DAY) as here:  # one may have its share done long before another
        yield here.rank, here.size


def _replay(o: argparse.Namespace) -> None:
    if o.recipe.suffix == ".pt":
        from plrc.checkpoint import STEP, load_checkpoint

        saved = load_checkpoint(o.recipe, STEP)
        training = import_module("plrc.detection.train" if "architecture" in saved else "plrc.train")
        return print("\n".join(training.replay_step(saved)))
    o.out = o.out or o.recipe.parent / f"{o.recipe.stem}-replayed"
    with _place(o) as save:
        from plrc.views import replay

        drawing, changed = replay(o.recipe)
        save(drawing)
    if changed:
        raise ValueError(f"not the same as {o.recipe}: " + "; ".join(changed))
    print(f"all {len(drawing.arrays)} arrays are those of {o.recipe}, to the last bit")


@contextmanager
def _place(o: argparse.Namespace) -> Iterator[Callable[[Any], None]]:
    """Saves a drawing and says so; whether it can be written there is checked before the work."""
    out, ending = o.out, o.out.suffix[1:]
    if ending in FORMATS:  # --out map.pdf
        out = out.with_suffix("")
    check_place(out)

    def save(drawing: Any) -> None:
        files = drawing.save(out, o.format or [ending if ending in FORMATS else "png"])
        print("written: " + ", ".join(str(file) for file in files))
        if drawing.part:
            print(f"sheet: {drawing.part}, all are in {out}.csv")
        print("\n".join(drawing.lines))  # last, where they are seen

    yield save


def _info(o: argparse.Namespace) -> None:
    from plrc.pretrained.loading import describe

    print("\n".join(describe(o.checkpoint, o.branch)))


def _export(o: argparse.Namespace) -> None:
    from plrc.pretrained import load
    from plrc.pretrained.export import export

    print("\n".join(export(load(o.checkpoint, o.branch), o.to, o.out)))


def _job(o: argparse.Namespace) -> int:
    job = JOBS[o.command]
    options = read_arguments(o, job.traits["kind"], job.traits.get("presets"))
    if "RANK" not in os.environ and "SLURM_PROCID" not in os.environ:  # several ranks ask one alone
        options.check_place()
    done = job.load()(options)
    if isinstance(done, int):
        return done
    print("\n".join(done))
    return 0


def _app(o: argparse.Namespace) -> int:
    package = "plrc.app" if find_spec("plrc.app") else "app"  # which stands beside plrc/ in a checkout
    try:
        return int(import_module(f"{package}.__main__").main(o.rest))
    except ImportError as error:
        raise ValueError(f"the app needs {error.name}: pip install 'plrc[app]'") from error


def _sentence(error: Exception) -> str:
    # A loader process hands its error on with a traceback before it; its last line is the sentence.
    message = str(error).strip()
    if "Traceback" in message:
        message = re.sub(r"^\w*Error: ", "", message.splitlines()[-1])
    if isinstance(error, OSError) and error.filename and error.strerror:  # no [Errno 2] before it
        message = f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, OSError) and str(error.filename).startswith(str(cache_folder(""))):
        message = f"{error.filename} cannot be kept ({error.strerror}): let XDG_CACHE_HOME name a folder with room"
    return printable(" ".join(message.split()))


@contextmanager
def _steps(ends_early: bool) -> Iterator[tuple[Callable[[str, int, int], bool], list[bool]]]:
    """Tells of work how far it is: a bar on a terminal, elsewhere a line now and then.

    ends_early: Ctrl-C ends the work after the present image, and is noted; another one, or one before the first image,
    drops all.
    """
    from tqdm import tqdm

    terminal, at, told = sys.stderr.isatty(), "", time.monotonic()
    stopped: list[bool] = []
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        stopped.append(True)
        signal.signal(signal.SIGINT, before)

    with tqdm(disable=not terminal, leave=False) as bar:

        def progress(what: str, done: int, total: int) -> bool:
            nonlocal at, told
            if ends_early and not at:
                signal.signal(signal.SIGINT, stop)
            if terminal and what != at:  # work of another kind begins
                bar.set_description(what, refresh=False)
                bar.reset(total)
            at = what
            bar.update(done - bar.n)
            if not terminal and time.monotonic() - told > _EVERY:
                told = time.monotonic()
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
            return bool(stopped)

        try:
            yield progress, stopped
        finally:
            signal.signal(signal.SIGINT, before)
