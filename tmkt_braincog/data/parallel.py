"""Many files through one function, in order, in processes that may crash without the program.

The processes are forked: they import nothing, and take any function. Like the workers of PyTorch's
data loader they keep to one thread, for a fork has none of the threads of a pool that was started.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..errors import UserError

JOBS_VARIABLE = "TMKT_JOBS"
FILES_AT_ONCE = 8  # in one message to a process
AHEAD = 3  # messages per process
BAR_AFTER = 1.0  # seconds
MAX_PROBLEMS = 20
MAX_BYTES = 2 << 30  # of memory, for a file and its frames
MAX_SECONDS = 600  # of a processor, for a file

_decode: Callable[[Path], Any]  # of a worker process


class _Problem(str):
    """Why a file cannot be used."""


def decode_files(decode: Callable[[Path], Any], files: Sequence[Path], what: str) -> Iterator[Any]:
    """``decode(file)`` for every file, in the files' order, with a progress bar.

    Memory stays bounded: only a few results per process are made ahead. The number of processes is
    that of the cores, or ``$TMKT_JOBS``.

    Args:
        decode: what it returns must be picklable.
        files: paths.
        what: the progress bar's text.

    Raises:
        UserError: after the last file, or after 20 that cannot be used: each with its own message.
            A file whose process crashes or asks for more than 2 GiB cannot be used.
        Exception: whatever else ``decode`` raises.
    """
    problems: list[str] = []
    with closing(_results(decode, files)) as results:
        options = {"delay": BAR_AFTER, "dynamic_ncols": True, "unit": "file"}
        for result in tqdm(results, what, len(files), **options):
            if isinstance(result, _Problem):
                problems.append(result)
                if len(problems) == MAX_PROBLEMS:
                    break
            elif not problems:
                yield result
    if problems:
        raise UserError(listed(problems, len(files)))


def _results(decode: Callable[[Path], Any], files: Sequence[Path]) -> Iterator[Any]:
    messages = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]
    jobs = max(1, min(n_jobs(), len(messages)))
    pool = _pool(decode, jobs)
    waiting: deque[tuple[Sequence[Path], Future]] = deque()
    try:
        for some in messages:
            try:
                waiting.append((some, pool.submit(_run, some)))
            except BrokenProcessPool:
                pool.shutdown()
                pool = _pool(decode, jobs)
                waiting.append((some, pool.submit(_run, some)))
            if len(waiting) > AHEAD * jobs:
                yield from _settled(decode, *waiting.popleft())
        while waiting:
            yield from _settled(decode, *waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _settled(decode: Callable[[Path], Any], files: Sequence[Path], future: Future) -> list[Any]:
    """The results; where a process crashed, over one of these files or another one, each by itself."""
    try:
        return future.result()
    except BrokenProcessPool:
        return [_alone(decode, path) for path in files]


def _alone(decode: Callable[[Path], Any], path: Path) -> Any:
    with _pool(decode, 1) as pool:
        try:
            return pool.submit(_run, [path]).result()[0]
        except BrokenProcessPool:
            return _Problem(
                f"{path}: the process that read it crashed. The file is damaged, or reading it takes more "
                f"than {MAX_BYTES >> 30} GiB or {MAX_SECONDS} s. Get it again."
            )


def _pool(decode: Callable[[Path], Any], jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("fork"), _begin, (decode, os.getpid()))


def _begin(decode: Callable[[Path], Any], parent: int) -> None:
    """Of a worker process: it ends with its parent, leaves signals to it and takes no more than its share."""
    global _decode
    _decode = decode
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    torch.set_num_threads(1)
    with suppress(OSError):  # no /proc
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + MAX_BYTES)


def _limit(what: int, most: int) -> None:
    with suppress(OSError, ValueError):  # a lower one is set already
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _run(files: Sequence[Path]) -> list[Any]:
    return [_result(path) for path in files]


def _result(path: Path) -> Any:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + MAX_SECONDS)
    try:
        return _decode(path)
    except UserError as error:
        return _Problem(error)
    except MemoryError:
        return _Problem(f"{path}: reading it takes more than {MAX_BYTES >> 30} GiB. Get it again.")
    except Exception as error:
        error.add_note(f"The file was {path}.")
        raise


def n_jobs() -> int:
    """Processes to decode with.

    Raises:
        UserError: ``$TMKT_JOBS`` is no positive integer.
    """
    text = os.environ.get(JOBS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise UserError(
            f"{JOBS_VARIABLE}={text}: expected the number of decoding processes, at least 1."
        )
    return int(text)


def listed(problems: Sequence[str], n_files: int) -> str:
    """The problems as one message."""
    if len(problems) == 1:
        return problems[0]
    more = " (more were not looked at)" if len(problems) == MAX_PROBLEMS else ""
    lines = "\n".join(f"  {problem}" for problem in problems)
    return f"{len(problems)} of {n_files} files cannot be used{more}:\n{lines}"
