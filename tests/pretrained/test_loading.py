"""Checkpoints of every known format, fabricated from one known network, load to its feature maps; names do too."""

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
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18, resnext50_32x4d

from plrc.analysis.features import load_encoder
from plrc.backbones import Backbone, build
from plrc.checkpoint import load_checkpoint, save_checkpoint
from plrc.cli import main
from plrc.config import load_config
from plrc.model import PLRC
from plrc.pretrained import CheckpointError, Pretrained, load
from plrc.pretrained.formats import FORMATS, Branch, Format, Head, arch_of
from plrc.pretrained.loading import build_head, checkpoint_file, describe, skeleton, stored_epochs
from plrc.registry import BACKBONES, Entry
from tests.pretrained import fabricated
from tests.pretrained.fabricated import (
    CASES,
    FC,
    IMAGES,
    KEY,
    QUERY,
    WIDTH,
    alive,
    at_every_position,
    maps_of,
    mlp,
    under,
)
from tests.sets import noise

DENSE = ("PLRC run", "PLRC export", "PixPro")  # whose training compares places by the only head


def written(content: Any, file: Path) -> Path:
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps(content, protocol=4))
    elif file.suffix == ".safetensors":
        save_file(content, file)
    else:
        torch.save(content, file)
    return file


def offline(*_, **__):
    raise OSError("Name or service not known")


def assert_same(one: nn.Module, other: nn.Module) -> None:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def check(pretrained: Pretrained, trunk: nn.Module, heads: dict[str, nn.Module], tolerance: float = 1e-5) -> None:
    with torch.no_grad():
        expected = maps_of(trunk)
        torch.testing.assert_close(pretrained.backbone.maps(IMAGES), expected, rtol=tolerance, atol=tolerance)
        given = {name: head(expected["c5"]) for name, head in pretrained.heads.items()}
        known = {name: at_every_position(head, expected["c5"]) for name, head in heads.items()}
        torch.testing.assert_close(given, known, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_format_gives_the_known_network(name, tmp_path):
    case = CASES[name]()
    file = written(case.content, tmp_path / f"some_model{case.suffix}")
    before = torch.random.get_rng_state()
    for i, (branch, (trunk, heads)) in enumerate(case.branches.items()):
        pretrained = load(file, branch if i else None)  # the first is the default
        check(pretrained, trunk, heads)
        assert (pretrained.origin.format, pretrained.origin.branch) == (case.layout, branch)
        dense = {"maps_projector", "dense_projector", *(("projector",) if case.layout in DENSE else ())}
        assert pretrained.dense == next((name for name in heads if name in dense), "")
        assert (pretrained.origin.name, pretrained.origin.arch) == ("some_model", "small")
        if i == 0:
            note, _, caution = pretrained.origin.note.partition("taken as RGB")
            assert note.removesuffix("; ") == case.note
            assert ("BGR" in caution) == (case.layout == "Detectron2")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not pretrained.backbone.training
    choices = "choose" if len(case.branches) > 1 else "one network only"
    with pytest.raises(ValueError, match=rf"some_model.* has no branch 'ema': .*{choices}"):
        load(file, "ema")
    state, key = case.place_of("layer4.0.downsample.0.weight")
    state[key] = state[key][:-1]
    with pytest.raises(ValueError, match=r"some_model.* small, .*has layer4\S+0\.weight of shape \(63, 32, 1, 1\)"):
        load(written(case.content, file))


def test_a_backbone_that_is_not_whole_fails_by_name():
    state = under("", QUERY)
    lacking = {name: t for name, t in state.items() if not name.endswith("running_mean")}
    strange = dict(state)
    strange["layer1.0.bn2.running_var_x"] = strange.pop("layer1.0.bn2.running_var")
    diverged, whole = state["layer2.0.conv1.weight"].clone(), torch.zeros(16, 8, 3, 3, dtype=torch.int8)
    diverged[0, 0] = torch.nan
    squeeze = {"layer1.0.se.fc1.weight": torch.zeros(4, 8, 1, 1)}
    other = {f"features.{i}.{kind}": torch.zeros(3) for i in range(0, 30, 2) for kind in ("weight", "bias")}
    for content, message in (
        (lacking, r"small, but not .*: it lacks bn1\.running_mean, .* and 9 more; .*save it anew"),
        (strange, r"lacks layer1\.0\.bn2\.running_var; it has what such .* not, layer1\.0\.bn2\.running_var_x; "),
        (state | {"layer2.0.conv1.weight": diverged}, r"has layer2\.0\.conv1\.weight of .*infinite or undefined ones"),
        (state | {"layer2.0.conv1.weight": whole}, r"has layer2\.0\.conv1\.weight of whole numbers"),
        (state | squeeze, r"has not, layer1\.0\.se\.fc1\.weight; .*another network .*timm:NAME@FILE"),
        ({n: t for n, t in state.items() if "layer3.0" not in n}, "network of 1-1-1 basic blocks of 8, .*small"),
        (other, r"holds no network .* 30 tensors are named features\.\d+\* \(2\).*known are PLRC run"),
        ({"weights": under("a.", QUERY) | under("b.", KEY)}, r"several networks \(weights\.a\.\*, weights\.b\.\*\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(content)


def test_the_weights_are_copies():
    """A file stays mapped into memory as long as a tensor of it lives."""
    state = under("", QUERY, FC)
    own = {tensor.untyped_storage().data_ptr() for tensor in load(state).backbone.state_dict().values()}
    assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in state.values())


def test_every_form_in_the_registry_is_that_of_its_network():
    for name, entry in BACKBONES.items():
        if "form" in entry.traits:
            assert arch_of(skeleton(name).state_dict(), "x.pth") == name


def test_counters_of_batchnorm_and_half_precision_do_not_matter(tmp_path):
    state = {name: t.half() for name, t in QUERY.state_dict().items() if not name.endswith("tracked")}
    file = written({"state_dict": state}, tmp_path / "half.ckpt")
    pretrained = load(file)
    assert pretrained.origin.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    check(pretrained, QUERY, {}, tolerance=0.05)
    assert {t.dtype for t in pretrained.backbone.parameters()} == {torch.float32}


def test_torchvisions_networks_are_known_by_their_tensors():
    trunk = fabricated.network(4, resnext50_32x4d)
    pretrained = load(trunk)
    check(pretrained, trunk, {})
    assert (pretrained.origin.arch, pretrained.backbone.width) == ("resnext50_32x4d", 2048)


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    return alive(timm.create_model("convnext_atto", num_classes=10), 3)


def assert_is(pretrained: Pretrained, model: nn.Module) -> None:
    """The maps are those of timm's own model."""
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = pretrained.backbone.maps(images)
        last = model.forward_intermediates(images, intermediates_only=True)[-1]
    torch.testing.assert_close(maps[pretrained.backbone.layers[-1]], last)
    assert pretrained.origin.arch == "convnext_atto"


def test_a_file_of_timms_says_which_model_it_is(convnext, tmp_path):
    trained = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "arch": "convnext_atto", "state_dict": convnext.state_dict()}, trained)
    assert_is(load(trained), convnext)
    assert (load(trained).origin.format, load(trained).origin.note) == ("timm's names", "not used: head")
    bare = tmp_path / "model.safetensors"
    save_file(convnext.state_dict(), bare)
    with pytest.raises(ValueError, match=r"holds no network that is known here: .*timm:NAME@FILE"):
        load(bare)
    assert_is(load(f"timm:convnext_atto@{bare}"), convnext)
    assert_is(load(bare, arch="convnext_atto"), convnext)
    (tmp_path / "config.json").write_text('{"architecture": "convnext_atto", "num_classes": 10}')
    assert_is(load(bare), convnext)
    with pytest.raises(ValueError, match=r"looks like a resnet18d, but not a whole one|holds no network"):
        load(bare, arch="resnet18d")


def test_another_stem_is_told():
    """Networks for CIFAR's images, for grey ones, and ResNet-D."""
    network, seen = resnet18(), "for other images: its first convolution sees"
    for stem, why in (
        (nn.Conv2d(3, 64, 3, bias=False), f"{seen} 3 × 3 pixels and 3 channels, and here 7"),
        (nn.Conv2d(1, 64, 7, bias=False), f"{seen} 7 × 7 pixels and 1 channels, and here"),
        (nn.Sequential(nn.Conv2d(3, 64, 3, bias=False)), "with several first convolutions, perhaps timm:resnet18d@"),
    ):
        network.conv1 = stem
        with pytest.raises(CheckpointError, match=f"is a resnet18 {why}"):
            load(network)


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


@pytest.mark.parametrize(
    "arch",
    ["tiny_patch16_224", "base_patch14_dinov2", "large_patch16_dinov3", "giant_patch14_reg4_dinov2"],
)
def test_vits_of_every_size_are_told_apart(arch):
    with torch.device("meta"):
        assert arch_of(timm.create_model(f"vit_{arch}", num_classes=0).state_dict(), "x") == f"timm:vit_{arch}"


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

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(ValueError, match=r"timm:convnext_atto cannot be had .*not known.*@FILE"):
        load("timm:convnext_atto")


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
    for given, what in ((nn.Linear(2, 2), "module Linear holds no network"), ({}, "dict holds no"), (3, "a int: give")):
        with pytest.raises(ValueError, match=what):
            load(given)


def test_the_released_layout_gives_the_golden_maps(shared_data, tmp_path):
    files = ("plrc_release_checkpoint_keys.txt", "plrc_release_golden.npz")
    keys, golden_file = (shared_data(name, "facts") for name in files)
    golden = {name: torch.from_numpy(values) for name, values in np.load(golden_file).items()}
    state = {}
    for name, _, rest in (line.partition(" ") for line in keys.read_text().splitlines()):
        if ".encoder_q.enc." in name:
            shape = [int(n) for n in rest[1 : rest.index(")")].split(",") if n.strip()]
            g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            if name.endswith("num_batches_tracked"):
                state[name] = torch.zeros(shape, dtype=torch.long)
            elif name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
                state[name] = 1 + 0.2 * torch.rand(shape, generator=g)
            else:
                state[name] = torch.randn(shape, generator=g)
                state[name] *= 0.1 if len(shape) == 1 else (1 / state[name][0].numel()) ** 0.5
    sums = [state[name].double().sum() for name in sorted(n for n, t in state.items() if t.ndim == 4)[:5]]
    torch.testing.assert_close(torch.stack(sums), golden["weight_check"], rtol=1e-5, atol=1e-5)
    pretrained = load(written({"epoch": 1, "state_dict": state}, tmp_path / "released.pth.tar"))
    images = F.interpolate(golden["x_small"], (224, 288), mode="bilinear", align_corners=False)
    with torch.no_grad():
        maps = pretrained.backbone.maps(images)
        outputs = {"c4_mean": maps["c4"].mean(), "c5_slice": maps["c5"][:, :16]}
        for name, head in (("head128", "projector"), ("head256", "head256")):
            outputs[name] = pretrained.heads[head](maps["c5"])
    for name, output in outputs.items():
        known = golden[name].reshape(output.shape)
        assert (output - known).abs().max() <= 1e-4 * known.abs().max(), name


def test_the_epochs_that_a_run_has_stored_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("demo", given={"queue_size": 64, "seed": 5, "dim": 32})
    torch.manual_seed(5)
    model = PLRC(config)
    begun = {name: tensor.clone() for name, tensor in model.query_encoder.state_dict().items()}
    for epoch in (2, 10):
        with torch.no_grad():
            for parameter in model.query_encoder.parameters():
                parameter.mul_(1.1)
        content = {"step": epoch, "epoch": float(epoch), "ranks": 1, "config": config.to_dict()}
        save_checkpoint(Path(f"mine/checkpoints/epoch_{epoch:04d}.pt"), content | {"model": model.state_dict()})
    assert stored_epochs(Path("mine")) == [0, 2, 10]
    assert stored_epochs(tmp_path) == []
    start, last, key = load("mine@0"), load("mine@10"), load("mine@2@key")
    for name, tensor in start.backbone.state_dict().items():
        assert torch.equal(tensor, begun[f"backbone.{name}"])
    for name, tensor in start.heads["projector"].state_dict().items():
        assert torch.equal(tensor, begun[f"projector.{name}"])
    named = [network.origin.name for network in (start, last, key)]
    assert named == ["mine/untrained", "mine/epoch_0010", "mine/epoch_0002 key"]
    assert start.dense == last.dense == "projector", "all by the same head"
    assert [network.origin.run["epoch"] for network in (start, last, key)] == [0, 10, 2]
    assert not torch.equal(next(last.backbone.parameters()), next(key.backbone.parameters()))
    assert checkpoint_file("mine@2@key") == checkpoint_file("mine@0") == Path("mine/checkpoints/epoch_0002.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/mine@2").origin.sha256 == load("mine@2").origin.sha256
    assert checkpoint_file("~/mine@2") == tmp_path / "mine" / "checkpoints" / "epoch_0002.pt"
    with pytest.raises(CheckpointError, match=r"mine has no checkpoint of epoch 3: it has stored 0, 2, 10"):
        load("mine@3")
    assert load("random:tiny@3").origin.note == "seed 3, untrained", "a seed is no epoch"
    saved = torch.load(Path("mine/checkpoints/epoch_0002.pt"), weights_only=True)
    saved["config"]["init"] = "plrc:tiny"
    torch.save(saved, "mine/checkpoints/epoch_0002.pt")
    start, later, shipped = load("mine@0"), load("mine@2"), load("plrc:tiny")
    assert (start.origin.name, start.origin.format) == ("mine/start", "PLRC run")
    assert start.origin.note == "begun with the backbone of plrc:tiny"
    assert later.origin.note.endswith("begun with plrc:tiny")
    for name, tensor in start.backbone.state_dict().items():
        assert torch.equal(tensor, shipped.backbone.state_dict()[name])


@pytest.mark.parametrize("arch", ["tiny", "small", "convnext_atto"])
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
    assert_same(load(model.query_encoder).backbone, model.query_encoder.backbone)
    behind, asked = load(f"{tmp_path}/runs/demo@key"), load(tmp_path / "runs" / "demo", "key")
    assert (behind.origin.name, behind.origin.branch) == ("demo/last key", "key")
    assert_same(behind.backbone, asked.backbone)
    old = {name.replace(".backbone.", ".trunk."): tensor for name, tensor in content["model"].items()}
    save_checkpoint(last.with_name("old.pt"), {**content, "model": old})
    assert torch.equal(load(last.with_name("old.pt")).backbone(IMAGES), model.query_encoder.backbone(IMAGES))
    assert load_checkpoint(last.with_name("old.pt"))["model"].keys() == content["model"].keys()

    lost = next(name for name, t in model.query_encoder.backbone.named.state_dict().items() if t.ndim == 4)
    content["model"] = {n: t for n, t in content["model"].items() if not n.startswith("query") or not n.endswith(lost)}
    save_checkpoint(last, content)
    with pytest.raises(ValueError, match=rf"{arch}, .*: it lacks {lost}"):
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
    assert_same(pretrained.backbone, encoder.backbone)
    assert_same(pretrained.heads["projector"], encoder.projector)
    origin = pretrained.origin
    assert (origin.name, origin.path, origin.format, origin.arch) == (name, None, "random", arch)
    assert not pretrained.backbone.training


def test_torchvision_names_download_as_torchvision_does(monkeypatch):
    asked = {}

    def given(url, **options):
        asked.update(options, url=url)
        return given_network.state_dict()

    given_network = fabricated.network(1, resnet18)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", given)
    pretrained = load("torchvision:resnet18")
    assert asked["url"].startswith("https://download.pytorch.org/models/resnet18-")
    assert asked["weights_only"] is True
    check(pretrained, given_network, {})
    assert pretrained.origin.format == "torchvision name"
    assert "the classifier" in pretrained.origin.note

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"torchvision:resnet18 cannot be had .*not known.* give a checkpoint file"):
        load("torchvision:resnet18")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere/x.pth", r"there is no file or folder nowhere/x\.pth: give a checkpoint file, .*random:resnet50"),
        ("hub:resnet50", r"there is no file or folder hub:resnet50: .*torchvision:resnet50.*random:resnet50"),
        ("random:vit", r"random:vit cannot be had \(unknown backbone 'vit': choose one of tiny, resnet18"),
        ("random:tiny@x", r"random:tiny@x cannot be had .*'x'"),
        ("random:tiny@key", r"random:tiny has no branch 'key'"),
        ("torchvision:vgg16", r"torchvision:vgg16 cannot be had .*torchvision: takes resnet18, "),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(given, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load(given)
    with pytest.raises(CheckpointError, match=r"is not the folder of a run, it has no checkpoints/last\.pt"):
        load(tmp_path)


def test_a_folder_of_weights_as_hugging_face_has_them(tmp_path):
    save_file(load("random:resnet18").backbone.state_dict(), tmp_path / "model.safetensors")
    assert load(tmp_path).origin.arch == "resnet18"


def test_heads_that_are_not_understood_are_left_out_and_named():
    case = CASES["MoCo v2"]()
    del case.content["state_dict"]["module.encoder_q.fc.2.weight"]
    pretrained = load(case.content)
    assert pretrained.heads == {}
    assert pretrained.origin.note.startswith("head projector not understood: a layer has bias alone, which is no")


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


MAPS = torch.randn(2, WIDTH, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layers", ["LRL", "LBRL", "lBRlb", "LGL", "LBRLBRL", "lb", "LL", "LBLBRL"])
def test_every_position_gets_what_its_vector_would(layers):
    made = mlp(layers, 40, 24, 16)
    before, activation = torch.random.get_rng_state(), nn.GELU if "G" in layers else nn.ReLU
    built = build_head(made.state_dict(), WIDTH, Head("", activation))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not built.training
    with torch.no_grad():
        known = at_every_position(made, MAPS)
        torch.testing.assert_close(built(MAPS), known, rtol=1e-5, atol=1e-5)
        unit = build_head(made.state_dict(), WIDTH, Head("", activation, normalised=True))(MAPS)
    torch.testing.assert_close(unit, known / known.norm(dim=1, keepdim=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"0.weight": None}, "a layer has bias alone, which is no linear layer"),
        ({"0.weight": (48, 65)}, r"size mismatch for weight: .*\[48, 65, 1, 1\]"),
        ({"0.weight": (48, WIDTH, 3, 3)}, r"size mismatch for weight: .*\[48, 64, 3, 3\]"),
        ({"1.running_mean": (47,)}, "BatchNorm2d: size mismatch for running_mean"),
        ({"1.bias": None}, r"BatchNorm2d: Missing key\(s\) .*bias"),
        ({"1.running_var": None}, r"BatchNorm2d: Missing key\(s\) .*running_var"),
        ({"3.weight_g": (32, 1)}, r"Conv2d: Unexpected key\(s\).*weight_g"),
        ({"last.weight": (3, 32)}, "last has no place in an order of layers"),
        ({"6.weight": (3, 32), "6.bias": (3,)}, "layers without tensors come first, or two in a row"),
        (
            dict.fromkeys(("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")),
            "without tensors",
        ),
    ],
)
def test_what_is_not_understood_is_not_guessed(changes, reason):
    state = mlp("LBRL").state_dict()
    state |= {name: torch.zeros(shape) for name, shape in changes.items() if shape is not None}
    state = {name: tensor for name, tensor in state.items() if changes.get(name, ()) is not None}
    with pytest.raises(ValueError, match=reason):
        build_head(state, WIDTH, Head(""))
    with pytest.raises(ValueError, match="infinite or undefined"):
        build_head({"weight": torch.full((4, WIDTH), torch.nan)}, WIDTH, Head(""))
    with pytest.raises(ValueError, match="it has no linear layer"):
        build_head(nn.BatchNorm1d(WIDTH).state_dict(), WIDTH, Head(""))
    named = mlp("L")[0].state_dict(prefix="a.")
    assert len(build_head(named, WIDTH, Head("", order={"a": "0"}))) == 1
    with pytest.raises(ValueError, match="b is missing"):
        build_head(named, WIDTH, Head("", order={"a": "0", "b": "2"}))


class Plain(Backbone):
    """CONTRIBUTING's example: four tensors, of names that nobody knows."""

    strides, channels = {"c2": 4, "c3": 8}, {"c2": 32, "c3": 64}

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.net, self.body = name, nn.Conv2d(3, 32, 4, 4), nn.Conv2d(32, 64, 2, 2)

    def maps(self, images: Tensor, until: str | None = None) -> dict[str, Tensor]:
        c2 = self.net(images).relu()
        return {"c2": c2} if until == "c2" else {"c2": c2, "c3": self.body(c2)}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise(128, 96).save(file := tmp_path / "photo.png")
    return file


def test_a_run_of_a_backbone_of_ones_own_is_known_by_its_configuration(tmp_path, photo, silent, monkeypatch):
    monkeypatch.setitem(BACKBONES, "plain", Entry(Plain, "two convolutions", {}))
    given = "--preset demo --arch plain --data scenes:8 --image-size 32 --batch-size 4 --epochs 1 --workers 0"
    run = tmp_path / "run"
    assert main(["train", *given.split(), "--out", str(run)]) == 0
    encoder = load_encoder(run)
    state = load_checkpoint(run / "checkpoints" / "last.pt")["model"]
    for name, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, state[f"query_encoder.backbone.{name}"])
    assert (encoder.origin.arch, encoder.origin.note, [*encoder.heads]) == ("plain", "step 2 of 2", ["projector"])
    assert main(["affinity", str(photo), "--checkpoint", f"{run}@key", "--out", str(tmp_path / "map")]) == 0
    assert (tmp_path / "map.png").is_file()
    assert main(["export", str(run), "--to", "safetensors", "--out", str(tmp_path / "x.safetensors")]) == 0
    assert torch.equal(load(tmp_path / "x.safetensors").backbone.body.weight, encoder.backbone.body.weight.cpu())
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"last\.pt cannot be .* as its configuration says: unknown backbone 'plain'"):
        load(run)


def test_a_format_and_a_backbone_of_ones_own(tmp_path, photo, monkeypatch, capsys):
    """The backbone is ``fabricated.SmallBackbone``, one class and one line."""
    monkeypatch.setattr("plrc.pretrained.formats.FORMATS", [Format("my own", (Branch("", "mine.net."),)), *FORMATS])
    file = written({"mine.net." + name: t for name, t in under("", QUERY, FC).items()}, tmp_path / "x.pth")
    assert main(["info", str(file)]) == 0
    assert capsys.readouterr().out.startswith("x: my own\n  architecture small, 0.1 M parameters")
    assert main(["affinity", str(photo), "--checkpoint", str(file), "--out", str(tmp_path / "map")]) == 0
    assert (tmp_path / "map.png").is_file()


def by_title(lines: list[str]) -> dict[str, str]:
    """Title → text of the indented lines."""
    return {line[2:15].strip(): line[15:] for line in lines if line.startswith("  ")}


def ending(file: Path) -> str:
    size, digest = file.stat().st_size / 1e6, hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{file}, {size:.1f} MB, sha256 {digest[:12]}"


def test_a_run_is_described(tmp_path):
    given = {"data": "scenes:64", "image_size": 48, "batch_size": 8, "epochs": 4, "lr": 0.25}
    config = load_config("demo", given={**given, "weights": {"affinity": 0.125}}).to_dict()
    model = PLRC(load_config("demo", given={"dim": 16, "queue_size": 8})).state_dict()
    file = tmp_path / "demo" / "checkpoints" / "last.pt"
    content = {"step": 60, "epoch": 2.0, "ranks": 2, "config": config, "model": model}
    save_checkpoint(file, content)
    lines = describe(tmp_path / "demo")
    assert load(tmp_path / "demo").origin.view == 48
    assert lines[0] == "demo/last: PLRC run, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "tiny, 1.2 M parameters in the backbone",
        "channels": "c2 64 at stride 4, c3 128 at stride 8",
        "heads": "projector 128 → 128 → 16",
        "epoch": "2 of 4",
        "trained with": "scenes:64, views of 48 px, regions superpixels:8, batch 8, adamw, lr 0.25 for a batch of 256",
        "loss weights": "image 0.3, point 1.0, affinity 0.125",
        "note": "step 60 of 120",
        "file": ending(file),
    }
    content["model"] = {name: t for name, t in model.items() if not name.startswith("key_encoder.")}
    save_checkpoint(file, {**content, "config": ["data"], "epoch": "two"})  # strange: told by the rest
    lines = describe(file)
    assert lines[0] == "demo/last: PLRC run, branch query"
    assert by_title(lines).keys().isdisjoint({"epoch", "trained with", "loss weights"})
    save_checkpoint(file, {**content, "config": config | {"weights": "plrc:tiny", "iterations": 9}})  # a detector's
    told = by_title(describe(file))
    assert "loss weights" not in told
    assert told["trained with"].endswith("lr 0.25 for a batch of 16")


def test_a_foreign_file_and_a_name_are_described(tmp_path):
    file = written(CASES["released PLRC"]().content, tmp_path / "it.pth.tar")
    lines = describe(file)
    assert lines[0] == "it: released PLRC, branch query (also there: key)"
    assert by_title(lines) == {
        "architecture": "small, 0.1 M parameters in the backbone",
        "channels": "c2 8 at stride 4, c3 16 at stride 8, c4 32 at stride 16, c5 64 at stride 32",
        "heads": "projector 64 → 48 → 32, head256 64 → 40 → 40 → 24, L2-normalised",
        "note": "not used: fcs_2.last_layer, plrc_loss",
        "file": ending(file),
    }
    assert describe(written({"visual": under("net.", QUERY, FC)}, file))[0] == "it: network under visual.net."
    ours = under("model.backbone.", QUERY, FC) | {"model.head.weight": torch.zeros(2, 3), "criterion.w": torch.zeros(1)}
    assert "  note         not used: model.head, criterion" in describe(written({"state_dict": ours}, file))
    assert [*by_title(describe("random:tiny@3"))] == ["architecture", "channels", "heads", "note"]
