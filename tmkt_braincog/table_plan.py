"""The runs that a table means: its rows' options, or all combinations of a sweep, as jobs."""

import argparse
import hashlib
import re
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, product
from pathlib import Path
from typing import Any

import yaml

from .arguments import build_parser
from .engine.checkpoint import same_run
from .errors import UserError
from .jobs import Job
from .methods import teachers_of
from .methods.names import takes
from .options import NOT_IDENTITY, identity, parse, resolve
from .tables import REFERENCE, Row, Table
from .teacher import load_teacher, teacher_path

LONGEST_NAME = 120


@dataclass(frozen=True)
class Run:
    """What one row and seed is read from: the method's line of a job's table."""

    row: str
    method: str
    seed: int
    job: Job


@dataclass(frozen=True)
class Axis:
    """An option that varies: its name, that in the options, and the words of every value."""

    name: str
    dest: str
    choices: tuple[tuple[str, ...], ...]

    def value(self, options: Namespace) -> str:
        """What the option is in these options, as text; true or false for a switch."""
        value = getattr(options, self.dest)
        return _text(value[0] if isinstance(value, list) else value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def make_axis(name: str, values: Sequence[str], where: str) -> Axis:
    """The axis of an option and its values; a UserError where there is no such option or value."""
    if "" in (name, *values):
        raise UserError(f"{where}: expected NAME=VALUE,VALUE,..., such as mixup-ratio=0.3,0.4.")
    if len(set(values)) < len(values):
        raise UserError(f"{where} names the same value twice.")
    parser, name = build_parser(), name.replace("_", "-")
    action = parser._option_string_actions.get(f"--{name}")
    if action is None or name.startswith("no-"):  # of a switch false is the value
        parser.error(f"unrecognized arguments: --{name}")
    if action.dest in (*NOT_IDENTITY, "help"):
        raise UserError(f"{where}: --{name} changes no result. Give it as it is, for all jobs.")
    return Axis(name, action.dest, tuple(_words(action, name, value) for value in values))


def _words(action: argparse.Action, name: str, value: str) -> tuple[str, ...]:
    if action.nargs != 0:
        return (f"--{name}={value}",)
    if value not in ("true", "false"):
        raise UserError(f"--vary {name}: expected true, false or both, seen {value!r}.")
    if value == "true":
        return (f"--{name}",)
    return (f"--no-{name}",) if isinstance(action, BooleanOptionalAction) else ()


def _axes(options: Mapping[str, Any], where: str) -> list[Axis]:
    return [make_axis(name, [_text(value)], where) for name, value in options.items()]


def check_fixed(words: Sequence[str]) -> Namespace:
    """The options for every run, as given; a UserError for those that many runs cannot share."""
    given = parse(list(words))
    for name in ("eval", "eval_checkpoint", "resume"):
        if name in given:
            raise UserError(
                f"--{name} is for tmkt train; a table goes on by itself: leave it away."
            )
    return given


def leave_out(table: Table, words: Sequence[str], seed: int) -> tuple[Table, list[str]]:
    """Where the table allows it, rows whose teachers are not given become published ones.

    Claims that name such a row go too. A row that others refer to stays; its missing teacher is an
    error later. ``seed`` is one whose teachers tell what they were trained on.

    Returns:
        The table, and the names of these rows.

    Raises:
        UserError: a teacher that is named but missing or damaged.
    """
    if not table.optional_teachers:
        return table, []
    given = getattr(parse(list(words)), "teacher_checkpoint", None) or ()
    kinds = {load_teacher(teacher_path(text, seed)).on for text in given}
    needed = {r.name: teachers_of([r.options.get("method", "tmkt")]) for r in table.run_rows()}
    references = table.references().values()
    lacking = [name for name, of in needed.items() if of - kinds and name not in references]
    rows = tuple(replace(row, options={}) if row.name in lacking else row for row in table.rows)
    claims = tuple(c for c in table.claims if not {c["better"], c["worse"]} & set(lacking))
    return replace(table, rows=rows, claims=claims), lacking


def plan(table: Table, output: Path, fixed: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Every row with every seed, seed by seed. Rows that mean one run share its folder.

    Raises:
        UserError: a row that ``tmkt train`` refuses, a seed twice, or a word for what rows set.
    """
    given = {word.split("=")[0] for word in fixed}
    for option in {"method"}.union(set.intersection(*(set(r.options) for r in table.run_rows()))):
        if f"--{option}" in given:
            raise UserError(f"--{option} belongs to the rows of {table.name}: leave it away.")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seed names the same value twice: {seeds}.")
    make = _together if table.folder else _apart
    return [run for seed in sorted(seeds) for run in make(table, output, fixed, seed)]


def _apart(table: Table, output: Path, fixed: Sequence[str], seed: int) -> Iterator[Run]:
    """Every row a job, in a folder that is named by what the row changes."""
    for row in table.run_rows():
        axes = _axes(row.options, f"{table.name}, row {row.name}")
        own = [*chain(*(axis.choices[0] for axis in axes)), f"--seed={seed}"]
        options, _ = resolve(parse([*fixed, *own]))
        (method,) = options.method
        plain, _ = resolve(parse([*fixed, f"--method={method}", f"--seed={seed}"]))
        changed = {
            axis.name: axis.value(options)
            for axis in axes
            if takes(options, axis.dest) and axis.value(options) != axis.value(plain)
        }
        name = folder_name({"seed": str(seed), "method": method, **changed})
        job = Job.from_words(name, output / "jobs" / name, [*fixed, *own])
        yield Run(row.name, method, seed, job)


def _together(table: Table, output: Path, fixed: Sequence[str], seed: int) -> Iterator[Run]:
    """Rows that differ in the method alone as one job, in the table's folder for them."""
    groups: dict[tuple, list[Row]] = {}
    for row in table.run_rows():
        key = tuple((k, v) for k, v in row.options.items() if k != "method")
        groups.setdefault(key, []).append(row)
    for key, rows in groups.items():
        settings = {**dict(key), "seed": seed}
        words = chain(*(axis.choices[0] for axis in _axes(settings, table.name)))
        methods = ["--method", *(row.options["method"] for row in rows)]
        folder = output / str(table.folder).format(**settings)
        job = Job.from_words(in_words(settings), folder, [*fixed, *words, *methods])
        for row, method in zip(rows, job.options.method, strict=True):
            yield Run(row.name, method, seed, job)


def folder_name(settings: Mapping[str, str]) -> str:
    """A readable file name, different for different settings."""
    text = in_words(settings, "_", "-") or "run"
    name = re.sub(r"[^\w.+-]", "-", text, flags=re.ASCII)[:LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def in_words(settings: Mapping[str, Any], between: str = ", ", equals: str = " ") -> str:
    return between.join(f"{name}{equals}{value}" for name, value in settings.items())


def find_axes(vary: Sequence[str], fixed: Sequence[str]) -> list[Axis]:
    """The varied options, the seed first: one whole seed is then run after the other.

    Several methods or seeds among the fixed options are varied too.
    """
    given = check_fixed(fixed)
    axes = []
    for text in vary:
        name, _, its = text.partition("=")
        axes.append(make_axis(name, its.split(","), f"--vary {text}"))
    names = [axis.name for axis in axes]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise UserError(f"--vary {double.pop()} is there twice: give all its values at once.")
    for name in ("method", "seed"):
        values = [str(v) for v in getattr(given, name, [])]
        if len(values) > 1 and name not in names:
            axes.append(make_axis(name, values, f"--{name}"))
    return sorted(axes, key=lambda axis: axis.name != "seed")


def sweep(
    output: Path, axes: Sequence[Axis], fixed: Sequence[str], against: str = "=".join(REFERENCE)
) -> tuple[Table, list[Run]]:
    """All combinations, each once, as a table whose notes say which of them fall together.

    An option that a method does not take is left out: combinations that differ only there are one
    job. Differences are to the row with the value ``against`` and the same values of the other
    options that both take, if there is just one.

    Raises:
        UserError: a combination that ``tmkt train`` would refuse, or ``against`` no value there.
    """
    runs, rows = [], {}
    words_of: dict[tuple, tuple] = {}  # by settings, the words behind them
    taken: dict[str, list[list[bool]]] = {}  # by method
    for combination in product(*(axis.choices for axis in axes)):
        options, _ = resolve(parse([*fixed, *chain(*combination)]))
        own = [takes(options, axis.dest) for axis in axes]
        taken.setdefault(options.method[0], []).append(own)
        settings = {axis.name: axis.value(options) for axis in compress(axes, own)}
        key, words = tuple(settings.items()), tuple(compress(combination, own))
        if words_of.get(key, words) != words:
            twice = f"--vary gives the same settings twice: {in_words(settings)}"
            raise UserError(f"{twice}. Name every value once.")
        if key not in words_of:
            name = folder_name(settings)
            job = Job.from_words(name, output / "jobs" / name, [*fixed, *chain(*words)])
            (method,), (seed,) = options.method, options.seed
            of_row = {name: v for name, v in settings.items() if name not in ("seed", "method")}
            labels = of_row | {"method": method}
            rows[in_words(labels)] = labels
            runs.append(Run(in_words(labels), method, seed, job))
        words_of[key] = words
    names = [axis.name for axis in axes if axis.name not in ("seed", "method")]
    return _sweep_table(names, rows, against, list(_remarks(axes, taken))), runs


def _sweep_table(
    names: list[str], rows: Mapping[str, dict[str, str]], against: str, remarks: list[str]
) -> Table:
    column, _, value = against.partition("=")
    known = dict.fromkeys(f"{k}={v}" for labels in rows.values() for k, v in labels.items())
    if against not in known and (column, value) != REFERENCE:
        expected = ", ".join(known) or "the values of --vary"
        raise UserError(f"--against {against}: expected one of {expected}.")

    def reference(labels: dict[str, str]) -> str | None:
        others = labels.items() - {(column, labels.get(column))}
        fitting = [
            name
            for name, theirs in rows.items()
            if theirs.get(column) == value and all(theirs.get(k, v) == v for k, v in others)
        ]
        return fitting[0] if len(fitting) == 1 else None

    made = []
    for name, own in rows.items():
        shown = dict.fromkeys(names, "-") | own
        made.append(Row(name, own, reference=reference(own) or name, labels=shown))
    of = f" of {', '.join(names)}" if names else ""
    to = value if column == "method" else f"--{column} {value}"
    return Table("sweep", f"Sweep{of}", to, tuple(made), notes=remarks)


def _remarks(axes: Sequence[Axis], taken: Mapping[str, list[list[bool]]]) -> Iterator[str]:
    for method, combinations in taken.items():
        some: dict[str, list[str]] = {
            ": run once.": [],
            " in some of the combinations: run once there.": [],
        }
        never, partly = some.values()
        for axis, seen in zip(axes, zip(*combinations, strict=True), strict=True):
            if not all(seen):
                (partly if any(seen) else never).append(f"--{axis.name}")
        yield from (
            f"{method} does not take {', '.join(of)}{end}" for end, of in some.items() if of
        )


def check_sweep(output: Path, runs: Sequence[Run], axes: Sequence[Axis]) -> None:
    """Refuse a folder that holds something else, or a sweep with other fixed options."""
    used = output.exists() and not (output / "jobs").is_dir()
    if used and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"The output folder {output} holds other files: choose an empty one.")
    varied = {"method", "seed", *NOT_IDENTITY, *(axis.dest for axis in axes)}

    def shared(options: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in options.items() if k not in varied and v is not None}

    here = [shared(identity(run.job.options)) for run in runs]
    for config in sorted(output.glob("jobs/*/config.yaml")):
        there = shared(yaml.safe_load(config.read_text()))
        if there not in here:
            same_run(there, here[0], f"The sweep in {output} ({config.parent.name})")
