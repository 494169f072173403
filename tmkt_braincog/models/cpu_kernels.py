"""The kernels on a CPU: the formulas of ``kernels.py``, in loops that numba compiles and keeps.

A block of rows goes through all T steps while it is in the cache, so that every value is read once
(twice on the way back). Threads share the rows in parts that depend on the shape alone: results do
not depend on their number. What a loop takes per channel is repeated for each row of a block: inner
loops are then long whatever C is. A BatchNorm that is not there has no channels. bfloat16 is
widened before and rounded after."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from .kernels import SURROGATES, wide

PART = 1 << 16  # values of all steps that are worth a thread
PARTS = 8  # of a stream, at most
BLOCK = 2048  # values of one step that are worked on together


def fire(x, affine, neuron, wants_membranes):
    x, rows = x.to(wide(x.dtype)), _rows(x)
    fired = torch.empty(x.shape, dtype=torch.uint8)
    membranes = torch.empty(x.shape if wants_membranes else (0, 0, 0, 0), dtype=x.dtype)
    _, _, scale, shift = _tiled(x, affine or (), rows)
    arrays = (x, scale, shift, neuron.constants, fired, membranes)
    _run(_fire, x, _parts(x), rows, *arrays, neuron.leaky)
    return fired, membranes if wants_membranes else None


def fire_backward(x, affine, neuron, fired, d_spikes, d_membranes, pool=None):
    x, rows = x.to(wide(x.dtype)), _rows(x)
    out, tasks = torch.empty(x.shape, dtype=x.dtype), _parts(x)
    mean, _, scale, shift = _tiled(x, affine or (), rows)
    sums = x.new_zeros(2, len(tasks), x.shape[1], x.shape[3] if affine else 0)
    taps = x.new_empty(0, 0, 0, 0) if d_membranes is None else d_membranes
    side, at = pool or (1, torch.empty(0, dtype=torch.int64))
    arrays = (x, scale, shift, mean, neuron.constants, fired, d_spikes.to(x.dtype), taps, out)
    pooling, kind = (at, x.new_tensor([1 / side**2])), list(SURROGATES).index(neuron.surrogate)
    _run(_fire_backward, x, tasks, rows, *arrays, *sums, *pooling, neuron.leaky, kind)
    if affine is None:
        return out, None, None
    d_shift, d_centred = sums.unflatten(1, (len(x), -1)).sum(2)
    return out, d_shift, d_centred * affine.invstd


def spikes(fired, side, dtype):
    if side == 1:
        return fired.to(dtype)
    N, C, H, W = fired.shape
    out = torch.empty(N, H // side, W // side, C, dtype=wide(dtype))
    _run(_pool, fired, _tasks(1, N, N), fired.permute(0, 2, 3, 1), out, side)
    return out.to(dtype).permute(0, 3, 1, 2)


def moments(x):
    x, (S, T, _, C) = x.to(wide(x.dtype)), x.shape
    mean, var = torch.empty(2, S, T, C, dtype=x.dtype).unbind()
    _run(_moments, x, _tasks(S, T, T), _rows(x), x, mean, var)
    return mean, var


def d_input(x, mean, d_out, a, b, c):
    rows, out = _rows(x), d_out.contiguous()
    arrays = (x.to(out.dtype), *_tiled(x, (mean, a, b, c), rows), out)
    _run(_d_input, x, _parts(x), rows, *arrays)
    return out.to(x.dtype)


def _rows(x: Tensor) -> int:  # of a block
    return max(1, min(BLOCK // x.shape[3], x.shape[2]))


def _tiled(x: Tensor, values: tuple[Tensor, ...], rows: int) -> list[Tensor]:
    """Four of ``[S, T, C]`` as ``[S, T, rows * C]``."""
    return [v.repeat(1, 1, rows) for v in values or [x.new_empty(*x.shape[:2], 0)] * 4]


def _parts(x: Tensor) -> np.ndarray:
    """The rows of every stream in as many tasks as they are worth."""
    S, T, M, C = x.shape
    return _tasks(S, M, max(1, min(PARTS, M, T * M * C // PART)))


@lru_cache(maxsize=256)
def _tasks(streams: int, rows: int, parts: int) -> np.ndarray:
    """``[n, 4]``: number of the task, stream, first row and the row behind the last."""
    edges = [rows * part // parts for part in range(parts + 1)] if parts else []
    ends = [(s, *edges[p : p + 2]) for s in range(streams) for p in range(parts)]
    return np.array([(k, *end) for k, end in enumerate(ends)], np.int64).reshape(-1, 4)


def _run(loop: Callable, x: Tensor, tasks: np.ndarray, *arguments) -> None:
    """``loop(tasks, *arguments)``, the tasks shared by PyTorch's number of threads."""
    arrays = [a.detach().contiguous().numpy() if isinstance(a, Tensor) else a for a in arguments]
    threads = max(1, min(torch.get_num_threads(), len(tasks), x.numel() // PART))
    own, *shares = np.array_split(tasks, threads)
    others = [_threads(os.getpid(), len(shares)).submit(loop, part, *arrays) for part in shares]
    loop(own, *arrays)
    for other in others:
        other.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Of this process: a forked one has none of its parent's threads."""
    return ThreadPoolExecutor(count, "neuron")


def _compiled(function: Callable) -> Any:
    """As machine code; "numpy": without a test for a division by zero in every turn."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder that can be written, neither here nor in the user's cache
        return njit(nogil=True, error_model="numpy")(function)


@_compiled
def _integrate(x, scale, shift, tau, leaky, m):
    """``m`` becomes the membrane before firing."""
    affine = scale.size > 0
    for j in range(x.size):
        current = x[j] * scale[j] + shift[j] if affine else x[j]
        m[j] += (current - m[j]) / tau if leaky else current * tau


@_compiled
def _fire(tasks, rows, x, scale, shift, constants, fired, membranes, leaky):
    T, C = x.shape[1], x.shape[3]
    tau, threshold, rest = constants[0], constants[1], constants[3]
    zero = constants.dtype.type(0)
    state = np.empty(rows * C, constants.dtype)
    for k in range(len(tasks)):
        s, start, stop = tasks[k, 1], tasks[k, 2], tasks[k, 3]
        for first in range(start, stop, rows):
            block = slice(first, min(first + rows, stop))
            m = state[: (block.stop - first) * C]
            m[:] = rest
            for t in range(T):
                _integrate(x[s, t, block].reshape(-1), scale[s, t], shift[s, t], tau, leaky, m)
                f = fired[s, t, block].reshape(-1)
                for j in range(m.size):
                    over = m[j] > threshold
                    f[j] = over
                    m[j] = zero if over else m[j]
                if membranes.size > 0:
                    membranes[s, t, block].reshape(-1)[:] = m


@_compiled
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


@_compiled
def _carry(d, f, carry, out, tau, leaky):
    """Gradient of the currents of one step, and what goes on to the step before it."""
    zero = carry.dtype.type(0)
    for j in range(d.size):
        d_v = d[j] + (zero if f[j] else carry[j])
        current = d_v / tau if leaky else d_v * tau
        out[j] = current
        carry[j] = d_v - current if leaky else d_v


@_compiled
def _gather(pooled, at, share, d):
    """Gradients of values from those of their pools; -1 is in none."""
    C = pooled.shape[1]
    for i in range(at.size):
        if at[i] < 0:
            d[i * C : (i + 1) * C] = 0
        else:
            for c in range(C):
                d[i * C + c] = pooled[at[i], c] * share


@_compiled
def _add_sums(x, d_out, mean, plain, centred):
    # Two loops: with fewer arrays in each the compiler sees that none overlap.
    for j in range(x.size):
        plain[j] += d_out[j]
    for j in range(x.size):
        centred[j] += d_out[j] * (x[j] - mean[j])


@_compiled
def _fire_backward(
    tasks, rows, x, scale, shift, mean, constants, fired, d_spikes, d_membranes,
    out, d_shift, d_scale, at, share, leaky, surrogate,
):  # fmt: skip
    """Sums of each task in ``[n, T, C]``: ``d_shift``, and ``d_scale`` times sigma."""
    T, C = x.shape[1], x.shape[3]
    tau, threshold, alpha, rest = constants[0], constants[1], constants[2], constants[3]
    zero = constants.dtype.type(0)
    before = np.empty((T, rows * C), constants.dtype)  # membranes before firing
    state, buffer = np.empty(rows * C, constants.dtype), np.empty(rows * C, constants.dtype)
    for k in range(len(tasks)):
        task, s, start, stop = tasks[k, 0], tasks[k, 1], tasks[k, 2], tasks[k, 3]
        plain, centred = np.zeros_like(mean[s]), np.zeros_like(mean[s])
        for first in range(start, stop, rows):
            block = slice(first, min(first + rows, stop))
            n = (block.stop - first) * C
            carry, d = state[:n], buffer[:n]
            carry[:] = rest
            for t in range(T):
                v = before[t, :n]
                v[:] = carry
                _integrate(x[s, t, block].reshape(-1), scale[s, t], shift[s, t], tau, leaky, v)
                f = fired[s, t, block].reshape(-1)
                for j in range(n):
                    carry[j] = zero if f[j] else v[j]
            carry[:] = zero
            for t in range(T - 1, -1, -1):
                if d_membranes.size > 0:
                    carry += d_membranes[s, t, block].reshape(-1)
                if at.size > 0:
                    _gather(d_spikes[s, t], at[block], share[0], d)
                else:
                    d[:] = d_spikes[s, t, block].reshape(-1)
                _times_surrogate(d, before[t, :n], threshold, alpha, surrogate)
                o = out[s, t, block].reshape(-1)
                _carry(d, fired[s, t, block].reshape(-1), carry, o, tau, leaky)
                if plain.size > 0:
                    _add_sums(x[s, t, block].reshape(-1), o, mean[s, t], plain[t], centred[t])
        if plain.size > 0:
            d_shift[task] = plain.reshape(T, rows, C).sum(1)
            d_scale[task] = centred.reshape(T, rows, C).sum(1)


@_compiled
def _pool(tasks, fired, out, side):
    """Means over side x side of ``[N, H, W, C]``, a sample per task."""
    _, h, w, C = out.shape
    for n in tasks[:, 2]:
        for y in range(h):
            for x in range(w):
                mean = out[n, y, x]
                mean[:] = 0
                for i in range(side * side):
                    values = fired[n, y * side + i // side, x * side + i % side]
                    for c in range(C):
                        mean[c] += values[c]
                for c in range(C):
                    mean[c] /= side * side


@_compiled
def _moments(tasks, rows, x, mean, var):
    """Of one step per task, which stands for its first row; sums are added up in float64."""
    M, C = x.shape[2], x.shape[3]
    for k in range(len(tasks)):
        s, t = tasks[k, 1], tasks[k, 2]
        centre, found = np.zeros(rows * C), np.zeros((2, C))
        for squared in range(2):
            sums = np.zeros(rows * C)
            for first in range(0, M, rows):
                values = x[s, t, first : min(first + rows, M)].reshape(-1)
                for j in range(values.size):
                    d = values[j] - centre[j]
                    sums[j] += d * d if squared else d
            found[squared] = sums.reshape(rows, C).sum(0) / M
            centre.reshape(rows, C)[:] = found[0]
        mean[s, t], var[s, t] = found[0], found[1]


@_compiled
def _d_input(tasks, rows, x, mean, a, b, c, out):
    """In the place of the gradient in ``out``."""
    for k in range(len(tasks)):
        s, start, stop = tasks[k, 1], tasks[k, 2], tasks[k, 3]
        for t in range(x.shape[1]):
            for first in range(start, stop, rows):
                block = slice(first, min(first + rows, stop))
                inputs, d = x[s, t, block].reshape(-1), out[s, t, block].reshape(-1)
                one, two, three, means = a[s, t], b[s, t], c[s, t], mean[s, t]
                for j in range(d.size):
                    d[j] = d[j] * one[j] + (inputs[j] - means[j]) * two[j] + three[j]
