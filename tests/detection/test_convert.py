"""There and back between Detectron2 and us, to the bit; and the configurations beside the files."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from plrc.backbones import build
from plrc.checkpoint import DETECTOR
from plrc.detection.classes import COCO_CLASSES, VOC_CLASSES
from plrc.detection.convert import backbone_file, from_detectron2_file, to_detectron2_file
from plrc.detection.design import Design
from plrc.detection.detector import Detector
from plrc.detection.detectron2 import to_detectron2
from plrc.detection.loading import LoadedDetector, load_detector
from plrc.pretrained import CheckpointInfo, Pretrained

FPN = Design(arch="resnet18", neck="fpn", classes=("cat", "dog", "cow"), masks=True, roi_per_image=128)
NORMALISED = Design(arch="resnet18", neck="fpn", classes=COCO_CLASSES, head_norm=True)
C4 = Design(arch="resnet50", neck="c4", classes=VOC_CLASSES)


@functools.cache
def trained(design: Design) -> Detector:
    """A detector none of whose tensors is as at the start."""
    torch.manual_seed(4)
    detector = Detector(design).eval()
    for name, tensor in detector.state_dict().items():
        if name.endswith("tracked"):
            tensor.fill_(7)
        elif tensor.ndim == 1:
            tensor.copy_(0.5 + torch.rand_like(tensor))
    return detector


def loaded(design: Design, path: Path = Path("runs/a/checkpoints/last.pt")) -> LoadedDetector:
    ids = tuple(range(2, 2 + len(design.classes)))
    return LoadedDetector(trained(design), ids, 640, 900, path, DETECTOR, "step 9")


def read_yaml(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


# ----------------------------------------------------------------------------------------------------------- detectors


@pytest.mark.parametrize("design", [FPN, NORMALISED, C4], ids=["fpn-mask", "fpn-head-norm", "c4"])
def test_there_and_back_is_the_same_to_the_bit(design: Design, tmp_path: Path) -> None:
    wanted = trained(design).state_dict()
    there, back = tmp_path / "there" / "model.pth", tmp_path / "back.pt"
    to_detectron2_file(loaded(design), there)
    content = torch.load(there, weights_only=True)
    assert set(content) == {"model", "__author__", "classes", "category_ids", "test_short_side", "longest"}
    assert list(content["model"]) == [to_detectron2(name, design) for name in wanted]
    from_detectron2_file(there, back)
    for file in (there, back):
        again = load_detector(file)
        found = again.detector.state_dict()
        assert list(found) == list(wanted)
        for name, tensor in wanted.items():
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name], tensor), name
        assert (again.design.classes, again.category_ids[:2]) == (design.classes, (2, 3))
        assert (again.test_short_side, again.longest) == (640, 900)
        assert "taken as RGB" in again.note
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["back.pt", "model.pth", "model.yaml"]


def test_foreign_file_becomes_a_checkpoint_of_ours(tmp_path: Path) -> None:
    model = {to_detectron2(name, FPN): t for name, t in trained(FPN).state_dict().items() if "tracked" not in name}
    torch.save({"model": model, "iteration": 89999}, tmp_path / "model_final.pth")
    lines = from_detectron2_file(tmp_path / "model_final.pth", tmp_path / "ours.pt", ("a", "b", "c"))
    assert "plrc detect eval" in lines[-1]
    again = load_detector(tmp_path / "ours.pt")
    assert (again.format, again.design.classes, again.category_ids) == (DETECTOR, ("a", "b", "c"), (1, 2, 3))
    assert (again.test_short_side, again.longest) == (800, 1333)
    assert again.note.startswith("iteration 89999; taken as RGB")


def test_configuration_builds_the_model_that_was_converted(tmp_path: Path) -> None:
    lines = to_detectron2_file(loaded(FPN), tmp_path / "model.pth")
    assert "name your data sets" in lines[1]
    text = (tmp_path / "model.yaml").read_text()
    assert "cat, dog, cow" in text
    assert "_BASE_" not in text
    assert read_yaml(tmp_path / "model.yaml") == {
        "VERSION": 2,
        "MODEL": {
            "META_ARCHITECTURE": "GeneralizedRCNN",
            "WEIGHTS": str(tmp_path / "model.pth"),
            "MASK_ON": True,
            "PIXEL_MEAN": [123.675, 116.28, 103.53],
            "PIXEL_STD": [58.395, 57.12, 57.375],
            "BACKBONE": {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 0},
            "RESNETS": {
                "DEPTH": 18,
                "NORM": "SyncBN",
                "STRIDE_IN_1X1": False,
                "RES2_OUT_CHANNELS": 64,
                "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
            },
            "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128], [256], [512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
            "RPN": {
                "IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
                "PRE_NMS_TOPK_TRAIN": 2000,
                "PRE_NMS_TOPK_TEST": 1000,
                "POST_NMS_TOPK_TRAIN": 1000,
                "POST_NMS_TOPK_TEST": 1000,
            },
            "ROI_HEADS": {
                "NAME": "StandardROIHeads",
                "IN_FEATURES": ["p2", "p3", "p4", "p5"],
                "NUM_CLASSES": 3,
                "BATCH_SIZE_PER_IMAGE": 128,
            },
            "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"], "OUT_CHANNELS": 256, "NORM": "SyncBN"},
            "ROI_BOX_HEAD": {
                "NAME": "FastRCNNConvFCHead",
                "POOLER_RESOLUTION": 7,
                "NUM_CONV": 0,
                "NUM_FC": 2,
                "NORM": "",
            },
            "ROI_MASK_HEAD": {
                "NAME": "MaskRCNNConvUpsampleHead",
                "POOLER_RESOLUTION": 14,
                "NUM_CONV": 4,
                "NORM": "",
            },
        },
        "INPUT": {"FORMAT": "RGB", "MIN_SIZE_TEST": 640, "MAX_SIZE_TEST": 900},
    }


def test_normalised_heads_and_known_data_are_in_the_configuration(tmp_path: Path) -> None:
    to_detectron2_file(loaded(NORMALISED), tmp_path / "model.pth")
    config = read_yaml(tmp_path / "model.yaml")
    head = config["MODEL"]["ROI_BOX_HEAD"]
    assert (head["NUM_CONV"], head["NUM_FC"], head["NORM"]) == (4, 1, "SyncBN")
    assert "ROI_MASK_HEAD" not in config["MODEL"]
    assert config["DATASETS"] == {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]}


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (Design(arch="tiny", neck="fpn", classes=("a",)), "no tiny network"),
        (Design(arch="resnet18", neck="c4", classes=("a",)), "no resnet18-C4"),
    ],
)
def test_what_detectron2_cannot_build_is_not_written(design: Design, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        to_detectron2_file(loaded(design), tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


def test_files_are_not_written_over_their_source_or_under_wrong_names(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    with pytest.raises(ValueError, match=r"model\.pkl is no name .* end with \.pth or \.pt"):
        to_detectron2_file(loaded(FPN), tmp_path / "model.pkl")
    to_detectron2_file(loaded(FPN), file)
    with pytest.raises(ValueError, match="is what is to be converted"):
        to_detectron2_file(loaded(FPN, file), file)
    with pytest.raises(ValueError, match="is what is to be converted"):
        from_detectron2_file(file, file)
    from_detectron2_file(file, tmp_path / "ours.pt")
    with pytest.raises(ValueError, match="is a checkpoint of ours already"):
        from_detectron2_file(tmp_path / "ours.pt", tmp_path / "more.pt")


# -------------------------------------------------------------------------------------------------------------- trunks


def pretrained(arch: str) -> Pretrained:
    torch.manual_seed(0)
    trunk = build(arch)
    return Pretrained(trunk, {}, CheckpointInfo("demo/last", None, "PLRC run", "query", arch, None, ""))


COMMON = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "PIXEL_MEAN": [123.675, 116.28, 103.53],
    "PIXEL_STD": [58.395, 57.12, 57.375],
}
C4_PARTS = {
    "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 0},
    "RESNETS": {"DEPTH": 50, "NORM": "SyncBN", "STRIDE_IN_1X1": False, "OUT_FEATURES": ["res4"]},
    "ANCHOR_GENERATOR": {"SIZES": [[32, 64, 128, 256, 512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
    "RPN": {
        "IN_FEATURES": ["res4"],
        "PRE_NMS_TOPK_TRAIN": 12000,
        "PRE_NMS_TOPK_TEST": 6000,
        "POST_NMS_TOPK_TRAIN": 2000,
        "POST_NMS_TOPK_TEST": 1000,
    },
}


def solver(steps: list[int], last: int, warmup: int) -> dict[str, Any]:
    return {
        "IMS_PER_BATCH": 16,
        "BASE_LR": 0.02,
        "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 1e-4,
        "WEIGHT_DECAY_NORM": 0.0,
        "STEPS": steps,
        "GAMMA": 0.1,
        "MAX_ITER": last,
        "WARMUP_ITERS": warmup,
    }


def test_trunk_with_mocos_recipe_for_voc(tmp_path: Path) -> None:
    file = tmp_path / "trunk.pkl"
    lines = backbone_file(pretrained("resnet50"), file, "voc-c4-24k")
    content = pickle.loads(file.read_bytes())
    assert content["matching_heuristics"] is True
    weights = pretrained("resnet50").backbone.state_dict()["layer4.2.conv3.weight"].numpy()
    assert np.array_equal(content["model"]["res5.2.conv3.weight"], weights)
    text = (tmp_path / "trunk.yaml").read_text()
    assert "&" not in text
    assert "# Res5ROIHeadsExtraNorm is a class of MoCo's" in text
    heads = {"NAME": "Res5ROIHeadsExtraNorm", "IN_FEATURES": ["res4"], "NUM_CLASSES": 20, "BATCH_SIZE_PER_IMAGE": 512}
    assert yaml.safe_load(text) == {
        "VERSION": 2,
        "MODEL": {**COMMON, **C4_PARTS, "WEIGHTS": str(file), "MASK_ON": False, "ROI_HEADS": heads},
        "INPUT": {
            "FORMAT": "RGB",
            "MIN_SIZE_TRAIN": [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800],
            "MAX_SIZE_TRAIN": 1333,
            "MIN_SIZE_TEST": 800,
            "MAX_SIZE_TEST": 1333,
        },
        "DATASETS": {"TRAIN": ["voc_2007_trainval", "voc_2012_trainval"], "TEST": ["voc_2007_test"]},
        "SOLVER": solver([18000, 22000], 24000, 100),
        "TEST": {"PRECISE_BN": {"ENABLED": True, "NUM_ITER": 200}},
    }
    command = f"python train_net.py --num-gpus 8 --config-file {tmp_path / 'trunk.yaml'}"
    assert lines[-1] == f"to train it, in MoCo's detection/: {command}"


def test_trunk_with_the_recipes_for_coco(tmp_path: Path) -> None:
    backbone_file(pretrained("resnet50"), tmp_path / "c4.pkl", "coco-c4-2x")
    c4 = read_yaml(tmp_path / "c4.yaml")
    assert {name: c4["MODEL"][name] for name in C4_PARTS} == C4_PARTS
    assert (c4["MODEL"]["MASK_ON"], c4["MODEL"]["ROI_HEADS"]["NUM_CLASSES"]) == (True, 80)
    assert c4["SOLVER"] == solver([120000, 160000], 180000, 1000)
    assert c4["INPUT"]["MIN_SIZE_TRAIN"] == [640, 672, 704, 736, 768, 800]
    assert c4["DATASETS"] == {"TRAIN": ["coco_2017_train"], "TEST": ["coco_2017_val"]}

    lines = backbone_file(pretrained("resnet18"), tmp_path / "fpn.pkl", "coco-fpn-1x")
    assert "tools/" in lines[-1]
    fpn = read_yaml(tmp_path / "fpn.yaml")
    assert fpn["SOLVER"] == solver([60000, 80000], 90000, 1000)
    assert fpn["MODEL"]["RESNETS"]["RES2_OUT_CHANNELS"] == 64
    assert fpn["MODEL"]["FPN"]["NORM"] == "SyncBN"
    assert fpn["MODEL"]["MASK_ON"] is True
    assert "MoCo" not in (tmp_path / "fpn.yaml").read_text()


@pytest.mark.parametrize(
    ("arch", "recipe", "message"),
    [
        ("resnet50", "small", "no recipe 'small' for Detectron2: choose one of voc-c4-24k, coco-c4-2x, coco-fpn-1x"),
        ("tiny", "coco-fpn-1x", "no tiny network"),
        ("tiny", "voc-c4-24k", "no tiny network"),
        ("resnet18", "voc-c4-24k", "no resnet18-C4"),
    ],
)
def test_trunk_that_no_recipe_fits_is_refused(arch: str, recipe: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        backbone_file(pretrained(arch), tmp_path / "trunk.pkl", recipe)
    assert not list(tmp_path.iterdir())
