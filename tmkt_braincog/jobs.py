"""Independent runs of ``tmkt train``: some at once on this machine, or as one SLURM job array."""

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
from .data.sampling import epoch_batches, item_labels
from .engine.build import build_model, build_optimizer, build_scheduler
from .engine.compare import DATA_OPTIONS, check_output, load_data
from .engine.folder import owned
from .engine.stops import StopSignal
from .errors import Interrupted, UserError
from .methods.names import idle, method_class
from .options import parse, resolve, without
from .slurm import start, submit
from .teacher import load_teachers

PROGRAM = (sys.executable, "-u", "-m", "tmkt_braincog", "train")
PAUSE, SLURM_PAUSE = 0.2, 5.0  # seconds between looks at the running jobs
REASON_LINES = 6
SHARED = "jobs/.several-at-once"  # marks a folder whose jobs ran so: their times mean nothing
# What a model is built from.
MODEL = ("model", "node_type", "act_fun", "threshold", "tau", "step", "event_size", "width_divisor")


class JobsFailed(UserError):
    """Some jobs failed; the others are finished."""


@dataclass(frozen=True)
class Job:
    """One run of ``tmkt train`` with an output folder of its own: its words, what they mean."""

    name: str
    words: tuple[str, ...]
    options: Namespace

    @classmethod
    def from_words(cls, name: str, folder: Path, words: Sequence[str]) -> "Job":
        """The job of these words, going on where it stopped; a UserError if they are refused."""
        words = [*words, "--output", str(folder), "--resume"]
        # Fixed words are for all jobs; what this one's methods do not take is not for it.
        words = without(words, idle(resolve(parse(words))[0]))
        return cls(name, tuple(words), resolve(parse(words))[0])

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


@contextmanager
def _named(job: Job) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{job.name}: {error}") from error


def check(jobs: Sequence[Job]) -> None:
    """Try folders, teachers, models, schedules; a UserError for what a job would refuse."""
    built = set()
    for job in jobs:
        options = copy(job.options)
        options.executor = "step"  # the other one is tried against it, which takes time
        with _named(job):
            check_output(job.options)
            for seed in options.seed:
                load_teachers(options, options.method, seed)
            build_scheduler(options, build_optimizer(options, nn.Linear(1, 1)))
            network = method_class(options.method[0]).network
            model = (network, *(getattr(options, name) for name in MODEL))
            if model not in built:
                build_model(options, num_classes=10)
            built.add(model)


def check_data(jobs: Sequence[Job]) -> None:
    """Load every data set once, before jobs decode it together; a UserError for what is wrong."""
    loaded = {}
    for job in jobs:
        o = job.options
        key = tuple(getattr(o, name) for name in DATA_OPTIONS)
        with _named(job):
            if key not in loaded:
                loaded[key] = load_data(o)
            for seed in o.seed:
                split = make_split(loaded[key], o, seed)
                labels = item_labels(loaded[key].labels.numpy(), split.train, split.pools)
                epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, seed, 0)


def plan_text(jobs: Sequence[Job]) -> str:
    """What ``--dry-run`` prints: every job's command and whether it is finished."""
    lines, counts = [], {"finished": 0, "begun": 0, "new": 0}
    for job in jobs:
        state = "finished" if job.finished() else "begun" if job.folder.exists() else "new"
        counts[state] += 1
        lines.append(f"{state:8}  tmkt train {shlex.join(job.words)}")
    said = ", ".join(f"{n} {state}" for state, n in counts.items())
    return "\n".join([f"{len(jobs)} jobs: {said}", *lines])


def run(
    jobs: Sequence[Job], output: Path, workers: int = 1, slurm: dict[str, Any] | None = None
) -> None:
    """Run those that are not finished, with a progress bar, and wait for them.

    Args:
        jobs: in different folders in ``output``, already checked by :func:`check`.
        workers: processes at once here; they share the cores, and the GPUs as far as these go.
        slurm: parameters of a SLURM job array instead, see :func:`.slurm.submit`.

    Raises:
        UserError: data or SLURM parameters that cannot be used; no job has started.
        JobsFailed: after all jobs have ended.
        Interrupted: Ctrl-C or SIGTERM, after the running jobs have saved.
    """
    missing = [job for job in jobs if not job.finished()]
    done = len(jobs) - len(missing)
    print(f"{len(jobs)} jobs, {done} of them finished; logs beside them, such as {jobs[0].log}")
    with owned(output):
        if workers > 1 or slurm:
            (output / "jobs").mkdir(exist_ok=True)
            (output / SHARED).touch()
        slots: list[Any]
        if missing and slurm:
            slots = submit([(job.command, job.log) for job in missing], slurm, output / "slurm")
        else:
            check_data(missing)
            slots = _environments(missing, workers)
        failed = _work_off(missing, slots, len(jobs), SLURM_PAUSE if slurm else PAUSE)
    if failed:
        lines = [f"{len(failed)} of {len(jobs)} jobs failed:"]
        for job, status in failed:
            said = "\n    ".join(job.log.read_text(errors="replace").splitlines()[-REASON_LINES:])
            lines.append(f"  {job.name} (status {status}; full log: {job.log})\n    {said}")
        again = "Mend the cause and give the same command again: only these are run."
        raise JobsFailed("\n".join([*lines, f"The others are finished. {again}"]))


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
                for one in [one for one in running if one[2].poll() is not None]:
                    running.remove(one)
                    slots.append(one[1])
                    bar.update()
                    # Ctrl-C in a terminal reaches the jobs as well, which is no fault of theirs.
                    if one[2].poll() and stop.received is None:
                        failed.append((one[0], one[2].poll()))
        finally:
            for *_, process in running:
                process.terminate()
        if stop.received is not None:
            while any(process.poll() is None for *_, process in running):
                time.sleep(pause)
            finished = total - sum(not job.finished() for job in jobs)
            said = f"Stopped: {finished} of {total} jobs are finished, the running ones have saved."
            raise Interrupted(f"{said} Continue with the same command.", stop.received)
    return failed


def _environments(jobs: Sequence[Job], workers: int) -> list[dict[str, str]]:
    """One for each worker: its share of the cores and a GPU of its own."""
    workers, cores = min(workers, len(jobs)), len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    most = int(limit) if limit.isdigit() else cores
    threads = {"OMP_NUM_THREADS": str(max(1, min(cores // max(1, workers), most)))}
    share = {JOBS_VARIABLE: threads["OMP_NUM_THREADS"], **os.environ, **threads}
    own = any(job.options.device in ("auto", "cuda") for job in jobs[:1])  # no GPU is named
    count, named = torch.cuda.device_count() if own else 0, os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",")[:count] if named else [str(i) for i in range(count)]
    each = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(workers)]
    return [share | gpu for gpu in each]
