"""Results over seeds: their rows, means, paired differences, claims, as CSV and Markdown.

Results are rows with :data:`COLUMNS`: method; seed; protocol (data set, split and schedule in
words, the same in all rows, since others are not comparable); top1_best and top1_last in percent;
epoch_best, as logged; train_s, seconds of training; peak_mib, peak memory of the accelerator in
MiB. The last two may be blank: not measured.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .errors import UserError
from .files import replacing
from .plots import plot_comparison

NAME, WHOLE, PERCENT = "a name", "a whole number >= 0", "percent, 0 to 100"
COST = "a number >= 0 or blank"
# The columns of ``comparison.csv``, and what is expected in each.
COLUMNS = {
    **{"method": NAME, "seed": WHOLE, "protocol": NAME, "top1_best": PERCENT},
    **{"top1_last": PERCENT, "epoch_best": WHOLE, "train_s": COST, "peak_mib": COST},
}
# By method and seed: 100 or 0 by test recording, whether it was classified rightly.
Right = Mapping[tuple[str, int], pd.Series]
# Accuracies are stored with 4 decimals; a smaller spread of differences is rounding, not variance.
ZERO_SPREAD = 1e-6
# A claim is decided at this level by the p of the paired difference, after Holm's correction.
LEVEL = 0.05
HOLDS, FAILS, UNDECIDED = "holds", "fails: the reverse holds", "undecided"
ONE_SEED = "needs more seeds"


def checked(df: pd.DataFrame) -> pd.DataFrame:
    """A copy with exactly :data:`COLUMNS` in their types.

    Raises:
        UserError: a column missing, no rows, a cell that is no number or out of range, two rows for
            one method and seed, or rows of different protocols.
    """
    missing = [name for name in COLUMNS if name not in df]
    if df.empty or missing:
        seen = f"Column missing: {', '.join(missing)}" if len(df) else "The table has no rows"
        raise UserError(f"{seen}. Expected a row per method and seed with {', '.join(COLUMNS)}.")
    df = df[list(COLUMNS)].reset_index(drop=True)
    for name, expected in COLUMNS.items():
        df[name] = _column(df[name], expected)
    for row in df[df.duplicated(["method", "seed"])].itertuples():
        raise UserError(f"Two rows for method {row.method!r}, seed {row.seed}. Remove one of them.")
    if len(protocols := df["protocol"].unique()) > 1:
        raise UserError(
            f"Rows of {len(protocols)} protocols cannot share a table: "
            f"{', '.join(map(repr, protocols))}. Write one table for each."
        )
    return df


def _column(cells: pd.Series, expected: str) -> pd.Series:
    blank = cells.isna() | (cells.astype(str).str.strip() == "")
    values: pd.Series = cells.astype(str)
    good: Any = ~blank
    if expected != NAME:
        values = pd.to_numeric(cells.mask(blank), errors="coerce").astype(float)
        good = values.between(0, 100 if expected == PERCENT else sys.maxsize)
        good &= (values % 1 == 0) | (expected != WHOLE)
        good |= blank & (expected == COST)
    if not good.all():
        row = int(np.argmin(good.to_numpy()))  # the first
        raise UserError(
            f"Column {cells.name}, row {row + 1}: {str(cells[row])!r} seen, {expected} expected. "
            "Correct the cell, or leave that run out."
        )
    return values.astype(int) if expected == WHOLE else values


def write_csv(rows: Sequence[Mapping[str, object]] | pd.DataFrame, path: str | Path) -> None:
    """Write the rows, 4 decimals, whole or not at all; raises what :func:`checked` does."""
    df = checked(pd.DataFrame(rows))
    with replacing(path) as temporary:
        df.to_csv(temporary, index=False, float_format="%.4f")


def read_csv(path: str | Path) -> pd.DataFrame:
    """The table of a file, as :func:`checked` gives it; a UserError that names the file."""
    try:
        # as text: pandas' guesses would turn a method called "None" into a missing value
        return checked(pd.read_csv(path, dtype=str, keep_default_na=False))
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors, and ours
        raise UserError(f"Cannot read the comparison {path}: {error}") from error


def summarise(
    df: pd.DataFrame, reference: str | Mapping[str, str] = "baseline", right: Right | None = None
) -> pd.DataFrame:
    """One row per method, in order of first appearance.

    Columns: method; n (seeds); n_paired (seeds shared with the reference); for k in best, last:
    k_mean and k_std (percent, sample std), k_diff (mean over shared seeds of method - reference,
    percentage points), k_low and k_high (its 95 % t-interval), k_p (paired t-test, two-sided, not
    corrected for the number of methods); train_s (mean); peak_mib (maximum).

    NaN where there is nothing to say: std, interval and p with one seed; all differences of the
    reference itself, of methods sharing no seed with it, or when it is absent; interval and p where
    all differences are equal, for t divides by zero.

    Args:
        df: rows that :func:`checked` accepts.
        reference: the method that all are compared with, or that of each method.
        right: where given, interval and p of the last epoch are by :func:`bootstrap`.
    """
    groups = checked(df).groupby("method", sort=False)
    by_method = {str(name): rows.set_index("seed") for name, rows in groups}
    out = []
    for name, rows in by_method.items():
        to = reference if isinstance(reference, str) else reference.get(name)
        theirs = rows[:0] if to in (None, name) else by_method.get(to, rows[:0])
        shared = rows.index.intersection(theirs.index)
        row: dict[str, Any] = {"method": name, "n": len(rows), "n_paired": len(shared)}
        for kind in ("best", "last"):
            values = rows[f"top1_{kind}"]
            row |= {f"{kind}_mean": values.mean(), f"{kind}_std": values.std(ddof=1)}
            found = _paired(values[shared], theirs.loc[shared, f"top1_{kind}"])
            if right and kind == "last" and len(shared):
                found = bootstrap({s: right[name, s] - right[str(to), s] for s in shared})
            row |= {f"{kind}_{key}": value for key, value in found.items()}
        out.append(row | {"train_s": rows["train_s"].mean(), "peak_mib": rows["peak_mib"].max()})
    return pd.DataFrame(out)


def _paired(ours: pd.Series, theirs: pd.Series) -> dict[str, float]:
    difference = (ours - theirs).to_numpy()
    mean = difference.mean() if len(difference) else np.nan
    if len(difference) < 2 or np.ptp(difference) < ZERO_SPREAD:  # nothing about other seeds
        return {"diff": mean, "low": np.nan, "high": np.nan, "p": np.nan}
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    return {"diff": mean, "low": low, "high": high, "p": test.pvalue}


def bootstrap(differences: Mapping[int, pd.Series], draws: int = 10_000) -> dict[str, float]:
    """Mean of paired differences over seeds and recordings, with its 95 % interval and p value.

    Seeds and recordings are drawn with replacement, each on their own, so that the interval speaks
    of other seeds and of other recordings (the pigeonhole bootstrap, Owen 2007: conservative). The
    p value is two-sided, at least 1 / ``draws``.

    Args:
        differences: by seed, of the recordings that it tested (index): 100 where only ours was
            right, -100 where only theirs, 0 else.
    """
    table = pd.DataFrame(dict(differences))
    known, values = table.notna().to_numpy(float), table.fillna(0).to_numpy()
    rng, (R, S) = np.random.default_rng(0), values.shape
    of_r, of_s = (rng.multinomial(n, np.full(n, 1 / n), draws) for n in (R, S))
    means = ((of_r @ values) * of_s).sum(1) / ((of_r @ known) * of_s).sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    p = max(2 * min((means <= 0).mean(), (means >= 0).mean()), 1 / draws)
    return {"diff": values.sum() / known.sum(), "low": low, "high": high, "p": min(p, 1.0)}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of these p values; NaN stay, and count for nothing."""
    ordered = pd.Series(p, dtype=float).sort_values()
    n = int(ordered.count())
    corrected = (ordered * np.arange(n, n - len(ordered), -1)).cummax().clip(upper=1)
    return corrected.sort_index().tolist()


def verdicts(
    df: pd.DataFrame, claims: Iterable[Mapping[str, str]], right: Right | None = None
) -> list[dict[str, Any]]:
    """What the last epochs say of every claim ``{say, better, worse}``, methods by their names.

    It holds where ``better - worse`` over common seeds is above 0 with a p value below 0.05 after
    Holm's correction for the number of claims, the reverse where it is below 0, and is undecided
    else and where all differences are equal. Of say, verdict, difference, low, high, p and p_holm
    the interval and p are not corrected.
    """
    out: list[dict[str, Any]] = []
    for claim in claims:
        pair = df[df["method"].isin([claim["better"], claim["worse"]])]
        row = summarise(pair, claim["worse"], right).set_index("method").loc[claim["better"]]
        found = {key: row[f"last_{key}"] for key in ("diff", "low", "high", "p")}
        found["difference"] = found.pop("diff")
        out.append({"say": claim["say"], "verdict": "", **found, "n": row["n_paired"]})
    for found, p in zip(out, holm([found["p"] for found in out]), strict=True):
        sign = HOLDS if found["difference"] > 0 else FAILS
        verdict = sign if p < LEVEL else UNDECIDED  # also where there is no p
        found |= {"verdict": ONE_SEED if found.pop("n") < 2 else verdict, "p_holm": p}
    return out


def difference_text(difference: float, low: float, high: float) -> str:
    if pd.isna(difference):
        return "-"
    return f"{difference:+.2f} [{'-' if pd.isna(low) else f'{low:+.2f}, {high:+.2f}'}]"


def texts(row: Mapping[Any, Any], kind: str) -> tuple[str, str, str]:
    """Of a row of :func:`summarise`, for ``best`` or ``last``: mean and std, difference, p."""
    mean, std, diff, low, high, p = (
        row[f"{kind}_{name}"] for name in ("mean", "std", "diff", "low", "high", "p")
    )
    spread = "-" if pd.isna(std) else f"{std:.2f}"
    first = "-" if pd.isna(mean) else f"{mean:.2f} ± {spread}"
    return first, difference_text(diff, low, high), p_text(p)


def p_text(p: float | None) -> str:
    return "-" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def aligned_table(table: Sequence[Sequence[str]]) -> list[str]:
    """Header and body as a Markdown table that can be read as it stands."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    rows = [escaped[0], ["-" * width for width in widths], *escaped[1:]]
    return [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]


def to_markdown(summary: pd.DataFrame, legend: Sequence[str]) -> str:
    """The table of :func:`summarise`, two rows per method, and what :func:`legend` says."""
    header = ["method", "top1", "seeds", "mean ± std", "difference [95 % CI]", "p"]
    cells = [[*header, "train s", "peak MiB"]]
    for row in summary.to_dict("records"):
        costs = [_short(row["train_s"]), _short(row["peak_mib"])]
        for kind, cost in (("best", costs), ("last", ["", ""])):
            cells.append([row["method"], kind, str(row["n"]), *texts(row, kind), *cost])
    return "\n".join([*aligned_table(cells), "", *(f"- {line}" for line in legend)]) + "\n"


def _short(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def write_report(
    df: pd.DataFrame, folder: Path, title: str, best: str, note: str = "", emulated: bool = False
) -> str:
    """Write ``comparison.{csv,md,png}`` into `folder`; returns the text of the second."""
    df = checked(df)
    summary = summarise(df)
    said = legend(summary, df["protocol"].iloc[0], best, note)
    text = f"# {title}\n\n{to_markdown(summary, said)}"
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plot_comparison(df, folder / "comparison.png", title, emulated)
    write_csv(df, folder / "comparison.csv")  # last: it says that all is there
    return text


def legend(
    summary: pd.DataFrame, protocol: str, best: str, note: str = "", reference: str = "baseline"
) -> list[str]:
    """The lines without which the numbers of :func:`summarise` cannot be read.

    ``best`` says how the best was chosen, such as "best epoch on the test set"; ``reference`` is
    that of the summary.
    """
    n = dict(zip(summary["method"], summary["n"], strict=True))
    each = ", ".join(f"{method} {k}" for method, k in n.items())
    each = f"{summary['n'].iloc[0]} per method" if len(set(n.values())) == 1 else each
    lines = [
        f"protocol: {protocol}",
        f"seeds: {each}; mean ± sample std of top-1 accuracy in percent",
        f"best: {best}; last: the last epoch",
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
