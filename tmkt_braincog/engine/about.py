"""What a checkpoint says of itself, so that it can be used without data and command line."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..data.preparation import Preparation
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
        "preparation": _plain(data.preparation),
        "audit": split.audit,
        "recordings": {part: len(of) for part, of in parts.items()},
        "environment": environment(trainer.device),
    }


def _plain(preparation: Preparation | None) -> dict[str, Any] | None:
    """In types that a checkpoint may hold."""
    return None if preparation is None else json.loads(json.dumps(asdict(preparation)))
