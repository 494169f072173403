"""The kernels on a CPU: the formulas of ``kernels.py``, one by one, in compiled loops.

Threads share the rows in parts that depend on the shape alone: results do not depend on their
    number.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from . import cpu_loops
from .kernels import SURROGATES, Affine, Neuron, Pool, wide

PART = 1 << 16  # values of all steps that are worth a thread
PARTS = 8  # of a stream, at most
_CODES = {name: code for code, name in enumerate(SURROGATES)}


def fits(x: Tensor) -> bool:
    """Whether these kernels can run on ``x``."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64, torch.bfloat16)


def fire(
    x: Tensor, affine: Affine | None, neuron: Neuron, wants_membranes: bool
) -> tuple[Tensor, Tensor | None]:
    fired = torch.empty(x.shape, dtype=torch.uint8)
    membranes = torch.empty(
        x.shape if wants_membranes else (0, 0, 0, 0), dtype=neuron.constants.dtype
    )
    _, _, scale, shift = affine or _no_affine(x)
    arrays = (x, scale, shift, neuron.constants, fired, membranes)
    _run(cpu_loops.fire, x, _parts(x), *arrays, neuron.leaky)
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
    out = torch.empty(x.shape, dtype=neuron.constants.dtype)
    mean, invstd, scale, shift = affine or _no_affine(x)
    tasks = _parts(x)
    sums = out.new_zeros(2, len(tasks), *mean.shape[1:])
    taps = out.new_empty(0, 0, 0, 0) if d_membranes is None else d_membranes
    at = torch.empty(0, dtype=torch.int64) if pool is None else pool.rows
    share = neuron.constants.numpy().dtype.type(1 if pool is None else 1 / pool.side**2)
    arrays = (x, scale, shift, mean, neuron.constants, fired, d_spikes, at, share, taps, out, *sums)
    _run(cpu_loops.fire_backward, x, tasks, *arrays, neuron.leaky, _CODES[neuron.surrogate])
    if affine is None:
        return out, None, None
    d_shift, d_centred = sums.view(2, len(x), -1, *mean.shape[1:]).sum(2)
    return out, d_shift, d_centred * invstd


def spikes(fired: Tensor, side: int, dtype: torch.dtype) -> Tensor:
    if side == 1:
        return fired.to(dtype)
    N, C, H, W = fired.shape
    out = torch.empty(N, H // side, W // side, C, dtype=dtype)
    like = torch.empty(C, dtype=wide(dtype))
    _run(cpu_loops.pool, fired, _tasks(1, N, N), fired.permute(0, 2, 3, 1), out, side, like)
    return out.permute(0, 3, 1, 2)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    S, T, _, C = x.shape
    mean, var = torch.empty(2, S, T, C, dtype=wide(x.dtype)).unbind()
    _run(cpu_loops.moments, x, _tasks(S, T, T), x, mean, var)
    return mean, var


def d_input(x: Tensor, mean: Tensor, d_out: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    d_out = d_out.contiguous()  # or what is written would go to a copy
    out = d_out if d_out.dtype == x.dtype else torch.empty(x.shape, dtype=x.dtype)
    _run(cpu_loops.d_input, x, _parts(x), x, mean, d_out, a, b, c, out)
    return out


def _no_affine(x: Tensor) -> Affine:
    """Without channels, which is how the loops know it."""
    return Affine(*[torch.empty(*x.shape[:2], 0, dtype=wide(x.dtype))] * 4)


def _parts(x: Tensor) -> np.ndarray:
    """The rows of every stream in as many tasks as they are worth."""
    S, T, M, C = x.shape
    return _tasks(S, M, max(1, min(PARTS, M, T * M * C // PART)))


@lru_cache(maxsize=256)
def _tasks(streams: int, rows: int, parts: int) -> np.ndarray:
    edges = [rows * part // parts for part in range(parts + 1)] if parts else []
    ends = [(s, *edges[p : p + 2]) for s in range(streams) for p in range(parts)]
    return np.array([(k, *end) for k, end in enumerate(ends)], np.int64).reshape(-1, 4)


def _run(loop: Callable, x: Tensor, tasks: np.ndarray, *arguments) -> None:
    """``loop(tasks, *arguments)``, the tasks shared by PyTorch's number of threads."""
    arrays = [_array(a) if isinstance(a, Tensor) else a for a in arguments]
    threads = max(1, min(torch.get_num_threads(), len(tasks), x.numel() // PART))
    own, *shares = np.array_split(tasks, threads)
    others = []
    if shares:
        pool = _threads(os.getpid(), len(shares))
        others = [pool.submit(loop, share, *arrays) for share in shares]
    loop(own, *arrays)
    for other in others:
        other.result()


def _array(x: Tensor) -> np.ndarray:
    """The memory of ``x``; bfloat16, which NumPy lacks, as its bits."""
    x = x.detach().contiguous()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Of this process: a forked one has none of its parent's threads."""
    return ThreadPoolExecutor(count, "neuron")
