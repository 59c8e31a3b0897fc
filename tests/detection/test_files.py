"""Detectors as files: Detectron2's names, reading ours and theirs, whole and with something wrong, and conversion."""

import ast
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from plrc.backbones import build
from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.config import DetectConvert
from plrc.detection.detector import MEAN, STD, Architecture, Detector
from plrc.detection.files import COCO_CLASSES, DETECTRON2, VOC_CLASSES, detect_convert, load_detector, to_detectron2
from plrc.pretrained import load

State = dict[str, Any]
NAMES = ("cat", "dog", "cow")
FPN = Architecture(arch="resnet18", neck="fpn", classes=NAMES)
C4 = Architecture(arch="resnet18", neck="c4", classes=NAMES, masks=True)
NORMALISED = Architecture(arch="resnet18", neck="fpn", classes=VOC_CLASSES, masks=True, head_norm=True)
CLASS_BIAS = "roi_heads.box_predictor.cls_score.bias"
ANCHORS = "proposal_generator.anchor_generator.cell_anchors."


def on_meta(architecture: Architecture) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Detector(architecture).state_dict()


@functools.cache
def trained(architecture: Architecture) -> dict[str, Tensor]:
    """The tensors of a detector, none of them as at the start."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.tensor(7) if name.endswith("tracked") else 0.1 + torch.rand(tensor.shape, generator=generator)
        for name, tensor in on_meta(architecture).items()
    }


def theirs(architecture: Architecture) -> State:
    """The tensors of Detectron2's model."""
    return {to_detectron2(name, architecture.neck) or "": t for name, t in trained(architecture).items()}


def saved(folder: Path, state: State, **more: Any) -> Path:
    file = folder / "model_final.pth"
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(2)}}, "iteration": 23999, **more}, file)
    return file


def ours(folder: Path, architecture: Architecture, **other: Any) -> Path:
    content = {
        "step": 5,
        "architecture": architecture.to_dict(),
        "category_ids": list(range(3, 3 + len(architecture.classes))),
        "test_short_side": 240,
        "longest": 400,
        "model": trained(architecture),
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


def classes(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


REAL = {
    "detectron2_keys_r50_c4_voc.txt": Architecture(arch="resnet50", neck="c4", classes=classes(20)),
    "detectron2_keys_r50_c4_mask_coco.txt": Architecture(arch="resnet50", neck="c4", classes=classes(80), masks=True),
    "detectron2_keys_r50_fpn_mask_coco.txt": Architecture(arch="resnet50", neck="fpn", classes=classes(80), masks=True),
}


def listed(file: Path) -> dict[str, tuple[int, ...]]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name: ast.literal_eval(shape) for name, shape in (line.split(" ", 1) for line in lines)}


@pytest.mark.parametrize(("file", "architecture"), REAL.items(), ids=[file.split("keys_")[1][:-4] for file in REAL])
def test_a_real_model_is_the_detector_tensor_by_tensor(file: str, architecture: Architecture, shared_data) -> None:
    here = {to_detectron2(name, architecture.neck): tuple(t.shape) for name, t in on_meta(architecture).items()}
    assert here == listed(shared_data(file, "facts"))


# One of each kind, written out: two names that are swapped and have one shape would pass above.
ONE_OF_EACH = """
c4  backbone.conv1.weight                     backbone.stem.conv1.weight
c4  backbone.layer3.0.downsample.1.bias       backbone.res4.0.shortcut.norm.bias
c4  backbone.layer4.2.bn1.running_var         roi_heads.res5.2.conv1.norm.running_var
c4  box_norm.running_mean                     roi_heads.res5.norm.running_mean
c4  rpn.head.conv.0.0.bias                    proposal_generator.rpn_head.conv.bias
c4  rpn.head.cls_logits.weight                proposal_generator.rpn_head.objectness_logits.weight
c4  rpn.head.bbox_pred.weight                 proposal_generator.rpn_head.anchor_deltas.weight
c4  box_predictor.cls_score.bias              roi_heads.box_predictor.cls_score.bias
c4  box_predictor.bbox_pred.bias              roi_heads.box_predictor.bbox_pred.bias
fpn backbone.layer4.0.conv2.weight            backbone.bottom_up.res5.0.conv2.weight
fpn neck.inner_blocks.0.0.weight              backbone.fpn_lateral2.weight
fpn neck.inner_blocks.3.1.num_batches_tracked backbone.fpn_lateral5.norm.num_batches_tracked
fpn neck.layer_blocks.1.1.weight              backbone.fpn_output3.norm.weight
fpn box_head.fc6.bias                         roi_heads.box_head.fc1.bias
fpn box_head.fc7.bias                         roi_heads.box_head.fc2.bias
fpn box_head.3.1.bias                         roi_heads.box_head.conv4.norm.bias
fpn box_head.5.weight                         roi_heads.box_head.fc1.weight
fpn mask_head.2.1.running_mean                roi_heads.mask_head.mask_fcn3.norm.running_mean
fpn mask_predictor.conv5_mask.weight          roi_heads.mask_head.deconv.weight
fpn mask_predictor.mask_fcn_logits.bias       roi_heads.mask_head.predictor.bias
fpn backbone.fc.weight                        None
c4  mean                                      None
"""


def test_one_of_each_kind() -> None:
    for neck, here, there in map(str.split, ONE_OF_EACH.strip().splitlines()):
        assert str(to_detectron2(here, neck)) == there


def test_run_folder_and_other_sizes(tmp_path: Path) -> None:
    file = ours(tmp_path, FPN)
    state = torch.get_rng_state()
    loaded = load_detector(tmp_path, FPN.classes, test_short_side=320, longest=500)
    assert torch.equal(torch.get_rng_state(), state), "the global generator moved"
    assert (loaded.path, loaded.test_short_side, loaded.longest) == (file, 320, 500)
    assert (loaded.format, loaded.note, loaded.category_ids) == (DETECTOR, "step 5", (3, 4, 5))
    assert not loaded.detector.training
    assert_same(loaded.detector, trained(FPN))
    with pytest.raises(ValueError, match="knows its classes, cat, dog, cow"):
        load_detector(file, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("rpn.head.cls_logits.bias"), r"lacks rpn\.head\.cls_logits\.bias; save it anew"),
        (lambda c: c["model"].update({"a.b": torch.ones(1)}), r"such a network has not, a\.b"),
        (lambda c: c["architecture"].update(neck="neither"), "unknown neck 'neither'"),
        (lambda c: c["architecture"].update(classes=["cat", "dog"]), r"cls_score\.weight of shape \(4, 1024\)"),
        (lambda c: c.update(version=99), "newer version"),
    ],
)
def test_damaged_checkpoint_of_ours_is_refused(change: Callable, message: str, tmp_path: Path) -> None:
    file = ours(tmp_path, FPN)
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        load_detector(file)


@pytest.mark.parametrize("architecture", [C4, NORMALISED])
def test_detectron2_file_gives_every_tensor(architecture: Architecture, tmp_path: Path) -> None:
    loaded = load_detector(saved(tmp_path, theirs(architecture)), architecture.classes)
    assert_same(loaded.detector, trained(architecture))
    assert loaded.detector.architecture == architecture
    assert loaded.format == DETECTRON2
    assert loaded.note.startswith("iteration 23999; taken as RGB")
    assert (loaded.test_short_side, loaded.longest) == (800, 1333)
    assert loaded.category_ids == tuple(range(1, len(architecture.classes) + 1))


def test_other_ways_to_write_it(tmp_path: Path) -> None:
    without = {name: tensor for name, tensor in theirs(FPN).items() if not name.endswith("tracked")}
    wanted = {n: torch.zeros_like(t) if n.endswith("tracked") else t for n, t in trained(FPN).items()}
    arrays = {"model": {name: t.numpy() for name, t in without.items()}, "__author__": "x"}
    (tmp_path / "arrays.pkl").write_bytes(pickle.dumps(arrays, protocol=4))
    assert_same(load_detector(tmp_path / "arrays.pkl", NAMES).detector, wanted)
    torch.save({**without, "iteration": 5}, tmp_path / "bare.pth")
    assert_same(load_detector(tmp_path / "bare.pth", NAMES).detector, wanted)
    half = saved(tmp_path, {f"module.{name}": t.half() for name, t in without.items()})  # of a data-parallel model
    rounded = {name: t.half().float() if t.is_floating_point() else t for name, t in wanted.items()}
    assert_same(load_detector(half, NAMES).detector, rounded)


def test_eighty_classes_are_cocos(tmp_path: Path) -> None:
    assert (len(VOC_CLASSES), VOC_CLASSES[14], len(COCO_CLASSES)) == (20, "person", 80)
    coco = Architecture(arch="resnet18", neck="fpn", classes=COCO_CLASSES)
    loaded = load_detector(saved(tmp_path, theirs(coco)))
    assert loaded.detector.architecture == coco
    assert (loaded.category_ids[11:13], coco.classes[11], loaded.category_ids[-1]) == ((13, 14), "stop sign", 90)


def test_constants_may_be_there_if_they_are_ours(tmp_path: Path) -> None:
    constants = {f"{ANCHORS}{i}": cells for i, cells in enumerate(Detector(FPN).rpn.cells)}
    constants |= {"pixel_mean": torch.tensor(MEAN)[:, None, None], "pixel_std": torch.tensor(STD)[:, None, None]}
    assert len(constants) == 7
    load_detector(saved(tmp_path, {**theirs(FPN), **constants}), NAMES)
    torch.save({**theirs(FPN), "pixel_mean": torch.tensor(MEAN[::-1])}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="input is RGB, not BGR"):
        load_detector(tmp_path / "bare.pth", NAMES)


def without(*names: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def but(**other: Any) -> Callable[[State], State]:
    return lambda state: {**state, **{name.replace("__", "."): value for name, value in other.items()}}


def plain(state: State) -> State:
    """As Detectron2's own recipe: no norm in the pyramid."""
    kept = {name: t for name, t in state.items() if not ("fpn_" in name and ".norm." in name)}
    names = [f"backbone.fpn_{part}{i}.bias" for part in ("lateral", "output") for i in range(2, 6)]
    return kept | dict.fromkeys(names, torch.ones(256))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(CLASS_BIAS), rf"lacks {CLASS_BIAS}; known are"),
        (without("backbone.bottom_up.res3.0.conv1.weight"), r"lacks backbone\.bottom_up\.res3\.0\.conv1\.weight"),
        (without("roi_heads.box_predictor.cls_score.weight"), r"has 0 classes by its box_predictor\.cls_score\.weight"),
        (but(roi_heads__box_head__fc3__bias=torch.ones(2)), r"has not, roi_heads\.box_head\.fc3\.bias"),
        (but(backbone__bottom_up__res3__0__conv2_offset__weight=torch.ones(2)), r"has not, .*conv2_offset\.weight"),
        (but(roi_heads__box_predictor__bbox_pred__bias=torch.ones(4)), r"bias of shape \(4,\) instead of \(12,\)"),
        (but(roi_heads__box_head__fc1__bias=torch.full((1024,), torch.nan)), r"fc1\.bias of whole numbers or infinite"),
        (but(roi_heads__box_head__fc1__bias=torch.ones(1024).long()), r"fc1\.bias of whole numbers or infinite"),
        (plain, r"lacks backbone\.fpn_lateral2\.norm\.weight.* has not, backbone\.fpn_lateral2\.bias.*norms in"),
        (but(pixel_std=torch.ones(3, 1, 1)), r"has pixel_std \[1\.0, 1\.0, 1\.0\] instead of \[58\.395"),
        (lambda s: s | {f"{ANCHORS}7": torch.ones(3, 4)}, "anchors are MoCo's"),
    ],
)
def test_what_is_not_right_in_a_detectron2_file_is_named(change: Callable, message: str, tmp_path: Path) -> None:
    file = saved(tmp_path, change(theirs(FPN)))
    with pytest.raises(ValueError, match=message) as error:
        load_detector(file, NAMES)
    assert str(error.value).startswith(str(file))


def test_c4_without_mocos_norm_is_refused_and_names_of_classes_are_needed_one_each(tmp_path: Path) -> None:
    state = {name: t for name, t in theirs(C4).items() if not name.startswith("roi_heads.res5.norm")}
    with pytest.raises(ValueError, match=r"lacks roi_heads\.res5\.norm\.weight.*Res5ROIHeadsExtraNorm"):
        load_detector(saved(tmp_path, state), NAMES)
    for names in ((), ("cat", "dog")):
        with pytest.raises(ValueError, match=f"has 3 classes .*, and {len(names)} names are known: give one for each"):
            load_detector(tmp_path / "model_final.pth", names)


def test_something_else_is_no_detector(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    for content, what in (
        (build("resnet18").state_dict(), "a pre-trained backbone .*plrc detect train --weights"),
        ({"state_dict": {"a.weight": torch.ones(2)}}, "nothing that is known here"),
        ([torch.ones(2)], "nothing that is known here"),
    ):
        torch.save(content, file)
        with pytest.raises(ValueError, match=rf"other\.pth is no detector, it holds {what}"):
            load_detector(file)
    with pytest.raises(ValueError, match=r"there is no file or folder .*missing\.pth: give a run"):
        load_detector(tmp_path / "missing.pth")
    with pytest.raises(ValueError, match="not the folder of a run"):
        load_detector(tmp_path)


def convert(checkpoint: str | Path, to: str, out: Path, **more: Any) -> list[str]:
    return detect_convert(DetectConvert(checkpoint=str(checkpoint), to=to, out=str(out), **more))


MASKED = Architecture(arch="resnet18", neck="fpn", classes=NAMES, masks=True, roi_per_image=128)
OF_COCO = Architecture(arch="resnet18", neck="fpn", classes=COCO_CLASSES, head_norm=True)
R50_C4 = Architecture(arch="resnet50", neck="c4", classes=VOC_CLASSES)


@pytest.mark.parametrize("architecture", [MASKED, OF_COCO, R50_C4], ids=["fpn-mask", "fpn-head-norm", "c4"])
def test_there_and_back_is_the_same_to_the_bit(architecture: Architecture, tmp_path: Path) -> None:
    there, back = tmp_path / "there" / "model.pth", tmp_path / "back.pt"
    convert(ours(tmp_path / "run", architecture), "detectron2", there)
    content = torch.load(there, weights_only=True)
    assert set(content) == {"model", "__author__", "classes", "category_ids", "test_short_side", "longest"}
    assert list(content["model"]) == list(theirs(architecture))
    convert(there, "plrc", back)
    for file in (there, back):
        again = load_detector(file)
        assert_same(again.detector, trained(architecture))
        assert (again.detector.architecture.classes, again.category_ids[:2]) == (architecture.classes, (3, 4))
        assert (again.test_short_side, again.longest) == (240, 400)
        assert "taken as RGB" in again.note
    assert sorted(path.name for path in there.parent.iterdir()) == ["model.pth", "model.yaml"]


COMMON = """
VERSION: 2
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  PIXEL_MEAN: [123.675, 116.28, 103.53]
  PIXEL_STD: [58.395, 57.12, 57.375]
  RESNETS: {NORM: SyncBN, STRIDE_IN_1X1: false}
  ANCHOR_GENERATOR: {ASPECT_RATIOS: [[0.5, 1.0, 2.0]]}
INPUT: {FORMAT: RGB, MAX_SIZE_TEST: 1333, MIN_SIZE_TEST: 800}
"""
OF_C4 = """
MODEL:
  BACKBONE: {NAME: build_resnet_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 50, OUT_FEATURES: [res4]}
  ANCHOR_GENERATOR: {SIZES: [[32, 64, 128, 256, 512]]}
  RPN: {IN_FEATURES: [res4], PRE_NMS_TOPK_TRAIN: 12000, PRE_NMS_TOPK_TEST: 6000, POST_NMS_TOPK_TRAIN: 2000}
  ROI_HEADS: {NAME: Res5ROIHeadsExtraNorm, IN_FEATURES: [res4], BATCH_SIZE_PER_IMAGE: 512}
"""
OF_FPN = """
MODEL:
  BACKBONE: {NAME: build_resnet_fpn_backbone, FREEZE_AT: 0}
  RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64, OUT_FEATURES: [res2, res3, res4, res5]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6], PRE_NMS_TOPK_TRAIN: 2000, PRE_NMS_TOPK_TEST: 1000, POST_NMS_TOPK_TRAIN: 1000}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5]}
  FPN: {IN_FEATURES: [res2, res3, res4, res5], OUT_CHANNELS: 256, NORM: SyncBN}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, POOLER_RESOLUTION: 7, NUM_CONV: 0, NUM_FC: 2, NORM: ""}
  ROI_MASK_HEAD: {NAME: MaskRCNNConvUpsampleHead, POOLER_RESOLUTION: 14, NUM_CONV: 4, NORM: ""}
"""
TRAINED = """
INPUT: {MAX_SIZE_TRAIN: 1333}
SOLVER: {IMS_PER_BATCH: 16, BASE_LR: 0.02, MOMENTUM: 0.9, WEIGHT_DECAY: 0.0001, WEIGHT_DECAY_NORM: 0.0, GAMMA: 0.1}
TEST: {PRECISE_BN: {ENABLED: true, NUM_ITER: 200}}
"""
SHORT = "[480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]"


def merged(*texts: str) -> dict[str, Any]:
    """The settings of several YAML texts together; a later one wins."""

    def into(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        both = {k: into(one[k], v) if isinstance(one.get(k), dict) else v for k, v in other.items()}
        return {**one, **both}

    return functools.reduce(into, map(yaml.safe_load, texts))


def test_the_configuration_builds_the_model_that_was_converted(tmp_path: Path) -> None:
    lines = convert(ours(tmp_path, MASKED), "detectron2", tmp_path / "model.pth")
    assert "name your data sets" in lines[1]
    text = (tmp_path / "model.yaml").read_text()
    assert "cat, dog, cow" in text
    own = f"""
    MODEL:
      WEIGHTS: {tmp_path / "model.pth"}
      MASK_ON: true
      RPN: {{POST_NMS_TOPK_TEST: 1000}}
      ROI_HEADS: {{NUM_CLASSES: 3, BATCH_SIZE_PER_IMAGE: 128}}
    INPUT: {{MIN_SIZE_TEST: 240, MAX_SIZE_TEST: 400}}
    """
    assert yaml.safe_load(text) == merged(COMMON, OF_FPN, own)
    convert(ours(tmp_path, OF_COCO), "detectron2", tmp_path / "model.pth")
    config = yaml.safe_load((tmp_path / "model.yaml").read_text())
    head = config["MODEL"]["ROI_BOX_HEAD"]
    assert (head["NUM_CONV"], head["NUM_FC"], head["NORM"]) == (4, 1, "SyncBN")
    assert "ROI_MASK_HEAD" not in config["MODEL"]
    assert config["DATASETS"] == {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]}


def test_a_backbone_with_mocos_recipes(tmp_path: Path) -> None:
    file = tmp_path / "r50.pkl"
    lines = convert("random:resnet50", "detectron2", file)
    content = pickle.loads(file.read_bytes())
    assert content["matching_heuristics"] is True
    weights = load("random:resnet50").backbone.state_dict()["layer4.2.conv3.weight"].numpy()
    assert np.array_equal(content["model"]["res5.2.conv3.weight"], weights)
    text = (tmp_path / "r50.yaml").read_text()
    assert "&" not in text
    assert "# Res5ROIHeadsExtraNorm is a class of MoCo's" in text
    own = f"""
    MODEL: {{WEIGHTS: {file}, MASK_ON: false, RPN: {{POST_NMS_TOPK_TEST: 1000}}, ROI_HEADS: {{NUM_CLASSES: 20}}}}
    INPUT: {{MIN_SIZE_TRAIN: {SHORT}}}
    DATASETS: {{TRAIN: [voc_2007_trainval, voc_2012_trainval], TEST: [voc_2007_test]}}
    SOLVER: {{STEPS: [18000, 22000], MAX_ITER: 24000, WARMUP_ITERS: 100}}
    """
    assert yaml.safe_load(text) == merged(COMMON, OF_C4, TRAINED, own)
    command = f"python train_net.py --num-gpus 8 --config-file {tmp_path / 'r50.yaml'}"
    assert lines[-1] == f"to train it, in MoCo's detection/: {command}"
    for arch, recipe, steps, last in (
        ("resnet50", "coco-c4-2x", [120000, 160000], 180000),
        ("resnet18", "coco-fpn-1x", [60000, 80000], 90000),
    ):
        lines = convert(f"random:{arch}", "detectron2", file, recipe=recipe)
        text = (tmp_path / "r50.yaml").read_text()
        config = yaml.safe_load(text)
        assert (config["MODEL"]["MASK_ON"], config["MODEL"]["ROI_HEADS"]["NUM_CLASSES"]) == (True, 80)
        solver = {"STEPS": steps, "MAX_ITER": last, "WARMUP_ITERS": 1000}
        assert config["SOLVER"] == merged(TRAINED)["SOLVER"] | solver
        assert config["INPUT"]["MIN_SIZE_TRAIN"] == [640, 672, 704, 736, 768, 800]
    assert "tools/" in lines[-1]
    assert config["MODEL"]["ROI_MASK_HEAD"]["NORM"] == config["MODEL"]["FPN"]["NORM"] == "SyncBN"
    assert "MoCo" not in text


def test_files_are_not_written_over_their_source_or_under_wrong_names(tmp_path: Path) -> None:
    source = ours(tmp_path, FPN)
    with pytest.raises(ValueError, match=r"model\.npz is no name .* end with \.pth or \.pt"):
        convert(source, "detectron2", tmp_path / "model.npz")
    for name in (source, source.parent.parent):
        with pytest.raises(ValueError, match="is what is to be converted"):
            convert(name, "detectron2", source)
    with pytest.raises(ValueError, match="is a checkpoint of ours already"):
        convert(source, "plrc", tmp_path / "more.pt")
    for neck, arch in (("fpn", "tiny"), ("c4", "resnet18")):
        unknown = ours(tmp_path / "run", Architecture(arch=arch, neck=neck, classes=("a",)))
        with pytest.raises(ValueError, match=f"Detectron2 has no {arch}-{neck.upper()}: take"):
            convert(unknown, "detectron2", tmp_path / "out" / "model.pth")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("checkpoint", "out", "more", "message"),
    [
        ("random:tiny", "a.pkl", {"recipe": "coco-fpn-1x"}, "Detectron2 has no tiny"),
        ("random:resnet18", "a.pkl", {}, "no resnet18-C4"),
        ("random:resnet50", "a.pkl", {"recipe": "small"}, "--recipe must be one of"),
        ("random:resnet50", "a.pkl", {"classes": ("a",)}, "--classes are a detector's"),
        ("random:resnet50", "a.pth", {"recipe": "voc-c4-24k"}, "--recipe is for a backbone"),
        ("random:resnet50", "a.pth", {}, "there is no file or folder random:resnet50"),
        ("random:resnet50", "", {}, "--out is missing"),
    ],
)
def test_a_conversion_that_cannot_be_is_one_sentence(checkpoint, out, more, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        convert(checkpoint, "detectron2", tmp_path / out if out else out, **more)
    assert not list(tmp_path.iterdir())
