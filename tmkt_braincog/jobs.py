"""Independent runs of ``tmkt train``: some at once on this machine, or as one SLURM job array."""

import argparse
import os
import shlex
import sys
import time
from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from .engine.folder import owned
from .engine.stops import StopSignal
from .errors import Interrupted, UserError
from .methods.names import idle
from .options import parse, resolve, without
from .slurm import start, submit
from .teacher import load_teachers

PROGRAM = (sys.executable, "-u", "-m", "tmkt_braincog", "train")
PAUSE, SLURM_PAUSE = 0.2, 5.0  # seconds between looks at the running jobs
REASON_LINES = 6
SHARED = "jobs/.several-at-once"  # marks a folder of such jobs
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
        """The job of these words, going on where it stopped; a UserError if they are refused."""
        words = (*words, "--output", str(folder), "--resume")
        options, _ = resolve(parse(list(words)))
        # Fixed words are for all jobs; what this one's methods do not take is not for it.
        return cls(name, tuple(without(words, idle(options))), options)

    @property
    def folder(self) -> Path:
        return Path(self.options.output)

    @property
    def log(self) -> Path:
        """All that the job says; beside its folder, which the job itself wants to find empty."""
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
    """Try what needs no data: folders, teachers, models, optimisers, schedules. Writes nothing.

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
    """Load every data set once, or jobs would download and decode the same files at the same time.

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
    print(f"{len(jobs)} jobs, {done} of them finished; logs beside them, such as {jobs[0].log}")
    if own.jobs > 1 or own.slurm:
        (output / SHARED).parent.mkdir(parents=True, exist_ok=True)
        (output / SHARED).touch()
    with owned(output):
        run(jobs, own.jobs, dict(own.slurm) if own.slurm else None, output / "slurm")


def shared_machine(output: Path) -> bool:
    """Whether several jobs of this folder ever ran at once, so that their times mean nothing."""
    return (output / SHARED).exists()


def run(
    jobs: Sequence[Job], workers: int = 1, slurm: dict | None = None, folder: Path = Path("slurm")
) -> None:
    """Run those that are not finished, with a progress bar, and wait for them.

    Args:
        jobs: with different folders, already checked by :func:`check`.
        workers: processes at once here; they share the cores, and the GPUs as far as these go.
        slurm: parameters of a SLURM job array instead, see :func:`.slurm.submit`.
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
        failed = _work_off(missing, _environments(missing, workers), len(jobs), PAUSE)
    else:
        array = submit(
            [job.command for job in missing], [job.log for job in missing], slurm, folder
        )
        failed = _work_off(missing, list(array), len(jobs), SLURM_PAUSE)
    if failed:
        lines = [f"{len(failed)} of {len(jobs)} jobs failed:"]
        for job, status in failed:
            said = "\n    ".join(_last_words(job.log) or ["it said nothing"])
            lines.append(f"  {job.name} (status {status}; full log: {job.log})\n    {said}")
        lines.append(
            "The others are finished. Mend the cause and give the same command again: only these "
            "are run."
        )
        raise JobsFailed("\n".join(lines))


def _work_off(
    jobs: Sequence[Job], slots: list[Any], total: int, pause: float
) -> list[tuple[Job, int]]:
    """A job in every slot that is free; (job, exit status) of those that failed.

    A slot is the environment of one process at a time, or a job that is submitted already.
    """
    waiting, failed = deque(jobs), []
    running: list[tuple[Job, Any, Any]] = []
    bar = tqdm(total=total, initial=total - len(jobs), desc="jobs", dynamic_ncols=True, smoothing=0)
    with StopSignal() as stop, bar:
        try:
            while (waiting or running) and stop.received is None:
                while waiting and slots:
                    job, slot = waiting.popleft(), slots.pop(0)
                    here = isinstance(slot, dict)
                    process = start(job.command, job.log, env=slot) if here else slot
                    running.append((job, slot, process))
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
            said = f"Stopped on a signal: {finished} of {total} jobs are finished, the running "
            said += "ones were told to save. Continue with the same command."
            raise Interrupted(said, stop.received)
    return failed


def _environments(jobs: Sequence[Job], workers: int) -> list[dict[str, str]]:
    """One for each worker: its share of the cores and a GPU of its own."""
    workers = min(workers, len(jobs))
    every = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
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
    return slots


def _last_words(log: Path) -> list[str]:
    """The error message at the end of a log, or its last lines where there is none."""
    latest = log.read_text(errors="replace").rpartition("\n$ ")[2]
    lines = [line for line in latest.splitlines()[1:] if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return lines[errors[-1] :][:REASON_LINES] if errors else lines[-3:]
