"""Checkpoints as others write them, made from two known networks, and what these networks give."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from plrc.backbones import Backbone
from plrc.registry import BACKBONES

State = dict[str, Tensor]
WIDTH = 64  # channels of the last map


class Small(nn.Module):
    """A ResNet of torchvision's names, four blocks and a tenth of a small's width: its files take no time."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        for i, (before, after) in enumerate([(8, 8), (8, 16), (16, 32), (32, 64)], 1):
            stride = 1 if i == 1 else 2
            shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            self.add_module(f"layer{i}", nn.Sequential(BasicBlock(before, after, stride, shortcut)))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, num_classes)


class SmallBackbone(Backbone):
    """``Small`` as one adds a backbone of one's own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.strides, self.channels = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}, {"c2": 8, "c3": 16, "c4": 32, "c5": 64}
        for child, module in Small().named_children():
            if child not in ("avgpool", "fc"):
                self.add_module(child, module)

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        return maps_of(self, images)


BACKBONES.add("small", SmallBackbone, "for tests", form="1-1-1-1 basic blocks of 8")


# ------------------------------------------------------------------------------------------------- the known networks


def alive(network: nn.Module, seed: int) -> nn.Module:
    """A network whose every tensor matters: no norm at its starting point."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
        elif isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, 0, module.weight[0].numel() ** -0.5, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return network.eval()


def network(seed: int, build: Callable[..., nn.Module] = Small) -> nn.Module:
    with torch.random.fork_rng():
        return alive(build(num_classes=10), seed)


def mlp(*layers: str, sizes: tuple[int, ...] = (), seed: int = 3) -> nn.Sequential:
    """Layers by letter: L linear, l linear without bias, B BatchNorm, b one that is not affine, R ReLU, G GELU."""
    modules: list[nn.Module] = []
    widths = iter(sizes or (WIDTH, 48, 32))
    width = next(widths)
    for letter in "".join(layers):
        if letter in "Ll":
            modules.append(nn.Linear(width, width := next(widths), bias=letter == "L"))
        else:
            kinds = {
                "B": nn.BatchNorm1d(width),
                "b": nn.BatchNorm1d(width, affine=False),
                "R": nn.ReLU(),
                "G": nn.GELU(),
            }
            modules.append(kinds[letter])
    return alive(nn.Sequential(*modules), seed)


def under(prefix: str, module: nn.Module, without: tuple[str, ...] = ()) -> State:
    state = module.state_dict()
    return {f"{prefix}{name}": t for name, t in state.items() if not name.startswith(without or ("\0",))}


def at_every_position(head: nn.Module, maps: Tensor) -> Tensor:
    """What a head of vectors gives, cell by cell: ``(B, C, h, w)`` → ``(B, D, h, w)``."""
    b, _, h, w = maps.shape
    return head(maps.permute(0, 2, 3, 1).flatten(0, 2)).unflatten(0, (b, h, w)).permute(0, 3, 1, 2)


IMAGES = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(7))
QUERY, KEY = network(1), network(2)  # no layout shares them: which one was read shows


def maps_of(trunk: nn.Module, images: Tensor = IMAGES) -> dict[str, Tensor]:
    """Feature maps by torchvision's own modules, not by ours."""
    x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(images))))
    maps = {}
    for i in range(1, 5):
        maps[f"c{i + 1}"] = x = getattr(trunk, f"layer{i}")(x)
    return maps


# --------------------------------------------------------------------------------------------------------- the formats


@dataclass
class Case:
    """A file in some layout. branches: name → (its trunk, its heads); the first is the default."""

    content: Any
    layout: str
    branches: dict[str, tuple[nn.Module, dict[str, nn.Module]]]
    spell: Callable[[str], str]  # torchvision's name → the default branch's name in the file
    where: tuple[str, ...] = ()  # keys under which the tensors lie
    suffix: str = ".pth"
    note: str = ""


def both(q: dict[str, nn.Module], k: dict[str, nn.Module], names: tuple[str, str] = ("query", "key")) -> dict:
    return {names[0]: (QUERY, q), names[1]: (KEY, k)}


def prefixed(prefix: str) -> Callable[[str], str]:
    return lambda name: f"{prefix}{name}"


FC = ("fc.",)


def released_plrc() -> Case:
    state: State = {"module.plrc_loss.queue_x": torch.zeros(8, 4)}
    branches = {}
    for branch, trunk, seed in (("q", QUERY, 3), ("k", KEY, 5)):
        enc = f"module.encoder_{branch}.enc."
        first, second = mlp("LRL", seed=seed), mlp("LBRLBRL", sizes=(WIDTH, 40, 40, 24), seed=seed)
        state |= under(enc, trunk, FC) | under(f"{enc}fcs.", first) | under(f"{enc}fcs_2.mlp.", second)
        state[f"{enc}fcs_2.last_layer.weight_g"] = torch.ones(6, 1)
        heads = {"projector": first, "head256": nn.Sequential(second, UnitLength())}
        branches["query" if branch == "q" else "key"] = (trunk, heads)
    content = {"epoch": 3, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {0: {"step": 1}}}}
    note = "not used: plrc_loss, fcs_2.last_layer"
    return Case(content, "released PLRC", branches, prefixed("module.encoder_q.enc."), ("state_dict",), note=note)


class UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)


def moco(layout: str, q: str, k: str, layers: str, inner: str) -> Case:
    one, two = mlp(layers, seed=3), mlp(layers, seed=5)
    if layers == "L":
        one, two = mlp("L", sizes=(WIDTH, 16), seed=3)[0], mlp("L", sizes=(WIDTH, 16), seed=5)[0]
    state = {"module.queue": torch.zeros(4, 6)} | under(q, QUERY, FC) | under(k, KEY, FC)
    state |= under(f"{q}{inner}", one) | under(f"{k}{inner}", two)
    content = {"epoch": 200, "arch": "small", "state_dict": state, "optimizer": {}}
    branches = both({"projector": one}, {"projector": two})
    return Case(content, layout, branches, prefixed(q), ("state_dict",), ".pth.tar", "not used: queue")


def opensselfsup(layout: str, q: str, k: str, dense: bool, copy: bool) -> Case:
    state: State = under("backbone.", QUERY, FC) if copy else {}
    heads: list[dict[str, nn.Module]] = []
    for prefix, trunk, seed in ((q, QUERY, 3), (k, KEY, 5)):
        layers = {"projector": mlp("LRL", seed=seed)} | (
            {"dense_projector": mlp("LRL", seed=seed + 1)} if dense else {}
        )
        state |= under(f"{prefix}0.", trunk, FC) | under(f"{prefix}1.mlp.", layers["projector"])
        if dense:  # as convolutions
            convs = under(f"{prefix}1.mlp2.", layers["dense_projector"])
            state |= {name: t[:, :, None, None] if t.ndim == 2 else t for name, t in convs.items()}
        heads.append(layers)
    content = {"meta": {"mmcv_version": "1.0", "epoch": 200}, "state_dict": OrderedDict(state)}
    note = "not used: backbone" if copy else ""
    return Case(content, layout, both(*heads), prefixed(f"{q}0."), ("state_dict",), note=note)


def mmselfsup() -> Case:
    one, two = mlp("LRL", seed=3), mlp("LRL", seed=5)
    state = under("backbone.", QUERY, FC) | under("neck.mlp.", one) | under("encoder_k.0.", KEY, FC)
    state |= under("encoder_k.1.mlp.", two) | {"queue": torch.zeros(4, 6)}
    branches, note = both({"projector": one}, {"projector": two}), "not used: queue"
    return Case(
        {"meta": {}, "state_dict": state}, "MMSelfSup", branches, prefixed("backbone."), ("state_dict",), note=note
    )


def pixpro() -> Case:
    state, heads = {}, []
    for end, trunk, seed in (("", QUERY, 3), ("_k", KEY, 5)):
        head = mlp("LBRL", seed=seed)
        names = {"0": "linear1", "1": "bn1", "3": "linear2"}
        for name, t in head.state_dict().items():
            slot, kind = name.split(".")
            state[f"module.projector{end}.{names[slot]}.{kind}"] = t[:, :, None, None] if t.ndim == 2 else t
        state |= under(f"module.encoder{end}.", trunk, FC)
        heads.append({"projector": head})
    content = {"opt": argparse.Namespace(lr=1.0, data=Path("x")), "model": state, "epoch": 100}
    return Case(content, "PixPro", both(*heads), prefixed("module.encoder."), ("model",))


def dino() -> Case:
    teacher, student = (
        mlp("LGLGL", sizes=(WIDTH, 40, 40, 24), seed=3),
        mlp("LBGLBGL", sizes=(WIDTH, 40, 40, 24), seed=5),
    )
    content = {
        "student": under("module.backbone.", KEY, FC) | under("module.head.mlp.", student),
        "teacher": under("backbone.", QUERY, FC)
        | under("head.mlp.", teacher)
        | {"head.last_layer.weight_v": torch.ones(6, 24)},
        "args": argparse.Namespace(arch="resnet50"),
        "dino_loss": {"center": torch.zeros(1, 6)},
    }
    branches = both({"projector": teacher}, {"projector": student}, ("teacher", "student"))
    return Case(content, "DINO", branches, prefixed("backbone."), ("teacher",), note="not used: head.last_layer")


def swav(where: tuple[str, ...]) -> Case:
    head = mlp("LBRL")
    state = under("module.", QUERY, FC) | under("module.projection_head.", head)
    state["module.prototypes.weight"] = torch.zeros(30, 32)
    content = {"state_dict": state, "epoch": 400} if where else state
    branches = {"": (QUERY, {"projector": head})}
    return Case(content, "SwAV", branches, prefixed("module."), where, ".pth.tar", "not used: prototypes")


def vicreg() -> Case:
    head, dense = mlp("LBRLBRl", sizes=(WIDTH, 40, 40, 24)), mlp("LBRl", seed=9)
    state = under("module.backbone.", QUERY, FC) | under("module.projector.", head)
    state |= under("module.maps_projector.", dense)
    branches = {"": (QUERY, {"projector": head, "maps_projector": dense})}
    return Case({"epoch": 300, "model": state}, "VICReg", branches, prefixed("module.backbone."), ("model",))


def simsiam() -> Case:
    head = mlp("lBRlBRlb", sizes=(WIDTH, 40, 40, 24))
    state = under("module.encoder.", QUERY, FC) | under("module.encoder.fc.", head)
    branches = {"": (QUERY, {"projector": head})}
    return Case({"state_dict": state}, "SimSiam", branches, prefixed("module.encoder."), ("state_dict",))


def bare(prefix: str = "", where: tuple[str, ...] = (), suffix: str = ".pth", classifier: bool = False) -> Case:
    state = under(prefix, QUERY, () if classifier else FC)
    content: Any = state
    for key in where:
        content = {key: content}
    note = "not used: fc (the classifier)" if classifier else ""
    return Case(content, "torchvision's names", {"": (QUERY, {})}, prefixed(prefix), where, suffix, note)


def hugging_face_name(name: str) -> str:
    """As transformers' ResNetModel calls torchvision's tensor."""
    if not name.startswith("layer"):
        part = "convolution" if name.startswith("conv") else "normalization"
        return f"embedder.embedder.{part}.{name.split('.')[-1]}"
    stage, block, part, *rest = name.removeprefix("layer").split(".")
    kind = "convolution" if part.startswith("conv") or rest[0] == "0" else "normalization"
    inner = "shortcut" if part == "downsample" else f"layer.{int(part[-1]) - 1}"
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{inner}.{kind}.{rest[-1]}"


def sequential_name(name: str) -> str:
    """As in nn.Sequential(*network.children())."""
    children = [child for child, _ in QUERY.named_children()]
    child, _, rest = name.partition(".")
    return f"{children.index(child)}.{rest}"


def renamed(format: str, prefix: str, naming: Callable[[str], str], where: tuple[str, ...] = ()) -> Case:
    content: Any = {f"{prefix}{naming(name)}": t for name, t in under("", QUERY, FC).items()}
    for key in where:
        content = {key: content}
    return Case(content, format, {"": (QUERY, {})}, lambda name: f"{prefix}{naming(name)}", where)


def detectron2_name(name: str) -> str:
    """As MoCo's converter renames."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    for i in range(1, 5):
        name = name.replace(f"layer{i}", f"res{i + 1}")
    for i in range(1, 4):
        name = name.replace(f"bn{i}", f"conv{i}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def detectron2(prefix: str = "", suffix: str = ".pkl", c4: bool = False, wrapped: bool = True) -> Case:
    def spell(name: str) -> str:
        own = detectron2_name(name)
        return f"roi_heads.{own}" if c4 and own.startswith("res5") else f"{prefix}{own}"

    names = [name for name in QUERY.state_dict() if not name.startswith("fc.") and not name.endswith("tracked")]
    state: dict[str, Any] = {spell(name): QUERY.state_dict()[name] for name in names}
    note = ""
    if c4:
        state["roi_heads.res5.norm.weight"] = torch.ones(WIDTH)
        state["proposal_generator.rpn_head.conv.bias"] = torch.ones(3)
        note = "not used: roi_heads, proposal_generator"
    if suffix == ".pkl":
        state = {name: t.numpy() for name, t in state.items()}
    content = {"model": state, "__author__": "somebody", "matching_heuristics": True} if wrapped else state
    where = ("model",) if wrapped else ()
    return Case(content, "Detectron2", {"": (QUERY, {})}, spell, where, suffix, note)


MOCO_V3 = ("module.base_encoder.", "module.momentum_encoder.")
CASES: dict[str, Callable[[], Case]] = {
    "released PLRC": released_plrc,
    "MoCo v1": lambda: moco("MoCo v1", "module.encoder_q.", "module.encoder_k.", "L", "fc."),
    "MoCo v2": lambda: moco("MoCo v2", "module.encoder_q.", "module.encoder_k.", "LRL", "fc."),
    "MoCo v2 without module": lambda: moco("MoCo v2", "encoder_q.", "encoder_k.", "LRL", "fc."),
    "MoCo v3": lambda: moco("MoCo v3", *MOCO_V3, "lBRlb", "fc."),
    "DenseCL": lambda: opensselfsup("DenseCL", "encoder_q.", "encoder_k.", dense=True, copy=True),
    "OpenSelfSup": lambda: opensselfsup("OpenSelfSup", "encoder_q.", "encoder_k.", dense=False, copy=True),
    "OpenSelfSup BYOL": lambda: opensselfsup("OpenSelfSup BYOL", "online_net.", "target_net.", dense=False, copy=False),
    "MMSelfSup": mmselfsup,
    "PixPro": pixpro,
    "DINO": dino,
    "SwAV": lambda: swav(()),
    "SwAV under state_dict": lambda: swav(("state_dict",)),
    "VICReg and VICRegL": vicreg,
    "SimSiam": simsiam,
    "bare": bare,
    "bare, backbone": lambda: bare("backbone.", ("state_dict",)),
    "bare, DDP": lambda: bare("module.backbone.", ("model",)),
    "torchvision": lambda: bare(classifier=True),
    "torchvision, state_dict": lambda: bare("", ("state_dict",), classifier=True),
    "timm safetensors": lambda: bare(suffix=".safetensors", classifier=True),
    "torchvision detector": lambda: bare("backbone.body.", ("model",)),
    "torch.compile": lambda: bare("_orig_mod.", ("model",)),
    "Hugging Face": lambda: renamed("Hugging Face's names", "resnet.", hugging_face_name),
    "Hugging Face, bare": lambda: renamed("Hugging Face's names", "", hugging_face_name, ("state_dict",)),
    "Sequential": lambda: renamed("nn.Sequential's numbers", "", sequential_name),
    "Sequential, encoder": lambda: renamed("nn.Sequential's numbers", "encoder.", sequential_name, ("model",)),
    "Detectron2 pkl": detectron2,
    "Detectron2 pth": lambda: detectron2(suffix=".pth"),
    "Detectron2 bare pkl": lambda: detectron2(wrapped=False),
    "Detectron2 C4": lambda: detectron2("backbone.", ".pth", c4=True),
    "Detectron2 FPN": lambda: detectron2("backbone.bottom_up."),
}


def tensors_of(case: Case) -> dict[str, Any]:
    state = case.content
    for key in case.where:
        state = state[key]
    return state
