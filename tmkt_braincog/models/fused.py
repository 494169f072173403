"""The fused executor: all streams and time-steps of a layer at once, the numbers of the step loop.

The step loop runs the whole network once per stream and time-step. Here a layer sees ``[S T B, C, H, W]``: S
streams, each with T steps of B samples. Convolutions, pools and linear layers do not mix samples, so they take the
whole batch. BatchNorm does: its statistics stay those of one stream and one step, and its running statistics are
updated in the loop's order, all steps of the static stream before those of the event stream. Neurons walk over T.

BatchNorm and the LIF neuron behind it are one autograd function that keeps its input and one byte per spike and
computes the rest again; a convolution keeps the bytes of its input spikes instead of the floats.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode, IFNode, LIFNode
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .. import distributed
from .exact import widen
from .global_bn import GlobalBatchNorm2d, global_moments
from .kernels import (
    SURROGATES,
    Neuron,
    d_input,
    moments,
    neuron_backward,
    neuron_forward,
    run,
)


@dataclass(frozen=True)
class Plan:
    """How the first dimension of a folded tensor ``[S T B, ...]`` is made up."""

    streams: int
    steps: int
    batch: int

    def parts(self, x: Tensor) -> list[list[Tensor]]:
        """Views ``[B, ...]`` by stream and step."""
        return [list(s) for s in x.view(self.streams, self.steps, self.batch, *x.shape[1:])]


class Pending:
    """The output of a BatchNorm that nobody has needed yet: a neuron takes it apart, all else sees a tensor."""

    def __init__(self, x: Tensor, bn: nn.BatchNorm2d, plan: Plan):
        self.x, self.bn, self.plan = x, bn, plan
        self.dtype = torch.float32  # for hooks that look at it

    def tensor(self) -> Tensor:
        """The normalised values."""
        if not self.bn.training:
            return self.bn.__class__.forward(self.bn, self.x)
        parts = [
            self.bn.__class__.forward(self.bn, part) for stream in self.plan.parts(self.x) for part in stream
        ]
        return torch.cat(parts)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        plain = [a.tensor() if isinstance(a, Pending) else a for a in args]
        named = {k: a.tensor() if isinstance(a, Pending) else a for k, a in (kwargs or {}).items()}
        return func(*plain, **named)

    def __getattr__(self, name: str):
        return getattr(self.tensor(), name)

    def __add__(self, other):
        return self.tensor() + other

    def __radd__(self, other):
        return other + self.tensor()


@contextmanager
def fused(model: nn.Module, plan: Plan, tap_node: nn.Module | None) -> Iterator[None]:
    """Within, the layers of ``model`` take folded tensors.

    Args:
        tap_node: the neuron whose membranes are wanted afterwards; its ``mem`` is then ``[S T B, ...]``.
    """
    patched = []
    try:
        for module in model.modules():
            forward = _forward(module, plan, module is tap_node)
            if forward is not None:
                module.forward = forward
                patched.append(module)
        yield
    finally:
        for module in patched:
            del module.forward  # the class's own is behind it


def _forward(module: nn.Module, plan: Plan, is_tap: bool):
    """What takes the place of ``module.forward``; None where it already is right for folded tensors."""
    if isinstance(module, BaseNode):
        if supports(module):
            return lambda x: _fire(module, x, plan, is_tap)
        return lambda x: _walk(module, x, plan, is_tap)
    if type(module) in (nn.BatchNorm2d, GlobalBatchNorm2d) and module.track_running_stats:
        return lambda x: Pending(x, module, plan)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return lambda x: torch.cat([type(module).forward(module, p) for s in plan.parts(x) for p in s])
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return lambda x: _convolve(module, x)
    if type(module) is nn.AvgPool2d and _is_plain_pool(module):
        return lambda x: _pool(x, module.kernel_size)
    return None


def supports(node: nn.Module) -> bool:
    """Whether the neuron has a fused form; the others run BrainCog's own code step by step, layer by layer."""
    return (
        type(node) in (LIFNode, IFNode)
        and type(node.act_fun).__name__ in SURROGATES
        and not node.mem_detach
        and not node.requires_fp
        and not node.requires_mem
        and not node.sigmoid_thres
        and not node.threshold.requires_grad
        and not node.act_fun.alpha.requires_grad
    )


def neuron_of(node: nn.Module) -> Neuron:
    """The constants of a supported node, read once: reading a parameter waits for a GPU."""
    version = (node.threshold._version, node.act_fun.alpha._version)
    known = node.__dict__.get("_neuron")
    if known is None or known[0] != version:
        leaky = type(node) is LIFNode
        constants = (float(node.tau if leaky else node.dt), float(node.threshold))
        surrogate = node.act_fun
        known = (version, Neuron(leaky, *constants, type(surrogate).__name__, float(surrogate.alpha)))
        node.__dict__["_neuron"] = known
    return known[1]


def _walk(node: nn.Module, x: Tensor | Pending, plan: Plan, is_tap: bool) -> Tensor:
    """BrainCog's own neuron, one step after the other, each stream from rest."""
    x = widen(x.tensor() if isinstance(x, Pending) else x)
    spikes, membranes = [], []
    for stream in plan.parts(x):
        node.n_reset()
        for part in stream:
            spikes.append(type(node).forward(node, part))
            membranes.append(node.mem if is_tap else None)
    if is_tap and isinstance(node.mem, Tensor):
        node.mem = torch.cat(membranes)
    return torch.cat(spikes)


# Neurons with a fused form


def _fire(node: nn.Module, x: Tensor | Pending, plan: Plan, is_tap: bool) -> Tensor:
    bn = x.bn if isinstance(x, Pending) else None
    x = x.x if isinstance(x, Pending) else x
    affine = (bn.weight, bn.bias) if bn is not None else (None, None)
    spikes, membranes, fired = _Fire.apply(x, *affine, bn, neuron_of(node), plan, is_tap)
    if is_tap:
        node.mem = membranes
    spikes.fired = (fired, 1)  # for a convolution to keep: the bytes, and the pool in between
    return spikes


def _split(x: Tensor, plan: Plan) -> Tensor:
    """View ``[S, T, M, C]`` of a folded tensor in channels-last memory."""
    return x.movedim(1, -1).view(plan.streams, plan.steps, -1, x.shape[1])


def _joined(x: Tensor, like: Tensor) -> Tensor:
    """View of ``[S, T, M, C]`` in the shape of the folded tensor it came from."""
    last = like.movedim(1, -1)
    return x.view(last.shape).movedim(-1, 1)


class _Fire(torch.autograd.Function):
    """(BatchNorm and) LIF or IF neuron over T, hard reset, reset detached.

    ``[S T B, C, ...]`` -> spikes in the input's dtype, membranes after the reset (float32 or wider; None unless
    wanted), spikes as one byte each. Keeps its input, a byte per spike and the statistics; computes the rest again.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, bn, neuron, plan, wants_membranes):
        x = _channels_last(x)
        parts = _split(x, plan)
        affine = _Affine.of(parts, weight, bias, bn)
        out = neuron_forward(parts, affine.scale, affine.shift, neuron, wants_membranes)
        spikes, fired, membranes = (None if a is None else _joined(a, x) for a in out)
        ctx.save_for_backward(x, weight, bias, fired, *affine)
        ctx.neuron, ctx.plan, ctx.wants_membranes = neuron, plan, wants_membranes
        ctx.has_bn, ctx.training = bn is not None, bn is not None and bn.training
        ctx.is_global = isinstance(bn, GlobalBatchNorm2d)
        ctx.mark_non_differentiable(fired)
        return spikes, membranes, fired

    @staticmethod
    @once_differentiable
    def backward(ctx, d_spikes, d_membranes, _):
        x, weight, bias, fired, *affine = ctx.saved_tensors
        affine = _Affine(*affine)
        parts, fired, d_spikes = (_split(_channels_last(a), ctx.plan) for a in (x, fired, d_spikes))
        if ctx.wants_membranes:
            d_membranes = _split(_channels_last(d_membranes), ctx.plan)
        d_current, d_shift, d_scale = neuron_backward(
            parts, affine, fired, d_spikes, d_membranes, ctx.neuron, ctx.has_bn
        )
        if not ctx.has_bn:
            return _joined(d_current.to(x.dtype), x), *[None] * 6
        a = affine.scale
        b = c = torch.zeros_like(a)
        if ctx.training:  # the statistics depend on the input too
            sums = torch.stack([affine.invstd * d_scale, d_shift])
            b, c = -a * (distributed.mean(sums) if ctx.is_global else sums) / parts.shape[2]
        d_x = _joined(run(d_input, parts, affine.mean, d_current, a, b, c), x)
        d_weight = d_scale.sum((0, 1)) if weight is not None else None
        d_bias = d_shift.sum((0, 1)) if bias is not None else None
        return d_x, d_weight, d_bias, *[None] * 4


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()


class _Affine(NamedTuple):
    """A BatchNorm as ``x * scale + shift``, all ``[S, T, C]``: each stream and step has its own statistics."""

    mean: Tensor
    invstd: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, x: Tensor, weight: Tensor | None, bias: Tensor | None, bn) -> "_Affine":
        """For ``[S, T, M, C]``; while training, running statistics take S T updates, in the loop's order."""
        shape = (*x.shape[:2], x.shape[3])
        if bn is None:
            one = widen(x.new_ones(shape))
            return cls(torch.zeros_like(one), one, one, torch.zeros_like(one))
        if bn.training:
            (mean, var), n = run(moments, x), x.shape[2]
            if isinstance(bn, GlobalBatchNorm2d):
                (mean, var), n = global_moments(mean, var), n * distributed.count()
            _update(bn, mean.flatten(0, 1), var.flatten(0, 1) * (n / max(n - 1, 1)))
        else:
            mean, var = (a.expand(shape) for a in (bn.running_mean, bn.running_var))
        invstd = (var + bn.eps).rsqrt()
        scale = invstd if weight is None else invstd * weight
        return cls(mean, invstd, scale, -mean * scale if bias is None else bias - mean * scale)


def _update(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """The updates of ``[n, C]`` one after another, as one: the weights of an exponential average are a power series."""
    n = len(mean)
    if bn.momentum is None:  # the plain average of all so far
        weight = (n / (bn.num_batches_tracked + n)).to(bn.running_mean.dtype)
        mean, var = mean.mean(0), var.mean(0)
    else:
        weight = 1 - (1 - bn.momentum) ** n
        weights = _powers(bn.momentum, n, mean.dtype, mean.device)
        mean, var = weights @ mean, weights @ var
    bn.num_batches_tracked.add_(n)
    bn.running_mean.lerp_(mean.to(bn.running_mean.dtype), weight)
    bn.running_var.lerp_(var.to(bn.running_var.dtype), weight)


@cache
def _powers(momentum: float, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[n]``, share of each of n updates in their sum; kept, because a copy to a GPU would wait for it."""
    shares = (1 - momentum) ** torch.arange(n - 1, -1, -1, dtype=torch.float64)
    return (shares / shares.sum()).to(device, dtype)


# Layers behind a neuron


def _convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    kept = getattr(x, "fired", None)
    weight, bias = conv.weight, conv.bias
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    with torch.autocast(x.device.type, enabled=False):
        if kept is None or isinstance(conv.padding, str):
            return F.conv2d(x, weight, bias, *options)
        return _SpikeConv.apply(x, *kept, weight, bias, *options)


class _SpikeConv(torch.autograd.Function):
    """A convolution of (pooled) spikes that keeps a byte per spike for its backward pass."""

    @staticmethod
    def forward(ctx, x, fired, pool, weight, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(fired, weight)
        ctx.pool, ctx.has_bias, ctx.options = pool, bias is not None, (stride, padding, dilation, groups)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        fired, weight = ctx.saved_tensors
        x = fired.to(weight.dtype)  # channels last, as it was
        if ctx.pool > 1:
            x = F.avg_pool2d(x, ctx.pool)
        stride, padding, dilation, groups = ctx.options
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[3], ctx.has_bias]
        d_x, d_weight, d_bias = torch.ops.aten.convolution_backward(
            d_out, x, weight, [weight.shape[0]] if ctx.has_bias else None, stride, padding, dilation, False,
            [0] * len(stride), groups, needed,
        )  # fmt: skip
        return d_x, None, None, d_weight, d_bias, None, None, None, None


def _is_plain_pool(pool: nn.AvgPool2d) -> bool:
    return (
        isinstance(pool.kernel_size, int)
        and pool.stride == pool.kernel_size
        and pool.padding == 0
        and not pool.ceil_mode
        and pool.divisor_override is None
    )


def _pool(x: Tensor, size: int) -> Tensor:
    kept = getattr(x, "fired", None)
    pooled = _Pool.apply(x, size)
    if kept is not None:
        fired, before = kept
        pooled.fired = (fired, before * size)
    return pooled


class _Pool(torch.autograd.Function):
    """Average pool of size = stride that keeps nothing."""

    @staticmethod
    def forward(ctx, x, size):
        ctx.size, ctx.shape = size, x.shape
        return F.avg_pool2d(x, size)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        n, (H, W) = ctx.size, ctx.shape[-2:]
        last = d_out.permute(0, 2, 3, 1) / n**2
        N, h, w, C = last.shape
        d_x = (
            last[:, :, None, :, None].expand(N, h, n, w, n, C).reshape(N, h * n, w * n, C).permute(0, 3, 1, 2)
        )
        return F.pad(d_x, (0, W - w * n, 0, H - h * n)) if (h * n, w * n) != (H, W) else d_x, None
