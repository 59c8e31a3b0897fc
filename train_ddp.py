"""Pre-train PLRC: ``torchrun --nproc_per_node=8 train_ddp.py --data /data/imagenet --out runs/r50``.

``python train_ddp.py …`` is one process. ``--help`` explains every field; docs/training.md the rest. The same from an
installed package: ``plrc train …``, ``torchrun … -m plrc train …``.
"""

from __future__ import annotations

import sys

from plrc.__main__ import main as plrc


def main() -> int:
    """The exit status of ``plrc train`` with this process's arguments."""
    return plrc("train")


if __name__ == "__main__":
    sys.exit(main())
