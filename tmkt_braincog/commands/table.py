"""``tmkt table``: the paper's tables, others made like them, few-shot curves and sweeps of any options."""

import argparse

from .. import experiments
from ..arguments import Parser, natural, positive_int
from ..errors import unknown_name
from ..experiments.axes import REFERENCE
from ..experiments.table_file import RECIPES, Table, listed, load_table

EXAMPLES = """\
examples:
  tmkt table table2 --data ndigits --jobs 2
      The ablation of TSM, MAG and MRP on the built-in data, five seeds, two runs at once.
  tmkt table own.yaml --data nmnist-fewshot --data-root DATA --shots 5
      A table of your own: copy one of tmkt_braincog/tables/ and change its rows.
  tmkt table sweep --output results/ratios --vary mixup-ratio=0.3,0.4,0.5 --vary seed=1,2,3
      Every combination once, and one table."""
TABLE_DESCRIPTION = """\
Run all rows of {name} ({title}) with all seeds and write {name}.{{csv,md,tex,png,pdf}}
and the curves over epochs into --output. Given again, the command goes on where it stopped; tables share
the runs that they have in common. Words that are not listed below go to every run (see tmkt train --help)."""
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
table. All words that are not listed below go to every job as they are (see tmkt train --help);
what they say is checked for all jobs before the first one starts. Given again, the command goes on where
it stopped; more values may be added. The table holds the runs that the command names."""
SWEEP_EXAMPLES = """\
examples:
  tmkt table sweep --output results/ratios --jobs 2 --vary method=baseline,tmkt --vary mixup-ratio=0.3,0.4,0.5 \\
      --vary seed=42,1024,90210 --target-dataset ndigits
      The baseline, which has no mixup ratio, runs once per seed and is compared with every ratio.
  tmkt table sweep --output results/threshold --vary threshold=0.5,1 --against threshold=0.5 --vary seed=1,2,3
      Differences are taken to one of the values.
  tmkt table sweep --output results/ratios --slurm partition=gpu time=720 gpus_per_node=1 array_parallelism=8 ...
      As a SLURM job array; needs pip install 'tmkt-braincog[slurm]'."""
FEWSHOT_DESCRIPTION = """\
Accuracy against shots on real N-MNIST: event-only, baseline and TMKT with one recipe. Every (shots, seed) is
one process that runs all methods; finished runs are kept, so the command can be given again after an
interruption."""
FEWSHOT_EXAMPLES = """\
examples:
  tmkt table fewshot --data-root DATA
      The published curve: 1, 2, 5, 10 and 50 shots, five seeds, two processes.
  tmkt table fewshot --data-root DATA --shots 5 --seed 1 2 3 --output results/five
      Part of it.
  tmkt table fewshot --data-root DATA --method event-only baseline tmkt tmkt+ckd --recipe own.yaml --output results/own
      Other methods with settings of your own."""


def run(argv: list[str]) -> int:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if name == "fewshot":
        options = fewshot_parser().parse_args(words)
        from ..experiments import fewshot

        print(fewshot.run_all(options))
    elif name == "sweep":
        own, fixed = sweep_parser().parse_known_args(words)
        from ..experiments import sweep

        print(sweep.run(own, fixed, words))
    else:
        table = load_table(name)
        own, fixed = table_parser(table).parse_known_args(words)
        if own.data not in RECIPES:
            raise unknown_name("--data", own.data, RECIPES)
        from ..experiments import tables

        print(tables.run(table, own, fixed, argv))
    return 0


def _help() -> str:
    about = listed() | experiments.TABLES
    lines = [f"  {name:12}{what}" for name, what in about.items()]
    usage = "usage: tmkt table NAME [options]   (tmkt table NAME --help for its options)"
    return "\n".join([usage, "", "tables, or a YAML file of your own:", *lines, "", EXAMPLES])


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs`` or ``--slurm``, and ``--dry-run`` or ``--collect``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="jobs at once; they share cores and GPUs",
    )
    where.add_argument(
        "--slurm",
        nargs="+",
        type=_slurm_parameter,
        metavar="KEY=VALUE",
        help="submit a SLURM job array and wait for it; parameters of submitit: time (minutes, of one job), partition, "
        "gpus_per_node, cpus_per_task, mem, array_parallelism, ...",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run", action="store_true", help="print the jobs and what is finished, start nothing"
    )
    what.add_argument(
        "--collect", action="store_true", help="only write the table of the finished jobs"
    )


def _slurm_parameter(text: str) -> tuple[str, int | str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, such as partition=gpu, seen {text}")
    return key, int(value) if value.isdigit() else value


def _parser(name: str, usage: str, description: str, examples: str) -> Parser:
    return Parser(
        prog=f"tmkt table {name}",
        usage=f"%(prog)s {usage}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def table_parser(table: Table) -> argparse.ArgumentParser:
    extra = NEEDS.get(table.name, "")
    description = TABLE_DESCRIPTION.format(name=table.name, title=table.title)
    examples = TABLE_EXAMPLES.format(name=table.name, extra=extra)
    parser = _parser(
        table.name, "--data NAME [options] [options of tmkt train]", description, examples
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
    add(
        "--output", metavar="DIR", help="folder of runs and tables (default: results/tables/<data>)"
    )
    add_where(parser)
    return parser


def sweep_parser() -> argparse.ArgumentParser:
    usage = "--output DIR --vary NAME=VALUE,VALUE,... [options of tmkt train]"
    parser = _parser("sweep", usage, SWEEP_DESCRIPTION, SWEEP_EXAMPLES)
    add = parser.add_argument
    add("--output", required=True, metavar="DIR", help="folder of the jobs and of the table")
    add(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE,...",
        help="values of an option of tmkt train (true, false for a switch), which win over a fixed one; for every "
        "option that varies",
    )
    add(
        "--against",
        default="=".join(REFERENCE),
        metavar="NAME=VALUE",
        help="what differences are taken to (default: %(default)s)",
    )
    add_where(parser)
    return parser


def fewshot_parser() -> argparse.ArgumentParser:
    parser = _parser("fewshot", "--data-root DIR [options]", FEWSHOT_DESCRIPTION, FEWSHOT_EXAMPLES)
    add = parser.add_argument
    add("--data-root", required=True, metavar="DIR", help="folder with NMNIST/ and MNIST/")
    add(
        "--recipe",
        default="nmnist_fewshot",
        metavar="NAME",
        help="recipe, or YAML file, of the options that all runs share (default: %(default)s)",
    )
    add(
        "--shots",
        type=positive_int,
        nargs="+",
        default=[1, 2, 5, 10, 50],
        metavar="K",
        help="recordings per class (default: 1 2 5 10 50)",
    )
    add(
        "--seed",
        type=natural,
        nargs="+",
        default=[1, 2, 3, 4, 5],
        metavar="N",
        help="(default: 1 2 3 4 5)",
    )
    add(
        "--method",
        nargs="+",
        default=["event-only", "baseline", "tmkt"],
        metavar="NAME",
        help="(default: event-only baseline tmkt)",
    )
    add(
        "--jobs",
        type=positive_int,
        default=2,
        metavar="N",
        help="processes at once (default: %(default)s)",
    )
    add("--output", default="results/nmnist_fewshot", metavar="DIR", help="(default: %(default)s)")
    return parser
