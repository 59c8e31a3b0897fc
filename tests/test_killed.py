"""SIGKILL at random moments, within a write and before a rename included, loses nothing (``tests/killed.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_run_that_is_killed_again_and_again_ends_with_the_losses_of_one_that_never_was(tmp_path):
    command = [sys.executable, str(ROOT / "tests" / "killed.py"), str(tmp_path), "3", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])  # gloo may have its say before
    assert found["equal"]
    assert found["kills"] >= 3
