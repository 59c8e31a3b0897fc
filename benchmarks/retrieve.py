"""How long ``plrc retrieve`` takes, and how much room: ``python -m benchmarks.retrieve FOLDER [CHECKPOINT]``.

The index is made where there is none; then patches like random points of random images of the folder, and images like
random ones, are asked for at one session, as the app does. Prints medians.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from plrc.files import cache_folder
from plrc.queries import Retrieval
from plrc.views import Session, draw, list_images

QUESTIONS = 15


def main(folder: str, checkpoint: str = "plrc:tiny") -> None:
    session, rng = Session(1024), random.Random(0)
    images = rng.sample(list_images([folder], 500), QUESTIONS)
    for of in ("point", "image"):
        seconds, processor = [], []
        for spec in [images[0], *images]:
            point = (rng.random(), rng.random())
            query = Retrieval(images=(spec,), checkpoints=(checkpoint,), among=folder, of=of, points=(point,))
            begun, worked = time.perf_counter(), time.process_time()
            drawing = draw(query, session)
            seconds.append(time.perf_counter() - begun)
            processor.append(time.process_time() - worked)
        first, *rest = seconds
        print(f"{of}: {drawing.lines[0]}")
        print(f"  first answer {first:.1f} s, of the processor {processor[0]:.1f} s")
        middle = statistics.median(rest), statistics.median(processor[1:]), max(rest)
        print("  an answer {:.2f} s, of the processor {:.2f} s; longest {:.2f} s".format(*middle))
    room = sum(file.stat().st_size for file in cache_folder("retrieval").rglob("*.npz"))
    print(f"all indexes of this machine: {room / 1e6:.0f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
