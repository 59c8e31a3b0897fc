"""Pre-train PLRC: ``torchrun --nproc_per_node=8 train_ddp.py --data /data/imagenet --out runs/r50``.

``python train_ddp.py …`` is one process. ``--help`` explains every field; docs/training.md the rest. The same from an
installed package: ``plrc train …``, ``torchrun … -m plrc train …``.
"""

from __future__ import annotations

import sys

from plrc import cli


def main() -> int:
    """The exit status of ``plrc train`` with this process's arguments."""
    return cli.main(["train", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
