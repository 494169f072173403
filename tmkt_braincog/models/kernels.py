"""The elementwise work of a layer over T, in PyTorch: normalise, integrate, fire, and back.

All take ``[S, T, M, C]``: S streams, T steps, M values per channel (batch and pixels), channels
last, and compute in float32 or wider. On a CPU :mod:`~tmkt_braincog.models.cpu_kernels` has the
same functions in compiled loops, on a GPU :mod:`~tmkt_braincog.models.triton_kernels`; the formulas
run where neither fits."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Neuron(NamedTuple):
    """What the kernels need of a neuron. ``constants``: ``[4]``, on the device of the currents and
    in the dtype of the membrane: time constant tau (LIF) or step dt (IF); threshold; the
    surrogate's sharpness alpha; the membrane before the first step (``v_reset``; after a spike it
    is 0, as in BrainCog)."""

    leaky: bool  # LIF; False: IF
    surrogate: str  # name in ``SURROGATES``
    constants: Tensor


class Affine(NamedTuple):
    """A BatchNorm as ``x * scale + shift``, all ``[S, T, C]``: statistics of a stream and step."""

    mean: Tensor
    invstd: Tensor
    scale: Tensor
    shift: Tensor


class Pool(NamedTuple):
    """An average pool behind the spikes, of ``side`` x ``side`` and as large a stride; ``rows`` is
    ``[M]`` int64: the row of the pooled values that each row is part of, -1 for none."""

    side: int
    rows: Tensor


# Derivatives of BrainCog's surrogates at u = membrane - threshold, of sharpness a (alpha).
SURROGATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "QGateGrad": lambda u, a: torch.where(u.abs() > 1 / a, 0.0, -a * a * u.abs() + a),
    "BackEIGateGrad": lambda u, a: (u.abs() < 0.5).to(u.dtype),
    "AtanGrad": lambda u, a: a / 2 / (1 + (a * math.pi / 2 * u).square()),
}


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for the 16-bit types, otherwise the same."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _integrate(x: Tensor, affine: Affine | None, t: int, m: Tensor, neuron: Neuron) -> Tensor:
    """Membrane before firing at step t."""
    current = x[:, t].to(m.dtype)
    if affine is not None:
        current = current * affine.scale[:, t, None] + affine.shift[:, t, None]
    tau = neuron.constants[0]
    return m + (current - m) / tau if neuron.leaky else m + current * tau


def fire(
    x: Tensor, affine: Affine | None, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor | None]:
    """Spikes of the currents x, or ``x * scale + shift``, one byte each (uint8, 0 or 1), and the
    membranes after the reset in float32 or wider (None unless wanted), both ``[S, T, M, C]``."""
    _, threshold, _, rest = neuron.constants
    fired, membranes, m = [], [], rest.expand(x[:, 0].shape)
    for t in range(x.shape[1]):
        v = _integrate(x, affine, t, m, neuron)
        s = v > threshold
        m = v * (~s).to(v.dtype)
        fired.append(s.to(torch.uint8))
        membranes.append(m)
    return torch.stack(fired, 1), torch.stack(membranes, 1) if wants_membranes else None


def fire_backward(
    x: Tensor,
    affine: Affine | None,
    neuron: Neuron,
    fired: Tensor,
    d_spikes: Tensor,
    d_membranes: Tensor | None,
    pool: Pool | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The way back, from the gradients of the spikes or, with ``pool``, of their means; membranes
    are computed again, spikes (``fired``) are not. The reset is detached, as in BrainCog.

    Returns:
        Gradient of the currents ``[S, T, M, C]`` and what :func:`d_affine` makes of it (None
        without an affine).
    """
    d_spikes = unpooled(d_spikes, pool)
    tau, threshold, alpha, rest = neuron.constants
    vs, m = [], rest.expand(x[:, 0].shape)
    for t in range(x.shape[1]):
        vs.append(_integrate(x, affine, t, m, neuron))
        m = vs[t] * (1 - fired[:, t].to(m.dtype))
    d_out, carry = [m] * len(vs), torch.zeros_like(m)
    for t in reversed(range(len(vs))):
        if d_membranes is not None:
            carry = carry + d_membranes[:, t]
        d_v = d_spikes[:, t].to(m.dtype) * SURROGATES[neuron.surrogate](vs[t] - threshold, alpha)
        d_v = d_v + carry * (1 - fired[:, t].to(m.dtype))
        d_out[t] = d_v / tau if neuron.leaky else d_v * tau
        carry = d_v - d_out[t] if neuron.leaky else d_v
    d_current = torch.stack(d_out, 1)
    return d_current, *(d_affine(x, affine, d_current) if affine is not None else (None, None))


def unpooled(d: Tensor, pool: Pool | None) -> Tensor:
    """``[S, T, m, C]`` -> ``[S, T, M, C]``: gradients of values from those of their means."""
    if pool is None:
        return d
    share = (pool.rows >= 0).to(d.dtype) / pool.side**2
    return d.index_select(2, pool.rows.clamp(min=0)) * share[:, None]


def spikes(fired: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """``[N, C, ...]`` bytes as numbers; with ``side`` above 1 their means over side x side."""
    out = fired.to(dtype)
    return out if side == 1 else F.avg_pool2d(out, side)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance ``[S, T, C]`` of each step."""
    var, mean = torch.var_mean(x.to(wide(x.dtype)), 2, correction=0)
    return mean, var


def d_affine(x: Tensor, affine: Affine, d_out: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over M of the gradient and of it times the normalised input, ``[S, T, C]`` each."""
    normal = (x.to(d_out.dtype) - affine.mean[:, :, None]) * affine.invstd[:, :, None]
    return d_out.sum(2), (d_out * normal).sum(2)


def d_input(x: Tensor, mean: Tensor, d_out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``a d_out + b (x - mean) + c`` in the dtype of x, maybe in the place of ``d_out``."""
    a, b, c, mean = (v[:, :, None] for v in (a, b, c, mean))
    return (d_out * a + (x.to(d_out.dtype) - mean) * b + c).to(x.dtype)
