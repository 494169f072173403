"""Runs what is missing of a table or a sweep, then writes it."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError
from .jobs import JobsFailed, check, launch, plan_text
from .table_plan import Run, check_fixed, check_sweep, find_axes, leave_out, plan, sweep
from .table_write import write
from .tables import RECIPES, SWEEP, Table

NO_TEACHERS = "not run, they need teachers: --teacher-checkpoint (see tmkt teacher train --help)"


def run_table(
    table: Table, own: argparse.Namespace, fixed: Sequence[str], argv: Sequence[str]
) -> str:
    """Run what is missing and write the table; returns it, or the plan.

    Args:
        own: see :func:`~tmkt_braincog.commands.table.table_parser`.
        fixed: words that go to every run.
        argv: all words, for the caption.
    """
    recipe = table.recipe or RECIPES[own.data]
    if "config" in check_fixed(fixed):
        what = "--recipe" if table.recipe else f"--data {own.data}"
        raise UserError(f"-c: the settings are those of {what}. Give what differs as options.")
    words = ["-c", recipe, *fixed]
    table, lacking = leave_out(table, words, min(own.seed))
    output = Path(
        own.output or table.output or f"results/tables/{table.name if table.recipe else own.data}"
    )
    runs = plan(table, output, words, own.seed)
    text = _make(table, runs, own, output, argv)
    return text + (f"\n{', '.join(lacking)}: {NO_TEACHERS}" if lacking else "")


def run_sweep(own: argparse.Namespace, fixed: Sequence[str], argv: Sequence[str]) -> str:
    """As :func:`run_table`; own: see :func:`~tmkt_braincog.commands.table.sweep_parser`."""
    output, axes = Path(own.output), find_axes(own.vary, fixed)
    table, runs = sweep(output, axes, fixed, own.against)
    check_sweep(output, runs, axes)
    for remark in table.notes:
        print(remark)
    return _make(table, runs, own, output, argv)


def _make(
    table: Table, runs: Sequence[Run], own: argparse.Namespace, output: Path, argv: Sequence[str]
) -> str:
    """The table of the runs, made if need be; a sweep also where some are missing."""
    partly = table.name in SWEEP
    jobs = list({run.job.folder: run.job for run in runs}.values())
    if not (own.collect and partly):
        check(jobs)
    if own.dry_run:
        return plan_text(jobs)
    command = f"tmkt table {shlex.join(word for word in argv if word != '--collect')}"
    failed = None
    try:
        if not own.collect:
            launch(own, output, jobs)
    except JobsFailed as error:
        failed = error
        if not partly or not any(job.finished() for job in jobs):
            raise
    missing = [job.name for job in jobs if not job.finished()]
    if missing and len(missing) == len(jobs):
        none = f"No job of this {table.name} is finished in {output}"
        raise UserError(f"{none}: run it without --collect.")
    if missing and not partly:
        raise UserError(
            f"{table.name} lacks {len(missing)} of {len(jobs)} runs: {', '.join(sorted(missing))}. "
            "Run it without --collect, or name only the seeds that are there."
        )
    text = write(table, [run for run in runs if run.job.finished()], command, output, missing)
    if failed is not None:
        print(text)
        raise failed
    return text
