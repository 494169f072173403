"""Spike rates, synaptic operations and energy of one inference, from finished runs; all their seeds."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..data.frames import resize_frames
from ..engine.train import Trainer
from ..errors import UserError
from ..figures.energy import AC_PJ, MAC_PJ, measure, plot_energy, totals
from ..files import replacing
from ..options import model_text
from ..runs import reopen
from .figures import run_folders


def report(options: argparse.Namespace) -> str:
    """Measure all runs and write the files; returns the table."""
    folders = [run for given in options.runs for run in _all_seeds(given)]
    trainers = reopen(folders, options.checkpoint, options.device, options.data_root)
    _check_distinct(trainers)
    tables, sums = [], []
    for trainer in trainers:
        print(f"{trainer.folder} ...", file=sys.stderr)
        layers = measure_run(trainer, options.samples)
        run = {"run": str(trainer.folder), "method": trainer.name, "seed": trainer.seed}
        tables.append(layers.assign(**run)[[*run, *layers.columns]])
        sums.append({**run, **totals(layers)})
    layers, summary = pd.concat(tables, ignore_index=True), pd.DataFrame(sums)
    return _write(
        options.output or options.runs[0] / "energy", trainers[0], layers, summary, options.samples
    )


BATCH = 32


def measure_run(trainer: Trainer, samples: int) -> pd.DataFrame:
    """:func:`~tmkt_braincog.figures.energy.measure` on the run's test recordings, at most ``samples`` evenly spaced ones."""
    model = trainer.model
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.amp):
        return measure(model, _batches(trainer, samples))


def _batches(trainer: Trainer, samples: int) -> Iterator[torch.Tensor]:
    test = trainer.split.test
    chosen = test[np.linspace(0, len(test) - 1, min(samples, len(test))).round().astype(int)]
    for chunk in np.split(chosen, range(BATCH, len(chosen), BATCH)):
        yield resize_frames(trainer.data.frames[chunk], trainer.model.event_size).to(trainer.device)


def _all_seeds(given: Path) -> list[Path]:
    """All finished runs of an output folder; a run folder is itself."""
    if given.parent.name == "runs":
        return [given]
    found = sorted(result.parent for result in given.glob("runs/*-seed*/result.json"))
    return found or run_folders(given, None)


def _check_distinct(trainers: Sequence[Trainer]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for trainer in trainers:
        other = seen.setdefault((trainer.name, trainer.seed), trainer.folder)
        if other is not trainer.folder:
            raise UserError(
                f"{other} and {trainer.folder} are both {trainer.name}, seed {trainer.seed}: give one of them."
            )


def _write(
    folder: Path, trainer: Trainer, layers: pd.DataFrame, summary: pd.DataFrame, samples: int
) -> str:
    with replacing(folder / "energy.csv") as temporary:
        layers.to_csv(temporary, index=False, float_format="%.8g")
    text = to_markdown(trainer, layers, summary, samples)
    with replacing(folder / "energy.md") as temporary:
        temporary.write_text(text)
    o = trainer.options
    title = f"{o.target_dataset}, {model_text(o)}, T = {o.step}"
    for suffix in ("png", "pdf"):
        plot_energy(layers, summary, folder / f"energy.{suffix}", title)
    return text + f"\nWritten: {folder}/energy.csv, .md, .png, .pdf"


def to_markdown(trainer: Trainer, layers: pd.DataFrame, summary: pd.DataFrame, samples: int) -> str:
    """Two tables: per method, and the input and spike rate of every layer."""
    o, emulated = trainer.options, " Events are emulated." if trainer.data.emulated else ""
    columns = {
        "spike_rate": ("firing rate", 1),
        "mac": ("MAC (M)", 1e-6),
        "ac": ("AC (M)", 1e-6),
        "energy_uj": ("energy (µJ)", 1),
        "ratio": ("of the ANN", 1),
        "nonzero_uj": ("by non-zero inputs (µJ)", 1),
        "events_uj": ("first layer by events (µJ)", 1),
    }
    methods = list(dict.fromkeys(summary["method"]))
    ann = summary["ann_uj"].iloc[0]
    lines = [
        f"{o.target_dataset}, {model_text(o)}, T = {o.step}, {o.event_size} x {o.event_size}; one inference of the event stream, "
        f"mean over at most {samples} test recordings, mean ± standard deviation over seeds.{emulated} {MAC_PJ} pJ per "
        f"MAC, {AC_PJ} pJ per AC (45 nm, Horowitz, ISSCC 2014); arithmetic only. AC = mean input x MACs x T; the first layer, "
        "and every other one that takes real numbers, counts MACs x T. ANN: the same layers without spikes, one pass, "
        f"{ann:.4g} µJ. By non-zero inputs: a pooled input counts as a whole one. First layer by events: as "
        "one AC per event and synapse.",
        "",
        _row(["method", "seeds", *(name for name, _ in columns.values())]),
        _row(["---"] * (len(columns) + 2)),
    ]
    for method in methods:
        part = summary[summary["method"] == method]
        lines.append(
            _row(
                [method, str(len(part)), *(_mean_std(part[c] * f) for c, (_, f) in columns.items())]
            )
        )
    lines += [
        "",
        "Mean input of every convolution and linear layer (`input`), spike rate of every neuron layer (`spikes`):",
        "",
        _row(["layer", "kind", "MACs per step (M)", *methods]),
        _row(["---"] * (len(methods) + 3)),
    ]
    for name, part in layers.groupby("layer", sort=False):
        is_neuron = part["kind"].iloc[0] == "neuron"
        column, what = ("spike_rate", "spikes") if is_neuron else ("input_mean", "input")
        cells = [_mean_std(part.loc[part["method"] == m, column]) for m in methods]
        macs = "" if is_neuron else f"{part['macs'].iloc[0] / 1e6:.4g}"
        lines.append(_row([str(name), f"{part['kind'].iloc[0]}, {what}", macs, *cells]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mean_std(values: pd.Series) -> str:
    mean, std = values.mean(), values.std(ddof=1)
    return (
        f"{mean:.4g}"
        if pd.isna(std) or std < 1e-9 * abs(mean) or std == 0
        else f"{mean:.4g} ± {std:.2g}"
    )
