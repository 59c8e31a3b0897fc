"""The log of a run, and how a resumed run continues it."""

from __future__ import annotations

import re

from plrc.run import RunLog, read_log


def line(step: int, image: float = 1.0) -> dict:
    return {"step": step, "epoch": step / 10, "image": image, "images_per_second": 5.0}


def test_lines_are_on_disk_at_once(tmp_path):
    with RunLog(tmp_path, total=10, first_step=0) as log:
        log.write(line(1))
        log.advance()
        assert read_log(tmp_path) == [line(1)]


def test_a_resumed_log_reads_as_if_it_had_never_stopped(tmp_path):
    with RunLog(tmp_path, total=10, first_step=0) as log:
        for step in (1, 2, 3, 4):
            log.write(line(step, image=9))
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 5, "ima')  # the kill came here
    with RunLog(tmp_path, total=10, first_step=2) as log:
        log.write(line(3, image=7))
    assert read_log(tmp_path) == [line(1, 9), line(2, 9), line(3, 7)]
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 3


def test_away_from_a_terminal_a_log_step_is_one_line(tmp_path, capsys):
    with RunLog(tmp_path, total=10, first_step=2) as log:
        for step in (3, 4):
            log.write(line(step))
            log.advance()
        log.say("stopped")
    printed = capsys.readouterr().err
    first, second, last = printed.splitlines()
    assert re.fullmatch(r"step 3/10 \[00:0\d, 0\d:\d\d left\]  epoch 0\.3  5 images/s  image 1\.000", first)
    assert second.startswith("step 4/10 [")
    assert last == "stopped"
    assert "\r" not in printed


def test_scalars_and_pictures_reach_tensorboard(tmp_path):
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLog(tmp_path, total=10, first_step=0) as log:
        log.write(line(3, image=2.5))
        log.picture("affinity", Figure(), 3)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("image")] == [(3, 2.5)]
    assert [e.step for e in events.Images("affinity")] == [3]
