"""The fused executor: all streams and time-steps of a layer at once, the numbers of the step loop.

The step loop runs the whole network once per stream and time-step. Here a layer sees ``[S T B, C, H, W]``: S
streams, each with T steps of B samples. Convolutions, pools and linear layers do not mix samples, so they take the
whole batch. BatchNorm does: its statistics stay those of one stream and one step, and its running statistics are
updated in the loop's order, all steps of the static stream before those of the event stream. Neurons walk over T.

A BatchNorm and the LIF neuron behind it are one autograd function that keeps its input and one byte per spike and
computes the rest again; a convolution keeps the bytes of its input spikes instead of the floats.
"""

import logging
from collections import deque
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode, IFNode, LIFNode
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from .. import distributed
from . import cpu_kernels, kernels
from .blocks import Branches, Parts
from .global_bn import GlobalBatchNorm2d, global_moments
from .kernels import SURROGATES, Affine, Neuron, Pool, wide

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How the first dimension of a folded tensor ``[S T B, ...]`` is made up."""

    streams: int
    steps: int
    batch: int

    def parts(self, x: Tensor) -> list[list[Tensor]]:
        """Views ``[B, ...]`` by stream and step."""
        return [list(s) for s in x.view(self.streams, self.steps, self.batch, *x.shape[1:])]


class Folded(NamedTuple):
    """What one layer hands to the next.

    Attributes:
        x: ``[S T B, ...]``.
        fired: the spikes that x consists of, one byte each, before pooling; None where x is something else.
        pool: side of the average pool between ``fired`` and x; 1 for none.
    """

    x: Tensor
    fired: Tensor | None = None
    pool: int = 1


def run(parts: Parts, value: Folded, plan: Plan, tap_node: nn.Module | None = None) -> Folded:
    """``value`` through the layers in order.

    Args:
        tap_node: the neuron whose membranes are wanted afterwards; its ``mem`` is then ``[S T B, ...]``.
    """
    rest = deque(parts)
    while rest:
        layer = rest.popleft()
        if isinstance(layer, Branches):
            branches = [run(b, value, plan, tap_node).x for b in (layer.main, layer.shortcut)]
            value = Folded(branches[0] + branches[1])
        elif _can_normalise(layer, value.x, plan) and rest and supports(rest[0]):
            value = _fire(rest.popleft(), value.x, layer, _pool_next(rest, value.x), plan, tap_node)
        elif supports(layer):
            value = _fire(layer, value.x, None, _pool_next(rest, value.x), plan, tap_node)
        elif isinstance(layer, BaseNode):
            value = Folded(_walk(layer, value.x, plan, layer is tap_node))
        elif _can_normalise(layer, value.x, plan):
            value = Folded(_normalise(layer, value.x, plan))
        elif isinstance(layer, _BatchNorm):
            value = Folded(
                torch.cat([layer(part) for stream in plan.parts(value.x) for part in stream])
            )
        elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
            value = Folded(_convolve(layer, value))
        elif (
            value.x.is_cuda and isinstance(layer, nn.AvgPool2d) and layer.padding not in (0, (0, 0))
        ):
            # Gradients of channels-last tensors are wrong there: pytorch/pytorch#188344.
            value = Folded(layer(value.x.contiguous()))
        else:
            value = Folded(layer(value.x))
    return value


def kernels_for(x: Tensor) -> ModuleType:
    """The module with the fastest kernels for ``x``."""
    if cpu_kernels.fits(x):
        return cpu_kernels
    return _on_gpu() if x.is_cuda else kernels


@cache
def _on_gpu() -> ModuleType:
    """Triton's kernels, if a first small call of them works."""
    try:
        from . import triton_kernels  # not installed everywhere

        x = torch.zeros(1, 1, 1, 1, device="cuda")
        triton_kernels.fire(x, None, Neuron(True, "QGateGrad", torch.ones(4, device="cuda")), False)
        return triton_kernels
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: no triton, no C compiler, a GPU it does not know
        log.warning(
            "The Triton kernels cannot be used here (%s); neurons run as plain PyTorch, which is slower. "
            "The package triton and a C compiler (gcc) are what it usually lacks.",
            f"{type(error).__name__}: {error}".splitlines()[0],
        )
        return kernels


def _split(x: Tensor, plan: Plan) -> Tensor:
    """View ``[S, T, M, C]`` of a folded tensor in channels-last memory."""
    return x.movedim(1, -1).view(plan.streams, plan.steps, -1, x.shape[1])


def _joined(x: Tensor, like: Tensor) -> Tensor:
    """View of ``[S, T, M, C]`` in the shape of the folded tensor it came from."""
    return x.view(like.movedim(1, -1).shape).movedim(-1, 1)


def _channels_last(x: Tensor) -> Tensor:
    if x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


# Neurons


def supports(node: nn.Module) -> bool:
    """Whether the neuron has a fused form; the others run BrainCog's own code step by step, layer by layer."""
    return (
        type(node) in (LIFNode, IFNode)
        and type(node.act_fun).__name__ in SURROGATES
        and not node.mem_detach
        and not node.requires_fp
        and not node.requires_mem
        and not node.sigmoid_thres
        and not node.layer_by_layer
        and node.groups == 1
        and not node.threshold.requires_grad
        and not node.act_fun.alpha.requires_grad
    )


def neuron_of(node: nn.Module, x: Tensor) -> Neuron:
    """The constants of a supported node as they are now, without waiting for a GPU."""
    leaky = type(node) is LIFNode
    found = (node.tau if leaky else node.dt, node.threshold, node.act_fun.alpha, node.v_reset)
    options = {"dtype": wide(x.dtype), "device": x.device}
    constants = [
        c.detach().to(**options).reshape(())
        if isinstance(c, Tensor)
        else torch.full((), c, **options)
        for c in found
    ]
    return Neuron(leaky, type(node.act_fun).__name__, torch.stack(constants))


def _walk(node: nn.Module, x: Tensor, plan: Plan, is_tap: bool) -> Tensor:
    """BrainCog's own neuron, one step after the other, each stream from rest."""
    spikes, membranes = [], []
    for stream in plan.parts(x):
        node.n_reset()
        for part in stream:
            spikes.append(node(part))
            membranes.append(node.mem if is_tap else None)
    if is_tap and isinstance(node.mem, Tensor):
        node.mem = torch.cat(membranes)
    return torch.cat(spikes)


def _fire(
    node: nn.Module,
    x: Tensor,
    norm: nn.Module | None,
    pool: int,
    plan: Plan,
    tap_node: nn.Module | None,
) -> Folded:
    affine = (norm.weight, norm.bias) if norm is not None else (None, None)
    neuron = neuron_of(node, x)
    spikes, fired, membranes = _Fire.apply(x, *affine, norm, neuron, pool, plan, node is tap_node)
    if node is tap_node:
        node.mem = membranes
    return Folded(spikes, fired, pool)


def _pool_next(rest: deque, x: Tensor) -> int:
    """Side of the average pool that is next, which is then taken off the list; 1 if there is none."""
    if not rest or type(rest[0]) is not nn.AvgPool2d or x.ndim != 4 or not _is_plain(rest[0]):
        return 1
    return rest.popleft().kernel_size


def _is_plain(pool: nn.AvgPool2d) -> bool:
    return (
        isinstance(pool.kernel_size, int)
        and pool.stride == pool.kernel_size
        and pool.padding == 0
        and not pool.ceil_mode
        and pool.divisor_override is None
    )


@lru_cache(maxsize=64)
def _pool_of(side: int, shape: torch.Size, device: torch.device) -> Pool | None:
    """For ``[B, C, H, W]``."""
    if side == 1:
        return None
    (B, H, W), (h, w) = (shape[0], *shape[2:]), (shape[2] // side, shape[3] // side)
    rows = torch.full((B, H, W), -1, device=device)
    pooled = torch.arange(B * h * w, device=device).view(B, h, 1, w, 1)
    rows[:, : h * side, : w * side] = pooled.expand(B, h, side, w, side).reshape(
        B, h * side, w * side
    )
    return Pool(side, rows.flatten())


class _Fire(torch.autograd.Function):
    """(BatchNorm and) LIF or IF neuron over T, hard reset, reset detached (and average pool).

    ``[S T B, C, ...]`` -> (pooled) spikes in the input's dtype, spikes as one byte each, membranes after the reset (float32
    or wider; None unless wanted). Keeps its input, a byte per spike and the statistics; computes the rest again.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, norm, neuron, pool, plan, wants_membranes):
        x = _channels_last(x)
        parts = _split(x, plan)
        affine = _affine(parts, norm) if norm is not None else None
        out = kernels_for(x).fire(parts, affine, neuron, wants_membranes)
        fired, membranes = (None if a is None else _joined(a, x) for a in out)
        ctx.save_for_backward(x, fired, neuron.constants, *(affine or ()))
        ctx.neuron, ctx.plan, ctx.wants_membranes = (
            neuron._replace(constants=None),
            plan,
            wants_membranes,
        )
        ctx.pool, ctx.normalised = pool, _how(norm)
        ctx.mark_non_differentiable(fired)
        return kernels_for(x).spikes(fired, pool, x.dtype), fired, membranes

    @staticmethod
    @once_differentiable
    def backward(ctx, d_spikes, _, d_membranes):
        x, fired, constants, *affine = ctx.saved_tensors
        affine, plan = Affine(*affine) if affine else None, ctx.plan
        parts, fired, d_spikes = (_split(_channels_last(a), plan) for a in (x, fired, d_spikes))
        if ctx.wants_membranes:
            d_membranes = _split(_channels_last(d_membranes), plan)
        neuron = ctx.neuron._replace(constants=constants)
        pool = _pool_of(ctx.pool, (plan.batch, *x.shape[1:]), x.device)
        arguments = parts, affine, neuron, fired, d_spikes, d_membranes, pool
        d_current, *sums = kernels_for(x).fire_backward(*arguments)
        if affine is None:
            return _joined(d_current.to(x.dtype), x), *[None] * 7
        d_x, *d_parameters = _affine_backward(parts, affine, d_current, *sums, *ctx.normalised)
        return _joined(d_x, x), *d_parameters, *[None] * 5


# BatchNorm


def _is_batch(norm: nn.Module | None) -> bool:
    """Whether the statistics are those of the batch."""
    return norm is not None and (norm.training or norm.running_mean is None)


def _can_normalise(layer: nn.Module, x: Tensor, plan: Plan) -> bool:
    if type(layer) not in (nn.BatchNorm1d, nn.BatchNorm2d, GlobalBatchNorm2d):
        return False
    # PyTorch's own refuses what has no variance.
    return not _is_batch(layer) or x[0, 0].numel() * plan.batch > 1


def _affine(x: Tensor, norm: nn.Module) -> Affine:
    """For ``[S, T, M, C]``; while training, running statistics take S T updates, in the loop's order."""
    if _is_batch(norm):
        (mean, var), n = kernels_for(x).moments(x), x.shape[2]
        if isinstance(norm, GlobalBatchNorm2d):
            (mean, var), n = global_moments(mean, var), n * distributed.count()
        if norm.training and norm.track_running_stats:
            _update(norm, mean.flatten(0, 1), var.flatten(0, 1) * (n / max(n - 1, 1)))
    else:
        shape = (*x.shape[:2], x.shape[3])
        mean, var = (
            a.to(wide(x.dtype)).expand(shape) for a in (norm.running_mean, norm.running_var)
        )
    invstd = (var + norm.eps).rsqrt()
    scale = invstd if norm.weight is None else invstd * norm.weight
    return Affine(
        mean, invstd, scale, -mean * scale if norm.bias is None else norm.bias - mean * scale
    )


def _how(norm: nn.Module | None) -> tuple[bool, bool, bool, bool]:
    """Whether the statistics are the batch's, and those of all processes; whether there is a weight, and a bias."""
    parameters = (norm.weight, norm.bias) if norm is not None else (None, None)
    return (
        _is_batch(norm),
        isinstance(norm, GlobalBatchNorm2d),
        *(p is not None for p in parameters),
    )


def _affine_backward(
    x: Tensor,
    affine: Affine,
    d_out: Tensor,
    d_shift: Tensor,
    d_scale: Tensor,
    is_batch: bool,
    is_global: bool,
    has_weight: bool,
    has_bias: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of ``[S, T, M, C]``, of the weight and of the bias, from that of the normalised values and its sums."""
    b = c = torch.zeros_like(affine.scale)
    if is_batch:  # the statistics depend on the input too
        sums = torch.stack([affine.invstd * d_scale, d_shift])
        b, c = -affine.scale * (distributed.mean(sums) if is_global else sums) / x.shape[2]
    d_x = kernels_for(x).d_input(x, affine.mean, d_out, affine.scale, b, c)
    return (
        d_x,
        d_scale.sum((0, 1)) if has_weight else None,
        d_shift.sum((0, 1)) if has_bias else None,
    )


def _update(norm: nn.Module, mean: Tensor, var: Tensor) -> None:
    """The updates of ``[n, C]`` one after another, as one: the weights of an exponential average are a power series."""
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
    """``[n]``, share of each of n updates in their sum; kept, because a copy to a GPU would wait for it."""
    shares = (1 - momentum) ** torch.arange(n - 1, -1, -1, dtype=torch.float64)
    return (shares / shares.sum()).to(device, dtype)


def _normalise(norm: nn.Module, x: Tensor, plan: Plan) -> Tensor:
    return _Normalise.apply(x, norm.weight, norm.bias, norm, plan)


class _Normalise(torch.autograd.Function):
    """BatchNorm without a neuron behind it."""

    @staticmethod
    def forward(ctx, x, weight, bias, norm, plan):
        x = _channels_last(x)
        parts = _split(x, plan)
        affine = _affine(parts, norm)
        ctx.save_for_backward(x, *affine)
        ctx.plan, ctx.normalised = plan, _how(norm)
        out = parts * affine.scale[:, :, None] + affine.shift[:, :, None]
        return _joined(out.to(x.dtype), x)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        x, *affine = ctx.saved_tensors
        affine = Affine(*affine)
        parts, d_out = (_split(_channels_last(a), ctx.plan) for a in (x, d_out))
        d_out = d_out.to(wide(x.dtype), copy=True)  # its place is taken
        sums = kernels.d_affine(parts, affine, d_out)
        d_x, *d_parameters = _affine_backward(parts, affine, d_out, *sums, *ctx.normalised)
        return _joined(d_x, x), *d_parameters, None, None


# Layers behind a neuron


def _convolve(conv: nn.Conv2d, value: Folded) -> Tensor:
    x, weight, bias = value.x, conv.weight, conv.bias
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    with torch.autocast(x.device.type, enabled=False):
        if value.fired is None or isinstance(conv.padding, str):
            return F.conv2d(x, weight, bias, *options)
        return _SpikeConv.apply(x, value.fired, value.pool, weight, bias, *options)


class _SpikeConv(torch.autograd.Function):
    """A convolution of (pooled) spikes that keeps a byte per spike for its backward pass."""

    @staticmethod
    def forward(ctx, x, fired, pool, weight, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(fired, weight)
        ctx.pool, ctx.has_bias, ctx.options = (
            pool,
            bias is not None,
            (stride, padding, dilation, groups),
        )
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out):
        fired, weight = ctx.saved_tensors
        x = kernels_for(weight).spikes(fired, ctx.pool, weight.dtype)  # channels last, as it was
        stride, padding, dilation, groups = ctx.options
        needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[3], ctx.has_bias]
        d_x, d_weight, d_bias = torch.ops.aten.convolution_backward(
            d_out, x, weight, [weight.shape[0]] if ctx.has_bias else None, stride, padding, dilation, False,
            [0] * len(stride), groups, needed,
        )  # fmt: skip
        return d_x, None, None, d_weight, d_bias, None, None, None, None
