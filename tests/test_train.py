"""Whole runs: stopped, killed, restarted, spread over ranks and nodes. Small: 32 px views, 24 scenes, 6 steps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from plrc import pretrained, report, run, train
from plrc.analysis import descriptors
from plrc.checkpoint import STEP, load_checkpoint
from plrc.cli import main
from plrc.config import load_config
from plrc.data import loader
from plrc.data.shards import write_shards
from plrc.data.sources import open_source
from plrc.distributed import World
from plrc.model import PLRC
from plrc.queries import Shard
from plrc.regions import GridRegions
from plrc.run import read_log
from tests.runs import by_two, finish, flags, free_port, losses, places, small_config, start
from tests.sets import noises, placed

STEPS = 6
ONE_STEP = {"data": "scenes:8", "epochs": 1}
LONG = 8  # epochs of the runs that are hit from outside


def children(process: subprocess.Popen[str]) -> list[int]:
    """The ranks that a torchrun started: they are in sessions of their own."""
    return [child.pid for child in psutil.Process(process.pid).children()]


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not any(line["step"] >= step for line in read_log(out)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run logs nothing"
        time.sleep(0.01)


def state(out: Path) -> dict:
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process from end to end, without its report."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "before_and_after", lambda *_: [])
        assert train.pretrain(small_config(out)) == train.EXIT_DONE
    return out


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on two ranks, each the first of its node, so long that another can be hit in the middle; what they say."""
    out = tmp_path_factory.mktemp("two")
    return out, by_two("tests/rank.py", *flags(out, epochs=LONG), LOCAL_RANK=0, GROUP_WORLD_SIZE=2)


def test_run_folder(uninterrupted):
    assert [line["step"] for line in read_log(uninterrupted)] == list(range(1, STEPS + 1))
    line = read_log(uninterrupted)[-1]
    names = ["image", "point", "affinity"]
    assert list(line) == ["step", "epoch", *names, "lr", "images_per_second", "data_wait", "memory_mib"]
    assert line["epoch"] == 2
    assert load_config("demo", uninterrupted / "config.yaml") == small_config(uninterrupted)
    assert "resume" not in (uninterrupted / "config.yaml").read_text()
    assert sorted(f.name for f in (uninterrupted / "checkpoints").iterdir()) == ["epoch_0002.pt", "last.pt"]
    assert list((uninterrupted / "tensorboard").iterdir())


def test_a_backbone_of_timm_is_trained(tmp_path, silent):
    given = {"arch": "convnext_atto", "image_size": 64, "data": "scenes:16", "epochs": 1}
    assert train.pretrain(small_config(tmp_path, **given)) == train.EXIT_DONE
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    assert any("stages.3.blocks" in name for name in state(tmp_path)["model"])


def test_training_lowers_the_losses(tmp_path, silent):
    """On views that differ little, so that sixty small steps show something."""
    easy = {"crop_scale": (0.6, 1.0), "jitter_p": 0.0, "grey_p": 0.0, "blur_p": 0.0, "weights": {"affinity": 0.0}}
    config = small_config(tmp_path, epochs=20, save_every=1000, **easy)
    assert train.pretrain(config) == train.EXIT_DONE
    image = [line["image"] for line in read_log(tmp_path)][8:]  # from where the queue holds real keys
    assert sum(image[-10:]) / 10 < sum(image[:10]) / 10 - 0.4
    assert "affinity" not in read_log(tmp_path)[0]


@pytest.mark.parametrize("stop_after", [2, 3])  # in the middle of an epoch, and at its end
def test_sigterm_saves_and_the_resumed_run_is_the_same_bit_for_bit(
    stop_after, uninterrupted, tmp_path, monkeypatch, silent
):
    step_of = train.train_step

    def stopped_in_the_middle(*arguments):
        if arguments[5] == stop_after - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step_of(*arguments)

    monkeypatch.setattr(train, "train_step", stopped_in_the_middle)
    assert train.pretrain(small_config(tmp_path, save_every=1000)) == train.EXIT_PREEMPTED
    assert state(tmp_path)["step"] == stop_after
    monkeypatch.setattr(train, "train_step", step_of)
    if stop_after == 2:  # as until 0.1, when the backbone was called so
        last = tmp_path / "checkpoints" / "last.pt"
        saved = state(tmp_path)
        saved["model"] = {name.replace(".backbone.", ".trunk."): tensor for name, tensor in saved["model"].items()}
        torch.save(saved, last)
    torch.rand(7)  # the state of the global generator must not matter
    assert train.pretrain(small_config(tmp_path, resume="auto", workers=1)) == train.EXIT_DONE
    assert losses(tmp_path) == losses(uninterrupted)
    ours, theirs = state(tmp_path), state(uninterrupted)
    for name, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][name], tensor), name
    for index, buffers in theirs["optimizer"]["state"].items():
        for name, buffer in buffers.items():
            assert torch.equal(ours["optimizer"]["state"][index][name], buffer), name


def test_accumulated_parts_see_the_same_images_and_do_one_step(uninterrupted, tmp_path, silent):
    """BatchNorm sees smaller batches and other points are drawn, so losses agree roughly; queue and steps exactly."""
    assert train.pretrain(small_config(tmp_path, accumulate=2)) == train.EXIT_DONE
    ours, theirs = state(tmp_path), state(uninterrupted)
    assert ours["model"]["queue_position"] == theirs["model"]["queue_position"] == STEPS * 8
    assert len(read_log(tmp_path)) == STEPS
    assert losses(tmp_path)[0][1] == pytest.approx(losses(uninterrupted)[0][1], rel=0.1)


@pytest.mark.parametrize(
    ("given", "pays_from", "compiled"),
    [
        ({"compile": "on"}, STEPS + 1, 2),
        (ONE_STEP, 1, 0),  # in fp32
        ({**ONE_STEP, "precision": "bf16"}, 2, 0),
        ({**ONE_STEP, "precision": "bf16"}, 1, 2),
        ({**ONE_STEP, "precision": "bf16", "compile": "off"}, 1, 0),
    ],
)
def test_encoders_are_compiled_where_it_pays_and_names_stay(
    given, pays_from, compiled, uninterrupted, tmp_path, silent, monkeypatch
):
    """By torch's tracing alone: its compiler would take a minute, and round otherwise."""
    compiling, calls = torch.compile, []

    def traced(function, **how):
        run_traced = compiling(function, backend="eager", **how)
        return lambda x: calls.append(function) or run_traced(x)

    monkeypatch.setattr(torch, "compile", traced)
    monkeypatch.setattr(run, "cannot_compile", lambda device: "")
    monkeypatch.setattr(train, "COMPILING_PAYS", pays_from)
    assert train.pretrain(small_config(tmp_path, **given)) == train.EXIT_DONE
    assert len(set(calls)) == compiled
    assert list(state(tmp_path)["model"]) == list(state(uninterrupted)["model"])
    if given == {"compile": "on"}:
        assert losses(tmp_path) == losses(uninterrupted)


def test_a_machine_that_cannot_compile_says_so_and_goes_on(uninterrupted, tmp_path, silent, monkeypatch, capsys):
    def fails(*_, **__):
        raise RuntimeError("no C++ compiler found\nmore of it")

    monkeypatch.setattr(torch, "compile", fails)
    assert train.pretrain(small_config(tmp_path, compile="on")) == train.EXIT_DONE
    assert "not compiled, torch.compile does not work here: no C++ compiler found\n" in capsys.readouterr().err
    assert losses(tmp_path) == losses(uninterrupted)


@pytest.mark.parametrize(
    ("asked", "amx", "avx", "amd", "enabled"),
    [
        ("auto", True, True, False, True),
        ("auto", False, True, True, True),
        ("auto", False, True, False, False),
        ("auto", False, False, True, False),
        ("fp32", True, True, True, False),
    ],
)
def test_bf16_is_taken_where_the_hardware_has_it(asked, amx, avx, amd, enabled, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(run, "_is_amd", lambda: amd)
    with run.autocast(asked, torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu") == enabled


@pytest.mark.parametrize(("asked", "hardware", "notes"), [("bf16", False, 1), ("bf16", True, 0), ("auto", False, 0)])
def test_bf16_that_the_hardware_lacks_is_told(asked, hardware, notes, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: hardware)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    said: list[str] = []
    log = SimpleNamespace(say=said.append)
    run.Steps(small_config(tmp_path, precision=asked), World(0, 1, torch.device("cpu")), log, 24)
    assert len([line for line in said if "--precision auto" in line]) == notes


def test_a_dead_rank_brings_the_job_down_and_a_restart_goes_on_to_what_two_nodes_compute(two_nodes, tmp_path):
    once = ["--standalone", "--nproc_per_node=2", "--max-restarts=1", "--monitor-interval=0.1"]
    process = start("-m", "torch.distributed.run", *once, "tests/rank.py", *flags(tmp_path, epochs=LONG))
    wait_for_step(tmp_path, 2, process)
    os.kill(children(process)[-1], signal.SIGKILL)
    assert "from step" in finish(process), "it went on from a checkpoint"
    assert losses(tmp_path) == losses(two_nodes[0])


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_the_threads_of_gloo_end_before_python_does(two_nodes):
    """One that is left asks a Python that is about to end for a tensor's end, and aborts the process."""
    assert len(re.findall(r"gloo had [1-9]\d* threads, then 0", two_nodes[1])) == 2, two_nodes[1]


def test_tasks_of_slurm_are_ranks_and_one_process_goes_on_with_their_global_batches(
    tmp_path, monkeypatch, silent, capsys
):
    """Two tasks on shards, pre-empted; their job starts again with one."""
    write_shards(Shard(data=str(noises(tmp_path / "images", 24)), out=str(tmp_path / "shards"), shard_mb=0.03))
    counts = open_source(str(tmp_path / "shards")).counts
    assert len(counts) > 3
    out, noted = tmp_path / "out", tmp_path / "noted.jsonl"
    how = {"data": str(tmp_path / "shards"), "epochs": LONG, "resume": "auto"}
    job = {"STEP_NUM_TASKS": 2, "NTASKS": 2, "JOB_NODELIST": "127.0.0.[1-2]", "JOB_ID": 7}
    of_job = {"NOTED": noted, "MASTER_PORT": free_port(), **{f"SLURM_{name}": value for name, value in job.items()}}
    tasks = [
        start("tests/rank.py", *flags(out, **how), **of_job, SLURM_PROCID=number, SLURM_LOCALID=number)
        for number in range(2)
    ]
    wait_for_step(out, 3, tasks[0])
    for task in tasks:
        task.send_signal(signal.SIGTERM)
    for task in tasks:
        finish(task, train.EXIT_PREEMPTED)
    done = state(out)["step"]
    assert 3 <= done < LONG * 3, "the signal came too late to show anything"
    found, step_of = {step: list[int]() for step in range(LONG * 3)}, train.train_step
    for step, _, indices in sorted(map(json.loads, noted.read_text().splitlines())):
        found[step] += indices

    def seen(*arguments):
        found[arguments[5]] += arguments[3].indices.tolist()
        return step_of(*arguments)

    monkeypatch.setattr(train, "train_step", seen)
    assert train.pretrain(small_config(out, **how)) == train.EXIT_DONE
    assert "was written by 2 ranks, now there are 1" in capsys.readouterr().err
    alone = loader.Order(24, small_config(out, epochs=LONG), 0, 1, shards=counts)
    assert list(found.values()) == [[i for _, i in batch] for batch in alone]


def test_ranks_that_disagree_stop_with_the_field(tmp_path):
    rates = zip((2, 1), places(), strict=True)
    given = [start("train_ddp.py", *flags(tmp_path / "out", lr=lr), **place) for lr, place in rates]
    assert "ranks disagree on lr: 2.0 on rank 0, 1.0 on rank 1" in "".join(finish(process, 2) for process in given)
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "already holds a run: go on with --resume auto"),
        ({"resume": "auto", "temperature": 0.3}, r"--temperature is 0\.3 now, but 0\.1 in the saved run"),
        ({"resume": "auto", "temperature": 0.3, "epochs": 9}, r"another --out \(with --init .*, to train longer\), or"),
        ({"resume": "auto", "data": "scenes:32"}, "the images of scenes:32 are not those of the saved run"),
    ],
)
def test_a_run_is_not_overwritten_nor_goes_on_as_another(changes, message, uninterrupted):
    with pytest.raises(ValueError, match=message):
        train.pretrain(small_config(uninterrupted, **changes))
    assert state(uninterrupted)["step"] == STEPS


def test_a_run_whose_newest_checkpoint_is_lost_goes_on_from_the_newest_whole_one(
    uninterrupted, tmp_path, silent, capsys
):
    """Nothing that is whole is overwritten; the continuation is the run that never stopped."""
    out, kept = tmp_path / "run", "epoch_0001.pt"
    config = small_config(out, keep_every=1)
    assert train.pretrain(config) == train.EXIT_DONE
    first = (out / "checkpoints" / kept).read_bytes()
    for name in ("last.pt", "epoch_0002.pt"):
        (out / "checkpoints" / name).unlink()
    with pytest.raises(ValueError, match="already holds a run: go on with --resume auto"):
        train.pretrain(config)
    shutil.copytree(uninterrupted / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="already holds a run"):
        train.pretrain(replace(config, resume=str(tmp_path / "checkpoints" / "last.pt")))
    capsys.readouterr()
    assert train.pretrain(replace(config, resume="auto")) == train.EXIT_DONE
    assert "last.pt cannot be used (there is none): going on from epoch_0001.pt" in capsys.readouterr().err
    assert (out / "checkpoints" / kept).read_bytes() == first
    assert losses(out) == losses(uninterrupted)


def test_a_finished_run_is_whole_in_another_folder(uninterrupted, tmp_path, silent):
    last = uninterrupted / "checkpoints" / "last.pt"
    assert train.pretrain(small_config(tmp_path, resume=str(last))) == train.EXIT_DONE
    kept, there = state(tmp_path), state(uninterrupted)
    assert kept["step"] == STEPS
    assert all(torch.equal(tensor, there["model"][name]) for name, tensor in kept["model"].items())


def test_a_view_of_one_cell_is_told(tmp_path, silent, capsys):
    for size, notes in ((8, 1), (9, 0)):
        assert train.pretrain(small_config(tmp_path / str(size), image_size=size, epochs=1)) == train.EXIT_DONE
        assert capsys.readouterr().err.count(f"a view of {size} pixels is one cell of stride 8") == notes


def test_a_run_begins_with_another_network(tmp_path, capsys, monkeypatch):
    """At a learning rate of 0 it ends with it, too; its report and its epoch 0 know it; it goes on without it."""
    shipped = Path(pretrained.__file__).with_name("shipped") / "tiny.safetensors"
    export = shutil.copy(shipped, tmp_path / "mine.safetensors")
    config = small_config(tmp_path / "run", init=str(export), lr=0.0, epochs=1)
    compared, described = [], descriptors.network
    monkeypatch.setattr(descriptors, "network", lambda name, of: compared.append(of) or described(name, of))
    assert train.pretrain(config) == train.EXIT_DONE
    assert f"on cpu, begun with {export}, its backbone and its projector\n" in capsys.readouterr().err
    wanted = pretrained.load(export)
    parameters = dict(wanted.backbone.named_parameters(prefix="backbone"))
    parameters |= wanted.heads["projector"].named_parameters(prefix="projector")
    kept, start = state(tmp_path / "run")["model"], pretrained.load(f"{tmp_path / 'run'}@0")
    for name, parameter in parameters.items():
        assert torch.equal(kept[f"query_encoder.{name}"], parameter)
        assert torch.equal(kept[f"key_encoder.{name}"], parameter)
    for network in (start.backbone, *(encoder.backbone for encoder in compared[:2])):
        assert all(map(torch.equal, network.parameters(), wanted.backbone.parameters()))
    assert all(map(torch.equal, start.heads["projector"].parameters(), wanted.heads["projector"].parameters()))
    export.unlink()
    assert train.pretrain(replace(config, resume="auto")) == train.EXIT_DONE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init": "plrc:tiny", "arch": "resnet18"}, "--init plrc:tiny is a tiny, not a resnet18: give --arch tiny"),
        ({"init": "plrc:tinny"}, "there is no file or folder plrc:tinny; did you mean 'plrc:tiny'?"),
        ({"init": "plrc:tiny", "dim": 64, "epochs": 1}, ", begun with the backbone of plrc:tiny\n"),
    ],
)
def test_what_a_run_begins_with_is_told(given, message, tmp_path, silent, capsys):
    command = ["train", *flags(tmp_path / "run", **given)]
    assert main(command) == (0 if "dim" in given else 2)
    assert message in capsys.readouterr().err


def test_a_run_folder_is_held_by_one_process_and_cleared_of_what_a_kill_left(tmp_path, silent):
    left = placed(tmp_path / "figures" / ".affinity.png.7-7.tmp")
    foreign = [tmp_path / ".draft.tmp", placed(tmp_path / "notes" / ".draft.txt.7-7.tmp")]
    for file in (left, *foreign):
        file.write_bytes(b"half")
    hold = (
        "import pathlib, sys, time; from plrc import run\n"
        "with run.held(sys.argv[1]), run.RunLog(pathlib.Path(sys.argv[1]), 1, 0) as log:\n"
        "    log.check_folder(); print(flush=True); time.sleep(600)"
    )
    with start("-c", hold, tmp_path) as other:
        try:
            other.stdout.readline()
            with pytest.raises(ValueError, match=rf"is in use by process {other.pid} on .*: wait for it, or choose"):
                train.pretrain(small_config(tmp_path))
        finally:
            other.kill()
    assert not left.exists()
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [".draft.tmp", ".lock", "log.jsonl"]
    assert foreign[1].exists(), "it is not the run's"
    assert train.pretrain(small_config(tmp_path, epochs=1)) == train.EXIT_DONE


def test_a_folder_for_checkpoints_that_cannot_be_is_told_of_before_the_first_step(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(ValueError, match=r"checkpoints is a file, name a folder"), run.held(str(tmp_path)):
        pass


@pytest.mark.parametrize("name", ["key_encoder.backbone.", "momentum_buffer", "exp_avg"])
def test_a_state_that_is_not_finite_is_named_and_not_saved(name, tmp_path, monkeypatch):
    step_of = train.train_step

    def broken_at_two(model, parallel, optimizer, batch, config, step, *rest):
        losses = step_of(model, parallel, optimizer, batch, config, step, *rest)
        if step == 2:
            of = optimizer.state_dict()["state"][0] | model.state_dict()
            next(t for key, t in of.items() if key.startswith(name)).fill_(float("inf"))
        return losses

    monkeypatch.setattr(train, "train_step", broken_at_two)
    optimizer = "sgd" if name == "momentum_buffer" else "adamw"
    with pytest.raises(ValueError, match=rf"{name}.* is not finite after step 3: lower --lr"):
        train.pretrain(small_config(tmp_path, optimizer=optimizer))
    assert state(tmp_path)["step"] == 2


def test_a_step_that_is_not_finite_is_kept_and_computed_again_alone(tmp_path, silent, capsys, monkeypatch):
    with pytest.raises(ValueError, match="nan at step 2: lower --lr; the last checkpoint is untouched, plrc replay"):
        train.pretrain(small_config(tmp_path, lr=1e30, save_every=10**6))
    monkeypatch.setattr(run, "open_source_once", None)
    monkeypatch.chdir(tmp_path)
    assert main(["replay", "not_finite.pt"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("step 2, rank 0 of 1: 8 images\nthe image loss is nan\n")
    assert re.search(r"^not finite first \(of \d+\): what query_encoder.backbone\S+ gives$", said, re.MULTILINE)


@pytest.mark.parametrize("at", ["loss", "gradient"])
def test_a_kept_step_has_the_losses_that_it_had(at, uninterrupted, tmp_path, silent, monkeypatch):
    backward = train._backward

    def broken_at_two(model, *rest):
        losses = backward(model, *rest)
        if rest[3] == 2:
            (losses["point"] if at == "loss" else next(model.query_encoder.parameters()).grad).mul_(float("nan"))
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(train, "_backward", broken_at_two)
        told = "point loss is nan" if at == "loss" else "gradient is not finite"
        with pytest.raises(ValueError, match=f"{told} at step 3"):
            train.pretrain(small_config(tmp_path))
    line = read_log(uninterrupted)[2]
    of_log = [f"the {name} loss is {line[name]:.6g}" for name in ("image", "point", "affinity")]
    saved = load_checkpoint(tmp_path / "not_finite.pt", STEP)
    assert train.replay_step(saved)[1:] == [*of_log, "here all is finite"]


def test_drawing_never_ends_a_training_nor_changes_it(uninterrupted, tmp_path, monkeypatch, capsys):
    def fails(network, *_):
        network.query_encoder.eval()
        raise MemoryError("too large")

    monkeypatch.setattr(report, "affinity_over_training", fails)
    monkeypatch.setattr(report, "before_and_after", fails)
    assert train.pretrain(small_config(tmp_path, picture_every=2)) == train.EXIT_DONE
    assert losses(tmp_path) == losses(uninterrupted)
    told = capsys.readouterr().err
    assert "no picture of step 2: too large" in told
    assert "its report failed: too large" in told


def test_a_finished_run_only_reports_of_which_map_and_pictures_it_is_and_measures_every_baseline(
    uninterrupted, capsys, monkeypatch
):
    before = (uninterrupted / "log.jsonl").read_text()
    assert report._losses(uninterrupted / "checkpoints", small_config(uninterrupted)) == "none, the log is empty"
    told = report._losses(uninterrupted, small_config(uninterrupted, queue_size=8 * STEPS))
    assert told.endswith(f" (step {STEPS})")
    assert "→" not in told
    drawn, save = [], report.figures.save
    monkeypatch.setattr(report.figures, "save", lambda figure, file: drawn.append(figure) or save(figure, file))
    monkeypatch.setattr(report, "_TOO_EASY", 1.1)
    assert train.pretrain(small_config(uninterrupted, resume="auto")) == train.EXIT_DONE
    assert (uninterrupted / "log.jsonl").read_text() == before
    out = capsys.readouterr().out
    assert re.search(r"^places found  [01]\.\d{3} \[.* \(before 0\.\d{3}, chance ", out, re.MULTILINE)
    objects = re.search(r"^object AUC +0.*, distance (0\.\d{3}), chance 0\.500\)", out, re.MULTILINE)
    assert "both of the projector's output, on 24 training images" in out
    assert 0.45 < float(objects[1]) < 0.65
    headings = {" ".join(text.get_text().split()) for text in drawn[0].findobj(Text)}
    assert {f"affinity {when} (projector, training images)" for when in ("before", "after")} <= headings
    with Image.open(uninterrupted / "figures" / "before_after.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ""}, "--data is missing"),
        ({"data": "/no/such/folder"}, "does not exist"),
        ({"data": "scenes:4"}, "has 4 images, fewer than one batch of 8"),
        ({"batch_size": 10, "accumulate": 2}, "--batch-size 10 must be a multiple of 4"),
        ({"batch_size": 8, "bn_groups": 8}, "leaves BatchNorm one image at a time"),
        ({"regions": "grid:99"}, "makes 9801 regions"),
        ({"resume": "nowhere.pt"}, "there is no checkpoint nowhere.pt"),
    ],
)
def test_bad_input_is_one_sentence(changes, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        train.pretrain(small_config(tmp_path, **changes))


def test_too_many_undecodable_files_stop_the_run_before_it_is_saved(tmp_path, silent):
    data = noises(tmp_path / "data", 24)
    (data / "007.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"1 of 24 images cannot be decoded, more than 1%, among them 007\.png"):
        train.pretrain(small_config(tmp_path / "out", data=str(data), log_every=1000, save_every=1000))
    (data / "007.png").unlink()
    assert train.pretrain(small_config(tmp_path / "out", data=str(data))) == train.EXIT_DONE


@pytest.mark.parametrize(("queue", "told"), [(48, True), (23, False)])
def test_a_queue_that_holds_every_image_is_told(tmp_path, capsys, queue, told, silent):
    assert train.pretrain(small_config(tmp_path, epochs=1, queue_size=queue)) == 0
    captured = capsys.readouterr()
    note = "a queue of 48 keys holds each of the 24 images 2 times"
    assert (note in captured.out + captured.err) == told


def test_one_undecodable_file_in_a_hundred_is_named_once_and_replaced(tmp_path, capsys, silent):
    data = noises(tmp_path / "data", 104)
    (data / "007.png").write_bytes(b"not a picture")
    assert train.pretrain(small_config(tmp_path / "out", data=str(data))) == train.EXIT_DONE
    assert capsys.readouterr().err.count("007.png") == 1


def test_stop_signals_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with run.stop_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_step_follows_the_weighted_sum_of_the_three_gradients(tmp_path):
    """With plain gradient descent, weights move by −lr · Σ weight · gradient of that loss alone."""
    weights = {"image": 0.7, "point": 0.31, "affinity": 0.13}
    plain = {"optimizer": "sgd", "sgd_momentum": 0.0, "weight_decay": 0.0, "lr": 32.0}  # 1.0 at this batch size
    config = small_config(tmp_path, **plain, weights=weights)
    batch = loader.collate([loader.TwoViews(open_source("scenes:8"), GridRegions(2), config)[0, i] for i in range(8)])
    here = World(0, 1, torch.device("cpu"))

    torch.manual_seed(0)
    model = PLRC(config)
    weight = model.query_encoder.projector[0].weight
    start = weight.detach().clone()
    gradients: dict[str, torch.Tensor] = {}

    def seen(module, inputs, losses):
        """The losses that the step itself computes, each with its own gradient."""
        for name, loss in losses.items():
            gradients[name] = torch.autograd.grad(loss, weight, retain_graph=True)[0]

    model.register_forward_hook(seen)
    train.train_step(model, model, train.make_optimizer(model, config), batch, config, 0, 10, here)
    assert min(gradient.abs().max() for gradient in gradients.values()) > 1e-5
    expected = -sum(weights[name] * gradients[name] for name in weights)
    torch.testing.assert_close(weight.detach() - start, expected, rtol=1e-3, atol=1e-6)
