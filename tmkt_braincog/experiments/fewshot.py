"""Accuracy against shots on real N-MNIST: event-only, baseline and TMKT with one recipe.

Every (shots, seed) is one process that runs all methods; finished runs are kept, so the command
can be given again after an interruption.
"""

import argparse
from pathlib import Path

import pandas as pd

from ..comparison import read_csv, summarise
from ..files import replacing
from ..plots import plot_shots
from .jobs import Job, check, run


def run_all(options: argparse.Namespace) -> str:
    """Run what is missing, then write ``fewshot.{csv,md,png,pdf}``; returns the table."""
    # Seeds in the outer loop: whole seeds are finished first, the longest shots do not come last.
    jobs = [job(options, shots, seed) for seed in options.seed for shots in options.shots]
    check(jobs)
    run(jobs, options.jobs)
    return write_table(options)


def job(options: argparse.Namespace, shots: int, seed: int) -> Job:
    """All methods for one (shots, seed)."""
    words = ["-c", options.recipe, "--data-root", options.data_root, "--no-tensorboard"]
    words += ["--shots", str(shots), "--seed", str(seed), "--method", *options.method]
    folder = Path(options.output) / f"shots-{shots}" / f"seed-{seed}"
    return Job.from_words(f"shots {shots}, seed {seed}", folder, words)


def collect(folder: Path, shots: list[int], seeds: list[int]) -> pd.DataFrame:
    """Rows of all runs, with ``shots`` and ``val_last``, the top-1 on the even files after the last epoch.

    Raises:
        UserError: a run is missing.
    """
    tables = []
    for k in shots:
        for seed in seeds:
            one = folder / f"shots-{k}" / f"seed-{seed}"
            table = read_csv(one / "comparison.csv")
            table.insert(0, "shots", k)
            table["val_last"] = [
                validation(one / "runs" / f"{m}-seed{seed}") for m in table["method"]
            ]
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def validation(run_folder: Path) -> float:
    """Top-1 on the validation recordings after the last epoch."""
    return float(pd.read_csv(run_folder / "log.csv")["val_top1"].iloc[-1])


def write_table(options: argparse.Namespace) -> str:
    folder = Path(options.output)
    rows = collect(folder, options.shots, options.seed)
    rows = rows[rows["method"].isin(options.method)]
    with replacing(folder / "fewshot.csv") as temporary:
        # Times and memory are left out: the runs share the machine with each other.
        rows.drop(columns=["train_s", "peak_mib"]).to_csv(temporary, index=False)
    text = to_markdown(rows, options.method)
    with replacing(folder / "fewshot.md") as temporary:
        temporary.write_text(text)
    points = rows.rename(columns={"top1_last": "top1"})
    for suffix in ("png", "pdf"):
        plot_shots(
            points, folder / f"fewshot.{suffix}", "N-MNIST, few shots: top-1 after the last epoch"
        )
    return text


def to_markdown(rows: pd.DataFrame, methods: list[str]) -> str:
    """Top-1 after the last epoch and at the best validation epoch, and the paired differences."""
    seeds, protocol = rows["seed"].nunique(), rows["protocol"].iloc[0]
    lines = [
        f"Real N-MNIST + MNIST, Transfer_SCNN, T = 10, 28 x 28, protocol {protocol}, {seeds} seeds. "
        "Reported on the odd-numbered recordings of Train that the shots leave over and on Test; the even-numbered "
        "ones validate. Mean ± standard deviation of top-1 (%); difference: paired, to the baseline, with its "
        "95 % interval.",
        "",
        "| shots | method | last epoch | difference | best validation epoch | difference | even files, last |",
        "|---|---|---|---|---|---|---|",
    ]
    for shots, part in rows.groupby("shots"):
        even = part.groupby("method")["val_last"].mean()
        for _, row in summarise(part).set_index("method").loc[methods].reset_index().iterrows():
            cells = [str(shots), row["method"]]
            for kind in ("last", "best"):
                cells.append(f"{row[f'{kind}_mean']:.1f} ± {row[f'{kind}_std']:.1f}")
                same = row["method"] == "baseline" or pd.isna(row[f"{kind}_diff"])
                interval = f"[{row[f'{kind}_low']:+.1f}, {row[f'{kind}_high']:+.1f}]"
                cells.append("" if same else f"{row[f'{kind}_diff']:+.1f} {interval}")
            lines.append("| " + " | ".join([*cells, f"{even[row['method']]:.1f}"]) + " |")
    return "\n".join(lines) + "\n"
