"""SIGKILL at random moments, within a write and before a rename included, loses nothing (``tests/killed.py``)."""

import json

from tests.runs import finish, start


def test_a_run_that_is_killed_again_and_again_ends_with_the_losses_of_one_that_never_was(tmp_path):
    said = finish(start("tests/killed.py", tmp_path, 3, 1, 2, apart=True), timeout=1200)
    found = json.loads(said.splitlines()[-1])  # gloo may have its say before
    assert found["equal"]
    assert found["kills"] >= 3
