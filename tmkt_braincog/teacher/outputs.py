"""A teacher's outputs: computed once for what can be drawn, cached, then looked up."""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import distributed
from ..data import Split, TransferData
from ..data.cache import Writer, cached
from ..errors import UserError
from ..losses import standardise
from ..methods import Method, teachers_of
from .checkpoint import Teacher, load_teacher, teacher_path
from .model import penultimate
from .view import teacher_input

OUTPUTS_VERSION = 1  # raise it when a teacher sees something else of the same data
BATCH = 64


def load_teachers(
    options: Namespace, methods: Sequence[str], seed: int
) -> dict[str, tuple[Path, Teacher]]:
    """The teachers that these methods need in a run of this seed, by what they were trained on.

    Raises:
        UserError: none is given or of the right kind, two of one kind, a file that is missing or no teacher.
    """
    needed = teachers_of(methods)
    paths = [teacher_path(text, seed) for text in options.teacher_checkpoint or () if needed]
    found: dict[str, tuple[Path, Teacher]] = {}
    for path in paths:
        teacher = load_teacher(path)
        if teacher.on in found:
            raise UserError(
                f"--teacher-checkpoint: {found[teacher.on][0]} and {path} were both trained on {teacher.on}. Give one."
            )
        found[teacher.on] = path, teacher
    for on in sorted(needed - found.keys()):
        have = "; ".join(f"{path} was trained on {other}" for other, (path, _) in found.items())
        raise UserError(
            f"--method {' '.join(methods)} needs a teacher trained on {on}{f' ({have})' if have else ''}: give "
            f"--teacher-checkpoint FILE. `tmkt teacher train --on {on}` makes one, with the options of "
            "this run."
        )
    return {on: found[on] for on in needed}


def check_teachers(options: Namespace, data: TransferData, split: Split, seed: int) -> None:
    """Try the teachers of all methods of a comparison before anything is trained.

    Raises:
        UserError: see :func:`load_teachers` and :meth:`~tmkt_braincog.teacher.Teacher.check`.
    """
    for path, teacher in load_teachers(options, options.method, seed).values():
        teacher.check(path, options, data, split)


def set_teacher_widths(method: Method, options: Namespace) -> None:
    """Give the parts that learn from features the width of their teachers', so that all parameters exist.

    Raises:
        UserError: see :func:`load_teachers`.
    """
    parts = [part for part in method.parts if part.teacher_gives == "features"]
    teachers = load_teachers(options, options.method, options.seed[0]) if parts else {}
    for part in parts:
        part.set_teacher_width(teachers[part.teacher_on][1].width())


def give_teachers(
    method: Method, options: Namespace, data: TransferData, split: Split, device: torch.device
) -> dict[str, str]:
    """Put the outputs of their teachers on ``device`` into the parts of a method.

    Returns:
        SHA-256 of each teacher's file, by what it was trained on.

    Raises:
        UserError: see :func:`check_teachers`.
    """
    checksums = {}
    for on, (path, teacher) in load_teachers(options, options.method, options.seed[0]).items():
        teacher.check(path, options, data, split)
        checksums[on] = _sha256(path)
        which = split.static if on == "static" else split.train
        for part in (p for p in method.parts if p.teacher_on == on):
            given = (teacher, checksums[on], data, which, device, part.teacher_gives)
            part.teacher = distributed.main_first(lambda: teacher_outputs(*given)).to(device)  # noqa: B023
    return checksums


def teacher_outputs(
    teacher: Teacher,
    checksum: str,
    data: TransferData,
    which: np.ndarray,
    device: torch.device,
    gives: str = "logits",
) -> Tensor:
    """A row for each of the static images, or of the recordings, float32; NaN where not in ``which``.

    Args:
        checksum: of the teacher's file.
        which: int64 indices of those that can be drawn.
        gives: ``logits`` ``[n, N]``; or ``features`` ``[n, D]``, standardised over ``which``, so that the scale of what is
            learned from them does not depend on the teacher.
    """
    of = data.images if teacher.on == "static" else data.frames
    inputs = hashlib.sha256(which.tobytes())
    for chunk in _chunks(which):
        inputs.update(np.ascontiguousarray(of[torch.from_numpy(chunk).to(of.device)].cpu().numpy()))
    key = {
        "teacher": checksum,
        "inputs": inputs.hexdigest(),
        "gives": gives,
        "version": OUTPUTS_VERSION,
    }

    def build(out: Writer) -> None:
        network = teacher.network().to(device)
        forward = network if gives == "logits" else partial(penultimate, network)
        bar = dict(desc=f"teacher on {teacher.on}", disable=None, dynamic_ncols=True)
        chunks = tqdm(_chunks(which), **bar)
        out.add(
            **{gives: np.concatenate([_forward(forward, teacher, data, c, device) for c in chunks])}
        )

    rows = torch.from_numpy(cached(f"teacher-{gives}", key, build)[gives])
    table = torch.full((len(of), rows.shape[1]), float("nan"))
    table[torch.from_numpy(which)] = standardise(rows) if gives == "features" else rows
    return table


def _chunks(which: np.ndarray) -> list[np.ndarray]:
    return np.split(which, range(BATCH, len(which), BATCH))


@torch.no_grad()
def _forward(
    forward, teacher: Teacher, data: TransferData, chunk: np.ndarray, device
) -> np.ndarray:
    return (
        forward(teacher_input(data, teacher.on, chunk, teacher.size).to(device))
        .float()
        .cpu()
        .numpy()
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
