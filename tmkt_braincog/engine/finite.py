"""Stops a run at the step at which the gradient is no longer finite, without waiting for a GPU in every step."""

import math

import torch
from torch import Tensor, nn


class FiniteWatch:
    """Looks at the gradient's norm of every step: at once on a CPU, while the next step runs on a GPU."""

    def __init__(self) -> None:
        self._waiting: tuple[int, Tensor, torch.cuda.Event] | None = None

    def add(self, step: int, norm: Tensor) -> int | None:
        """The number of a step whose norm is not finite: this one's or, on a GPU, the one's before."""
        if not norm.is_cuda:
            return None if math.isfinite(norm) else step
        bad = self.flush()
        host = torch.empty((), dtype=norm.dtype, pin_memory=True)
        host.copy_(norm, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._waiting = step, host, arrived
        return bad

    def flush(self) -> int | None:
        """The same of the last step added, for which the host waits; call it before anything is saved."""
        if self._waiting is None:
            return None
        step, host, arrived = self._waiting
        self._waiting = None
        arrived.synchronize()
        return None if math.isfinite(host) else step


def gradient_norm(modules: nn.Module) -> Tensor:
    """2-norm of all gradients."""
    return nn.utils.get_total_norm([p.grad for p in modules.parameters() if p.grad is not None])


def first_not_finite(modules: nn.Module) -> str:
    """Name of the first parameter with a gradient that is not finite; empty if there is none."""
    for name, parameter in modules.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return name
    return ""
