"""A teacher's outputs: computed once for what can be drawn, cached, then looked up."""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..data import Split, TransferData
from ..data.cache import Writer, cached
from ..errors import UserError
from ..losses import standardise
from ..methods import Method, teachers_of
from .kinds import KINDS, Embeddings, Teacher, load_teacher, teacher_path, trainable
from .network import BATCH, in_batches, penultimate, views

OUTPUTS_VERSION = 2  # raise it when a teacher sees something else of the same data


def load_teachers(
    options: Namespace, methods: Sequence[str], seed: int
) -> dict[str, tuple[Path, Teacher | Embeddings]]:
    """The teachers that these methods need in a run of this seed, by what they were trained on.

    Raises:
        UserError: one is lacking, two are of one kind, a file is missing or no teacher.
    """
    needed = teachers_of(methods)
    found: dict[str, tuple[Path, Teacher | Embeddings]] = {}
    for text in (options.teacher_checkpoint or ()) if needed else ():
        teacher = load_teacher(path := teacher_path(text, seed, options.shots))
        if (on := teacher.on) in found:
            both = f"{found[on][0]} and {path} were both trained on {KINDS[on].what}."
            raise UserError(f"--teacher-checkpoint: {both}")
        found[on] = path, teacher
    for on in sorted(needed - found.keys()):
        made = [f"{path} was trained on {KINDS[t.on].what}" for path, t in found.values()]
        have = f" ({'; '.join(made)})" if made else ""
        raise UserError(
            f"--method {' '.join(methods)} needs a teacher trained on {KINDS[on].what}{have}: give "
            f"--teacher-checkpoint FILE. `tmkt teacher {KINDS[on].command}` makes one, with the "
            "options of this run."
        )
    return {on: found[on] for on in needed}


def check_teachers(options: Namespace, data: TransferData, split: Split, seed: int) -> None:
    """Refuse what :func:`load_teachers` and :meth:`Teacher.check` do, before anything starts."""
    for path, teacher in load_teachers(options, options.method, seed).values():
        teacher.check(path, options, data, split)


def meet_teachers(method: Method, options: Namespace) -> None:
    """Show their teachers to the parts that learn more than logits: all parameters then exist."""
    for part in _pupils(method):
        if part.teacher_gives != "logits":
            teachers = load_teachers(options, options.method, options.seed[0])
            part.meet(teachers[part.teacher_on][1])


def _pupils(method: Method) -> list[Any]:
    return [part for part in method.parts if part.teacher_on]


def give_teachers(
    method: Method, options: Namespace, data: TransferData, split: Split, device: torch.device
) -> dict[str, str]:
    """Put the outputs of their teachers, which are checked, on ``device`` into a method's parts.

    Returns:
        SHA-256 of each teacher's file, by what it was trained on.
    """
    checksums = {}
    for on, (path, teacher) in load_teachers(options, options.method, options.seed[0]).items():
        teacher.check(path, options, data, split)
        with open(path, "rb") as file:
            checksums[on] = hashlib.file_digest(file, "sha256").hexdigest()
        for part in (part for part in _pupils(method) if part.teacher_on == on):
            given = (teacher, checksums[on], data, trainable(split, on), device, part.teacher_gives)
            part.teacher = distributed.main_first(partial(teacher_outputs, *given)).to(device)
    return checksums


@torch.no_grad()
def teacher_outputs(
    teacher: Teacher | Embeddings,
    checksum: str,
    data: TransferData,
    which: np.ndarray,
    device: torch.device,
    gives: str = "logits",
) -> Tensor:
    """A row for each of the static images, or of the recordings, float32; NaN outside ``which``.

    Args:
        checksum: of the teacher's file.
        which: int64 indices of those that can be drawn.
        gives: ``logits`` ``[n, N]``; or ``features`` ``[n, D]``, standardised over ``which``, so
            that the scale of what is learned from them does not depend on the teacher. Embeddings
            are given as they are, ``[n, E]``.
    """
    if isinstance(teacher, Embeddings):
        return _rows_of(which, teacher.images[which], len(teacher.images))
    of = views(data, teacher.on, teacher.size)
    inputs = hashlib.sha256(which.tobytes())
    for chunk in np.split(which, range(BATCH, len(which), BATCH)):
        inputs.update(of[torch.from_numpy(chunk).to(of.device)].cpu().numpy().tobytes())
    key = dict(teacher=checksum, inputs=inputs.hexdigest(), gives=gives, version=OUTPUTS_VERSION)

    def build(out: Writer) -> None:
        network = teacher.network().to(device)
        forward = network if gives == "logits" else partial(penultimate, network)
        bar = f"teacher on {teacher.on}"
        out.add(**{gives: in_batches(forward, of, which, teacher.size, device, bar).numpy()})

    rows = torch.from_numpy(cached(f"teacher-{gives}", key, build)[gives])
    return _rows_of(which, standardise(rows) if gives == "features" else rows, len(of))


def _rows_of(which: np.ndarray, rows: Tensor, n: int) -> Tensor:
    """``[n, ...]`` with these rows, NaN elsewhere."""
    return torch.full((n, rows.shape[1]), torch.nan).index_copy(0, torch.from_numpy(which), rows)
