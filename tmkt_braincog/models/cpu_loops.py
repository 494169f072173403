"""The loops of ``cpu_kernels.py``, which numba compiles once and keeps on disk.

A block of rows goes through all T steps while it is in the cache, so that every value is read once
(twice on the way back). ``tasks`` is ``[n, 4]`` int64: number of the task, stream, first row and
the row behind the last. An affine that is not there has no channels. bfloat16, which NumPy lacks,
comes as its bits (uint16)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

BLOCK = 2048  # values of one step that are worked on together


def compiled(function: Callable) -> Any:
    """As machine code; "numpy": without a test for a division by zero in every turn."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder that can be written, neither here nor in the user's cache
        return njit(nogil=True, error_model="numpy")(function)


def _widened(source, buffer):
    """``source``, or from bits of bfloat16 its values, in ``buffer``."""


@overload(_widened)
def _widened_by_type(source, buffer):
    def convert(source, buffer):
        bits = buffer.view(np.uint32)
        for j in range(source.size):
            bits[j] = np.uint32(source[j]) << np.uint32(16)
        return buffer[: source.size]

    return convert if source.dtype == types.uint16 else lambda source, buffer: source


def _stored(values, target):
    """Write ``values`` in the target, as bits of bfloat16 (to nearest, ties to even) or as is."""


@overload(_stored)
def _stored_by_type(values, target):
    def copy(values, target):
        for j in range(target.size):
            target[j] = values[j]

    def convert(values, target):
        bits = values.view(np.uint32)
        for j in range(target.size):
            odd = (bits[j] >> np.uint32(16)) & np.uint32(1)
            rounded = (bits[j] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
            target[j] = rounded if values[j] == values[j] else np.uint32(0x7FC0)

    return convert if target.dtype == types.uint16 else copy


@compiled
def _tiled(values, rows):
    """``[T, C]`` -> ``[T, rows * C]``, each repeated: inner loops are then long whatever C is."""
    T, C = values.shape
    tiles = np.empty((T, rows * C), values.dtype)
    for t in range(T):
        for i in range(rows):
            tiles[t, i * C : (i + 1) * C] = values[t]
    return tiles


@compiled
def _integrate(x, scale, shift, tau, leaky, m):
    """``m`` becomes the membrane before firing."""
    affine = scale.size > 0
    for j in range(x.size):
        current = x[j] * scale[j] + shift[j] if affine else x[j]
        m[j] += (current - m[j]) / tau if leaky else current * tau


@compiled
def fire(tasks, x, scale, shift, constants, fired, membranes, leaky):
    T, C = x.shape[1], x.shape[3]
    tau, threshold, rest = constants[0], constants[1], constants[3]
    zero = constants.dtype.type(0)
    for k in range(len(tasks)):
        s, start, stop = tasks[k, 1], tasks[k, 2], tasks[k, 3]
        rows = max(1, min(BLOCK // C, stop - start))
        state, buffer = np.empty(rows * C, constants.dtype), np.empty(rows * C, constants.dtype)
        scales, shifts = _tiled(scale[s], rows), _tiled(shift[s], rows)
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


@compiled
def _times_surrogate(d, v, threshold, alpha, surrogate):
    """``d`` is multiplied by the derivative of the spike at membrane ``v``."""
    kind = v.dtype.type
    zero, half, one = kind(0), kind(0.5), kind(1)
    width, slope = one / alpha, alpha * kind(np.pi) * half
    for j in range(d.size):
        u = v[j] - threshold
        if surrogate == 0:
            d[j] *= zero if abs(u) > width else alpha - alpha * alpha * abs(u)
        elif surrogate == 1:
            d[j] *= one if abs(u) < half else zero
        else:
            d[j] *= alpha * half / (one + (slope * u) * (slope * u))


@compiled
def _carry(d, f, carry, out, tau, leaky):
    """Gradient of the currents of one step, and what goes on to the step before it."""
    zero = carry.dtype.type(0)
    for j in range(d.size):
        d_v = d[j] + (zero if f[j] else carry[j])
        current = d_v / tau if leaky else d_v * tau
        out[j] = current
        carry[j] = d_v - current if leaky else d_v


@compiled
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


@compiled
def _add_sums(x, d_out, mean, plain, centred):
    # Two loops: with fewer arrays in each the compiler sees that none overlap.
    for j in range(x.size):
        plain[j] += d_out[j]
    for j in range(x.size):
        centred[j] += d_out[j] * (x[j] - mean[j])


@compiled
def fire_backward(
    tasks, x, scale, shift, mean, constants, fired, d_spikes, at, share, d_membranes,
    out, d_shift, d_scale, leaky, surrogate,
):  # fmt: skip
    """Sums of each task in ``[n, T, C]``: ``d_shift``, and ``d_scale`` times sigma."""
    T, C = x.shape[1], x.shape[3]
    tau, threshold, alpha, rest = constants[0], constants[1], constants[2], constants[3]
    kind = constants.dtype
    zero = kind.type(0)
    for k in range(len(tasks)):
        task, s, start, stop = tasks[k, 0], tasks[k, 1], tasks[k, 2], tasks[k, 3]
        rows = max(1, min(BLOCK // C, stop - start))
        before = np.empty((T, rows * C), kind)  # membranes before firing
        state, buffer = np.empty(rows * C, kind), np.empty(rows * C, kind)
        d, means = np.empty_like(state), _tiled(mean[s], rows)
        scales, shifts = _tiled(scale[s], rows), _tiled(shift[s], rows)
        plain, centred = np.zeros_like(means), np.zeros_like(means)
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
                if means.size > 0:
                    currents = _widened(x[s, t, first:last].reshape(-1), buffer)
                    _add_sums(currents, o, means[t], plain[t], centred[t])
        for i in range(rows if means.size > 0 else 0):
            d_shift[task] += plain[:, i * C : (i + 1) * C]
            d_scale[task] += centred[:, i * C : (i + 1) * C]


@compiled
def pool(tasks, fired, out, side, like):
    """Means over side x side of ``[N, H, W, C]``, a sample per task; ``like`` has their type."""
    _, h, w, C = out.shape
    count, mean = np.empty(C, np.int32), np.empty_like(like)
    for k in range(len(tasks)):
        n = tasks[k, 2]
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


@compiled
def moments(tasks, x, mean, var):
    """Of one step per task, which stands for its first row; sums are added up in float64."""
    M, C = x.shape[2], x.shape[3]
    rows = max(1, min(BLOCK // C, M))
    buffer = np.empty(rows * C, mean.dtype)
    for k in range(len(tasks)):
        s, t = tasks[k, 1], tasks[k, 2]
        centre, found = np.zeros(rows * C), np.zeros((2, C))
        for power in range(2):
            sums = np.zeros(rows * C)
            for first in range(0, M, rows):
                values = _widened(x[s, t, first : min(first + rows, M)].reshape(-1), buffer)
                if power == 0:
                    for j in range(values.size):
                        sums[j] += values[j]
                else:
                    for j in range(values.size):
                        sums[j] += (values[j] - centre[j]) ** 2
            for i in range(rows):
                found[power] += sums[i * C : (i + 1) * C]
            found[power] /= M
            centre = _tiled(found[:1], rows)[0]
        mean[s, t], var[s, t] = found[0], found[1]


@compiled
def d_input(tasks, x, mean, d_out, a, b, c, out):
    T, C = x.shape[1], x.shape[3]
    for k in range(len(tasks)):
        s, start, stop = tasks[k, 1], tasks[k, 2], tasks[k, 3]
        rows = max(1, min(BLOCK // C, stop - start))
        buffer, values = np.empty(rows * C, d_out.dtype), np.empty(rows * C, d_out.dtype)
        one, two, three = _tiled(a[s], rows), _tiled(b[s], rows), _tiled(c[s], rows)
        means = _tiled(mean[s], rows)
        for t in range(T):
            for first in range(start, stop, rows):
                last = min(first + rows, stop)
                inputs = _widened(x[s, t, first:last].reshape(-1), buffer)
                d = d_out[s, t, first:last].reshape(-1)
                for j in range(d.size):
                    values[j] = (
                        d[j] * one[t, j] + (inputs[j] - means[t, j]) * two[t, j] + three[t, j]
                    )
                _stored(values, out[s, t, first:last].reshape(-1))
