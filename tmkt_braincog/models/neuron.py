"""A neuron over T: one autograd function, or BrainCog's own code where it has no fused form."""

from functools import lru_cache

import torch
from braincog.base.node.node import BaseNode, IFNode, LIFNode
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import folded
from .batchnorm import affine_backward, affine_of, remember
from .folded import Folded, Plan, unfolded
from .kernels import SURROGATES, Affine, Neuron, Pool, wide


def supports(node: BaseNode) -> bool:
    """Whether the neuron has a fused form."""
    return (
        type(node) in (LIFNode, IFNode)
        and type(node.act_fun).__name__ in SURROGATES
        and not any((node.mem_detach, node.requires_fp, node.requires_mem))
        and not any((node.sigmoid_thres, node.layer_by_layer))
        and node.groups == 1
        and not node.threshold.requires_grad
        and not node.act_fun.alpha.requires_grad
    )


def neuron_of(node: BaseNode, x: Tensor) -> Neuron:
    """The constants of a supported node as they are now, without waiting for a GPU."""
    leaky, dtype = type(node) is LIFNode, wide(x.dtype)
    constants = [
        c.detach().to(x.device, dtype).reshape(())
        if isinstance(c, Tensor)
        else torch.full((), c, dtype=dtype, device=x.device)
        for c in (node.tau if leaky else node.dt, node.threshold, node.act_fun.alpha, node.v_reset)
    ]
    return Neuron(leaky, type(node.act_fun).__name__, torch.stack(constants))


def walk(node: BaseNode, x: Tensor, plan: Plan, is_tap: bool) -> Folded:
    """BrainCog's own neuron, one step after the other, each stream from rest."""
    spikes, membranes = [], []
    for stream in plan.parts(x):
        node.n_reset()
        for part in stream:
            spikes.append(node(part))
            membranes += [node.mem] if is_tap else []
    if is_tap and isinstance(node.mem, Tensor):
        node.mem = torch.cat(membranes)
    return Folded(torch.cat(spikes))


def fire(
    node: BaseNode, x: Tensor, norm: _BatchNorm | None, pool: int, plan: Plan, is_tap: bool
) -> Folded:
    """Norm, neuron and average pool of side ``pool``; the tap's ``mem`` is ``[S T B, ...]``."""
    affine = (norm.weight, norm.bias) if norm is not None else (None, None)
    neuron = neuron_of(node, x)
    spikes, fired, membranes = _Fire.apply(x, *affine, norm, neuron, pool, plan, is_tap)
    if is_tap:
        node.mem = membranes
    return Folded(spikes, fired, pool)


@lru_cache(maxsize=64)
def pool_of(side: int, shape: torch.Size, device: torch.device) -> Pool | None:
    """For ``[B, C, H, W]``."""
    if side == 1:
        return None
    (B, H, W), (h, w) = (shape[0], *shape[2:]), (shape[2] // side, shape[3] // side)
    rows = torch.full((B, H, W), -1, device=device)
    pooled = torch.arange(B * h * w, device=device).view(B, h, 1, w, 1)
    pooled = pooled.expand(B, h, side, w, side).reshape(B, h * side, w * side)
    rows[:, : h * side, : w * side] = pooled
    return Pool(side, rows.flatten())


class _Fire(torch.autograd.Function):
    """(BatchNorm and) LIF or IF neuron over T, hard reset, reset detached (and average pool).

    ``[S T B, C, ...]`` -> (pooled) spikes in the input's dtype, spikes as one byte each, membranes
    after the reset (float32 or wider; None unless wanted). Keeps its input, a byte per spike and
    the statistics; computes the rest again."""

    @staticmethod
    def forward(ctx, x, weight, bias, norm, neuron, pool, plan, wants_membranes):
        rows, use = plan.rows(x), folded.kernels_for(x)
        affine = affine_of(rows, norm) if norm is not None else None
        out = use.fire(rows, affine, neuron, wants_membranes)
        fired, membranes = (None if a is None else unfolded(a, x.shape) for a in out)
        ctx.save_for_backward(rows, fired, neuron.constants, *(affine or ()))
        ctx.neuron, ctx.plan, ctx.pool = neuron._replace(constants=None), plan, pool
        ctx.wants_membranes, ctx.shape = wants_membranes, x.shape
        remember(ctx, norm)
        ctx.mark_non_differentiable(fired)
        return use.spikes(fired, pool, x.dtype), fired, membranes

    @staticmethod
    @once_differentiable
    def backward(ctx, d_spikes, _, d_membranes):
        rows, fired, constants, *affine = ctx.saved_tensors
        affine, plan = Affine(*affine) if affine else None, ctx.plan
        fired, d_spikes = plan.rows(fired), plan.rows(d_spikes)
        d_membranes = plan.rows(d_membranes) if ctx.wants_membranes else None
        neuron = ctx.neuron._replace(constants=constants)
        pool = pool_of(ctx.pool, (plan.batch, *ctx.shape[1:]), rows.device)
        arguments = rows, affine, neuron, fired, d_spikes, d_membranes, pool
        d_current, *sums = folded.kernels_for(rows).fire_backward(*arguments)
        if affine is None:
            return unfolded(d_current.to(rows.dtype), ctx.shape), *[None] * 7
        d_x, *d_parameters = affine_backward(ctx, rows, affine, d_current, *sums)
        return unfolded(d_x, ctx.shape), *d_parameters, *[None] * 5
