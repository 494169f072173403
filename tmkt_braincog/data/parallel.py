"""Many files through one function, on all cores, in order."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import UserError

# Below both, starting processes takes longer than it saves.
PARALLEL_FROM = 20 << 20  # bytes
PARALLEL_FILES = 2000
BAR_AFTER = 1.0  # seconds
MAX_PROBLEMS = 20
JOBS_VARIABLE = "TMKT_JOBS"


class _Decoded(Dataset):
    """Results by index; a file that cannot be used gives its message."""

    def __init__(self, decode: Callable[[Path], Any], files: Sequence[Path]):
        self.decode, self.files = decode, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.decode(self.files[index])
        except UserError as error:
            return str(error)


def decode_files(decode: Callable[[Path], Any], files: Sequence[Path], what: str) -> Iterator[Any]:
    """``decode(file)`` for every file, in the files' order, with a progress bar.

    Memory stays bounded: only a few results per process are made ahead. The number of processes is
    that of the cores, or ``$TMKT_JOBS``; small sets are decoded in this process.

    Args:
        decode: a function of a module; arrays in what it returns arrive as tensors.
        files: paths.
        what: the progress bar's text.

    Raises:
        UserError: after the last file, or after 20 that cannot be used: each with its own message.
    """
    n_bytes = sum(path.stat().st_size for path in files)
    jobs = n_jobs() if n_bytes >= PARALLEL_FROM or len(files) >= PARALLEL_FILES else 0
    loader = DataLoader(
        _Decoded(decode, files),
        batch_size=None,
        num_workers=min(jobs, len(files)) if jobs > 1 else 0,
        prefetch_factor=4 if jobs > 1 else None,
        generator=torch.Generator(),  # its own: the global one belongs to the training
    )
    problems: list[str] = []
    try:
        for result in tqdm(loader, desc=what, delay=BAR_AFTER, dynamic_ncols=True, unit="file"):
            if isinstance(result, str):
                problems.append(result)
                if len(problems) == MAX_PROBLEMS:
                    break
            elif not problems:
                yield result
    except RuntimeError as error:
        raise UserError(
            f"{what}: a decoding process was lost ({error}). If memory ran out, set {JOBS_VARIABLE}=1 and try again."
        ) from error
    if problems:
        raise UserError(_listed(problems, len(files)))


def n_jobs() -> int:
    """Processes to decode with.

    Raises:
        UserError: ``$TMKT_JOBS`` is no positive integer.
    """
    text = os.environ.get(JOBS_VARIABLE, "")
    if not text:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not text.isdigit() or int(text) < 1:
        raise UserError(
            f"{JOBS_VARIABLE}={text}: expected the number of decoding processes, at least 1."
        )
    return int(text)


def _listed(problems: list[str], n_files: int) -> str:
    if len(problems) == 1:
        return problems[0]
    more = " (more were not looked at)" if len(problems) == MAX_PROBLEMS else ""
    lines = "\n".join(f"  {problem}" for problem in problems)
    return f"{len(problems)} of {n_files} files cannot be used{more}:\n{lines}"
