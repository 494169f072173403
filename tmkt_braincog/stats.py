"""Results over seeds: means, paired differences with Student's interval, claims decided by them.

Results are rows with :data:`COLUMNS`: method; seed (integer); protocol (data set, split and
schedule in words, the same in all rows, since others are not comparable); top1_best and top1_last
in percent; epoch_best (integer, as logged); train_s, seconds of training; peak_mib, peak memory of
the accelerator in MiB. The last two may be blank: not measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .errors import UserError

WORDS, WHOLE, PERCENT = ("method", "protocol"), ("seed", "epoch_best"), ("top1_best", "top1_last")
MAY_BE_BLANK = ("train_s", "peak_mib")
COLUMNS = ("method", "seed", "protocol", *PERCENT, "epoch_best", *MAY_BE_BLANK)
# Accuracies are stored with 4 decimals; a smaller spread of differences is rounding, not variance.
ZERO_SPREAD = 1e-6
# A claim is decided by the 95 % interval of the paired difference.
HOLDS, FAILS, UNDECIDED = "holds", "fails: the reverse holds", "undecided"
ONE_SEED = "needs more seeds"


def checked(df: pd.DataFrame) -> pd.DataFrame:
    """A copy with exactly :data:`COLUMNS` in their types.

    Raises:
        UserError: a column missing, no rows, a cell that is no number or out of range, two rows for
            one method and seed, or rows of different protocols.
    """
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
        df[column] = _checked_column(df[column])
    for (method, seed), rows in df.groupby(["method", "seed"]):
        if len(rows) > 1:
            raise UserError(
                f"{len(rows)} rows for method {method!r}, seed {seed}. "
                "Expected one per method and seed; remove the outdated ones."
            )
    if df["protocol"].nunique() > 1:
        groups = df.groupby("protocol", sort=False)
        lines = "".join(f"\n  {name!r}: {_runs(rows)}" for name, rows in groups)
        raise UserError(
            f"Rows of {len(groups)} protocols cannot share a table:{lines}\n"
            "Expected one protocol; write one table for each."
        )
    return df


def _checked_column(cells: pd.Series) -> pd.Series:
    blank = cells.isna() | (cells.astype(str).str.strip() == "")
    values: Any
    good: Any
    if cells.name in WORDS:
        values, good, expected = cells.astype(str), ~blank, "a name"
    else:
        values = pd.to_numeric(cells.mask(blank), errors="coerce").astype(float)
        good, expected = np.isfinite(values), "a number"
    if cells.name in WHOLE:
        good, expected = good & (values % 1 == 0), "a whole number"
    elif cells.name in PERCENT:
        good, expected = good & values.between(0, 100), "percent, 0 to 100"
    elif cells.name in MAY_BE_BLANK:
        good, expected = good & (values >= 0) | blank, "a number >= 0 or blank"
    if not good.all():
        row = int(np.argmin(good.to_numpy()))  # the first
        seen = "blank" if blank[row] else repr(str(cells[row]))
        raise UserError(
            f"Column {cells.name}, row {row + 1}: {seen} seen, {expected} expected. "
            "Correct the cell, or leave that run out."
        )
    return values.astype(int) if cells.name in WHOLE else values


def _runs(rows: pd.DataFrame) -> str:
    seeds = rows.groupby("method", sort=False)["seed"].agg(lambda s: ", ".join(map(str, s)))
    return "; ".join(f"{method} (seed {held})" for method, held in seeds.items())


def summarise(
    df: pd.DataFrame, reference: str | Mapping[str, str | None] = "baseline"
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
    """
    df = checked(df)
    by_method = {
        str(name): rows.set_index("seed") for name, rows in df.groupby("method", sort=False)
    }
    out = []
    for name, rows in by_method.items():
        to = reference if isinstance(reference, str) else reference.get(name)
        theirs = rows[:0] if to in (None, name) else by_method.get(to, rows[:0])
        shared = rows.index.intersection(theirs.index)
        row: dict[str, Any] = {"method": name, "n": len(rows), "n_paired": len(shared)}
        for kind in ("best", "last"):
            values = rows[f"top1_{kind}"]
            row |= {f"{kind}_mean": values.mean(), f"{kind}_std": values.std(ddof=1)}
            found = paired(values[shared], theirs.loc[shared, f"top1_{kind}"])
            row |= {f"{kind}_{key}": value for key, value in found.items()}
        out.append(row | {"train_s": rows["train_s"].mean(), "peak_mib": rows["peak_mib"].max()})
    return pd.DataFrame(out)


def paired(ours: pd.Series, theirs: pd.Series) -> dict[str, float]:
    """Mean difference over seeds (aligned by index) with its 95 % t-interval and p value."""
    difference = (ours - theirs).to_numpy()
    mean = difference.mean() if len(difference) else np.nan
    if len(difference) < 2 or np.ptp(difference) < ZERO_SPREAD:  # nothing about other seeds
        return {"diff": mean, "low": np.nan, "high": np.nan, "p": np.nan}
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    return {"diff": mean, "low": low, "high": high, "p": test.pvalue}


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of these p values; NaN stay, and count for nothing."""
    ordered = pd.Series(p, dtype=float).sort_values()
    n = int(ordered.count())
    corrected = (ordered * np.arange(n, n - len(ordered), -1)).cummax().clip(upper=1)
    return corrected.sort_index().tolist()


def verdicts(df: pd.DataFrame, claims: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """What the last epochs say of every claim ``{say, better, worse}``, methods by their names.

    It holds where the 95 % t-interval of ``better - worse`` over common seeds is above 0, the
    reverse where it is below 0, and is undecided in between and where all differences are equal.
    Of say, verdict, difference, low, high, p and p_holm the last alone is corrected for the number
    of claims.
    """
    out = []
    for claim in claims:
        pair = df[df["method"].isin([claim["better"], claim["worse"]])]
        row = summarise(pair, claim["worse"]).set_index("method").loc[claim["better"]]
        low, high = row["last_low"], row["last_high"]
        unknown = ONE_SEED if row["n_paired"] < 2 else UNDECIDED
        decided = HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED
        found: dict[str, Any] = {
            "say": claim["say"],
            "verdict": unknown if pd.isna(low) else decided,
        }
        found |= {"difference": row["last_diff"], "low": low, "high": high, "p": row["last_p"]}
        out.append(found)
    for found, p in zip(out, holm([found["p"] for found in out]), strict=True):
        found["p_holm"] = p
    return out


def mean_text(mean: float, std: float) -> str:
    return f"{mean:.2f} ± " + ("-" if pd.isna(std) else f"{std:.2f}")


def difference_text(difference: float, low: float, high: float) -> str:
    if pd.isna(difference):
        return "-"
    interval = "-" if pd.isna(low) else f"{low:+.2f}, {high:+.2f}"
    return f"{difference:+.2f} [{interval}]"


def p_text(p: float) -> str:
    return "-" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def texts(row: Mapping[Any, Any], kind: str) -> tuple[str, str, str]:
    """Of a row of :func:`summarise`, for ``best`` or ``last``: mean and std, difference, p."""
    mean, std, diff, low, high, p = (
        row[f"{kind}_{name}"] for name in ("mean", "std", "diff", "low", "high", "p")
    )
    return mean_text(mean, std), difference_text(diff, low, high), p_text(p)
