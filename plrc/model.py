"""PLRC: query and key encoder, momentum update, queue, and the losses of one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from plrc.backbones import Encoder
from plrc.config import Config
from plrc.distributed import BatchShuffle, all_gather, sent_to, world_size
from plrc.losses import Direction
from plrc.regions import sample_points
from plrc.registry import LOSSES


@dataclass(frozen=True)
class Draws:
    """What is random in a step: ``(2B, R, P, 3)`` for the points of both views, ``(B · R · P,)`` for each direction's
    points of other images, all uniform in [0, 1); and how the keys are shuffled."""

    points: Tensor
    lotteries: list[Tensor]
    shuffle: BatchShuffle


class PLRC(nn.Module):
    """Point-level region contrast (Bai et al., CVPR 2022; docs/design.md).

    One training step is ``update_keys()``, one ``forward`` and backward for each part of the batch, the optimiser's
    step, ``enqueue()``. Keys and queue thus stay fixed within a step, however many parts it has.

    Its weights come from the global generator.

    Args:
        config: of the run; BatchNorm sees ``config.bn_groups_of_a_part`` parts of this rank's batch apart.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.bn_groups = config, config.bn_groups_of_a_part(world_size())
        self.query_encoder = Encoder(config.arch, config.dim)
        self.key_encoder = copy.deepcopy(self.query_encoder).requires_grad_(False)
        self.queue = nn.Buffer(F.normalize(torch.randn(config.queue_size, config.dim), dim=1))
        self.queue_position = nn.Buffer(torch.zeros((), dtype=torch.long))
        self._average = get_ema_multi_avg_fn(config.key_momentum)
        self._new_keys: list[Tensor] = []
        self._compiled: dict[nn.Module, Callable[[Tensor], Tensor]] = {}

    def forward(
        self,
        views: Tensor,
        regions: Tensor,
        draws: Draws,
        *,
        teacher_temperature: float,
        terms: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """The losses of this rank's part of the batch, unweighted, by their names in ``plrc.registry.LOSSES``.

        Args:
            views: ``(2, B, 3, H, W)``, both views of B images, ImageNet-normalised.
            regions: ``(2, B, h, w)`` integer, the region that each cell of each view sees.
            draws: what is random, as ``draw`` made it for these images and terms. teacher_temperature: τ_t now.
            terms: the losses to compute; those with a default weight if None. What only the others need is not
                computed.
        """
        wanted, own_keys = self._needed(terms)
        there, *back = self.directions(views, regions, draws, own_keys, teacher_temperature)
        self._new_keys.append(there.key)
        losses = {name: LOSSES[name].load()(there) for name in wanted}
        for other in back:
            losses = {name: (loss + LOSSES[name].load()(other)) / 2 for name, loss in losses.items()}
        return losses

    def directions(
        self, views: Tensor, regions: Tensor, draws: Draws, own_keys: bool, teacher_temperature: float
    ) -> list[Direction]:
        """What the losses of a ``forward`` see: view 1 against view 2, and with ``symmetric`` the other way, too.

        own_keys: whether the key encoder sees view 1, too. All else as of ``forward``.
        """
        shuffled = self._shuffled(views if own_keys else views[1:], draws.shuffle)
        z1 = self._in_groups(self.query_encoder, views[0])
        keys = self._encode_keys(shuffled(), draws.shuffle, 1 + own_keys)
        k1, k2 = keys[0] if own_keys else None, keys[-1]

        points, seen = sample_points(regions.flatten(0, 1), draws.points)
        points1, points2 = points.unflatten(0, (2, -1))
        seen1, seen2 = seen.unflatten(0, (2, -1))

        both: dict[str, Any] = {"valid": seen1 & seen2, "queue": self.queue, "config": self.config}
        both["teacher_temperature"] = teacher_temperature
        there = Direction(z1, k2, k1, points1, points2, lottery=draws.lotteries[0], **both)
        if k1 is None or not self.config.symmetric:
            return [there]
        z2 = self._in_groups(self.query_encoder, views[1])
        return [there, Direction(z2, k1, k2, points2, points1, lottery=draws.lotteries[1], **both)]

    def compile_encoders(self) -> None:
        """From now on a step runs the encoders as ``torch.compile`` makes them, for its one shape.

        The modules stay as they are: names in checkpoints, and looking at images of any size.
        """
        encoders = (self.query_encoder, self.key_encoder)
        self._compiled = {encoder: torch.compile(encoder.forward, dynamic=False) for encoder in encoders}

    def draw(
        self,
        images: int,
        region_count: int,
        points: torch.Generator,
        shuffle: torch.Generator,
        terms: Collection[str] | None = None,
    ) -> Draws:
        """All that is random in a ``forward``, on the model's device, drawn on the CPU so that no device waits for it.

        Args:
            images: B. region_count: R, an upper bound of their numbers of regions. terms: as of ``forward``.
            points: draws this rank's points. shuffle: the same on every rank, permutes the keys. Both on the CPU.
        """
        device, per_region = self.queue.device, self.config.points_per_region
        places = torch.rand((2 * images, region_count, per_region, 3), generator=points)
        shape = (1 + self.config.symmetric, images * region_count * per_region)
        lotteries = [sent_to(lottery, device) for lottery in torch.rand(shape, generator=points)]
        keys = BatchShuffle(images * (2 if self._needed(terms)[1] else 1), shuffle, device)
        return Draws(sent_to(places, device), lotteries, keys)

    def _needed(self, terms: Collection[str] | None) -> tuple[list[str], bool]:
        """Names of the losses to compute, and whether the key encoder must see the queries' own view, too."""
        names = [name for name, loss in LOSSES.items() if (loss.traits["weight"] if terms is None else name in terms)]
        return names, self.config.symmetric or any(LOSSES[name].traits.get("own_keys") for name in names)

    @torch.no_grad()
    def update_keys(self) -> None:
        """``key ← m · key + (1 − m) · query`` for every parameter, once a step (He et al. 2020, equation 2)."""
        self._average(list(self.key_encoder.parameters()), list(self.query_encoder.parameters()), 0)

    @torch.no_grad()
    def enqueue(self) -> None:
        """Put the image keys of this step, from all ranks, in place of the oldest in the queue."""
        keys = all_gather(torch.cat(self._new_keys))[-len(self.queue) :]
        self._new_keys.clear()
        places = (self.queue_position + torch.arange(len(keys), device=self.queue.device)) % len(self.queue)
        self.queue[places] = keys.to(self.queue.dtype)
        self.queue_position.copy_((self.queue_position + len(keys)) % len(self.queue))

    @torch.no_grad()
    def _shuffled(self, views: Tensor, shuffle: BatchShuffle) -> Callable[[], Tensor]:
        """Views ``(V, B, 3, H, W)`` as ``(V · B, 3, H, W)`` shuffled across ranks, on their way until called for.

        Image by image, so that the order of the global batch, and what is shuffled where, does not depend on the ranks.
        They travel in the type that the first convolution makes of them, half as many bytes in bf16.
        """
        kind = views.device.type
        if world_size() > 1 and torch.is_autocast_enabled(kind):
            views = views.to(torch.get_autocast_dtype(kind))
        return shuffle.scatter(views.transpose(0, 1).flatten(0, 1))

    @torch.no_grad()
    def _encode_keys(self, shuffled: Tensor, shuffle: BatchShuffle, views: int) -> Tensor:
        """Key maps ``(V, B, D, h, w)`` of V views as ``_shuffled`` gives them, in one forward."""
        maps = self._in_groups(self.key_encoder, shuffled.contiguous(memory_format=torch.channels_last))
        return shuffle.restore(maps).unflatten(0, (-1, views)).transpose(0, 1)

    def _in_groups(self, encoder: nn.Module, images: Tensor) -> Tensor:
        """Encode with BatchNorm statistics of each of ``bn_groups`` equal parts apart: each is a forward of its own."""
        encode = self._compiled.get(encoder, encoder)
        if self.bn_groups == 1:
            return encode(images)
        return torch.cat([encode(group) for group in images.chunk(self.bn_groups)])
