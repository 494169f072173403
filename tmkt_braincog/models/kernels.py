"""The elementwise work of a layer over T: normalise, integrate, fire, and back.

All take ``[S, T, M, C]``: S streams, T steps, M values per channel (batch and pixels), channels last, so that they are
plain loops over memory. Large ones are compiled (``torch.compile``: C++ on a CPU, Triton on a GPU); without a compiler,
or with ``TORCH_COMPILE_DISABLE=1``, they run as they stand here. Arithmetic is in float32 or wider.

On a GPU the neuron, there and back, is two kernels of ``triton_kernels.py`` instead, where those can be built.
"""

import logging
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

COMPILED_FROM = 1 << 22  # elements; below it the seconds of compiling are not worth it
_broken: list[str] = []  # why compiling failed, once it has
_triton_broken: list[str] = []  # the same for the kernels written in Triton


class Neuron(NamedTuple):
    """What the kernels need of a neuron.

    Attributes:
        leaky: LIF; False: IF.
        tau: membrane time constant (LIF) or step dt (IF).
        threshold: fires above it.
        surrogate: name in ``SURROGATES``.
        alpha: the surrogate's sharpness.
    """

    leaky: bool
    tau: float
    threshold: float
    surrogate: str
    alpha: float


def _quadratic_gate(u: Tensor, alpha: float) -> Tensor:
    return torch.where(u.abs() > 1 / alpha, 0.0, -alpha * alpha * u.abs() + alpha)


def _gate(u: Tensor, alpha: float) -> Tensor:
    return (u.abs() < 0.5).to(u.dtype)


def _atan(u: Tensor, alpha: float) -> Tensor:
    return alpha / 2 / (1 + (alpha * math.pi / 2 * u).square())


# Derivatives of BrainCog's surrogates.
SURROGATES = {"QGateGrad": _quadratic_gate, "BackEIGateGrad": _gate, "AtanGrad": _atan}


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _integrate(current: Tensor, m: Tensor | float, neuron: Neuron) -> Tensor:
    """Membrane before firing."""
    return m + (current - m) / neuron.tau if neuron.leaky else m + current * neuron.tau


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance ``[S, T, C]`` of each step."""
    x = _wide(x)
    mean = x.mean(2)
    return mean, (x - mean[:, :, None]).square().mean(2)


def fire(
    x: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Spikes of the currents ``x * scale + shift``; scale, shift ``[S, T, C]``.

    Returns:
        Spikes in the dtype of x, the same as one byte each (uint8), membranes after the reset in float32 or wider
        (None unless wanted), all ``[S, T, M, C]``.
    """
    spikes, fired, membranes, m = [], [], [], 0.0
    for t in range(x.shape[1]):
        v = _integrate(_wide(x[:, t]) * scale[:, t, None] + shift[:, t, None], m, neuron)
        s = (v > neuron.threshold).to(v.dtype)
        m = v * (1 - s)
        spikes.append(s.to(x.dtype))
        fired.append(s.to(torch.uint8))
        membranes.append(m)
    return (
        torch.stack(spikes, 1),
        torch.stack(fired, 1),
        torch.stack(membranes, 1) if wants_membranes else None,
    )


def d_currents(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    fired: Tensor,
    d_spikes: Tensor,
    d_membranes: Tensor | None,
    neuron: Neuron,
) -> Tensor:
    """Gradient of the currents ``[S, T, M, C]``; membranes are computed again, spikes (``fired``, 0 or 1) are not.

    The reset is detached, as in BrainCog.
    """
    vs, m = [], 0.0
    for t in range(x.shape[1]):
        v = _integrate(_wide(x[:, t]) * scale[:, t, None] + shift[:, t, None], m, neuron)
        vs.append(v)
        m = v * (1 - fired[:, t].to(v.dtype))
    d_out, carry = [None] * len(vs), 0.0
    derivative = SURROGATES[neuron.surrogate]
    for t in range(len(vs) - 1, -1, -1):
        if d_membranes is not None:
            carry = carry + d_membranes[:, t]
        d_v = _wide(d_spikes[:, t]) * derivative(vs[t] - neuron.threshold, neuron.alpha)
        d_v = d_v + carry * (1 - fired[:, t].to(d_v.dtype))
        if neuron.leaky:
            d_out[t] = d_v / neuron.tau
            carry = d_v - d_out[t]
        else:
            d_out[t], carry = d_v * neuron.tau, d_v
    return torch.stack(d_out, 1)


def d_affine(x: Tensor, mean: Tensor, invstd: Tensor, d_current: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over M of the gradient and of the gradient times the normalised input, ``[S, T, C]`` each."""
    normal = (_wide(x) - mean[:, :, None]) * invstd[:, :, None]
    return d_current.sum(2), (d_current * normal).sum(2)


def d_input(x: Tensor, mean: Tensor, d_current: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``a d_current + b (x - mean) + c`` in the dtype of x; a, b, c ``[S, T, C]``. Takes the place of ``d_current``."""
    d_x = d_current * a[:, :, None] + (_wide(x) - mean[:, :, None]) * b[:, :, None] + c[:, :, None]
    return d_current.copy_(d_x) if d_current.dtype == x.dtype else d_x.to(x.dtype)


def neuron_forward(
    x: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """:func:`fire` in the fastest way there is."""
    done = _by_triton("neuron_forward", x, scale, shift, neuron, wants_membranes)
    return run(fire, x, scale, shift, neuron, wants_membranes) if done is None else done


def neuron_backward(
    x: Tensor,
    affine: tuple[Tensor, Tensor, Tensor, Tensor],
    fired: Tensor,
    d_spikes: Tensor,
    d_membranes: Tensor | None,
    neuron: Neuron,
    wants_affine: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """:func:`d_currents` and :func:`d_affine` in the fastest way there is.

    Args:
        affine: mean, invstd, scale, shift, ``[S, T, C]`` each.
        wants_affine: whether the last two results are needed; they are None otherwise.

    Returns:
        Gradient of the currents ``[S, T, M, C]``, its sum over M, and that of it times the normalised input.
    """
    done = _by_triton("neuron_backward", x, affine, fired, d_spikes, d_membranes, neuron, wants_affine)
    if done is not None:
        return done
    mean, invstd, scale, shift = affine
    d_current = _d_currents_by_parts(x, scale, shift, fired, d_spikes, d_membranes, neuron)
    sums = run(d_affine, x, mean, invstd, d_current) if wants_affine else (None, None)
    return d_current, *sums


def _d_currents_by_parts(x, scale, shift, fired, d_spikes, d_membranes, neuron) -> Tensor:
    """:func:`d_currents`; of large x a quarter of the rows at a time, as it needs its output's memory twice."""
    if x.numel() < 4 * COMPILED_FROM:
        return run(d_currents, x, scale, shift, fired, d_spikes, d_membranes, neuron)
    out = torch.empty_like(x, dtype=scale.dtype)
    size = -(-x.shape[2] // 4)
    for start in range(0, x.shape[2], size):
        part = slice(start, start + size)
        own = [None if a is None else a[:, :, part] for a in (x, fired, d_spikes, d_membranes)]
        out[:, :, part] = run(d_currents, own[0], scale, shift, *own[1:], neuron)
    return out


def _takes_triton(x: Tensor) -> bool:
    return x.is_cuda


def _by_triton(name: str, x: Tensor, *args) -> tuple | None:
    """What the function of this name in ``triton_kernels`` gives; None where it cannot run."""
    if not _takes_triton(x) or _triton_broken:
        return None
    try:
        from . import triton_kernels  # not installed everywhere

        return getattr(triton_kernels, name)(x, *args)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: no triton, no C compiler, a GPU it does not know
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        _triton_broken.append(why)
        log.warning(
            "The Triton kernels cannot be used here (%s); neurons run by torch.compile, which is slower. "
            "The package triton and a C compiler (gcc) are what it usually lacks.",
            why,
        )
        return None


@cache
def _compiled(function: Callable) -> Callable:
    # Says on every machine without a GPU that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(function, dynamic=True)


def run(function: Callable, x: Tensor, *args):
    """``function(x, *args)``, compiled where x is large and a compiler is there."""
    if x.numel() < COMPILED_FROM or _broken:
        return function(x, *args)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _compiled(function)(x, *args)
    except torch._dynamo.exc.TorchDynamoException as error:
        _broken.append(str(error))
        log.warning(
            "torch.compile cannot be used here (%s); neurons run uncompiled, which is slower. A C++ compiler "
            "(g++) is what it usually lacks.",
            str(error).strip().splitlines()[0],
        )
        return function(x, *args)
