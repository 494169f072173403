"""Teachers and embeddings as files."""

from pathlib import Path

import torch

from ..errors import UserError
from ..files import replacing
from .kinds import Embeddings, Teacher

FORMATS = {"teacher-1": Teacher, "embeddings-1": Embeddings}


def teacher_path(text: str, seed: int) -> Path:
    """The file that ``text`` names for a run of this seed: ``{seed}`` stands for it."""
    return Path(text.replace("{seed}", str(seed)))


def save_teacher(path: Path, teacher: Teacher | Embeddings) -> None:
    """Write atomically."""
    name = next(name for name, kind in FORMATS.items() if isinstance(teacher, kind))
    try:
        with replacing(path) as temporary:
            torch.save({"format": name, **vars(teacher)}, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Cannot write the teacher {path}: {error}.") from error


def load_teacher(path: Path) -> Teacher | Embeddings:
    """Read one, with ``weights_only``; its tensors stay on the disk until they are used.

    Raises:
        UserError: missing, damaged, or neither.
    """
    if not path.is_file():
        raise UserError(
            f"There is no teacher checkpoint {path}. Make one: tmkt teacher train (for vl2spike: "
            f"embed) --teacher-checkpoint {path}, with the options of this run."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        kind = FORMATS[state.pop("format")]
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or not a teacher "
            "checkpoint, as `tmkt teacher` writes it."
        ) from error
    return kind(**state)
