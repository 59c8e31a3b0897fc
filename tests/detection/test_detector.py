"""The whole detector: it learns, every parameter does, and nothing breaks where there is nothing to find."""

import statistics

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from plrc.backbones import build
from plrc.detection.detector import Architecture, Detector
from plrc.detection.stages import Detections, Regions, Target

CLASSES = ("red", "green")
TINY = Architecture(arch="tiny", neck="fpn", classes=CLASSES, roi_per_image=32)
ARCHITECTURES = {
    "tiny-mask": Architecture(arch="tiny", neck="fpn", classes=CLASSES, masks=True, head_norm=True, roi_per_image=8),
    "c4-mask": Architecture(arch="resnet18", neck="c4", classes=CLASSES, masks=True, roi_per_image=8),
    "fpn": Architecture(arch="resnet18", neck="fpn", classes=CLASSES, roi_per_image=8),
    "timm": Architecture(arch="timm:convnext_atto", neck="fpn", classes=CLASSES, roi_per_image=8),
}
TERMS = {"rpn_objectness", "rpn_box", "box_class", "box_regression"}


def detector(architecture: Architecture, sure: bool = False) -> Detector:
    """With few proposals, which is all that makes it quicker; and sure of the classes of some, as if it was trained."""
    torch.manual_seed(0)
    model = Detector(architecture)
    model.rpn.limits = {True: (100, 30), False: (100, 20)}
    if sure:
        torch.nn.init.normal_(model.box_predictor.cls_score.weight, std=0.3)
    return model


def scene(objects: dict[tuple[int, int, int, int], int], height: int = 64, width: int = 96) -> tuple[Tensor, Target]:
    """A dark noisy picture with a bright rectangle for each box: the label is its colour channel."""
    generator = torch.Generator().manual_seed(7)
    image = torch.randint(0, 50, (3, height, width), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(len(objects), height, width, dtype=torch.bool)
    for mask, ((x0, y0, x1, y1), label) in zip(masks, objects.items(), strict=True):
        mask[y0:y1, x0:x1] = True
        image[label, mask] = 255
    boxes = torch.tensor(list(objects), dtype=torch.float32).view(-1, 4)
    return image, Target(boxes, torch.tensor(list(objects.values()), dtype=torch.int64), masks)


ONE = {(10, 12, 40, 44): 0, (52, 8, 88, 36): 1}
NOTHING: dict[tuple[int, int, int, int], int] = {}


def find(model: Detector, images: list[Tensor]) -> list[Detections]:
    model.eval()
    with torch.inference_mode():
        return model(images)


def test_learns_one_picture_and_finds_its_objects() -> None:
    model = detector(TINY)
    image, target = scene(ONE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    totals = []
    for _ in range(30):
        total = torch.stack(list(model([image] * 2, [target] * 2).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert statistics.median(totals[-9:]) < 0.5 * totals[0], totals  # a step now and then draws odd proposals
    found = find(model, [image])[0]
    best = found.scores > 0.5
    overlap = box_iou(target.boxes, found.boxes[best])
    assert (overlap.amax(1) > 0.7).all(), found
    assert torch.equal(found.labels[best][overlap.argmax(1)], target.labels)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_gets_a_gradient_with_and_without_objects(name: str) -> None:
    model = detector(ARCHITECTURES[name])
    one, nothing = scene(ONE), scene(NOTHING, 50, 70)
    for pictures in ([one, nothing], [nothing, nothing]):
        model.zero_grad()
        terms = model([image for image, _ in pictures], [target for _, target in pictures])
        assert set(terms) == (TERMS | {"mask"} if model.architecture.masks else TERMS)
        assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
        assert not missing
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert terms["box_regression"] == terms["rpn_box"] == 0
    assert terms.get("mask", 0) == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_detections_have_the_promised_shapes_and_to_find_nothing_is_no_error(name: str) -> None:
    model = detector(ARCHITECTURES[name], sure=True)
    sizes = [(64, 96), (50, 70)]
    side = 14 if model.architecture.neck == "c4" else 28
    images = [scene(ONE, *size)[0] for size in sizes]
    for found, (height, width) in zip(find(model, images), sizes, strict=True):
        count = len(found.boxes)
        assert 0 < count <= 100
        assert found.boxes.dtype == found.scores.dtype == torch.float32
        assert (found.scores.diff() <= 0).all()
        assert (found.scores > 0.05).all()
        assert set(found.labels.tolist()) <= {0, 1}
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height] * 2)).all()
        assert (found.masks is not None) == model.architecture.masks
        if found.masks is not None:
            assert found.masks.shape == (count, side, side)
            assert ((found.masks >= 0) & (found.masks <= 1)).all()
    with torch.no_grad():
        model.box_predictor.cls_score.bias[-1] = 50  # all is background
    for found in find(model, images):
        assert found.boxes.shape == (0, 4)
        assert found.masks is None or found.masks.shape[0] == 0
    model.rpn.limits[False] = (100, 0)  # not even a proposal
    assert len(find(model, images)[0].boxes) == 0


def test_a_picture_in_a_batch_gives_what_it_gives_alone() -> None:
    """Where it is padded to the same size; else cells at its right and bottom border see padding, as in Detectron2."""
    model = detector(TINY, sure=True)
    images = [scene(ONE, *size)[0] for size in ((64, 96), (50, 70), (33, 90))]
    together = find(model, images)
    for image, found in zip(images, together, strict=True):
        alone = find(model, [image])[0]
        assert len(alone.boxes) > 3
        torch.testing.assert_close(found.boxes, alone.boxes, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.scores, alone.scores, rtol=0, atol=1e-4)
        assert torch.equal(found.labels, alone.labels)


def test_pictures_are_normalised_and_then_padded_at_the_right_and_below() -> None:
    batches: list[Tensor] = []
    for name, shape in (("fpn", (64, 96)), ("c4-mask", (40, 70))):
        model = detector(ARCHITECTURES[name])
        model.backbone.get_submodule("conv1").register_forward_pre_hook(lambda _, given: batches.append(given[0]))
        image = torch.full((3, 40, 50), 255, dtype=torch.uint8)
        model.features([image, image.new_zeros(3, 33, 70)])
        batch = batches.pop()
        assert batch.shape == (2, 3, *shape)
        torch.testing.assert_close(batch[0, :, 39, 49], torch.tensor([2.2489083, 2.4285715, 2.64]))
        torch.testing.assert_close(batch[1, :, 32, 69], torch.tensor([-2.117904, -2.0357144, -1.8044444]))
        assert not batch[0, :, 40:].any()
        assert not batch[0, :, :, 50:].any()
        assert not batch[1, :, 33:].any()


@pytest.mark.parametrize("name", ["tiny-mask", "c4-mask"])
def test_bf16_autocast_trains_and_detects_in_float32_boxes(name: str) -> None:
    model = detector(ARCHITECTURES[name], sure=True)
    image, target = scene(ONE)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model([image], [target])
        found = find(model, [image])[0]
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert len(found.boxes) > 0
    assert found.boxes.dtype == found.scores.dtype == torch.float32


def test_a_step_repeats_with_the_seed() -> None:
    model, (image, target) = detector(TINY), scene(ONE)
    steps = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        steps.append([float(term.detach()) for term in model([image], [target]).values()])
    assert steps[0] == steps[1] != steps[2]


def test_c4_masks_see_the_regions_of_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage runs once in training: the mask head takes its maps of the very regions that hold objects."""
    model = detector(ARCHITECTURES["c4-mask"])
    maps: list[Tensor] = []
    labels = torch.tensor([2, 1, 2, 0])
    boxes = torch.tensor([[5.0, 5, 20, 20], [52, 8, 88, 36], [60, 40, 90, 60], [10, 12, 40, 44]])
    regions = [Regions(boxes, labels, torch.tensor([0, 1, 0, 0]))]
    monkeypatch.setattr("plrc.detection.stages.sample_regions", lambda *_: regions)
    for head in (model.box_head, model.mask_predictor):
        head.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    image, target = scene(ONE)
    model([image], [target])
    assert torch.equal(maps[1], maps[0][[1, 3]])


def test_a_pre_trained_trunk_becomes_part_of_the_detector() -> None:
    trunk = build("resnet18")
    model = Detector(ARCHITECTURES["fpn"], trunk)
    assert model.backbone is trunk
    assert {id(p) for p in trunk.parameters()} <= {id(p) for p in model.parameters()}
    names = set(model.state_dict())
    assert "backbone.layer4.1.bn2.weight" in names
    assert not any(name.startswith(("mean", "std", "rpn.cells")) for name in names)


def test_input_that_cannot_be_trained_on_is_an_error() -> None:
    model = detector(TINY)
    image, target = scene(ONE)
    with pytest.raises(ValueError, match="training needs targets"):
        model([image])
    with pytest.raises(ValueError, match="2 images"):
        model([image, image], [target])
    flat = Target(torch.tensor([[10.0, 10, 10, 30]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="without area"):
        model([image], [flat])
    masked = detector(ARCHITECTURES["tiny-mask"])
    with pytest.raises(ValueError, match="without masks"):
        masked([image], [Target(target.boxes, target.labels)])


@pytest.mark.parametrize(
    ("arch", "neck", "message"),
    [
        ("tiny", "c4", "tiny has no fifth stage to be C4's head: choose the neck fpn, or a ResNet"),
        ("timm:vit_tiny_patch16_224", "fpn", "a feature pyramid needs maps at strides 4, 8"),
        ("resnet19", "fpn", "unknown backbone 'resnet19'"),
    ],
)
def test_a_backbone_without_the_maps_of_the_neck_is_an_error(arch: str, neck: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(Architecture(arch=arch, neck=neck, classes=CLASSES))
