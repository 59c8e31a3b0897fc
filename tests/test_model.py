"""plrc.model: the step of the method, part by part, against the same step written out by hand."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import plrc.losses
import plrc.model
from plrc.config import load_config
from plrc.geometry import sample
from plrc.losses import image_contrast
from plrc.model import PLRC
from plrc.regions import sample_points

B, R, P = 4, 4, 3
TEACHER = 0.05


def small_model(**settings: Any) -> PLRC:
    """A model whose key encoder has moved away from its query encoder, and whose BatchNorms matter."""
    torch.manual_seed(0)
    small = {"dim": 16, "queue_size": 12, "points_per_region": P, "negatives": 20, "bn_groups": 1, "temperature": 0.2}
    model = PLRC(load_config("demo", given={**small, **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bn2.weight"):
                parameter.fill_(1.0)
            if name.startswith("key_encoder"):
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def batch(b: int = B, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Views (2, b, 3, 32, 32) and regions (2, b, 8, 8): quarters; view 2 of image 0 misses region 3."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, b, 3, 32, 32, generator=generator)
    quarters = torch.arange(4, dtype=torch.uint8).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1)
    regions = quarters.expand(2, b, 8, 8).clone()
    regions[1, 0][regions[1, 0] == 3] = 2
    return views, regions


def losses(model: PLRC, views: Tensor, regions: Tensor, seed: int = 3, **settings: Any) -> dict[str, Tensor]:
    generators = (torch.Generator().manual_seed(seed + i) for i in range(2))
    draws = model.draw(views.shape[1], R, *generators, **settings)
    return model(views, regions, draws, teacher_temperature=TEACHER, **settings)


def recorded(monkeypatch: pytest.MonkeyPatch, loss: str) -> list[tuple]:
    """The arguments of every call of a loss, which goes on as before."""
    calls: list[tuple] = []
    original = getattr(plrc.losses, loss)

    def record(*args: Any, **named: Any) -> Tensor:
        calls.append(args)
        return original(*args, **named)

    monkeypatch.setattr(plrc.losses, loss, record)
    return calls


def pooled(z: Tensor) -> Tensor:
    vectors = z.mean(dim=(2, 3))
    return vectors / vectors.norm(dim=1, keepdim=True)


# ----------------------------------------------------------------------------------------------------------- the losses


def test_losses_have_names_and_reach_the_query_encoder_alone():
    model = small_model()
    values = losses(model, *batch())
    assert list(values) == ["image", "point", "affinity"]
    assert all(value.shape == () and value.isfinite() and value > 0 for value in values.values())
    sum(values.values()).backward()
    for name, parameter in model.query_encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.key_encoder.parameters())
    assert not model.queue.requires_grad


@pytest.mark.parametrize("terms", [("image",), ("point",), ("affinity",), ("image", "point"), ("affinity", "image")])
@pytest.mark.parametrize("symmetric", [False, True])
def test_some_terms_are_the_same_as_among_all(terms, symmetric):
    """In evaluation mode: in training BatchNorm sees view 1's keys only where a term needs them."""
    model = small_model(symmetric=symmetric).eval()
    everything = losses(model, *batch())
    some = losses(model, *batch(), terms=terms)
    assert set(some) == set(terms)
    for name, value in some.items():
        torch.testing.assert_close(value, everything[name], rtol=1e-5, atol=1e-6)


def test_keys_of_view_1_are_encoded_only_where_they_are_needed():
    model = small_model()
    seen = []
    model.key_encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    losses(model, *batch(), terms=("image", "point"))
    losses(model, *batch(), terms=("affinity",))
    assert seen == [B, 2 * B], "and all keys of a step in one forward"


def test_points_are_sampled_from_the_right_view_by_the_right_encoder(monkeypatch):
    model = small_model().eval()
    views, regions = batch()
    point, affinity = recorded(monkeypatch, "point_contrast"), recorded(monkeypatch, "affinity_distillation")
    losses(model, views, regions, seed=3)
    draws = torch.rand(2 * B, R, P, 3, generator=torch.Generator().manual_seed(3))
    places, seen = sample_points(regions.flatten(0, 1), draws)
    ones, twos = places[:B], places[B:]
    with torch.no_grad():
        z1, k1, k2 = model.query_encoder(views[0]), model.key_encoder(views[0]), model.key_encoder(views[1])
    expected = {
        name: F.normalize(sample(z, at.flatten(1, 2)), dim=2).unflatten(1, (R, P))
        for name, z, at in (("query", z1, ones), ("teacher", k1, ones), ("key", k2, twos))
    }
    valid = torch.ones(B, R, dtype=torch.bool)
    valid[0, 3] = False  # view 2 does not show it
    assert torch.equal(seen[:B] & seen[B:], valid)
    for calls, names in ((point, ("query", "key")), (affinity, ("query", "teacher", "key"))):
        ((*arguments,),) = calls
        for argument, name in zip(arguments, names, strict=False):
            told = lambda message, name=name: f"{name}: {message}"  # noqa: E731
            torch.testing.assert_close(argument, expected[name], rtol=1e-4, atol=1e-5, msg=told)
        assert torch.equal(arguments[len(names)], valid)


@pytest.mark.parametrize("negatives", [0, 5, 20, 400])
def test_points_of_other_images(negatives, monkeypatch):
    """M of the batch's valid points of view 2, none twice, each told by its image; the rest of M marked as none."""
    model = small_model(negatives=negatives).eval()
    calls = recorded(monkeypatch, "point_contrast")
    losses(model, *batch())
    _, keys, valid, others, image, first, *_ = calls[0]
    assert others.shape == (negatives, 16)
    assert first == 0
    usable = int(valid.sum()) * P
    assert (image >= 0).sum() == min(negatives, usable)
    places = []
    for vector, owner in zip(others, image, strict=True):
        if owner >= 0:
            distance = (keys[owner][valid[owner]].flatten(0, 1) - vector).norm(dim=1)
            assert distance.min() == 0
            places.append((int(owner), int(distance.argmin())))
    assert len(set(places)) == len(places)
    if negatives >= 20:
        assert set(image.tolist()) - {-1} == set(range(B)), "of every image"


def table_of_points(regions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """In place of sample_points: places that depend on the view's regions alone, not on its place in the batch."""
    shown = torch.stack([(regions == r).flatten(1).any(dim=1) for r in range(R)], dim=1)
    shift = (regions.long().sum(dim=(1, 2)) % 7 + 1).view(-1, 1, 1, 1) / 10
    places = torch.rand(R, P, 2, generator=torch.Generator().manual_seed(6))
    return (places + shift) % 1, shown


@pytest.mark.parametrize("training", [False, True])
def test_symmetric_is_the_mean_of_both_directions(training, monkeypatch):
    monkeypatch.setattr(plrc.model, "sample_points", table_of_points)
    views, regions = batch()
    every = B * R * P  # all negatives there are, so that no draw matters
    one_way = small_model(negatives=every).train(training)
    both_ways = small_model(negatives=every, symmetric=True).train(training)
    there, back = losses(one_way, views, regions), losses(one_way, views.flip(0), regions.flip(0))
    for name, value in losses(both_ways, views, regions).items():
        assert abs(there[name] - back[name]) > 1e-4, "the directions differ, else this shows nothing"
        torch.testing.assert_close(value, (there[name] + back[name]) / 2, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------- momentum, queue, shuffle, groups


@pytest.mark.parametrize("momentum", [0.0, 0.99, 0.999, 1.0])
def test_the_momentum_update_is_exact(momentum):
    model = small_model(key_momentum=momentum)
    query = [p.detach().double() for p in model.query_encoder.parameters()]
    expected = [p.detach().double() for p in model.key_encoder.parameters()]
    for _ in range(3):
        expected = [momentum * k + (1 - momentum) * q for k, q in zip(expected, query, strict=True)]
        model.update_keys()
    for parameter, value in zip(model.key_encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=3e-7, atol=1e-7)
    for parameter, value in zip(model.query_encoder.parameters(), query, strict=True):
        assert torch.equal(parameter.detach().double(), value)


def test_forward_changes_neither_keys_nor_queue():
    """However many parts a step has, all see the same."""
    model = small_model()
    before = copy.deepcopy(model)
    sum(losses(model, *batch()).values()).backward()
    losses(model, *batch(seed=2))
    for name, value in before.key_encoder.named_parameters():
        assert torch.equal(dict(model.key_encoder.named_parameters())[name], value)
    assert torch.equal(model.queue, before.queue)
    assert model.queue_position == 0


@pytest.mark.parametrize(("size", "b", "parts"), [(7, 3, 1), (12, 4, 1), (10, 4, 2), (5, 8, 1), (9, 2, 5), (4, 4, 1)])
def test_the_queue_wraps(size, b, parts):
    """A ring in plain Python beside it: the oldest keys go first, none is lost, whatever divides what."""
    model = small_model(queue_size=size).eval()
    ring, position = list(model.queue.clone()), 0
    for step in range(4):
        for part in range(parts):
            views, regions = batch(b, seed=10 * step + part)
            losses(model, views, regions, terms=("image",))
            with torch.no_grad():
                for key in pooled(model.key_encoder(views[1])):
                    ring[position] = key
                    position = (position + 1) % size
        model.enqueue()
        # Where more keys come than fit, only the set and its order matter, not where the ring begins.
        ours = model.queue.roll(-int(model.queue_position), 0)
        theirs = torch.stack(ring).roll(-position, 0)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert model.queue.shape == (size, 16)
    torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(size))


def test_the_new_keys_are_not_yet_negatives_of_their_own_step(monkeypatch):
    calls = recorded(monkeypatch, "image_contrast")
    model = small_model().eval()
    views, regions = batch()
    losses(model, views, regions, terms=("image",))
    model.enqueue()
    losses(model, views, regions, terms=("image",))
    (_, key, _, _), (_, _, queue, _) = calls
    assert (queue[:B] - key).abs().max() < 1e-5, "the next step sees them"
    assert len({tuple(row) for row in queue.tolist()}) == len(queue)


def in_parts(encoder: nn.Module, images: Tensor, parts: int) -> Tensor:
    size = len(images) // parts
    return torch.cat([encoder(images[i * size : (i + 1) * size]) for i in range(parts)])


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("terms", [("image",), ("image", "affinity")])
def test_groups_of_batchnorm_are_separate_forwards_and_keys_are_shuffled_between_them(groups, terms, monkeypatch):
    """The whole image loss in training mode by hand: queries in order; keys shuffled, encoded, put back in order."""
    calls = recorded(monkeypatch, "image_contrast")
    views, regions = batch(8)
    model = small_model(bn_groups=groups)
    by_hand = copy.deepcopy(model)
    value = losses(model, views, regions, terms=terms)["image"]

    used = views if "affinity" in terms else views[1:]
    flat = used.transpose(0, 1).flatten(0, 1)  # image by image
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        keys = torch.empty(len(flat), 16)
        keys[order] = pooled(in_parts(by_hand.key_encoder, flat[order], groups))
        key = keys.unflatten(0, (8, -1))[:, -1]
        query = pooled(in_parts(by_hand.query_encoder, views[0], groups))
    torch.testing.assert_close(calls[0][0], query, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(calls[0][1], key, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(value, image_contrast(query, key, model.queue, 0.2), rtol=1e-3, atol=1e-4)


def test_groups_matter():
    """Or the test above would hold for a model that ignores them."""
    views, regions = batch(8)
    values = [losses(small_model(bn_groups=groups), views, regions)["image"].item() for groups in (1, 2, 4)]
    assert len({round(value, 3) for value in values}) == 3


@pytest.mark.parametrize(("ranks", "autocast"), [(1, False), (1, True), (2, False), (2, True)])
def test_keys_travel_in_half_precision_between_ranks_under_autocast_alone(ranks, autocast, monkeypatch):
    model = small_model()
    monkeypatch.setattr(plrc.model, "world_size", lambda: ranks)
    seen = []
    model.key_encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses(model, *batch(), terms=("image",))
    assert seen == [torch.bfloat16 if ranks == 2 and autocast else torch.float32]


# ------------------------------------------------------------------------------------------------------- determinism


def test_a_model_of_a_configuration_takes_its_settings():
    config = load_config("demo", given={"queue_size": 32, "dim": 24, "bn_groups": 2, "symmetric": True, "negatives": 7})
    model = PLRC(config)
    assert model.queue.shape == (32, 24)
    torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(32))
    assert model.bn_groups == 2
    for q, k in zip(model.query_encoder.parameters(), model.key_encoder.parameters(), strict=True):
        assert torch.equal(q, k), "the key encoder starts as the query encoder"
