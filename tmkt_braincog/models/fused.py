"""The fused executor: all streams and time-steps of a layer at once, the numbers of the step loop.

The step loop runs the whole network once per stream and time-step. Here a layer sees ``[S T B, C,
H, W]``: S streams, each with T steps of B samples. Convolutions, pools and linear layers do not mix
samples, so they take the whole batch. BatchNorm does (:mod:`~tmkt_braincog.models.batchnorm`): its
statistics stay those of one stream and one step, and its running statistics are updated in the
loop's order, all steps of the static stream before those of the event stream. Neurons walk over T:
those with a fused form in one autograd function, with the norm before and the average pool behind
them, others by BrainCog's own code. A convolution keeps the bytes of its input spikes instead of
the floats."""

from collections import deque
from functools import lru_cache

import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode, IFNode, LIFNode
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import folded
from .batchnorm import affine_backward, affine_of, can_normalise, normalise, remember
from .blocks import Branches, Parts
from .folded import Folded, Plan, unfolded
from .kernels import SURROGATES, Affine, Neuron, Pool, wide


def run(parts: Parts, value: Folded, plan: Plan, tap_node: nn.Module | None = None) -> Folded:
    """``value`` through the layers in order; ``mem`` of the ``tap_node`` is then ``[S T B, ...]``,
    the membranes after the reset."""
    rest = deque(parts)
    while rest:
        layer = rest.popleft()
        if isinstance(layer, Branches):
            ends = [run(way, value, plan, tap_node).x for way in layer.ways]
            value = Folded(layer.join(*ends))
        elif can_normalise(layer, value.x, plan) and rest and supports(rest[0]):
            node, pool = rest.popleft(), _pool_next(rest, value.x)
            value = _fire(node, value.x, layer, pool, plan, node is tap_node)
        elif supports(layer):
            pool = _pool_next(rest, value.x)
            value = _fire(layer, value.x, None, pool, plan, layer is tap_node)
        elif isinstance(layer, BaseNode):
            value = _walk(layer, value.x, plan, layer is tap_node)
        elif can_normalise(layer, value.x, plan):
            value = Folded(normalise(layer, value.x, plan))
        else:
            value = Folded(_apply(layer, value, plan))
    return value


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


def _apply(layer: nn.Module, value: Folded, plan: Plan) -> Tensor:
    if isinstance(layer, _BatchNorm):
        return torch.cat([layer(part) for stream in plan.parts(value.x) for part in stream])
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
        return _convolve(layer, value)
    if value.x.is_cuda and isinstance(layer, nn.AvgPool2d) and layer.padding not in (0, (0, 0)):
        # Gradients of channels-last tensors are wrong there: pytorch/pytorch#188344.
        return layer(value.x.contiguous())
    return layer(value.x)


def _pool_next(rest: deque, x: Tensor) -> int:
    """Side of the average pool that is next, which is taken off the list; 1 if there is none."""
    if not rest or type(rest[0]) is not nn.AvgPool2d or x.ndim != 4:
        return 1
    pool = rest[0]
    plain = isinstance(pool.kernel_size, int) and pool.stride == pool.kernel_size
    plain = plain and pool.padding == 0 and not pool.ceil_mode and pool.divisor_override is None
    return rest.popleft().kernel_size if plain else 1


def _walk(node: BaseNode, x: Tensor, plan: Plan, is_tap: bool) -> Folded:
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


def _neuron_of(node: BaseNode, x: Tensor) -> Neuron:
    """The constants of a supported node as they are now, without waiting for a GPU."""
    leaky, dtype = type(node) is LIFNode, wide(x.dtype)
    constants = [
        c.detach().to(x.device, dtype).reshape(())
        if isinstance(c, Tensor)
        else torch.full((), c, dtype=dtype, device=x.device)
        for c in (node.tau if leaky else node.dt, node.threshold, node.act_fun.alpha, node.v_reset)
    ]
    return Neuron(leaky, type(node.act_fun).__name__, torch.stack(constants))


def _fire(
    node: BaseNode, x: Tensor, norm: _BatchNorm | None, pool: int, plan: Plan, is_tap: bool
) -> Folded:
    affine = (norm.weight, norm.bias) if norm is not None else (None, None)
    given = norm, _neuron_of(node, x), pool, plan, is_tap
    spikes, fired, membranes = _Fire.apply(x, *affine, *given)
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


def _convolve(conv: nn.Conv2d, value: Folded) -> Tensor:
    x, weight, bias = value.x, conv.weight, conv.bias
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    with torch.autocast(x.device.type, enabled=False):
        if value.fired is None or isinstance(conv.padding, str):
            return conv._conv_forward(x, weight, bias)
        return _SpikeConv.apply(x, value.fired, value.pool, weight, bias, *options)


class _SpikeConv(torch.autograd.Function):
    """A convolution of (pooled) spikes that keeps a byte per spike for its backward pass."""

    @staticmethod
    def forward(ctx, x, fired, pool, weight, bias, *options):
        ctx.save_for_backward(fired, weight)
        ctx.pool, ctx.has_bias, ctx.options = pool, bias is not None, options
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        fired, weight = ctx.saved_tensors
        x = folded.kernels_for(weight).spikes(fired, ctx.pool, weight.dtype)  # channels last
        stride, padding, dilation, groups = ctx.options
        bias_shape = [len(weight)] if ctx.has_bias else None
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[3], ctx.has_bias]
        d_x, d_weight, d_bias = torch.ops.aten.convolution_backward(
            d_out, x, weight, bias_shape, stride, padding, dilation, False,
            [0] * len(stride), groups, needed,
        )  # fmt: skip
        return d_x, None, None, d_weight, d_bias, *[None] * 4
