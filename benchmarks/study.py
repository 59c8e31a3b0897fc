"""Does point-level contrast stand worse regions better than region-level contrast, as the paper argues?

    python -m benchmarks.study --out runs/study

The same network learns drawn scenes by the point loss alone, and by the region loss alone (one pooled feature a region,
as DetCon has it), from regions of falling quality: the objects' true masks, the same with a share of their 8 × 8 pixel
cells swapped among each other, superpixels, the paper's grid. The ``tiny`` net, 64 px, one thread a run; scores are of
300 other scenes. Runs that are finished are not repeated, interrupted ones are resumed; ``--seeds`` and ``--epochs``
make it shorter. Prints the table, in Markdown, and writes it to DIR/study.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plrc.analysis.scores import Score
from plrc.data.sources import open_source
from plrc.options import Size
from plrc.queries import Scores
from plrc.views import draw

ROOT = Path(__file__).parent.parent
CELL = 8  # pixels of a scene
TRUE = {"true masks": 0.0, "25 % swapped": 0.25, "50 % swapped": 0.5}  # share of cells
REGIONS = {**dict.fromkeys(TRUE), "superpixels": "superpixels:8", "grid": "grid:4"}
LOSSES = {
    "point": ["--weight-point=1", "--weight-region=0"],
    "region": ["--weight-point=0", "--weight-region=1"],
}
MEASURES = ("auc", "purity", "views")
SHORT_SIDE = 128  # pixels, at which scenes are scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=24, help="of 800 scenes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_scenes(arguments.out / "scenes")
    for seed, regions, loss in product(arguments.seeds, REGIONS, LOSSES):
        train(arguments.out, arguments.epochs, seed, regions, loss)
    tell(arguments.out, arguments.epochs, arguments.seeds)


def write_scenes(folder: Path) -> None:
    """The scenes as a folder of images, and their true masks as label images, whole and spoiled."""
    if (folder / "whole").exists():
        return
    source = open_source("scenes:800")
    for name in ("images", *TRUE):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(len(source)):
        source.load(i).save(folder / "images" / f"{i:03}.png")
        annotation = source.annotation(i)
        assert annotation is not None
        assert annotation.masks is not None
        labels = (annotation.masks * np.arange(1, len(annotation.masks) + 1)[:, None, None]).max(axis=0)
        for name, share in TRUE.items():
            spoiled = swapped(labels.astype(np.uint8), share, np.random.default_rng(i))
            Image.fromarray(spoiled).save(folder / name / f"{i:03}.png")
    (folder / "whole").touch()


def swapped(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Labels ``(h, w)`` with a share of their cells in each other's places: regions keep their areas."""
    h, w = labels.shape[0] // CELL, labels.shape[1] // CELL
    cells = labels[: h * CELL, : w * CELL].reshape(h, CELL, w, CELL).swapaxes(1, 2).reshape(h * w, CELL, CELL).copy()
    chosen = rng.permutation(h * w)[: round(share * h * w)]
    cells[chosen] = cells[rng.permutation(chosen)]
    return cells.reshape(h, w, CELL, CELL).swapaxes(1, 2).reshape(h * CELL, w * CELL)


def folder_of(out: Path, epochs: int, seed: int, regions: str, loss: str) -> Path:
    return out / f"{loss} {regions} {epochs} epochs {seed}".replace(" ", "_").replace("%", "percent")


def train(out: Path, epochs: int, seed: int, regions: str, loss: str) -> None:
    run = folder_of(out, epochs, seed, regions, loss)
    if (run / "figures" / "before_after.png").exists():  # the last thing that a run makes
        return
    masks = out.absolute() / "scenes"
    flags = [
        "--preset=demo",
        f"--data={masks / 'images'}",
        f"--regions={REGIONS[regions] or f'masks:{masks / regions}'}",
    ]
    flags += ["--weight-image=0", "--weight-affinity=0", *LOSSES[loss], f"--epochs={epochs}", f"--seed={seed}"]
    flags += [f"--out={run}", "--resume=auto", "--precision=bf16", "--workers=0", "--picture-every=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, ROOT / "train_ddp.py", *flags], env=environment, check=True, stdout=sys.stderr)


def tell(out: Path, epochs: int, seeds: list[int]) -> None:
    """Scores of all runs in one pass, mean and std over the seeds."""
    folders = {(r, loss): [str(folder_of(out, epochs, s, r, loss)) for s in seeds] for r in REGIONS for loss in LOSSES}
    checkpoints = ("random:tiny", *(name for of in folders.values() for name in of))
    query = Scores(dataset="scenes:300@7", size=Size(SHORT_SIDE), measures=MEASURES, checkpoints=checkpoints)
    table = draw(query).table
    columns = dict(zip(checkpoints, table.columns, strict=False))  # and the baselines after them

    def cell(scores: Mapping[str, Score], names: Sequence[str]) -> str:
        means = [scores[name].mean for name in names]
        return f"{np.mean(means):.3f}" + (f" ± {np.std(means, ddof=1):.3f}" if len(means) > 1 else "")

    def cells(names: Sequence[str]) -> str:
        return " | ".join(cell(scores, names) for scores in table.rows.values())

    lines = ["| regions | loss | " + " | ".join(table.rows) + " |", "|---" * (2 + len(table.rows)) + "|"]
    lines += [f"| {r} | {loss} | {cells([columns[n] for n in of])} |" for (r, loss), of in folders.items()]
    lines += [f"| – | {name} | {cells([name])} |" for name in (columns["random:tiny"], "Lab colour", "chance")]
    (out / "study.md").write_text("\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
