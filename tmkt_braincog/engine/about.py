"""What a checkpoint says of itself, so that it can be used without data and command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .folder import environment

if TYPE_CHECKING:
    from .train import Trainer


def about(trainer: Trainer) -> dict[str, Any]:
    """Classes, data, how recordings become frames, and versions: JSON values alone."""
    data, split = trainer.data, trainer.split
    parts = {"train": split.train, **split.held_out()}
    return {
        "classes": list(data.classes),
        "source": data.source,
        "target": data.target,
        "emulated": data.emulated,
        "remarks": list(data.remarks),
        "preparation": None if data.preparation is None else asdict(data.preparation),
        "audit": split.audit,
        "recordings": {part: len(of) for part, of in parts.items()},
        "environment": environment(trainer.device),
    }
