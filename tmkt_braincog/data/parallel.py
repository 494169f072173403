"""Many files through one function, in order, in processes that may crash without the program.

They are forked: they import nothing, and take any function. As the workers of PyTorch's data loader
they keep to one thread, for a fork has none of those of a pool that the program has started.
"""

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
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
AHEAD = 2  # messages per process
MAX_PROBLEMS = 20
MAX_BYTES = 2 << 30  # of memory, for a file and its frames
MAX_SECONDS = 600  # of a processor, for a file

Decode = Callable[[Any], Any]
_decode: Decode  # of a worker process


class _Problem(str):
    """Why a file cannot be used."""


def decode_files(decode: Decode, files: Sequence[Any], what: str) -> Iterator[Any]:
    """``decode(file)``, picklable, for every file, in the files' order; ``what`` is the bar's text.

    Only a few results are made ahead, in as many processes as there are cores, or ``$TMKT_JOBS``.

    Raises:
        UserError: after the last file, or after 20 that cannot be used, each with its own message;
            one is that the process crashed over the file, or asked for more than 2 GiB.
        Exception: whatever else ``decode`` raises.
    """
    problems: list[str] = []
    with closing(_results(decode, files)) as results:
        for result in tqdm(results, what, len(files), delay=1, dynamic_ncols=True, unit="file"):
            if isinstance(result, _Problem):
                problems.append(result)
                if len(problems) == MAX_PROBLEMS:
                    break
            elif not problems:
                yield result
    if problems:
        raise listed(problems, len(files))


def _results(decode: Decode, files: Sequence[Path]) -> Generator[Any, None, None]:
    step = FILES_AT_ONCE
    messages = deque(files[i : i + step] for i in range(0, len(files), step))
    jobs = max(1, min(n_jobs(), len(messages)))
    pool = _pool(decode, jobs)
    waiting: deque[tuple[Sequence[Path], Future]] = deque()
    try:
        while messages or waiting:
            while messages and len(waiting) <= AHEAD * jobs:
                try:
                    waiting.append((messages[0], pool.submit(_run, messages[0])))
                    messages.popleft()
                except BrokenProcessPool:
                    _end(pool)
                    pool = _pool(decode, jobs)
            yield from _settled(decode, *waiting.popleft())
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """At once: what its processes still have to do is not waited for."""
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(cancel_futures=True)


def _settled(decode: Decode, files: Sequence[Path], future: Future) -> list[Any]:
    """The results. Where a process crashed, over these files or others, one file at a time."""
    try:
        return future.result()
    except BrokenProcessPool:
        return [_alone(decode, path) for path in files]


def _alone(decode: Decode, path: Path) -> Any:
    pool = _pool(decode, 1)
    try:
        with suppress(BrokenProcessPool):
            return pool.submit(_result, path).result()
    finally:
        _end(pool)
    return _Problem(
        f"{path}: the process that read it crashed. It is damaged, or takes more than "
        f"{MAX_BYTES >> 30} GiB or {MAX_SECONDS} s. Get it again."
    )


def _pool(decode: Decode, jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, get_context("fork"), _begin, (decode, os.getpid()))


def _begin(decode: Decode, parent: int) -> None:
    """Of a worker process: it ends with its parent, leaves signals to it, takes its share only."""
    global _decode
    _decode = decode
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + MAX_BYTES)
    if os.getppid() != parent:
        os._exit(1)
    torch.set_num_threads(1)


def _limit(what: int, most: int) -> None:
    with suppress(OSError, ValueError):  # a lower one is set already
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _run(files: Sequence[Path]) -> list[Any]:
    return list(map(_result, files))


def _result(path: Path) -> Any:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + MAX_SECONDS)
    try:
        return _decode(path)
    except UserError as error:
        return _Problem(error)
    except MemoryError:
        return _Problem(f"{path}: reading it takes more than {MAX_BYTES >> 30} GiB. Get it again.")
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it would end the process on its way to the program
            raise RuntimeError(f"{path}: {type(error).__name__}: {error}") from None
        error.add_note(f"The file was {path}.")
        raise


def n_jobs() -> int:
    """Processes to decode with: a :class:`UserError` if ``$TMKT_JOBS`` is no positive integer."""
    text = os.environ.get(JOBS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{JOBS_VARIABLE}={text}: expected the number of decoding processes, >= 1.")
    return int(text)


def listed(problems: Sequence[str], n_files: int) -> UserError:
    """One error of all problems."""
    if len(problems) == 1:
        return UserError(problems[0])
    more = " (more were not looked at)" if len(problems) == MAX_PROBLEMS else ""
    lines = "".join(f"\n  {problem}" for problem in problems)
    return UserError(f"{len(problems)} of {n_files} files cannot be used{more}:{lines}")
