"""plrc.cli: commands write what they say, and bad input is one sentence on stderr and status 2."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import typing
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from PIL import Image

from plrc import options
from plrc.__main__ import main as program
from plrc.cli import build_parser, main
from plrc.data.scenes import Scenes
from plrc.options import Point, Size, kind_of, name_of
from plrc.pretrained import load
from plrc.queries import VIEWS
from tests.sets import noise, placed
from tests.views.conftest import save_masked, save_photos

TINY, OTHER = "random:tiny", "random:tiny@1"
NETWORK = ["--checkpoint", TINY, "--size", "64"]
BOTH = ["--checkpoint", TINY, "--checkpoint", OTHER, "--size", "64"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with pictures, one of which lies on its side, and a data set with masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("plrc.cli._EVERY", 1e9)  # on a busy machine, too
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    save_photos(tmp_path / "photos")
    save_masked(tmp_path / "data")
    return tmp_path


def table(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fresh(code):
    """What a new Python prints, without a display and a home."""
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = "{'torch', 'matplotlib', 'sklearn', 'scipy', 'numpy', 'PIL'}"
DETECT = ["detect train", "detect eval", "detect convert"]


def test_help_and_typing_mistakes_do_not_wait_for_torch():
    """It takes seconds to import."""
    code = "import sys\nfrom plrc.cli import main\n"
    for words in (["affinity", "--point", "x"], ["--help"], ["affinity", "--help"]):
        code += f"try: main({words})\nexcept SystemExit: pass\n"
    out = fresh(f"{code}print('heavy:', {HEAVY} & set(sys.modules))")
    assert out.startswith("usage: plrc ")
    assert "usage: plrc affinity" in out
    assert out.endswith("heavy: set()\n")


def test_a_closed_stream_leaves_its_number_to_nothing_of_ours_and_a_removed_folder_is_named(tmp_path):
    code = "import os\nfrom plrc.cli import main\ntry: main(['--help'])\nfinally: os.fstat(2)"
    closed = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(closed, stdout=subprocess.DEVNULL).returncode == 0
    code = "import os\nfrom plrc.cli import main\nos.rmdir(os.getcwd())\nmain(['check', '/x'])"
    removed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert removed.returncode == 2
    assert removed.stderr == "plrc: the folder that this was called in was removed: cd to another one\n"


def test_what_is_there_already_is_refused_before_torch_is_imported(place):
    for folder in ("run", "runs/seed_1"):
        placed(place / folder / "checkpoints" / "last.pt").touch()
    placed(place / "shards" / "index.npy").touch()
    (place / "file").touch()
    detect = ["detect", "train", "--preset", "small", "--train", "scenes:2", "--test", "scenes:2", "--seeds", "2"]
    every = [
        ["train", "--data", "scenes:9", "--out", "run"],
        [*detect, "--out", "runs"],
        ["detect", "eval", "run", "--data", "scenes:2", "--out", "run/checkpoints/last.pt"],
        *(["train", "--data", "scenes:9", "--out", out] for out in ("", "file", "file/below")),
        ["shard", "photos", "shards"],
        ["check", "photos", "--out", "runs"],
        ["check", "photos", "--out", "file/found.csv"],
        ["affinity", "photos/a.png", "--out", "photos"],
    ]
    code = f"import sys\nfrom plrc.cli import main\nprint([main(words) for words in {every}])\n"
    assert fresh(f"{code}print('torch' in sys.modules)") == f"{[2] * 10}\nFalse\n"


@pytest.mark.parametrize(("words", "rank"), [(["train", "--dataa", "x"], "2"), (["train", "--data", ""], "0")])
def test_of_several_ranks_the_first_one_says_what_is_wrong(monkeypatch, capsys, words, rank):
    waited = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(options.time, "sleep", waited.append)
    with suppress(SystemExit):
        assert main(words) == 2
    assert waited == [5.0] * (rank != "0")
    assert capsys.readouterr().err.count("\n") == 1, "also of a rank whose error is its own"


def test_what_cannot_be_kept_tells_where_it_may_be(place, monkeypatch, capsys):
    (place / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "file"))
    assert main(["retrieve", "photos/a.png", "--among", "photos", *NETWORK, "--out", "out/x"]) == 2
    assert re.search(r"file/plrc/\S* cannot be kept \(Not a directory\): let XDG_CACHE_HOME", capsys.readouterr().err)


def test_each_command_has_help(capsys):
    for command in (*VIEWS, "info", "export", "replay", "train", "detect", *DETECT):
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--help"])
        assert stop.value.code == 0
        assert f"usage: plrc {command}" in capsys.readouterr().out


DRAWN = [
    ("affinity photos/a.png --point 0.5,0.25", BOTH, 2),
    ("affinity photos/c.jpg --point 40px,70px", NETWORK, 1),  # on its side
    ("affinity scenes:2 --difference", BOTH, 6),
    ("affinity data --most 2", NETWORK, 2),
    ("affinity photos/a.png --to photos/b.jpg --temperature 0.1", NETWORK, 2),
    ("correspond photos/a.png --with photos/b.jpg --mutual", NETWORK, 1),
    ("correspond photos scenes:1", BOTH, 8),
    ("correspond data#0 --with data#1 --regions grid:4", NETWORK, 1),
    ("embed photos data --of images", BOTH, 6),
    ("embed scenes:2 --of points --method pca --per-image 9", NETWORK, 18),
    ("colours photos --keep-basis basis.npz", NETWORK, 3),
    ("segments data --clusters 3", BOTH, 6),
    ("retrieve photos/a.png --among data --answers 2", BOTH, 4),
]


@pytest.mark.parametrize(("words", "network", "rows"), DRAWN)
def test_a_picture_comes_with_its_arrays_its_table_and_its_recipe(place, capsys, words, network, rows):
    assert main([*words.split(), *network, "--out", "out/x"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("written: out/x.png, out/x.npz, out/x.json, out/x.csv\n")
    assert sorted(file.name for file in (place / "out").iterdir()) == ["x.csv", "x.json", "x.npz", "x.png"]
    with Image.open("out/x.png") as picture:
        assert min(picture.size) > 100
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20  # something is drawn
    assert len(table("out/x.csv")) == rows
    recipe = json.loads((place / "out/x.json").read_text())
    assert said.out.splitlines()[1:] == recipe["lines"]
    with np.load("out/x.npz") as arrays:
        assert list(arrays) == list(recipe["arrays"])
        assert all(np.isfinite(arrays[name]).all() for name in arrays if name.endswith(" 0"))


def words_of(field, kind):
    """A value that is not the default, as it is typed, for each kind of field."""
    member = next(iter(typing.get_args(kind)), kind) if typing.get_origin(kind) else kind
    choices = list(field.metadata["choices"])
    values = {str: (choices or ["x"])[-1], int: "3", float: "0.25", Point: "0.25,0.5", Size: "80x64"}
    name = name_of(field)
    return [name] if kind is bool else [values[member]] if field.metadata["positional"] else [name, values[member]]


@pytest.mark.parametrize("view", VIEWS)
def test_every_field_of_a_query_arrives_from_the_shell(view, monkeypatch):
    asked = []
    monkeypatch.setattr("plrc.views.draw", lambda query, progress: asked.append(query))
    monkeypatch.setattr("plrc.cli._place", lambda o: nullcontext(lambda drawing: None))
    kind = VIEWS[view].traits["query"]
    kinds, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    arrived = set[str]()
    for of, *values in {field.metadata["only"] or ("",) for field in fields}:  # all that count with the same choice
        together = [field for field in fields if (field.metadata["only"] or ("",)) == (of, *values)]
        words = [word for field in together for word in words_of(field, kind_of(kinds[field.name])[0])]
        needed = [field for field in fields if of and field.metadata["positional"]]
        words += [word for field in needed for word in words_of(field, str)] + [f"--{of}", *values[:1]] * bool(of)
        assert main([view, *words]) == 0
        arrived |= {field.name for field in together} & set(asked[-1].changed())
    assert arrived == {field.name for field in fields}


def test_a_sheet_says_that_it_does_not_show_all(place, capsys):
    assert main(["affinity", "scenes:13", *NETWORK, "--out", "x"]) == 0
    assert "\nsheet: 12 of 13 images, all are in x.csv\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "files"),
    [("--out map.pdf", {"map.pdf"}), ("--out map.v2 --format svg,png", {"map.v2.svg", "map.v2.png"})],
)
def test_formats(place, words, files):
    assert main(["affinity", *NETWORK, *words.split(), "photos/a.png"]) == 0  # no picture is taken for a format
    assert {file.name for file in place.glob("map*") if file.suffix not in (".csv", ".npz", ".json")} == files


FAILURES = [
    ("embed photos --per-image 9", "--per-image counts with --of points alone: give that, or leave --per-image out"),
    ("retrieve photos/b.jpg --of image --point 0.1,0.1", "--point counts with --of point or region alone"),
    ("affinity photos/b.jpg --difference", "--difference compares two checkpoints"),
    ("affinity photos --to scenes#1", "name one image before it"),
    ("affinity photos/b.jpg --size 8x8", r"tiny sees b, at 8 × 8 pixels, as one cell, .*: give a --size of 16 or more"),
    ("correspond scenes#3 --size 64x48", "two views are squares: give --size one number, not 64x48"),
    ("correspond photos --with scenes#4", "--with matches one image with another"),
    ("correspond scenes#3 --point 0.5,0.5 --regions grid:2", "exclude each other"),
    ("correspond scenes#3 --size 8", "random:tiny sees scene 3, at 8 × 8 pixels, as one cell"),
    (
        "embed scenes#3 --of points --checkpoint random:tiny --checkpoint random:resnet18",
        "has maps of other cells than",
    ),
    ("affinity photos --device cuda", r"--device cuda cannot be used here \(.+\): take cpu"),
    ("score data --device gpu", r"--device gpu cannot be used here \(there is none of that name\): take cuda"),
    ("score data --measures auc,iou", "unknown score 'auc,iou': .*; several stand apart by spaces"),
    ("affinity photos --checkpoint photos/a.png", r"photos/a\.png is an image: name a checkpoint"),
    ("replay .", r"the recipe \. cannot be read: Is a directory"),
    ("info gone.pth", r"no file or folder gone\.pth: give a checkpoint"),
    ("affinity photos/a.png --out broken.png/x", r"broken\.png cannot be written \(.+\): name"),
    ("score data --out photos", "--out photos is a folder: give a name for new files"),
    ("embed data --out photos/b.jpg", "--out photos/b.jpg is a file: give a name for new files"),
]


@pytest.mark.parametrize(("command", "message"), FAILURES)
def test_bad_input_is_one_sentence(place, capsys, command, message):
    (place / "broken.png").write_text("no picture")
    words = command.split()
    if words[0] in VIEWS:
        words += ["--out", "x"] * ("--out" not in words)
        words += ["--checkpoint", TINY] * ("--checkpoint" not in words) + ["--size", "64"] * ("--size" not in words)
    before = sorted(place.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"plrc {words[0]}: ")
    assert re.search(message, said.err), said.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["affinity", "x.png", "--point", "0.5"], "'0.5' is not a point, 0.4,0.6 (shares of width and height"),
        (["affinity", "x.png", "--point", "12,40"], "or 120px,85px"),
        (["affinity", "x.png", "--point", "-0.1,0.5"], "expected one argument"),
        (["affinity", "x.png", "--size", "0"], "--size: '0' is not a size in pixels, 448 (the short side) or 640x480"),
        (["affinity", "x", "--most", "2.5"], "--most: '2.5' is not a whole number"),
        (["affinity", "x", "--format", "png,gif"], "'gif' is no format: choose from png,pdf,svg"),
        (["affinity", "x", "--chekpoint", "y"], "arguments: --chekpoint y; did you mean '--checkpoint'?"),
        (["train", "--data", "a", "--data", "b"], "argument --data: it is given twice, a and b: give one"),
        (["train", "--config", "a", "--config", "b"], "argument --config: it is given twice, a and b: give one"),
        (["train", "--learning-rate", "1"], "--learning-rate 1; did you mean '--lr'?"),
        (["detect", "train", "--steps=9"], "--steps=9; did you mean '--iterations'?"),
        (["tran"], "; did you mean 'train'?"),
        (["train", "--preset", "photo"], "; did you mean 'photos'?"),
        (["affinity"], "required: "),
        ([], "required: COMMAND"),
    ],
)
def test_typing_mistakes(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    command = said.partition(": ")[0]
    assert command.split() == ["plrc", *words][: len(command.split())]
    assert said.endswith(f"; see {command} --help\n")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "plrc: interrupted\n"),
        (MemoryError(), 2, "take a smaller --size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), 2, "take a smaller --size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
            2,
            "take a smaller --size",
        ),
        (RuntimeError("DataLoader worker is killed: workers are out of shared memory"), 2, "--shm-size=8g"),
        (RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 1."), 2, "a loading process ended"),
        (RuntimeError("DataLoader timed out after 600 seconds"), 2, "ulimit -n 4096"),
        (ValueError("one\n  two"), 2, "plrc affinity: one two\n"),
    ],
)
def test_what_ends_a_command(place, capsys, monkeypatch, error, status, message):
    def fail(*arguments, **how):
        raise error

    if isinstance(error, KeyboardInterrupt):  # while it is imported, or reads its arguments
        with monkeypatch.context() as early:
            early.setattr("plrc.cli.build_parser", fail)
            assert program("info") == status
        assert capsys.readouterr().err == message
    monkeypatch.setattr("plrc.views.draw", fail)
    assert main(["affinity", "photos", *NETWORK, "--out", "x"]) == status
    assert message in capsys.readouterr().err
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")  # a mistake of ours keeps its traceback
    with pytest.raises(RuntimeError, match="mat1"):
        main(["affinity", "photos", *NETWORK])


def test_the_home_folder_stands_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/ada")
    for command in (["replay", "a.json"], ["affinity", "c.png"], ["export", "x", "--to", "timm"]):
        assert str(build_parser().parse_args([*command, "--out=~/b"]).out) == "/ada/b"
    assert str(build_parser().parse_args(["replay", "~/a.json"]).recipe) == "/ada/a.json"


def test_replay(place, capsys):
    assert main(["affinity", "photos/a.png", "--point", "0.2,0.6", *BOTH, "--out", "x"]) == 0
    capsys.readouterr()
    assert main(["replay", "x.json"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("written: x-replayed.png, x-replayed.npz")
    assert said.out.endswith("all 4 arrays are those of x.json, to the last bit\n")
    assert (place / "x-replayed.npz").read_bytes() == (place / "x.npz").read_bytes()
    assert (place / "x-replayed.png").read_bytes() == (place / "x.png").read_bytes()
    noise(64, 64, 9).save("photos/a.png")
    assert main(["replay", "x.json", "--out", "y"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("plrc replay: not the same as x.json: photos/a.png is not the same as then; the array")
    assert (place / "y.png").exists()  # to look at what has changed


def test_score(place, capsys):
    assert main(["score", "data", *BOTH, "--layer", "c2", "--out", "out/s", "--format", "png,pdf"]) == 0
    said = capsys.readouterr()
    files = ["s.png", "s.pdf", "s.npz", "s.json", "s.csv", "s.md"]
    assert said.out.startswith("written: " + ", ".join(f"out/{file}" for file in files))
    assert "\nregion purity " in said.out
    assert sorted(file.name for file in (place / "out").iterdir()) == sorted(files)
    assert said.err == ""


def test_an_interrupted_score_is_kept(place, capsys, monkeypatch):
    """Ctrl-C during the first picture."""
    load, before, waiting = Scenes.load, signal.getsignal(signal.SIGINT), [signal.SIGINT]

    def interrupted(self, i, at_least=None):
        if waiting:
            signal.raise_signal(waiting.pop())
        return load(self, i, at_least)

    monkeypatch.setattr(Scenes, "load", interrupted)
    assert main(["score", "scenes:3", *NETWORK, "--out", "s"]) == 130
    said = capsys.readouterr()
    assert "\nscenes:3 (interrupted after 1 images)" in said.out
    assert said.err.endswith("plrc: interrupted\n")
    assert json.loads((place / "s.json").read_text())["interrupted_after"] == 1
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main(["replay", "s.json"]) == 0  # what there was until then
    assert "all 27 arrays are those of s.json" in capsys.readouterr().out


def test_ctrl_c_before_there_is_an_answer_is_one_sentence(place, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    load = Scenes.load

    def interrupted(self, i, at_least=None):
        signal.raise_signal(signal.SIGINT)
        return load(self, i, at_least)

    monkeypatch.setattr(Scenes, "load", interrupted)
    ask = ["retrieve", "photos/a.png", *NETWORK, "--out", "r", "--among"]
    assert main([*ask, "scenes:3"]) == 130
    told = "scenes:3 is not indexed yet, and this was ended before 3 images were seen: let it go on"
    assert capsys.readouterr().err == f"plrc: interrupted: {told}\n"
    # Python 3.10 calls the handler a little later: len() of what is given is an error then.
    ended = lambda _: (signal.raise_signal(signal.SIGINT), time.sleep(60))  # noqa: E731
    monkeypatch.setattr("plrc.views.retrieval.open_annotated", ended)
    assert main([*ask, "scenes:4"]) == 130  # at once: noted it is only where there is something to be kept
    assert capsys.readouterr().err == "plrc: interrupted\n"


def test_who_looks_sees_a_bar(place, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["embed", "data", *NETWORK, "--out", "x"]) == 0
    bars = capsys.readouterr().err
    assert "images, random:tiny" in bars
    assert "t-SNE steps, random:tiny" in bars


def test_info(place, capsys):
    assert main(["info", TINY]) == 0
    out = capsys.readouterr().out
    assert out.startswith("random:tiny: random\n")
    assert "c2 " in out
    assert "seed 0, untrained" in out


def test_export(place, capsys):
    assert main(["export", "random:tiny", "--to", "safetensors", "--out", "r.safetensors"]) == 0
    assert capsys.readouterr().out.startswith("r.safetensors: ")
    trunk, back = (load(name).backbone.state_dict() for name in ("random:tiny", "r.safetensors"))
    assert all(torch.equal(trunk[name], back[name]) for name in trunk)


def test_a_look_needs_no_display_and_no_home_and_loads_neither_torchvision_nor_a_compiler(place):
    """They take longer to import than torch itself."""
    look = ["affinity", "photos/a.png", "--size", "64", "--out", "x"]
    code = f"import sys\nfrom plrc.cli import main\nassert main(['info', 'plrc:tiny']) == main({look}) == 0\n"
    later = "{'torchvision', 'torch._dynamo', 'sklearn', 'scipy.optimize', 'timm'}"
    assert fresh(f"{code}print('heavy:', {later} & set(sys.modules))").endswith("heavy: set()\n")
    assert (place / "x.png").exists()


@pytest.mark.parametrize("command", ["affinity data", "embed data --of points", "score data"])
def test_without_a_terminal_progress_is_a_line_now_and_then(place, capsys, monkeypatch, command):
    monkeypatch.setattr("plrc.cli._EVERY", 0.0)
    assert main([*command.split(), *NETWORK, "--out", "look"]) == 0
    assert re.search(r"^images.*: 3 of 3$", capsys.readouterr().err, re.MULTILINE)
