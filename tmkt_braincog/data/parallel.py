"""Many files through one function, in order, in processes that may crash without the program.

They are forked: they import nothing, and take any function. As the workers of PyTorch's data loader
they keep to one thread, for a fork has none of those of a pool that the program has started.
"""

import ctypes
import faulthandler
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
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


class Problem(str):
    """Why a file cannot be used."""


def decode_files(
    decode: Decode, files: Sequence[Any], what: str, delay: float = 1
) -> Iterator[Any]:
    """``decode(file)``, picklable, for every file, in the files' order.

    ``what`` is the text of the bar, which shows after ``delay`` seconds.

    Only a few results are made ahead, in as many processes as there are cores, or ``$TMKT_JOBS``.

    Raises:
        UserError: after the last file, or after 20 that cannot be used, each with its own message;
            one is that the process crashed over the file, or asked for more than 2 GiB.
        RuntimeError: ``decode`` raised something else: what, and the file.
    """
    problems: list[str] = []
    with closing(decode_each(decode, files, what, delay)) as results:
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
                if len(problems) == MAX_PROBLEMS:
                    break
            elif not problems:
                yield result
    if problems:
        raise listed(problems, len(files))


def decode_each(
    decode: Decode, files: Sequence[Any], what: str, delay: float = 1
) -> Generator[Any, None, None]:
    """As :func:`decode_files`, but of a file that cannot be used its :class:`Problem` is given."""
    unit = "file" if files and isinstance(files[0], Path) else "batch"
    with closing(_results(decode, files)) as results:
        yield from tqdm(results, what, len(files), delay=delay, dynamic_ncols=True, unit=unit)


def _results(decode: Decode, files: Sequence[Path]) -> Generator[Any, None, None]:
    """Where a process crashed, all that was under way is read again, every file on its own."""
    todo = deque(files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE))
    jobs = max(1, min(n_jobs(), len(todo)))
    while todo:
        waiting = deque[Future]()  # for the first batches to do
        with suppress(BrokenProcessPool), _pool(decode, jobs) as pool:
            while todo:
                while len(waiting) < min(len(todo), 1 + AHEAD * jobs):
                    waiting.append(pool.submit(_read, todo[len(waiting)]))
                yield from waiting[0].result()
                waiting.popleft()
                todo.popleft()
            return
        for _ in waiting or [None]:
            for path in todo.popleft():
                yield _alone(decode, path)


def _alone(decode: Decode, path: Path) -> Any:
    with suppress(BrokenProcessPool), _pool(decode, 1) as pool:
        return pool.submit(_read_one, path).result()
    return Problem(
        f"{path}: the process that read it crashed. It is damaged, or takes more than "
        f"{MAX_BYTES >> 30} GiB or {MAX_SECONDS} s. Get it again, or cut it into several."
    )


@contextmanager
def _pool(decode: Decode, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """It ends at once: what its processes still have to do is not waited for."""
    pool = ProcessPoolExecutor(jobs, get_context("fork"), _begin, (decode, os.getpid()))
    try:
        yield pool
    finally:
        # A killed process may leave half a message, for whose end the pool would wait for ever.
        if (results := getattr(pool, "_result_queue", None)) is not None:
            results._writer.close()
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(cancel_futures=True)


def _begin(decode: Decode, parent: int) -> None:
    """Of a worker process: it ends with its parent, leaves signals to it, takes its share only."""
    global _decode
    _decode = decode
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + MAX_BYTES)
    if os.getppid() != parent:
        os._exit(1)
    torch.set_num_threads(1)


def _limit(what: int, most: int) -> None:
    with suppress(OSError, ValueError):  # a lower one is set already
        resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _read(files: Sequence[Path]) -> list[Any]:
    return list(map(_read_one, files))


def _read_one(path: Path) -> Any:
    _limit(resource.RLIMIT_CPU, int(time.process_time()) + MAX_SECONDS)
    try:
        return _decode(path)
    except UserError as error:
        return Problem(error)
    except MemoryError:
        most = f"{MAX_BYTES >> 30} GiB. Get it again, or cut it into several."
        return Problem(f"{path}: reading it takes more than {most}")
    except Exception as error:  # as it is it might not survive the way to the program
        raise RuntimeError(f"{path}: {type(error).__name__}: {error}") from error


def n_jobs() -> int:
    """Processes to decode with: a :class:`UserError` if ``$TMKT_JOBS`` is no positive integer."""
    text = os.environ.get(JOBS_VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0))
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
