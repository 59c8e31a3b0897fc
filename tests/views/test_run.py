"""plrc.views.run: a run's folder as curves and numbers, whatever state its log is in."""

import json
import math
import os

import numpy as np
import pytest
import yaml
from PIL import Image

from plrc.views import replay
from plrc.views.run import affinity_pictures, duration, nearest, read_run
from tests.views.conftest import draw_run

SETTINGS = {
    "epochs": 10, "batch_size": 32, "weight_image": 0.7, "weight_point": 0.3, "weight_affinity": 0.5,
    "affinity_start": 0.0,
}  # fmt: skip
WRITTEN = 1_700_000_000  # 2023-11-14 22:13:20 UTC


def line(step, **changes):
    """A line of the log of a run with 40 steps an epoch."""
    values = {
        "step": step, "epoch": round(step / 40, 4), "image": 5 - step / 100, "point": 4.0, "affinity": 2.0, "lr": 1e-3,
        "images_per_second": 64.0, "data_wait": 0.25, "memory_mib": 100 + step,
    } | changes  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


@pytest.fixture
def run(tmp_path):
    """``run(lines, ...)``: a run folder; what is no line is written as it is."""

    def make(lines, name="mine", settings=SETTINGS, pictures=()):
        folder = tmp_path / name
        (folder / "figures").mkdir(parents=True)
        text = "".join(entry if isinstance(entry, str) else json.dumps(entry) + "\n" for entry in lines)
        (folder / "log.jsonl").write_text(text)
        os.utime(folder / "log.jsonl", (WRITTEN, WRITTEN))
        if settings is not None:
            (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        for step in pictures:
            Image.new("RGBA", (4, 6), (step % 256, 1, 2, 255)).save(folder / "figures" / f"affinity_{step:07d}.png")
        return folder

    return make


def test_a_log_as_it_should_be(run):
    folder = run([line(step) for step in range(10, 110, 10)])
    drawn = draw_run([str(folder)])
    curves = drawn.records["mine"].curves
    assert curves["step"].tolist() == list(range(10, 110, 10))
    np.testing.assert_allclose(curves["image"], 5 - curves["step"] / 100)
    np.testing.assert_allclose(curves["total"], 0.7 * curves["image"] + 0.3 * 4 + 0.5 * 2)
    assert drawn.lines == [
        "step           100 of 400 (25%)",
        "epoch          2.5 of 10",
        "time left      about 2 min, at the speed of the last 10 log lines",  # 300 steps of 32 images, 64 a second
        "last line      2023-11-14 22:13:20 UTC",
        "total loss     5.035 (mean of 2 log lines; lowest mean 5.035 at step 100)",
        "image loss     4.050 (mean of 2 log lines; lowest mean 4.050 at step 100)",
        "point loss     4.000 (mean of 2 log lines; lowest mean 4.000 at step 20)",
        "affinity loss  2.000 (mean of 2 log lines; lowest mean 2.000 at step 20)",
        "images/s       64",
        "data wait      25% of the time",
        "memory         200 MiB at most",
    ]
    assert drawn.records["mine"].steps_per_epoch == 40
    assert drawn.records["mine"].seconds_left == 150
    assert {"total loss, weighted", "memory, MiB"} & {axes.get_title() for axes in drawn.figure.axes}


def test_a_finished_run_says_so_and_where_its_losses_were_lowest(run):
    image = [5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9]
    drawn = draw_run([str(run([line(20 * (i + 1), image=float(v)) for i, v in enumerate(image)]))])
    assert drawn.lines[0].split() == ["finished", "400", "steps,", "10", "epochs"]
    (row,) = [row for row in drawn.rows if row["loss"] == "image"]
    assert row == {"run": "mine", "loss": "image", "last": 9.0, "lowest": 1.0, "at step": 180}
    assert drawn.records["mine"].seconds_left == 0


def test_steps_that_a_resumed_run_repeats_are_there_once(run):
    again = [line(20, image=1.0), line(30, image=2.0)]
    record = read_run(run([line(10), line(20), line(30), line(40), *again]))
    assert record.curves["step"].tolist() == [10, 20, 30]  # what the first run logged beyond is gone
    assert record.curves["image"].tolist() == [4.9, 1.0, 2.0]


@pytest.mark.parametrize(
    "content", ["", "\n", "no log\n", '{"step": 1', '[1, 2]\n3\n"step"\n', '{"step": "x"}\n', '{"step": 5}\n']
)
def test_a_log_without_a_line_says_what_to_do(run, content):
    folder = run([content])
    with pytest.raises(ValueError, match=r"mine/log\.jsonl has no line that can be read: wait for the run's first one"):
        draw_run([str(folder)])


def test_folders_and_files_that_are_no_run_are_named(run, tmp_path):
    with pytest.raises(ValueError, match=r"gone/log\.jsonl cannot be read \(No such file .*: name a run folder"):
        draw_run([str(tmp_path / "gone")])
    folder = run([])
    (folder / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"log\.jsonl has no line that can be read"):
        draw_run([str(folder)])
    with pytest.raises(ValueError, match="name a run folder"):
        draw_run([])
    with pytest.raises(ValueError, match="a run is named twice"):
        draw_run([str(folder), f"{folder}/../mine"])
    with pytest.raises(ValueError, match="odd number"):
        draw_run([str(folder)], smooth=2)


def test_what_an_older_log_lacks_is_left_out(run):
    drawn = draw_run([str(run([line(step, affinity=None, memory_mib=None, data_wait=None) for step in (10, 20)]))])
    assert np.isnan(drawn.records["mine"].curves["total"]).all()  # the affinity loss has a weight
    assert [row["loss"] for row in drawn.rows] == ["image", "point"]
    assert len(drawn.figure.axes) == 4
    assert drawn.lines[-1].split() == ["images/s", "64"]


def test_losses_without_a_weight_and_before_they_set_in_are_not_missing(run):
    lines = [line(40, affinity=None), line(80, affinity=None), line(120), line(160, affinity=None)]
    late = read_run(run(lines, settings=SETTINGS | {"affinity_start": 2.0})).curves["total"]
    np.testing.assert_allclose(late, [0.7 * 4.6 + 1.2, 0.7 * 4.2 + 1.2, 0.7 * 3.8 + 2.2, math.nan])
    none = read_run(run(lines, "none", SETTINGS | {"weight_affinity": 0})).curves["total"]
    np.testing.assert_allclose(none, [0.7 * image + 1.2 for image in (4.6, 4.2, 3.8, 3.4)])


def test_losses_that_are_no_numbers_leave_a_gap_and_are_counted(run):
    lines = [line(10), line(20, image=math.nan), line(30, image=math.inf), line(40, image=None), line(50)]
    drawn = draw_run([str(run(lines))])
    assert np.isfinite(drawn.records["mine"].curves["total"]).tolist() == [True, False, False, False, True]
    assert drawn.lines[-1].split("  ")[-1].strip() == "the image loss, in 2 of 5 log lines"
    assert any(
        line.startswith("image loss ") and " 4.500 (last log line; lowest 4.500 at step 50)" in line
        for line in drawn.lines
    )
    assert drawn.figure.axes


def test_without_its_configuration_neither_total_nor_length_is_known(run):
    for number, text in enumerate((None, "epochs: [", "- 1", "epochs: many")):
        folder = run([line(10), line(20)], f"run {number}", None)
        if text is not None:
            (folder / "config.yaml").write_text(text)
        drawn = draw_run([str(folder)])
        assert " 20 (how many there will be is not known without config.yaml)" in drawn.lines[0]
        assert not drawn.records[f"run {number}"].finished
        assert [row["loss"] for row in drawn.rows] == ["image", "point", "affinity"]


def test_several_runs_are_named_by_what_tells_them_apart(run):
    a, b = run([line(10), line(20)], "a/same"), run([line(400)], "b/same")
    drawn = draw_run([str(a), str(b)])
    assert list(drawn.records) == ["a/same", "b/same"]
    assert drawn.lines[0] == "a/same:"
    assert drawn.lines[drawn.lines.index("b/same:") + 1].startswith("finished ")
    assert {"a/same total", "b/same image"} <= drawn.arrays.keys()
    assert [axes.child_axes != [] for axes in drawn.figure.axes[:2]] == [True, True]
    other = run([line(10, epoch=1.0)], "c")
    assert not draw_run([str(a), str(other)]).figure.axes[0].child_axes  # their epochs differ


def test_affinity_pictures_are_found_by_their_names(run):
    folder = run([line(10)], pictures=(200, 4000, 12_345_678))
    (folder / "figures" / "before_after.png").touch()
    (folder / "figures" / ".affinity_0000300.png.12.tmp").touch()
    assert list(affinity_pictures(folder)) == [200, 4000, 12_345_678]
    assert [nearest((200, 400), step) for step in (0, 300, 301, 9999)] == [200, 200, 400, 400]
    arrays = draw_run([str(folder)], affinity_at=3000).arrays
    assert arrays["mine affinity at step 4000"].shape == (6, 4, 4)
    assert arrays["mine affinity at step 4000"][0, 0].tolist() == [4000 % 256, 1, 2, 255]
    assert "mine affinity at step 12345678" in draw_run([str(folder)]).arrays
    (folder / "figures" / "affinity_0000200.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"affinity_0000200\.png is no image"):
        draw_run([str(folder)], affinity_at=1)


def test_it_is_drawn_again_from_its_recipe_until_the_log_grows(run, tmp_path):
    folder = run([line(10), line(20, image=math.nan)], pictures=(200,))
    recipe = draw_run([str(folder)], smooth=3).save(tmp_path / "x")[2]
    assert replay(recipe)[1] == []
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line(30)) + "\n")
    assert replay(recipe)[1][0] == f"{folder}/log.jsonl is not the same as then"


def test_durations():
    told = {0: "0 s", 59: "59 s", 61: "1 min", 3599: "1 h 0 min", 3600: "1 h 0 min", 11100: "3 h 5 min"}
    assert {seconds: duration(seconds) for seconds in told} == told
    assert duration(90000) == "1 d 1 h"
