"""The paper's tables, and others made like them: rows of options from a YAML file, for any data set."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd

from ..comparison import read_csv
from ..errors import UserError
from ..methods import teachers_of
from ..methods.names import takes
from ..options import model_text, parse, resolve
from ..teacher import load_teacher, teacher_path
from . import paper_table
from .axes import check_fixed
from .grid import folder_name
from .jobs import Job, check
from .launch import launch, plan_text
from .table_file import RECIPES, Row, Table

NO_TEACHERS = "not run, they need teachers: --teacher-checkpoint (see tmkt teacher train --help)"


def run(table: Table, own: argparse.Namespace, fixed: Sequence[str], argv: Sequence[str]) -> str:
    """Run what is missing and write the table; returns it, or the plan.

    Args:
        own: see :func:`~tmkt_braincog.commands.table.table_parser`.
        fixed: words that go to every run.
        argv: all words, for the caption.
    """
    output = Path(own.output or f"results/tables/{own.data}")
    if "config" in check_fixed(fixed):
        raise UserError(
            f"-c: the settings are those of --data {own.data}. Give what differs as options."
        )
    words = ["-c", RECIPES[own.data], *fixed]
    table, lacking = leave_out(table, words, min(own.seed))
    remark = f"\n{', '.join(lacking)}: {NO_TEACHERS}" if lacking else ""
    grid = plan(table, output / "jobs", words, own.seed)
    # One whole seed after the other, so that a stopped table has whole seeds.
    jobs = list({job.folder: job for job in chain(*zip(*grid.values(), strict=True))}.values())
    check(jobs)
    if own.dry_run:
        return plan_text(jobs) + remark
    if not own.collect:
        launch(own, output, jobs)
    made_by = f"tmkt table {shlex.join([word for word in argv if word != '--collect'])}"
    text = paper_table.write(table, collect(table, grid), logs(grid), origin(grid, made_by), output)
    return text + remark


def leave_out(table: Table, words: Sequence[str], seed: int) -> tuple[Table, list[str]]:
    """Where the table allows that, its rows whose teachers the words do not give become published ones.

    Claims that name such a row are left out. A row that others refer to stays, and its missing teacher is an error later.

    Args:
        seed: one of the runs', whose teachers tell what they were trained on.

    Returns:
        The table, and the names of these rows.

    Raises:
        UserError: a teacher that is named but missing or damaged.
    """
    if not table.optional_teachers:
        return table, []
    given = getattr(parse(list(words)), "teacher_checkpoint", None) or ()
    kinds = {load_teacher(teacher_path(text, seed)).on for text in given}

    needed = {
        row.name: teachers_of([row.options.get("method", "tmkt")]) for row in table.run_rows()
    }
    references = table.references().values()
    lacking = [name for name, of in needed.items() if of - kinds and name not in references]
    rows = tuple(replace(row, options=None) if row.name in lacking else row for row in table.rows)
    claims = tuple(c for c in table.claims if not {c["better"], c["worse"]} & set(lacking))
    return replace(table, rows=rows, claims=claims), lacking


def plan(
    table: Table, folder: Path, fixed: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[Job]]:
    """The jobs of every row that is run, one per seed. Rows that mean the same run share its folder.

    The folder is named by what the row changes; a finished run of other settings in it is refused by
    :func:`~tmkt_braincog.experiments.jobs.check`.

    Raises:
        UserError: a row that ``tmkt train`` would refuse, a seed twice, or a fixed word for what every row sets.
    """
    given = {word.split("=")[0] for word in fixed}
    for option in {"method"}.union(
        set.intersection(*(set(row.options) for row in table.run_rows()))
    ):
        if f"--{option}" in given:
            raise UserError(f"--{option} belongs to the rows of {table.name}: leave it away.")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seed names the same value twice: {seeds}.")
    return {
        row.name: [_job(row, folder, fixed, seed) for seed in sorted(seeds)]
        for row in table.run_rows()
    }


def _job(row: Row, folder: Path, fixed: Sequence[str], seed: int) -> Job:
    own = [*row.words(), f"--seed={seed}"]
    options, _ = resolve(parse([*fixed, *own]))
    plain, _ = resolve(parse([*fixed, f"--method={options.method[0]}", f"--seed={seed}"]))
    changed = {
        axis.name: axis.value(options)
        for axis in row.axes()
        if takes(options, axis.dest) and axis.value(options) != axis.value(plain)
    }
    name = folder_name({"seed": str(seed), "method": options.method[0], **changed})
    return Job.from_words(name, folder / name, [*fixed, *own])


def collect(table: Table, grid: Mapping[str, Sequence[Job]]) -> pd.DataFrame:
    """One row per run: column ``row`` and those of ``comparison.csv``.

    Raises:
        UserError: a run is missing.
    """
    jobs = list(chain(*grid.values()))
    missing = sorted({job.name for job in jobs if not job.finished()})
    if missing:
        raise UserError(
            f"{table.name} lacks {len(missing)} of {len({job.folder for job in jobs})} runs: {', '.join(missing)}. "
            "Run it without --collect, or name only the seeds that are there."
        )
    parts = [
        read_csv(job.folder / "comparison.csv").assign(row=name)
        for name, of_row in grid.items()
        for job in of_row
    ]
    return pd.concat(parts, ignore_index=True)


def logs(grid: Mapping[str, Sequence[Job]]) -> dict[str, list[pd.DataFrame]]:
    """Top-1 on the test recordings (%) over the evaluated epochs, per row and seed: columns epoch, top1."""

    def read(job: Job) -> pd.DataFrame:
        (path,) = job.folder.glob("runs/*/log.csv")
        log = pd.read_csv(path)[["epoch", "test_top1"]].dropna()
        return log.rename(columns={"test_top1": "top1"})

    return {name: [read(job) for job in jobs] for name, jobs in grid.items()}


def origin(grid: Mapping[str, Sequence[Job]], command: str) -> paper_table.Origin:
    """What the table's caption says about its runs."""
    jobs = list(chain(*grid.values()))
    o = jobs[0].options
    models = ", ".join(dict.fromkeys(model_text(job.options) for job in jobs))
    shots = f", {o.shots} recordings per class" if o.shots else ""
    return paper_table.Origin(
        dataset=o.target_dataset,
        setting=f"{o.target_dataset}{shots}, {models}, T = {o.step}, {o.event_size} x {o.event_size}, {o.epochs} epochs",
        notes=list(
            dict.fromkeys(chain(*(paper_table.notes(job.folder / "comparison.md") for job in jobs)))
        ),
        versions=paper_table.versions(chain(*(job.folder.glob("runs/*") for job in jobs))),
        command=command,
    )
