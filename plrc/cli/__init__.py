"""``plrc``: look inside a checkpoint from the shell. Needs no display; ``plrc COMMAND --help`` tells about each."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from plrc.cli.arguments import build_parser

__all__ = ["build_parser", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 for bad input, with one sentence on stderr that says what is wrong and the remedy."""
    options = build_parser().parse_args(arguments)
    try:
        return options.handler(options) or 0
    except KeyboardInterrupt:
        print("plrc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 141
    except (ValueError, OSError) as error:
        print(f"plrc {options.command}{_rank()}: {_sentence(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("out of memory|not enough memory", str(error)):
            raise  # a mistake of ours, and its traceback is wanted
        remedy = "take a smaller --size, or fewer pictures with --most"
        if options.command.startswith("detect"):
            remedy = "take a smaller --batch-size, or smaller pictures with --short-sides or --short-side"
        print(f"plrc {options.command}{_rank()}: memory is not enough: {remedy}", file=sys.stderr)
        return 2


def _rank() -> str:
    return f", rank {os.environ['RANK']}" if "RANK" in os.environ else ""


def _sentence(error: Exception) -> str:
    # A loader process hands its error on with a traceback before it; its last line is the sentence.
    message = str(error).strip()
    if "Traceback" in message:
        message = message.splitlines()[-1].removeprefix("ValueError: ")
    return " ".join(message.split())
