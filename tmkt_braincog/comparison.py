"""The comparison that a training command ends with: CSV, and a table for terminal and Markdown."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from .errors import UserError
from .files import replacing
from .plots import plot_comparison
from .stats import COLUMNS, checked, summarise, texts

WIDTH = 100  # of a terminal, for method names of up to 16 characters


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
    except OSError as error:
        raise UserError(
            f"Cannot read {path} ({error.strerror}). Give the CSV of a comparison."
        ) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is no CSV table ({error}). Expected {','.join(COLUMNS)}."
        ) from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def aligned_table(table: Sequence[Sequence[str]]) -> list[str]:
    """Header and body as a Markdown table that can be read as it stands."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    rows = [escaped[0], ["-" * width for width in widths], *escaped[1:]]
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def to_text(summary: pd.DataFrame, legend: Sequence[str]) -> str:
    """The table of :func:`.stats.summarise`, and what :func:`legend` says of it, for a terminal."""
    header, *body = _cells(summary)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *body):
        words = [*map(str.ljust, row[:2], widths[:2]), *map(str.rjust, row[2:], widths[2:])]
        lines.append("  ".join(words).rstrip())
    filled = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in legend]
    return "\n".join([*lines, "", *filled]) + "\n"


def to_markdown(summary: pd.DataFrame, legend: Sequence[str]) -> str:
    """The same in Markdown."""
    lines = [*aligned_table(_cells(summary)), "", *(f"- {line}" for line in legend)]
    return "\n".join(lines) + "\n"


def write_report(
    df: pd.DataFrame,
    folder: str | Path,
    title: str,
    selection: str,
    note: str = "",
    emulated: bool = False,
) -> str:
    """Write ``comparison.{csv,md,png}`` into `folder`; returns the table for a terminal."""
    df, folder = checked(df), Path(folder)
    summary = summarise(df)
    said = legend(summary, df["protocol"].iloc[0], selection, note)
    write_csv(df, folder / "comparison.csv")
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(f"# {title}\n\n{to_markdown(summary, said)}", encoding="utf-8")
    plot_comparison(df, folder / "comparison.png", title, emulated)
    return f"{title}\n\n{to_text(summary, said)}"


def _cells(summary: pd.DataFrame) -> list[list[str]]:
    """Header and body as text, two rows per method."""
    header = ["method", "top1", "seeds", "mean ± std", "difference [95 % CI]", "p"]
    cells = [[*header, "train s", "peak MiB"]]
    for row in summary.to_dict("records"):
        for kind in ("best", "last"):
            cost = [_short(row[name]) if kind == "best" else "" for name in ("train_s", "peak_mib")]
            cells.append([row["method"], kind, str(row["n"]), *texts(row, kind), *cost])
    return cells


def _short(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def legend(
    summary: pd.DataFrame,
    protocol: str,
    selection: str,
    note: str = "",
    reference: str = "baseline",
) -> list[str]:
    """The lines without which the numbers cannot be read, and what would be overlooked.

    Args:
        summary: from :func:`.stats.summarise`, with the same `reference`.
        protocol: what all rows were trained and tested on.
        selection: how `best` was chosen, such as "best epoch on the test set".
        note: free text.
    """
    n = dict(zip(summary["method"], summary["n"], strict=True))
    same = len(set(n.values())) == 1
    each = (
        f"{summary['n'].iloc[0]} per method"
        if same
        else ", ".join(f"{m} {k}" for m, k in n.items())
    )
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
