"""Any options of ``tmkt train`` varied: a grid of independent runs, and one table of them."""

import argparse
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..comparison import COLUMNS, aligned_table, read_csv, summarise
from ..engine.checkpoint import same_run
from ..errors import UserError
from ..files import replacing
from ..options import NOT_IDENTITY, identity
from .axes import REFERENCE, Axis
from .grid import Run, find_axes, grid
from .jobs import JobsFailed, check
from .launch import launch, plan_text, shared_machine


def run(own: argparse.Namespace, fixed: Sequence[str], argv: Sequence[str]) -> str:
    """Run what is missing and write the table; returns it, or the plan.

    Args:
        own: see :func:`~tmkt_braincog.commands.table.sweep_parser`.
        fixed: words that go to every job.
        argv: all words, for the caption.
    """
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
        return plan_text(jobs)
    try:
        if not own.collect:
            launch(own, output, jobs)
    except JobsFailed:
        if any(job.finished() for job in jobs):
            print(write_table(output, runs, axes, against, argv))
        raise
    return write_table(output, runs, axes, against, argv)


def _reference(text: str, runs: Sequence[Run], axes: Sequence[Axis]) -> tuple[str, str]:
    """Column and value of ``--against``; the default need not be among the axes."""
    name, _, value = text.partition("=")
    if (name, value) == REFERENCE:
        return REFERENCE
    known = [f"{a.name}={v}" for a in axes if a.name != "seed" for v in _values(a, runs)]
    if text not in known:
        raise UserError(
            f"--against {text}: expected one of {', '.join(known) or 'the values of --vary'}."
        )
    return next(axis.dest for axis in axes if axis.name == name), value


def _values(axis: Axis, runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.settings[axis.name] for run in runs if axis.name in run.settings))


def check_folder(output: Path, runs: Sequence[Run], axes: Sequence[Axis]) -> None:
    """Refuse a folder that holds something else, or a sweep with other fixed options.

    Raises:
        UserError: with the options that differ.
    """
    if (
        output.exists()
        and not (output / "jobs").is_dir()
        and (not output.is_dir() or any(output.iterdir()))
    ):
        raise UserError(
            f"The output folder {output} holds other files: choose an empty or a new one."
        )
    varied = {"method", "seed", *NOT_IDENTITY, *(axis.dest for axis in axes)}

    def shared(options: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in options.items() if k not in varied and v is not None}

    here = [shared(identity(run.job.options)) for run in runs]
    for config in sorted(output.glob("jobs/*/config.yaml")):
        there = shared(yaml.safe_load(config.read_text()))
        if there not in here:
            same_run(there, here[0], f"The sweep in {output} ({config.parent.name})")


def write_table(
    output: Path,
    runs: Sequence[Run],
    axes: Sequence[Axis],
    against: tuple[str, str],
    argv: Sequence[str],
) -> str:
    """Write ``sweep.csv`` (one row per run) and ``sweep.md``; returns the latter.

    Raises:
        UserError: no run is finished.
    """
    finished = [one for one in runs if one.job.finished()]
    if not finished:
        raise UserError(f"No job of this sweep is finished in {output}: run it without --collect.")
    rows = collect(finished, axes)
    without = ["train_s", "peak_mib"] if shared_machine(output) else []
    with replacing(output / "sweep.csv") as temporary:
        rows.drop(columns=without).to_csv(temporary, index=False)
    names = [axis.dest for axis in axes if axis.dest not in ("method", "seed")]
    lines = [
        f"# Sweep: {_title(finished, axes)}",
        "",
        *aligned_table(cells(rows, names, against)),
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


def cells(
    rows: pd.DataFrame, names: Sequence[str], against: tuple[str, str] = REFERENCE
) -> list[list[str]]:
    """The table over seeds as text, header first.

    The difference is that of :func:`~tmkt_braincog.comparison.summarise` to the reference with the same values of the
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


def _title(runs: Sequence[Run], axes: Sequence[Axis]) -> str:
    options, varied = runs[0].job.options, {axis.dest for axis in axes}
    parts = {
        "target_dataset": options.target_dataset,
        "model": options.model,
        "width_divisor": f"widths / {options.width_divisor}" if options.width_divisor > 1 else "",
        "step": f"T = {options.step}",
        "protocol": f"protocol {options.protocol}",
    }
    return ", ".join(text for dest, text in parts.items() if text and dest not in varied)


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
        lines.append(
            f"- NOT COMPLETE, {len(finished)} of {len(runs)} runs; missing: {', '.join(missing)}."
        )
    notes = (_notes(one.job.folder) for one in finished)
    return [
        *lines,
        *dict.fromkeys(chain(*notes)),
        f"- Made by `tmkt table sweep {shlex.join(argv)}`",
    ]


def _notes(folder: Path) -> list[str]:
    """What the run's own table says about its data."""
    text = (folder / "comparison.md").read_text()
    return [line for line in text.splitlines() if line.startswith("- note: ")]
