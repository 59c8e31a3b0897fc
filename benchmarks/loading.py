"""How many images a second one process prepares: decoding once, two crops, regions; and how fast colour is applied.

    python benchmarks/loading.py /data/imagenet                # at 224 px, on one core
    python benchmarks/loading.py scenes:500 --image-size 64

One thread, no workers: multiply by the cores that load. The first pass, which fills the disk cache, does
not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

from plrc.config import load_config
from plrc.data.kept import KeptRegions
from plrc.data.loader import TwoViews, collate
from plrc.data.sources import open_source
from plrc.regions import open_regions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of images, shards, or scenes:N")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument(
        "--regions", default="grid:4", help="those that are kept are read back: the first pass makes them"
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(given={"data": arguments.data, "image_size": arguments.image_size})
    source = open_source(arguments.data)
    regions = KeptRegions(open_regions(arguments.regions, os.path.abspath(arguments.data)), source, arguments.data)
    dataset = TwoViews(source, regions, config)
    count = min(arguments.images, len(source))

    loading, colouring = [], []
    for epoch in range(arguments.repeats + 1):
        start = time.perf_counter()
        batch = collate(dataset.__getitems__([(epoch, i) for i in range(count)]))
        loaded = time.perf_counter()
        batch.coloured()
        loading.append(count / (loaded - start))
        colouring.append(2 * count / (time.perf_counter() - loaded))
    print(f"{arguments.data}, {count} images, two views of {arguments.image_size} px, one thread")
    print(
        f"loading {statistics.median(loading[1:]):.0f} images/s, colour {statistics.median(colouring[1:]):.0f} views/s"
    )


if __name__ == "__main__":
    main()
