"""The elementwise work of a layer on a GPU, in Triton: normalise, integrate and fire over T, the way back, pools, moments.

The formulas are those of ``kernels.py``, in float32 or wider, and T is a loop that runs on the device. On the way back the
membranes of up to ``KEPT`` steps stay in registers. Run on an H200 (``results/performance/gpu.md``), tested without a GPU
in Triton's interpreter.

A program has one stream, ``BLOCK_M`` rows and ``BLOCK_C`` channels, for all T, so that nothing is passed between programs.
Sums over rows are written per program and added up by PyTorch: without atomics, repeatable to the last bit.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import kernels
from .kernels import Affine, Neuron, Pool, wide

BLOCK = 2048  # values per program and time-step, 8 per thread: more would cost registers and so programs at a time
SUMMED = 32768  # values of one time-step that a program adds up
KEPT = 16  # steps whose membranes stay in registers; those of more are kept in memory
WARPS = 8
PI = tl.constexpr(math.pi)


@triton.jit
def _tile(T: tl.constexpr, M, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """First step (int64) and row of this program, its channels, their places from there, and which of both exist."""
    row = tl.program_id(0) * BLOCK_M
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows, here = tl.arange(0, BLOCK_M), channel < C
    inside = (row + rows < M)[:, None] & here[None, :]
    return (
        tl.program_id(2).to(tl.int64) * T,
        row,
        channel,
        here,
        rows[:, None] * C + channel[None, :],
        inside,
    )


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
    x_ptr, scale_ptr, shift_ptr, constants_ptr, fired_ptr, d_spikes_ptr, rows_ptr, d_membranes_ptr, d_current_ptr,
    T: tl.constexpr, M, C, LEAKY: tl.constexpr, SURROGATE: tl.constexpr, POOLED_M, SIDE: tl.constexpr, KEEP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    tau, threshold, alpha = (
        tl.load(constants_ptr),
        tl.load(constants_ptr + 1),
        tl.load(constants_ptr + 2),
    )
    m = tl.zeros((BLOCK_M, BLOCK_C), constants_ptr.dtype.element_ty) + tl.load(constants_ptr + 3)
    carry = tl.zeros_like(m)
    # Where the gradients of the spikes stand: in the pooled row that a row is part of.
    pooled, receives = row + tl.arange(0, BLOCK_M), inside
    if SIDE > 1:
        pooled = tl.load(rows_ptr + pooled, pooled < M, -1)
        receives = inside & (pooled >= 0)[:, None]
    source = pooled.to(tl.int64)[:, None] * C + channel[None, :]
    if KEEP:
        kept = ()
        for t in tl.static_range(T):
            at = ((first + t) * M + row) * C + place
            x = tl.load(x_ptr + at, inside, 0.0)
            v = _membrane(x, scale_ptr, shift_ptr, (first + t) * C + channel, here, m, tau, LEAKY)
            kept = kept + (v,)
            m = tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, v)
        for back in tl.static_range(T):
            carry = _step_back(
                kept[T - 1 - back], carry, first + T - 1 - back, row, place, inside, source, receives, tau, threshold, alpha,
                fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr, M, C, LEAKY, SURROGATE, POOLED_M, SIDE,
            )  # fmt: skip
    else:
        for t in range(T):
            at = ((first + t) * M + row) * C + place
            x = tl.load(x_ptr + at, inside, 0.0)
            v = _membrane(x, scale_ptr, shift_ptr, (first + t) * C + channel, here, m, tau, LEAKY)
            tl.store(d_current_ptr + at, v, inside)  # kept where the gradient will stand
            m = tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, v)
        tl.debug_barrier()  # what a thread has stored, another may load
        for back in range(T):
            step = first + T - 1 - back
            v = tl.load(d_current_ptr + (step * M + row) * C + place, inside, 0.0)
            carry = _step_back(
                v, carry, step, row, place, inside, source, receives, tau, threshold, alpha,
                fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr, M, C, LEAKY, SURROGATE, POOLED_M, SIDE,
            )  # fmt: skip


@triton.jit
def _step_back(
    v, carry, step, row, place, inside, source, receives, tau, threshold, alpha,
    fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr, M, C, LEAKY: tl.constexpr, SURROGATE: tl.constexpr,
    POOLED_M, SIDE: tl.constexpr,
):  # fmt: skip
    """One time-step of the way back from the membranes ``v``; gives the gradient of the membranes before them."""
    at = (step * M + row) * C + place
    if d_membranes_ptr is not None:
        carry += tl.load(d_membranes_ptr + at, inside, 0.0)
    d_v = tl.load(d_spikes_ptr + step * POOLED_M * C + source, receives, 0.0).to(v.dtype)
    d_v *= _surrogate(v - threshold, alpha, SURROGATE) / (SIDE * SIDE)
    d_v += tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, carry)
    d_current = d_v / tau if LEAKY else d_v * tau
    tl.store(d_current_ptr + at, d_current, inside)
    return d_v - d_current if LEAKY else d_v


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


@triton.jit
def _pool(
    fired_ptr, out_ptr, T: tl.constexpr, M, C, H, W, SIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Means of ``[N, H, W, C]`` over SIDE x SIDE; a row is a pixel of the result."""
    _, row, channel, _, _, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    pixel, h, w = (row + tl.arange(0, BLOCK_M)).to(tl.int64), H // SIDE, W // SIDE
    corner = (pixel // (h * w) * H + pixel // w % h * SIDE) * W + pixel % w * SIDE
    total = tl.zeros((BLOCK_M, BLOCK_C), tl.int32)
    for y in tl.static_range(SIDE):
        for x in tl.static_range(SIDE):
            at = (corner + y * W + x)[:, None] * C + channel[None, :]
            total += tl.load(fired_ptr + at, inside, 0)
    mean = total.to(tl.float64 if out_ptr.dtype.element_ty == tl.float64 else tl.float32) / (
        SIDE * SIDE
    )
    at = pixel[:, None] * C + channel[None, :]
    tl.store(out_ptr + at, mean.to(out_ptr.dtype.element_ty), inside)


@triton.jit
def _moments(
    x_ptr, mean_ptr, squares_ptr, T: tl.constexpr, M, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Mean of a block of rows, and the sum of squares about it."""
    step, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    x = tl.load(x_ptr + (step * M + row) * C + place, inside, 0.0).to(mean_ptr.dtype.element_ty)
    mean = tl.sum(x, 0) / tl.minimum(M - row, BLOCK_M)
    centred = tl.where(inside, x - mean[None, :], 0.0)
    part = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) + step) * C + channel
    tl.store(mean_ptr + part, mean, here)
    tl.store(squares_ptr + part, tl.sum(centred * centred, 0), here)


@triton.jit
def _d_affine(
    x_ptr, mean_ptr, invstd_ptr, d_out_ptr, plain_ptr, normal_ptr, T: tl.constexpr, M, C, BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sums over a block of rows, ``ROWS`` at a time: of the gradient, and of it times the normalised input."""
    step, row, channel, here, _, _ = _tile(T, M, C, BLOCK_M, BLOCK_C)
    mean = tl.load(mean_ptr + step * C + channel, here, 0.0)
    plain = tl.zeros((ROWS, BLOCK_C), mean.dtype)
    normal = tl.zeros_like(plain)
    for start in range(0, BLOCK_M, ROWS):
        rows = row + start + tl.arange(0, ROWS)
        inside = (rows < M)[:, None] & here[None, :]
        at = step * M * C + rows.to(tl.int64)[:, None] * C + channel[None, :]
        d = tl.load(d_out_ptr + at, inside, 0.0)
        plain += d
        normal += d * (tl.load(x_ptr + at, inside, 0.0).to(d.dtype) - mean[None, :])
    part = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) + step) * C + channel
    tl.store(plain_ptr + part, tl.sum(plain, 0), here)
    tl.store(
        normal_ptr + part,
        tl.sum(normal, 0) * tl.load(invstd_ptr + step * C + channel, here, 0.0),
        here,
    )


def fire(
    x: Tensor, affine: Affine | None, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.fire`."""
    x, fired = x.contiguous(), torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    membranes = torch.empty_like(x, dtype=wide(x.dtype)) if wants_membranes else None
    scale_shift = _contiguous(*affine[2:]) if affine is not None else (None, None)
    _launch(_fire, x, BLOCK, (x, *scale_shift, neuron.constants, fired, membranes), *neuron[:2])
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
    keep = x.shape[1] <= KEPT
    pooling = d_spikes.shape[2], 1 if pool is None else pool.side
    scale_shift = affine[2:] if affine is not None else (None, None)
    inputs = _contiguous(x, *scale_shift, neuron.constants, fired, d_spikes)
    inputs += [None if pool is None else pool.rows, *_contiguous(d_membranes)]
    d_current = torch.empty_like(inputs[0], dtype=wide(x.dtype))
    _launch(_fire_backward, x, BLOCK, (*inputs, d_current), *neuron[:2], *pooling, keep)
    return d_current, *(d_affine(x, affine, d_current) if affine is not None else (None, None))


def d_affine(x: Tensor, affine: Affine, d_out: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`tmkt_braincog.models.kernels.d_affine`."""
    inputs, (S, T, M, C) = _contiguous(x, *affine[:2], d_out), x.shape
    each = inputs[0].view(S * T, 1, M, C)  # every time-step by itself
    sums = d_out.new_empty(2, _grid(each, SUMMED)[0], S, T, C)
    _launch(_d_affine, each, SUMMED, (*inputs, *sums), last=(_blocks(each, BLOCK)[0],))
    return tuple(sums.sum(1))


def spikes(fired: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """See :func:`tmkt_braincog.models.kernels.spikes`; channels last."""
    if side == 1:
        return fired.to(dtype)
    N, C, H, W = fired.shape
    fired = fired.movedim(1, -1).contiguous()
    out = torch.empty(N, H // side, W // side, C, dtype=dtype, device=fired.device)
    rows = out.view(1, 1, -1, C)
    _launch(_pool, rows, BLOCK, (fired, out), H, W, side)
    return out.movedim(-1, 1)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`tmkt_braincog.models.kernels.moments`; 16-bit values are read as they are, not copied to float32 first."""
    if x.dtype == wide(x.dtype):
        return kernels.moments(x)
    (S, T, M, C), x = x.shape, x.contiguous()
    each = x.view(S * T, 1, M, C)
    parts = torch.empty(2, _grid(each, SUMMED)[0], S, T, C, dtype=wide(x.dtype), device=x.device)
    _launch(_moments, each, SUMMED, (x, *parts))
    here = _blocks(each, SUMMED)[0]
    counts = (M - here * torch.arange(len(parts[0]), device=x.device)).clamp(max=here)[
        :, None, None, None
    ]
    mean = (parts[0] * counts).sum(0) / M
    squares = parts[1] + counts * (parts[0] - mean).square()
    return mean, squares.sum(0) / M


def d_input(x: Tensor, mean: Tensor, d_out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """See :func:`tmkt_braincog.models.kernels.d_input`; takes the place of ``d_out`` where their types are the same."""
    x, mean, d_out, a, b, c = _contiguous(x, mean, d_out, a, b, c)
    out = d_out if d_out.dtype == x.dtype else torch.empty_like(x)
    _launch(_d_input, x, BLOCK, (x, mean, d_out, a, b, c, out))
    return out


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if a is None else a.contiguous() for a in tensors]


def _blocks(x: Tensor, block: int) -> tuple[int, int]:
    """Rows and channels of a program of so many values per time-step; powers of 2."""
    channels = min(triton.next_power_of_2(x.shape[3]), 64)
    return block // channels, channels


def _grid(x: Tensor, block: int) -> tuple[int, int, int]:
    """Programs along rows, channels and streams."""
    return *(
        triton.cdiv(n, b) for n, b in zip(x.shape[2:], _blocks(x, block), strict=True)
    ), x.shape[0]


def _launch(
    kernel, x: Tensor, block: int, pointers: tuple[Tensor | None, ...], *constants, last=()
) -> None:
    if not x.numel():
        return
    with torch.cuda.device_of(x):
        # Without fused multiply-adds a spike is decided as PyTorch decides it.
        kernel[_grid(x, block)](
            *pointers,
            *x.shape[1:],
            *constants,
            *_blocks(x, block),
            *last,
            num_warps=WARPS,
            enable_fp_fusion=False,
        )
