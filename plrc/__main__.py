"""``python -m plrc`` is ``plrc``: torchrun starts modules, ``torchrun --nproc_per_node=8 -m plrc detect train …``."""

import sys


def main(*before: str) -> int:
    """The exit status of ``plrc`` with these arguments and this process's. Ctrl-C is one sentence already now."""
    try:
        from plrc.cli import main

        return main([*before, *sys.argv[1:]])
    except KeyboardInterrupt:
        print("plrc: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
