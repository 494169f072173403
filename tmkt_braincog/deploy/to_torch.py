"""A program as a file of ``torch.export``, which torch alone runs."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .plain import Program

tau_of = float  # the file keeps it as it is


def write(program: Program, frames: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    exported = torch.export.export(
        copy.deepcopy(program).float(), (frames,), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    with path.open("wb") as file:
        torch.export.save(exported, file, extra_files={f"{k}.json": v for k, v in texts.items()})


def run(path: Path, frames: Tensor) -> Tensor:
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return module.to(frames.dtype)(frames)
