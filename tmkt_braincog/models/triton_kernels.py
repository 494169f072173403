"""The neuron on a GPU in two Triton kernels: normalise, integrate and fire over T, and the way back.

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

from .kernels import Neuron

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
def _membrane(x, scale, shift, m, LEAKY: tl.constexpr, TAU: tl.constexpr):
    """Membrane before firing."""
    current = x.to(scale.dtype) * scale[None, :] + shift[None, :]
    return m + (current - m) / TAU if LEAKY else m + current * TAU


@triton.jit
def _surrogate(u, NAME: tl.constexpr, ALPHA: tl.constexpr):
    """Derivative of the spike."""
    if NAME == "QGateGrad":
        return tl.where(tl.abs(u) > 1 / ALPHA, 0.0, -ALPHA * ALPHA * tl.abs(u) + ALPHA)
    elif NAME == "BackEIGateGrad":
        return (tl.abs(u) < 0.5).to(u.dtype)
    else:
        tl.static_assert(NAME == "AtanGrad")
        scaled = ALPHA * PI / 2 * u
        return ALPHA / 2 / (1 + scaled * scaled)


@triton.jit
def _fire(
    x_ptr, scale_ptr, shift_ptr, spikes_ptr, fired_ptr, membranes_ptr, T: tl.constexpr, M, C,
    LEAKY: tl.constexpr, TAU: tl.constexpr, THRESHOLD: tl.constexpr, SURROGATE: tl.constexpr, ALPHA: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    m = tl.zeros((BLOCK_M, BLOCK_C), scale_ptr.dtype.element_ty)
    for t in range(T):
        step = first + t
        at = (step * M + row) * C + place
        scale = tl.load(scale_ptr + step * C + channel, here, 0.0)
        shift = tl.load(shift_ptr + step * C + channel, here, 0.0)
        v = _membrane(tl.load(x_ptr + at, inside, 0.0), scale, shift, m, LEAKY, TAU)
        spike = (v > THRESHOLD).to(v.dtype)
        m = v * (1 - spike)
        tl.store(spikes_ptr + at, spike.to(spikes_ptr.dtype.element_ty), inside)
        tl.store(fired_ptr + at, spike.to(tl.uint8), inside)
        if membranes_ptr is not None:
            tl.store(membranes_ptr + at, m, inside)


@triton.jit
def _fire_backward(
    x_ptr, mean_ptr, invstd_ptr, scale_ptr, shift_ptr, fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr,
    d_shift_ptr, d_scale_ptr, T: tl.constexpr, M, C,
    LEAKY: tl.constexpr, TAU: tl.constexpr, THRESHOLD: tl.constexpr, SURROGATE: tl.constexpr, ALPHA: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    m = tl.zeros((BLOCK_M, BLOCK_C), scale_ptr.dtype.element_ty)
    for t in range(T):
        step = first + t
        at = (step * M + row) * C + place
        scale = tl.load(scale_ptr + step * C + channel, here, 0.0)
        shift = tl.load(shift_ptr + step * C + channel, here, 0.0)
        v = _membrane(tl.load(x_ptr + at, inside, 0.0), scale, shift, m, LEAKY, TAU)
        tl.store(d_current_ptr + at, v, inside)  # kept where the gradient will stand
        m = v * (1 - tl.load(fired_ptr + at, inside, 0).to(v.dtype))
    tl.debug_barrier()  # what a thread has stored, another may load
    carry = tl.zeros_like(m)
    for back in range(T):
        step = first + T - 1 - back
        at = (step * M + row) * C + place
        v = tl.load(d_current_ptr + at, inside, 0.0)
        if d_membranes_ptr is not None:
            carry += tl.load(d_membranes_ptr + at, inside, 0.0)
        d_v = tl.load(d_spikes_ptr + at, inside, 0.0).to(v.dtype)
        d_v *= _surrogate(v - THRESHOLD, SURROGATE, ALPHA)
        d_v += carry * (1 - tl.load(fired_ptr + at, inside, 0).to(v.dtype))
        d_current = d_v / TAU if LEAKY else d_v * TAU
        carry = d_v - d_current if LEAKY else d_v
        tl.store(d_current_ptr + at, d_current, inside)
        if d_shift_ptr is not None:  # outside both gradients were loaded as zeros and add nothing
            mean = tl.load(mean_ptr + step * C + channel, here, 0.0)[None, :]
            invstd = tl.load(invstd_ptr + step * C + channel, here, 0.0)[None, :]
            normal = (tl.load(x_ptr + at, inside, 0.0).to(v.dtype) - mean) * invstd
            part = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) * T + step) * C + channel
            tl.store(d_shift_ptr + part, tl.sum(d_current, 0), here)
            tl.store(d_scale_ptr + part, tl.sum(d_current * normal, 0), here)


def neuron_forward(
    x: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.neuron_forward`."""
    x, scale, shift = (a.contiguous() for a in (x, scale, shift))
    spikes, fired = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    membranes = torch.empty_like(x, dtype=scale.dtype) if wants_membranes else None
    _launch(_fire, x, neuron, x, scale, shift, spikes, fired, membranes)
    return spikes, fired, membranes


def neuron_backward(
    x: Tensor,
    affine: tuple[Tensor, Tensor, Tensor, Tensor],
    fired: Tensor,
    d_spikes: Tensor,
    d_membranes: Tensor | None,
    neuron: Neuron,
    wants_affine: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.neuron_backward`."""
    S, T, _, C = x.shape
    inputs = [None if a is None else a.contiguous() for a in (x, *affine, fired, d_spikes, d_membranes)]
    d_current = torch.empty_like(inputs[0], dtype=affine[0].dtype)
    sums = (None, None)
    if wants_affine:
        sums = d_current.new_empty(2, _grid(x)[0], S, T, C)
    _launch(_fire_backward, x, neuron, *inputs, d_current, *sums)
    return d_current, *(sums.sum(1) if wants_affine else sums)


def _blocks(x: Tensor) -> tuple[int, int]:
    """Rows and channels of a program; powers of 2."""
    channels = min(triton.next_power_of_2(x.shape[3]), 64)
    return BLOCK // channels, channels


def _grid(x: Tensor) -> tuple[int, int, int]:
    """Programs along rows, channels and streams."""
    return *(triton.cdiv(n, block) for n, block in zip(x.shape[2:], _blocks(x), strict=True)), x.shape[0]


def _launch(kernel, x: Tensor, neuron: Neuron, *pointers: Tensor | None) -> None:
    if not x.numel():
        return
    with torch.cuda.device_of(x):
        # Without fused multiply-adds a spike is decided as PyTorch decides it.
        kernel[_grid(x)](
            *pointers, *x.shape[1:], *neuron, *_blocks(x), num_warps=WARPS, enable_fp_fusion=False
        )
