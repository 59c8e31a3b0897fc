"""Is a detector wired rightly? One that is learns a few pictures by heart: AP50 on its own training pictures near 1.

    python benchmarks/detection_overfit.py ~/data/coco128 --images 16 --out runs/overfit

lists the first pictures of a COCO folder that have objects in a file of its own, and prints what it runs: ``plrc detect
train`` on them, ResNet-18 with a feature pyramid from random weights, tested on the same.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from plrc.data.annotated import open_annotated
from plrc.data.coco import COCO


def subset(source: COCO, count: int, file: Path) -> None:
    """Write a COCO file of the first ``count`` pictures that have objects; it names them where they are."""
    chosen = [i for i in range(len(source)) if source.entries(i)][:count]
    images = [{**source.image(i), "file_name": str(source.path(i).resolve())} for i in chosen]
    annotations = [annotation for i in chosen for annotation in source.entries(i)]
    used = {annotation["category_id"] for annotation in annotations}
    categories = [{"id": number, "name": name} for number, name in source.categories.items() if number in used]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("coco", help="a COCO folder, or its annotations/instances_*.json")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--weights", default="random:resnet18")
    parser.add_argument("--short-side", type=int, default=224)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/overfit"))
    o = parser.parse_args()
    source = open_annotated(o.coco)
    if not isinstance(source, COCO):
        parser.error(f"{o.coco} is no data set in COCO's layout")
    data = o.out / "data" / "instances_subset.json"
    subset(source, o.images, data)
    launcher = f"-m torch.distributed.run --standalone --nproc_per_node={o.ranks} -m plrc"
    command = (
        f"{shlex.quote(sys.executable)} {launcher} detect train --preset small --weights {o.weights} --train {data} "
        f"--test {data} --short-sides {o.short_side} --test-short-side {o.short_side} --longest 1333 "
        f"--iterations {o.iterations} --milestones {o.iterations * 4 // 5} --out {o.out / 'run'} --resume auto"
    )
    print(command, flush=True)
    return subprocess.run(shlex.split(command), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
