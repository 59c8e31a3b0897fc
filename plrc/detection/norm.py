"""BatchNorm over the pictures of all ranks, on CPUs too.

A rank of a detector has one or two pictures, too few to normalise by. torch's SyncBatchNorm runs on GPUs only, so ranks
on CPUs have the one below. (Megdet, section 3.2: cross-GPU batch normalisation)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plrc.distributed import world_size

_CELLS = (0, 2, 3)  # of (n, C, h, w): what a channel's statistics are taken over


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with the statistics of all ranks' batches taken together, each cell counting once.

    Ranks may have different numbers of maps, of different sizes, or none at all: every rank must come by in the same
    order, forward and backward, because each waits for the others. A parameter's gradient is this rank's share, as of
    any other layer: DistributedDataParallel does the rest. In evaluation mode, and in a world of one rank, it is
    ``nn.BatchNorm2d``.

    Args:
        channels: C. eps: added to the variance. momentum: of the running statistics; None for their plain mean.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps, momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(n, C, h, w)`` → the same, normalised.

        Raises:
            ValueError: in training, all ranks together have one cell only, which has no variance.
        """
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        mean, var, count = _statistics(x.detach())
        if count == 1:
            raise ValueError(f"training needs more than one value of each channel, and all ranks have {count}")
        if count:
            self._track(mean, var * (count / (count - 1)))
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, var, count, self.eps)
        return normalised

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(var.to(self.running_var), momentum)


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with every BatchNorm2d synchronised across ranks; unchanged in a world of one rank.

    Parameters and buffers stay the same objects under the same names. BatchNorms are replaced within the model; one
    that is itself a BatchNorm is returned as another.

    Args:
        device: where the model will be. On a GPU it gets torch's own SyncBatchNorm.
    """
    if world_size() == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    if type(model) is nn.BatchNorm2d:
        return _of_all_ranks(model)
    for name, child in model.named_children():
        setattr(model, name, synchronise(child, device))
    return model


def _of_all_ranks(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    if not norm.affine or not norm.track_running_stats:
        raise ValueError(f"{norm} cannot be synchronised: it needs weights and running statistics")
    synchronised = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(synchronised, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(synchronised, name, buffer)
    return synchronised.train(norm.training)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (biased) ``(C,)`` float64 over the cells of all ranks, and the number of these cells."""
    channels, cells = x.shape[1], x.numel() // x.shape[1]
    sums = x.new_zeros(2 * channels + 1, dtype=torch.float64)
    if cells:
        var, mean = torch.var_mean(_precise(x), _CELLS, correction=0)
        mean, var = mean.double(), var.double()
        # In float64 the squares of the means may be added and taken away again.
        sums = torch.cat((mean * cells, (var + mean**2) * cells, sums.new_tensor([cells])))
    dist.all_reduce(sums)
    count = int(sums[-1])
    mean, squares = (sums[:-1] / max(count, 1)).split(channels)
    return mean, (squares - mean**2).clamp(min=0), count


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Normalise(torch.autograd.Function):
    """Normalisation by statistics that depend on the input of every rank."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: int, eps: float
    ) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        return F.batch_norm(x, mean.to(weight), var.to(weight), weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors

        def of_channel(value: Tensor) -> Tensor:
            return value.to(precise)[:, None, None]

        precise, grad = _precise(x), _precise(grad)
        standard = (precise - of_channel(mean)) * of_channel(scale)
        of_weight, of_bias = (grad * standard).sum(_CELLS), grad.sum(_CELLS)
        sums = torch.cat((of_weight, of_bias)).double()
        dist.all_reduce(sums)
        along, constant = (sums / max(ctx.count, 1)).chunk(2)
        slope = weight.double() * scale
        # What all cells together gain by the shift and by the scale of the input is taken away: the output has neither.
        of_x = of_channel(slope) * (grad - of_channel(constant) - standard * of_channel(along))
        return of_x.to(x.dtype), of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None, None, None
