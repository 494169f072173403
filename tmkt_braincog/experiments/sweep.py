"""Any options of main_transfer.py varied: a grid of independent runs, and one table of them."""

import argparse
import hashlib
import re
import shlex
import sys
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, compress, product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..analysis.table import COLUMNS, read_csv, summarise
from ..arguments import GENERAL_GROUPS, Parser, build_parser, group_options, positive_int
from ..engine.train import same_run
from ..errors import UserError
from ..files import replacing
from ..methods import METHODS
from ..options import NOT_IDENTITY, identity, parse, resolve
from .jobs import Job, JobsFailed, check, program, run

PROGRAM = "python -m tmkt_braincog.experiments.sweep"
REFERENCE = ("method", "baseline")
LONGEST_NAME = 120
DESCRIPTION = """\
Run main_transfer.py with all combinations of the given values, each as a job of its own, and write one
table. All words that are not listed below go to every job as they are (see main_transfer.py --help);
what they say is checked for all jobs before the first one starts. Given again, the command goes on where
it stopped; more values may be added. The table holds the runs that the command names."""
EPILOG = f"""\
examples:
  {PROGRAM} --output results/ratios --jobs 2 --vary method=baseline,tmkt --vary mixup-ratio=0.3,0.4,0.5 \\
      --vary seed=42,1024,90210 --target-dataset ndigits
      The baseline, which has no mixup ratio, runs once per seed and is compared with every ratio.
  {PROGRAM} --output results/ratios --slurm partition=gpu time=720 gpus_per_node=1 array_parallelism=8 ...
      The same as a SLURM job array; needs pip install 'tmkt-braincog[slurm]'."""


@dataclass(frozen=True)
class Axis:
    """A varied option.

    Attributes:
        name: as on the command line, without dashes.
        dest: as in the resolved options.
        choices: for each value the words that give it.
    """

    name: str
    dest: str
    choices: tuple[tuple[str, ...], ...]

    def value(self, options: Namespace) -> str:
        """What the option is in these options, as text; true or false for a switch."""
        value = getattr(options, self.dest)
        (value,) = value if isinstance(value, list) else [value]
        return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Run:
    """One job of the grid and, by option, the values that it stands for: those that its method takes."""

    job: Job
    settings: dict[str, str]


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, 2 for bad input or failed jobs, 128 + N after signal N."""
    return program(lambda: _main(sys.argv[1:] if argv is None else argv))


def _main(argv: list[str]) -> str:
    own, fixed = sweep_parser().parse_known_args(argv)
    output = Path(own.output)
    axes = find_axes(own.vary, fixed)
    runs, remarks = grid(output, axes, fixed)
    jobs = [one.job for one in runs]
    check_folder(output, runs, axes)
    against = _reference(own.against, runs, axes)
    if not own.collect:
        check(jobs)
    for line in remarks:
        print(line)
    if own.dry_run:
        return _plan_text(jobs)
    try:
        if not own.collect:
            _run(own, output, jobs)
    except JobsFailed:
        if any(job.finished() for job in jobs):
            print(write_table(output, runs, axes, against, argv))
        raise
    return write_table(output, runs, axes, against, argv)


def sweep_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s --output DIR --vary NAME=VALUE,VALUE,... [options of main_transfer.py]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the jobs and of the table")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE,...",
        help="values of an option of main_transfer.py (true, false for a switch), which win over a fixed one; for every "
        "option that varies",
    )
    parser.add_argument(
        "--against",
        default="=".join(REFERENCE),
        metavar="NAME=VALUE",
        help="what differences are taken to (default: %(default)s)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="jobs at once; they share cores and GPUs"
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
    what.add_argument("--collect", action="store_true", help="only write the table of the finished jobs")
    return parser


def _slurm_parameter(text: str) -> tuple[str, int | str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, such as partition=gpu, seen {text}")
    return key, int(value) if value.isdigit() else value


def find_axes(vary: Sequence[str], fixed: Sequence[str]) -> list[Axis]:
    """The varied options, the seed first: the jobs then finish one whole seed after the other.

    Several methods or seeds among the fixed options are varied too.

    Raises:
        UserError: options that are unknown, twice there, or cannot be varied or given.
    """
    given = parse(list(fixed))
    for name in ("eval", "eval_checkpoint", "resume"):
        if name in given:
            raise UserError(f"--{name} is for main_transfer.py; a sweep goes on by itself. Leave it away.")
    axes = [_axis(text) for text in vary]
    names = [axis.name for axis in axes]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise UserError(f"--vary {double.pop()} is there twice: give all its values at once.")
    for name in ("method", "seed"):
        values = [str(v) for v in getattr(given, name, [])]
        if len(values) > 1 and name not in names:
            axes.append(_axis(f"{name}={','.join(values)}"))
    return sorted(axes, key=lambda axis: axis.name != "seed")


def _reference(text: str, runs: Sequence[Run], axes: Sequence[Axis]) -> tuple[str, str]:
    """Column and value of ``--against``; the default need not be among the axes."""
    name, _, value = text.partition("=")
    if (name, value) == REFERENCE:
        return REFERENCE
    known = [f"{a.name}={v}" for a in axes if a.name != "seed" for v in _values(a, runs)]
    if text not in known:
        raise UserError(f"--against {text}: expected one of {', '.join(known) or 'the values of --vary'}.")
    return next(axis.dest for axis in axes if axis.name == name), value


def _values(axis: Axis, runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.settings[axis.name] for run in runs if axis.name in run.settings))


def _axis(text: str) -> Axis:
    name, _, values = text.partition("=")
    values = values.split(",")
    if "" in (name, *values):
        raise UserError(f"--vary {text}: expected NAME=VALUE,VALUE,..., such as mixup-ratio=0.3,0.4.")
    if len(set(values)) < len(values):
        raise UserError(f"--vary {text} names the same value twice.")
    parser = build_parser()
    action = _actions(parser).get(name.replace("_", "-"))
    if action is None:
        parser.error(f"unrecognized arguments: --{name}")
    if action.dest in (*NOT_IDENTITY, "help"):
        raise UserError(f"--vary {text}: --{name} changes no result. Give it as it is, for all jobs.")
    return Axis(name.replace("_", "-"), action.dest, tuple(_words(action, name, value) for value in values))


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options by their long names, without dashes."""
    return {
        word[2:]: action
        for action in parser._actions
        for word in action.option_strings
        if word.startswith("--") and not word.startswith("--no-")
    }


def _words(action: argparse.Action, name: str, value: str) -> tuple[str, ...]:
    name = name.replace("_", "-")
    if action.nargs != 0:
        return (f"--{name}={value}",)
    if value not in ("true", "false"):
        raise UserError(f"--vary {name}: expected true, false or both, seen {value!r}.")
    if value == "true":
        return (f"--{name}",)
    return (f"--no-{name}",) if isinstance(action, BooleanOptionalAction) else ()


def grid(output: Path, axes: Sequence[Axis], fixed: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The jobs of all combinations, each once, and remarks on those that fall together.

    An option that a method does not take is left out for it: combinations that differ only there are one job.

    Raises:
        UserError: a combination that main_transfer.py would refuse.
    """
    runs: dict[tuple, Run] = {}
    given: dict[tuple, tuple] = {}  # the words behind the values
    taken: dict[str, dict[str, list[bool]]] = {}  # by method and option, for every combination
    for combination in product(*(axis.choices for axis in axes)):
        options, _ = resolve(parse([*fixed, *chain(*combination)]))
        own = [takes(options, axis.dest) for axis in axes]
        settings = {axis.name: axis.value(options) for axis in compress(axes, own)}
        words = tuple(compress(combination, own))
        key = tuple(settings.items())
        if given.setdefault(key, words) != words:
            raise UserError(
                f"--vary gives the same settings twice: {_text(settings)}. Name every value once."
            )
        if key not in runs:
            name = folder_name(settings)
            job = Job.from_words(name, output / "jobs" / name, [*fixed, *chain(*words)])
            runs[key] = Run(job, settings)
        by_option = taken.setdefault(options.method[0], {})
        for axis, is_taken in zip(axes, own, strict=True):
            by_option.setdefault(axis.name, []).append(is_taken)
    return list(runs.values()), list(_remarks(taken))


def _remarks(taken: dict[str, dict[str, list[bool]]]) -> Iterable[str]:
    for method, by_option in taken.items():
        never = [f"--{name}" for name, seen in by_option.items() if not any(seen)]
        partly = [f"--{name}" for name, seen in by_option.items() if any(seen) and not all(seen)]
        if never:
            yield f"{method} does not take {', '.join(never)}: run once."
        if partly:
            yield f"{method} does not take {', '.join(partly)} in some of the combinations: run once there."


def takes(options: Namespace, dest: str) -> bool:
    """Whether the run of these options depends on this one.

    All do that no registered method is built from (such as ``--epochs``), and those of the :data:`~tmkt_braincog.arguments.GENERAL_GROUPS`; the
    others where the run's method reads them.
    """
    return dest not in _of_methods() or dest in _reads(options.method[0], options)


@cache
def _of_methods() -> set[str]:
    defaults, _ = resolve(parse(["--method", *METHODS]))
    return set().union(*(_reads(name, defaults) for name in METHODS)) - group_options(GENERAL_GROUPS)


class _Recorder:
    """Options that remember which of them were read."""

    def __init__(self, options: Namespace):
        self._options, self.read = options, set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._options, name)


def _reads(method: str, options: Namespace) -> set[str]:
    recorder = _Recorder(options)
    METHODS[method].from_options(recorder, features=1)
    return recorder.read


def folder_name(settings: dict[str, str]) -> str:
    """A readable file name, different for different settings."""
    text = _text(settings, "_", "-") or "run"
    name = re.sub(r"[^\w.+-]", "-", text, flags=re.ASCII)[:LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _text(settings: dict[str, str], between: str = ", ", equals: str = " ") -> str:
    return between.join(f"{name}{equals}{value}" for name, value in settings.items())


def check_folder(output: Path, runs: Sequence[Run], axes: Sequence[Axis]) -> None:
    """Refuse a folder that holds something else, or a sweep with other fixed options.

    Raises:
        UserError: with the options that differ.
    """
    if output.exists() and not (output / "jobs").is_dir() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"The output folder {output} holds other files: choose an empty or a new one.")
    varied = {"method", "seed", *NOT_IDENTITY, *(axis.dest for axis in axes)}

    def shared(options: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in options.items() if k not in varied and v is not None}

    here = [shared(identity(run.job.options)) for run in runs]
    for config in sorted(output.glob("jobs/*/config.yaml")):
        there = shared(yaml.safe_load(config.read_text()))
        if there not in here:
            same_run(there, here[0], f"The sweep in {output} ({config.parent.name})")


def _plan_text(jobs: Sequence[Job]) -> str:
    def state(job: Job) -> str:
        return "finished" if job.finished() else "begun" if job.folder.exists() else "new"

    states = [state(job) for job in jobs]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "begun", "new"))
    lines = [
        f"{s:8}  {shlex.join(['python', *job.command[1:]])}" for s, job in zip(states, jobs, strict=True)
    ]
    return "\n".join([f"{len(jobs)} jobs: {counts}", *lines])


def _run(own: Namespace, output: Path, jobs: Sequence[Job]) -> None:
    print(
        f"{len(jobs)} jobs, {sum(job.finished() for job in jobs)} of them finished; logs in {output}/jobs/*.log"
    )
    if own.jobs > 1 or own.slurm:
        # Their times depend on what else was running.
        _shared_marker(output).parent.mkdir(parents=True, exist_ok=True)
        _shared_marker(output).touch()
    run(jobs, own.jobs, dict(own.slurm) if own.slurm else None, output / "slurm")


def _shared_marker(output: Path) -> Path:
    return output / "jobs" / ".several-at-once"


def write_table(
    output: Path, runs: Sequence[Run], axes: Sequence[Axis], against: tuple[str, str], argv: Sequence[str]
) -> str:
    """Write ``sweep.csv`` (one row per run) and ``sweep.md``; returns the latter.

    Raises:
        UserError: no run is finished.
    """
    finished = [one for one in runs if one.job.finished()]
    if not finished:
        raise UserError(f"No job of this sweep is finished in {output}: run it without --collect.")
    rows = collect(finished, axes)
    without = ["train_s", "peak_mib"] if _shared_marker(output).exists() else []
    with replacing(output / "sweep.csv") as temporary:
        rows.drop(columns=without).to_csv(temporary, index=False)
    names = [axis.dest for axis in axes if axis.dest not in ("method", "seed")]
    lines = [
        f"# Sweep: {_title(finished, axes)}",
        "",
        *_aligned(cells(rows, names, against)),
        "",
        *_legend(runs, finished, against, argv),
    ]
    text = "\n".join(lines) + "\n"
    with replacing(output / "sweep.md") as temporary:
        temporary.write_text(text)
    return f"{text}\nWritten: {output}/sweep.csv, .md"


def collect(runs: Sequence[Run], axes: Sequence[Axis]) -> pd.DataFrame:
    """One row per finished run: the varied options, blank where the method does not take them, and the
    columns of its ``comparison.csv``."""
    tables = []
    for one in runs:
        table = read_csv(one.job.folder / "comparison.csv")
        for axis in reversed([axis for axis in axes if axis.dest not in COLUMNS]):
            table.insert(0, axis.dest, one.settings.get(axis.name, ""))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def cells(rows: pd.DataFrame, names: Sequence[str], against: tuple[str, str] = REFERENCE) -> list[list[str]]:
    """The table over seeds as text, header first.

    The difference is that of :func:`~tmkt_braincog.analysis.table.summarise` to the reference with the same values of the
    other options that both take; blank where there is no such reference, or more than one.

    Args:
        rows: from :func:`collect`.
        names: columns of the varied options, without method and seed.
        against: column and value of the reference.
    """
    head = [*(name.replace("_", "-") for name in names), "method", "seeds"]
    body = [[*head, "last epoch", "difference [95 % CI]", "best epoch", "difference [95 % CI]"]]
    parts = [part for _, part in rows.groupby([*names, "method"], sort=False)]
    column, value = against
    references = [part for part in parts if part[column].iloc[0] == value]
    others = [name for name in (*names, "method") if name != column]
    for part in parts:
        first = part.iloc[0]
        fitting = [r for r in references if _agree(first, r.iloc[0], others)]
        own = [part.assign(method="this")]
        if first[column] != value and len(fitting) == 1:
            own += [fitting[0].assign(method="reference")]
        summary = summarise(pd.concat(own), "reference").iloc[0]
        settings = [str(first[name]) or "-" for name in names]
        row = [*settings, first["method"], str(summary["n"])]
        for kind in ("last", "best"):
            row += [_mean(summary, kind), _difference(summary, kind)]
        body.append(row)
    return body


def _agree(a: pd.Series, b: pd.Series, names: Sequence[str]) -> bool:
    return all(a[name] == b[name] for name in names if a[name] != "" and b[name] != "")


def _mean(row: pd.Series, kind: str) -> str:
    mean, std = row[f"{kind}_mean"], row[f"{kind}_std"]
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def _difference(row: pd.Series, kind: str) -> str:
    mean, low, high = (row[f"{kind}_{name}"] for name in ("diff", "low", "high"))
    if pd.isna(mean):
        return "-"
    interval = "-" if pd.isna(low) else f"{low:+.2f}, {high:+.2f}"
    pairs = "" if row["n_paired"] == row["n"] else f" ({row['n_paired']} seeds)"
    return f"{mean:+.2f} [{interval}]{pairs}"


def _aligned(table: list[list[str]]) -> list[str]:
    """A Markdown table that can be read as it stands."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    header, *body = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in table]
    return [f"| {' | '.join(row)} |" for row in (header, ["-" * w for w in widths], *body)]


def _title(runs: Sequence[Run], axes: Sequence[Axis]) -> str:
    options, varied = runs[0].job.options, {axis.dest for axis in axes}
    parts = {
        "target_dataset": options.target_dataset,
        "model": options.model,
        "step": f"T = {options.step}",
        "protocol": f"protocol {options.protocol}",
    }
    return ", ".join(text for dest, text in parts.items() if dest not in varied)


def _legend(
    runs: Sequence[Run], finished: Sequence[Run], against: tuple[str, str], argv: Sequence[str]
) -> list[str]:
    column, value = against
    reference = value if column == "method" else f"--{column.replace('_', '-')} {value}"
    lines = [
        "- Top-1 (%), mean ± sample standard deviation over seeds. Best epoch: on the validation recordings where there "
        "are any, else on the test set.",
        f"- Difference: paired over seeds, to {reference} with the same values of the options that both take, if there is just one.",
        "- `-` under an option: the method does not take it.",
    ]
    if len(finished) < len(runs):
        missing = [one.job.name for one in runs if one not in finished]
        lines.append(f"- NOT COMPLETE, {len(finished)} of {len(runs)} runs; missing: {', '.join(missing)}.")
    notes = (_notes(one.job.folder) for one in finished)
    return [*lines, *dict.fromkeys(chain(*notes)), f"- Made by `{PROGRAM} {shlex.join(argv)}`"]


def _notes(folder: Path) -> list[str]:
    """What the run's own table says about its data."""
    text = (folder / "comparison.md").read_text()
    return [line for line in text.splitlines() if line.startswith("- note: ")]


if __name__ == "__main__":
    sys.exit(main())
