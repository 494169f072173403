"""What an output folder holds beside checkpoints: its owner, each run's log and environment."""

import json
import os
import platform
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from .. import distributed
from ..errors import UserError
from ..files import replacing
from ..version import VERSION

# Not a part of a run: what a crash leaves of them does not make a folder a used one.
LOCK, OWNER = ".lock", ".owner.json"
ENVIRONMENT = "environment.json"
PACKAGES = ("torch", "torchvision", "timm", "braincog", "tonic", "numpy", "scipy", "pandas")


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made, against other programs; a crash lets go of it.

    Raises:
        UserError: another program, named by host and process, holds it; or it cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"Another program is writing to the output folder {folder} ({_owner(folder)}): wait "
            "for it, stop it, or choose another --output."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot write to the output folder {folder}: {error}") from error
    try:
        with suppress(OSError):  # only for the message above
            who = {"host": socket.gethostname(), "process": os.getpid()}
            (folder / OWNER).write_text(json.dumps(who))
        yield
    finally:
        for name in (OWNER, LOCK):  # while it is held: afterwards they may be another program's
            with suppress(OSError):
                (folder / name).unlink()
        lock.release()


def _owner(folder: Path) -> str:
    try:
        seen = json.loads((folder / OWNER).read_text())
        return f"process {seen['process']} on {seen['host']}"
    except (OSError, ValueError, KeyError):
        return "it has not said which"


def write_json(path: Path, record: Any, indent: int = 1) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=indent) + "\n")


class EpochLog:
    """One row of named numbers per epoch, as ``log.csv`` and for TensorBoard.

    The CSV is rewritten whole, so that resuming leaves one header and no row twice.
    """

    def __init__(self, folder: Path, tensorboard: bool):
        self.path = folder / "log.csv"
        self.rows: list[dict[str, Any]] = []
        self._tensorboard = str(folder / "tensorboard") if tensorboard else None
        self._writer: Any = None

    def add(self, row: dict[str, Any]) -> None:
        """Append one epoch's numbers; ``epoch`` is among them."""
        self.rows.append(row)
        with replacing(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        if self._tensorboard is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(self._tensorboard, purge_step=row["epoch"])
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions of all that results depend on, and the machine; no names of users or folders."""
    gpu = device.type == "cuda"
    return {
        "tmkt_braincog": VERSION,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if gpu else _processor(),
        "cuda": torch.version.cuda or "none" if gpu else "unused",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "processes": distributed.count(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # used from a checkout
        return "not installed"


def _processor() -> str:
    """The CPU's name as Linux tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text() if info.exists() else "", re.M)
    return found[1] if found else platform.processor() or "unknown CPU"


def write_environment(folder: Path, device: torch.device) -> None:
    """Keep :func:`environment` in ``folder``; a run that goes on elsewhere adds another entry."""
    before, now = read_environment(folder), environment(device)
    if not before or before[-1] != now:
        write_json(folder / ENVIRONMENT, [*before, now])


def read_environment(folder: Path) -> list[dict[str, str | int]]:
    """The environments that a run has seen, in order; empty where none was kept."""
    path = folder / ENVIRONMENT
    return json.loads(path.read_text()) if path.exists() else []
