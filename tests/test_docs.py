"""The docs: every command is one that the parsers take, and the Python runs."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from app import __main__ as app
from plrc import cli, config
from plrc.checkpoint import save_checkpoint
from plrc.model import PLRC
from plrc.options import read_arguments
from plrc.run import EXIT_PREEMPTED
from tests.sets import noise, placed

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words of every command line, comments left out and continued lines joined."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    # A comment begins a word: scenes#3 is none, though shlex would take it for one.
    return [words for line in lines if (words := shlex.split(re.sub(r"(^|\s)#.*", "", line)))]


ALL = [(page, words) for page in PAGES for words in commands(page)]


def of_plrc(words: list[str]) -> list[str]:
    """What stands behind plrc in a command, which may be started by torchrun; nothing of another program's."""
    if words[0] == "plrc":
        return words[1:]
    return words[words.index("plrc") + 1 :] if words[0] == "torchrun" and "plrc" in words else []


@pytest.mark.parametrize("words", [of_plrc(w) for _, w in ALL if of_plrc(w)], ids=" ".join)
def test_plrc_takes_the_commands_of_the_docs(words):
    if words[0] == "app":  # which reads its own
        assert app.parse(words[1:]).port
        return
    assert cli.build_parser().parse_args(words).command.split()[0] == words[0]


@pytest.mark.parametrize("words", [w for _, w in ALL if "train_ddp.py" in w], ids=" ".join)
def test_training_takes_the_commands_of_the_docs(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    placed(tmp_path / "runs/r50/config.yaml").write_text("arch: resnet50\n")  # what `--config` names
    flags = words[words.index("train_ddp.py") + 1 :]
    options = cli.build_parser().parse_args(["train", *(flag for flag in flags if flag != "…")])
    assert read_arguments(options, config.Config, config.PRESETS).out


@pytest.mark.parametrize("words", [w for _, w in ALL if w[0] == "python" and "train_ddp.py" not in w], ids=" ".join)
def test_scripts_of_the_docs_are_there(words):
    if words[1] == "-m":
        place = ROOT.joinpath(*words[2].split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
    else:
        assert (ROOT / words[1]).is_file()


def test_the_examples_for_clusters_start_a_training():
    script, *kinds = (
        (ROOT / "docs/slurm.sh").read_text(),
        *yaml.safe_load_all((ROOT / "docs/kubernetes.yaml").read_text()),
    )
    assert [of["kind"] for of in kinds] == ["Service", "Job"]
    in_pod = kinds[1]["spec"]["template"]["spec"]["containers"][0]["command"]
    in_job = shlex.split(script.replace("\\\n", " ").partition("train_ddp.py ")[2].partition("\n")[0])
    for flags in (in_pod[in_pod.index("train") + 1 :], in_job):
        options = read_arguments(cli.build_parser().parse_args(["train", *flags]), config.Config, config.PRESETS)
        assert options.resume == "auto"
    assert not options.batch_size % 32
    assert subprocess.run(["bash", "-n", ROOT / "docs/slurm.sh"], check=False).returncode == 0
    assert f"-eq {EXIT_PREEMPTED} ]" in script


@pytest.mark.parametrize("words", [w for _, w in ALL if w[0] == "make"], ids=" ".join)
def test_make_has_the_targets_of_the_docs(words):
    assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_what_benchmarks_import_is_there(file, monkeypatch):
    monkeypatch.syspath_prepend(file.parent)
    runpy.run_path(str(file), run_name="imported")


def test_the_docs_have_commands():
    """Else the tests above would be of nothing."""
    first = [words[0] for _, words in ALL]
    assert first.count("plrc") > 10
    assert {"plrc", "make", "python", "torchrun"} <= set(first)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the Python of the docs opens: a picture, and an untrained run."""
    monkeypatch.chdir(tmp_path)
    noise(64, 48).save("photo.jpg")
    demo = config.load_config("demo")
    torch.manual_seed(0)
    content = {"step": 1, "epoch": 1.0, "ranks": 1, "images": "", "config": demo.to_dict(), "optimizer": {}}
    content["model"] = PLRC(demo).state_dict()
    save_checkpoint(tmp_path / "runs/demo/checkpoints/last.pt", content)
    return tmp_path


# What asks a server is tried by tests/app/test_page.py.
ALONE = [page for page in PAGES if page != "docs/app.md"]


@pytest.mark.parametrize(("page", "number"), [(p, i) for p in ALONE for i in range(len(blocks(p, "python")))])
def test_python_of_the_docs_runs(workplace, page, number):
    exec(compile(blocks(page, "python")[number], page, "exec"), {})
