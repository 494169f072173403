"""``tmkt table``: the paper's tables, others like them, few-shot curves, sweeps of any options."""

from __future__ import annotations

import shlex
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..argument_types import natural, positive_int
from ..arguments import Parser, adder
from ..errors import UserError, unknown_name
from ..options import refuse_twice
from ..tables import RECIPES, SWEEP, Row, Table, listed, load_table

if TYPE_CHECKING:
    from ..table_plan import Planned

EXAMPLES = """\
examples:
  tmkt table table2 --data ndigits --jobs 2
      The ablation of TSM, MAG and MRP on the built-in data, five seeds, two runs at once.
  tmkt table own.yaml --data nmnist-fewshot --data-root DATA --shots 5
      A table of your own: copy one of tmkt_braincog/tables/ and change its rows.
  tmkt table sweep --output results/ratios --vary mixup-ratio=0.3,0.4,0.5 --vary seed=1,2,3
      Every combination once, and one table."""
DESCRIPTION = """\
Run all rows of {name} ({title}) with all seeds and write {name}.{{csv,md,tex,json,png,pdf}}
and the curves over epochs into --output. Given again, the command goes on where it stopped; tables
share the runs that they have in common. Words not listed go to every run (tmkt train --help)."""
TABLE_EXAMPLES = """\
examples:
  tmkt table {words} --jobs 2
      Two runs at once.
  tmkt table {words} --seed 1 2 3 --dry-run
      First only what would run, and what is finished.
  tmkt table {words} --slurm time=720 gpus_per_node=1
      As one SLURM job array; needs pip install 'tmkt-braincog[slurm]'."""
SWEEP_DESCRIPTION = """\
Run tmkt train with all combinations of the given values, each as a job of its own, and write one
table. Words not listed below go to every job (tmkt train --help); what they say is checked for all
jobs before the first one starts. Given again, the command goes on where it stopped; more values may
be added. The table holds the runs that the command names."""
SWEEP_EXAMPLES = """\
examples:
  tmkt table sweep --output results/ratios --jobs 2 --vary method=baseline,tmkt \\
      --vary mixup-ratio=0.3,0.4,0.5 --vary seed=42,1024,90210 --target-dataset ndigits
      The baseline, which has no mixup ratio, runs once per seed and is compared with every ratio.
  tmkt table sweep --output results/threshold --vary threshold=0.5,1 --against threshold=0.5
      Differences are taken to one of the values.
  tmkt table sweep --output results/ratios --slurm partition=gpu time=720 array_parallelism=8 ...
      As a SLURM job array; needs pip install 'tmkt-braincog[slurm]'."""
SEEDS = [1, 2, 3, 4, 5]
NO_TEACHERS = "not run, they need teachers: --teacher-checkpoint (see tmkt teacher --help)"


def run(argv: list[str]) -> int:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {name:14}{what}" for name, what in (listed() | SWEEP).items()]
        print("usage: tmkt table NAME [options]   (tmkt table NAME --help for its options)\n")
        print("\n".join(["tables, or a YAML file of your own:", *lines, "", EXAMPLES]))
        return 0 if argv else 2
    if name in SWEEP:
        _sweep(*sweep_parser().parse_known_args(words), argv)
    else:
        table = load_table(name)
        _table(table, *table_parser(table).parse_known_args(words), argv)
    return 0


def _table(table: Table, own: Namespace, fixed: list[str], argv: list[str]) -> None:
    for name, values in vars(own).items():
        if isinstance(values, list):
            refuse_twice(name.replace("_", "-"), values)
    recipe = own.recipe if table.recipe else RECIPES.get(own.data)
    if recipe is None:
        raise unknown_name("--data", own.data, RECIPES)
    if table.recipe:
        known = {row.options["method"]: row for row in table.run_rows()}
        rows = [known.get(name, Row(name, {"method": name})) for name in own.method]
        table = table.with_rows(rows)
        fixed = ["--data-root", own.data_root, "--no-tensorboard", *fixed]
    from ..table_plan import check_fixed, leave_out, plan

    if "config" in check_fixed(fixed):
        what = "--recipe" if table.recipe else f"--data {own.data}"
        raise UserError(f"-c: the settings are those of {what}. Give what differs as options.")
    if table.axis:
        table = table.expanded(getattr(own, table.axis["option"].replace("-", "_")))
    words = ["-c", recipe, *fixed]
    table, lacking = leave_out(table, words, min(own.seed))
    default = f"results/tables/{table.name if table.recipe else own.data}"
    output = Path(own.output or table.output or default)
    print(_make(table, plan(table, output, words, own.seed), own, output, argv))
    if lacking:
        print(f"{', '.join(lacking)}: {NO_TEACHERS}")


def _sweep(own: Namespace, fixed: list[str], argv: list[str]) -> None:
    from ..table_plan import sweep

    output = Path(own.output)
    table, runs = sweep(output, own.vary, fixed, own.against)
    if output.exists() and not (output / "jobs").is_dir() and any(output.iterdir()):
        raise UserError(f"The output folder {output} holds other files: choose an empty one.")
    print(_make(table, runs, own, output, argv))


def _make(table: Table, runs: list[Planned], own: Namespace, output: Path, argv: list[str]) -> str:
    """Run what is missing and write the table; returns it, or the plan.

    A table needs all its runs; a sweep is written without those that are missing, and says so.
    """
    from .. import jobs
    from ..table_plan import jobs_of
    from ..table_write import write

    every, failed = jobs_of(runs), None
    jobs.check(every)
    if own.dry_run:
        return "\n".join([*table.notes, jobs.plan_text(every)])
    try:
        if not own.collect:
            jobs.run(every, output, own.jobs, dict(own.slurm or ()))
    except jobs.JobsFailed as error:
        failed = error
    missing = [job.name for job in every if not job.finished()]
    if missing and (table.name not in SWEEP or len(missing) == len(every)):
        raise failed or UserError(
            f"{table.name} lacks {len(missing)} of {len(every)} runs: {', '.join(missing)}. "
            "Run it without --collect, or name only the seeds that are there."
        )
    command = f"tmkt table {shlex.join(word for word in argv if word != '--collect')}"
    text = write(table, [run for run in runs if run.job.finished()], command, output, missing)
    if failed:
        print(text)
        raise failed
    return text


def _parser(name: str, usage: str, description: str, examples: str, jobs: int = 1) -> Parser:
    how = {"usage": f"%(prog)s {usage}", "description": description, "epilog": examples}
    parser = Parser(f"tmkt table {name}", **how)
    add, its = adder(parser.add_mutually_exclusive_group()), f"(default: {jobs})"
    add("--jobs N", positive_int, jobs, f"jobs at once; they share cores and GPUs {its}")
    its = "submit a SLURM job array and wait for it; parameters of submitit: time (minutes, of one "
    its += "job), partition, gpus_per_node, cpus_per_task, mem, array_parallelism, ..."
    add("--slurm KEY=VALUE", _parameter, None, its, nargs="+")
    add = adder(parser.add_mutually_exclusive_group())
    add("--dry-run", None, False, "print the jobs and what is finished, start nothing")
    add("--collect", None, False, "only write the table of the finished jobs")
    return parser


def _parameter(text: str) -> tuple[str, int | str]:
    key, _, value = text.partition("=")
    if not (key and value):
        raise ArgumentTypeError(f"expected KEY=VALUE, such as partition=gpu, seen {text}")
    return key, int(value) if value.isdigit() else value


def table_parser(table: Table) -> Parser:
    data = "--data-root DIR" if table.recipe else "--data NAME"
    example = "--data-root DATA" if table.recipe else "--data ndigits"
    examples = TABLE_EXAMPLES.format(words=f"{table.name} {example} {table.needs}".strip())
    usage, jobs = f"{data} [options] [options of tmkt train]", 2 if table.recipe else 1
    description = DESCRIPTION.format(name=table.name, title=table.title)
    parser = _parser(table.name, usage, description, examples, jobs)
    add, lists = adder(parser), dict[str, tuple[Any, list]](seed=(natural, SEEDS))
    if table.recipe:
        add(data, str, None, "folder with the data sets' own folders", required=True)
        about = f"recipe, or YAML file, of what all runs share (default: {table.recipe})"
        add("--recipe NAME", str, table.recipe, about)
        lists["method"] = (str, [row.options["method"] for row in table.run_rows()])
    else:
        add(data, str, None, f"data and recipe: {', '.join(RECIPES)}", required=True)
    if table.axis:
        values = table.axis["values"]
        kind = positive_int if isinstance(values[0], int) else type(values[0])
        lists[table.axis["option"]] = (kind, values)
    for name, (kind, usual) in lists.items():
        about = f"(default: {' '.join(map(str, usual))})"
        add(f"--{name} X", kind, usual, about, nargs="+")
    where = table.output or f"results/tables/{table.name if table.recipe else '<data>'}"
    add("--output DIR", str, None, f"folder of runs and tables (default: {where})")
    return parser


def sweep_parser() -> Parser:
    usage = "--output DIR --vary NAME=VALUE,VALUE,... [options of tmkt train]"
    parser = _parser("sweep", usage, SWEEP_DESCRIPTION, SWEEP_EXAMPLES)
    add = adder(parser)
    add("--output DIR", str, None, "folder of the jobs and of the table", required=True)
    about = "values of an option of tmkt train (true, false for a switch), over a fixed one"
    add("--vary NAME=VALUE,VALUE,...", str, [], about, action="append")
    about = "what differences are taken to (default: %(default)s)"
    add("--against NAME=VALUE", str, "method=baseline", about)
    return parser
