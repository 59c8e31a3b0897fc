"""The paper's claims in miniature, on drawn scenes, whose objects are known: three studies of short trainings.

    python -m benchmarks.study regions     # does contrast of points stand worse regions better than that of regions?
    python -m benchmarks.study affinity    # does affinity distillation improve what the affinities show, and when?
    python -m benchmarks.study losses      # the image loss, the point loss, both, all three: at equal numbers of images

The ``tiny`` net learns 800 scenes at 64 px by one thread, with the losses and from the regions that ``STUDIES``
names, and is scored on 150 other scenes, or on 300 where only its end is. Regions of falling quality are the objects'
true masks, the same with a share of their 8 × 8 pixel cells swapped among each other, superpixels, the paper's grid.
Runs that are finished are not repeated, two studies share them, interrupted ones are resumed; ``--seeds`` and
``--epochs`` make it shorter. Prints the table, in Markdown, mean ± std over the seeds, and writes it to
OUT/STUDY_EPOCHS.md; the picture beside it has the curves over the epochs that are stored, with the mean's 95 % interval
over the seeds.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import t

from plrc.data.sources import open_source
from plrc.figures.charts import scores_over_epochs
from plrc.options import Size
from plrc.pretrained.loading import stored_epochs
from plrc.queries import Scores
from plrc.views import draw

ROOT = Path(__file__).parent.parent
CELL = 8  # pixels of a scene
TRUE = {"true masks": 0.0, "25 % swapped": 0.25, "50 % swapped": 0.5}  # share of cells
REGIONS = {**dict.fromkeys(TRUE), "superpixels": "superpixels:8", "grid": "grid:4"}
LOSSES = {  # name → weights
    "points": {"point": 1.0},
    "pooled": {"region": 1.0},
    "image": {"image": 1.0},
    "points, image": {"point": 1.0, "image": 0.3},
    "points, affinity": {"point": 1.0, "affinity": 0.3},
    "points, affinity late": {"point": 1.0, "affinity": 0.3},
    "all": {"point": 1.0, "image": 0.3, "affinity": 0.3},
}
LATE = {"points, affinity late": 0.5}  # the affinity loss sets in after this share of the run
MEASURES = ("auc", "purity", "views")
SHORT_SIDE = 128  # pixels, at which scenes are scored


@dataclass(frozen=True)
class Study:
    """Regions × losses. curves: scores over the epochs, too. branch: "@key" for the teacher's affinities."""

    regions: tuple[str, ...]
    losses: tuple[str, ...]
    curves: bool = True
    branch: str = ""


STUDIES = {
    "regions": Study(tuple(REGIONS), ("points", "pooled"), curves=False),
    "affinity": Study(("superpixels", "grid"), ("points", "points, affinity", "points, affinity late"), branch="@key"),
    "losses": Study(("superpixels",), ("image", "points", "points, image", "all")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=16, help="of 800 scenes")
    arguments = parser.parse_args()
    study = STUDIES[arguments.study]
    torch.set_num_threads(1)
    write_scenes(arguments.out / "scenes")
    runs = dict[tuple[str, str], list[Path]]()
    for seed, regions, losses in product(arguments.seeds, study.regions, study.losses):
        folder = folder_of(arguments.out, arguments.epochs, seed, regions, losses)
        train(folder, arguments.epochs, seed, regions, losses)
        runs.setdefault((regions, losses), []).append(folder)
    tell(arguments.out / f"{arguments.study}_{arguments.epochs}", runs, study)


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


def folder_of(out: Path, epochs: int, seed: int, regions: str, losses: str) -> Path:
    name = f"{losses} {regions} {epochs} epochs {seed}"
    return out / name.replace(", ", "+").replace(" ", "_").replace("%", "percent")


def train(run: Path, epochs: int, seed: int, regions: str, losses: str) -> None:
    if (run / "figures" / "before_after.png").exists():  # the last thing that a run makes
        return
    scenes = run.parent.absolute() / "scenes"
    flags = ["--preset=demo", f"--data={scenes / 'images'}", f"--seed={seed}", f"--epochs={epochs}"]
    flags += [f"--regions={REGIONS[regions] or f'masks:{scenes / regions}'}", f"--keep-every={max(1, epochs // 4)}"]
    flags += [f"--weight-{loss}={LOSSES[losses].get(loss, 0)}" for loss in ("image", "point", "region", "affinity")]
    flags += [f"--start-affinity={epochs * LATE.get(losses, 0)}"]
    flags += [f"--out={run}", "--resume=auto", "--workers=0", "--picture-every=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, ROOT / "train_ddp.py", *flags], env=environment, check=True, stdout=sys.stderr)


def tell(to: Path, runs: dict[tuple[str, str], list[Path]], study: Study) -> None:
    """Scores of all runs, at each epoch that is stored or untrained and at the end, in one pass."""
    begun = next(iter(runs.values()))  # untrained, the runs of a seed are one network
    first, *between, end = stored_epochs(begun[0])
    epochs = [first, *between * study.curves, end]
    names = {
        (key, epoch): [f"{run}@{epoch}{study.branch}" for run in (of if epoch else begun)]
        for key, of in runs.items()
        for epoch in epochs
    }
    checkpoints = tuple(dict.fromkeys(name for of in names.values() for name in of))
    data = f"scenes:{150 if study.curves else 300}@7"
    query = Scores(dataset=data, size=Size(SHORT_SIDE), measures=MEASURES, checkpoints=checkpoints)
    table = draw(query).table
    column = dict(zip(checkpoints, table.columns, strict=False))  # and the baselines after them
    told = {(*key, str(epoch)): [column[name] for name in of] for (key, epoch), of in names.items()}
    told |= {("–", name, "–"): [name] for name in ("Lab colour", "chance")}

    def row(of: list[str]) -> str:
        return " | ".join(_mean_and_std([scores[c].mean for c in of]) for scores in table.rows.values())

    lines = ["| regions | losses | epoch | " + " | ".join(table.rows) + " |", "|---" * (3 + len(table.rows)) + "|"]
    lines += [f"| {' | '.join(what)} | {row(of)} |" for what, of in told.items()]
    to.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(*lines, sep="\n")
    if not study.curves:
        return
    curves = {
        measure: {
            ": ".join(key): np.array(
                [[epoch, *_interval([scores[column[n]].mean for n in names[key, epoch]])] for epoch in epochs]
            )
            for key in runs
        }
        for measure, scores in table.rows.items()
    }
    beside = {measure: {"Lab colour": scores["Lab colour"].mean} for measure, scores in table.rows.items()}
    scores_over_epochs(curves, beside, {}).savefig(to.with_suffix(".png"), dpi=150)


def _mean_and_std(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _interval(values: list[float]) -> tuple[float, float, float]:
    """The mean and its 95 % interval by Student's t, over the seeds; of one seed there is none."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, mean - half, mean + half


if __name__ == "__main__":
    main()
