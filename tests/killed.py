"""A run that is killed again and again, and the run that never was: ``python tests/killed.py OUT KILLS SEED RANKS``.

Each start goes on with ``--resume auto`` and one of its ranks, any of them, dies by SIGKILL: after a random time, at
a random one of its file operations (open, rename, link, remove), or with half a checkpoint written; then the others are
killed too, as torchrun does. Prints how often it died of what, and whether both runs' losses are the same. Every start
is a fork of this process, which never trains itself.
"""

import io
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils import tensorboard  # noqa: F401 # here, so that no start has to import it

from plrc import report, run, train
from plrc.config import load_config

SMALL = {"data": "scenes:16", "image_size": 32, "batch_size": 4, "epochs": 2, "queue_size": 16, "negatives": 16}
SMALL |= {"points_per_region": 2, "regions": "grid:2", "log_every": 1, "save_every": 1, "picture_every": 0}
SMALL |= {"precision": "fp32"}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_file_operation(out: Path, number: int) -> None:
    """Die before the file operation of that number in the run folder."""
    left = [number]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.link", "os.remove") and str(out) in str(arguments[:2]):
            left[0] -= 1
            if left[0] < 0:
                die()

    sys.addaudithook(hook)


def within_checkpoint(number: int) -> None:
    """Die with half of the checkpoint of that number written."""
    save, left = torch.save, [number]

    def half(content: object, stream: io.BufferedWriter) -> None:
        left[0] -= 1
        if left[0] >= 0:
            return save(content, stream)
        save(content, whole := io.BytesIO())
        stream.write(whole.getvalue()[: whole.tell() // 2])
        stream.flush()
        die()

    torch.save = half


def start(out: Path, ranks: int, victim: int, fault: Callable[[], None] | None, seconds: float | None) -> int:
    """One start in processes of its own; their exit status, negative if one was killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    children = list[int]()
    for rank in range(ranks):
        if not (child := os.fork()):
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            os.environ |= {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            report.before_and_after = lambda *_: []
            if fault and rank == victim:
                fault()
            os._exit(train.pretrain(load_config("demo", None, {**SMALL, "out": str(out), "resume": "auto"})))
        children.append(child)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(children[victim], signal.SIGKILL)
    worst = 0
    while children:
        child, status = os.waitpid(-1, 0)
        children.remove(child)
        worst = worst or os.waitstatus_to_exitcode(status)
        for other in children if worst else ():  # as torchrun ends them
            os.kill(other, signal.SIGKILL)
    return worst


def main(folder: Path, kills: int, seed: int, ranks: int) -> None:
    rng, died, runs = random.Random(seed), Counter[str](), 0
    began = time.monotonic()
    assert start(folder / "whole", ranks, 0, None, None) == 0
    whole = time.monotonic() - began
    expected = [{**line, **dict.fromkeys(UNEVEN)} for line in run.read_log(folder / "whole")]
    while sum(died.values()) < kills:
        runs += 1
        out = folder / f"killed-{runs}"
        for _ in range(min(6, kills)):  # then it may end
            kind = rng.choice(("time", "file operation", "half a checkpoint"))
            fault: Callable[[], None] | None = None
            if kind == "file operation":
                fault = lambda: before_file_operation(out, rng.randrange(40))  # noqa: B023, E731
            elif kind == "half a checkpoint":
                fault = lambda: within_checkpoint(rng.randrange(4))  # noqa: E731
            status = start(out, ranks, rng.randrange(ranks), fault, rng.uniform(0, whole) if kind == "time" else None)
            rng.random()
            lost = ranks > 1 and status == 1  # a rank that lost its peer may be seen to end first
            assert status in (0, -signal.SIGKILL) or lost, f"{kind}: the start ended with {status}"
            died[kind] += status != 0
        assert start(out, ranks, 0, None, None) == 0
        found = [{**line, **dict.fromkeys(UNEVEN)} for line in run.read_log(out)]
        assert found == expected, f"other losses in {out}"
        left = [str(file) for file in out.rglob(".*.tmp")]
        assert not left, left
    print(json.dumps({"kills": sum(died.values()), "runs": runs, "equal": True, **died}))


UNEVEN = ("images_per_second", "data_wait", "memory_mib")  # of a line of the log: they measure the machine

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
