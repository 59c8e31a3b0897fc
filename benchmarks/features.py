"""What looking costs: encoding a picture, and asking its map, in milliseconds; and the memory of a large picture.

python benchmarks/features.py            # ResNet-50, untrained: the arithmetic is the same
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

import plrc
from plrc.analysis.affinity import affinity
from plrc.analysis.features import FeatureMap
from plrc.run import peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    encoder = plrc.load_encoder("random:resnet50")
    pixels = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {repeats}\n")
    print("| | milliseconds |\n|---|---|")
    report("features of a 448 px picture, c5", lambda: encoder.features(picture), repeats)
    for cells in (14, 56):
        size = (cells * 32, cells * 32)
        fmap = FeatureMap(torch.randn(2048, cells, cells), size, size, 32, "c5")
        what = f"affinity of a point, {cells} × {cells} × 2048"
        start = time.perf_counter()
        fmap.unit_cells  # noqa: B018
        print(f"| {what}: once a map | {1000 * (time.perf_counter() - start):.1f} |")
        points = torch.rand(1, 2)
        report(what, lambda fmap=fmap, points=points: affinity(fmap, points), repeats)

    before = peak_memory(torch.device("cpu"))
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6000, 8000, 3), dtype=np.uint8))
    start = time.perf_counter()
    fmap = encoder.features(large, size=None)
    h, w = fmap.shape
    after = peak_memory(torch.device("cpu"))
    print(
        f"\n8000 × 6000 pixels in tiles, c5 {h} × {w}: {time.perf_counter() - start:.0f} s; "
        f"peak memory of the process {before:.0f} → {after:.0f} MiB"
    )


def report(what: str, run: Callable[[], object], repeats: int) -> None:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    print(f"| {what} | {statistics.median(times):.1f} |", flush=True)


if __name__ == "__main__":
    main()
