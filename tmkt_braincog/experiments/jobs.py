"""Independent runs of ``main_transfer.py``: some at once on this machine, or as one SLURM job array."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ..comparison import read_csv
from ..data import make_split
from ..data.parallel import JOBS_VARIABLE
from ..data.sampling import epoch_batches
from ..engine.build import build_model, build_optimizer, build_scheduler
from ..engine.compare import DATA_OPTIONS, check_output, load_data
from ..engine.stops import StopSignal
from ..errors import Interrupted, UserError
from ..methods.names import idle
from ..options import parse, resolve, without
from ..teacher import load_teachers

PROGRAM = (sys.executable, "-u", "-m", "tmkt_braincog", "train")
CLUSTER = "slurm"  # submitit's name of the executor
PAUSE, SLURM_PAUSE = 0.2, 5.0  # seconds between looks at the running jobs
# A job's time to save; by submitit's default SLURM warns 90 s before it kills.
STOP_SECONDS = 80
REASON_LINES = 6

# What a model is built from.
MODEL = ("model", "node_type", "act_fun", "threshold", "tau", "step", "event_size", "width_divisor")


class JobsFailed(UserError):
    """Some jobs failed; the others are finished."""


@dataclass(frozen=True)
class Job:
    """One run of ``main_transfer.py`` with an output folder of its own; made by :meth:`from_words`.

    Attributes:
        name: what messages call it.
        words: the whole command line.
        options: what that means.
    """

    name: str
    words: tuple[str, ...]
    options: Namespace

    @classmethod
    def from_words(cls, name: str, folder: Path, words: Sequence[str]) -> "Job":
        """The job of these words, which goes on where it was stopped.

        Raises:
            UserError: words that ``main_transfer.py`` would refuse.
        """
        words = (*words, "--output", str(folder), "--resume")
        options, _ = resolve(parse(list(words)))
        # Fixed words are for all jobs; what this one's methods do not take is not for it.
        return cls(name, tuple(without(words, idle(options))), options)

    @property
    def folder(self) -> Path:
        return Path(self.options.output)

    @property
    def log(self) -> Path:
        """Everything that the job says; beside its folder, which the job itself wants to find empty."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def command(self) -> list[str]:
        return [*PROGRAM, *self.words]

    def finished(self) -> bool:
        """Whether the job's table holds all its methods and seeds."""
        table = self.folder / "comparison.csv"
        if not table.exists():
            return False
        rows = read_csv(table)
        there = set(zip(rows["method"], rows["seed"], strict=True))
        return set(product(self.options.method, self.options.seed)) <= there


def check(jobs: Sequence[Job]) -> None:
    """Try what can be tried without data: output folders, teachers, models, optimisers, schedules. Writes nothing.

    Raises:
        UserError: what a job would refuse, with its name.
    """
    built, folders = set(), set()
    for job in jobs:
        if job.folder in folders:
            raise UserError(f"{job.name} is there twice: name every value once.")
        folders.add(job.folder)
        options = copy(job.options)
        options.executor = "step"  # the other one is tried against it, which takes time
        with _named(job):
            check_output(job.options)
            for seed in options.seed:
                load_teachers(options, options.method, seed)
            build_scheduler(options, build_optimizer(options, nn.Linear(1, 1)))
            model = tuple(getattr(options, name) for name in MODEL)
            if model not in built:
                build_model(options, num_classes=10)
            built.add(model)


def run(
    jobs: Sequence[Job], workers: int = 1, slurm: dict | None = None, folder: Path | None = None
) -> None:
    """Run those that are not finished, with a progress bar, and wait for them.

    Args:
        jobs: with different folders, already checked by :func:`check`.
        workers: processes at once on this machine, which share its cores; each has a GPU of its own as long as
            there are enough.
        slurm: parameters of a SLURM job array instead, as submitit's ``update_parameters`` takes them, without prefix.
        folder: with ``slurm``, where submitit keeps its files; the nodes must see it.

    Raises:
        UserError: data or SLURM parameters that cannot be used; no job has started.
        JobsFailed: after all jobs have ended.
        Interrupted: Ctrl-C or SIGTERM, after the running jobs have saved.
    """
    missing = [job for job in jobs if not job.finished()]
    if not missing:
        return
    if slurm is None:
        check_data(missing)
        slots, start = _here(missing, workers)
    else:
        slots, start = _on_slurm(missing, slurm, folder)
    failed = _work_off(missing, slots, start, len(jobs), PAUSE if slurm is None else SLURM_PAUSE)
    if failed:
        raise JobsFailed(_failure_text(failed, len(jobs)))


def check_data(jobs: Sequence[Job]) -> None:
    """Load every data set once, so that workers do not download and decode the same files at the same time.

    Raises:
        UserError: data that cannot be used, or a split that they do not allow.
    """
    loaded = {}
    for job in jobs:
        o = job.options
        key = tuple(getattr(o, name) for name in DATA_OPTIONS)
        with _named(job):
            if key not in loaded:
                loaded[key] = load_data(o)
            for seed in o.seed:
                labels = loaded[key].labels[make_split(loaded[key], o, seed).train].numpy()
                epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, seed, 0)


@contextlib.contextmanager
def _named(job: Job):
    try:
        yield
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from error


def _work_off(
    jobs: Sequence[Job], slots: list, start: Callable, total: int, pause: float
) -> list[tuple[Job, int]]:
    """Start a job in every slot that is free, until none is left; (job, exit status) of those that failed.

    ``start(job, slot)`` gives what has ``poll()`` and ``terminate()`` as ``subprocess.Popen`` has.
    """
    waiting, running, failed = deque(jobs), [], []
    bar = tqdm(total=total, initial=total - len(jobs), desc="jobs", dynamic_ncols=True, smoothing=0)
    with StopSignal() as stop, bar:
        try:
            while (waiting or running) and stop.received is None:
                while waiting and slots:
                    job, slot = waiting.popleft(), slots.pop(0)
                    running.append((job, slot, start(job, slot)))
                time.sleep(pause)
                for job, slot, status in _ended(running):
                    slots.append(slot)
                    bar.update()
                    # Ctrl-C in a terminal reaches the jobs as well, which is no fault of theirs.
                    if status and stop.received is None:
                        failed.append((job, status))
                        bar.set_postfix(failed=len(failed))
                if sys.stderr.isatty():
                    bar.refresh()  # the clock goes on while the jobs are long
        finally:
            for _, _, process in running:
                process.terminate()
        if stop.received is not None:
            bar.set_description("waiting for the jobs to save")
            while running:
                time.sleep(pause)
                _ended(running)
            finished = total - sum(not job.finished() for job in jobs)
            raise Interrupted(
                f"Stopped on a signal: {finished} of {total} jobs are finished, the running ones were told to save. "
                "Continue with the same command.",
                stop.received,
            )
    return failed


def _ended(running: list[tuple]) -> list[tuple[Job, Any, int]]:
    """Take out what has ended: (job, slot, exit status)."""
    seen = [(*entry, entry[2].poll()) for entry in running]
    running[:] = [entry[:3] for entry in seen if entry[3] is None]
    return [(job, slot, status) for job, slot, _, status in seen if status is not None]


def _here(jobs: Sequence[Job], workers: int) -> tuple[list[dict[str, str]], Callable]:
    """One slot per worker: the environment of its jobs."""
    workers = min(workers, len(jobs))
    threads = str(_threads(workers))
    own = jobs[0].options.device in ("auto", "cuda")  # otherwise the user has named a GPU, or none
    gpus = visible_gpus() if own else []
    slots = []
    for i in range(workers):
        slots.append({JOBS_VARIABLE: threads, **os.environ, "OMP_NUM_THREADS": threads})
        if gpus:
            slots[i]["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
    return slots, lambda job, environment: _start(job.command, job.log, env=environment)


def _threads(workers: int) -> int:
    """A worker's share of the cores, or fewer where ``OMP_NUM_THREADS`` says so."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores // workers, int(limit) if limit.isdigit() else cores))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    n = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:n] if named else [str(i) for i in range(n)]


def _start(command: Sequence[str], log: Path, **how) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"\n$ {shlex.join(command)}\n")
        file.flush()
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **how
        )


def _failure_text(failed: list[tuple[Job, int]], total: int) -> str:
    lines = [f"{len(failed)} of {total} jobs failed:"]
    for job, status in failed:
        said = "\n    ".join(_last_words(job.log) or ["it said nothing"])
        lines.append(f"  {job.name} (status {status}; full log: {job.log})\n    {said}")
    lines.append(
        "The others are finished. Mend the cause and give the same command again: only these are run."
    )
    return "\n".join(lines)


def _last_words(log: Path) -> list[str]:
    """The error message at the end of a log, or its last lines where there is none."""
    latest = log.read_text(errors="replace").rpartition("\n$ ")[2]
    lines = [line for line in latest.splitlines()[1:] if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return lines[errors[-1] :][:REASON_LINES] if errors else lines[-3:]


def _on_slurm(jobs: Sequence[Job], parameters: dict, folder: Path) -> tuple[list, Callable]:
    """Submit all; the slots are the elements of the job array."""
    executor = _executor(parameters, folder)
    try:
        handles = executor.map_array(
            SlurmTask(), [job.command for job in jobs], [job.log for job in jobs]
        )
    except Exception as error:  # submitit raises many types for what sbatch refuses
        raise UserError(f"SLURM did not take the jobs: {error}. Correct --slurm.") from error
    return handles, lambda job, handle: _Submitted(handle, job.log)


def _executor(parameters: dict, folder: Path):
    try:
        import submitit
    except ImportError as error:
        raise UserError("--slurm needs submitit: pip install 'tmkt-braincog[slurm]'") from error
    if not isinstance(parameters.get("time"), int):
        raise UserError(
            f"--slurm time={parameters.get('time', '')}: expected the time limit of one job in minutes, such as time=720."
        )
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster=CLUSTER)
    except RuntimeError as error:
        raise UserError(f"--slurm: {error} Run on a login node, or without --slurm.") from error
    try:
        executor.update_parameters(
            name="tmkt", stderr_to_stdout=True, **{f"slurm_{k}": v for k, v in parameters.items()}
        )
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"--slurm: {error}") from error
    return executor


class SlurmTask:
    """What runs on a node: a job's command. Told that its time is over, it lets the job save and is queued again."""

    def __call__(self, command: list[str], log: Path) -> int:
        # SLURM may send its warning to all processes of the job; it is meant for this one.
        self.process = _start(
            command, log, preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        )
        while self.process.poll() is None:
            time.sleep(1)
        return self.process.returncode

    def checkpoint(self, command: list[str], log: Path):
        """Called by submitit; what to submit instead."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        return DelayedSubmission(SlurmTask(), command, log)


class _Submitted:
    """A job on the cluster, to be asked as a process is."""

    def __init__(self, handle, log: Path):
        self.handle, self.log, self.status = handle, log, None

    def poll(self) -> int | None:
        if self.status is None and self.handle.done():
            error = self.handle.exception()
            self.status = self.handle.result() if error is None else self._lost(error)
        return self.status

    def _lost(self, error: Exception) -> int:
        """The node, the memory or the time gave out: the job itself could not say so."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as file:
            file.write(f"error: SLURM job {self.handle.job_id}: {error}\n")
        return 1

    def terminate(self) -> None:
        if self.status is None:
            self.handle.cancel(check=False)  # SIGTERM first, so that a running job saves
            self.status = 128 + signal.SIGTERM
