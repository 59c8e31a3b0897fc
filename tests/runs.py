"""Small trainings, and the processes that tests start."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from plrc.config import Config, load_config
from plrc.run import read_log

ROOT = Path(__file__).parent.parent
SMALL = {
    "data": "scenes:24", "image_size": 32, "batch_size": 8, "epochs": 2, "queue_size": 64, "negatives": 32,
    "points_per_region": 2, "bn_groups": 2, "regions": "grid:2", "log_every": 1, "save_every": 1, "picture_every": 0,
    "precision": "fp32",
}  # fmt: skip


def small_config(out: Path, **changes: object) -> Config:
    return load_config("demo", None, {**SMALL, "out": str(out), **changes})


def flags(out: Path, **changes: object) -> list[str]:
    """The same as words of the command line."""
    fields = {**SMALL, "out": str(out), **changes}
    return ["--preset=demo", *(f"--{name.replace('_', '-')}={value}" for name, value in fields.items())]


def losses(out: Path) -> list[tuple[Any, ...]]:
    return [(line["step"], line["image"], line["point"], line["affinity"], line["lr"]) for line in read_log(out)]


def start(*arguments: object, apart: bool = False, **told: object) -> subprocess.Popen[str]:
    """Python, in a process group of its own, so that a kill reaches everything it started; told by the environment.

    Errors come with what it prints, or apart from it.
    """
    command, errors = [sys.executable, *map(str, arguments)], subprocess.PIPE if apart else subprocess.STDOUT
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {name: str(value) for name, value in told.items()}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str], code: int = 0, timeout: float = 300) -> str:
    """What it printed until its end, which has this exit status."""
    try:
        said, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code, f"{process.returncode}: {said}{errors or ''}"
    return said


def places(**more: object) -> list[dict[str, object]]:
    """What torchrun tells each of two ranks by the environment. It would be a third Python that imports torch."""
    both = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [{**both, "RANK": rank, "LOCAL_RANK": rank, **more} for rank in range(2)]


def by_two(*arguments: object, apart: bool = False, **more: object) -> str:
    """What two ranks print, the first one's before the other's."""
    return "".join(map(finish, [start(*arguments, apart=apart, **place) for place in places(**more)]))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
