"""Pre-train PLRC: ``torchrun --nproc_per_node=8 train_ddp.py --data /data/imagenet --out runs/r50``.

``python train_ddp.py …`` is one process. ``--help`` explains every field; docs/training.md the rest.
"""

from __future__ import annotations

import sys

from plrc.config import parse_arguments


def main() -> int:
    config = parse_arguments()
    from plrc.train import pretrain  # after the arguments: --help and a typing mistake should not wait for torch

    try:
        return pretrain(config)
    except (ValueError, OSError) as error:
        print(f"train_ddp.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
