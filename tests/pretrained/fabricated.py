"""Checkpoints as others write them, made from two known networks, and what these networks give."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from plrc.backbones import Backbone
from plrc.registry import BACKBONES

State = dict[str, Any]
WIDTH = 64  # channels of the last map
FC = ("fc.",)


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


class SmallBackbone(Small, Backbone):
    """``Small`` as one adds a backbone of one's own."""

    strides, channels = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}, {"c2": 8, "c3": 16, "c4": 32, "c5": 64}

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        del self.avgpool, self.fc

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        return maps_of(self, images)


BACKBONES.add("small", SmallBackbone, "for tests", form="1-1-1-1 basic blocks of 8")


def alive(network: nn.Module, seed: int) -> nn.Module:
    """A network whose every tensor matters: no norm at its starting point."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        elif name.endswith(("running_var", "weight")):
            tensor.uniform_(0.8, 1.2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.1, generator=generator)
    return network.eval()


def network(seed: int, build: Callable[..., nn.Module] = Small) -> nn.Module:
    with torch.random.fork_rng():
        return alive(build(num_classes=10), seed)


def mlp(layers: str, *sizes: int, seed: int = 3) -> nn.Sequential:
    """Layers by letter: L linear, l linear without bias, B BatchNorm, b one that is not affine, R ReLU, G GELU."""
    modules: list[nn.Module] = []
    widths, width = iter(sizes or (48, 32)), WIDTH
    for letter in layers:
        if letter in "Ll":
            modules.append(nn.Linear(width, width := next(widths), bias=letter == "L"))
        else:
            norm = nn.BatchNorm1d(width, affine=letter == "B")
            modules.append({"R": nn.ReLU(), "G": nn.GELU()}.get(letter, norm))
    return alive(nn.Sequential(*modules), seed)


def under(prefix: str, module: nn.Module, without: tuple[str, ...] = ()) -> State:
    state = module.state_dict()
    return {f"{prefix}{name}": t for name, t in state.items() if not name.startswith(without or ("\0",))}


def as_convolutions(state: State) -> State:
    return {name: t[:, :, None, None] if t.ndim == 2 else t for name, t in state.items()}


def at_every_position(head: nn.Module, maps: Tensor) -> Tensor:
    """What a head of vectors gives, cell by cell: ``(B, C, h, w)`` → ``(B, D, h, w)``."""
    b, _, h, w = maps.shape
    return head(maps.permute(0, 2, 3, 1).flatten(0, 2)).unflatten(0, (b, h, w)).permute(0, 3, 1, 2)


IMAGES = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(7))
QUERY, KEY = network(1), network(2)  # no layout shares them: which one was read shows


def maps_of(trunk: nn.Module, images: Tensor = IMAGES) -> dict[str, Tensor]:
    """Feature maps by torchvision's own modules, not by ours."""
    x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(images))))
    return {f"c{i + 1}": (x := getattr(trunk, f"layer{i}")(x)) for i in range(1, 5)}


class UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)


@dataclass
class Case:
    """A file in some layout. branches: name → (its trunk, its heads); the first is the default."""

    content: Any
    layout: str
    branches: dict[str, tuple[nn.Module, dict[str, nn.Module]]]
    note: str = ""
    suffix: str = ".pth"

    def place_of(self, lost: str) -> tuple[State, str]:
        """The dictionary in the content, and the key there, of a tensor of QUERY by torchvision's name."""
        wanted = QUERY.state_dict()[lost].data_ptr()
        return next((d, key) for d, key, tensor in _tensors(self.content) if tensor.data_ptr() == wanted)


def _tensors(content: State) -> Iterator[tuple[State, str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _tensors(value)
        elif hasattr(value, "dtype"):
            yield content, key, torch.as_tensor(value)


def two(
    layout: str,
    own: tuple[str, str],
    backbone: str,
    heads: dict[str, tuple[str, nn.Module, nn.Module]],
    more: State,
    **facts: str,
) -> Case:
    """Two networks in one state dict; ``{}`` stands for what differs. heads: name → prefix, the query's, the key's."""
    state, branches = dict(more), {}
    for i, (name, trunk) in enumerate((("query", QUERY), ("key", KEY))):
        state |= under(backbone.format(own[i]), trunk, FC)
        for prefix, *both in heads.values():
            state |= under(prefix.format(own[i]), both[i])
        branches[name] = (trunk, {head: both[i] for head, (_, *both) in heads.items()})
    content = {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {0: {"step": 1}}}}
    return Case(content, layout, branches, **facts)


def released_plrc() -> Case:
    first = [mlp("LRL", seed=seed) for seed in (3, 5)]
    second = [mlp("LBRLBRL", 40, 40, 24, seed=seed) for seed in (3, 5)]
    heads = {"projector": ("{}.enc.fcs.", *first), "head256": ("{}.enc.fcs_2.mlp.", *second)}
    more = {f"module.encoder_{e}.enc.fcs_2.last_layer.weight_g": torch.ones(6, 1) for e in "qk"}
    more["module.plrc_loss.queue_x"] = torch.zeros(8, 4)
    note = "not used: fcs_2.last_layer, plrc_loss"
    case = two("released PLRC", ("module.encoder_q", "module.encoder_k"), "{}.enc.", heads, more, note=note)
    for (_, made), head in zip(case.branches.values(), second, strict=True):
        made["head256"] = nn.Sequential(head, UnitLength())
    return case


def moco(layout: str, q: str, k: str, layers: str, first: bool = False) -> Case:
    one, other = (mlp(layers, seed=seed)[0] if first else mlp(layers, seed=seed) for seed in (3, 5))
    more = {"module.queue": torch.zeros(4, 6)}
    facts = {"note": "not used: queue", "suffix": ".pth.tar"}
    return two(layout, (q, k), "{}", {"projector": ("{}fc.", one, other)}, more, **facts)


def opensselfsup(layout: str, q: str, k: str, dense: bool = False, copy: bool = False) -> Case:
    heads = {"projector": ("{}1.mlp.", mlp("LRL", seed=3), mlp("LRL", seed=5))}
    if dense:
        heads["dense_projector"] = ("{}1.mlp2.", mlp("LRL", seed=4), mlp("LRL", seed=6))
    more = under("backbone.", KEY, FC) if copy else {}
    case = two(layout, (q, k), "{}0.", heads, more, note="not used: backbone" if copy else "")
    state = case.content["state_dict"]
    state |= as_convolutions({name: t for name, t in state.items() if ".mlp2." in name})
    return case


def mmselfsup() -> Case:
    one, other = mlp("LRL", seed=3), mlp("LRL", seed=5)
    state = under("backbone.", QUERY, FC) | under("neck.mlp.", one) | under("encoder_k.0.", KEY, FC)
    state |= under("encoder_k.1.mlp.", other) | {"queue": torch.zeros(4, 6)}
    branches = {"query": (QUERY, {"projector": one}), "key": (KEY, {"projector": other})}
    return Case({"meta": {}, "state_dict": state}, "MMSelfSup", branches, "not used: queue")


def pixpro() -> Case:
    heads = {"projector": ("module.projector{}.", mlp("LBRL", seed=3), mlp("LBRL", seed=5))}
    case = two("PixPro", ("", "_k"), "module.encoder{}.", heads, {})
    state = {}
    for name, tensor in case.content.pop("state_dict").items():
        start, *rest = name.split(".")[1:]
        if start.startswith("projector"):
            rest[0] = {"0": "linear1", "1": "bn1", "3": "linear2"}[rest[0]]
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        state[".".join(["module", start, *rest])] = tensor
    case.content |= {"model": state, "opt": argparse.Namespace(lr=1.0, data=Path("x"))}
    return case


def dino() -> Case:
    teacher, student = mlp("LGLGL", 40, 40, 24, seed=3), mlp("LBGLBGL", 40, 40, 24, seed=5)
    last = {"head.last_layer.weight_v": torch.ones(6, 24)}
    content = {
        "student": under("module.backbone.", KEY, FC) | under("module.head.mlp.", student),
        "teacher": under("backbone.", QUERY, FC) | under("head.mlp.", teacher) | last,
        "args": argparse.Namespace(arch="resnet50"),
        "dino_loss": {"center": torch.zeros(1, 6)},
    }
    branches = {"teacher": (QUERY, {"projector": teacher}), "student": (KEY, {"projector": student})}
    return Case(content, "DINO", branches, "not used: teacher.head.last_layer, dino_loss")


def one(content: Any, layout: str, note: str = "", suffix: str = ".pth", **heads: nn.Module) -> Case:
    return Case(content, layout, {"": (QUERY, heads)}, note, suffix)


def swav() -> Case:
    head = mlp("LBRL")
    state = under("module.", QUERY, FC) | under("module.projection_head.", head)
    state["module.prototypes.weight"] = torch.zeros(30, 32)
    return one(state, "SwAV", "not used: prototypes", ".pth.tar", projector=head)


def vicreg() -> Case:
    head, dense = mlp("LBRLBRl", 40, 40, 24), mlp("LBRl", seed=9)
    state = under("module.backbone.", QUERY, FC) | under("module.projector.", head)
    state |= under("module.maps_projector.", dense)
    return one({"epoch": 300, "model": state}, "VICReg", projector=head, maps_projector=dense)


def simsiam() -> Case:
    head = mlp("lBRlBRlb", 40, 40, 24)
    state = under("module.encoder.", QUERY, FC) | under("module.encoder.fc.", head)
    return one({"state_dict": state}, "SimSiam", projector=head)


def bare(prefix: str = "", key: str = "", suffix: str = ".pth", classifier: bool = False) -> Case:
    state = under(prefix, QUERY, () if classifier else FC)
    note = "not used: fc (the classifier)" if classifier else ""
    return one({key: state} if key else state, "torchvision's names", note, suffix)


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
    child, _, rest = name.partition(".")
    return f"{[name for name, _ in QUERY.named_children()].index(child)}.{rest}"


def detectron2_name(name: str) -> str:
    """As MoCo's converter renames."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    for i in range(1, 5):
        name = name.replace(f"layer{i}", f"res{i + 1}")
    for i in range(1, 4):
        name = name.replace(f"bn{i}", f"conv{i}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def renamed(layout: str, prefix: str, naming: Callable[[str], str], key: str = "") -> Case:
    state = {f"{prefix}{naming(name)}": t for name, t in under("", QUERY, FC).items()}
    return one({key: state} if key else state, layout)


def detectron2(prefix: str = "", suffix: str = ".pkl", c4: bool = False, wrapped: bool = True) -> Case:
    state: State = {}
    for name, tensor in under("", QUERY, FC).items():
        own = detectron2_name(name)
        if not name.endswith("tracked"):
            state[f"roi_heads.{own}" if c4 and own.startswith("res5") else f"{prefix}{own}"] = tensor
    if c4:
        state["roi_heads.res5.norm.weight"] = torch.ones(WIDTH)
        state["proposal_generator.rpn_head.conv.bias"] = torch.ones(3)
    if suffix == ".pkl":
        state = {name: t.numpy() for name, t in state.items()}
    content = {"model": state, "__author__": "somebody", "matching_heuristics": True} if wrapped else state
    return one(content, "Detectron2", "not used: roi_heads, proposal_generator" if c4 else "", suffix)


MOCO_V3 = ("module.base_encoder.", "module.momentum_encoder.")
CASES: dict[str, Callable[[], Case]] = {
    "released PLRC": released_plrc,
    "MoCo v1": lambda: moco("MoCo v1", "module.encoder_q.", "module.encoder_k.", "L", first=True),
    "MoCo v2": lambda: moco("MoCo v2", "module.encoder_q.", "module.encoder_k.", "LRL"),
    "MoCo v3": lambda: moco("MoCo v3", *MOCO_V3, "lBRlb"),
    "DenseCL": lambda: opensselfsup("DenseCL", "encoder_q.", "encoder_k.", dense=True, copy=True),
    "OpenSelfSup": lambda: opensselfsup("OpenSelfSup", "encoder_q.", "encoder_k.", copy=True),
    "OpenSelfSup BYOL": lambda: opensselfsup("OpenSelfSup BYOL", "online_net.", "target_net."),
    "MMSelfSup": mmselfsup,
    "PixPro": pixpro,
    "DINO": dino,
    "SwAV": swav,
    "VICReg and VICRegL": vicreg,
    "SimSiam": simsiam,
    "bare": bare,
    "bare, DDP": lambda: bare("module.backbone.", "model"),
    "torchvision, state_dict": lambda: bare("", "state_dict", classifier=True),
    "timm safetensors": lambda: bare(suffix=".safetensors", classifier=True),
    "torchvision detector": lambda: bare("backbone.body.", "model"),
    "torch.compile": lambda: bare("_orig_mod.", "model"),
    "Hugging Face": lambda: renamed("Hugging Face's names", "resnet.", hugging_face_name),
    "Hugging Face, bare": lambda: renamed("Hugging Face's names", "", hugging_face_name, "state_dict"),
    "Sequential": lambda: renamed("nn.Sequential's numbers", "", sequential_name),
    "Sequential, encoder": lambda: renamed("nn.Sequential's numbers", "encoder.", sequential_name, "model"),
    "Detectron2 pkl": detectron2,
    "Detectron2 bare pkl": lambda: detectron2(wrapped=False),
    "Detectron2 C4": lambda: detectron2("backbone.", ".pth", c4=True),
    "Detectron2 FPN": lambda: detectron2("backbone.bottom_up."),
}
