"""Pre-train PLRC: ``torchrun --nproc_per_node=8 train_ddp.py --data /data/imagenet --out runs/r50``.

``python train_ddp.py …`` is one process. ``--help`` explains every field; docs/training.md the rest. The same from an
installed package: ``plrc train …``, ``torchrun … -m plrc train …``.
"""

from __future__ import annotations

import sys

from plrc.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
