"""What a run on many ranks asks of its machines: cores and bytes a second for the input, bytes that ranks send a step.

    python benchmarks/scaling.py DATA                          # ResNet-50 at 224 px, 32 images a rank
    python benchmarks/scaling.py DATA --arch resnet18 --image-size 112 --images 256

DATA, a folder of JPEGs or shards, is measured on one core, in CPU time, so that other work matters little. Bytes that
are sent are a formula, compared with what two processes on this machine send; for more ranks nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import tempfile
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from plrc import distributed, run, train
from plrc.backbones import Encoder
from plrc.config import Config, load_config
from plrc.data.kept import KeptRegions
from plrc.data.loader import Order, TwoViews, collate
from plrc.data.shards import Index, Shards
from plrc.data.sources import open_source
from plrc.model import PLRC
from plrc.regions import open_regions

IMAGENET, BILLION = 1_281_167, 10**9
EPOCHS = 100
_STEPS = 12
RANKS, OF_A_NODE = (8, 64, 1024), 8
GRADIENTS, IMAGES, MAPS, POINTS, KEYS = "gradients", "images of keys", "maps of keys", "other points", "keys"


def sent(config: Config, ranks: int, parameters: int, cells: int, half: int = 2) -> dict[str, tuple[float, float]]:
    """Bytes that a rank sends in a step, and the least that would do: for each thing that travels.

    An all-reduce by a ring sends all but 1 / ranks of its tensor twice, an all-gather its own part to all others in
    turn, an all-to-all what is not for the rank itself. Least: the same with images as the uint8 that they were read
    as, and features in the two bytes in which they are computed.

    Args:
        parameters: of the query encoder. cells: of a key map. half: bytes of a number under autocast.
    """
    images, others = config.batch_size / ranks, (ranks - 1) / ranks
    pixels, features = 2 * images * 3 * config.image_size**2 * others, 2 * images * config.dim * cells * others
    points, keys = config.negatives * config.dim * others, config.batch_size * config.dim * others
    owners = config.negatives * 8 * others
    return {
        GRADIENTS: (2 * 4 * parameters * others,) * 2,
        IMAGES: (half * pixels, pixels),
        MAPS: (half * features, 2 * features),
        POINTS: (4 * points + owners, 2 * points + owners),
        KEYS: (4 * keys, 2 * keys),
    }


def counted(rank: int, ranks: int, port: int, config: Config, folder: str) -> None:
    """What one rank of two really sends a step, mean of ``_STEPS``, by the calls of ``torch.distributed``."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # gloo's, of the CPU
    torch.set_num_threads(1)
    found = Counter[str]()
    gather, to_all = dist.all_gather, dist.all_to_all_single

    def gathered(parts: list[torch.Tensor], x: torch.Tensor) -> None:
        of_points = len(x) == config.negatives // ranks
        found[POINTS if of_points else KEYS] += (ranks - 1) * x.nbytes
        gather(parts, x)

    def exchanged(out: torch.Tensor, x: torch.Tensor, received: list[int], splits: list[int], **how: bool) -> object:
        kind = IMAGES if x.shape[1] == 3 else MAPS
        found[kind] += (len(x) - splits[rank]) * x[0].nbytes
        return to_all(out, x, received, splits, **how)

    with distributed.world() as here:
        source = open_source(config.data)
        dataset = TwoViews(source, open_regions(config.regions, ""), config)
        model = PLRC(config).to(memory_format=torch.channels_last).train()
        optimizer, parallel = train.make_optimizer(model, config), run.data_parallel(model, here)
        dist.all_gather, dist.all_to_all_single = gathered, exchanged
        for step, items in enumerate(Order(len(source), config, rank, ranks)):
            batch = collate([dataset[item] for item in items])
            train.train_step(model, parallel, optimizer, batch, config, step, 10, here)
    Path(folder, f"{rank}.json").write_text(json.dumps({name: total / _STEPS for name, total in found.items()}))


def compare(config: Config, folder: str) -> None:
    """The formula against two gloo processes with a small network in fp32."""
    small = {
        "arch": "resnet18",
        "image_size": 64,
        "batch_size": 8,
        "data": f"scenes:{8 * _STEPS}",
        "bn_groups": 2,
        "epochs": 1,
    }
    config = replace(config, **small, precision="fp32")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(counted, args=(2, port, config, folder), nprocs=2)
    ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]
    formula = sent(config, 2, 0, 4, half=4)
    print("two processes, ResNet-18 at 64 px, fp32: bytes that a rank sends a step, counted and by the formula")
    for name in (IMAGES, MAPS, POINTS, KEYS):
        print(f"  {name:15} {statistics.mean(of[name] for of in ranks):12,.0f} {formula[name][0]:12,.0f}")


def measured(data: str, config: Config) -> tuple[float, float]:
    """Images/s that one core prepares, median of three passes over up to 200 images, and bytes of an image's file."""
    source = open_source(data)
    kept = KeptRegions(open_regions(config.regions, data), source, data)
    dataset, count, rates = TwoViews(source, kept, config), min(200, len(source)), list[float]()
    for epoch in range(4):
        start = time.process_time()
        collate(dataset.__getitems__([(epoch, i) for i in range(count)]))
        rates.append(count / (time.process_time() - start))
    if isinstance(source, Shards):
        return statistics.median(rates[1:]), float(source.index.sizes.sum()) / len(source)
    return statistics.median(rates[1:]), statistics.mean(source.path(i).stat().st_size for i in range(len(source)))


def billion(config: Config, folder: str) -> None:
    """A fabricated index of a billion images in 100,000 shards: what resuming in the middle of its epoch takes."""
    shards, each = 10**5, BILLION // 10**5
    file = Path(folder, "index.npy")
    Index.write(file, [f"{i:06d}.tar" for i in range(shards)], [10**9] * shards, [np.zeros(1)] * shards)
    tracemalloc.start()
    start = time.process_time()
    index = Index.read(file)
    order = Order(BILLION, config, 0, 1, BILLION // config.batch_size // 2, index.counts * each)
    next(iter(order))
    took, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"a billion images in {shards:,} shards: {peak / 2**20:.0f} MiB at most, the first batch known in {took:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of JPEGs, or shards")
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=32, help="a rank and step")
    parser.add_argument("--regions", default="grid:4")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {"arch": arguments.arch, "image_size": arguments.image_size, "regions": arguments.regions}
    config = load_config(given=given)

    with tempfile.TemporaryDirectory() as folder:
        billion(config, folder)
        compare(config, folder)
    rate, size = measured(arguments.data, config)
    print(f"{arguments.data}: one core prepares {rate:.0f} images/s, an image is {size / 1000:.0f} kB")
    for name, images in ((f"{EPOCHS} epochs of ImageNet", IMAGENET * EPOCHS), ("one epoch of a billion", BILLION)):
        print(f"  {name}: {images / rate / 3600:,.0f} core hours, {images * size / 1e12:,.1f} TB are read")
    print(f"  for 1,000 images/s of a GPU: {1000 / rate:.1f} cores, {1000 * size / 1e6:.0f} MB/s")

    encoder = Encoder(config.arch, config.dim).eval()
    parameters = sum(p.numel() for p in encoder.parameters())
    with torch.no_grad():
        cells = encoder(torch.zeros(1, 3, config.image_size, config.image_size))[0, 0].numel()
    of = (
        f"{config.arch} ({parameters / 1e6:.1f} M parameters), {config.image_size} px, {arguments.images} images a rank"
    )
    print(f"{of}, bf16: MB that a rank sends a step; the least in brackets")
    print(f"  {'ranks':>15} {''.join(f'{ranks:>18,}' for ranks in RANKS)}")
    columns = [sent(replace(config, batch_size=arguments.images * n), n, parameters, cells) for n in RANKS]
    rows = {name: [of[name] for of in columns] for name in columns[0]}
    rows["together"] = [tuple(sum(of[i] for of in column.values()) for i in range(2)) for column in columns]
    for name, row in rows.items():
        print(f"  {name:>15} " + "".join(f"{actual / 1e6:10.2f} ({least / 1e6:5.1f})" for actual, least in row))
    print(
        "  GB/s that leave a node of 8, for 1,000 images/s of each GPU: a ring's tensors once, an all-to-all's of each"
    )
    for name, share in ((GRADIENTS, 1), (IMAGES, OF_A_NODE)):
        steps = 1000 / arguments.images
        leaving = [row[0] * share * steps * (1 - OF_A_NODE / n) for n, row in zip(RANKS, rows[name], strict=True)]
        print(f"  {name:>15} " + "".join(f"{bytes_ / 1e9:18.2f}" for bytes_ in leaving))


if __name__ == "__main__":
    main()
