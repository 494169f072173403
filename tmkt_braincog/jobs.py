"""Independent runs of ``tmkt train``: some at once on this machine, or as one SLURM job array."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .comparison import read_csv
from .data import make_split
from .data.parallel import JOBS_VARIABLE
from .data.sampling import epoch_batches
from .engine.build import build_model, build_optimizer, build_scheduler
from .engine.compare import DATA_OPTIONS, check_output, load_data
from .engine.interrupt import StopSignal
from .engine.owner import owned
from .errors import Interrupted, UserError
from .methods.names import idle
from .options import parse, resolve, without
from .teacher import load_teachers

PROGRAM = (sys.executable, "-u", "-m", "tmkt_braincog", "train")
CLUSTER = "slurm"  # submitit's name of the executor
PAUSE, SLURM_PAUSE = 0.2, 5.0  # seconds between looks at the running jobs
STOP_SECONDS = 80  # a job's time to save; by submitit's default SLURM warns 90 s before it kills
REASON_LINES = 6
# What a model is built from.
MODEL = ("model", "node_type", "act_fun", "threshold", "tau", "step", "event_size", "width_divisor")


class JobsFailed(UserError):
    """Some jobs failed; the others are finished."""


@dataclass(frozen=True)
class Job:
    """One run of ``tmkt train`` with an output folder of its own; made by :meth:`from_words`.

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
        """The job of these words, which goes on where it was stopped; a UserError where they are refused."""
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
        if not (self.folder / "comparison.csv").exists():
            return False
        rows = read_csv(self.folder / "comparison.csv")
        there = set(zip(rows["method"], rows["seed"], strict=True))
        return set(product(self.options.method, self.options.seed)) <= there


def check(jobs: Sequence[Job]) -> None:
    """Try what can be tried without data: folders, teachers, models, optimisers, schedules. Writes nothing.

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


def check_data(jobs: Sequence[Job]) -> None:
    """Load every data set once, so that jobs do not download and decode the same files at the same time.

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


@contextmanager
def _named(job: Job) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from error


def plan_text(jobs: Sequence[Job]) -> str:
    """What ``--dry-run`` prints: every job's command and whether it is finished."""
    states = [
        "finished" if job.finished() else "begun" if job.folder.exists() else "new" for job in jobs
    ]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "begun", "new"))
    lines = [
        f"{s:8}  tmkt train {shlex.join(job.words)}" for s, job in zip(states, jobs, strict=True)
    ]
    return "\n".join([f"{len(jobs)} jobs: {counts}", *lines])


def launch(own: argparse.Namespace, output: Path, jobs: Sequence[Job]) -> None:
    """Run the jobs as ``own.jobs`` and ``own.slurm`` say; raises what :func:`run` does."""
    done = sum(job.finished() for job in jobs)
    print(f"{len(jobs)} jobs, {done} of them finished; logs in {jobs[0].log.parent}/*.log")
    if own.jobs > 1 or own.slurm:
        _shared_marker(output).parent.mkdir(parents=True, exist_ok=True)
        _shared_marker(output).touch()
    with owned(output):
        run(jobs, own.jobs, dict(own.slurm) if own.slurm else None, output / "slurm")


def shared_machine(output: Path) -> bool:
    """Whether several jobs of this folder ever ran at once, so that their times mean nothing."""
    return _shared_marker(output).exists()


def _shared_marker(output: Path) -> Path:
    return output / "jobs" / ".several-at-once"


def run(
    jobs: Sequence[Job], workers: int = 1, slurm: dict | None = None, folder: Path | None = None
) -> None:
    """Run those that are not finished, with a progress bar, and wait for them.

    Args:
        jobs: with different folders, already checked by :func:`check`.
        workers: processes at once on this machine, which share its cores; each has a GPU of its own as
            long as there are enough.
        slurm: parameters of a SLURM job array instead, as submitit takes them, without prefix.
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
        slots, start = _on_slurm(missing, slurm, folder or Path("slurm"))
    failed = _work_off(missing, slots, start, len(jobs), PAUSE if slurm is None else SLURM_PAUSE)
    if failed:
        lines = [f"{len(failed)} of {len(jobs)} jobs failed:"]
        for job, status in failed:
            said = "\n    ".join(_last_words(job.log) or ["it said nothing"])
            lines.append(f"  {job.name} (status {status}; full log: {job.log})\n    {said}")
        lines.append(
            "The others are finished. Mend the cause and give the same command again: only these are run."
        )
        raise JobsFailed("\n".join(lines))


def _work_off(
    jobs: Sequence[Job], slots: list, start: Callable, total: int, pause: float
) -> list[tuple[Job, int]]:
    """Start a job in every slot that is free, until none is left; (job, exit status) of those that failed.

    ``start(job, slot)`` gives what has ``poll()`` and ``terminate()`` as ``subprocess.Popen`` has.
    """
    waiting, failed = deque(jobs), []
    running: list[tuple[Job, Any, Any]] = []
    bar = tqdm(total=total, initial=total - len(jobs), desc="jobs", dynamic_ncols=True, smoothing=0)
    with StopSignal() as stop, bar:
        try:
            while (waiting or running) and stop.received is None:
                while waiting and slots:
                    job, slot = waiting.popleft(), slots.pop(0)
                    running.append((job, slot, start(job, slot)))
                time.sleep(pause)
                for job, slot, process in [r for r in running if r[2].poll() is not None]:
                    running.remove((job, slot, process))
                    slots.append(slot)
                    bar.update()
                    # Ctrl-C in a terminal reaches the jobs as well, which is no fault of theirs.
                    if process.poll() and stop.received is None:
                        failed.append((job, process.poll()))
                        bar.set_postfix(failed=len(failed))
        finally:
            for *_, process in running:
                process.terminate()
        if stop.received is not None:
            bar.set_description("waiting for the jobs to save")
            while any(process.poll() is None for *_, process in running):
                time.sleep(pause)
            finished = total - sum(not job.finished() for job in jobs)
            raise Interrupted(
                f"Stopped on a signal: {finished} of {total} jobs are finished, the running ones were told to save. "
                "Continue with the same command.",
                stop.received,
            )
    return failed


def _here(jobs: Sequence[Job], workers: int) -> tuple[list[dict[str, str]], Callable]:
    """One slot per worker: the environment of its jobs, with a share of the cores and a GPU of its own."""
    workers = min(workers, len(jobs))
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = str(max(1, min(cores // workers, int(limit) if limit.isdigit() else cores)))
    own = jobs[0].options.device in ("auto", "cuda")  # otherwise the user has named a GPU, or none
    count, named = torch.cuda.device_count() if own else 0, os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",")[:count] if named else [str(i) for i in range(count)]
    slots = []
    for i in range(workers):
        slots.append({JOBS_VARIABLE: threads, **os.environ, "OMP_NUM_THREADS": threads})
        if gpus:
            slots[i]["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
    return slots, lambda job, environment: _start(job.command, job.log, env=environment)


def _start(command: Sequence[str], log: Path, **how: Any) -> subprocess.Popen:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"\n$ {shlex.join(command)}\n")
        file.flush()
        how |= {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, **how)


def _last_words(log: Path) -> list[str]:
    """The error message at the end of a log, or its last lines where there is none."""
    latest = log.read_text(errors="replace").rpartition("\n$ ")[2]
    lines = [line for line in latest.splitlines()[1:] if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return lines[errors[-1] :][:REASON_LINES] if errors else lines[-3:]


def _on_slurm(jobs: Sequence[Job], parameters: dict, folder: Path) -> tuple[list, Callable]:
    """Submit all as one array; the slots are its elements."""
    try:
        import submitit
    except ImportError as error:
        raise UserError("--slurm needs submitit: pip install 'tmkt-braincog[slurm]'") from error
    if not isinstance(parameters.get("time"), int):
        raise UserError(
            f"--slurm time={parameters.get('time', '')}: expected the time limit of one job in minutes, such as time=720."
        )
    asked = {f"slurm_{key}": value for key, value in parameters.items()}
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster=CLUSTER)
        executor.update_parameters(name="tmkt", stderr_to_stdout=True, **asked)
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"--slurm: {error} Run on a login node, with parameters of submitit."
        ) from error
    commands, logs = [job.command for job in jobs], [job.log for job in jobs]
    try:
        handles = executor.map_array(SlurmTask(), commands, logs)
    except Exception as error:  # submitit raises many types for what sbatch refuses
        raise UserError(f"SLURM did not take the jobs: {error}. Correct --slurm.") from error
    return handles, lambda job, handle: _Submitted(handle, job.log)


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

    def checkpoint(self, command: list[str], log: Path) -> Any:
        """Called by submitit; what to submit instead."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        return DelayedSubmission(SlurmTask(), command, log)


class _Submitted:
    """A job on the cluster, to be asked as a process is."""

    def __init__(self, handle: Any, log: Path):
        self.handle, self.log = handle, log
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None and self.handle.done():
            error = self.handle.exception()
            if error is None:
                self.status = self.handle.result()
            else:  # the node, the memory or the time gave out: the job itself could not say so
                self.log.parent.mkdir(parents=True, exist_ok=True)
                with self.log.open("a") as file:
                    file.write(f"error: SLURM job {self.handle.job_id}: {error}\n")
                self.status = 1
        return self.status

    def terminate(self) -> None:
        if self.status is None:
            self.handle.cancel(check=False)  # SIGTERM first, so that a running job saves
            self.status = 128 + signal.SIGTERM
