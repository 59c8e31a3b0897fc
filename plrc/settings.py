"""Settings of a run as a frozen dataclass: every field once, read from a preset, a YAML file and the command line.

What a value comes from, weakest first: the preset, a YAML file (``--config``), the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml


def setting(default: Any, explanation: str, source: str = "ours", resumable: bool = False) -> Any:
    """A field with its explanation and the source of its default.

    ``resumable`` marks what may differ when a run is resumed: it does not change what is computed.
    """
    metadata = {"help": f"{explanation} [{source}]", "resumable": resumable}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run has, whatever it trains. Fields are numbers, strings, switches, or tuples of them."""

    out: str = setting("runs/plrc", "run folder", resumable=True)
    resume: str = setting(
        "never", "auto continues the run in --out where there is one; or a checkpoint file", resumable=True
    )
    workers: int = setting(
        -1,
        "data loading processes a rank; -1: its share of the cores, at most 8; 0: in the training process",
        resumable=True,
    )
    precision: str = setting("auto", "auto (bf16 autocast on GPUs that have it, else fp32), bf16 or fp32")
    seed: int = setting(0, "of everything random")
    log_every: int = setting(10, "steps between lines of log.jsonl", resumable=True)
    save_every: int = setting(500, "steps between writes of checkpoints/last.pt", resumable=True)

    def __post_init__(self) -> None:
        self.check_positive("log_every", "save_every")
        if self.workers < -1:
            raise ValueError(f"--workers must be -1 (a share of the cores), 0 or more, not {self.workers}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"--precision must be auto, bf16 or fp32, not {self.precision!r}")

    def check_positive(self, *names: str) -> None:
        """Raises a ValueError unless every one of these fields is above 0."""
        for name in names:
            if getattr(self, name) <= 0:
                raise ValueError(f"{flag(name)} must be above 0, not {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as YAML and checkpoints hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def repeatable(self) -> dict[str, Any]:
        """What ``config.yaml`` holds: all but the wish to resume, which is this start's, not the run's."""
        return {name: value for name, value in self.to_dict().items() if name != "resume"}

    def contradictions(self, saved: dict[str, Any]) -> list[str]:
        """What a saved run's configuration has otherwise, one sentence each; fields that may differ are left out."""
        found = []
        for field in dataclasses.fields(self):
            if field.metadata["resumable"]:
                continue
            ours, theirs = self.to_dict()[field.name], saved.get(field.name)
            if ours != theirs:
                found.append(f"{flag(field.name)} is {_shown(ours)} now, but {_shown(theirs)} in the saved run")
        return found


S = TypeVar("S", bound=Settings)
Presets = Mapping[str, Mapping[str, Any]]


def add_arguments(parser: argparse.ArgumentParser, kind: type[Settings], presets: Presets, preset: str) -> None:
    """A flag for every field, ``--preset`` and ``--config``. Flags that are not given are absent from the namespace."""
    parser.add_argument("--preset", choices=presets, default=preset, help="where the defaults come from")
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help="a YAML file of fields, such as a run's config.yaml"
    )
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        type_ = hints[field.name]
        explanation = f"{field.metadata['help']}; default: {_shown(field.default) or 'none'}".replace("%", "%%")
        absent = argparse.SUPPRESS
        if type_ is bool:
            parser.add_argument(
                flag(field.name), action=argparse.BooleanOptionalAction, help=explanation, default=absent
            )
        elif typing.get_origin(type_) is tuple:
            member, count = _members(type_)
            name = member.__name__.upper() if count is None else "X"
            parser.add_argument(
                flag(field.name), type=member, nargs=count or "+", help=explanation, metavar=name, default=absent
            )
        else:
            parser.add_argument(
                flag(field.name), type=type_, help=explanation, metavar=type_.__name__.upper(), default=absent
            )


def load_settings(kind: type[S], presets: Presets, preset: str, file: Path | None, given: Mapping[str, Any]) -> S:
    """Settings from a preset, a YAML file over it, and single fields over both.

    Raises:
        ValueError: an unknown field (the nearest name is suggested), a value of the wrong type or out of range.
    """
    values = dict(presets[preset])
    if file is not None:
        values |= _read_yaml(file)
    values |= given
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(
                f"{file or 'the configuration'} has an unknown field {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
        values[name] = _converted(name, value, hints[name])
    return kind(**values)


def flag(name: str) -> str:
    """The command line's name of a field."""
    return "--" + name.replace("_", "-")


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} should hold fields, such as 'epochs: 200', one a line")
    return values


def _members(kind: Any) -> tuple[Any, int | None]:
    """Type of a tuple's members, and how many there must be; None for any number."""
    members = typing.get_args(kind)
    return (members[0], None) if members[-1] is Ellipsis else (members[0], len(members))


def _converted(name: str, value: Any, kind: Any) -> Any:
    """YAML's value as the field's type; numbers may be written as strings ("1e-4" is one in YAML)."""
    try:
        if typing.get_origin(kind) is tuple:
            member, count = _members(kind)
            if not isinstance(value, str):
                converted = tuple(_converted(name, v, member) for v in value)
                if count in (None, len(converted)):
                    return converted
        elif kind is bool:
            if isinstance(value, bool):
                return value
        elif kind is int:
            if not isinstance(value, bool) and float(value) == int(value):
                return int(value)
        elif kind is float:
            if not isinstance(value, bool):
                return float(value)
        elif isinstance(value, str):
            return value
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{flag(name)} should be {_expected(kind)}, not {value!r}")


def _expected(kind: Any) -> str:
    if typing.get_origin(kind) is not tuple:
        return str(kind.__name__)
    member, count = _members(kind)
    return f"{count} numbers" if count is not None else f"a list, {member.__name__} each"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
