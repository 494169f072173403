"""What stops a run: a signal, whose step is finished and saved first, or a gradient gone wrong."""

import math
import signal
from types import FrameType

import torch
from torch import Tensor

from .. import distributed


class StopSignal:
    """Context in which SIGINT and SIGTERM set ``received`` instead of ending the process.

    A second SIGINT raises ``KeyboardInterrupt`` at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "StopSignal":
        both = signal.SIGINT, signal.SIGTERM
        self._previous = {s: signal.signal(s, self._handle) for s in both}
        return self

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum

    def wanted(self) -> int | None:
        """The signal that this or another process of the run has received; every one must ask."""
        return distributed.largest(self.received or 0) or None

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)


class FiniteWatch:
    """Looks at the gradient's norm of every step: at once on a CPU, a step later on a GPU."""

    def __init__(self) -> None:
        self._waiting: tuple[int, Tensor, torch.cuda.Event] | None = None

    def add(self, step: int, norm: Tensor) -> int | None:
        """The number of a step whose norm is not finite: this one or, on a GPU, the one before."""
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
        """The same of the last step added, for which the host waits; to be called before saving."""
        if self._waiting is None:
            return None
        (step, host, arrived), self._waiting = self._waiting, None
        arrived.synchronize()
        return None if math.isfinite(host) else step
