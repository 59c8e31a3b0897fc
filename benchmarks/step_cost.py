"""What a training step costs beside its floor: the query encoder's forward and backward and two key forwards.

    python benchmarks/step_cost.py                                  # ResNet-50, 224 px, batch 8: the imagenet preset
    python benchmarks/step_cost.py --arch resnet18 --image-size 112 --batch-size 32 --repeats 5

Both are measured in turn in one process, on images of noise, data loading left out (colour augmentation is in). On a
GPU it synchronises around each measurement and uses bf16 where ``--precision auto`` would.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from plrc import train
from plrc.config import load_config
from plrc.data.loader import Batch
from plrc.data.photometric import N_PARAMETERS
from plrc.distributed import World
from plrc.geometry import Crop
from plrc.model import PLRC
from plrc.regions import GridRegions, view_regions
from plrc.run import autocast, peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--bn-groups", type=int, default=1, help="1: as each rank of eight")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = load_config(
        given={
            "arch": arguments.arch,
            "image_size": arguments.image_size,
            "batch_size": arguments.batch_size,
            "bn_groups": arguments.bn_groups,
        }
    )
    here = World(0, 1, device)
    model = PLRC(config).to(device).to(memory_format=torch.channels_last).train()
    optimizer = train.make_optimizer(model, config)
    batch = noise(arguments.batch_size, arguments.image_size).to(device)
    views = batch.coloured()

    def floor() -> None:
        with autocast(config.precision, device):
            z = model.query_encoder(views[0])
            with torch.no_grad():
                model.key_encoder(views.flatten(0, 1).contiguous(memory_format=torch.channels_last))
            z.float().mean().backward()
        optimizer.zero_grad(set_to_none=True)

    def step() -> dict[str, Tensor]:
        return train.train_step(model, model, optimizer, batch, config, 0, 1000, here)

    timed(floor, device)
    memory_floor = peak_memory(device)
    losses = step()
    memory_step = peak_memory(device)
    waits = waiting(step) if device.type == "cuda" else "not asked of a CPU"
    pairs = [(timed(floor, device), timed(step, device)) for _ in range(arguments.repeats)]
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{arguments.arch}, {arguments.image_size} px, batch {arguments.batch_size}, {name}, torch {torch.__version__}"
    )
    print("losses of the first step: " + ", ".join(f"{key} {float(loss):.3f}" for key, loss in losses.items()))
    print(f"floor {statistics.median(f for f, _ in pairs):.3f} s, step {statistics.median(s for _, s in pairs):.3f} s")
    print(f"step / floor {statistics.median(s / f for f, s in pairs):.3f} (median of {len(pairs)} pairs)")
    print(f"waits for the device in a step: {waits}")
    print(f"peak memory: floor {memory_floor} MiB, step {memory_step} MiB (on the CPU: of the whole process)")


def noise(images: int, side: int) -> Batch:
    """A batch such as a loader gives, of random pixels; whole-image crops, every second one mirrored."""
    generator = torch.Generator().manual_seed(0)
    box = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, images, 4)
    crops = Crop(box, (torch.arange(2 * images) % 2 == 0).view(2, images))
    colours = torch.zeros(2, images, N_PARAMETERS)
    colours[..., :3] = 1.2
    colours[..., 3] = 0.05
    colours[..., 4:8] = torch.arange(4.0)
    colours[..., 8] = torch.rand(2, images, generator=generator) < 0.8
    colours[..., 10] = (torch.rand(2, images, generator=generator) < 0.5).float()
    raster = GridRegions(4).raster("", lambda size: None)  # type: ignore[arg-type, return-value]
    return Batch(
        views=torch.randint(0, 256, (2, images, 3, side, side), dtype=torch.uint8, generator=generator),
        colours=colours,
        crops=crops,
        regions=torch.stack(
            [view_regions(raster, Crop(crops.box[:, i], crops.flip[:, i])) for i in range(images)], dim=1
        ),
        region_count=16,
        indices=torch.arange(images),
        undecodable=frozenset(),
    )


def waiting(function: Callable[[], object]) -> str:
    """What CUDA says of the first operation that waits for the device, "none" if there is none."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    except RuntimeError as error:
        return str(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "none"


def timed(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
