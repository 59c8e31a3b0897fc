"""Is a detector wired rightly? One that is learns a few pictures by heart: AP50 on its own training pictures near 1.

    python benchmarks/detection_overfit.py ~/data/coco128 --images 16 --out runs/overfit

takes the first pictures that have objects of a COCO folder into a folder of their own (links, no copies), and prints
what it runs: ``plrc detect train`` on them, ResNet-18 with a feature pyramid from random weights, tested on the same.
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


def subset(source: COCO, count: int, folder: Path) -> Path:
    """A COCO folder of the first ``count`` pictures that have objects."""
    content = json.loads(source.file.read_text())
    pictures = {picture["file_name"]: picture for picture in content["images"]}
    with_objects = {a["image_id"] for a in content["annotations"]}
    names = [source.name(i) for i in range(len(source)) if pictures[source.name(i)]["id"] in with_objects][:count]
    kept = [pictures[name] for name in names]
    numbers = {picture["id"] for picture in kept}
    annotations = [a for a in content["annotations"] if a["image_id"] in numbers]
    used = {a["category_id"] for a in annotations}
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "subset").mkdir(exist_ok=True)
    for name in names:
        link = folder / "subset" / name
        link.unlink(missing_ok=True)
        link.symlink_to((source.root / name).resolve())
    file = folder / "annotations" / "instances_subset.json"
    categories = [c for c in content["categories"] if c["id"] in used]
    file.write_text(json.dumps({"images": kept, "annotations": annotations, "categories": categories}))
    return file


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
    data = subset(source, o.images, o.out / "data")
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
