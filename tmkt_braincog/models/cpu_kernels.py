"""The kernels on a CPU: the formulas of ``kernels.py`` in loops that numba compiles once and keeps on disk.

A block of rows goes through all T steps while it is in the cache, so that every value is read once (twice on the way
back). Threads share the rows in parts that depend on the shape alone: results do not depend on their number.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

from .kernels import SURROGATES, Affine, Neuron, Pool, wide

BLOCK = 2048  # values of one step that are worked on together
PART = 1 << 16  # values of all steps that are worth a thread
PARTS = 8  # of a stream, at most
_CODES = {name: code for code, name in enumerate(SURROGATES)}


def fits(x: Tensor) -> bool:
    """Whether these kernels can run on ``x``."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64, torch.bfloat16)


def fire(
    x: Tensor, affine: Affine | None, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor | None]:
    """See :func:`tmkt_braincog.models.kernels.fire`."""
    fired = torch.empty(x.shape, dtype=torch.uint8)
    membranes = torch.empty(
        x.shape if wants_membranes else (0, 0, 0, 0), dtype=neuron.constants.dtype
    )
    scale, shift = _scale_and_shift(x, affine)
    _run(_fire, x, _parts(x), x, scale, shift, neuron.constants, fired, membranes, neuron.leaky)
    return fired, membranes if wants_membranes else None


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
    out = torch.empty(x.shape, dtype=neuron.constants.dtype)
    scale, shift = _scale_and_shift(x, affine)
    mean = out.new_empty(0, 0, 0) if affine is None else affine.mean
    parts = _parts(x)
    sums = out.new_zeros((2, S, parts, T, C) if affine is not None else (2, 0, 0, 0, 0))
    taps = out.new_empty(0, 0, 0, 0) if d_membranes is None else d_membranes
    at = torch.empty(0, dtype=torch.int64) if pool is None else pool.rows
    share = neuron.constants.numpy().dtype.type(1 if pool is None else 1 / pool.side**2)
    arrays = (x, scale, shift, mean, neuron.constants, fired, d_spikes, at, share, taps, out, *sums)
    _run(_fire_backward, x, parts, *arrays, neuron.leaky, _CODES[neuron.surrogate])
    if affine is None:
        return out, None, None
    d_shift, d_centred = sums.sum(2)
    return out, d_shift, d_centred * affine.invstd


def spikes(fired: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    """See :func:`tmkt_braincog.models.kernels.spikes`."""
    if side == 1:
        return fired.to(dtype)
    N, C, H, W = fired.shape
    out = torch.empty(N, H // side, W // side, C, dtype=dtype)
    last = fired.permute(0, 2, 3, 1)
    like = last.flatten(1)[None, :, None]  # one stream of N parts
    _run(_pool, like, N, last, out, torch.empty(C, dtype=wide(dtype)), side)
    return out.permute(0, 3, 1, 2)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`tmkt_braincog.models.kernels.moments`; sums are added up in float64."""
    S, T, _, C = x.shape
    mean, var = torch.empty(2, S, T, C, dtype=wide(x.dtype)).unbind()
    _run(_moments, x, T, x, mean, var)
    return mean, var


def d_input(x: Tensor, mean: Tensor, d_out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """See :func:`tmkt_braincog.models.kernels.d_input`; takes the place of ``d_out`` where their types are the same."""
    d_out = d_out.contiguous()  # or what is written would go to a copy
    out = d_out if d_out.dtype == x.dtype else torch.empty(x.shape, dtype=x.dtype)
    _run(_d_input, x, _parts(x), x, mean, d_out, a, b, c, out)
    return out


# From tensors to arrays, and threads


def _array(x: Tensor) -> np.ndarray:
    """The memory of ``x``; bfloat16, which NumPy lacks, as its bits."""
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _scale_and_shift(x: Tensor, affine: Affine | None) -> tuple[Tensor, Tensor]:
    if affine is not None:
        return affine.scale, affine.shift
    none = torch.empty(0, 0, 0, dtype=wide(x.dtype))
    return none, none


def _parts(x: Tensor) -> int:
    """In how many parts the rows of a stream are worked on."""
    _, T, M, C = x.shape
    return max(1, min(PARTS, M, T * M * C // PART))


def _run(kernel: Callable, x: Tensor, parts: int, *arguments) -> None:
    """``kernel(*arguments, parts, first, last)`` on all ``parts`` of every stream, shared by PyTorch's number of threads."""
    arrays = [_array(a) if isinstance(a, Tensor) else a for a in arguments]
    tasks = x.shape[0] * parts
    threads = max(1, min(torch.get_num_threads(), tasks, x.numel() // PART))
    edges = [tasks * i // threads for i in range(threads + 1)]
    shares = list(pairwise(edges))
    others = []
    if threads > 1:
        pool = _threads(os.getpid(), threads - 1)
        others = [pool.submit(kernel, *arrays, parts, *share) for share in shares[1:]]
    kernel(*arrays, parts, *shares[0])
    for other in others:
        other.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Of this process: a forked one has none of its parent's threads."""
    return ThreadPoolExecutor(count, "neuron")


# Compiled loops; array types choose between float and bfloat16


def _compiled(function: Callable) -> Callable:
    options = {
        "nogil": True,
        "error_model": "numpy",
    }  # no test for a division by zero in every turn
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that can be written, neither here nor in the user's cache
        return njit(**options)(function)


def _widened(source, buffer):
    """``source``, or from bits of bfloat16 its values, in ``buffer``."""


@overload(_widened)
def _widened_by_type(source, buffer):
    if source.dtype != types.uint16:
        return lambda source, buffer: source

    def convert(source, buffer):
        bits = buffer.view(np.uint32)
        for j in range(source.size):
            bits[j] = np.uint32(source[j]) << np.uint32(16)
        return buffer[: source.size]

    return convert


def _stored(values, target):
    """Write ``values``, as bits of bfloat16 where the target holds those: to nearest, ties to even."""


@overload(_stored)
def _stored_by_type(values, target):
    if target.dtype != types.uint16:

        def copy(values, target):
            for j in range(target.size):
                target[j] = values[j]

        return copy

    def convert(values, target):
        bits = values.view(np.uint32)
        for j in range(target.size):
            odd = (bits[j] >> np.uint32(16)) & np.uint32(1)
            rounded = (bits[j] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
            target[j] = rounded if values[j] == values[j] else np.uint32(0x7FC0)

    return convert


@_compiled
def _tiled(values, rows):
    """``[T, C]`` -> ``[T, rows * C]``, each repeated: inner loops are then long whatever C is."""
    T, C = values.shape
    tiles = np.empty((T, rows * C), values.dtype)
    for t in range(T):
        for i in range(rows):
            tiles[t, i * C : (i + 1) * C] = values[t]
    return tiles


@_compiled
def _integrate(x, scale, shift, tau, leaky, m):
    """``m`` becomes the membrane before firing; scale and shift may be empty."""
    if scale.size > 0:
        if leaky:
            for j in range(x.size):
                m[j] = m[j] + ((x[j] * scale[j] + shift[j]) - m[j]) / tau
        else:
            for j in range(x.size):
                m[j] = m[j] + (x[j] * scale[j] + shift[j]) * tau
    elif leaky:
        for j in range(x.size):
            m[j] = m[j] + (x[j] - m[j]) / tau
    else:
        for j in range(x.size):
            m[j] = m[j] + x[j] * tau


@_compiled
def _fire(x, scale, shift, constants, fired, membranes, leaky, parts, first_task, last_task):
    for task in range(first_task, last_task):
        s, part = divmod(task, parts)
        start, stop = x.shape[2] * part // parts, x.shape[2] * (part + 1) // parts
        _fire_rows(x, scale, shift, constants, fired, membranes, leaky, s, start, stop)


@_compiled
def _fire_rows(x, scale, shift, constants, fired, membranes, leaky, s, start, stop):
    T, C = x.shape[1], x.shape[3]
    tau, threshold, rest = constants[0], constants[1], constants[3]
    zero = constants.dtype.type(0)
    rows = max(1, min(BLOCK // C, stop - start))
    state, buffer = np.empty(rows * C, constants.dtype), np.empty(rows * C, constants.dtype)
    affine = scale.size > 0
    scales = _tiled(scale[s], rows) if affine else np.empty((T, 0), constants.dtype)
    shifts = _tiled(shift[s], rows) if affine else np.empty((T, 0), constants.dtype)
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        m = state[: (last - first) * C]
        m[:] = rest
        for t in range(T):
            currents = _widened(x[s, t, first:last].reshape(-1), buffer)
            _integrate(currents, scales[t], shifts[t], tau, leaky, m)
            f = fired[s, t, first:last].reshape(-1)
            for j in range(m.size):
                over = m[j] > threshold
                f[j] = over
                m[j] = zero if over else m[j]
            if membranes.size > 0:
                membranes[s, t, first:last].reshape(-1)[:] = m


@_compiled
def _times_surrogate(d, v, threshold, alpha, surrogate):
    """``d`` is multiplied by the derivative of the spike at membrane ``v``."""
    kind = v.dtype.type
    zero, half, one = kind(0), kind(0.5), kind(1)
    if surrogate == 0:
        width = one / alpha
        for j in range(d.size):
            u = abs(v[j] - threshold)
            d[j] *= zero if u > width else -alpha * alpha * u + alpha
    elif surrogate == 1:
        for j in range(d.size):
            d[j] *= one if abs(v[j] - threshold) < half else zero
    else:
        slope = alpha * kind(np.pi) / kind(2)
        for j in range(d.size):
            u = slope * (v[j] - threshold)
            d[j] *= alpha / kind(2) / (one + u * u)


@_compiled
def _carry(d, f, carry, out, tau, leaky):
    """Gradient of the currents of one step, and what goes on to the step before it."""
    zero = carry.dtype.type(0)
    if leaky:
        for j in range(d.size):
            d_v = d[j] + (zero if f[j] else carry[j])
            current = d_v / tau
            out[j] = current
            carry[j] = d_v - current
    else:
        for j in range(d.size):
            d_v = d[j] + (zero if f[j] else carry[j])
            out[j] = d_v * tau
            carry[j] = d_v


@_compiled
def _gather(pooled, at, share, d):
    """Gradients of values from those of their pools; -1 is in none."""
    C = pooled.shape[1]
    one = np.empty(C, d.dtype)
    for i in range(at.size):
        if at[i] < 0:
            d[i * C : (i + 1) * C] = 0
        else:
            values = _widened(pooled[at[i]], one)
            for c in range(C):
                d[i * C + c] = values[c] * share


@_compiled
def _fire_backward(
    x, scale, shift, mean, constants, fired, d_spikes, at, share, d_membranes, out, d_shift, d_scale,
    leaky, surrogate, parts, first_task, last_task,
):  # fmt: skip
    for task in range(first_task, last_task):
        s, part = divmod(task, parts)
        start, stop = x.shape[2] * part // parts, x.shape[2] * (part + 1) // parts
        _rows_backward(
            x, scale, shift, mean, constants, fired, d_spikes, at, share, d_membranes, out, d_shift, d_scale,
            leaky, surrogate, s, part, start, stop,
        )  # fmt: skip


@_compiled
def _rows_backward(
    x, scale, shift, mean, constants, fired, d_spikes, at, share, d_membranes, out, d_shift, d_scale,
    leaky, surrogate, s, part, start, stop,
):  # fmt: skip
    T, C = x.shape[1], x.shape[3]
    tau, threshold, alpha, rest = constants[0], constants[1], constants[2], constants[3]
    kind = constants.dtype
    zero = kind.type(0)
    rows = max(1, min(BLOCK // C, stop - start))
    before = np.empty((T, rows * C), kind)  # membranes before firing
    state, buffer, d = np.empty(rows * C, kind), np.empty(rows * C, kind), np.empty(rows * C, kind)
    affine = scale.size > 0
    none = np.empty((T, 0), kind)
    scales = _tiled(scale[s], rows) if affine else none
    shifts = _tiled(shift[s], rows) if affine else none
    means = _tiled(mean[s], rows) if affine else none
    sums = np.zeros((2, T, rows * C), kind) if affine else np.zeros((2, T, 0), kind)
    for first in range(start, stop, rows):
        last = min(first + rows, stop)
        n = (last - first) * C
        carry = state[:n]
        carry[:] = rest
        for t in range(T):
            v = before[t, :n]
            v[:] = carry
            currents = _widened(x[s, t, first:last].reshape(-1), buffer)
            _integrate(currents, scales[t], shifts[t], tau, leaky, v)
            f = fired[s, t, first:last].reshape(-1)
            for j in range(n):
                carry[j] = zero if f[j] else v[j]
        carry[:] = zero
        for t in range(T - 1, -1, -1):
            if d_membranes.size > 0:
                taps = d_membranes[s, t, first:last].reshape(-1)
                for j in range(n):
                    carry[j] += taps[j]
            if at.size > 0:
                _gather(d_spikes[s, t], at[first:last], share, d)
            else:
                d[:n] = _widened(d_spikes[s, t, first:last].reshape(-1), buffer)
            _times_surrogate(d[:n], before[t, :n], threshold, alpha, surrogate)
            o = out[s, t, first:last].reshape(-1)
            _carry(d[:n], fired[s, t, first:last].reshape(-1), carry, o, tau, leaky)
            if affine:
                currents = _widened(x[s, t, first:last].reshape(-1), buffer)
                _add_sums(currents, o, means[t], sums[0, t], sums[1, t])
    if affine:
        for t in range(T):
            for i in range(rows):
                d_shift[s, part, t] += sums[0, t, i * C : (i + 1) * C]
                d_scale[s, part, t] += sums[1, t, i * C : (i + 1) * C]


@_compiled
def _add_sums(x, d_out, mean, plain, centred):
    for j in range(
        x.size
    ):  # two loops: with fewer arrays in each the compiler sees that none overlap
        plain[j] += d_out[j]
    for j in range(x.size):
        centred[j] += d_out[j] * (x[j] - mean[j])


@_compiled
def _pool(fired, out, like, side, parts, first_sample, last_sample):
    _, h, w, C = out.shape
    count, mean = np.empty(C, np.int32), np.empty_like(like)
    for n in range(first_sample, last_sample):
        for y in range(h):
            for x in range(w):
                count[:] = 0
                for i in range(side):
                    for j in range(side):
                        values = fired[n, y * side + i, x * side + j]
                        for c in range(C):
                            count[c] += values[c]
                for c in range(C):
                    mean[c] = count[c] / (side * side)
                _stored(mean, out[n, y, x])


@_compiled
def _moments(x, mean, var, steps, first_task, last_task):
    for task in range(first_task, last_task):
        s, t = divmod(task, steps)
        _moments_of_step(x, mean, var, s, t)


@_compiled
def _moments_of_step(x, mean, var, s, t):
    M, C = x.shape[2], x.shape[3]
    rows = max(1, min(BLOCK // C, M))
    buffer, tiles = np.empty(rows * C, mean.dtype), np.empty((1, rows * C))
    for squared in range(2):
        sums = np.zeros(rows * C)
        for first in range(0, M, rows):
            values = _widened(x[s, t, first : min(first + rows, M)].reshape(-1), buffer)
            if squared:
                for j in range(values.size):
                    sums[j] += (values[j] - tiles[0, j]) ** 2
            else:
                for j in range(values.size):
                    sums[j] += values[j]
        found = np.zeros((1, C))
        for i in range(rows):
            found[0] += sums[i * C : (i + 1) * C]
        found /= M
        if squared:
            var[s, t] = found[0]
        else:
            mean[s, t] = found[0]
            tiles = _tiled(found, rows)


@_compiled
def _d_input(x, mean, d_out, a, b, c, out, parts, first_task, last_task):
    for task in range(first_task, last_task):
        s, part = divmod(task, parts)
        start, stop = x.shape[2] * part // parts, x.shape[2] * (part + 1) // parts
        _d_input_rows(x, mean, d_out, a, b, c, out, s, start, stop)


@_compiled
def _d_input_rows(x, mean, d_out, a, b, c, out, s, start, stop):
    T, C = x.shape[1], x.shape[3]
    rows = max(1, min(BLOCK // C, stop - start))
    buffer, values = np.empty(rows * C, d_out.dtype), np.empty(rows * C, d_out.dtype)
    one, two, three, means = (
        _tiled(a[s], rows),
        _tiled(b[s], rows),
        _tiled(c[s], rows),
        _tiled(mean[s], rows),
    )
    for t in range(T):
        for first in range(start, stop, rows):
            last = min(first + rows, stop)
            inputs = _widened(x[s, t, first:last].reshape(-1), buffer)
            d = d_out[s, t, first:last].reshape(-1)
            for j in range(d.size):
                values[j] = d[j] * one[t, j] + (inputs[j] - means[t, j]) * two[t, j] + three[t, j]
            _stored(values, out[s, t, first:last].reshape(-1))
