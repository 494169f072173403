"""``tmkt table``: the paper's tables, others like them, few-shot curves, sweeps of any options."""

import argparse
from collections.abc import Callable
from dataclasses import replace

from ..arguments import Parser, natural, positive_int
from ..errors import unknown_name
from ..tables import RECIPES, REFERENCE, SWEEP, Row, Table, listed, load_table

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
  tmkt table {name} --data ndigits --jobs 2{extra}
      On the built-in data; no download.
  tmkt table {name} --data nmnist-fewshot --data-root DATA --shots 5{extra} --dry-run
      On real recordings: first only what would run, and what is finished.
  tmkt table {name} --data ncaltech101 --data-root DATA{extra} --slurm time=720 gpus_per_node=1
      As one SLURM job array; needs pip install 'tmkt-braincog[slurm]'."""
TEACHERS = "--teacher-checkpoint results/static-{seed}.pt"
# What a table needs besides --data.
NEEDS = {
    "leakage": " --static-images 200",
    "neighbours": f" {TEACHERS} results/events-{{seed}}.pt",
    "ckd": f" {TEACHERS}",
}
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
FEWSHOT_EXAMPLES = """\
examples:
  tmkt table fewshot --data-root DATA
      The published curve: 1, 2, 5, 10 and 50 shots, five seeds, two processes.
  tmkt table fewshot --data-root DATA --shots 5 --seed 1 2 3 --output results/five
      Part of it.
  tmkt table fewshot --data-root DATA --method baseline tmkt+ckd --recipe own.yaml
      Other methods with settings of your own."""
SEEDS = [1, 2, 3, 4, 5]


def run(argv: list[str]) -> int:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if name in SWEEP:
        own, fixed = sweep_parser().parse_known_args(words)
        from ..table_run import run_sweep

        print(run_sweep(own, fixed, argv))
        return 0
    table = load_table(name)
    own, fixed = table_parser(table).parse_known_args(words)
    if table.recipe is not None:
        table = _chosen(table, own)
        fixed = ["--data-root", own.data_root, "--no-tensorboard", *fixed]
    elif own.data not in RECIPES:
        raise unknown_name("--data", own.data, RECIPES)
    values = getattr(own, table.axis["option"].replace("-", "_")) if table.axis else []
    from ..table_run import run_table

    print(run_table(table.expanded(values), own, fixed, argv))
    return 0


def _chosen(table: Table, own: argparse.Namespace) -> Table:
    """The table with the methods and the recipe that the command names."""
    known = {row.options["method"]: row for row in table.run_rows()}
    rows = tuple(known.get(name, Row(name, {"method": name})) for name in own.method)
    names = [row.name for row in rows]
    reference = table.reference if table.reference in names else names[0]
    claims = [claim for claim in table.claims if {claim["better"], claim["worse"]} <= {*names}]
    rows = tuple(r if r.reference in names else replace(r, reference=None) for r in rows)
    return replace(table, rows=rows, recipe=own.recipe, reference=reference, claims=claims)


def _help() -> str:
    lines = [f"  {name:12}{what}" for name, what in (listed() | SWEEP).items()]
    usage = "usage: tmkt table NAME [options]   (tmkt table NAME --help for its options)"
    return "\n".join([usage, "", "tables, or a YAML file of your own:", *lines, "", EXAMPLES])


def _parser(name: str, usage: str, description: str, examples: str, jobs: int = 1) -> Parser:
    parser = Parser(
        prog=f"tmkt table {name}",
        usage=f"%(prog)s {usage}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    where, what = (parser.add_mutually_exclusive_group() for _ in range(2))
    its = f"jobs at once; they share cores and GPUs (default: {jobs})"
    where.add_argument("--jobs", type=positive_int, default=jobs, metavar="N", help=its)
    its = "submit a SLURM job array and wait for it; parameters of submitit: time (minutes, of one "
    its += "job), partition, gpus_per_node, cpus_per_task, mem, array_parallelism, ..."
    where.add_argument("--slurm", nargs="+", type=_parameter, metavar="KEY=VALUE", help=its)
    its = "print the jobs and what is finished, start nothing"
    what.add_argument("--dry-run", action="store_true", help=its)
    its = "only write the table of the finished jobs"
    what.add_argument("--collect", action="store_true", help=its)
    return parser


def _parameter(text: str) -> tuple[str, int | str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, such as partition=gpu, seen {text}")
    return key, int(value) if value.isdigit() else value


def table_parser(table: Table) -> Parser:
    description = DESCRIPTION.format(name=table.name, title=table.title)
    examples = TABLE_EXAMPLES.format(name=table.name, extra=NEEDS.get(table.name, ""))
    usage = "[options] [options of tmkt train]"
    if table.recipe is None:
        parser = _parser(table.name, f"--data NAME {usage}", description, examples)
        about = f"data and recipe: {', '.join(RECIPES)}"
        parser.add_argument("--data", required=True, metavar="NAME", help=about)
    else:
        parser = _parser(table.name, f"--data-root DIR {usage}", description, FEWSHOT_EXAMPLES, 2)
        _add_choices(parser, table)
    _add_list(parser, "--seed", SEEDS, natural)
    if table.axis:
        values = table.axis["values"]
        _add_list(
            parser,
            f"--{table.axis['option']}",
            values,
            positive_int if isinstance(values[0], int) else type(values[0]),
        )
    where = table.output or f"results/tables/{table.name if table.recipe else '<data>'}"
    about = f"folder of runs and tables (default: {where})"
    parser.add_argument("--output", metavar="DIR", help=about)
    return parser


def _add_choices(parser: Parser, table: Table) -> None:
    """What may be chosen of a table with a recipe of its own."""
    about = "folder with the data sets' own folders"
    parser.add_argument("--data-root", required=True, metavar="DIR", help=about)
    about = f"recipe, or YAML file, of the options that all runs share (default: {table.recipe})"
    parser.add_argument("--recipe", default=table.recipe, metavar="NAME", help=about)
    _add_list(parser, "--method", [row.options["method"] for row in table.run_rows()], str)


def _add_list(parser: Parser, name: str, values: list, kind: Callable[[str], object]) -> None:
    about = f"(default: {' '.join(map(str, values))})"
    parser.add_argument(name, nargs="+", type=kind, default=values, metavar="X", help=about)


def sweep_parser() -> Parser:
    usage = "--output DIR --vary NAME=VALUE,VALUE,... [options of tmkt train]"
    parser = _parser("sweep", usage, SWEEP_DESCRIPTION, SWEEP_EXAMPLES)
    add, name = parser.add_argument, "NAME=VALUE"
    add("--output", required=True, metavar="DIR", help="folder of the jobs and of the table")
    about = (
        "values of an option of tmkt train (true, false for a switch), which win over a fixed one"
    )
    add("--vary", action="append", default=[], metavar=f"{name},VALUE,...", help=about)
    about = "what differences are taken to (default: %(default)s)"
    add("--against", default="=".join(REFERENCE), metavar=name, help=about)
    return parser
