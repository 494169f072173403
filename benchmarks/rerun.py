"""How far the same runs move when they are run again: two CSV files of one table, run by run.

    python benchmarks/rerun.py FIRST.csv AGAIN.csv --output rerun.md

Rows and seeds that both files have are compared, without those that ``--without`` names, such as
rows whose settings have changed. The same command gives the same bits on the same machine; another
processor, or other libraries, round otherwise, and training amplifies that. By row: its mean top-1
after the last epoch in both files, the difference, and the root mean square of the single runs'
differences, in percentage points.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from workload import main

from tmkt_braincog.comparison import aligned_table
from tmkt_braincog.errors import UserError
from tmkt_braincog.files import replacing

RUN = ["row", "seed"]
COLUMNS = ["row", "runs", "first", "again", "difference", "rms of single runs"]


def compared(first: pd.DataFrame, again: pd.DataFrame, without: Sequence[str]) -> list[list[str]]:
    """Cells of one line per row, and one for all runs; rows that begin with ``without`` are not."""
    both = first.merge(again, on=RUN, validate="one_to_one")
    both = both[~both["row"].str.startswith(tuple(without))]
    if both.empty:
        raise UserError("The files have no row and seed in common: give those of one table.")
    x, y = both["top1_last_x"], both["top1_last_y"]
    both = both.assign(difference=y - x, squared=(y - x) ** 2)
    lines = []
    for name, part in [*both.groupby("row", sort=False), ("all runs", both)]:
        means = part[["top1_last_x", "top1_last_y", "difference", "squared"]].mean()
        old, new, difference, squared = means
        numbers = [f"{old:.2f}", f"{new:.2f}", f"{difference:+.2f}", f"{squared**0.5:.2f}"]
        lines.append([str(name), str(len(part)), *numbers])
    return lines


def runs_of(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, usecols=[*RUN, "top1_last"])
    except ValueError as error:
        raise UserError(f"{path} is no CSV of a table's runs: {error}") from error


def run(argv: list[str]) -> int:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("first", "again"):
        made.add_argument(name, type=Path)
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--without", nargs="+", default=[], metavar="ROW", help="beginnings of names")
    options = made.parse_args(argv)
    lines = compared(runs_of(options.first), runs_of(options.again), options.without)
    table = "\n".join(aligned_table([COLUMNS, *lines]))
    text = f"# The same runs again\n\n{table}\n\nPercent, and percentage points, of top-1.\n\n"
    text += f"Made by `python {shlex.join(sys.argv)}`\n"
    with replacing(options.output) as temporary:
        temporary.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    main(run)
