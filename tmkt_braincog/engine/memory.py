"""Memory of a run: its peak, and blocks that the process keeps for its next step."""

import contextlib
import ctypes
import resource
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep large blocks that it frees, for its next step; True where that worked.

    glibc gives every block above 32 MiB back to the kernel and takes it again, page by page, in
    every step, which on a CPU costs up to a third of the time. Other C libraries need no switch.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def reset_peak(device: torch.device) -> None:
    """Start a new measurement: allocated memory on a GPU, resident memory of the process on a CPU.

    Where the kernel lets no process reset its mark, the CPU's figure is since the process began.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: torch.device) -> float:
    """MiB since :func:`reset_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
