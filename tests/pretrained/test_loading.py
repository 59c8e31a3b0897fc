"""Checkpoints of every known format, fabricated from one known network, load to its feature maps; names do too."""

from __future__ import annotations

import hashlib
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18, resnet50, resnext50_32x4d

from plrc.backbones import build
from plrc.checkpoint import load_checkpoint, save_checkpoint
from plrc.config import load_config
from plrc.model import PLRC
from plrc.pretrained import Pretrained, load
from tests.pretrained.fabricated import (
    CASES,
    IMAGES,
    KEY,
    QUERY,
    alive,
    at_every_position,
    maps_of,
    network,
    tensors_of,
)

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts"


def written(content: Any, file: Path) -> Path:
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps(content, protocol=4))
    elif file.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(content, file)
    else:
        torch.save(content, file)
    return file


def check(pretrained: Pretrained, trunk: nn.Module, heads: dict[str, nn.Module], tolerance: float = 1e-5) -> None:
    with torch.no_grad():
        expected = maps_of(trunk)
        maps = pretrained.backbone.maps(IMAGES)
    for layer, known in expected.items():
        torch.testing.assert_close(maps[layer], known, rtol=tolerance, atol=tolerance)
    assert set(pretrained.heads) == set(heads)
    for name, head in heads.items():
        with torch.no_grad():
            known = at_every_position(head, expected["c5"])
            torch.testing.assert_close(pretrained.heads[name](expected["c5"]), known, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_the_known_network(name, tmp_path):
    case = CASES[name]()
    file = written(case.content, tmp_path / f"some_model{case.suffix}")
    before = torch.random.get_rng_state()
    for i, (branch, (trunk, heads)) in enumerate(case.branches.items()):
        pretrained = load(file, branch if i else None)  # the first is the default
        check(pretrained, trunk, heads)
        assert (pretrained.origin.format, pretrained.origin.branch) == (case.layout, branch)
        assert (pretrained.origin.name, pretrained.origin.arch) == ("some_model", "small")
        if i == 0:
            taken = "; taken as RGB" if case.note else "taken as RGB"
            note, _, caution = pretrained.origin.note.partition(taken)
            assert note == case.note
            assert ("BGR" in caution) == (case.layout == "Detectron2")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not pretrained.backbone.training
    choices = "choose" if len(case.branches) > 1 else "one network only"
    with pytest.raises(ValueError, match=rf"some_model.* has no branch 'ema': .*{choices}"):
        load(file, "ema")


def test_counters_of_batchnorm_and_half_precision_do_not_matter(tmp_path):
    state = {name: t.half() for name, t in QUERY.state_dict().items() if not name.endswith("tracked")}
    file = written({"state_dict": state}, tmp_path / "half.ckpt")
    pretrained = load(file)
    assert pretrained.origin.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    check(pretrained, QUERY, {}, tolerance=0.05)
    assert {t.dtype for t in pretrained.backbone.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [resnet50, resnext50_32x4d], ids=lambda make: make.__name__)
def test_torchvisions_networks_are_known_by_their_tensors(make):
    trunk = network(4, make)
    pretrained = load(trunk)
    check(pretrained, trunk, {})
    assert (pretrained.origin.arch, pretrained.backbone.width, pretrained.backbone.stride) == (make.__name__, 2048, 32)


# ------------------------------------------------------------------------------------------------------- timm's models


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    return alive(timm.create_model("convnext_atto", num_classes=10), 3)


def assert_is(pretrained: Pretrained, model: nn.Module, arch: str = "convnext_atto") -> None:
    """The maps are those of timm's own model."""
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = pretrained.backbone.maps(images)
        last = model.forward_intermediates(images, intermediates_only=True)[-1]
    torch.testing.assert_close(maps[pretrained.backbone.layers[-1]], last)
    assert pretrained.origin.arch == arch


def test_a_file_of_timms_says_which_model_it_is(convnext, tmp_path):
    trained = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "arch": "convnext_atto", "state_dict": convnext.state_dict()}, trained)
    assert_is(load(trained), convnext)
    assert (load(trained).origin.format, load(trained).origin.note) == ("timm's names", "not used: head")
    bare = tmp_path / "model.safetensors"
    written(convnext.state_dict(), bare)
    with pytest.raises(ValueError, match=r"holds no network that is known here: .*timm:NAME@FILE"):
        load(bare)
    assert_is(load(f"timm:convnext_atto@{bare}"), convnext)
    assert_is(load(bare, arch="convnext_atto"), convnext)
    (tmp_path / "config.json").write_text('{"architecture": "convnext_atto", "num_classes": 10}')
    assert_is(load(bare), convnext)
    with pytest.raises(ValueError, match=r"looks like a resnet18d, but not a whole one|holds no network"):
        load(bare, arch="resnet18d")


def test_a_run_on_a_timm_model_is_a_run_like_any_other(tmp_path):
    config = load_config("demo", given={"arch": "convnext_atto", "queue_size": 64, "epochs": 4})
    torch.manual_seed(0)
    model = PLRC(config).eval()
    content = {"step": 30, "epoch": 3.0, "ranks": 1, "config": config.to_dict(), "model": model.state_dict()}
    save_checkpoint(tmp_path / "last.pt", content)
    for pretrained in (load(tmp_path / "last.pt"), load(model.query_encoder)):
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            z = pretrained.heads["projector"](pretrained.backbone(images))
            torch.testing.assert_close(z, model.query_encoder(images))
        assert pretrained.origin.arch == "convnext_atto"


@pytest.mark.parametrize(
    ("arch", "wrap"),
    [
        ("vit_small_patch14_dinov2", lambda state: state),
        ("vit_small_patch16_224", lambda state: {"teacher": {f"backbone.{name}": t for name, t in state.items()}}),
        ("vit_small_patch16_dinov3", lambda state: {"model": state}),
    ],
)
def test_vits_are_known_by_their_tensors(arch, wrap, tmp_path):
    torch.manual_seed(1)
    model = timm.create_model(arch, num_classes=0, dynamic_img_size=True).eval()
    state = {**model.state_dict(), "mask_token": torch.zeros(1, 1)}
    pretrained = load(written(wrap(state), tmp_path / "vit.pth"))
    side = 4 * pretrained.backbone.multiple
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        own = images * pretrained.backbone.scale + pretrained.backbone.shift  # timm's mean and std
        tokens = model.forward_intermediates(own, indices=[11], norm=True, intermediates_only=True)[0]
        torch.testing.assert_close(pretrained.backbone(images), tokens)
    assert pretrained.origin.arch == arch


def test_timm_names_load_as_timm_does(convnext, monkeypatch):
    """Through timm's own loading code; what comes over the network is put in its place."""
    asked = []

    def given(model_id, *_, **options):
        asked.append((model_id, options["weights_only"]))
        return timm.create_model("convnext_atto", num_classes=1000).state_dict() | {
            name: t for name, t in convnext.state_dict().items() if not name.startswith("head.fc")
        }

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", given)
    before = torch.random.get_rng_state()
    pretrained = load("timm:convnext_atto")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert asked == [("timm/convnext_atto.d2_in1k", True)]
    assert_is(pretrained, convnext)
    assert (pretrained.origin.name, pretrained.origin.format) == ("timm:convnext_atto", "timm name")

    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(ValueError, match=r"timm:convnext_atto: .*not known.*@FILE, or .*random:timm"):
        load("timm:convnext_atto")


# ------------------------------------------------------------------------------------------- what lies in memory


def test_a_state_dict_a_module_and_a_backbone(tmp_path):
    case = CASES["MoCo v2"]()
    check(load(case.content), QUERY, case.branches["query"][1])
    check(load(case.content, "key"), KEY, case.branches["key"][1])
    check(load(QUERY), QUERY, {})
    origin = load(QUERY).origin
    assert (origin.name, origin.path, origin.arch) == ("Small", None, "small")
    backbone = build("small")
    taken = load(backbone)
    assert taken.backbone is not backbone
    assert torch.equal(taken.backbone(IMAGES), backbone.eval()(IMAGES))
    for given, message in (
        (nn.Linear(2, 2), "the module Linear holds no network"),
        ({}, "the state dict holds no"),
        (3, "from a int"),
    ):
        with pytest.raises(ValueError, match=message):
            load(given)


# --------------------------------------------------------------------------------------------------- the released PLRC


def test_the_released_layout_gives_the_golden_maps(tmp_path):
    keys, golden_file = FACTS / "plrc_release_checkpoint_keys.txt", FACTS / "plrc_release_golden.npz"
    if not golden_file.is_file():
        pytest.skip("../shared/facts is missing: the golden maps of the released code, which only the project's CI has")
    golden = {name: torch.from_numpy(values) for name, values in np.load(golden_file).items()}
    state, sums = {}, []
    for line in keys.read_text().splitlines():
        name, _, rest = line.partition(" ")
        if ".encoder_q.enc." not in name:
            continue
        shape = [int(n) for n in rest[1 : rest.index(")")].split(",") if n.strip()]
        g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros(shape, dtype=torch.long)
        elif name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
            state[name] = 1 + 0.2 * torch.rand(shape, generator=g)
        elif len(shape) == 1:
            state[name] = 0.1 * torch.randn(shape, generator=g)
        else:
            state[name] = torch.randn(shape, generator=g)
            state[name] *= (1 / state[name][0].numel()) ** 0.5
    sums = [state[name].double().sum() for name in sorted(n for n, t in state.items() if t.ndim == 4)[:5]]
    torch.testing.assert_close(torch.stack(sums), golden["weight_check"], rtol=1e-5, atol=1e-5)

    pretrained = load(written({"epoch": 1, "state_dict": state}, tmp_path / "released.pth.tar"))
    images = F.interpolate(golden["x_small"], (224, 288), mode="bilinear", align_corners=False)
    with torch.no_grad():
        maps = pretrained.backbone.maps(images)
        outputs = {
            "c4_mean": maps["c4"].mean(),
            "c5_slice": maps["c5"][:, :16],
            "head128": pretrained.heads["projector"](maps["c5"]),
            "head256": pretrained.heads["head256"](maps["c5"]),
        }
    for name, output in outputs.items():
        known = golden[name].reshape(output.shape)
        assert (output - known).abs().max() <= 1e-4 * known.abs().max(), name


# ------------------------------------------------------------------------------------------------------------- our own


@pytest.mark.parametrize("arch", ["tiny", "small"])
def test_a_run_of_ours_by_folder_and_by_file(arch, tmp_path):
    config = load_config("demo", given={"arch": arch, "queue_size": 64, "epochs": 4})
    torch.manual_seed(0)
    model = alive(PLRC(config), 5)
    with torch.no_grad():
        for parameter in model.key_encoder.parameters():
            parameter.mul_(0.9)
    content = {"step": 30, "epoch": 3.0, "ranks": 1, "config": config.to_dict(), "model": model.state_dict()}
    last = tmp_path / "runs" / "demo" / "checkpoints" / "last.pt"
    save_checkpoint(last, content, also=last.with_name("epoch_0003.pt"))
    for branch, encoder in (("query", model.query_encoder), ("key", model.key_encoder)):
        pretrained = load(tmp_path / "runs" / "demo", branch)
        origin = pretrained.origin
        assert (origin.name, origin.path, origin.branch) == ("demo/last", last, branch)
        assert (origin.format, origin.arch, origin.note) == ("PLRC run", arch, "step 30 of 40")
        with torch.no_grad():
            assert torch.equal(pretrained.backbone(IMAGES), encoder.backbone(IMAGES))
            z = pretrained.heads["projector"](encoder.backbone(IMAGES))
            torch.testing.assert_close(z, encoder(IMAGES))
    assert load(last.with_name("epoch_0003.pt")).origin.name == "demo/epoch_0003"
    behind, asked = load(f"{tmp_path}/runs/demo@key"), load(tmp_path / "runs" / "demo", "key")
    assert (behind.origin.name, behind.origin.branch) == ("demo/last key", "key")
    assert all(
        torch.equal(tensor, asked.backbone.state_dict()[name]) for name, tensor in behind.backbone.state_dict().items()
    )

    old = {name.replace(".backbone.", ".trunk."): tensor for name, tensor in content["model"].items()}
    save_checkpoint(last.with_name("old.pt"), {**content, "model": old})
    assert torch.equal(load(last.with_name("old.pt")).backbone(IMAGES), model.query_encoder.backbone(IMAGES))
    assert load_checkpoint(last.with_name("old.pt"))["model"].keys() == content["model"].keys()

    del content["model"]["query_encoder.backbone.layer2.0.conv2.weight"]
    save_checkpoint(last, content)
    with pytest.raises(ValueError, match=rf"{arch}.* lacks query_encoder\.backbone\.layer2\.0\.conv2\.weight"):
        load(last)
    torch.save({**content, "format": "plrc", "version": 99}, last)
    with pytest.raises(ValueError, match=r"last\.pt was written by a newer version of PLRC"):
        load(last)


@pytest.mark.parametrize(("name", "arch", "seed"), [("random:tiny", "tiny", 0), ("random:resnet18@3", "resnet18", 3)])
def test_random_weights_are_those_that_a_run_starts_from(name, arch, seed):
    config = load_config("demo", given={"arch": arch, "queue_size": 64})
    torch.manual_seed(seed)
    encoder = PLRC(config).query_encoder
    before = torch.random.get_rng_state()
    pretrained = load(name)
    assert torch.equal(torch.random.get_rng_state(), before)
    for module, known in ((pretrained.backbone, encoder.backbone), (pretrained.heads["projector"], encoder.projector)):
        assert all(
            torch.equal(a, b) for a, b in zip(module.state_dict().values(), known.state_dict().values(), strict=True)
        )
    origin = pretrained.origin
    assert (origin.name, origin.path, origin.format, origin.arch) == (name, None, "random", arch)
    assert not pretrained.backbone.training


def test_torchvision_names_download_as_torchvision_does(monkeypatch):
    asked = {}

    def given(url, **options):
        asked.update(options, url=url)
        return given_network.state_dict()

    given_network = network(1, resnet18)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", given)
    pretrained = load("torchvision:resnet18")
    assert asked["url"].startswith("https://download.pytorch.org/models/resnet18-")
    assert asked["weights_only"] is True
    check(pretrained, given_network, {})
    assert pretrained.origin.format == "torchvision name"
    assert "the classifier" in pretrained.origin.note

    def offline(url, **options):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"torchvision:resnet18 could not be downloaded .*not known.* give its path"):
        load("torchvision:resnet18")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "nowhere/model.pth",
            r"there is no file or folder nowhere/model\.pth: give a checkpoint file, .*random:resnet50",
        ),
        ("hub:resnet50", r"hub:resnet50 is no file, and hub: no kind of name: .*torchvision:resnet50.*random:resnet50"),
        ("timm:convnext_otto", r"timm has no model 'convnext_otto'"),
        ("random:vit", r"random:vit is not known: unknown backbone 'vit': choose one of tiny, resnet18"),
        ("random:tiny@x", r"random:tiny@x is not known"),
        ("random:tiny@key", r"random:tiny has no branch 'key'"),
        ("torchvision:vgg16", r"torchvision:vgg16 is not known: torchvision: takes resnet18, "),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(given)
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no checkpoints/last\.pt"):
        load(tmp_path)


def test_heads_that_are_not_understood_are_left_out_and_named(tmp_path):
    case = CASES["MoCo v2"]()
    del tensors_of(case)["module.encoder_q.fc.2.weight"]
    pretrained = load(written(case.content, tmp_path / "moco.pth"))
    assert pretrained.heads == {}
    assert pretrained.origin.note.startswith("head projector not understood: 2 has bias, which is no linear layer")


def test_the_shipped_network_is_trained_and_small():
    shipped, untrained = load("plrc:tiny"), load("random:tiny")
    assert (shipped.origin.name, shipped.origin.arch) == ("plrc:tiny", "tiny")
    assert shipped.origin.path.stat().st_size < 5_000_000
    assert shipped.backbone.state_dict().keys() == untrained.backbone.state_dict().keys()
    from plrc.queries import Affinity
    from plrc.views import draw

    aucs = {
        name: [row["AUC"] for row in draw(Affinity(images=["scenes:16"], checkpoints=[name], size=64)).rows]
        for name in ("plrc:tiny", "random:tiny")
    }
    assert sum(aucs["plrc:tiny"]) > sum(aucs["random:tiny"])
