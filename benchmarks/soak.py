"""Do memory and open files stay level in a long run of the app, and of training?

    python -m benchmarks.soak app training --minutes 30

Starts ``plrc app`` and asks it without a pause for affinities of ever other scenes, more than its cache holds, each
from a new client; or a demo training with two loading processes. Prints memory and open files of each with its
children, six times over the minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import httpx
from gradio_client import Client

PORT = 7896


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("app", "training"), help="one after the other")
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    print("| what | minutes | memory, MB | open files | done |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        log = Path(out, "run", "log.jsonl")
        training = ["train_ddp.py", "--preset=demo", "--epochs=10000", "--compile=off", "--workers=2"]
        runs = {
            "app": (["-m", "plrc", "app", f"--port={PORT}", "--cache=100"], ask(count())),
            "training": ([*training, f"--out={out}/run"], lambda: steps(log)),
        }
        for what in options.what:
            watch(what, *runs[what], options.minutes)


def watch(what: str, command: list[str], act: Callable[[], int], minutes: float) -> None:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while act() < 20:  # it has begun
            time.sleep(1)
            if process.poll() is not None:
                raise SystemExit(f"{what} has ended by itself: start {' '.join(command)} to see why")
        start = time.monotonic()
        for part in range(6):
            while time.monotonic() < start + part * 60 * minutes / 5:
                act()
            memory, files = of(process.pid)
            print(f"| {what} | {part * minutes / 5:.0f} | {memory:.0f} | {files} | {act()} |", flush=True)
    finally:
        process.terminate()
        process.wait()


def ask(calls: count[int]) -> Callable[[], int]:
    """Another scene by a new client; gives how many were asked for."""

    def act() -> int:
        try:
            client = Client(f"http://127.0.0.1:{PORT}/", verbose=False)
        except httpx.TransportError:  # not yet there
            return 0
        call = next(calls)
        client.predict(images=[f"scenes#{call % 1000}"], checkpoints=["plrc:tiny"], size=448, api_name="/affinity")
        return call + 1

    return act


def steps(log: Path) -> int:
    time.sleep(1)
    return len(log.read_text().splitlines()) if log.exists() else 0


def of(pid: int) -> tuple[float, int]:
    """Megabytes that a process and its children have written and share with none, and their open files."""
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty")) / 1024
    below = [of(child) for child in children]
    return own + sum(m for m, _ in below), len(list(Path(f"/proc/{pid}/fd").iterdir())) + sum(f for _, f in below)


if __name__ == "__main__":
    main()
