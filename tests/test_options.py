"""Options: conversion, ranges, files, the command line."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from plrc.options import Options, Parser, Point, Size, add_arguments, load, option, read_arguments
from plrc.registry import Registry

LOSSES = Registry("loss")
LOSSES.add("image", "plrc.losses:image_contrast", "image contrast", weight=0.7)
LOSSES.add("point", "plrc.losses:point_contrast", "point contrast", weight=0.3)


@dataclass(frozen=True, kw_only=True)
class Example(Options):
    images: tuple[str, ...] = option((), "images", positional=True, path=True)
    points: tuple[Point, ...] = option((), "a point", each="--point")
    size: Size = option(Size(448), "input", unit="pixels")
    lr: float = option(0.1, "learning rate", above=0, source="paper figure")
    order: str | None = option(None, "order", choices=("forward", "back"))
    crop: tuple[float, float] = option((0.2, 1.0), "area of a crop", low=0, high=1)
    sides: tuple[int, ...] = option((3, 4), "sides", low=1)
    flip: bool = option(False, "mirror")
    weights: dict[str, float] = option(
        lambda: {name: entry.traits["weight"] for name, entry in LOSSES.items()},
        "weight of the {} loss",
        choices=LOSSES,
        low=0,
    )


def parsed(line: str) -> Example:
    parser = Parser("example")
    add_arguments(parser, Example)
    return read_arguments(parser.parse_args(line.split()), Example)


def test_the_command_line_gives_every_kind_of_field():
    more = "--weight-point 2 --size 640x480 --flip --sides 1 --sides 2 --lr 1e-3"
    found = parsed(f"a.jpg b.jpg --point .1,.2 --point 9px,4px {more}")
    assert found == Example(
        images=("a.jpg", "b.jpg"),
        points=(Point(0.1, 0.2), Point(9, 4, "px")),
        weights={"image": 0.7, "point": 2.0},
        size=Size(640, 480),
        flip=True,
        sides=(1, 2),
        lr=1e-3,
    )


def test_a_round_trip_through_plain_values_and_only_what_differs():
    found = parsed("a.jpg --point .1,.2 --size 320")
    assert Example.from_dict(found.to_dict()) == found
    assert found.changed() == {"images": ["a.jpg"], "points": [[0.1, 0.2]], "size": 320}
    assert Example.from_dict({"size": "640x480", "flip": "1", "lr": "1e-4", "points": ["3px,4px"]}).changed() == {
        "size": [640, 480],
        "flip": True,
        "lr": 1e-4,
        "points": [[3, 4, "px"]],
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "--lr must be above 0, not 0"),
        ({"lr": float("nan")}, "--lr should be a finite number, not 'nan'"),
        ({"lr": "fast"}, "--lr should be a finite number, not 'fast'"),
        ({"lr": True}, "--lr should be a finite number, not 'True'"),
        ({"crop": (0, 2)}, "--crop must be between 0 and 1, not 2"),
        ({"crop": (1,)}, "--crop should be 2 numbers, not '1'"),
        ({"sides": [1.5]}, "--sides should be a list, each a whole number, not '1.5'"),
        ({"sides": [0]}, "--sides must be at least 1, not 0"),
        ({"weights": {"pint": 1}}, "weights has an unknown name 'pint': choose from image, point"),
        ({"weights": {"image": -1}}, "--weight-image must be at least 0, not -1"),
        ({"points": [[2, 3]]}, "--point should be a list, each a point, 0.4,0.6 (shares"),
        ({"size": "4y"}, "--size should be a size in pixels, 448 (the short side) or 640x480, not '4y'"),
        ({"size": 0}, "--size should be a size in pixels"),
        ({"flip": "maybe"}, "--flip should be true or false, not 'maybe'"),
        ({"order": "sideways"}, "--order must be one of forward, back, not 'sideways'"),
        ({"ordr": "back"}, "a.yaml has an unknown field 'ordr'; did you mean 'order'?"),
    ],
)
def test_bad_values_are_told_with_the_remedy(values: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        Example.from_dict(values, "a.yaml")


def test_a_preset_then_a_file_then_single_fields(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("lr: 0.5\nsides: [7]\nweights: {image: 3}\n")
    found = load(Example, {"slow": {"lr": 0.2, "flip": True}}, "slow", file, {"sides": (8, 9), "weights": {"point": 4}})
    assert found.changed() == {"lr": 0.5, "flip": True, "sides": [8, 9], "weights": {"image": 3.0, "point": 4.0}}
    for text, message in {"lr": "one field a line", "a: [": "not YAML", "l: 1": "run.yaml has an unknown"}.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(Example, {"slow": {}}, "slow", file, {})
    with pytest.raises(ValueError, match=r"cannot read .*none.yaml: No such file"):
        load(Example, {"slow": {}}, "slow", tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("text", "found"),
    [("size: 010", Size(10)), ("size: 1_000", Size(1000)), ("lr: 1e-3", 1e-3), ("order: null", None),
     ("flip: yes", True), ("flip: Off", False), ("sides: [010, 0_8]", (10, 8)),
     ("weights: {image: 010}", {"image": 10, "point": 0.3}),
     ("images: [no, 010, 1:30, 2024-01-01]", ("no", "010", "1:30", "2024-01-01"))],
)  # fmt: skip
def test_a_value_in_yaml_is_what_is_written(text, found, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert getattr(load(Example, {"": {}}, "", file, {}), text.partition(":")[0]) == found
    file.write_text("size: 1:30")
    with pytest.raises(ValueError, match=r"--size should be a size in pixels, .* not '1:30'"):
        load(Example, {"": {}}, "", file, {})


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parsed("~/photos scenes#3").images == (str(tmp_path / "photos"), "scenes#3")


def test_help_says_unit_range_default_and_source(capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    for part in ("input [pixels; default 448]", "[above 0; default 0.1; paper figure]", "weight of the image loss"):
        assert part in text


def test_a_registry_refuses_a_name_twice_and_suggests():
    with pytest.raises(ValueError, match="there is a loss 'image' already"):
        LOSSES.add("image", "x:y", "again")
    with pytest.raises(ValueError, match="unknown loss 'imag': choose one of image, point; did you mean 'image'"):
        LOSSES["imag"]
    assert LOSSES["image"].load().__name__ == "image_contrast"
