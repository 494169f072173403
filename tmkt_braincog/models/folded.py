"""Tensors of all streams and time-steps at once, and which kernels work on them."""

import logging
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from . import cpu_kernels, kernels
from .kernels import Neuron

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How the first dimension of a folded tensor ``[S T B, ...]`` is made up."""

    streams: int
    steps: int
    batch: int

    def parts(self, x: Tensor) -> list[list[Tensor]]:
        """Views ``[B, ...]`` by stream and step."""
        return [list(s) for s in x.view(self.streams, self.steps, self.batch, *x.shape[1:])]

    def rows(self, x: Tensor) -> Tensor:
        """``[S, T, M, C]`` of a folded tensor, for the kernels; a view if channels last."""
        return x.movedim(1, -1).contiguous().view(self.streams, self.steps, -1, x.shape[1])


class Folded(NamedTuple):
    """What one layer hands to the next."""

    x: Tensor  # ``[S T B, ...]``
    fired: Tensor | None = None  # the spikes that x consists of, one byte each, before pooling
    pool: int = 1  # side of the average pool between ``fired`` and x; 1 for none


def unfolded(rows: Tensor, shape: torch.Size) -> Tensor:
    """View of ``[S, T, M, C]`` in the shape of the folded tensor it came from."""
    return rows.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def kernels_for(x: Tensor) -> ModuleType:
    """The module with the fastest kernels for ``x``: all have the functions of :mod:`.kernels`."""
    if x.is_cuda:
        return _on_gpu()
    compiled = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64, torch.bfloat16)
    return cpu_kernels if compiled else kernels


@cache
def _on_gpu() -> ModuleType:
    """Triton's kernels, if a first small call of them works."""
    try:
        from . import triton_kernels  # not installed everywhere

        x = torch.zeros(1, 1, 1, 1, device="cuda")
        triton_kernels.fire(x, None, Neuron(True, "QGateGrad", torch.ones(4, device="cuda")), False)
        return triton_kernels
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind: no triton, no C compiler, a GPU it does not know
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning(
            "The Triton kernels cannot be used here (%s); neurons run as plain PyTorch, which is "
            "slower. The package triton and a C compiler (gcc) are what it usually lacks.", what
        )  # fmt: skip
        return kernels
