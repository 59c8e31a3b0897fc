"""``python -m plrc`` is ``plrc``: torchrun starts modules, ``torchrun --nproc_per_node=8 -m plrc detect train …``."""

import sys

from plrc.cli import main

if __name__ == "__main__":
    sys.exit(main())
