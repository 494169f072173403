"""What a run was made with: versions and machine, kept beside its result."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .. import distributed
from ..files import replacing
from ..version import VERSION

FILE = "environment.json"
PACKAGES = ("torch", "torchvision", "timm", "braincog", "tonic", "numpy", "scipy", "pandas")


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions of everything that results depend on, and the machine; no names of users or folders."""
    return {
        "tmkt_braincog": VERSION,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cuda": torch.version.cuda or "none" if device.type == "cuda" else "unused",
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "processes": distributed.count(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The CPU's name as Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown CPU"


def write_environment(folder: Path, device: torch.device) -> None:
    """Keep :func:`environment` in ``folder``; a run that goes on elsewhere adds another entry."""
    path, now = folder / FILE, environment(device)
    before = read_environment(folder)
    if not before or before[-1] != now:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps([*before, now], indent=1) + "\n")


def read_environment(folder: Path) -> list[dict[str, str | int]]:
    """The environments that a run has seen, in order; empty where none was kept."""
    path = folder / FILE
    return json.loads(path.read_text()) if path.exists() else []
