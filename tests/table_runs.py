"""Planned runs of tables, made-up results for them, and sums by hand."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from tmkt_braincog import table_plan
from tmkt_braincog.comparison import write_csv
from tmkt_braincog.jobs import Job
from tmkt_braincog.options import save_yaml, without
from tmkt_braincog.table_plan import Planned
from tmkt_braincog.tables import load_table

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = "quickstart"
SMALL = shlex.split(
    "--step 4 --event-size 28 --no-tensorboard --shots 4 --batch-size 20 --epoch-size 40 "
    "--epochs 2 --warmup-epochs 1 --eval-interval 1"
)
LOG = {"epoch": [0, 1], "val_top1": [np.nan, 77.25]}


def planned(table: str, tmp_path, seeds=(1, 2), extra=(), every_row=False):
    """Table and runs; without teachers unless ``extra`` gives them, or with all its rows."""
    loaded, words = load_table(table), ["-c", RECIPE, *SMALL, *extra]
    rows = loaded.run_rows()
    words = without(words, {s for s in ("shots", "epochs") if all(s in r.options for r in rows)})
    if not every_row:
        loaded, _ = table_plan.leave_out(loaded, words, seeds[0])
    return loaded, table_plan.plan(loaded, tmp_path, words, seeds)


def jobs_by_row(runs: list[Planned]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for run in runs:
        found.setdefault(run.row, []).append(run.job)
    return found


def write_results(runs: list[Planned], top1) -> dict[str, np.ndarray]:
    """Finished runs without training; top1(row, seed) -> (last, best). The last ones by row."""
    made: dict[Path, list[dict]] = {}
    shown: dict[Path, float] = {}
    seen: dict[str, list[float]] = {}
    for run in runs:
        (last, best), folder = top1(run.row, run.seed), run.job.folder
        place = folder / "runs" / f"{run.method}-seed{run.seed}"
        seen.setdefault(run.row, []).append(shown.setdefault(place, last))
        if place.exists():  # another row is this run
            continue
        save_yaml(run.job.options, folder / "config.yaml")
        row = dict(method=run.method, seed=run.seed, protocol=run.job.options.protocol)
        row |= dict(epoch_best=1, top1_last=last, top1_best=best, train_s=10.0, peak_mib=5.0)
        made.setdefault(folder, []).append(row)
        write_csv(made[folder], folder / "comparison.csv")
        place.mkdir(parents=True)
        split = {"remarks": ["Two <files>."], "emulated": True}
        (place / "split.json").write_text(json.dumps(split))
        log = {"test_top1": last, "test_top1_static": last + (run.method == "tmkt")}
        log = LOG | {name: [np.nan, value] for name, value in log.items()}
        pd.DataFrame(log).to_csv(place / "log.csv")
    return {name: np.array(values) for name, values in seen.items()}


def scattered(name: str, seed: int) -> tuple[float, float]:
    last = 50 + 7 * (sum(map(ord, name)) % 5) + np.random.default_rng((len(name), seed)).random()
    return round(last, 4), round(last, 4)


def cells(text: str) -> list[list[str]]:
    """The rows of all tables of a Markdown text, headers included."""
    rows = re.findall(r"^\|(.*)\|$", text, re.M)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def body(text: str) -> dict[tuple[str, ...], list[str]]:
    """The rows of its first table by their first three cells."""
    return {tuple(row[:3]): row for row in cells(re.search(r"(^\|.*\n)+", text, re.M)[0])}


def by_hand(values, reference) -> list[str]:
    """Mean and sample deviation; mean of the differences with Student's interval, and p."""
    values, d = np.asarray(values), np.subtract(values, reference)
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    p = 2 * stats.t.sf(abs(d.mean()) / (d.std(ddof=1) / np.sqrt(len(d))), len(d) - 1)
    difference = f"{d.mean():+.2f} [{d.mean() - half:+.2f}, {d.mean() + half:+.2f}]"
    shown = "<0.001" if p < 0.001 else f"{p:.3f}"
    return [f"{values.mean():.2f} ± {values.std(ddof=1):.2f}", difference, shown]
