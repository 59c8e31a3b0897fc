"""Recognition: which network of which layout a file holds.

A layout fits if much of a trunk lies under one of its prefixes; whether *all* of it does is asked later
(``plrc.pretrained.trunks``), so that a damaged file is told what it lacks and not that it is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from plrc.pretrained.detectron2 import to_detectron2, to_torchvision
from plrc.pretrained.formats import LAYOUTS, Branch, Head, Layout
from plrc.pretrained.reading import CheckpointError

# Where the tensors of a layout that names no place may lie, "" being the file's top.
_PLACES = ("", "state_dict", "model", "model_state_dict")

_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_TRUNK = r"(?:conv1|bn1|layer[1-4]\.\d+\.(?:conv\d|bn\d|downsample\.\d))\.\w+"
_OF_TRUNK = re.compile(r"(?:conv1|bn1|layer\d+)\.")  # whatever begins so belongs to the trunk, and must be known there
_PREFIXED_TRUNK = re.compile(rf"((?:\w+\.)*?){_TRUNK}")
_OF_DETECTRON2 = re.compile(r"(?:backbone\.(?:bottom_up\.)?|roi_heads\.)?(?:stem|res[2-5])\.(?!norm\.)")
_ENOUGH = 20  # tensors that make a trunk worth a closer look: the smallest, ours, has 72


@dataclass(frozen=True)
class Found:
    """One network of a file, as the table describes it.

    Attributes:
        trunk: the tensors of the trunk by torchvision's names; what is in its place but has none keeps its own.
        heads: name → description and tensors, by their names under the head's prefix.
        unused: what else there is, but for the other branches of the file: how its names begin.
        spelled: torchvision's name of a tensor → its name in the file, also for one that is missing.
    """

    layout: str
    branch: str
    backbone: dict[str, Tensor]
    heads: dict[str, tuple[Head, dict[str, Tensor]]]
    unused: list[str]
    spelled: Callable[[str], str]


def find(content: object, file: str, branch: str | None = None) -> Found:
    """The network in the content of a file.

    Args:
        file: its name, for errors. branch: which of several networks; the layout's first if not given.

    Raises:
        CheckpointError: no layout fits, or several networks do and none is the main one; there is no such branch.
    """
    places = dict(_places(content))
    for layout in LAYOUTS:
        here = list(_branches(layout, places))
        if here:
            return _network(layout, _chosen(here, branch, file, layout.name), places)
    others = {(place, prefix) for place, tensors in places.items() for prefix in _prefixes(tensors)}
    if len(others) > 1:
        shown = ", ".join(sorted(f"{place}: {prefix}*" if place else f"{prefix}*" for place, prefix in others))
        raise CheckpointError(
            f"{file} holds several networks ({shown}): keep one of them and save it as a file of its own"
        )
    if others:
        place, prefix = others.pop()
        layout = Layout(f"ResNet under {prefix or place}", (Branch("", prefix, place=place),))
        return _network(layout, _chosen([(layout.branches[0], place)], branch, file, layout.name), places)
    raise CheckpointError(f"{file} holds no residual network that is known here: {_description(content, places)}")


def _places(content: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of the content that holds named tensors: its keys, joined by dots, and the tensors."""
    waiting, seen = [("", content)], set()
    while waiting:
        key, value = waiting.pop(0)
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        tensors = {name: t for name, t in value.items() if isinstance(name, str) and isinstance(t, Tensor)}
        if tensors:
            yield key, tensors
        waiting += [(f"{key}.{name}" if key else name, v) for name, v in value.items() if isinstance(name, str)]


def _bare(name: str) -> str:
    return _WRAPPERS.sub("", name)


def _branches(layout: Layout, places: Mapping[str, dict[str, Tensor]]) -> Iterator[tuple[Branch, str]]:
    """The branches of a layout that the file has, each with its place; none without the default one."""
    for branch in layout.branches:
        for place in _PLACES if branch.place is None else (branch.place,):
            names = [_bare(name) for name in places.get(place, ())]
            fits = sum(_trunk_name(layout, branch, name) is not None for name in names) >= _ENOUGH
            if fits and (not layout.sign or any(re.match(layout.sign, name) for name in names)):
                yield branch, place
                break
        else:
            if branch is layout.branches[0]:
                return


def _trunk_name(layout: Layout, branch: Branch, name: str) -> str | None:
    """Torchvision's name of a tensor if it is (or stands where it would have to be) one of the trunk, else None."""
    if layout.translated:
        return to_torchvision(name) or (name if _OF_DETECTRON2.match(name) else None)
    rest = name[len(branch.backbone) :]
    return rest if name.startswith(branch.backbone) and _OF_TRUNK.match(rest) else None


def _chosen(here: list[tuple[Branch, str]], name: str | None, file: str, layout: str) -> tuple[Branch, str]:
    if name is None:
        return here[0]
    for branch, place in here:
        if branch.name == name:
            return branch, place
    names = [branch.name for branch, _ in here if branch.name]
    choice = f"choose {' or '.join(names)}" if names else "it holds one network only, name none"
    raise CheckpointError(f"{file} ({layout}) has no branch {name!r}: {choice}")


def _network(layout: Layout, chosen: tuple[Branch, str], places: Mapping[str, dict[str, Tensor]]) -> Found:
    branch, place = chosen
    trunk: dict[str, Tensor] = {}
    spelling: dict[str, str] = {}
    heads: dict[str, tuple[Head, dict[str, Tensor]]] = {}
    unused: dict[str, None] = {}
    others = [b for b in layout.branches if b is not branch and b.place is None]
    elsewhere = tuple(prefix for b in others for prefix in (b.backbone, *(h.prefix for h in b.heads.values())))
    for full, tensor in places[place].items():
        name = _bare(full)
        in_trunk = _trunk_name(layout, branch, name)
        head = next((n for n, h in branch.heads.items() if name.startswith(h.prefix)), None)
        if in_trunk is not None:
            trunk[in_trunk], spelling[in_trunk] = tensor, full
        elif head is not None:
            description = branch.heads[head]
            heads.setdefault(head, (description, {}))[1][name[len(description.prefix) :]] = tensor
        elif not name.startswith(elsewhere) and not (branch.copy and name.startswith(branch.copy)):
            unused.setdefault(_group(name.removeprefix(branch.backbone), branch))

    def spelled(name: str) -> str:
        return spelling.get(name) or _spelling(name, spelling, layout.translated)

    return Found(layout.name, branch.name, trunk, heads, list(unused), spelled)


def _spelling(missing: str, spelling: Mapping[str, str], translated: bool) -> str:
    """What a tensor would be called that is not in the file: as its neighbours are, of the same stage if there are."""
    stage = missing.split(".")[0]
    for name in sorted(spelling, key=lambda name: not name.startswith(f"{stage}.")):
        own = to_detectron2(name) if translated else name
        if own is not None and spelling[name].endswith(own):
            return spelling[name].removesuffix(own) + ((to_detectron2(missing) if translated else None) or missing)
    return missing


def _group(name: str, branch: Branch) -> str:
    """How a name begins, as far as needed to tell it from the heads (``fcs_2.last_layer`` beside ``fcs_2.mlp``)."""
    heads = [head.prefix.removeprefix(branch.backbone) for head in branch.heads.values()]
    start, *rest = name.split(".")
    for part in rest:
        if not any(head.startswith(f"{start}.") for head in heads):
            break
        start += f".{part}"
    return start


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands before the names of a trunk, where there is enough of one."""
    counts: dict[str, int] = {}
    for name in tensors:
        match = _PREFIXED_TRUNK.fullmatch(_bare(name))
        if match is not None:
            counts[match[1]] = counts.get(match[1], 0) + 1
    return [prefix for prefix, count in counts.items() if count >= _ENOUGH]


def _description(content: object, places: Mapping[str, dict[str, Tensor]]) -> str:
    """What a file looks like: its keys, and how the names of its tensors begin."""
    if not isinstance(content, dict):
        return f"it is a {type(content).__name__}, not a dictionary of tensors"
    keys = [str(key) for key in content]
    shown = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
    if not places:
        return f"its keys are {shown or 'none'}, and there are no tensors under them"
    names = max(places.values(), key=len)
    counts: dict[str, int] = {}
    for name in names:
        start = ".".join(name.split(".")[:2])
        counts[start] = counts.get(start, 0) + 1
    common = sorted(counts, key=lambda start: -counts[start])[:5]
    return (
        f"its keys are {shown}; its {len(names)} tensors are named "
        + ", ".join(f"{start}* ({counts[start]})" for start in common)
        + f"; known are {', '.join(dict.fromkeys(layout.name for layout in LAYOUTS))}"
    )
