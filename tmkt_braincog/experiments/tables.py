"""The paper's tables, and others made like them: rows of options from a YAML file, for any data set."""

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pandas as pd

from ..analysis.table import read_csv
from ..arguments import Parser, natural
from ..errors import UserError, unknown_name
from ..options import parse, resolve
from . import paper_table
from .grid import check_fixed, folder_name, takes
from .jobs import Job, check, program
from .launch import add_where, launch, plan_text
from .table_file import Row, Table, load_table

SCRIPTS = Path(__file__).resolve().parents[2] / "run_scripts"
# --data -> the recipe that all rows share, in run_scripts/.
RECIPES = {
    "ndigits": "quickstart",
    "nmnist": "nmnist",
    "nmnist-fewshot": "nmnist_fewshot",
    "ncaltech101": "ncaltech",
    "cepdvs": "cepdvs",
    "nomniglot": "nomniglot",
    "cifar10dvs": "cifar10dvs",
}
TEACHERS = "--teacher-checkpoint results/static-{seed}.pt results/events-{seed}.pt"
DESCRIPTION = """\
Run all rows of {name} ({title}) with all seeds and write {name}.{{csv,md,tex,png,pdf}}
and the curves over epochs into --output. Given again, the command goes on where it stopped; tables share
the runs that they have in common. Words that are not listed below go to every run (see main_transfer.py --help)."""
EPILOG = """\
examples:
  python -m tmkt_braincog.experiments {name} --data ndigits --jobs 2
      On the built-in data; no download.
  python -m tmkt_braincog.experiments {name} --data nmnist-fewshot --data-root DATA --shots 5{extra}
  python -m tmkt_braincog.experiments {name} --data ncaltech101 --data-root DATA --slurm time=720 gpus_per_node=1"""


def main(argv: Sequence[str]) -> int:
    """``[name of the table, *options]``; returns the exit status."""
    return program(lambda: _main(argv[0], list(argv[1:])))


def _main(name: str, argv: list[str]) -> str:
    table = load_table(SCRIPTS / "tables" / f"{name}.yaml")
    own, fixed = table_parser(table).parse_known_args(argv)
    if own.data not in RECIPES:
        raise unknown_name("--data", own.data, RECIPES)
    output = Path(own.output or f"results/tables/{own.data}")
    if "config" in check_fixed(fixed):
        raise UserError(f"-c: the settings are those of --data {own.data}. Give what differs as options.")
    words = ["-c", os.path.relpath(SCRIPTS / f"{RECIPES[own.data]}.yaml"), *fixed]
    grid = plan(table, output / "jobs", words, own.seed)
    # One whole seed after the other, so that a stopped table has whole seeds.
    jobs = list({job.folder: job for job in chain(*zip(*grid.values(), strict=True))}.values())
    check(jobs)
    if own.dry_run:
        return plan_text(jobs)
    if not own.collect:
        launch(own, output, jobs)
    words = [word for word in argv if word != "--collect"]
    made_by = f"python -m tmkt_braincog.experiments {shlex.join([name, *words])}"
    return paper_table.write(table, collect(table, grid), logs(grid), origin(grid, made_by), output)


def table_parser(table: Table) -> argparse.ArgumentParser:
    extra = {"leakage": " --static-images 200", "neighbours": f" {TEACHERS}"}.get(table.name, "")
    parser = Parser(
        prog=f"python -m tmkt_braincog.experiments {table.name}",
        usage="%(prog)s --data NAME [options] [options of main_transfer.py]",
        description=DESCRIPTION.format(name=table.name, title=table.title),
        epilog=EPILOG.format(name=table.name, extra=extra),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", required=True, metavar="NAME", help=f"data and recipe: {', '.join(RECIPES)}")
    add(
        "--seed",
        nargs="+",
        type=natural,
        default=[1, 2, 3, 4, 5],
        metavar="N",
        help="of all rows (default: 1 2 3 4 5)",
    )
    add("--output", metavar="DIR", help="folder of runs and tables (default: results/tables/<data>)")
    add_where(parser)
    return parser


def plan(table: Table, folder: Path, fixed: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Job]]:
    """The jobs of every row that is run, one per seed. Rows that mean the same run share its folder.

    The folder is named by what the row changes; a finished run of other settings in it is refused by
    :func:`~tmkt_braincog.experiments.jobs.check`.

    Raises:
        UserError: a row that main_transfer.py would refuse, or seeds or methods among the fixed words.
    """
    if any(word.split("=")[0] == "--method" for word in fixed):
        raise UserError(f"--method belongs to the rows of {table.name}: leave it away.")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seed names the same value twice: {seeds}.")
    return {row.name: [_job(row, folder, fixed, seed) for seed in sorted(seeds)] for row in table.run_rows()}


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
    shots = f", {o.shots} recordings per class" if o.shots else ""
    return paper_table.Origin(
        dataset=o.target_dataset,
        setting=f"{o.target_dataset}{shots}, {o.model}, T = {o.step}, {o.event_size} x {o.event_size}, {o.epochs} epochs",
        notes=list(dict.fromkeys(chain(*(paper_table.notes(job.folder / "comparison.md") for job in jobs)))),
        versions=paper_table.versions(chain(*(job.folder.glob("runs/*") for job in jobs))),
        command=command,
    )
