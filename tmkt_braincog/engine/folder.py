"""What an output folder holds beside checkpoints: its owner; a run's log, predictions, machine."""

import json
import os
import platform
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from .. import distributed
from ..errors import UserError
from ..files import replacing
from ..version import VERSION

LOCK, OWNER = ".lock", ".owner.json"
LEFT = (LOCK, OWNER, ".config.yaml.")  # by a crash: they do not make a folder a used one
ENVIRONMENT, PREDICTIONS = "environment.json", "predictions.csv"
PACKAGES = ("torch", "torchvision", "timm", "braincog", "tonic", "numpy", "scipy", "pandas")


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made, against other programs; a crash lets go of it.

    A UserError that names host and process of another program that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / LOCK), folder / OWNER
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = owner.read_text() if owner.exists() else "it has not said which"
        raise UserError(
            f"Another program is writing to the output folder {folder} ({who}): wait for it, stop "
            "it, or choose another --output."
        ) from error
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        for path in (owner, folder / LOCK):  # while it is held: later they may be another's
            path.unlink(missing_ok=True)
        lock.release()


def write_json(path: Path, record: Any, indent: int = 1) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=indent) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read_predictions(folder: Path) -> pd.DataFrame:
    """What a run says of the recordings that it did not train on: part (val or test), recording,
    label, and the class by each head; a UserError if it has said nothing."""
    try:
        return pd.read_csv(folder / PREDICTIONS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read {folder / PREDICTIONS}: {error}. Every evaluation writes it: a run of an "
            "earlier version has to be run again."
        ) from error


class EpochLog:
    """One row of named numbers per epoch, as ``log.csv`` and for TensorBoard.

    The CSV is rewritten whole, so that resuming leaves one header and no row twice.
    """

    def __init__(self, folder: Path, tensorboard: bool):
        self.folder, self.tensorboard = folder, tensorboard
        self.rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def add(self, row: dict[str, Any]) -> None:
        """Append one epoch's numbers; ``epoch`` is among them."""
        self.rows.append(row)
        write_csv(self.folder / "log.csv", pd.DataFrame(self.rows))
        if self.tensorboard and self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(self.folder / "tensorboard", purge_step=row["epoch"])
        for name, value in row.items() if self._writer else ():
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
        **{name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if gpu else processor(),
        "cuda": torch.version.cuda or "none" if gpu else "unused",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "processes": distributed.count(),
    }


def processor() -> str:
    """The CPU's name as Linux tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", info.read_text() if info.exists() else "", re.M)
    return found[1] if found else platform.processor() or "unknown CPU"


def write_environment(folder: Path, device: torch.device) -> None:
    """Keep :func:`environment` in ``folder``; a run that goes on elsewhere adds another entry."""
    path, now = folder / ENVIRONMENT, environment(device)
    before = json.loads(path.read_text()) if path.exists() else []
    if before[-1:] != [now]:
        write_json(path, [*before, now])
