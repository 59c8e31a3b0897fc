"""Pre-train PLRC: ``torchrun --nproc_per_node=8 train_ddp.py --data /data/imagenet --out runs/r50``.

``python train_ddp.py …`` is one process. ``--help`` explains every field; docs/training.md the rest.
"""

from __future__ import annotations

import os
import sys

from plrc.config import parse_arguments


def main() -> int:
    config = parse_arguments()
    from plrc.train import pretrain  # after the arguments: --help and a typing mistake should not wait for torch

    try:
        return pretrain(config)
    except KeyboardInterrupt:
        print("train_ddp.py: interrupted, not saved", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        # A loader process hands its error on with a traceback before it; its last line is the sentence.
        message = str(error).strip().splitlines()[-1].removeprefix("ValueError: ")
        print(f"train_ddp.py, rank {os.environ.get('RANK', 0)}: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
