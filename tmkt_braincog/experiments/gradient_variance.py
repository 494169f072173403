"""Variance of the loss's gradient for each mixing strategy, at the initial and the last weights of finished runs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..engine.checkpoint import same_run
from ..engine.train import Trainer
from ..errors import UserError
from ..figures.gradient_variance import measure, over_seeds, plot_gradient_variance
from ..files import replacing
from ..options import model_text
from ..runs import reopen
from .figures import run_folders


def report(options: argparse.Namespace) -> str:
    """Measure all runs and write the files; returns the table."""
    folders = [run for given in options.runs for run in run_folders(given, None)]
    trainers = reopen(folders, None, options.device, options.data_root)
    _check(trainers)
    tables, initial = [], set()
    for trainer in trainers:
        if trainer.seed not in initial:  # all methods start from the same weights
            initial.add(trainer.seed)
            tables.append(_measured(trainer, "initial", options))
        trainer.restore(trainer.folder / "last.pt")
        tables.append(_measured(trainer, f"{trainer.name}, last", options))
    rows = pd.concat(tables, ignore_index=True)
    return _write(options.output or options.runs[0] / "gradient_variance", trainers[0], rows)


# What the common loss takes from a run besides its general options.
LOSS_OPTIONS = ("domain_loss_coefficient", "TET_loss", "smoothing")


def _measured(trainer: Trainer, weights: str, options: argparse.Namespace) -> pd.DataFrame:
    print(f"{trainer.folder}, {weights} ...", file=sys.stderr)
    rows = measure(trainer, options.ratio, options.batches)
    where = {"weights": weights, "seed": trainer.seed}
    return rows.assign(**where)[[*where, *rows.columns]]


def _check(trainers: Sequence[Trainer]) -> None:
    """Refuse runs that would be taken for each other or for comparable."""
    first, seen = trainers[0], {}
    for trainer in trainers:
        other = seen.setdefault((trainer.name, trainer.seed), trainer.folder)
        if other is not trainer.folder:
            raise UserError(
                f"{other} and {trainer.folder} are both {trainer.name}, seed {trainer.seed}: give one of them."
            )
        there, here = (
            {name: getattr(t.options, name) for name in LOSS_OPTIONS} for t in (trainer, first)
        )
        same_run(there, here, f"{trainer.folder}, compared with {first.folder},")


def _write(folder: Path, trainer: Trainer, rows: pd.DataFrame) -> str:
    summary = over_seeds(rows)
    with replacing(folder / "gradient_variance.csv") as temporary:
        rows.to_csv(temporary, index=False, float_format="%.8g")
    text = to_markdown(trainer, summary)
    with replacing(folder / "gradient_variance.md") as temporary:
        temporary.write_text(text)
    o = trainer.options
    for suffix in ("png", "pdf"):
        title = f"{o.target_dataset}, {model_text(o)}, T = {o.step}, batch {o.batch_size}"
        plot_gradient_variance(summary, folder / f"gradient_variance.{suffix}", title)
    return text + f"\nWritten: {folder}/gradient_variance.csv, .md, .png, .pdf"


def to_markdown(trainer: Trainer, summary: pd.DataFrame) -> str:
    """One table per set of weights."""
    o, emulated = trainer.options, " Events are emulated." if trainer.data.emulated else ""
    seeds, batches = summary["seeds"].max(), summary["batches"].iloc[0]
    interval = (
        "jackknife over batches"
        if seeds == 1
        else f"Student's over {seeds} seeds, values are geometric means"
    )
    lines = [
        f"{o.target_dataset}, {model_text(o)}, T = {o.step}, batches of {o.batch_size}, {batches} of them per strategy.{emulated} Gradient "
        f"of L_CLSm + {o.domain_loss_coefficient:g} L_RDA, no heads, to all weights of the model; recordings, partners and "
        "weights are the same for all strategies. Variance: tr Cov(g); of it mixing: the part that the draws of the mixing "
        "add to that of recordings and partners; noise-to-signal: tr Cov(g) over |E g|^2 (-: too few batches to tell |E g|^2 from 0); relative: over TSM's at the "
        f"same ratio, paired. Intervals: 95 %, {interval}."
    ]
    head = [
        "ratio",
        "strategy",
        "share",
        "progress",
        "variance",
        "of it mixing",
        "relative [95 % CI]",
    ]
    head += ["noise-to-signal", "relative [95 % CI]"]
    for weights, part in summary.groupby("weights", sort=False):
        lines += ["", f"Weights: {weights}", "", _row(head), _row(["---"] * len(head))]
        lines += [_row(_cells(row)) for _, row in part.iterrows()]
    return "\n".join(lines) + "\n"


def _cells(row: pd.Series) -> list[str]:
    progress = "" if pd.isna(row["progress"]) else f"{row['progress']:.2f}"
    return [
        f"{row['ratio']:g}",
        row["strategy"],
        f"{row['share']:.3f}",
        progress,
        f"{row['variance']:.3g}",
        f"{100 * row['mixing'] / row['variance']:.1f} %",
        _estimate(row, "variance_relative"),
        "-" if pd.isna(row["noise_to_signal"]) else f"{row['noise_to_signal']:.3g}",
        _estimate(row, "noise_to_signal_relative"),
    ]


def _estimate(row: pd.Series, name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if pd.isna(value):
        return "-"
    return f"{value:.3g}" if pd.isna(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
