"""The log of a run, and how a resumed run continues it."""

import errno
import io
import re
import shutil
import time

import pytest

from plrc.run import RunLog, read_log


def line(step: int, image: float = 1.0) -> dict:
    return {"step": step, "epoch": step / 10, "image": image, "images_per_second": 5.0}


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


@pytest.mark.parametrize("damage", [b"5\n", b'["step"]\n', b'{"step": "2"}\n', b"\0" * 64, b"\x87\xff"])
def test_a_damaged_log_ends_no_training(damage, tmp_path):
    with RunLog(tmp_path, total=10, first_step=0) as log:
        log.write(line(1))
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(damage)
    with RunLog(tmp_path, total=10, first_step=1) as log:
        log.write(line(2))
    assert read_log(tmp_path) == [line(1), line(2)]


def test_events_that_cannot_be_written_end_no_training(tmp_path, capsys):
    with RunLog(tmp_path, total=1000, first_step=0) as log:
        shutil.rmtree(tmp_path / "tensorboard")
        for step in range(1, 200):
            log.write(line(step))
            time.sleep(0.01)
            if "no more events" in (said := capsys.readouterr().err):
                break
        log.write(line(step + 1))
    assert "note: no more events for TensorBoard, they cannot be written: " in said
    assert "Traceback" not in said
    assert len(read_log(tmp_path)) == step + 1


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_that_nobody_can_read_end_no_training(terminal, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        gone = False

        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(errno.EIO, "Input/output error")
            return super().write(text)

    monkeypatch.setattr("sys.stderr", Terminal())
    with RunLog(tmp_path, total=10, first_step=0) as log:
        Terminal.gone, log._bar.mininterval = True, 0
        for step in range(1, 4):
            log.write(line(step))
            log.advance()
        log.say("a note")
    assert len(read_log(tmp_path)) == 3


@pytest.mark.parametrize("now", ["", "process 8 on earth"])
def test_nothing_is_written_into_a_folder_that_is_not_the_runs_any_more(now, tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    folder.mkdir()
    (folder / ".lock").write_text("process 7 on earth")
    with RunLog(folder, total=10, first_step=0) as log:
        log.write(line(1))
        folder.rename(moved)
        if now:
            folder.mkdir()
            (folder / ".lock").write_text(now)
        with pytest.raises(ValueError, match="run was moved or removed, or is another run's now"):
            log.write(line(2))
    assert read_log(moved) == [line(1)]


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
