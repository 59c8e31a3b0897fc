"""How many faults the tests catch: ``python tests/mutants.py plrc/losses.py tests/test_losses.py tests/test_model.py``.

Changes one operator, number, comparison or switch of a module at a time, in a copy of the checkout, and runs the tests
until one fails. Prints the mutants that survived, and the share that was caught. Some survivors change nothing that
can be seen (a bound that no input reaches): read them.
"""

import argparse
import ast
import copy
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def both_ways(*pairs: tuple[Any, Any]) -> dict[Any, Any]:
    return {one: other for pair in pairs for one, other in (pair, pair[::-1])}


SWAPS = {ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv} | both_ways(
    (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq),
    (ast.And, ast.Or), (ast.BitAnd, ast.BitOr), (ast.Is, ast.IsNot), (ast.In, ast.NotIn),
)  # fmt: skip
NAMES = both_ways(
    ("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("sum", "mean"), ("floor", "ceil"), ("any", "all")
)


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, what was changed, and the changed source, of every mutant there is."""
    tree = ast.parse(source)
    annotations = {id(n) for node in ast.walk(tree) for part in _annotations(node) for n in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        for name, value in _changes(node):
            before = getattr(node, name)
            line = getattr(node, "lineno", 0)
            shown = ast.unparse(node)
            setattr(node, name, value)
            yield line, f"{shown}  →  {ast.unparse(node)}", ast.unparse(tree)
            setattr(node, name, before)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        if (part := getattr(node, name, None)) is not None:
            yield part


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield "op", SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "value", not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield "value", node.value + 1
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        yield "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.USub()
    elif isinstance(node, ast.IfExp | ast.If) and not isinstance(node.test, ast.Compare):
        yield "test", ast.UnaryOp(ast.Not(), copy.deepcopy(node.test))
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield "attr", NAMES[node.attr]


def survives(folder: Path, tests: list[str], patience: float) -> bool:
    """Whether tests pass in a folder, in so many seconds. In a fork of this process, which has torch loaded."""

    def run() -> None:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ |= {"PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # they take a second
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        os._exit(int(status))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(timeout=patience)
    if process.is_alive():  # an endless loop is a fault that is seen
        print(f"one was caught by taking more than {patience:.0f} s", flush=True)
        process.kill()
        process.join()
        return False
    return process.exitcode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, nargs="+", help="modules to change, then the tests to run")
    parser.add_argument("-n", type=int, default=50, help="mutants of all modules together, drawn evenly [50]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-k", default="", help="which of the tests, as pytest has it [all]")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args()
    modules = [path for path in options.module if path.parts[0] != "tests"]
    tests = [str(path) for path in options.module if path.parts[0] == "tests"]
    if not modules or not tests:
        parser.error("name modules and tests")
    tests += ["-k", options.k]
    found = [(m, *mutant) for m in modules for mutant in mutants((options.root / m).read_text())]
    random.Random(options.seed).shuffle(found)
    chosen = found[: options.n]

    import torch
    import torchvision  # noqa: F401  loaded once, for all forks

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "checkout")
        shutil.copytree(options.root, folder, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "*.png"))
        start, sys.dont_write_bytecode = time.monotonic(), False
        if not survives(folder, tests, patience=300):
            parser.error("the tests fail before anything was changed")
        patience = 60 + 5 * (time.monotonic() - start)
        # The bytecode that is there now is of what stays. That of a mutant could be taken for the next one's, of the
        # same second and size.
        sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
        caught = 0
        for module, line, what, source in chosen:
            original = (folder / module).read_text()
            (folder / module).write_text(source)
            if survives(folder, tests, patience):
                print(f"survived: {module}:{line}: {what}", flush=True)
            else:
                caught += 1
            (folder / module).write_text(original)
    print(f"{caught} of {len(chosen)} mutants caught ({caught / len(chosen):.0%}): {' '.join(map(str, modules))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
