"""Two gloo processes that normalise their unequal shares together, against one process with the whole batch."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from plrc import distributed
from plrc.detection.norm import SyncBatchNorm2d, synchronise

CPU = torch.device("cpu")
SHARES = {"unequal": (5, 2), "one rank is empty": (7, 0), "the other is empty": (0, 7)}
STEPS = 3
OFFSET = 30.0  # far from zero, where sums of squares in float32 would lose their digits

Result = dict[str, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)),
    )
    for norm in (layers[1], layers[3][1]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return layers


def whole_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(7, 3, 9, 12, generator=generator) + OFFSET, torch.randn(7, 4, 4, 5, generator=generator)


def outcome(share: slice, synchronised: bool = True, dtype: torch.dtype = torch.float32, mean: bool = False) -> Result:
    """Some steps on a share of the batch: outputs and gradients of the last, running statistics, gradient of input."""
    model = network()
    names, parameters = list(model.state_dict()), list(model.parameters())
    if synchronised:
        model = synchronise(model, CPU)
        assert list(model.state_dict()) == names
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    x, weights = (tensor[share].to(dtype) for tensor in whole_batch())
    x.requires_grad_()
    parallel = model.to(dtype)
    if synchronised and distributed.world_size() > 1:
        parallel = DistributedDataParallel(model)
    if mean:
        for norm in (model[1], model[3][1]):
            norm.reset_running_stats()
            norm.momentum = None
    for step in range(STEPS):
        with torch.no_grad():
            model[0].weight *= 1 + step  # so that the statistics change
        model.zero_grad()
        x.grad = None
        y = parallel(x)
        (y * weights).sum().backward()  # the sum over ranks is that of the whole batch
    assert x.grad is not None
    ranks = distributed.world_size() if synchronised else 1  # DistributedDataParallel took the mean
    result = {"output": y.detach(), "gradient of input": x.grad}
    result |= {f"gradient of {name}": p.grad * ranks for name, p in model.named_parameters() if p.grad is not None}
    result |= {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    with torch.no_grad():
        return result | {"output in evaluation": model(x.detach())}


def one_cell() -> str:
    norm = SyncBatchNorm2d(3)
    try:
        norm(torch.ones(int(distributed.rank() == 0), 3, 1, 1))
    except ValueError as error:
        return str(error)
    return ""


def nothing() -> Result:
    norm = SyncBatchNorm2d(3)
    y = norm(torch.ones(0, 3, 2, 2, requires_grad=True))
    y.sum().backward()
    return {"output": y.detach(), "gradient": norm.weight.grad, **norm.state_dict()}


def one_rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    with distributed.world():
        results = {}
        for name, (first, second) in SHARES.items():
            share = slice(0, first) if rank == 0 else slice(first, first + second)
            results[name] = outcome(share)
            results[f"{name}, float64"] = outcome(share, dtype=torch.float64)
        results["mean"] = outcome(slice(0, 5) if rank == 0 else slice(5, 7), mean=True)
        results["apart"] = outcome(slice(0, 5) if rank == 0 else slice(5, 7), synchronised=False)
        results["one cell"], results["nothing"] = one_cell(), nothing()
        half = SyncBatchNorm2d(6)(torch.ones(2, 6, 4, 4, dtype=torch.bfloat16).cumsum(2))
        results["half"] = half.detach()
    torch.save(results, Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_rank, args=(port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def together(results: list[dict], name: str) -> Result:
    """What both ranks have of their shares, put together; the rest they must have alike."""
    first, second = (result[name] for result in results)
    joined = {}
    for key, value in first.items():
        if key.startswith(("output", "gradient of input")):
            joined[key] = torch.cat((value, second[key]))
        else:
            torch.testing.assert_close(value, second[key], rtol=0, atol=0)
            joined[key] = value
    return joined


def farthest(found: Result, wanted: Result) -> float:
    """The largest difference of any tensor, in parts of its own largest value."""
    assert set(found) == set(wanted)
    return max(float((found[key] - wanted[key]).abs().max() / wanted[key].abs().max()) for key in wanted)


@pytest.mark.parametrize("name", SHARES)
def test_two_ranks_compute_what_one_process_computes(name: str, two_ranks: list[dict]) -> None:
    exact = outcome(slice(None), dtype=torch.float64)
    assert {"gradient of 3.1.weight", "1.running_var", "output in evaluation"} < set(exact)
    assert farthest(together(two_ranks, f"{name}, float64"), exact) < 1e-12
    assert farthest(together(two_ranks, name), exact) < 2e-5  # the first convolution rounds at values about OFFSET


@pytest.mark.parametrize("name", SHARES)
def test_first_norm_is_that_of_the_whole_batch_to_a_millionth(name: str, two_ranks: list[dict]) -> None:
    plain, found = outcome(slice(None)), together(two_ranks, name)
    for key in ("output", "output in evaluation", "1.running_mean", "1.running_var", "3.1.running_var"):
        assert (found[key] - plain[key]).abs().max() < 2e-6 * plain[key].abs().max(), key
    assert found["1.num_batches_tracked"] == found["3.1.num_batches_tracked"] == STEPS


def test_without_a_momentum_running_statistics_are_the_mean_of_all_batches(two_ranks: list[dict]) -> None:
    plain, found = outcome(slice(None), mean=True), together(two_ranks, "mean")
    assert (plain["1.running_var"] / outcome(slice(None))["1.running_var"] > 1.2).all()
    for key in ("1.running_mean", "1.running_var", "3.1.running_var"):
        assert (found[key] - plain[key]).abs().max() < 2e-6 * plain[key].abs().max(), key


def test_it_matters(two_ranks: list[dict]) -> None:
    """Else the checks above would hold for ranks that do not know of each other."""
    apart, whole = [result["apart"] for result in two_ranks], outcome(slice(None))
    outputs = torch.cat([result["output"] for result in apart])
    assert (outputs - whole["output"]).abs().max() > 0.1
    assert (apart[0]["1.running_var"] - whole["1.running_var"]).abs().max() > 1e-3


def test_no_cell_on_any_rank_changes_nothing(two_ranks: list[dict]) -> None:
    for result in two_ranks:
        state = result["nothing"]
        assert state["output"].shape == (0, 3, 2, 2)
        assert state["gradient"].tolist() == [0, 0, 0]
        assert state["running_var"].tolist() == [1, 1, 1]
        assert state["num_batches_tracked"] == 0


def test_one_cell_has_no_variance(two_ranks: list[dict]) -> None:
    assert all("more than one value" in result["one cell"] for result in two_ranks)


def test_half_precision_stays_half_and_is_normalised(two_ranks: list[dict]) -> None:
    for result in two_ranks:
        half = result["half"]
        assert half.dtype == torch.bfloat16
        wanted = torch.tensor([-1.3416, -0.4472, 0.4472, 1.3416])
        torch.testing.assert_close(half[0, 0, :, 0].float(), wanted, atol=0.01, rtol=0)


def test_one_process_has_the_ordinary_one() -> None:
    model = network()
    assert synchronise(model, CPU) is model
    assert not any(isinstance(module, SyncBatchNorm2d) for module in model.modules())
    x = torch.randn(4, 6, 3, 3)
    ours, plain = SyncBatchNorm2d(6), nn.BatchNorm2d(6)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.running_var, plain.running_var)
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def test_norm_without_running_statistics_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plrc.detection.norm.world_size", lambda: 2)
    with pytest.raises(ValueError, match="running statistics"):
        synchronise(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), CPU)
