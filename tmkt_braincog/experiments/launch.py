"""What all commands that start many runs have in common: where the runs run, and what is planned."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..engine.folder import owned
from .jobs import Job, run


def plan_text(jobs: Sequence[Job]) -> str:
    """What ``--dry-run`` prints: every job's command and whether it is finished."""

    def state(job: Job) -> str:
        return "finished" if job.finished() else "begun" if job.folder.exists() else "new"

    states = [state(job) for job in jobs]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "begun", "new"))
    lines = [
        f"{s:8}  tmkt train {shlex.join(job.words)}" for s, job in zip(states, jobs, strict=True)
    ]
    return "\n".join([f"{len(jobs)} jobs: {counts}", *lines])


def launch(own: argparse.Namespace, output: Path, jobs: Sequence[Job]) -> None:
    """Run the jobs as the options of :func:`~tmkt_braincog.commands.table.add_where` say; raises what :func:`~.jobs.run` does."""
    print(
        f"{len(jobs)} jobs, {sum(job.finished() for job in jobs)} of them finished; logs in {output}/jobs/*.log"
    )
    if own.jobs > 1 or own.slurm:
        # Their times depend on what else was running.
        _shared_marker(output).parent.mkdir(parents=True, exist_ok=True)
        _shared_marker(output).touch()
    with owned(output):
        run(jobs, own.jobs, dict(own.slurm) if own.slurm else None, output / "slurm")


def shared_machine(output: Path) -> bool:
    """Whether several jobs of this folder ever ran at once, so that their times mean nothing."""
    return _shared_marker(output).exists()


def _shared_marker(output: Path) -> Path:
    return output / "jobs" / ".several-at-once"
