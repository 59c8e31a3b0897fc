"""The losses of PLRC: pure functions of tensors, and the terms of the total loss that call them.

Shapes: ``B`` images on this rank, ``R`` regions an image, ``P`` points drawn in a region, ``D`` channels. All points
are L2-normalised. Logits and reductions are computed in float32 whatever the inputs' type, since a temperature of 0.04
multiplies rounding errors by 25.

A term is a function of a ``Direction``, registered by one line in ``plrc.registry``; it may stand in any module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from plrc.config import Config
from plrc.distributed import all_gather, all_mean, rank, world_size
from plrc.geometry import sample

# Stands for "not among the negatives" in a logsumexp. Finite, because the gradient of logsumexp over nothing but
# minus infinities is not a number; far below every logit (|cosine / temperature| < 1000 for any sane temperature).
ABSENT = -1e9
_SCORES = 2**25, 2**19  # of points with points of other images at a time: 128 MiB on a GPU, 2 MiB in a core's cache


def image_contrast(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE of MoCo: each image against its own key (class 0) and a queue of other images' keys.

    Args:
        query: ``(B, D)`` normalised, of view 1 by the query encoder.
        key: ``(B, D)`` normalised, of view 2 by the key encoder; takes no gradient.
        queue: ``(K, D)`` normalised keys of earlier batches; takes no gradient.
        temperature: τ > 0 (0.2, released code).

    Returns:
        Scalar: mean over images of ``−log softmax`` of the positive. ``log(1 + K)`` when everything is equal.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, queue = query.float(), key.detach().float(), queue.detach().float()
        query = query / temperature
        negatives = _LogSumExp.apply(query[None], queue, queue.new_zeros(1, 1, len(queue)))[0]
        return F.softplus(negatives - (query * key).sum(dim=1)).mean()


def point_contrast(
    points: Tensor, key_points: Tensor, valid: Tensor, *others: Any, count: Tensor | None = None
) -> Tensor:
    """Point-level region contrast (paper figure 1): pull points of one region together, push other regions' away.

    The mean of ``pair_losses``, whose arguments it takes in their order, over all pairs of valid regions.

    Args:
        count: number of valid regions by which the sum is divided, if not those of these images: of several ranks the
            mean, so that the mean over ranks is that of one process, whatever their numbers of regions.

    Returns:
        Scalar; zero where no region is valid.
    """
    with torch.autocast(points.device.type, enabled=False):
        pairs = pair_losses(points, key_points, valid, *others)
        weight = valid.view(len(valid), 1, 1, -1).float()
        count = weight.sum() if count is None else count
        return (pairs * weight).sum() / (count * pairs.shape[1] ** 2).clamp(min=1e-3)


def pair_losses(
    points: Tensor,
    key_points: Tensor,
    valid: Tensor,
    others: Tensor,
    others_image: Tensor,
    first_image: int,
    temperature: float,
) -> Tensor:
    """The loss of each pair of points of one region, one in each view.

    For point i of view 1 and point k of view 2 in the same region of the same image, with ``S_ik = p_i · p′_k / τ`` and
    ``N_i = logsumexp`` over the negatives of i, the loss is ``softplus(N_i − S_ik)``. Negatives are the points of view
    2 in the image's other regions and the points of other images; never a point of the same region.

    Args:
        points: ``(B, R, P, D)`` of view 1 by the query encoder.
        key_points: ``(B, R, P, D)`` of view 2 by the key encoder; takes no gradient.
        valid: ``(B, R)`` bool, regions that both views show. The points of other regions are ignored.
        others: ``(M, D)`` points of view 2 drawn from the global batch by the key encoder; takes no gradient.
        others_image: ``(M,)`` int, the image of the global batch that each belongs to, −1 for "none, ignore".
        first_image: index of this rank's first image in the global batch, so that an image's own points, which may be
            among ``others``, are not its negatives a second time (nor the points of its own region a first time).
        temperature: τ > 0 (0.2, released code).

    Returns:
        ``(B, P, P, R)``: point of view 1, point of view 2, region; of regions that are not valid anything.
    """
    with torch.autocast(points.device.type, enabled=False):
        b, r, p, d = points.shape
        query = points.float().reshape(b, r * p, d) / temperature  # so that no larger tensor need be divided
        key = key_points.detach().float().reshape(b, r * p, d)
        scores = torch.bmm(query, key.transpose(1, 2)).view(b, r, p, r, p)

        # The mask of an image's negatives is the same block pattern for every image but for regions that are missing:
        # (R, 1, R, 1) and (B, 1, 1, R, 1) broadcast, where (B, RP, RP) would cost as much as the scores themselves.
        same_region = torch.eye(r, dtype=torch.bool, device=points.device).view(1, r, 1, r, 1)
        absent = same_region | ~valid.view(b, 1, 1, r, 1)
        within = scores.masked_fill(absent, ABSENT).flatten(3).logsumexp(dim=3)  # (B, R, P)

        own = others_image.view(1, -1) == first_image + torch.arange(b, device=points.device).view(-1, 1)
        penalty = torch.where(own | (others_image < 0), ABSENT, 0.0).view(b, 1, -1)
        across = _LogSumExp.apply(query, others.detach().float(), penalty).view(b, r, p)

        negatives = torch.logaddexp(within, across)
        positives = torch.diagonal(scores, dim1=1, dim2=3)  # (B, P, P, R): points of one region in both views
        return F.softplus(negatives.transpose(1, 2)[:, :, None] - positives)


class _LogSumExp(torch.autograd.Function):
    """``logsumexp_m(q · o_m + penalty_m)`` of queries ``(B, N, D)``, others ``(M, D)`` and a penalty ``(B, 1, M)``.

    The others take no gradient, so that of a query is known with the value: the softmax's mean of the others. Both are
    computed a part at a time, while its scores lie in the cache: nothing of size B · N · M is kept for the way back.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, others: Tensor, penalty: Tensor) -> Tensor:
        (b, n, _), m = query.shape, len(others)
        value, mean = query.new_full((b, n), -math.inf), torch.zeros_like(query)
        part = _SCORES[query.device.type == "cpu"]
        images, rows = max(1, part // max(1, n * m)), max(1, part // max(1, m))
        for i, j in product(range(0, b, images), range(0, n, rows) if m else ()):
            here = slice(i, i + images), slice(j, j + rows)
            keys = others.expand(len(query[here]), -1, -1)
            scores = torch.baddbmm(penalty[here[0]], query[here], keys.transpose(1, 2))
            top = scores.amax(dim=2, keepdim=True)
            total = scores.sub_(top).exp_().sum(dim=2, keepdim=True)
            value[here] = (total.log() + top)[..., 0]
            mean[here] = torch.bmm(scores, keys) / total
        ctx.save_for_backward(mean)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[..., None] * mean, None, None


def affinity_distillation(
    points: Tensor,
    teacher_points: Tensor,
    key_points: Tensor,
    valid: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    count: Tensor | None = None,
) -> Tensor:
    """Point affinity distillation (paper figure 2): the momentum encoder's affinities teach the query encoder's.

    For each point i of view 1, the distribution of its affinity over all points k of view 2 of the same image:
    student ``softmax_k(p_i · p′_k / τ_s)``, teacher ``softmax_k(p′_i · p′_k / τ_t)``; the loss is their cross entropy,
    averaged over i. No centring, and no upsampled maps: a linear operation before a dot product needs no resolution.

    Args:
        points: ``(B, R, P, D)`` of view 1 by the query encoder.
        teacher_points: ``(B, R, P, D)``, the *same* points of view 1 by the key encoder; takes no gradient.
        key_points: ``(B, R, P, D)`` of view 2 by the key encoder; takes no gradient.
        valid: ``(B, R)`` bool, regions that both views show; points of other regions are neither i nor k.
        student_temperature: τ_s > 0 (0.1, released code).
        teacher_temperature: τ_t > 0 (0.04 → 0.07, released code). count: as of ``point_contrast``.

    Returns:
        Scalar; ``log`` of the number of valid points of an image when everything is equal, zero where none is valid.
    """
    with torch.autocast(points.device.type, enabled=False):
        target = affinity_logits(teacher_points.detach(), key_points, valid, teacher_temperature).softmax(dim=2)
        logits = affinity_logits(points, key_points, valid, student_temperature)
        # Cross entropy without a (points × points) log-softmax of its own: −Σ A′ (logit − lse) = lse − Σ A′ logit.
        # Where absent, A′ is exactly 0, and so is its share of the sum.
        cross_entropy = logits.logsumexp(dim=2) - torch.linalg.vecdot(target, logits)  # (B, RP)
        p = points.shape[2]
        count = valid.sum() if count is None else count
        absent = ~valid.repeat_interleave(p, dim=1)  # (B, RP)
        return cross_entropy.masked_fill(absent, 0).sum() / (count * p).clamp(min=1e-3)


def affinity_logits(points: Tensor, key_points: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Affinities ``p_i · p′_k / τ`` of an image's points: ``(B, RP, RP)``; ``ABSENT`` where k is in no valid region.

    Args:
        points: ``(B, R, P, D)`` of view 1. key_points, valid: as of ``affinity_distillation``. temperature: τ > 0.
    """
    with torch.autocast(points.device.type, enabled=False):
        query = points.float().flatten(1, 2) / temperature
        key = key_points.detach().float().flatten(1, 2)
        absent = ~valid.repeat_interleave(points.shape[2], dim=1)
        return torch.bmm(query, key.transpose(1, 2)).masked_fill(absent[:, None], ABSENT)


# ---------------------------------------------------------------------------------------------- terms of the total loss


@dataclass(frozen=True)
class Direction:
    """What a loss may use of one direction of a step: a view's queries against the other view's keys.

    Properties are computed when a loss first asks for them, and once. Nothing of the key encoder takes a gradient.

    Attributes:
        query_map: ``(B, D, h, w)`` of the view, by the query encoder; not normalised.
        key_map: the same of the other view, by the key encoder.
        own_key_map: the same of the view itself, by the key encoder; None unless a loss of the step has the trait
            ``own_keys``.
        places: ``(B, R, P, 2)``, where the view's points lie in it. key_places: the same for the other view's points.
        valid: ``(B, R)`` bool, regions that both views show; points of other regions are placeholders.
        queue: ``(K, D)``, normalised image keys of earlier batches.
        lottery: ``(B · R · P,)`` random numbers, uniform in [0, 1), by which points of other images are drawn.
        config: of the run. teacher_temperature: τ_t of this moment.
    """

    query_map: Tensor
    key_map: Tensor
    own_key_map: Tensor | None
    places: Tensor
    key_places: Tensor
    valid: Tensor
    queue: Tensor
    lottery: Tensor
    config: Config
    teacher_temperature: float

    @cached_property
    def query(self) -> Tensor:
        """Image features ``(B, D)`` of the view: the normalised mean over positions of the map."""
        return _pooled(self.query_map)

    @cached_property
    def key(self) -> Tensor:
        """Image features ``(B, D)`` of the other view, by the key encoder."""
        return _pooled(self.key_map)

    @cached_property
    def points(self) -> Tensor:
        """Points ``(B, R, P, D)`` of the view: bilinear samples of the map, then normalised."""
        return _sampled(self.query_map, self.places)

    @cached_property
    def key_points(self) -> Tensor:
        """Points ``(B, R, P, D)`` of the other view, by the key encoder."""
        return _sampled(self.key_map, self.key_places)

    @cached_property
    def teacher_points(self) -> Tensor:
        """The same points of the same view as ``points``, by the key encoder."""
        assert self.own_key_map is not None, "this loss needs the trait own_keys=True"
        return _sampled(self.own_key_map, self.places)

    @cached_property
    def count(self) -> Tensor:
        """Number of valid regions on a rank, the mean over all ranks: a sum over it is part of a mean over them all."""
        return all_mean(self.valid.sum(dtype=torch.float32))

    @property
    def first_image(self) -> int:
        """Index of this rank's first image in the global batch."""
        return rank() * len(self.valid)

    def others(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """M of the keys ``(B, R, P, D)``, or of fewer in a region, of the global batch, and the image ``(M,)`` of each.

        They are drawn evenly over the ranks. Each rank sends only its share ``(M / ranks, D)``, not all it has; where
        it has fewer the image is −1.
        """
        with torch.no_grad():
            b, r, p, _ = keys.shape
            image = torch.arange(b, device=self.valid.device) + self.first_image
            owner = torch.where(self.valid, image[:, None], -1)[:, :, None].expand(b, r, p).flatten()
            # Without replacement and without waiting for the device: valid points have the larger random keys.
            share = self.config.negatives // world_size()
            chosen = (self.lottery[: len(owner)] + (owner >= 0)).topk(min(share, len(owner))).indices
            missing = share - len(chosen)  # every rank sends equally much, also one whose images have few regions
            features = F.pad(keys.flatten(0, 2)[chosen], (0, 0, 0, missing))
            return all_gather(features), all_gather(F.pad(owner[chosen], (0, missing), value=-1))


def image(step: Direction) -> Tensor:
    """Image contrast: the image against its own key and the queue."""
    return image_contrast(step.query, step.key, step.queue, step.config.temperature)


def point(step: Direction) -> Tensor:
    """Point-level region contrast, with M points of other images among the negatives."""
    return _contrast(step, step.points, step.key_points)


def region(step: Direction) -> Tensor:
    """Region contrast: the same of one feature a region, the mean of its points, as DetCon has it (Hénaff et al. 2021).

    What point-level contrast is to be compared with: it sees the same points of the same regions.
    """
    points, key_points = (F.normalize(p.mean(dim=2, keepdim=True), dim=3) for p in (step.points, step.key_points))
    return _contrast(step, points, key_points)


def affinity(step: Direction) -> Tensor:
    """Point affinity distillation."""
    student, teacher = step.config.student_temperature, step.teacher_temperature
    points = step.points, step.teacher_points, step.key_points
    return affinity_distillation(*points, step.valid, student, teacher, step.count)


def _contrast(step: Direction, points: Tensor, keys: Tensor) -> Tensor:
    others = *step.others(keys), step.first_image, step.config.temperature
    return point_contrast(points, keys, step.valid, *others, count=step.count)


def _pooled(z: Tensor) -> Tensor:
    return F.normalize(z.float().mean(dim=(2, 3)), dim=1)


def _sampled(z: Tensor, places: Tensor) -> Tensor:
    return F.normalize(sample(z, places.flatten(1, 2)).unflatten(1, places.shape[1:3]), dim=-1)
