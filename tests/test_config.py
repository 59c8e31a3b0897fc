"""The configuration: presets, old files, command line. What all options do is in test_options.py."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plrc.cli import build_parser, main
from plrc.config import PRESETS, Config, load_config
from plrc.options import flag, read_arguments
from plrc.registry import LOSSES

ROOT = Path(__file__).parent.parent
WEIGHTS = {name: loss.traits["weight"] for name, loss in LOSSES.items()}


def parse_arguments(arguments: list[str]) -> Config:
    return read_arguments(build_parser().parse_args(["train", *arguments]), Config, PRESETS)


def test_the_imagenet_preset_is_the_recipe():
    config = load_config("imagenet")
    recipe = {
        "arch": "resnet50", "image_size": 224, "batch_size": 256, "epochs": 100, "lr": 0.03, "sgd_momentum": 0.9,
        "weight_decay": 1e-4, "key_momentum": 0.999, "queue_size": 65536, "temperature": 0.2, "dim": 128,
        "student_temperature": 0.1, "teacher_temperature": (0.04, 0.07), "teacher_warmup": 30, "regions": "grid:4",
        "weights": WEIGHTS, "starts": dict.fromkeys(WEIGHTS, 0.0), "points_per_region": 16, "negatives": 4096,
        "crop_scale": (0.2, 1), "flip_p": 0.5, "jitter": (0.4, 0.4, 0.4, 0.1), "jitter_p": 0.8, "grey_p": 0.2,
        "blur_sigma": (0.1, 2), "blur_p": 0.5, "bn_groups": 8,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in recipe} == recipe
    assert {name: WEIGHTS[name] for name in ("image", "point", "affinity")} == {
        "image": 0.7,
        "point": 0.3,
        "affinity": 0.3,
    }
    assert config.peak_lr == pytest.approx(0.03)
    assert dataclasses.replace(config, batch_size=1024).peak_lr == pytest.approx(0.12)


def test_the_later_source_wins_also_within_a_table(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("epochs: 7\nlr: 1e-2\ncrop_scale: [0.5, 1]\nweights: {image: 0.5, point: 0}\n")
    given = ["--preset", "demo", "--epochs", "9", "--symmetric", "--weight-point", "2"]
    config = parse_arguments([*given, "--config", str(file)])
    assert (config.arch, config.epochs, config.lr, config.crop_scale) == ("tiny", 9, 0.01, (0.5, 1.0))
    assert config.weights == {**WEIGHTS, "image": 0.5, "point": 2.0}
    assert config.symmetric
    assert parse_arguments(["--teacher-temperature", "0.1", "0.2"]).teacher_temperature == (0.1, 0.2)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_written_configuration_reads_back_the_same(preset, tmp_path):
    config = load_config(preset, given={"starts": {"affinity": 2}})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config("imagenet", file) == config
    assert config.contradictions(config.to_dict()) == []


def test_a_run_from_when_each_weight_was_a_field_reads_as_one_of_today(tmp_path):
    saved = load_config("demo").to_dict()
    del saved["weights"], saved["starts"]
    saved |= {"weight_image": 0.7, "weight_point": 0.25, "weight_affinity": 0.3, "affinity_start": 2.0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    config = parse_arguments(["--config", str(tmp_path / "config.yaml")])
    assert config.weights == {**WEIGHTS, "point": 0.25}
    assert config.starts == {**dict.fromkeys(LOSSES, 0), "affinity": 2}
    assert config.contradictions(saved) == []
    other = parse_arguments(["--config", str(tmp_path / "config.yaml"), "--weight-image", "0.5"])
    assert other.contradictions(saved) == ["--weight-image is 0.5 now, but 0.7 in the saved run"]


def test_contradictions_name_the_field_and_forgive_what_changes_nothing():
    saved = load_config("demo").to_dict()
    now = load_config("demo", None, {"workers": 3, "out": "elsewhere", "resume": "auto", "key_momentum": 0.9})
    assert now.contradictions(saved) == ["--key-momentum is 0.9 now, but 0.99 in the saved run"]


def test_a_loss_has_its_weight_from_where_it_sets_in():
    config = load_config(given={"starts": {"affinity": 2.5}})
    assert config.weights_at(2.4) == {**WEIGHTS, "affinity": 0.0}
    assert config.weights_at(2.5) == WEIGHTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 7\nseed: 1\nepochs: 8", "bad.yaml is not YAML: 'epochs' stands in it twice"),
        ("weights: {image: 1, image: 0}", "bad.yaml is not YAML: 'image' stands in it twice"),
        ("preset: demo", "bad.yaml names a preset, which the command line does: --preset demo"),
        ("epochs: ten", "bad.yaml: --epochs should be a whole number, not 'ten'"),
        ('data: "a\\0b"', "--data should be a text"),
        ("crop_scale: [0.5, 0.1]", "--crop-scale must be the least and then the most"),
        ("flip_p: 2", "--flip-p must be between 0 and 1"),
        ("jitter: [0.4, 0.4, 0.4, 0.6]", "--jitter turns hues by 0.5, half the circle, at most, not 0.6"),
        ("weights: {image: 0, point: 0, affinity: 0}", "nothing to learn: all loss weights are 0"),
        ("{weights: {image: 0, point: 0}, affinity_start: 2}", "nothing to learn at first: --start-NAME is above 0"),
    ],
)
def test_bad_files_are_one_sentence_on_the_command_line(text, message, tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert main(["train", "--config", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_help_explains_every_field_and_does_not_wait_for_torch():
    program = (
        "import runpy, sys\n"
        "try: runpy.run_path('train_ddp.py', run_name='__main__')\n"
        "except SystemExit: print('torch' in sys.modules)\n"
    )  # fmt: skip
    command = [sys.executable, "-c", program, "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.endswith("False\n")
    for field in dataclasses.fields(Config):
        assert flag(field.name.removesuffix("s")) in run.stdout
        assert not field.metadata["help"].startswith("of "), field.name
    assert "grid:N, superpixels:K" in " ".join(run.stdout.split())
    assert "the point loss; 0 leaves it out" in " ".join(run.stdout.split())


@pytest.mark.parametrize(
    ("groups", "ranks", "accumulate", "expected"),
    [(8, 8, 1, 1), (8, 1, 1, 8), (8, 1, 4, 2), (8, 2, 2, 2), (8, 32, 1, 1), (8, 1, 8, 2), (1, 1, 1, 1)],
)
def test_batchnorm_groups_are_of_the_whole_batch(groups, ranks, accumulate, expected):
    config = load_config(given={"bn_groups": groups, "accumulate": accumulate})
    assert config.bn_groups_of_a_part(ranks) == expected


def test_help_has_the_defaults_of_the_preset_that_is_named(capsys):
    def help_text(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main(["train", *arguments, "--help"])
        return " ".join(capsys.readouterr().out.split())

    assert "[pixels; at least 1; default 224; released code]" in help_text()
    for arguments in (["--preset", "photos"], ["--preset=photos"]):
        shown = help_text(*arguments)
        assert "[pixels; at least 1; default 64]" in shown  # whose source is not that of the class's own default
        assert "(point-level region contrast) [default 1]" in shown
