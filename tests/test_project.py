"""The files around the package agree with one another: requirements, version, import rule, no path of one machine."""

import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import plrc

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# PyPI's name -> conda-forge's, where they differ
CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}
# What a conda environment has and pyproject.toml does not ask for: the interpreter and its installer
CONDA_ONLY = {"python", "pip"}
PIP_ONLY = "axe-playwright-python>=0.1.4"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The ``[project]`` table of pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def conda_requirements(environment: dict[str, Any]) -> dict[str, SpecifierSet]:
    """``{name: version range}`` of environment.yml; its ``pip`` section is not a requirement."""
    requirements = {}
    for line in environment["dependencies"]:
        if isinstance(line, str):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line)
            assert match is not None, f"environment.yml: cannot read {line!r}"
            name, versions = match.groups()
            # conda's "python=3.11" means any 3.11
            versions = re.sub(r"^=(?!=)(.*)$", r"==\1.*", versions)
            requirements[name] = SpecifierSet(versions)
    return requirements


def pip_requirements(project: dict[str, Any], python: str) -> dict[str, SpecifierSet]:
    """``{conda's name: version range}`` of the core and all extras, for the given Python version."""
    requirements: dict[str, SpecifierSet] = {}
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *(line for extra in extras.values() for line in extra)]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name == project["name"]:
            assert requirement.extras <= extras.keys(), f"{line} names an extra that does not exist"
        elif requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            name = CONDA_NAMES.get(name, name)
            requirements[name] = requirements.get(name, SpecifierSet()) & requirement.specifier
    return requirements


def test_conda_and_pip_ask_for_the_same(project: dict[str, Any], environment: dict[str, Any]) -> None:
    conda = conda_requirements(environment)
    python = str(conda["python"]).removeprefix("==").removesuffix(".*")
    pip = pip_requirements(project, python)
    asked = Requirement(PIP_ONLY)
    assert pip.pop(asked.name) == asked.specifier
    assert {name: versions for name, versions in conda.items() if name not in CONDA_ONLY} == pip
    assert SpecifierSet(project["requires-python"]).contains(f"{python}.0")


def test_conda_installs_the_package_itself(environment: dict[str, Any]) -> None:
    pip_lines = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert pip_lines == [[PIP_ONLY, "-e ."]]


def test_this_environment_meets_the_core_requirements(project: dict[str, Any]) -> None:
    for line in project["dependencies"]:
        requirement = Requirement(line)
        installed = version(requirement.name)
        assert requirement.specifier.contains(installed, prereleases=True), f"{line}, but {installed} is installed"


def test_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## \[(.+?)\]", changelog, flags=re.MULTILINE)
    assert entries[0] == project["version"], "the newest entry of CHANGELOG.md is for another version"
    assert entries == sorted(entries, key=Version, reverse=True)


def test_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), "required by CFF 1.2.0"
    paper = citation["preferred-citation"]
    assert paper["title"] == "Point-Level Region Contrast for Object Detection Pre-Training"
    assert [author["family-names"] for author in paper["authors"]] == ["Bai", "Chen", "Kirillov", "Yuille", "Berg"]
    assert paper["year"] == 2022
    assert paper["identifiers"][0]["value"] == "arXiv:2202.04639"


def test_import_rule() -> None:
    """The contracts of ``[tool.importlinter]``: a printed chain of imports says which one is broken, and where."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_package_and_its_command_tell_their_version() -> None:
    said = subprocess.run([sys.executable, "-m", "plrc", "--version"], cwd=ROOT, capture_output=True, text=True).stdout
    assert said == f"plrc {plrc.__version__}\n" == f"plrc {version('plrc')}\n"


IMPORTS = """
import sys, tests.conftest
sys.addaudithook(lambda event, _: event != "socket.connect" or 1 / 0)
import plrc
print({"matplotlib", "tensorboard", "sklearn", "skimage", "gradio", "IPython"} & set(sys.modules))
print([name for name in dir(plrc) if not name.startswith("_")])
import notebooks.clicking
print("gradio" in sys.modules)
import plrc.train, plrc.views, plrc.figures, plrc.detection.train, plrc.pretrained, app.page
"""


def test_imports_are_light_and_ask_no_other_machine_and_what_the_package_offers_is_listed() -> None:
    """What only some uses need (figures, TensorBoard, t-SNE, superpixels, the app) is imported when it is used."""
    with pytest.raises(OSError, match=r"not 192\.0\.2\.1"):  # nor does a test
        socket.create_connection(("192.0.2.1", 9), timeout=1)
    result = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n['analysis', 'figures', 'load_encoder']\nFalse\n", "the widget needs no gradio"


def project_files() -> list[Path]:
    """Every file that is committed, or would be by ``git add .``."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    """The project works from any folder."""
    # The leading slash is put on below, so that this file does not match itself.
    folders = ["work/(?:main|shared|try|[.])", "root/", "home/[a-z]", "Users/[A-Za-z]"]
    machine_path = re.compile(rb"(?<![\w.~}])/(?:" + "|".join(folders).encode() + rb")")
    found = []
    for file in project_files():
        content = file.read_bytes()
        is_text = b"\0" not in content
        found += [f"{file.relative_to(ROOT)}: {hit.group()!r}" for hit in machine_path.finditer(content) if is_text]
    assert found == []
