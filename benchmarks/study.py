"""The miniature study of docs/results.md: what each loss adds, measured on a small net, several seeds.

    python benchmarks/study.py photos --data DIR --masks DIR --out runs/study   # a folder of images
    python benchmarks/study.py scenes --out runs/study                          # the embedded demo scenes

Each run is ``train_ddp.py --preset demo`` with one thread and the overrides of ``VARIANTS``; ``--jobs`` run side by
side. Runs that are finished are not repeated, interrupted ones are resumed. ``--variants`` and ``--seeds`` choose some.
Of each network two maps are scored: the backbone's last one, which a detector inherits, and the projected one, ``z``,
to which the losses are applied. Writes ``DIR/<name>.json`` and prints the table, in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from plrc.analysis import descriptors, scores
from plrc.analysis.scores import ScoredImage
from plrc.backbones import Encoder
from plrc.checkpoint import load_checkpoint
from plrc.config import Config, load_config
from plrc.data.annotated import open_annotated
from plrc.data.loader import view_sampler
from plrc.data.sources import Annotation, Source, first_decodable, open_source
from plrc.model import PLRC
from plrc.registry import SCORES

ROOT = Path(__file__).parent.parent
# What the study has otherwise than the demo preset: weights, colours, regions and temperature of the released code.
BASE: dict[str, Any] = {
    "jitter": [0.4, 0.4, 0.4, 0.1],
    "grey_p": 0.2,
    "regions": "grid:4",
    "points_per_region": 8,
    "temperature": 0.2,
    "weights": {"image": 0.7, "point": 0.3, "affinity": 0.3},
}
# What is varied, as flags of train_ddp.py over that.
VARIANTS: dict[str, list[str]] = {
    "random": [],  # not trained
    "image": ["--weight-point=0", "--weight-affinity=0"],
    "image + point": ["--weight-affinity=0"],
    "all three": [],
    "affinity from 1/3": ["--start-affinity-share=0.333"],
    "affinity weight 0.1": ["--weight-affinity=0.1"],
    "affinity weight 1": ["--weight-affinity=1"],
    "teacher 0.02": ["--teacher-temperature", "0.02", "0.02"],
    "teacher 0.1": ["--teacher-temperature", "0.1", "0.1"],
    "image + affinity": ["--weight-point=0"],
    "queue 1024": ["--weight-point=0", "--weight-affinity=0", "--queue-size=1024"],
    "queue 4096": ["--weight-point=0", "--weight-affinity=0", "--queue-size=4096"],
}
SHORT_SIDE = 128  # at which objects are scored, pixels
MEASURES = ("backbone view match", "backbone AUC", "z view match", "z AUC")
HELD_OUT = "scenes:300@7"  # scenes that no run was trained on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("photos", "scenes"))
    parser.add_argument("--data", default=None, help="photos: the folder to train on")
    parser.add_argument("--masks", type=Path, default=None, help="photos: a folder with images/*.jpg and masks/*.png")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--variants", nargs="+", default=["random", "image", "image + point", "all three"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.name == "scenes":
        arguments.data = "scenes:800"
    elif not (arguments.data and arguments.masks):
        parser.error("photos needs --data and --masks")

    runs = [(variant, seed) for seed in arguments.seeds for variant in arguments.variants]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda run: train(arguments, *run), runs))
    table(arguments)


def folder_of(arguments: argparse.Namespace, variant: str, seed: int) -> Path:
    run = f"{variant} {arguments.epochs} epochs {seed}"  # a longer study is another study
    return arguments.out / arguments.name / run.replace(" ", "_").replace("/", "-")


def train(arguments: argparse.Namespace, variant: str, seed: int) -> None:
    out = folder_of(arguments, variant, seed)
    if variant == "random" or (out / "scores.json").exists():
        return
    flags = [
        flag if "-share" not in flag else f"--start-affinity={float(flag.split('=')[1]) * arguments.epochs}"
        for flag in VARIANTS[variant]
    ]
    flags += [
        "--preset=demo",
        f"--config={out / 'base.yaml'}",
        f"--data={arguments.data}",
        f"--epochs={arguments.epochs}",
        f"--seed={seed}",
        f"--out={out}",
    ]
    flags += ["--resume=auto", "--precision=fp32", "--picture-every=0", "--log-every=50", "--keep-every=1000"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "base.yaml").write_text(yaml.safe_dump(BASE))
    with (out / "output.txt").open("w") as stream:
        subprocess.run(
            [sys.executable, ROOT / "train_ddp.py", *flags],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=True,
        )


def table(arguments: argparse.Namespace) -> None:
    """Score every run (once), print one line a variant: mean and std over seeds, then the baselines."""
    config = load_config("demo", given=BASE)
    source: Source = open_source(HELD_OUT if arguments.name == "scenes" else arguments.data)
    images = range(0, len(source), max(1, len(source) // 300))
    objects = load_objects(arguments, source)
    how: dict[str, Any] = {
        "short_side": SHORT_SIDE,
        "cell": 8,
        "sampler": view_sampler(config),
        "side": config.image_size,
    }

    def score(networks: dict[str, descriptors.Descriptor]) -> dict[str, scores.Score]:
        described = list(networks.values())
        with_objects = (ScoredImage(k, image, described, known, **how) for k, (image, known) in enumerate(objects))
        loaded = ((i, first_decodable(source, i, source.load)[0]) for i in images)
        whole = (ScoredImage(i, image, described, **how) for i, image in loaded)
        found = {}
        for name, measure, scored in (("view match", "views", whole), ("AUC", "auc", with_objects)):
            (values,) = scores.values_of(SCORES[measure].load(), scored).values()
            found |= {
                f"{of} {name}": scores.bootstrap(mine)
                for of, mine in zip([*networks, "chance"], values.columns, strict=True)
            }
        return found

    print("| | seed | " + " | ".join(MEASURES) + " |\n|---|---|---|---|---|---|")
    results = []
    for variant in arguments.variants:
        means = []
        for seed in arguments.seeds:
            out = folder_of(arguments, variant, seed)
            file = out / "scores.json"
            if not file.exists():
                encoder = load_query_encoder(out, variant, config, seed)
                maps = {"backbone": encoder.backbone, "z": encoder}
                found = score({of: descriptors.network(of, module) for of, module in maps.items()})
                out.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({name: vars(value) for name, value in found.items()}))
            values = {name: scores.Score(**value) for name, value in json.loads(file.read_text()).items()}
            print(f"| {variant} | {seed} | " + " | ".join(str(values[m]) for m in MEASURES) + " |", flush=True)
            means.append([values[m].mean for m in MEASURES])
            results.append({"variant": variant, "seed": seed, **{name: vars(value) for name, value in values.items()}})
        if len(means) > 1:
            spread = zip(np.mean(means, axis=0), np.std(means, axis=0, ddof=1), strict=True)
            print(f"| **{variant}** | mean ± std | " + " | ".join(f"{m:.3f} ± {sd:.3f}" for m, sd in spread) + " |")
    baselines = {d.name: d for d in (descriptors.lab_colour(8), descriptors.absolute_position(8))}
    found = score(baselines)
    for name in [*baselines, "chance"]:
        values = {measure: found[f"{name} {measure}"] for measure in ("view match", "AUC")}
        print(f"| {name} | | " + " | ".join(str(value) for value in values.values()) + " | | |")
        results.append({"variant": name, **{measure: vars(value) for measure, value in values.items()}})
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{arguments.name}.json").write_text(json.dumps(results, indent=1))


def load_query_encoder(out: Path, variant: str, config: Config, seed: int) -> Encoder:
    torch.manual_seed(seed)
    model = PLRC(config)
    if variant != "random":
        weights = load_checkpoint(out / "checkpoints" / "last.pt")["model"]
        prefix = "query_encoder."
        query = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        model.query_encoder.load_state_dict(query)
    return model.query_encoder


def load_objects(arguments: argparse.Namespace, source: Source) -> list[tuple[Image.Image, Annotation]]:
    if arguments.name == "photos":
        source = open_annotated(str(arguments.masks))
    known = ((source.load(i), source.annotation(i)) for i in range(len(source)))
    return [(image, annotation) for image, annotation in known if annotation is not None]


if __name__ == "__main__":
    main()
