"""The neuron on a GPU in three Triton kernels: normalise, integrate and fire over T, and the way back.

The formulas are those of ``kernels.py``, in float32 or wider, and T is a loop that runs on the device: forward reads
every current once, backward twice. They were tested in Triton's interpreter and built for an A100 and an H100, but
**no GPU has run them so far** (``pytest -m gpu tests/test_triton.py`` does).

A program has one stream, ``BLOCK_M`` rows and ``BLOCK_C`` channels, for all T, so that nothing is passed between programs.
Sums over rows are written per program and added up by PyTorch: without atomics, repeatable to the last bit.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .kernels import Affine, Neuron, Pool, moments, spikes, unpooled, wide

__all__ = [
    "d_input",
    "fire",
    "fire_backward",
    "moments",
    "spikes",
]  # the last two are few kernels of PyTorch already

BLOCK = 2048  # values per program and time-step, 8 per thread: more would cost registers and so programs at a time
WARPS = 8
PI = tl.constexpr(math.pi)


@triton.jit
def _tile(T: tl.constexpr, M, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """First step (int64) and row of this program, its channels, their places from there, and which of both exist."""
    row = tl.program_id(0) * BLOCK_M
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows, here = tl.arange(0, BLOCK_M), channel < C
    inside = (row + rows < M)[:, None] & here[None, :]
    return tl.program_id(2).to(tl.int64) * T, row, channel, here, rows[:, None] * C + channel[None, :], inside


@triton.jit
def _membrane(x, scale_ptr, shift_ptr, at, here, m, tau, LEAKY: tl.constexpr):
    """Membrane before firing; scale and shift stand ``at`` these places, or are None."""
    current = x.to(m.dtype)
    if scale_ptr is not None:
        current = (
            current * tl.load(scale_ptr + at, here, 0.0)[None, :]
            + tl.load(shift_ptr + at, here, 0.0)[None, :]
        )
    return m + (current - m) / tau if LEAKY else m + current * tau


@triton.jit
def _surrogate(u, alpha, NAME: tl.constexpr):
    """Derivative of the spike."""
    if NAME == "QGateGrad":
        return tl.where(tl.abs(u) > 1 / alpha, 0.0, -alpha * alpha * tl.abs(u) + alpha)
    elif NAME == "BackEIGateGrad":
        return (tl.abs(u) < 0.5).to(u.dtype)
    else:
        tl.static_assert(NAME == "AtanGrad")
        scaled = alpha * PI / 2 * u
        return alpha / 2 / (1 + scaled * scaled)


@triton.jit
def _fire(
    x_ptr, scale_ptr, shift_ptr, constants_ptr, fired_ptr, membranes_ptr, T: tl.constexpr, M, C,
    LEAKY: tl.constexpr, SURROGATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    tau, threshold = tl.load(constants_ptr), tl.load(constants_ptr + 1)
    m = tl.zeros((BLOCK_M, BLOCK_C), constants_ptr.dtype.element_ty) + tl.load(constants_ptr + 3)
    for t in range(T):
        step = first + t
        at = (step * M + row) * C + place
        x = tl.load(x_ptr + at, inside, 0.0)
        v = _membrane(x, scale_ptr, shift_ptr, step * C + channel, here, m, tau, LEAKY)
        spike = v > threshold
        m = tl.where(spike, 0.0, v)
        tl.store(fired_ptr + at, spike.to(tl.uint8), inside)
        if membranes_ptr is not None:
            tl.store(membranes_ptr + at, m, inside)


@triton.jit
def _fire_backward(
    x_ptr, mean_ptr, invstd_ptr, scale_ptr, shift_ptr, constants_ptr, fired_ptr, d_spikes_ptr, d_membranes_ptr,
    d_current_ptr, d_shift_ptr, d_scale_ptr, T: tl.constexpr, M, C,
    LEAKY: tl.constexpr, SURROGATE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    tau, threshold, alpha = tl.load(constants_ptr), tl.load(constants_ptr + 1), tl.load(constants_ptr + 2)
    m = tl.zeros((BLOCK_M, BLOCK_C), constants_ptr.dtype.element_ty) + tl.load(constants_ptr + 3)
    for t in range(T):
        step = first + t
        at = (step * M + row) * C + place
        x = tl.load(x_ptr + at, inside, 0.0)
        v = _membrane(x, scale_ptr, shift_ptr, step * C + channel, here, m, tau, LEAKY)
        tl.store(d_current_ptr + at, v, inside)  # kept where the gradient will stand
        m = tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, v)
    tl.debug_barrier()  # what a thread has stored, another may load
    carry = tl.zeros_like(m)
    for back in range(T):
        step = first + T - 1 - back
        at = (step * M + row) * C + place
        v = tl.load(d_current_ptr + at, inside, 0.0)
        if d_membranes_ptr is not None:
            carry += tl.load(d_membranes_ptr + at, inside, 0.0)
        d_v = tl.load(d_spikes_ptr + at, inside, 0.0).to(v.dtype)
        d_v *= _surrogate(v - threshold, alpha, SURROGATE)
        d_v += tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, carry)
        d_current = d_v / tau if LEAKY else d_v * tau
        carry = d_v - d_current if LEAKY else d_v
        tl.store(d_current_ptr + at, d_current, inside)
        if d_shift_ptr is not None:  # outside both gradients were loaded as zeros and add nothing
            mean = tl.load(mean_ptr + step * C + channel, here, 0.0)[None, :]
            invstd = tl.load(invstd_ptr + step * C + channel, here, 0.0)[None, :]
            normal = (tl.load(x_ptr + at, inside, 0.0).to(v.dtype) - mean) * invstd
            part = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) * T + step) * C + channel
            tl.store(d_shift_ptr + part, tl.sum(d_current, 0), here)
            tl.store(d_scale_ptr + part, tl.sum(d_current * normal, 0), here)


@triton.jit
def _d_input(
    x_ptr, mean_ptr, d_out_ptr, a_ptr, b_ptr, c_ptr, out_ptr, T: tl.constexpr, M, C,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    for t in range(T):
        at = ((first + t) * M + row) * C + place
        per_channel = (first + t) * C + channel
        a = tl.load(a_ptr + per_channel, here, 0.0)[None, :]
        b = tl.load(b_ptr + per_channel, here, 0.0)[None, :]
        c = tl.load(c_ptr + per_channel, here, 0.0)[None, :]
        mean = tl.load(mean_ptr + per_channel, here, 0.0)[None, :]
        centred = tl.load(x_ptr + at, inside, 0.0).to(a.dtype) - mean
        d_x = tl.load(d_out_ptr + at, inside, 0.0) * a + centred * b + c
        tl.store(out_ptr + at, d_x.to(out_ptr.dtype.element_ty), inside)


def fire(
    x: Tensor, affine: Affine | None, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.fire`."""
    x, fired = x.contiguous(), torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    membranes = torch.empty_like(x, dtype=wide(x.dtype)) if wants_membranes else None
    scale_shift = _contiguous(*affine[2:]) if affine is not None else (None, None)
    _launch(_fire, x, (x, *scale_shift, neuron.constants, fired, membranes), *neuron[:2])
    return fired, membranes


def fire_backward(
    x: Tensor,
    affine: Affine | None,
    neuron: Neuron,
    fired: Tensor,
    d_spikes: Tensor,
    d_membranes: Tensor | None,
    pool: Pool | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.fire_backward`."""
    S, T, _, C = x.shape
    d_spikes = unpooled(d_spikes, pool)
    inputs = _contiguous(x, *(affine or [None] * 4), neuron.constants, fired, d_spikes, d_membranes)
    d_current = torch.empty_like(inputs[0], dtype=wide(x.dtype))
    sums = d_current.new_empty(2, _grid(x)[0], S, T, C) if affine is not None else (None, None)
    _launch(_fire_backward, x, (*inputs, d_current, *sums), *neuron[:2])
    return d_current, *(sums.sum(1) if affine is not None else sums)


def d_input(x: Tensor, mean: Tensor, d_out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """See :func:`tmkt_braincog.models.kernels.d_input`; takes the place of ``d_out`` where their types are the same."""
    x, mean, d_out, a, b, c = _contiguous(x, mean, d_out, a, b, c)
    out = d_out if d_out.dtype == x.dtype else torch.empty_like(x)
    _launch(_d_input, x, (x, mean, d_out, a, b, c, out))
    return out


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if a is None else a.contiguous() for a in tensors]


def _blocks(x: Tensor) -> tuple[int, int]:
    """Rows and channels of a program; powers of 2."""
    channels = min(triton.next_power_of_2(x.shape[3]), 64)
    return BLOCK // channels, channels


def _grid(x: Tensor) -> tuple[int, int, int]:
    """Programs along rows, channels and streams."""
    return *(triton.cdiv(n, block) for n, block in zip(x.shape[2:], _blocks(x), strict=True)), x.shape[0]


def _launch(kernel, x: Tensor, pointers: tuple[Tensor | None, ...], *constants) -> None:
    if not x.numel():
        return
    with torch.cuda.device_of(x):
        # Without fused multiply-adds a spike is decided as PyTorch decides it.
        kernel[_grid(x)](
            *pointers, *x.shape[1:], *constants, *_blocks(x), num_warps=WARPS, enable_fp_fusion=False
        )
