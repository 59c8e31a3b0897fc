"""Whole fine-tuning runs: small ones, on a few scenes of 48 pixels, by the tiny backbone."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from plrc.cli import main
from plrc.detection import evaluate
from plrc.detection import train as module
from plrc.detection.config import PRESETS, DetectEval, FinetuneConfig
from plrc.detection.data import Sample
from plrc.detection.detector import Architecture, Detector
from plrc.detection.evaluate import detect_eval
from plrc.detection.stages import Target
from plrc.detection.train import finetune, make_optimizer, precise_statistics, summarise
from plrc.distributed import World
from plrc.options import load
from plrc.queries import Run
from plrc.run import EXIT_DONE, EXIT_PREEMPTED, Stop, losses_of, read_log
from plrc.schedules import step_learning_rate
from plrc.views import draw
from tests.runs import by_two
from tests.sets import voc_split

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing: pip install -e '.[detection]'")

STEPS = 4
SMALL = {
    "train": ("scenes:6",), "test": ("scenes:3@1",), "weights": "random:tiny", "short_sides": (48, 56),
    "test_short_side": 48, "roi_per_image": 16, "iterations": STEPS, "precision": "fp32", "milestones": (3,),
    "warmup": 2, "batch_size": 2, "precise_bn": 2, "log_every": 1, "pictures": 0,
}  # fmt: skip


def small(out: Path, **changes: object) -> FinetuneConfig:
    return load(FinetuneConfig, PRESETS, "small", None, {**SMALL, "out": str(out), **changes})


def state(out: Path) -> dict:
    return torch.load(out / "checkpoints" / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from end to end."""
    out = tmp_path_factory.mktemp("whole")
    assert finetune(small(out, pictures=2)) == EXIT_DONE
    return out


def test_the_run_folder_holds_the_settings_the_log_the_detector_and_the_evaluation(whole):
    losses = {"rpn_objectness", "rpn_box", "box_class", "box_regression"}
    lines = read_log(whole)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]) == losses | {"step", "epoch", "lr", "images_per_second", "data_wait", "memory_mib"}
    assert [line["lr"] for line in lines] == [step_learning_rate(k, 0.01, [3], 2) for k in range(STEPS)]
    assert load(FinetuneConfig, PRESETS, "voc-c4-24k", whole / "config.yaml", {}) == small(whole, pictures=2)
    assert "resume" not in yaml.safe_load((whole / "config.yaml").read_text())
    summary = json.loads((whole / "evaluation.json").read_text())
    assert summary["images"] == 3
    assert 0 <= summary["boxes"]["AP50"] <= 1
    names = ("precision_recall", "error_types", "detections")
    assert all((whole / "figures" / f"{name}.png").stat().st_size > 1000 for name in names)


def test_its_curves_are_drawn_as_those_of_pre_training_are(whole):
    drawing = draw(Run(runs=(str(whole),)))
    assert drawing.lines[0].split()[:3] == ["finished", str(STEPS), "steps,"]
    headings = {axes.get_title() for axes in drawing.figure.axes}
    assert {"rpn objectness loss", "box class loss", "learning rate"} <= headings
    assert "affinity loss" not in headings


def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch):
    step_of = module.train_step

    def stopped(*arguments):
        if arguments[4] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return step_of(*arguments)

    monkeypatch.setattr(module, "train_step", stopped)
    assert finetune(small(tmp_path)) == EXIT_PREEMPTED
    assert state(tmp_path)["step"] == 1
    monkeypatch.setattr(module, "train_step", step_of)
    torch.rand(7)  # the state of the global generator must not matter
    assert finetune(small(tmp_path, resume="auto", workers=1)) == EXIT_DONE
    ours, theirs = state(tmp_path), state(whole)
    for name, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][name], tensor), name
    assert (tmp_path / "detections.json").read_text() == (whole / "detections.json").read_text()
    monkeypatch.setattr(module, "train_step", None)
    last = str(whole / "checkpoints" / "last.pt")
    elsewhere = tmp_path / "elsewhere"  # a finished run is only tested again, without its weights at hand
    assert finetune(small(elsewhere, resume=last, test=("scenes:2@5",))) == EXIT_DONE
    assert json.loads((elsewhere / "evaluation.json").read_text())["images"] == 2
    assert (elsewhere / "checkpoints" / "last.pt").is_file()


def test_a_stop_before_the_test_keeps_the_training(whole, tmp_path, monkeypatch):
    statistics_of = module.precise_statistics

    def stopped(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return statistics_of(*arguments)

    monkeypatch.setattr(module, "precise_statistics", stopped)
    assert finetune(small(tmp_path)) == EXIT_PREEMPTED
    assert (state(tmp_path)["step"], state(tmp_path)["precise"]) == (STEPS, False)
    monkeypatch.undo()
    assert finetune(small(tmp_path, resume="auto")) == EXIT_DONE
    assert (tmp_path / "detections.json").read_text() == (whole / "detections.json").read_text()


def test_a_stop_within_the_test_keeps_what_it_found(whole, tmp_path, monkeypatch):
    results_of, looked_at = evaluate._results, list[int]()

    def stopped(found, sample, data):
        looked_at.append(sample.number)
        if len(looked_at) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return results_of(found, sample, data)

    monkeypatch.setattr(evaluate, "_results", stopped)
    assert finetune(small(tmp_path)) == EXIT_PREEMPTED
    assert looked_at == [0, 1]
    (kept,) = tmp_path.glob("detections.unfinished-*")
    content = kept.read_text()
    kept.write_text(f"{content}[2, [{{")  # cut off by a kill
    (tmp_path / "detections.unfinished-7").write_text(f"another test's\n{content.splitlines()[1]}\n")
    (tmp_path / "detections.unfinished-8").write_bytes(kept.read_bytes().splitlines()[0] + b"\n\xff\n5\n")  # junk
    assert finetune(small(tmp_path, resume="auto")) == EXIT_DONE
    assert looked_at == [0, 1, *range(2, json.loads((whole / "evaluation.json").read_text())["images"])]
    assert (tmp_path / "detections.json").read_text() == (whole / "detections.json").read_text()
    assert not list(tmp_path.glob("detections.unfinished-*"))


def test_a_converted_detector_is_not_trained_further(whole, tmp_path):
    saved = state(whole)
    del saved["optimizer"], saved["config"]
    torch.save(saved, tmp_path / "converted.pt")
    with pytest.raises(ValueError, match="weights alone"):
        finetune(small(tmp_path / "run", resume=str(tmp_path / "converted.pt")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "already holds a run: go on with --resume auto"),
        ({"resume": "auto", "lr": 0.5}, "--lr is 0.5 now, but 0.08 in the saved run"),
        ({"resume": "auto", "train_most": 2}, "--train-most is 2 now, but None in the saved run"),
        ({"resume": "auto", "train": ("scenes:7",)}, "the images of scenes:7 are not those of the saved run"),
    ],
)
def test_another_run_is_not_continued(changes, message, whole):
    with pytest.raises(ValueError, match=message):
        finetune(small(whole, **changes))


def test_a_run_whose_objects_were_changed_is_not_continued_one_of_before_is(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(module.DetectionData, "objects_fingerprint", lambda _: "changed")
    with pytest.raises(ValueError, match="the objects of scenes:6 are not those of the saved run"):
        finetune(small(whole, resume="auto"))
    saved = state(whole)
    torch.save({**saved, "images": saved["images"][:16]}, tmp_path / "before.pt")  # as 0.1.0.dev0 had it
    assert finetune(small(tmp_path / "run", resume=str(tmp_path / "before.pt"))) == EXIT_DONE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": ""}, "--weights is missing"),
        ({"train": ()}, "--train is missing"),
        ({"neck": "c5"}, "--neck must be one of c4, fpn, not 'c5'"),
        ({"seeds": 2, "resume": "last.pt"}, "--seeds are several runs, .* take --resume auto"),
        ({"train": ("nowhere",)}, "nowhere does not exist"),
        ({"short_sides": (0,)}, "--short-sides must be at least 1"),
        ({"milestones": (4, 2)}, "--milestones must be rising steps"),
        ({"momentum": 1.5}, "--momentum must be below 1"),
        ({"precise_bn": -1}, "--precise-bn must be at least 0"),
    ],
)
def test_bad_settings_say_the_remedy(changes, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        finetune(small(tmp_path, **changes))
    assert not (tmp_path / "checkpoints").exists()


def test_the_rate_follows_the_batch_and_on_request_the_iterations_too(tmp_path):
    half = small(tmp_path, batch_size=8, lr=0.02, iterations=24_000)
    assert half.peak_lr == pytest.approx(0.01)
    assert half.steps(half.iterations) == 24_000
    assert replace(half, scale_iterations=True).steps(24_000) == 48_000


def test_norms_do_not_decay():
    detector = Detector(Architecture(arch="tiny", neck="fpn", classes=("a",)))
    config = load(FinetuneConfig, PRESETS, "small", None, SMALL)
    groups = make_optimizer(detector, config).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == len(list(detector.parameters()))
    for part in detector.modules():
        for parameter in part.parameters(recurse=False):
            assert decay[id(parameter)] == (0 if isinstance(part, nn.BatchNorm2d) else 1e-4)


def test_precise_statistics_are_the_mean_over_batches(tmp_path):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, images: list, targets: object) -> None:
            self.norm(torch.stack(images))

    model, images, nothing = Model(), torch.randn(3, 4, 3, 5, 5), Target(torch.zeros(0, 4), torch.zeros(0))
    model.norm(torch.full((4, 3, 5, 5), 9.0))  # what it remembers of earlier weights
    here, batches = World(0, 1, torch.device("cpu")), [[Sample(x, nothing, 0, (5, 5)) for x in xs] for xs in images]
    assert precise_statistics(model, iter(batches), small(tmp_path, precise_bn=3), here, Stop())
    torch.testing.assert_close(model.norm.running_mean, images.mean(dim=(0, 1, 3, 4)))
    torch.testing.assert_close(model.norm.running_var, torch.stack([x.var(dim=(0, 2, 3)) for x in images]).mean(dim=0))
    assert model.norm.momentum == 0.1


def test_several_seeds_are_several_networks_and_their_mean(tmp_path, capsys):
    few = {"iterations": 1, "milestones": (1, 3), "precise_bn": 0}
    assert finetune(small(tmp_path, seed=5, seeds=2, **few)) == EXIT_DONE
    said = capsys.readouterr()
    assert "does not drop at 1 and 3, the run ends at step 1: set --milestones" in said.err
    assert "step 1/1 [" in said.err  # no terminal: a line a log step
    assert "COCO, boxes  AP" in said.out.split("mean ± std of 2 seeds, per cent")[1]
    summary = json.loads((tmp_path / "seeds.json").read_text())
    assert summary["seeds"] == [5, 6]
    values = [json.loads((tmp_path / f"seed_{k}" / "evaluation.json").read_text())["boxes"]["AP50"] for k in (5, 6)]
    assert summary["boxes"]["AP50"]["values"] == values
    assert summary["boxes"]["AP50"]["mean"] == pytest.approx(sum(values) / 2)
    ours, theirs = (state(tmp_path / f"seed_{k}")["model"]["backbone.conv1.weight"] for k in (5, 6))
    assert not torch.allclose(ours, theirs)


def test_a_summary_keeps_what_nobody_knows():
    found = summarise([{"AP": 0.5, "AP_small": None}, {"AP": 0.7, "AP_small": 0.1}])
    assert found == {
        "AP": {"mean": pytest.approx(0.6), "std": pytest.approx(0.1414, abs=1e-4), "values": [0.5, 0.7]},
        "AP_small": None,
    }


def test_a_step_that_is_not_finite_is_kept_and_computed_again_alone(whole, tmp_path, monkeypatch, capsys):
    original = module._losses

    def broken_at_two(model, batch, config, key, here):
        losses = original(model, batch, config, key, here)
        return {n: loss * (torch.nan if key == (1, 2) else 1) for n, loss in losses.items()}

    with monkeypatch.context() as patch:
        patch.setattr(module, "_losses", broken_at_two)
        with pytest.raises(ValueError, match=r"the .* loss is nan .*at step 3: lower --lr; the last .* plrc replay"):
            finetune(small(tmp_path / "broken", save_every=1))
    left = torch.load(tmp_path / "broken" / "checkpoints" / "last.pt", weights_only=True)
    assert left["step"] == 2
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "broken" / "not_finite.pt")]) == 0
    first, *told, last = capsys.readouterr().out.splitlines()
    line = read_log(whole)[2]
    assert (first, last) == ("step 3, rank 0 of 1: 2 images", "here all is finite")
    assert told == [f"the {name} loss is {line[name]:.6g}" for name in losses_of(line)]


@pytest.mark.parametrize("masks", [False, True])
def test_a_training_that_diverges_stops_with_a_step_that_says_where(tmp_path, masks, capsys):
    with pytest.raises(ValueError, match=r"(loss|gradient) is .* at step \d: lower --lr"):
        finetune(small(tmp_path, lr=1e30, masks=masks, warmup=0))
    assert main(["replay", str(tmp_path / "not_finite.pt")]) == 0
    assert re.search(r"^not finite first.*: (what|the gradient of) ", capsys.readouterr().out, re.MULTILINE)


def test_two_ranks_train_together_and_one_and_two_evaluate_alike(tmp_path):
    trained = tmp_path / "trained"
    settings = yaml.safe_dump(small(trained, save_every=2, masks=True, pictures=2).repeatable())
    (tmp_path / "run.yaml").write_text(settings)
    by_two("-m", "plrc", "detect", "train", "--config", tmp_path / "run.yaml")
    assert read_log(trained)[-1]["step"] == STEPS
    evaluate = {"checkpoint": str(trained), "data": ("scenes:3@1",), "workers": 0, "pictures": 0}
    lines = detect_eval(DetectEval(**evaluate, out=str(tmp_path / "of_1")))
    assert sum(line.startswith("COCO, masks") for line in lines) == 3  # one table: AP, by size, recall
    arguments = ["--data", "scenes:3@1", "--workers", "0", "--pictures", "0", "--out", tmp_path / "of_2"]
    assert by_two("-m", "plrc", "detect", "eval", trained, *arguments).count("COCO, masks") == 3
    one, two, training = (folder / "detections.json" for folder in (tmp_path / "of_1", tmp_path / "of_2", trained))
    assert json.loads(one.read_text())
    assert one.read_text() == two.read_text() == training.read_text()
    assert (tmp_path / "of_1/evaluation.json").read_text() == (trained / "evaluation.json").read_text()


def test_it_learns_to_find_blood_cells(shared_data, tmp_path):
    """The miniature of docs/results.md's table: a tenth of its steps on smaller pictures, a few test pictures."""
    cells, data = shared_data("bccd-voc"), tmp_path / "bccd"
    data.mkdir()
    for name in ("Annotations", "JPEGImages"):
        (data / name).symlink_to(cells / name)
    of = {}
    for split, count in (("train", 200), ("test", 16)):
        names = (cells / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        of[split] = (str(voc_split(data, split, "\n".join(names[:count]))),)
    shape = {"short_sides": (128,), "test_short_side": 128, "roi_per_image": 64, "precise_bn": 5}
    steps = {"iterations": 40, "milestones": (34,), "warmup": 8, "batch_size": 4, "log_every": 20}
    assert finetune(small(tmp_path / "run", **of, **shape, **steps)) == EXIT_DONE
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["boxes"]["classes"]["WBC"]["AP50"] > 0.35  # 0.60
    assert found["voc"]["all-point"]["classes"]["RBC"]["AP50"] > 0.3
