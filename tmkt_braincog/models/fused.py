"""The fused executor: all streams and time-steps of a layer at once, the numbers of the step loop.

The step loop runs the whole network once per stream and time-step. Here a layer sees ``[S T B, C,
H, W]``: S streams, each with T steps of B samples. Convolutions, pools and linear layers do not mix
samples, so they take the whole batch. BatchNorm does (:mod:`~tmkt_braincog.models.batchnorm`): its
statistics stay those of one stream and one step, and its running statistics are updated in the
loop's order, all steps of the static stream before those of the event stream. Neurons walk over T
(:mod:`~tmkt_braincog.models.neuron`). A convolution keeps the bytes of its input spikes instead of
the floats."""

from collections import deque

import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from . import folded
from .batchnorm import can_normalise, normalise
from .blocks import Branches, Parts
from .folded import Folded, Plan
from .neuron import fire, supports, walk


def run(parts: Parts, value: Folded, plan: Plan, tap_node: nn.Module | None = None) -> Folded:
    """``value`` through the layers in order.

    Args:
        tap_node: the neuron whose membranes are wanted afterwards; its ``mem`` is then ``[S T B,
            ...]``.
    """
    rest = deque(parts)
    while rest:
        layer = rest.popleft()
        if isinstance(layer, Branches):
            main, shortcut = (run(b, value, plan, tap_node).x for b in (layer.main, layer.shortcut))
            value = Folded(main + shortcut)
        elif can_normalise(layer, value.x, plan) and rest and supports(rest[0]):
            node, pool = rest.popleft(), _pool_next(rest, value.x)
            value = fire(node, value.x, layer, pool, plan, node is tap_node)
        elif supports(layer):
            pool = _pool_next(rest, value.x)
            value = fire(layer, value.x, None, pool, plan, layer is tap_node)
        elif isinstance(layer, BaseNode):
            value = walk(layer, value.x, plan, layer is tap_node)
        elif can_normalise(layer, value.x, plan):
            value = Folded(normalise(layer, value.x, plan))
        else:
            value = Folded(_apply(layer, value, plan))
    return value


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
    if not rest or type(rest[0]) is not nn.AvgPool2d or x.ndim != 4 or not _is_plain(rest[0]):
        return 1
    return rest.popleft().kernel_size


def _is_plain(pool: nn.AvgPool2d) -> bool:
    square = isinstance(pool.kernel_size, int) and pool.stride == pool.kernel_size
    return square and pool.padding == 0 and not pool.ceil_mode and pool.divisor_override is None


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
        x = folded.kernels_for(weight).spikes(
            fired, ctx.pool, weight.dtype
        )  # channels last, as it was
        stride, padding, dilation, groups = ctx.options
        bias_shape = [len(weight)] if ctx.has_bias else None
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[3], ctx.has_bias]
        d_x, d_weight, d_bias = torch.ops.aten.convolution_backward(
            d_out, x, weight, bias_shape, stride, padding, dilation, False,
            [0] * len(stride), groups, needed,
        )  # fmt: skip
        return d_x, None, None, d_weight, d_bias, *[None] * 4
