"""``python -m plrc`` is ``plrc``: torchrun starts modules, ``torchrun --nproc_per_node=8 -m plrc detect train …``."""

import os
import sys
from contextlib import suppress


def main(*before: str) -> int:
    """The exit status of ``plrc`` with these arguments and this process's. Ctrl-C is one sentence already now.

    After an error a rank ends here and at once, with this status: Python's own end would abort it now and then, as the
    threads of a process group that nobody could leave still run.
    """
    try:
        from plrc.cli import main

        status = main([*before, *sys.argv[1:]])
    except KeyboardInterrupt:
        print("plrc: interrupted", file=sys.stderr)
        return 130
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whose reader has gone, or that is closed
                stream.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
