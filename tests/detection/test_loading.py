"""Detectors from files: ours and Detectron2's, whole and with something wrong."""

from __future__ import annotations

import ast
import functools
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plrc.backbones import build
from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.classes import COCO_CATEGORIES, COCO_CLASSES, VOC_CLASSES
from plrc.detection.design import Design
from plrc.detection.detector import MEAN, STD, Detector
from plrc.detection.detectron2 import to_detectron2
from plrc.detection.detectron2_reading import build_detector
from plrc.detection.loading import DETECTRON2, load_detector

State = dict[str, Any]
FPN = Design(arch="resnet18", neck="fpn", classes=("cat", "dog", "cow"))
C4 = Design(arch="resnet18", neck="c4", classes=("cat", "dog", "cow"), masks=True)
NORMALISED = Design(arch="resnet18", neck="fpn", classes=VOC_CLASSES, masks=True, head_norm=True)
NAMES = FPN.classes
CLASS_BIAS = "roi_heads.box_predictor.cls_score.bias"
ANCHORS = "proposal_generator.anchor_generator.cell_anchors."


@functools.cache
def trained(design: Design) -> dict[str, Tensor]:
    """The tensors of a detector, none of them as at the start."""
    with torch.device("meta"):
        state = Detector(design).state_dict()
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.tensor(7) if name.endswith("tracked") else 0.1 + torch.rand(tensor.shape, generator=generator)
        for name, tensor in state.items()
    }


def theirs(design: Design) -> State:
    """The tensors of Detectron2's model."""
    return {to_detectron2(name, design) or "": tensor for name, tensor in trained(design).items()}


def saved(folder: Path, state: State, **more: Any) -> Path:
    file = folder / "model_final.pth"
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(2)}}, "iteration": 23999, **more}, file)
    return file


def ours(folder: Path, design: Design, **other: Any) -> Path:
    content = {
        "step": 5,
        "design": design.to_dict(),
        "category_ids": [3, 5, 9],
        "test_short_side": 240,
        "longest": 400,
        "model": trained(design),
        "optimizer": {},
    }
    file = folder / "checkpoints" / "last.pt"
    save_checkpoint(file, {**content, **other}, kind=DETECTOR)
    return file


def assert_same(found: nn.Module, wanted: dict[str, Tensor]) -> None:
    state = found.state_dict()
    assert list(state) == list(wanted)
    for name, tensor in wanted.items():
        assert state[name].dtype == tensor.dtype, name
        assert torch.equal(state[name], tensor), name


# ---------------------------------------------------------------------------------------------------------------- ours


@pytest.mark.parametrize("design", [FPN, C4, Design(arch="tiny", neck="fpn", classes=NAMES)])
def test_our_checkpoint_gives_the_same_detector(design: Design, tmp_path: Path) -> None:
    loaded = load_detector(ours(tmp_path, design))
    assert_same(loaded.detector, trained(design))
    assert loaded.design == design
    assert not loaded.detector.training
    assert (loaded.category_ids, loaded.test_short_side, loaded.longest) == ((3, 5, 9), 240, 400)
    assert (loaded.format, loaded.note) == (DETECTOR, "step 5")
    assert loaded.path == tmp_path / "checkpoints" / "last.pt"


def test_run_folder_and_other_sizes(tmp_path: Path) -> None:
    file = ours(tmp_path, FPN)
    state = torch.get_rng_state()
    loaded = load_detector(tmp_path, FPN.classes, test_short_side=320, longest=500)
    assert torch.equal(torch.get_rng_state(), state), "the global generator moved"
    assert (loaded.path, loaded.test_short_side, loaded.longest) == (file, 320, 500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("rpn.head.cls_logits.bias"), r"lacks rpn\.head\.cls_logits\.bias; save it anew"),
        (lambda c: c["model"].update({"more.weight": torch.ones(1)}), r"has more\.weight, which such a detector"),
        (lambda c: c["design"].update(neck="neither"), "its design or its model cannot be read"),
        (
            lambda c: c["design"].update(classes=["cat", "dog"]),
            r"box_predictor\.cls_score\.weight of shape \(4, 1024\)",
        ),
        (lambda c: c.pop("model"), "its design or its model cannot be read"),
        (lambda c: c.update(version=99), "newer version"),
    ],
)
def test_damaged_checkpoint_of_ours_is_refused(change: Callable, message: str, tmp_path: Path) -> None:
    file = ours(tmp_path, FPN)
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    with pytest.raises(ValueError, match=message) as error:
        load_detector(file)
    assert str(file) in str(error.value)


def test_our_checkpoint_takes_no_other_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="knows its classes, cat, dog, cow"):
        load_detector(ours(tmp_path, FPN), ("a", "b", "c"))


# ---------------------------------------------------------------------------------------------------------- Detectron2


@pytest.mark.parametrize("design", [FPN, C4, NORMALISED])
def test_detectron2_file_gives_every_tensor(design: Design, tmp_path: Path) -> None:
    loaded = load_detector(saved(tmp_path, theirs(design)), design.classes)
    assert_same(loaded.detector, trained(design))
    assert loaded.design == design
    assert loaded.format == DETECTRON2
    assert loaded.note.startswith("iteration 23999; taken as RGB")
    assert (loaded.test_short_side, loaded.longest) == (800, 1333)
    assert loaded.category_ids == tuple(range(1, len(design.classes) + 1))


def test_other_ways_to_write_it(tmp_path: Path) -> None:
    state = theirs(FPN)
    without = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    wanted = {
        name: torch.zeros_like(tensor) if name.endswith("tracked") else tensor for name, tensor in trained(FPN).items()
    }
    (tmp_path / "arrays.pkl").write_bytes(
        pickle.dumps({"model": {name: t.numpy() for name, t in without.items()}, "__author__": "x"}, protocol=4)
    )
    assert_same(load_detector(tmp_path / "arrays.pkl", NAMES).detector, wanted)
    torch.save({**without, "iteration": 5}, tmp_path / "bare.pth")
    assert_same(load_detector(tmp_path / "bare.pth", NAMES).detector, wanted)
    parallel = saved(tmp_path, {f"module.{name}": t for name, t in without.items()})
    assert_same(load_detector(parallel, NAMES).detector, wanted)
    half = saved(tmp_path, {name: t.half() for name, t in without.items()})
    rounded = {name: t.half().float() if t.is_floating_point() else t for name, t in wanted.items()}
    assert_same(load_detector(half, NAMES).detector, rounded)


def test_real_list_of_names_becomes_vocs_detector(tmp_path: Path) -> None:
    keys = Path(__file__).resolve().parents[3] / "shared" / "facts" / "detectron2_keys_r50_c4_voc.txt"
    if not keys.is_file():
        pytest.skip(f"../shared/facts/{keys.name} is missing: the names of a real Detectron2 model")
    state: dict[str, Tensor] = {}
    for name, shape in (line.split(" ", 1) for line in keys.read_text().splitlines()):
        value = zlib.crc32(name.encode()) % 1000 / 1000
        state[name] = torch.tensor(3) if name.endswith("tracked") else torch.full(ast.literal_eval(shape), value)
    loaded = load_detector(saved(tmp_path, state))
    assert loaded.design == Design(arch="resnet50", neck="c4", classes=VOC_CLASSES)
    found = loaded.detector.state_dict()
    assert len(found) == len(state)
    for here, there in (
        ("backbone.layer4.2.bn3.running_var", "roi_heads.res5.2.conv3.norm.running_var"),
        ("box_norm.weight", "roi_heads.res5.norm.weight"),
        ("rpn.head.bbox_pred.bias", "proposal_generator.rpn_head.anchor_deltas.bias"),
    ):
        assert torch.equal(found[here], state[there])


def test_eighty_classes_are_cocos(tmp_path: Path) -> None:
    assert (len(VOC_CLASSES), VOC_CLASSES[14], len(COCO_CLASSES), max(COCO_CATEGORIES)) == (20, "person", 80, 90)
    coco = Design(arch="resnet18", neck="fpn", classes=COCO_CLASSES)
    loaded = load_detector(saved(tmp_path, theirs(coco)))
    assert loaded.design.classes == COCO_CLASSES
    assert loaded.category_ids[11:13] == (13, 14)
    assert (loaded.design.classes[11], loaded.category_ids[-1]) == ("stop sign", 90)


def test_constants_may_be_there_if_they_are_ours(tmp_path: Path) -> None:
    constants = {f"{ANCHORS}{i}": cells for i, cells in enumerate(Detector(FPN).rpn.cells)}
    constants |= {"pixel_mean": torch.tensor(MEAN)[:, None, None], "pixel_std": torch.tensor(STD)[:, None, None]}
    assert len(constants) == 7
    load_detector(saved(tmp_path, {**theirs(FPN), **constants}), NAMES)


def test_bgr_is_noticed_in_a_file_of_tensors_alone(tmp_path: Path) -> None:
    torch.save({**theirs(FPN), "pixel_mean": torch.tensor(MEAN[::-1])}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="BGR model"):
        load_detector(tmp_path / "bare.pth", NAMES)


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def but(**other: Any) -> Callable[[State], State]:
    return lambda state: {**state, **{name.replace("__", "."): value for name, value in other.items()}}


def plain(state: State) -> State:
    """As Detectron2's own recipe: no norm in the pyramid."""
    kept = {name: t for name, t in state.items() if not ("fpn_" in name and ".norm." in name)}
    return kept | {
        f"backbone.fpn_{part}{i}.bias": torch.ones(256) for part in ("lateral", "output") for i in range(2, 6)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(CLASS_BIAS), rf"lacks {CLASS_BIAS}; known are"),
        (without("backbone.bottom_up.res3.0.conv1.weight"), r"lacks backbone\.bottom_up\.res3\.0\.conv1\.weight"),
        (without("backbone.fpn_lateral3.norm.bias"), r"lacks backbone\.fpn_lateral3\.norm\.bias"),
        (
            without("roi_heads.box_predictor.cls_score.weight"),
            r"lacks roi_heads\.box_predictor\.cls_score\.weight with",
        ),
        (but(roi_heads__box_head__fc3__bias=torch.ones(2)), r"has roi_heads\.box_head\.fc3\.bias, which such"),
        (but(backbone__bottom_up__res3__0__conv2_offset__weight=torch.ones(2)), r"has .*conv2_offset\.weight, which"),
        (
            but(roi_heads__box_predictor__bbox_pred__bias=torch.ones(4)),
            r"bbox_pred\.bias of shape \(4,\) instead of \(12,\)",
        ),
        (but(roi_heads__box_head__fc1__bias=torch.full((1024,), torch.nan)), r"undefined values in .*fc1\.bias"),
        (but(roi_heads__box_head__fc1__bias=torch.ones(1024).long()), r"no floating-point numbers in .*fc1\.bias"),
        (plain, r"lacks backbone\.fpn_lateral2\.norm\.weight.* has backbone\.fpn_lateral2\.bias.*norms in the pyramid"),
        (but(pixel_mean=torch.tensor([103.53, 116.28, 123.675])), "BGR model"),
        (but(pixel_std=torch.ones(3, 1, 1)), r"has pixel_std \[1\.0, 1\.0, 1\.0\] instead of \[58\.395"),
        (lambda s: s | {f"{ANCHORS}0": torch.ones(3, 4)}, "has other anchors"),
        (lambda s: s | {f"{ANCHORS}7": torch.ones(3, 4)}, "has other anchors"),
    ],
)
def test_what_is_not_right_in_a_detectron2_file_is_named(change: Callable[[State], State], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_detector(change(theirs(FPN)), "model_final.pth", NAMES)
    assert str(error.value).startswith("model_final.pth")


def test_c4_without_mocos_norm_is_refused(tmp_path: Path) -> None:
    state = {name: t for name, t in theirs(C4).items() if not name.startswith("roi_heads.res5.norm")}
    with pytest.raises(ValueError, match=r"lacks roi_heads\.res5\.norm\.weight.*Res5ROIHeadsExtraNorm"):
        load_detector(saved(tmp_path, state), NAMES)


def test_names_of_classes_are_needed_one_each(tmp_path: Path) -> None:
    file = saved(tmp_path, theirs(FPN))
    with pytest.raises(ValueError, match="has 3 classes and does not say which: give their names"):
        load_detector(file)
    with pytest.raises(ValueError, match="has 3 classes, and 2 names are given"):
        load_detector(file, ("cat", "dog"))


# ------------------------------------------------------------------------------------------------------------- neither


def test_trunk_alone_is_no_detector(tmp_path: Path) -> None:
    file = tmp_path / "trunk.pth"
    torch.save(build("resnet18").state_dict(), file)
    with pytest.raises(ValueError, match=r"is no detector: it holds a pre-trained trunk .*plrc detect train --weights"):
        load_detector(file)


def test_something_else_is_no_detector(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"state_dict": {"a.weight": torch.ones(2)}}, file)
    with pytest.raises(ValueError, match="holds no detector that is known here"):
        load_detector(file)
    torch.save([torch.ones(2)], file)
    with pytest.raises(ValueError, match="holds no detector that is known here"):
        load_detector(file)
    with pytest.raises(ValueError, match=r"there is no file or folder .*missing\.pth: give a run"):
        load_detector(tmp_path / "missing.pth")
    with pytest.raises(ValueError, match="not the folder of a run"):
        load_detector(tmp_path)
