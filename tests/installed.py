"""Wheel and sdist, built, installed and used from elsewhere: ``python tests/installed.py [--no-deps]``.

Each is installed into an environment of its own: an empty one, into which all requirements come; with ``--no-deps`` one
that borrows those of this Python.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAIN = "train --preset demo --data scenes:16 --epochs 1 --batch-size 8 --image-size 32 --regions grid:2 --out run"
USES = (
    "--help",
    "app --help",
    TRAIN,
    "info run",
    "affinity scenes#1 --checkpoint run --size 64 --out map",
    "replay map.json",
)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def main(place: Path, borrowed: bool) -> None:
    for part in ("wheel", "sdist"):
        backend = f"import setuptools.build_meta as b; print(b.build_{part}({str(place)!r}))"
        file = place / run(sys.executable, "-c", backend, cwd=ROOT).split()[-1]
        environment = place / part
        run(sys.executable, "-m", "venv", environment, cwd=place)
        python = environment / "bin" / "python"
        if borrowed:
            ours = sysconfig.get_path("purelib")
            site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
            (site / "borrowed.pth").write_text(f"{ours}\n")
        how = ["--no-deps"] if borrowed else []
        run(python, "-m", "pip", "install", "--quiet", *how, f"{file}[app]" if not borrowed else file, cwd=place)
        elsewhere = place / f"from-{part}"
        elsewhere.mkdir()
        where = run(python, "-c", "import plrc; print(plrc.__file__)", cwd=elsewhere)
        assert str(environment) in where, where
        for words in USES:
            run(environment / "bin" / "plrc", *words.split(), cwd=elsewhere)
        print(f"{file.name}: installed and used, {len(USES)} commands")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place), "--no-deps" in sys.argv)
