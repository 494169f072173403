"""BatchNorm of folded tensors: statistics of each stream and step, or of all processes."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from .. import distributed
from . import folded, kernels
from .folded import Plan, unfolded
from .kernels import Affine, wide


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """With the statistics of all processes' samples, equally many from each.

    PyTorch's ``SyncBatchNorm`` runs on GPUs only and one step at a time; here the statistics of all
    streams and steps of a layer are exchanged at once."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.count() == 1:
            return super().forward(x)
        return normalise(self, x, Plan(1, 1, len(x)))


def synchronise(model: nn.Module) -> None:
    """Turn every ``nn.BatchNorm2d`` of ``model`` into a :class:`GlobalBatchNorm2d`, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d and module.track_running_stats:
            module.__class__ = GlobalBatchNorm2d


def can_normalise(layer: object, x: Tensor, plan: Plan) -> bool:
    """Whether the layer is a BatchNorm known here; PyTorch's refuses what has no variance."""
    if type(layer) not in (nn.BatchNorm1d, nn.BatchNorm2d, GlobalBatchNorm2d):
        return False
    return not _is_batch(layer) or x[0, 0].numel() * plan.batch > 1  # type: ignore[arg-type]


def _is_batch(norm: _BatchNorm) -> bool:
    """Whether the statistics are those of the batch."""
    return norm.training or norm.running_mean is None


def affine_of(x: Tensor, norm: _BatchNorm) -> Affine:
    """For ``[S, T, M, C]``; running statistics take S T updates, in the loop's order."""
    if _is_batch(norm):
        (mean, var), n = folded.kernels_for(x).moments(x), x.shape[2]
        if isinstance(norm, GlobalBatchNorm2d):
            own, mean, n = mean, distributed.mean(mean), n * distributed.count()
            var = distributed.mean(var + (own - mean).square())
        if norm.training and norm.track_running_stats:
            _update(norm, mean.flatten(0, 1), var.flatten(0, 1) * (n / max(n - 1, 1)))
    else:
        shape, running = (*x.shape[:2], x.shape[3]), (norm.running_mean, norm.running_var)
        mean, var = (a.to(wide(x.dtype)).expand(shape) for a in running if a is not None)
    invstd = (var + norm.eps).rsqrt()
    scale = invstd if norm.weight is None else invstd * norm.weight
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return Affine(mean, invstd, scale, shift)


def remember(ctx, norm: _BatchNorm | None) -> None:
    """What :func:`affine_backward` needs to know of the norm."""
    ctx.is_batch = norm is not None and _is_batch(norm)
    ctx.is_global = isinstance(norm, GlobalBatchNorm2d)


def affine_backward(
    ctx, x: Tensor, affine: Affine, d_out: Tensor, d_shift: Tensor, d_scale: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias, from that of the normalised values and its sums."""
    b = c = torch.zeros_like(affine.scale)
    if ctx.is_batch:  # the statistics depend on the input too
        sums = torch.stack([affine.invstd * d_scale, d_shift])
        b, c = -affine.scale * (distributed.mean(sums) if ctx.is_global else sums) / x.shape[2]
    d_x = folded.kernels_for(x).d_input(x, affine.mean, d_out, affine.scale, b, c)
    needed = zip(ctx.needs_input_grad[1:3], (d_scale, d_shift), strict=True)
    return d_x, *(d.sum((0, 1)) if wanted else None for wanted, d in needed)


def _update(norm: Any, mean: Tensor, var: Tensor) -> None:
    """The updates of ``[n, C]`` one after another, as one: their weights are a power series."""
    n = len(mean)
    if norm.momentum is None:  # the plain average of all so far
        weight = (n / (norm.num_batches_tracked + n)).to(norm.running_mean.dtype)
        mean, var = mean.mean(0), var.mean(0)
    else:
        weight = 1 - (1 - norm.momentum) ** n
        weights = _powers(norm.momentum, n, mean.dtype, mean.device)
        mean, var = weights @ mean, weights @ var
    norm.num_batches_tracked.add_(n)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(var.to(norm.running_var.dtype), weight)


@cache
def _powers(momentum: float, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[n]``, share of each update in their sum; kept, as a copy to a GPU would wait for it."""
    shares = (1 - momentum) ** torch.arange(n - 1, -1, -1, dtype=torch.float64)
    return (shares / shares.sum()).to(device, dtype)


def normalise(norm: _BatchNorm, x: Tensor, plan: Plan) -> Tensor:
    """A BatchNorm without a neuron behind it."""
    return _Normalise.apply(x, norm.weight, norm.bias, norm, plan)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, norm, plan):
        rows = plan.rows(x)
        affine = affine_of(rows, norm)
        ctx.save_for_backward(rows, *affine)
        ctx.plan, ctx.shape = plan, x.shape
        remember(ctx, norm)
        out = rows * affine.scale[:, :, None] + affine.shift[:, :, None]
        return unfolded(out.to(x.dtype), x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        rows, *saved = ctx.saved_tensors
        affine = Affine(*saved)
        d_out = ctx.plan.rows(d_out).to(wide(rows.dtype), copy=True)  # its place is taken
        sums = kernels.d_affine(rows, affine, d_out)
        d_x, *d_parameters = affine_backward(ctx, rows, affine, d_out, *sums)
        return unfolded(d_x, ctx.shape), *d_parameters, None, None
