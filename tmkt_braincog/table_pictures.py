"""A table's pictures: its rows, or a line where they vary a number, and curves over epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .options import model_text
from .plots import ACCURACY, COLOURS, plot_curves, plot_rows, plot_shots
from .stats import summarise
from .table_plan import Run
from .tables import Table


def log_of(run: Run) -> pd.DataFrame:
    return pd.read_csv(run.job.folder / "runs" / f"{run.method}-seed{run.seed}" / "log.csv")


def pictures_of(
    table: Table, runs: Sequence[Run], frame: pd.DataFrame, fact: dict[str, Any], output: Path
) -> list[str]:
    """Draw what the table has, as PNG and PDF; returns the names of the former."""
    models = {model_text(run.job.options) for run in runs}
    about = [fact["dataset"], *(models if len(models) == 1 else ())]
    title, drawn = f"{table.title}: {', '.join(about)}", [table.name]
    logs: dict[str, list[pd.DataFrame]] = {}
    for run in runs if len(set(frame["method"])) <= len(COLOURS) else ():
        log = log_of(run)[["epoch", "test_top1"]].dropna()
        logs.setdefault(run.row, []).append(log.rename(columns={"test_top1": "top1"}))
    if logs:
        drawn.append(f"{table.name}_curves")
    for suffix in ("png", "pdf"):
        path = output / f"{table.name}.{suffix}"
        if table.axis or table.curve:
            _line(table, frame, title, path, fact["emulated"])
        else:
            references = table.references()
            summary = summarise(frame, references)
            plot_rows(frame, summary, references, path, title, fact["emulated"])
        if logs:
            path = output / f"{table.name}_curves.{suffix}"
            plot_curves(logs, path, title=title, emulated=fact["emulated"])
    return [f"{name}.png" for name in drawn]


def _line(table: Table, frame: pd.DataFrame, title: str, path: Path, emulated: bool) -> None:
    """The last top-1 against the number that the rows vary; rows without it are level lines."""
    option = str(table.axis and table.axis["option"])
    curve = table.curve or {"option": option, "label": option}
    option, x = curve["option"], curve["label"]
    rows = {row.name: row for row in table.run_rows()}
    points = []
    numbers = [row.options[option] for row in rows.values() if option in row.options]
    for name, seed, top1 in frame[["method", "seed", "top1_last"]].itertuples(index=False):
        row = rows[name]
        line = row.labels.get("method", curve.get("name", name)) if option in row.options else name
        at = [row.options[option]] if option in row.options else numbers
        points += [(line, seed, value, top1) for value in at]
    df = pd.DataFrame(points, columns=["method", "seed", x, "top1"])
    if option == "shots":
        plot_shots(df, path, title, emulated)
        return
    lines = {
        str(line): [part[[x, "top1"]] for _, part in of_line.groupby("seed")]
        for line, of_line in df.groupby("method", sort=False)
    }
    plot_curves(lines, path, x=x, ylabel=ACCURACY, title=title, emulated=emulated)
