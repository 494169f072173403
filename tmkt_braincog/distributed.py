"""Data-parallel training: N processes, started by ``torchrun``, each with its share of every batch.

Without ``torchrun`` there is one process, and everything here does nothing. Losses are means over
the batch, so that their gradients, averaged by DDP, are those of the whole batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import UserError

T = TypeVar("T")

PATIENCE = timedelta(hours=4)  # the others wait while the first process builds a frame cache


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, if it did."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    # gloo for what is on the CPU, NCCL for what is on GPUs, where there are any.
    dist.init_process_group(None if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    """Number of processes N."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, 0 to N - 1; the first one writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def say(line: str) -> None:
    """Print in the process that speaks."""
    if rank() == 0:
        print(line)


def share(items: list[T]) -> list[T]:
    """This process's part of ``items``: every N-th."""
    return items[rank() :: count()]


def joined(value: Any) -> list[Any]:
    """The values of all processes, in their order; waits for them."""
    values = [value] * count()
    if count() > 1:
        dist.all_gather_object(values, value)
    return values


def on_main(function: Callable[[], T]) -> T:
    """Run ``function`` in the main process; its result, UserError or OSError is that of all."""
    value = problem = None
    if rank() == 0:
        try:
            value = function()
        except (UserError, OSError) as error:
            problem = error
    value, problem = joined((value, problem))[0]
    if problem is not None:
        raise problem
    return value


def main_first(function: Callable[[], T]) -> T:
    """Run ``function`` in the main process, then in the others, which find what it has cached."""
    values: list[T] = []
    on_main(lambda: values.append(function()))
    return values[0] if values else function()


def mean(x: Tensor) -> Tensor:
    """Mean of ``x`` over the processes, without gradient."""
    return x if count() == 1 else _Sum.apply(x.detach()) / count()


def largest(number: int) -> int:
    """The largest number of all processes; asked for in every step, so nothing is pickled."""
    if count() == 1:
        return number
    x = torch.tensor(number)
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return int(x)


def gather_batch(x: Tensor, dim: int) -> Tensor:
    """``x`` of all processes joined along ``dim``; its gradient is that of the summed losses."""
    if count() == 1:
        return x
    # Each process adds its own part to zeros, which is exact.
    parts = [x if r == rank() else torch.zeros_like(x) for r in range(count())]
    return _Sum.apply(torch.cat(parts, dim))


class _Sum(torch.autograd.Function):
    """Sum over the processes; that of torch.distributed.nn.functional is deprecated."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    backward = forward


class _Losses(nn.Module):
    """Model and method as the one module that DDP asks for."""

    def __init__(self, model: nn.Module, method: nn.Module):
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch, progress) -> dict[str, Tensor]:
        losses = self.method(self.model, batch, progress)
        # DDP follows the graph of everything that is returned; only the total is differentiated.
        return {k: v if k == "loss" else v.detach() for k, v in losses.items()}


def data_parallel(model: nn.Module, method: nn.Module) -> Callable[..., dict[str, Tensor]]:
    """``(batch, progress) -> losses`` of this process's share; backward averages all gradients.

    ``loss`` alone carries a gradient.
    """
    losses = _Losses(model, method)
    if count() == 1:
        return losses
    # A constructor argument for running statistics has another name in every other release.
    buffers = [name for name, _ in losses.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(losses, buffers)
    # Static: the same parts are used in every step. A head that is not used gets no gradient.
    return DistributedDataParallel(losses, static_graph=True)
