"""Numbers of the command line, checked as they are read."""

from __future__ import annotations

import argparse


def from_0(text: str) -> int:
    return _whole(text, 0)


def from_1(text: str) -> int:
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.strip().lstrip("-").isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} upwards")
    return int(text)
