"""The kernels on a GPU: the functions of ``kernels.py``, one by one, as Triton programs.

Run on an H200 (``results/performance/gpu.md``), tested without a GPU in Triton's interpreter."""

import torch
import triton
from torch import Tensor

from . import kernels
from . import triton_programs as programs
from .kernels import wide

BLOCK = 2048  # values per program and time-step, 8 per thread: more would cost registers
SUMMED = 32768  # values of one time-step that a program adds up
KEPT = 16  # steps whose membranes stay in registers; those of more are kept in memory
WARPS = 8


def fire(x, affine, neuron, wants_membranes):
    fired = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    membranes = _empty(x, wide(x.dtype)) if wants_membranes else None
    scale_shift = affine[2:] if affine is not None else (None, None)
    pointers = (x, *scale_shift, neuron.constants, fired, membranes)
    _launch(programs.fire, x, BLOCK, pointers, *neuron[:2])
    return fired, membranes


def fire_backward(x, affine, neuron, fired, d_spikes, d_membranes, pool=None):
    side, rows = pool or (1, None)
    scale_shift = affine[2:] if affine is not None else (None, None)
    x, d_current = x.contiguous(), _empty(x, wide(x.dtype))
    pointers = (x, *scale_shift, neuron.constants, fired, d_spikes, rows, d_membranes, d_current)
    constants = (*neuron[:2], d_spikes.shape[2], side, x.shape[1] <= KEPT)
    _launch(programs.fire_backward, x, BLOCK, pointers, *constants)
    return d_current, *(d_affine(x, affine, d_current) if affine is not None else (None, None))


def d_affine(x, affine, d_out):
    each = _each_step(x)
    plain, normal = d_out.new_empty(2, _grid(each, SUMMED)[0], *affine.mean.shape)
    pointers = (each, affine.mean, affine.invstd, d_out, plain, normal)
    _launch(programs.d_affine, each, SUMMED, pointers, last=(_blocks(each, BLOCK)[0],))
    return plain.sum(0), normal.sum(0)


def spikes(fired, side, dtype):
    if side == 1:
        return fired.to(dtype)
    N, C, H, W = fired.shape
    out = torch.empty(N, H // side, W // side, C, dtype=dtype, device=fired.device)
    pointers = (fired.movedim(1, -1), out)
    _launch(programs.pool, out.view(1, 1, -1, C), BLOCK, pointers, H, W, side)
    return out.movedim(-1, 1)


def moments(x):
    """16-bit values are read as they are, not copied to float32 first."""
    if x.dtype == wide(x.dtype):
        return kernels.moments(x)
    (S, T, M, C), each = x.shape, _each_step(x)
    parts = torch.empty(2, _grid(each, SUMMED)[0], S, T, C, dtype=wide(x.dtype), device=x.device)
    _launch(programs.moments, each, SUMMED, (each, *parts))
    here = _blocks(each, SUMMED)[0]
    starts = here * torch.arange(len(parts[0]), device=x.device)[:, None, None, None]
    counts = (M - starts).clamp(max=here)
    mean = (parts[0] * counts).sum(0) / M
    squares = parts[1] + counts * (parts[0] - mean).square()
    return mean, squares.sum(0) / M


def d_input(x, mean, d_out, a, b, c):
    d_out = d_out.contiguous()
    out = d_out if d_out.dtype == x.dtype else _empty(x, x.dtype)
    _launch(programs.d_input, x, BLOCK, (x, mean, d_out, a, b, c, out))
    return out


def _empty(x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(x.shape, dtype=dtype, device=x.device)


def _each_step(x: Tensor) -> Tensor:
    """``[S, T, M, C]`` -> ``[S T, 1, M, C]``: a program for every time-step by itself."""
    return x.contiguous().view(x.shape[0] * x.shape[1], 1, *x.shape[2:])


def _blocks(x: Tensor, block: int) -> tuple[int, int]:
    """Rows and channels of a program of so many values per time-step; powers of 2."""
    channels = min(triton.next_power_of_2(x.shape[3]), 64)
    return block // channels, channels


def _grid(x: Tensor, block: int) -> tuple[int, int, int]:
    """Programs along rows, channels and streams."""
    rows, channels = _blocks(x, block)
    return triton.cdiv(x.shape[2], rows), triton.cdiv(x.shape[3], channels), x.shape[0]


def _launch(kernel, x: Tensor, block: int, pointers: tuple, *constants, last=()) -> None:
    """The program on contiguous ``pointers``, in the grid of ``x``."""
    if not x.numel():
        return
    pointers = tuple(None if p is None else p.contiguous() for p in pointers)
    arguments = (*pointers, *x.shape[1:], *constants, *_blocks(x, block), *last)
    with torch.cuda.device_of(x):
        # Without fused multiply-adds a spike is decided as PyTorch decides it.
        kernel[_grid(x, block)](*arguments, num_warps=WARPS, enable_fp_fusion=False)
