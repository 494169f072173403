"""Ctrl-C and SIGTERM as a request: the step in hand is finished and saved first."""

import signal
from types import FrameType, TracebackType

from .. import distributed


class StopSignal:
    """Context in which SIGINT and SIGTERM set ``received`` instead of ending the process.

    A second SIGINT raises ``KeyboardInterrupt`` at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> "StopSignal":
        self._previous = {
            s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signum

    def wanted(self) -> int | None:
        """The signal that this process, or another one of the same run, has received; every process must ask."""
        return -distributed.smallest(-(self.received or 0)) or None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
