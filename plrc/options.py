"""Options as frozen, torch-free dataclasses: every field once, with its type, default, unit, range and help.

A run's settings and the queries of the views are such dataclasses. Command lines, YAML files, recipes, the app's links,
controls and endpoints, and the notebooks' widget are made from their fields; nothing spells a field a second time.

A field is a number, a string, a switch, a ``Point``, a ``Size``, a tuple of them, a table of numbers by name
(``dict[str, float]``), or one of these and None. Values are converted when an object is made: lists become tuples, and
text is read as the command line reads it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import os
import re
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import yaml

from plrc.files import at_home
from plrc.registry import did_you_mean

_MEANWHILE = 5.0  # seconds in which the first rank says what is wrong
_ELSEWHERE = {"--learning-rate": "--lr", "--steps": "--iterations"}  # what other programs call an option of ours

Presets = Mapping[str, Mapping[str, Any]]
O = TypeVar("O", bound="Options")  # noqa: E741
LAST_SEED = 2**32 - 1  # of what scikit-learn takes


class Point(NamedTuple):
    """A point ``(x, y)``: shares of the image's width and height in [0, 1], or pixels where ``unit`` is "px"."""

    x: float
    y: float
    unit: str = ""

    @classmethod
    def parse(cls, value: Any) -> Point:
        """From ``"0.4,0.6"``, ``"120px,85px"``, ``[0.4, 0.6]`` or ``[120, 85, "px"]``."""
        parts = value.split(",") if isinstance(value, str) else list(value)
        unit = parts.pop() if len(parts) == 3 else ""
        if isinstance(value, str) and all(part.strip().endswith("px") for part in parts):
            parts, unit = [part.strip().removesuffix("px") for part in parts], "px"
        x, y = map(float, parts)
        if unit not in ("", "px") or (not unit and not (0 <= x <= 1 and 0 <= y <= 1)):
            raise ValueError
        return cls(x, y, unit)

    def __str__(self) -> str:
        return f"{self.x:g}{self.unit},{self.y:g}{self.unit}"


class Size(NamedTuple):
    """Size of a network's input, pixels: the short side, or width and height where both are given."""

    width: int
    height: int = 0

    @classmethod
    def parse(cls, value: Any) -> Size:
        """From ``448``, ``"448"``, ``"640x480"`` or ``[640, 480]``."""
        if isinstance(value, cls):
            return value
        sides = value.split("x") if isinstance(value, str) else [value] if isinstance(value, int) else value
        size = cls(*map(int, sides))
        if size.width < 1 or size.height < 0 or (len(sides) == 2 and size.height < 1):
            raise ValueError
        return size

    @property
    def sides(self) -> int | tuple[int, int]:
        """As ``DenseEncoder.features`` takes it."""
        return (self.width, self.height) if self.height else self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" if self.height else str(self.width)


_EXPECTED: dict[Any, str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    Point: "a point, 0.4,0.6 (shares of width and height, in [0, 1]) or 120px,85px",
    Size: "a size in pixels, 448 (the short side) or 640x480",
}


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] | Mapping[str, Any] = (),
    source: str = "",
    resumable: bool = False,
    each: str = "",
    path: bool = False,
    positional: bool = False,
    only: tuple[str, ...] = (),
) -> Any:
    """A field of an ``Options``.

    Args:
        default: or a function that makes it, as a table needs. Names that a table lacks have the default's values.
        help: a short phrase; unit, range and source stand behind it by themselves. unit: "pixels", "steps" …
        low, high, above: range of a number, or of each number of a tuple: ``low ≤ x ≤ high``, ``above < x``.
        choices: what a text, or each text of a tuple, or each name of a table must be one of; a registry, too.
        source: where the default comes from. resumable: a resumed run may have another value.
        each: the flag, if it is not the field's name; of a tuple's member, to be repeated (``--point 0.4,0.6 --point
            0.1,0.2``): without it a tuple's members stand behind one flag. path: of a file or folder, whose ``~`` is
            the home folder.
        positional: without a flag on the command line. only: another field, and its values with which this one counts.
    """
    metadata = {"help": help, "unit": unit, "low": low, "high": high, "above": above, "choices": choices}
    metadata |= {"source": source, "resumable": resumable, "each": each, "path": path, "positional": positional}
    metadata["only"] = only
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_hints: Callable[[type], dict[str, Any]] = functools.cache(typing.get_type_hints)  # a click makes a dozen options


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all options. Making one raises a ValueError that names the flag, what is wrong, and what may be given."""

    def __post_init__(self) -> None:
        kinds = _hints(type(self))
        for field in dataclasses.fields(self):
            value = _converted(field, getattr(self, field.name), kinds[field.name])
            object.__setattr__(self, field.name, value)
            _check(field, value)

    def check_place(self) -> None:
        """Raise a ValueError if what is to be written is there already, or cannot be; before torch is imported."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and tables, as YAML and JSON hold them."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def changed(self) -> dict[str, Any]:
        """As ``to_dict``, but only what differs from the defaults."""
        default = {field.name: _plain(_default(field)) for field in dataclasses.fields(self)}
        return {name: value for name, value in self.to_dict().items() if value != default[name]}

    @classmethod
    def from_dict(cls: type[O], values: Mapping[str, Any], where: str = "the configuration") -> O:
        """The opposite of ``to_dict``; fields that are missing have their defaults.

        Raises:
            ValueError: an unknown field (the nearest name is suggested), a value of the wrong type or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(f"{where} should be a table of fields, not {_shown(values)!r}")
        if strange := [name for name in values if name not in known]:
            raise ValueError(f"{where} has an unknown field {strange[0]!r}{did_you_mean(str(strange[0]), known)}")
        return cls(**values)


def load(kind: type[O], presets: Presets, preset: str, file: Path | None, given: Mapping[str, Any]) -> O:
    """Options from a preset, a YAML file over it, and single fields over both; tables are merged key by key.

    Raises:
        ValueError: as ``Options.from_dict``; the file cannot be read.
    """
    values, from_file = dict(presets[preset]), _read_yaml(file) if file is not None else {}
    if "preset" in from_file:
        raise ValueError(f"{file} names a preset, which the command line does: --preset {from_file['preset']}")
    for field in dataclasses.fields(kind):
        if field.name in from_file:
            try:
                _check(field, _converted(field, from_file[field.name], _hints(kind)[field.name]))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
    for layer in (from_file, given):
        for name, value in layer.items():
            merged = isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
            values[name] = {**values[name], **value} if merged else value
    return kind.from_dict(values, str(file or "the configuration"))


def flag(name: str) -> str:
    """The command line's name of a field."""
    return "--" + name.replace("_", "-")


def kind_of(kind: Any) -> tuple[Any, bool]:
    """A field's type without ``| None``, and whether None is allowed."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return members[0], True
    return kind, False


# ----------------------------------------------------------------------------------------------------- the command line


def leave_to_first_rank() -> None:
    """Waits before an error is told by another rank than the first one of a machine.

    Most errors are those of all ranks: the first one has told it then, and torchrun has ended this one. An error of its
    own a rank tells later.
    """
    if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) != "0":
        time.sleep(_MEANWHILE)


class Parser(argparse.ArgumentParser):
    """Says of a typing mistake one sentence, not ten lines of what may be written."""

    def error(self, message: str) -> NoReturn:
        leave_to_first_rank()
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += did_you_mean(choice[1], re.findall(r"[^', ]+", choice[2]))
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def refuse(self, rest: Sequence[str]) -> NoReturn:
        """Ends over arguments that none here is called."""
        said, known = rest[0].partition("=")[0], self._option_string_actions
        near = did_you_mean(_ELSEWHERE[said] if _ELSEWHERE.get(said) in known else said, known)
        self.error(f"unrecognized arguments: {' '.join(rest)}{near}")


class _Once(argparse.Action):
    """Of --data A --data B the second alone would count, without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, found: argparse.Namespace, value: Any, flag: Any = None
    ) -> None:
        before = getattr(found, self.dest, None)
        if before not in (None, value):
            raise argparse.ArgumentError(self, f"it is given twice, {before} and {value}: give one")
        setattr(found, self.dest, value)


def add_arguments(
    parser: argparse.ArgumentParser, kind: type[Options], presets: Presets | None = None, preset: str = ""
) -> None:
    """A flag or an argument for every field; where there are presets, ``--preset`` and ``--config``, too.

    preset: the one that holds where none is named; the help says what its defaults are.
    """
    values: Mapping[str, Any] = presets[preset] if presets else {}
    if presets:
        from_preset = f"where the defaults come from [{preset}]"
        from_file = "a YAML file of fields, such as a run's config.yaml"
        parser.add_argument("--preset", choices=presets, default=preset, help=from_preset)
        parser.add_argument("--config", type=Path, action=_Once, metavar="FILE", help=from_file)
    kinds = _hints(kind)
    for field in dataclasses.fields(kind):
        type_, about = kind_of(kinds[field.name])[0], field.metadata
        default = values.get(field.name, _default(field))
        how: dict[str, Any] = {"help": help_of(field, default).replace("%", "%%"), "default": argparse.SUPPRESS}
        if typing.get_origin(type_) is dict:
            for key in about["choices"]:
                how |= {"type": float, "metavar": "X", "help": _help_of_name(field, key, default)}
                parser.add_argument(f"{name_of(field).removesuffix('s')}-{key}", dest=f"{field.name}.{key}", **how)
            continue
        if type_ is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            member, count = _members(type_)
            named = (about["each"] or field.name).strip("-").replace("-", "_").upper()
            listed = isinstance(about["choices"], tuple) and about["choices"]
            how |= {"type": functools.partial(_read, member)}
            how |= {"metavar": "{" + ",".join(listed) + "}" if listed else named}
            if count is None:  # --train A B is --train A --train B
                how |= {"action": "append"} if about["each"] else {"nargs": "+", "action": "extend"}
            elif count > 1:
                how["nargs"] = count
            elif about["path"] and not about["positional"]:
                how["action"] = _Once
        if about["positional"]:
            parser.add_argument(field.name, **how)
        else:
            parser.add_argument(name_of(field), dest=field.name, **how)


def read_arguments(namespace: argparse.Namespace, kind: type[O], presets: Presets | None = None) -> O:
    """The opposite of ``add_arguments``: the preset, the file over it, and what was given over both.

    Raises:
        ValueError: as ``load``; a flag counts only with another choice than the one that was made.
    """
    given: dict[str, Any] = {}
    for name, value in vars(namespace).items():
        field, _, key = name.partition(".")
        if field in kind.__dataclass_fields__:
            given[field] = {**given.get(field, {}), key: value} if key else value
    found = load(kind, presets, namespace.preset, namespace.config, given) if presets else kind(**given)
    for name in given:
        asked = kind.__dataclass_fields__[name]
        of, *values = asked.metadata["only"] or [name]
        if values and getattr(found, of) not in values:
            raise ValueError(f"{name_of(asked)} counts {_only(asked)} alone: give that, or leave {name_of(asked)} out")
    return found


def help_of(field: dataclasses.Field[Any], default: Any) -> str:
    """A field's help with its unit, range, default (perhaps a preset's) and, of its own default, the source."""
    about, source = field.metadata, field.metadata["source"] if default == _default(field) else ""
    shown = "" if isinstance(default, dict) or default in (None, "", ()) else f"default {_shown(default)}"
    listed = not isinstance(about["choices"], tuple) and not isinstance(default, dict)  # a tuple's stand in the usage
    choices = ", ".join(about["choices"]) if listed else ""
    limits = re.sub("between (.*) and", r"\1 to", _range(about))
    details = "; ".join(part for part in (_only(field), about["unit"], choices, limits, shown, source) if part)
    return about["help"] + (f" [{details}]" if details else "")


def _only(field: dataclasses.Field[Any]) -> str:
    """With which choice a field counts; nothing where it always does."""
    of, *values = field.metadata["only"] or [""]
    return f"with {flag(of)} {' or '.join(values)}" if of else ""


def _help_of_name(field: dataclasses.Field[Any], key: str, default: Mapping[str, float]) -> str:
    """Help of one name of a table; a registry's entry adds its own help, and the source of its own default."""
    entry, value = field.metadata["choices"][key], default.get(key, 0)
    own = "source" in entry.traits and value == _default(field).get(key, 0)
    source = f"; {entry.traits['source']}" if own else ""
    details = f"{help_of(field, default).replace('{}', key)} ({entry.help}) [default {value:g}{source}]"
    return details.replace("%", "%%")


def _read(member: Any, text: str) -> Any:
    try:
        return _single(text, member)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not {_EXPECTED[member]}") from error


# ----------------------------------------------------------------------------------------------------------- conversion


def _converted(field: dataclasses.Field[Any], value: Any, kind: Any) -> Any:
    kind, optional = kind_of(kind)
    if value is None and optional:
        return None
    several = typing.get_origin(kind) is tuple
    try:
        if typing.get_origin(kind) is dict:
            return _default(field) | {str(key): float(number) for key, number in value.items()}
        member, count = _members(kind)
        members = value if several and not isinstance(value, str) else (value,)
        if field.metadata["path"]:
            members = [os.path.expanduser(m) if isinstance(m, str | Path) else m for m in members]
        members = tuple(_single(m, member) for m in members)
        if count in (None, len(members)):
            return members if several else members[0]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        pass
    expected = _EXPECTED.get(kind, "a table of numbers")
    if several:
        expected = f"{count} numbers" if count else f"a list, each {_EXPECTED[member]}"
    raise ValueError(f"{name_of(field)} should be {expected}, not {_shown(value)!r}")


def _single(value: Any, kind: Any) -> Any:
    """Numbers may be written as text, as in YAML, and switches as yes and no, on and off, 1 and 0, too."""
    if kind in (Point, Size):
        return kind.parse(value)
    if kind is bool:
        return {"1": True, "0": False, **yaml.SafeLoader.bool_values}[str(value).lower()]
    if kind is str:
        if not isinstance(value, str | Path) or "\0" in str(value):  # which no path can hold
            raise TypeError
        return str(value)
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError
    return int(number) if kind is int else number


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    about, choices = field.metadata, field.metadata["choices"]
    several, name = isinstance(value, tuple) and not isinstance(value, Point | Size), name_of(field)
    members = [(name, member) for member in (value if several else (value,))]
    if isinstance(value, dict):
        if strange := [key for key in value if key not in choices]:
            raise ValueError(f"{field.name} has an unknown name {strange[0]!r}: choose from {', '.join(choices)}")
        members = [(f"{name.removesuffix('s')}-{key}", number) for key, number in value.items()]
    for name, member in members:
        if isinstance(member, str) and choices and member not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {member!r}")
        if isinstance(member, int | float) and not isinstance(member, bool):
            low, high, above = about["low"], about["high"], about["above"]
            fits = (low is None or member >= low) and (high is None or member <= high)
            if not (fits and (above is None or member > above)):
                raise ValueError(f"{name} must be {_range(about)}, not {member:.10g}")


def _range(about: Mapping[str, Any]) -> str:
    low, high, above = about["low"], about["high"], about["above"]
    if low is not None and high is not None:
        return f"between {low:.10g} and {high:.10g}"
    limits = {"above": above, "at least": low, "at most": high}
    return " and ".join(f"{word} {limit:.10g}" for word, limit in limits.items() if limit is not None)


def name_of(field: dataclasses.Field[Any]) -> str:
    """What messages call a field: its flag, or its name where it has none."""
    about = field.metadata
    return field.name.upper() if about["positional"] else about["each"] or flag(field.name)


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _members(kind: Any) -> tuple[Any, int | None]:
    """Type of a tuple's members, and how many there must be; None for any number. Any other kind is its own member."""
    members = typing.get_args(kind) if typing.get_origin(kind) is tuple else (kind,)
    return members[0], None if members[-1] is Ellipsis else len(members)


def _plain(value: Any) -> Any:
    if isinstance(value, Size):
        return list(value) if value.height else value.width
    if isinstance(value, Point):
        return list(value) if value.unit else [value.x, value.y]
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return dict(value) if isinstance(value, dict) else value


def _shown(value: Any) -> str:
    several = isinstance(value, tuple | list) and not isinstance(value, Size | Point)
    text = " ".join(map(str, value)) if several else str(value)
    return text if len(text) < 80 else f"{text[:77]}…"


class Yaml(yaml.SafeLoader):
    """Leaves every value but null the text that it is: of 010 YAML 1.1 makes 8, of 1:30 90, of no false.

    Refuses a name that stands twice, of which YAML takes the last one.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in known if tag.endswith((":null", ":merge"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise yaml.YAMLError(f"{twice[0]!r} stands in it twice")
        return super().construct_mapping(node, deep)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.load(at_home(file).read_text(encoding="utf-8-sig"), Yaml)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} should hold one field a line (epochs: 100)")
    return values
