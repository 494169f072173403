"""The programs of ``triton_kernels.py``: normalise, integrate, fire, and back; pools, moments.

The formulas are those of :mod:`~tmkt_braincog.models.kernels`, in float32 or wider; T is a loop
that runs on the device. A program has one stream, ``BLOCK_M`` rows and ``BLOCK_C`` channels, for
all T, so that nothing is passed between programs. Sums over rows are written per program and added
up by PyTorch: without atomics, repeatable to the last bit."""

import math

import triton
import triton.language as tl

PI = tl.constexpr(math.pi)


@triton.jit
def _tile(T: tl.constexpr, M, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """First step (int64) and row of this program, its channels, their places, which exist."""
    row = tl.program_id(0) * BLOCK_M
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows, here = tl.arange(0, BLOCK_M), channel < C
    inside = (row + rows < M)[:, None] & here[None, :]
    first, place = tl.program_id(2).to(tl.int64) * T, rows[:, None] * C + channel[None, :]
    return first, row, channel, here, place, inside


@triton.jit
def _membrane(x, scale_ptr, shift_ptr, at, here, m, tau, LEAKY: tl.constexpr):
    """Membrane before firing; scale and shift stand ``at`` these places, or are None."""
    current = x.to(m.dtype)
    if scale_ptr is not None:
        scale = tl.load(scale_ptr + at, here, 0.0)[None, :]
        current = current * scale + tl.load(shift_ptr + at, here, 0.0)[None, :]
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
def fire(
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
def fire_backward(
    x_ptr, scale_ptr, shift_ptr, constants_ptr, fired_ptr, d_spikes_ptr, rows_ptr, d_membranes_ptr,
    d_current_ptr, T: tl.constexpr, M, C, LEAKY: tl.constexpr, SURROGATE: tl.constexpr, POOLED_M,
    SIDE: tl.constexpr, KEEP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first, row, channel, here, place, inside = _tile(T, M, C, BLOCK_M, BLOCK_C)
    tau, threshold = tl.load(constants_ptr), tl.load(constants_ptr + 1)
    alpha = tl.load(constants_ptr + 2)
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
            kept = kept + (v,)  # type: ignore[assignment]
            m = tl.where(tl.load(fired_ptr + at, inside, 0) > 0, 0.0, v)
        for back in tl.static_range(T):
            carry = _step_back(
                kept[T - 1 - back], carry, first + T - 1 - back, row, place, inside, source,
                receives, tau, threshold, alpha, fired_ptr, d_spikes_ptr, d_membranes_ptr,
                d_current_ptr, M, C, LEAKY, SURROGATE, POOLED_M, SIDE,
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
                v, carry, step, row, place, inside, source, receives,
                tau, threshold, alpha, fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr,
                M, C, LEAKY, SURROGATE, POOLED_M, SIDE,
            )  # fmt: skip


@triton.jit
def _step_back(
    v, carry, step, row, place, inside, source, receives, tau, threshold, alpha,
    fired_ptr, d_spikes_ptr, d_membranes_ptr, d_current_ptr, M, C, LEAKY: tl.constexpr,
    SURROGATE: tl.constexpr, POOLED_M, SIDE: tl.constexpr,
):  # fmt: skip
    """One step back from the membranes ``v``: the gradient of the membranes before them."""
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
def d_input(
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
def pool(
    fired_ptr, out_ptr, T: tl.constexpr, M, C, H, W, SIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
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
    kind = tl.float64 if out_ptr.dtype.element_ty == tl.float64 else tl.float32
    mean = total.to(kind) / (SIDE * SIDE)
    at = pixel[:, None] * C + channel[None, :]
    tl.store(out_ptr + at, mean.to(out_ptr.dtype.element_ty), inside)


@triton.jit
def moments(
    x_ptr, mean_ptr, squares_ptr, T: tl.constexpr, M, C,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
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
def d_affine(
    x_ptr, mean_ptr, invstd_ptr, d_out_ptr, plain_ptr, normal_ptr, T: tl.constexpr, M, C,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sums over rows, ``ROWS`` at a time: of the gradient, and times the normalised input."""
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
    invstd = tl.load(invstd_ptr + step * C + channel, here, 0.0)
    tl.store(normal_ptr + part, tl.sum(normal, 0) * invstd, here)
