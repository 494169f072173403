"""The comparison that a training command ends with: CSV, and a Markdown table that reads as is."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from .errors import UserError
from .files import replacing
from .plots import plot_comparison
from .stats import COLUMNS as COLUMNS
from .stats import checked, summarise, texts

HEADER = ["method", "top1", "seeds", "mean ± std", "difference [95 % CI]", "p"]


def write_csv(rows: Iterable[Mapping[str, object]] | pd.DataFrame, path: str | Path) -> None:
    """Write the rows, 4 decimals, whole or not at all; raises what :func:`.stats.checked` does."""
    df = checked(rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows)))
    with replacing(path) as temporary:
        df.to_csv(temporary, index=False, float_format="%.4f")


def read_csv(path: str | Path) -> pd.DataFrame:
    """The table of a file, as :func:`.stats.checked` gives it; a UserError that names the file."""
    try:
        # as text: pandas' guesses would turn a method called "None" into a missing value
        return checked(pd.read_csv(path, dtype=str, keep_default_na=False))
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors, and ours
        raise UserError(f"Cannot read the comparison {path}: {error}") from error


def aligned_table(table: Sequence[Sequence[str]]) -> list[str]:
    """Header and body as a Markdown table that can be read as it stands."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    rows = [escaped[0], ["-" * width for width in widths], *escaped[1:]]
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def to_markdown(summary: pd.DataFrame, legend: Sequence[str]) -> str:
    """The table of :func:`.stats.summarise`, two rows per method, and what :func:`legend` says."""
    cells = [[*HEADER, "train s", "peak MiB"]]
    for row in summary.to_dict("records"):
        costs = [_short(row["train_s"]), _short(row["peak_mib"])]
        for kind, cost in (("best", costs), ("last", ["", ""])):
            cells.append([row["method"], kind, str(row["n"]), *texts(row, kind), *cost])
    return "\n".join([*aligned_table(cells), "", *(f"- {line}" for line in legend)]) + "\n"


def _short(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def write_report(
    df: pd.DataFrame,
    folder: str | Path,
    title: str,
    selection: str,
    note: str = "",
    emulated: bool = False,
) -> str:
    """Write ``comparison.{csv,md,png}`` into `folder`; returns the text of the second."""
    df, folder = checked(df), Path(folder)
    summary = summarise(df)
    said = legend(summary, df["protocol"].iloc[0], selection, note)
    text = f"# {title}\n\n{to_markdown(summary, said)}"
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plot_comparison(df, folder / "comparison.png", title, emulated)
    write_csv(df, folder / "comparison.csv")  # last: it says that all is there
    return text


def legend(
    summary: pd.DataFrame,
    protocol: str,
    selection: str,
    note: str = "",
    reference: str = "baseline",
) -> list[str]:
    """The lines without which the numbers of :func:`.stats.summarise` cannot be read.

    ``selection`` says how `best` was chosen, such as "best epoch on the test set"; ``reference`` is
    that of the summary.
    """
    n = dict(zip(summary["method"], summary["n"], strict=True))
    each = ", ".join(f"{method} {k}" for method, k in n.items())
    each = f"{summary['n'].iloc[0]} per method" if len(set(n.values())) == 1 else each
    lines = [
        f"protocol: {protocol}",
        f"seeds: {each}; mean ± sample std of top-1 accuracy in percent",
        f"best: {selection}; last: the last epoch",
        f"difference: paired difference to {reference} [95 % CI], in percentage points over common "
        "seeds",
        "p: two-sided paired t-test, not corrected for the number of methods",
        "train s: mean over seeds; peak MiB: maximum over seeds",
    ]
    if reference not in n:
        lines.append(f"no difference shown: the table has no method {reference!r} to compare with")
    for method, shared in zip(n, summary["n_paired"], strict=True):
        if reference in n and method != reference and shared < n[method]:
            lines.append(f"{method}: {shared} of {n[method]} seeds shared with {reference}")
    if (summary[["n", "n_paired"]] == 1).any(axis=None):
        lines.append("with 1 seed no interval is possible (nor a std or p): run more seeds")
    return [*lines, f"note: {note}"] if note else lines
