"""Two gloo processes against one, on the real model: each check runs once in two spawned ranks and once here."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import plrc.losses
import plrc.model
from plrc import distributed
from plrc.config import load_config
from plrc.distributed import BatchShuffle
from plrc.model import PLRC
from plrc.run import Stop
from tests.runs import free_port

BATCH, REGIONS, POINTS = 8, 4, 3  # of the global batch
RANKS = 2
FROZEN, GROUPS = "BatchNorm frozen", "virtual groups"


def global_batch() -> tuple[Tensor, Tensor]:
    """Views (2, 8, 3, 32, 32), and regions that carry each view's number instead of regions (see table_of_points)."""
    views = torch.randn(2, BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    return views, torch.arange(2 * BATCH).view(2, BATCH, 1, 1)


def table_of_points(regions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """In place of sample_points: the same points for a view whichever rank holds it; the first images miss a region."""
    table = torch.rand(2 * BATCH, REGIONS, POINTS, 2, generator=torch.Generator().manual_seed(6))
    shown = (regions[:, :1, 0] % BATCH >= 3) | (torch.arange(REGIONS) != 1)
    return table[regions[:, 0, 0]], shown


def losses_and_gradients(mode: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """One forward and backward on this rank's share; losses averaged over ranks."""
    torch.manual_seed(0)
    settings = {"queue_size": 32, "points_per_region": POINTS, "symmetric": True, "bn_groups": RANKS}
    settings["negatives"] = BATCH * REGIONS * POINTS  # all there are, so that no draw matters
    model = PLRC(load_config("demo", given=settings | ({"bn_groups": 1} if mode == FROZEN else {})))
    for name, parameter in model.named_parameters():
        if name.endswith("bn2.weight"):
            torch.nn.init.ones_(parameter)  # zero at the start, and BatchNorm's statistics would matter less
    if mode == FROZEN:
        model.eval()
    parallel = DistributedDataParallel(model, broadcast_buffers=False) if ranks > 1 else model
    views, regions = global_batch()
    share = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
    generators = (torch.Generator().manual_seed(seed) for seed in (7, 8))
    draws = model.draw(BATCH // ranks, REGIONS, *generators)
    others = []
    original = plrc.losses.point_contrast

    def counted(*arguments, **named):
        others.append(len(arguments[3]))
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plrc.losses, "point_contrast", counted)
        losses = parallel(views[:, share], regions[:, share], draws, teacher_temperature=0.05)
    sum(losses.values()).backward()
    model.enqueue()
    result = {name: distributed.all_mean(loss.detach()) for name, loss in losses.items()}
    result["projector gradient"] = model.query_encoder.projector[2].weight.grad
    result["stem gradient"] = model.query_encoder.backbone.conv1.weight.grad
    result |= {"queue": model.queue, "points of other images": torch.tensor(others)}
    return result


def shuffle_check(rank: int, ranks: int) -> dict[str, Tensor]:
    """What each rank got in a shuffle of 6 samples a rank named by their owner and place, and what came back."""
    mine = torch.arange(6) + 6 * rank
    shuffle = BatchShuffle(6, torch.Generator().manual_seed(3), torch.device("cpu"))
    scattered = shuffle.scatter(mine)()
    return {
        "scattered": distributed.all_gather(scattered),
        "restored": distributed.all_gather(shuffle.restore(scattered)),
    }


def one_rank(rank: int, port: int, folder: str) -> None:
    about = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in about.items()}
    torch.set_num_threads(1)
    plrc.model.sample_points = table_of_points
    with distributed.world() as here:
        results = {mode: losses_and_gradients(mode, rank, RANKS) for mode in (FROZEN, GROUPS)}
        results["shuffle"] = shuffle_check(rank, RANKS)
        shuffle = BatchShuffle(2, torch.Generator(), here.device)
        with torch.autocast("cpu", torch.bfloat16):
            results["travelling"] = PLRC._shuffled(None, torch.ones(1, 2, 3, 4, 4), shuffle)()
        results["any"] = torch.tensor([distributed.any_rank(here.rank == 1), distributed.any_rank(False)])
        stop = Stop()
        results["stop"] = torch.tensor([stop.agreed()])  # nobody asks
        stop.requested = here.rank == 1
        results["stop"] = torch.tensor([results["stop"], stop.agreed(), stop.agreed()])
        stop._asked()
        results["objects"] = [*distributed.all_gather_objects(here.rank), distributed.broadcast_object(here.rank)]
    torch.save(results, Path(folder) / f"{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, args=(free_port(), str(folder)), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("mode", [FROZEN, GROUPS])
def test_two_ranks_compute_what_one_process_computes(mode, two_ranks, monkeypatch):
    monkeypatch.setattr(plrc.model, "sample_points", table_of_points)
    alone = losses_and_gradients(mode, 0, 1)
    of_step = {"image", "point", "affinity", "queue", "points of other images"}
    assert set(alone) == of_step | {"projector gradient", "stem gradient"}
    for results in two_ranks:
        for name, value in alone.items():
            told = lambda message, name=name: f"{name}: {message}"  # noqa: E731
            torch.testing.assert_close(results[mode][name], value, rtol=2e-4, atol=2e-6, msg=told)


def test_shuffled_samples_come_back_in_order(two_ranks):
    for results in two_ranks:
        scattered, restored = results["shuffle"]["scattered"], results["shuffle"]["restored"]
        assert restored.tolist() == list(range(12))
        assert sorted(scattered.tolist()) == list(range(12))
        assert scattered.tolist() == torch.randperm(12, generator=torch.Generator().manual_seed(3)).tolist()
        assert (scattered[:6] >= 6).any(), "the first rank normalises samples of the second"


def test_flags_and_objects_reach_every_rank(two_ranks):
    for results in two_ranks:
        assert results["any"].tolist() == [True, False]
        assert results["travelling"].dtype == torch.bfloat16, "half the bytes"
        assert results["stop"].tolist() == [False, False, True], "a step after it was asked for, on every rank"
        assert results["objects"] == [0, 1, 0]


def test_one_process_needs_no_group():
    x = torch.arange(6)
    assert distributed.all_gather(x) is x
    assert distributed.any_rank(True)
    assert not distributed.any_rank(False)
    assert distributed.all_gather_objects("a") == ["a"]
    with distributed.world() as here:
        assert (here.rank, here.size, here.is_main) == (0, 1, True)


def test_a_process_that_slurm_started_beside_its_tasks_is_refused(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ValueError, match=r"8 tasks for this job, but started this process by itself"),
        distributed.world(),
    ):
        pass
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # srun --ntasks=1
    with distributed.world() as here:
        assert here.size == 1


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[003-006,010],other", "gpu003"),
        ("a-1,b[1-2]", "a-1"),
        ("n7", "n7"),
        ("rack[2,4]n[08-09],x", "rack2n08"),
        ("node[5]", "node5"),
    ],
)
def test_a_task_of_slurm_takes_its_rank(nodes, first, monkeypatch):
    for name, value in {"STEP_NUM_TASKS": "8", "NTASKS": "8", "PROCID": "5", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NODELIST", nodes)
    monkeypatch.setenv("SLURM_JOB_ID", "1234567")
    expected = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": first, "MASTER_PORT": "24567"}
    assert distributed._ranks_of_slurm() == expected
    monkeypatch.setenv("MASTER_PORT", "29400")
    assert distributed._ranks_of_slurm() == {**expected, "MASTER_PORT": "29400"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "one"}, "RANK=one in the environment is no whole number"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but RANK is missing"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2, but MASTER_ADDR is missing"),
        ({"RANK": "1"}, "WORLD_SIZE=1, but RANK is 1"),  # it would train, and save nothing
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "TAKEN"}, "is taken by another process"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "0"}, "1 of 2 ranks came to"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}, "rank 1 cannot reach rank 0 at localhost:1"),
    ],
)
def test_an_environment_in_which_ranks_do_not_meet_is_told_of(environment, said, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("", 0)) as taken:
        for name, value in environment.items():
            monkeypatch.setenv(name, str(taken.getsockname()[1]) if value == "TAKEN" else value)
        if "MASTER_PORT" in environment:
            monkeypatch.setenv("MASTER_ADDR", "localhost")
        with pytest.raises(ValueError, match=said), distributed.world(minutes=0.02):
            pass


def test_a_rank_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("plrc.distributed._GRACE", 0.01)
    store = torch.distributed.HashStore()
    store.set("rank 2 waits", "")
    assert distributed._silent(store, 0, 4) == "rank 1, rank 3"
