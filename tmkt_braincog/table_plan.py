"""The runs that a table means: its rows' options, or all combinations of a sweep, as jobs."""

import hashlib
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from .arguments import build_parser, names_by_word
from .errors import UserError
from .jobs import Job
from .methods import teachers_of
from .methods.names import takes
from .options import NOT_IDENTITY, identity, parse, refuse_twice, resolve, words_for
from .tables import Row, Table
from .teacher import load_teacher, teacher_path

LONGEST_NAME = 120
SWITCH = {"true": True, "false": False}


@dataclass(frozen=True)
class Planned:
    """What one row and seed is read from: the method's line of a job's table."""

    row: str
    method: str
    seed: int
    job: Job


def jobs_of(runs: Sequence[Planned]) -> list[Job]:
    """The jobs behind these rows, some behind several; a UserError for two jobs in one folder."""
    jobs: dict[Path, Job] = {}
    for job in (run.job for run in runs):
        first = jobs.setdefault(job.folder, job)
        if identity(first.options) != identity(job.options):
            raise UserError(f"Rows with different options would share the folder {job.folder}.")
    return list(jobs.values())


def _text(options: Namespace, name: str) -> str:
    """The value of the option that this word sets, such as ``true`` for a switch."""
    value = getattr(options, names_by_word()[f"--{name}"])
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.lower() if isinstance(value, bool) else text


def _taken(options: Namespace, names: Iterable[str]) -> dict[str, str]:
    """Of the options with these words those that the run depends on, with their values."""
    known = names_by_word()
    return {name: _text(options, name) for name in names if takes(options, known[f"--{name}"])}


def folder_name(settings: Mapping[str, str]) -> str:
    """A readable file name, different for different settings."""
    text = in_words(settings, "_", "-") or "run"
    name = re.sub(r"[^\w.+-]", "-", text, flags=re.ASCII)[:LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def in_words(settings: Mapping[str, Any], between: str = ", ", equals: str = " ") -> str:
    return between.join(f"{name}{equals}{value}" for name, value in settings.items())


def check_fixed(words: Sequence[str]) -> Namespace:
    """The options for every run, as given; a UserError for those that many runs cannot share."""
    given = parse(list(words))
    for name in {"eval", "eval_checkpoint", "resume"} & {*vars(given)}:
        raise UserError(f"--{name} is for tmkt train; a table goes on by itself: leave it away.")
    return given


def leave_out(table: Table, words: Sequence[str], seed: int) -> tuple[Table, list[str]]:
    """Where the table allows it, rows whose teachers are not given become published ones.

    Claims that name such a row go too. A row that others refer to stays; its missing teacher is an
    error later. Returns the table and these rows' names; ``seed`` is one whose teachers are there.
    """
    if not table.optional_teachers:
        return table, []
    given, rows = vars(parse(list(words))), table.run_rows()
    shots, paths = {**given, **rows[0].options}.get("shots"), given.get("teacher_checkpoint")
    kinds = {load_teacher(teacher_path(text, seed, shots)).on for text in paths or ()}
    needed = {r.name: teachers_of([r.options.get("method", "tmkt")]) for r in rows}
    references = table.references().values()
    lacking = [name for name, of in needed.items() if of - kinds and name not in references]
    kept = [replace(row, options={}) if row.name in lacking else row for row in table.rows]
    return table.with_rows(kept), lacking


def plan(table: Table, output: Path, fixed: Sequence[str], seeds: Sequence[int]) -> list[Planned]:
    """Every row with every seed, seed by seed. Rows that mean one run share its folder.

    Raises:
        UserError: a row that ``tmkt train`` refuses, or a word for what rows set.
    """
    rows, given = table.run_rows(), {word.split("=")[0] for word in fixed}
    for option in {"method"}.union(set.intersection(*(set(row.options) for row in rows))):
        if f"--{option}" in given:
            raise UserError(f"--{option} belongs to the rows of {table.name}: leave it away.")
    return [_run(table, row, output, fixed, seed) for seed in sorted(seeds) for row in rows]


def _run(table: Table, row: Row, output: Path, fixed: Sequence[str], seed: int) -> Planned:
    """The row as a job of its own, in a folder named by what it changes; or all methods in one."""
    settings = {**row.options, "seed": seed}
    words = [*fixed, *words_for(settings, table.name)]
    options, _ = resolve(parse(words))
    (method,) = options.method
    if table.folder:
        del settings["method"]
        name, folder = in_words(settings), output / table.folder.format(**settings)
        methods = list(dict.fromkeys(each.options["method"] for each in table.run_rows()))
        words = [*fixed, *words_for(settings | {"method": methods}, table.name)]
    else:
        plain, _ = resolve(parse([*fixed, f"--method={method}", f"--seed={seed}"]))
        own = _taken(options, row.options)
        changed = {name: value for name, value in own.items() if value != _text(plain, name)}
        name = folder_name({"seed": str(seed), "method": method} | changed)
        folder = output / "jobs" / name
    return Planned(row.name, method, seed, Job.from_words(name, folder, words))


def find_axes(vary: Sequence[str], fixed: Sequence[str]) -> dict[str, list[Any]]:
    """Values by option, the seed first; several fixed methods or seeds are varied too."""
    given, parser, known = vars(check_fixed(fixed)), build_parser(), names_by_word()
    axes: dict[str, list[Any]] = {}
    for text in vary:
        name, _, its = text.partition("=")
        name, values = name.replace("_", "-"), its.split(",")
        if "" in (name, *values):
            raise UserError(f"--vary {text}: expected NAME=VALUE,..., such as mixup-ratio=0.3,0.4.")
        if name.startswith("no-") or f"--{name}" not in known:  # of a switch false is the value
            parser.error(f"unrecognized arguments: --{name}")
        if known[f"--{name}"] in (*NOT_IDENTITY, "help"):
            raise UserError(f"--vary {text}: --{name} changes no result. Give it for all jobs.")
        if name in axes:
            raise UserError(f"--vary {text} is there twice: give all its values together.")
        refuse_twice(name, values)
        axes[name] = [SWITCH.get(value, value) for value in values]
    for name in ("method", "seed"):
        if len(given.get(name, ())) > 1:
            axes.setdefault(name, given[name])
    return {name: axes[name] for name in sorted(axes, key=lambda name: name != "seed")}


def sweep(
    output: Path, vary: Sequence[str], fixed: Sequence[str], against: str
) -> tuple[Table, list[Planned]]:
    """All combinations, each once, as a table whose notes say what a method does not take.

    Combinations that differ only there are one job. Differences are to the row with the value
    ``against`` and the same values of the other options that both take, if there is just one.

    Raises:
        UserError: a combination that ``tmkt train`` would refuse, or ``against`` no value there.
    """
    axes = find_axes(vary, fixed)
    runs: dict[str, Planned] = {}  # by folder
    rows: dict[str, dict[str, str]] = {}
    taken: dict[str, set[str]] = {}  # by method
    for values in product(*axes.values()):
        words = [*fixed, *words_for(dict(zip(axes, values, strict=True)), "--vary")]
        options, _ = resolve(parse(words))
        own, (method,), (seed,) = _taken(options, axes), options.method, options.seed
        taken.setdefault(method, set()).update(own)
        labels = {k: v for k, v in own.items() if k not in ("seed", "method")} | {"method": method}
        row, name = in_words(labels), folder_name(own)
        rows[row] = labels
        if name not in runs:
            job = Job.from_words(name, output / "jobs" / name, words)
            runs[name] = Planned(row, method, seed, job)
    names = [name for name in axes if name not in ("seed", "method")]
    column, _, value = against.partition("=")
    if column in names:  # in the words of the rows: 3 is 3.0
        words = words_for({column: SWITCH.get(value, value)}, "--against")
        value = _text(parse([*fixed, *words]), column)
    seen = dict.fromkeys(f"{k}={v}" for labels in rows.values() for k, v in labels.items())
    if f"{column}={value}" not in (*seen, "method=baseline"):
        expected = ", ".join(seen) or "the values of --vary"
        raise UserError(f"--against {against}: expected one of {expected}.")
    made = tuple(
        Row(row, own, {}, _reference(row, rows, column, value), dict.fromkeys(names, "-") | own)
        for row, own in rows.items()
    )
    lacking = {m: [f"--{name}" for name in axes if name not in own] for m, own in taken.items()}
    notes = [f"{m} does not take {', '.join(of)}: run once." for m, of in lacking.items() if of]
    title = f"Sweep of {', '.join(names)}" if names else "Sweep"
    to = value if column == "method" else f"--{column} {value}"
    return Table("sweep", title, to, made, notes=notes), list(runs.values())


def _reference(row: str, rows: Mapping[str, dict[str, str]], column: str, value: str) -> str:
    """The one other row with this value of the column that agrees in all else; or the row."""
    others = {k: v for k, v in rows[row].items() if k != column}
    fitting = [
        name
        for name, theirs in rows.items()
        if theirs.get(column) == value and all(theirs.get(k, v) == v for k, v in others.items())
    ]
    return fitting[0] if len(fitting) == 1 else row
