"""The table of results: one row per method and seed in, means with paired differences out.

Columns of the CSV (:data:`COLUMNS`): method; seed (integer); protocol (data set, split and
schedule in words, the same in all rows, since other rows are not comparable); top1_best and
top1_last in percent (0 to 100); epoch_best (integer, as logged); train_s, seconds of training;
peak_mib, peak memory of the accelerator in MiB. The last two may be blank: not measured.
"""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from .errors import UserError
from .files import replacing
from .plots import plot_comparison

COLUMNS = (
    "method",
    "seed",
    "protocol",
    "top1_best",
    "top1_last",
    "epoch_best",
    "train_s",
    "peak_mib",
)
WORDS = ("method", "protocol")
WHOLE = ("seed", "epoch_best")
PERCENT = ("top1_best", "top1_last")
MAY_BE_BLANK = ("train_s", "peak_mib")

# Accuracies are stored with 4 decimals; a smaller spread of differences is rounding, not variance.
ZERO_SPREAD = 1e-6


def write_csv(rows: Iterable[Mapping[str, object]] | pd.DataFrame, path: str | Path) -> None:
    """Writes the rows (dicts or a frame with :data:`COLUMNS`) whole or not at all, 4 decimals.

    Raises:
        UserError: as :func:`read_csv`; nothing is written then.
    """
    df = checked(rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows)))
    with replacing(path) as temporary:
        df.to_csv(temporary, index=False, float_format="%.4f")


def read_csv(path: str | Path) -> pd.DataFrame:
    """The checked table of a file, columns in the order of :data:`COLUMNS`.

    Raises:
        UserError: no readable file, a column missing, no rows, a cell that is no number or out of range,
            two rows for one method and seed, or rows of different protocols.
    """
    try:
        # as text: pandas' guesses would turn a method called "None" into a missing value
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(
            f"Cannot read {path} ({error.strerror}). Give the CSV of a comparison."
        ) from error
    except pd.errors.EmptyDataError:
        raise UserError(
            f"{path} is empty. Expected the header {','.join(COLUMNS)} and rows."
        ) from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not a CSV table ({error}). Expected {','.join(COLUMNS)}."
        ) from error
    try:
        return checked(raw)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def checked(df: pd.DataFrame) -> pd.DataFrame:
    """A copy with exactly :data:`COLUMNS` in their types, or the UserError of :func:`read_csv`."""
    if df.empty:
        raise UserError(
            "The table has no rows. Expected one per method and seed; finish a run first."
        )
    missing = [c for c in COLUMNS if c not in df.columns]
    if missing:
        seen, wanted = ", ".join(map(str, df.columns)), ", ".join(COLUMNS)
        raise UserError(f"Column missing: {', '.join(missing)}. Seen: {seen}. Expected: {wanted}.")
    df = df[list(COLUMNS)].reset_index(drop=True)
    for column in COLUMNS:
        df[column] = _words(df[column]) if column in WORDS else _numbers(df[column])
    _check_unique(df)
    _check_protocol(df)
    return df


def summarise(df: pd.DataFrame, reference: str = "baseline") -> pd.DataFrame:
    """One row per method, in order of first appearance.

    Columns: method; n (seeds); n_paired (seeds shared with the reference); for k in best, last:
    k_mean and k_std (percent, sample std), k_diff (mean over shared seeds of method - reference,
    percentage points), k_low and k_high (its 95 % t-interval), k_p (paired t-test, two-sided, not
    corrected for the number of methods); train_s (mean); peak_mib (maximum).

    NaN where there is nothing to say: std, interval and p with one seed; all differences of the
    reference itself, of methods sharing no seed with it, or when it is absent; interval and p where all
    differences are equal, for t divides by zero.

    Raises:
        UserError: as :func:`read_csv`.
    """
    df = checked(df)
    ours = df[df["method"] == reference].set_index("seed")
    return pd.DataFrame(
        [
            _summary(method, rows, ours, reference)
            for method, rows in df.groupby("method", sort=False)
        ]
    )


def to_text(
    summary: pd.DataFrame,
    protocol: str,
    note: str = "",
    *,
    selection: str,
    reference: str = "baseline",
) -> str:
    """The summary for a terminal of 100 columns (method names of up to 16 characters).

    Args:
        summary: from :func:`summarise`, with the same `reference`.
        protocol: what all rows were trained and tested on.
        note: free text below the table.
        selection: how `best` was chosen, such as "best epoch on the test set".
    """
    header, body = _cells(summary)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [_aligned(row, widths) for row in (header, ["-" * w for w in widths], *body)]
    legend = _legend(summary, protocol, note, selection, reference)
    return (
        "\n".join(
            [*lines, "", *(textwrap.fill(line, 100, subsequent_indent="  ") for line in legend)]
        )
        + "\n"
    )


def to_markdown(
    summary: pd.DataFrame,
    protocol: str,
    note: str = "",
    *,
    selection: str,
    reference: str = "baseline",
) -> str:
    """The same table and legend as :func:`to_text`, in Markdown."""
    header, body = _cells(summary)
    rule = ["---", "---", *["---:"] * (len(header) - 2)]
    lines = [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (header, rule, *body)
    ]
    legend = [f"- {line}" for line in _legend(summary, protocol, note, selection, reference)]
    return "\n".join([*lines, "", *legend]) + "\n"


def write_report(
    df: pd.DataFrame,
    folder: str | Path,
    title: str,
    selection: str,
    note: str = "",
    reference: str = "baseline",
) -> str:
    """Writes comparison.csv, comparison.md and comparison.png into `folder`; returns the text table.

    Raises:
        UserError: as :func:`read_csv`; nothing is written then.
    """
    df, folder = checked(df), Path(folder)
    summary, protocol = summarise(df, reference), df["protocol"].iloc[0]
    words = {"note": note, "selection": selection, "reference": reference}
    write_csv(df, folder / "comparison.csv")
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(
            f"# {title}\n\n{to_markdown(summary, protocol, **words)}", encoding="utf-8"
        )
    plot_comparison(df, folder / "comparison.png", title)
    return f"{title}\n\n{to_text(summary, protocol, **words)}"


def aligned_table(table: list[list[str]]) -> list[str]:
    """Header and body as a Markdown table that can be read as it stands."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    header, *body = [
        [c.replace("|", "\\|").ljust(w) for c, w in zip(row, widths, strict=True)] for row in table
    ]
    return [f"| {' | '.join(row)} |" for row in (header, ["-" * w for w in widths], *body)]


def _words(cells: pd.Series) -> pd.Series:
    blank = cells.isna() | (cells.astype(str).str.strip() == "")
    if blank.any():
        raise UserError(
            f"Column {cells.name}, row {_first(blank)}: blank. Expected a name; fill it in."
        )
    return cells.astype(str)


def _numbers(cells: pd.Series) -> pd.Series:
    """The column as numbers, after the checks of its name's kind."""
    blank = cells.isna() | (cells.astype(str).str.strip() == "")
    values = pd.to_numeric(cells.mask(blank), errors="coerce").astype(float)
    allowed, expected = np.isfinite(values), "a finite number"
    if cells.name in WHOLE:
        allowed, expected = allowed & (values % 1 == 0), "a whole number"
    elif cells.name in PERCENT:
        allowed, expected = allowed & values.between(0, 100), "percent, 0 to 100"
    if cells.name in MAY_BE_BLANK:
        allowed, expected = allowed & (values >= 0) | blank, "a number >= 0 or blank"
    if not allowed.all():
        row = _first(~allowed)
        raise UserError(
            f"Column {cells.name}, row {row}: {str(cells.iloc[row - 1])!r} seen, {expected} expected. "
            "Correct the cell, or leave that run out."
        )
    return values.astype(int) if cells.name in WHOLE else values


def _first(mask: pd.Series) -> int:
    """Number of the first true row, from 1, the header not counted."""
    return int(np.argmax(mask.to_numpy())) + 1


def _check_unique(df: pd.DataFrame) -> None:
    double = df.duplicated(["method", "seed"])
    if double.any():
        row = df[double].iloc[0]
        count = int(((df["method"] == row["method"]) & (df["seed"] == row["seed"])).sum())
        raise UserError(
            f"{count} rows for method {row['method']!r}, seed {row['seed']}. "
            "Expected one per method and seed; remove the outdated ones."
        )


def _check_protocol(df: pd.DataFrame) -> None:
    groups = df.groupby("protocol", sort=False)
    if groups.ngroups > 1:
        seen = "".join(f"\n  {name!r}: {_runs(rows)}" for name, rows in groups)
        raise UserError(
            f"Rows of {groups.ngroups} protocols cannot share a table:{seen}\n"
            "Expected one protocol; write one table for each."
        )


def _runs(rows: pd.DataFrame) -> str:
    seeds = rows.groupby("method", sort=False)["seed"].agg(lambda s: ", ".join(map(str, s)))
    return "; ".join(f"{method} (seed {held})" for method, held in seeds.items())


def _summary(method: str, rows: pd.DataFrame, reference_rows: pd.DataFrame, reference: str) -> dict:
    rows = rows.set_index("seed")
    shared = (
        rows.index.intersection(reference_rows.index) if method != reference else rows.index[:0]
    )
    out = {"method": method, "n": len(rows), "n_paired": len(shared)}
    for kind in ("best", "last"):
        values = rows[f"top1_{kind}"]
        out |= {f"{kind}_mean": values.mean(), f"{kind}_std": values.std(ddof=1)}
        difference = _paired(values[shared], reference_rows.loc[shared, f"top1_{kind}"])
        out |= {f"{kind}_{name}": value for name, value in difference.items()}
    return out | {"train_s": rows["train_s"].mean(), "peak_mib": rows["peak_mib"].max()}


def _paired(ours: pd.Series, theirs: pd.Series) -> dict[str, float]:
    """Mean difference over seeds (aligned by index) with its 95 % t-interval and p value."""
    difference = (ours - theirs).to_numpy()
    mean = difference.mean() if len(difference) else np.nan
    if len(difference) < 2:
        return {"diff": mean, "low": np.nan, "high": np.nan, "p": np.nan}
    if np.ptp(difference) < ZERO_SPREAD:  # says nothing about the spread over other seeds
        return {"diff": mean, "low": np.nan, "high": np.nan, "p": np.nan}
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    return {"diff": mean, "low": low, "high": high, "p": test.pvalue}


def _cells(summary: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and body as text, two rows per method."""
    header = [
        "method",
        "top1",
        "seeds",
        "mean ± std",
        "difference [95 % CI]",
        "p",
        "train s",
        "peak MiB",
    ]
    body = []
    for row in summary.to_dict("records"):
        for kind in ("best", "last"):
            cost = [_short(row["train_s"]), _short(row["peak_mib"])] if kind == "best" else ["", ""]
            mean, difference = _mean(row, kind), _difference(row, kind)
            body.append(
                [row["method"], kind, str(row["n"]), mean, difference, _p(row[f"{kind}_p"]), *cost]
            )
    return header, body


def _aligned(row: list[str], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(left + right).rstrip()


def _mean(row: Mapping, kind: str) -> str:
    mean, std = row[f"{kind}_mean"], row[f"{kind}_std"]
    return f"{mean:.2f} ± " + ("-" if pd.isna(std) else f"{std:.2f}")


def _difference(row: Mapping, kind: str) -> str:
    mean, low, high = (row[f"{kind}_{name}"] for name in ("diff", "low", "high"))
    if pd.isna(mean):
        return "-"
    return f"{mean:+.2f} [-]" if pd.isna(low) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _p(value: float) -> str:
    if pd.isna(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _short(value: float) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _legend(
    summary: pd.DataFrame, protocol: str, note: str, selection: str, reference: str
) -> list[str]:
    """The lines without which the numbers cannot be read."""
    lines = [
        f"protocol: {protocol}",
        f"seeds: {_seeds(summary)}; mean ± sample std of top-1 accuracy in percent",
        f"best: {selection}; last: the last epoch",
        f"difference: paired difference to {reference} [95 % CI], in percentage points over common seeds",
        "p: two-sided paired t-test, not corrected for the number of methods",
        "train s: mean over seeds; peak MiB: maximum over seeds",
    ]
    return lines + _warnings(summary, reference) + ([f"note: {note}"] if note else [])


def _seeds(summary: pd.DataFrame) -> str:
    counts = summary["n"].unique()
    if len(counts) == 1:
        return f"{counts[0]} per method"
    return ", ".join(
        f"{method} {n}" for method, n in zip(summary["method"], summary["n"], strict=True)
    )


def _warnings(summary: pd.DataFrame, reference: str) -> list[str]:
    """What a reader would otherwise overlook."""
    lines = []
    others = summary[summary["method"] != reference]
    if len(others) == len(summary):
        lines.append(f"no difference shown: the table has no method {reference!r} to compare with")
    else:
        partly = others[others["n_paired"] < others["n"]]
        lines += [
            f"{r.method}: {r.n_paired} of {r.n} seeds shared with {reference}"
            for r in partly.itertuples()
        ]
    if (summary["n"] == 1).any() or (summary["n_paired"] == 1).any():
        lines.append("with 1 seed no interval is possible (nor a std or p): run more seeds")
    return lines
