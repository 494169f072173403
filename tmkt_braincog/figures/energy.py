"""Spike rates, synaptic operations and energy of one inference, counted as the field reports them.

- A layer that takes real numbers multiplies and accumulates: ``MAC = MACs per time-step x T``.
These are
  the first layer, which takes event counts, and every layer with an input outside [0, 1].
- Every other convolution or linear layer takes spikes and only accumulates: ``AC = rate x MACs per
  time-step x T``, with the mean of its input as rate. Behind an average pool that is the firing
  rate in
  front of it: the convention counts an input of 1/4 as a quarter of an operation. ``ops_nonzero``
  counts
  every input that is not zero as a whole one.
- Nothing is counted for BatchNorm (it folds into the convolution), pools and the neurons' own
updates.

An AC costs 0.9 pJ and a MAC 4.6 pJ: 32-bit floating point, 45 nm, Horowitz, "Computing's energy
problem
(and what we can do about it)", ISSCC 2014. The arithmetic alone, without memory traffic.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from braincog.base.node.node import BaseNode
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from ..data.frames import resize_frames
from ..engine.train import Trainer
from ..errors import UserError
from ..models.transfer import TransferModel
from ..plots import GREY, key, looks
from .base import FIGURES, Request, mean_std

MAC_PJ, AC_PJ = 4.6, 0.9
BATCH = 32
SYNAPSES = {nn.Conv2d: "conv", nn.Linear: "linear"}
TOTALS = {
    "spike_rate": ("firing rate", 1.0),
    "mac": ("MAC (M)", 1e-6),
    "ac": ("AC (M)", 1e-6),
    "energy_uj": ("energy (µJ)", 1.0),
    "ratio": ("of the ANN", 1.0),
    "nonzero_uj": ("by non-zero inputs (µJ)", 1.0),
    "events_uj": ("first layer by events (µJ)", 1.0),
}


@FIGURES.register("energy")
def energy(request: Request) -> list[Path]:
    """Spike rates, synaptic operations and energy of one inference, over all seeds."""
    tables, sums = [], []
    for run in request.runs:
        print(f"{run.folder} ...", file=sys.stderr)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.amp):
            layers = measure(run.model, _batches(run, request.samples))
        who = {"run": str(run.folder), "method": run.name, "seed": run.seed}
        tables.append(layers.assign(**who)[[*who, *layers.columns]])
        sums.append({**who, **totals(layers)})
    layers, summary = pd.concat(tables, ignore_index=True), pd.DataFrame(sums)
    o, ann = request.runs[0].options, summary["ann_uj"].iloc[0]
    about = (
        f"{o.event_size} x {o.event_size}; one inference of the event stream, mean over at most "
        f"{request.samples} test recordings, mean ± standard deviation over seeds. {MAC_PJ} pJ per "
        f"MAC, {AC_PJ} pJ per AC (45 nm, Horowitz, ISSCC 2014); arithmetic only. AC = mean input x "
        "MACs x T; the first layer, and every other one that takes real numbers, counts MACs x T. "
        f"ANN: the same layers without spikes, one pass, {ann:.4g} µJ. By non-zero inputs: a "
        "pooled input counts as a whole one. First layer by events: one AC per event and synapse."
    )
    draw, said = partial(_draw, request, layers, summary), _tables(layers, summary)
    return request.publish("energy", draw, layers, about, "%.8g", said)


def _batches(run: Trainer, samples: int) -> Iterator[Tensor]:
    """At most ``samples`` evenly spaced test recordings."""
    test = run.split.test
    chosen = test[np.linspace(0, len(test) - 1, min(samples, len(test))).round().astype(int)]
    for chunk in np.split(chosen, range(BATCH, len(chosen), BATCH)):
        yield resize_frames(run.data.frames[chunk], run.model.event_size).to(run.device)


@torch.no_grad()
def measure(model: TransferModel, batches: Iterable[Tensor]) -> pd.DataFrame:
    """What every layer does in one inference: event stream and head, evaluation mode; mean over the
    recordings.

    The step loop runs, so that hooks see plain tensors also in models of others; the executors give
    the
    same spikes. Mode and executor of the model are restored.

    Args:
        batches: event frames ``[B, T, 2, H, W]`` on the model's device.

    Returns:
        One row per layer, in the order in which they run. ``layer``; ``kind``: conv, linear,
        neuron; for
        synapses ``operation`` (MAC, AC), ``macs`` (per time-step), ``input_mean``,
        ``input_nonzero`` (share
        of the inputs), ``ops`` and ``ops_nonzero`` (per inference), ``energy_pj``; for neurons
        ``neurons``
        (their number) and ``spike_rate`` (spikes per neuron and time-step).

    Raises:
        UserError: no recordings, neurons that give anything but 0 and 1, or layers that cannot be
        counted.
    """
    sums: dict[str, dict[str, Any]] = {}
    hooks: list[tuple[Any, Any]] = []
    for name, module in model.named_modules():
        if isinstance(module, (BaseNode, *SYNAPSES)):
            count = _count_spikes if isinstance(module, BaseNode) else _count
            hooks.append((module, partial(count, sums, name)))
        elif any(p.ndim > 1 for p in module.parameters(recurse=False)):
            raise UserError(
                f"{name} is a {type(module).__name__}, whose operations are not counted here "
                f"(counted: {', '.join(layer.__name__ for layer in SYNAPSES)}); the energy of this "
                "model would come out too small."
            )
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    mode, executor, recordings = model.training, model.executor, 0
    try:
        model.eval()
        model.executor = "step"
        for events in batches:
            model(events)
            recordings += len(events)
    finally:
        for handle in handles:
            handle.remove()
        model.train(mode)
        model.executor = executor
        model.reset()
    if not recordings:
        raise UserError("There are no recordings to measure the energy on: give at least one.")
    first = next(name for name, s in sums.items() if s["kind"] != "neuron")
    rows = [{"layer": n, **_row(s, recordings, model.step, n == first)} for n, s in sums.items()]
    return pd.DataFrame(rows)


def _count(sums: dict, name: str, module: Any, inputs: tuple[Tensor, ...], out: Tensor) -> None:
    x = inputs[0]
    s = sums.setdefault(name, defaultdict(float))
    s["kind"] = next(kind for layer, kind in SYNAPSES.items() if isinstance(module, layer))
    s["macs"] += (
        out.numel() * module.weight[0].numel()
    )  # every output value: one row of the weights
    s["inputs"] += x.numel()
    s["sum"] += x.sum(dtype=torch.float64)
    s["nonzero"] += x.count_nonzero()
    s["real"] += ((x < 0) | (x > 1)).any()


def _count_spikes(sums: dict, name: str, node: BaseNode, _: tuple, out: Tensor) -> None:
    if not ((out == 0) | (out == 1)).all():
        raise UserError(
            f"{name} ({type(node).__name__}) gives values that are neither 0 nor 1: it has no "
            "spike rate."
        )
    s = sums.setdefault(name, defaultdict(float))
    s["kind"] = "neuron"
    s["spikes"] += out.sum(dtype=torch.float64)
    s["outputs"] += out.numel()


def _row(s: dict[str, Any], recordings: int, steps: int, is_first: bool) -> dict[str, object]:
    if s["kind"] == "neuron":
        rate, neurons = float(s["spikes"]) / s["outputs"], s["outputs"] / (recordings * steps)
        return {"kind": "neuron", "neurons": neurons, "spike_rate": rate}
    macs = s["macs"] / recordings  # of one inference
    mean, nonzero = float(s["sum"]) / s["inputs"], float(s["nonzero"]) / s["inputs"]
    is_mac = is_first or s["real"] > 0
    ops = macs if is_mac else macs * mean
    return {
        "kind": s["kind"],
        "operation": "MAC" if is_mac else "AC",
        "macs": macs / steps,
        "input_mean": mean,
        "input_nonzero": nonzero,
        "ops": ops,
        "ops_nonzero": macs * nonzero,
        "energy_pj": ops * (MAC_PJ if is_mac else AC_PJ),
    }


def totals(layers: pd.DataFrame) -> dict[str, float]:
    """Sums of one network from the rows of :func:`measure`.

    Returns:
        ``spike_rate`` over all neurons; ``mac`` and ``ac`` per inference; energies per inference in
        uJ:
        ``energy_uj``; ``events_uj`` with the first layer counted as one AC per event and synapse;
        ``nonzero_uj`` with ``ops_nonzero`` for the ACs; ``ann_uj``, one pass of a network of the
        same
        layers that knows no spikes; and ``ratio``, energy_uj over ann_uj.
    """
    neurons, synapses = (part for _, part in layers.groupby(layers["kind"] != "neuron"))
    first, ac = synapses.iloc[0], synapses[synapses["operation"] == "AC"]
    energy, ann = synapses["energy_pj"].sum(), synapses["macs"].sum() * MAC_PJ
    by_events = energy - first["energy_pj"] + first["ops"] * first["input_mean"] * AC_PJ
    return {
        "spike_rate": (neurons["spike_rate"] * neurons["neurons"]).sum() / neurons["neurons"].sum(),
        "mac": synapses.loc[synapses["operation"] == "MAC", "ops"].sum(),
        "ac": ac["ops"].sum(),
        "energy_uj": energy / 1e6,
        "events_uj": by_events / 1e6,
        "nonzero_uj": (energy + (ac["ops_nonzero"] - ac["ops"]).sum() * AC_PJ) / 1e6,
        "ann_uj": ann / 1e6,
        "ratio": energy / ann,
    }


def _tables(layers: pd.DataFrame, summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Per method; and the input and spike rate of every layer."""
    methods = dict(list(summary.groupby("method", sort=False)))
    sums = [
        {"method": method, "seeds": str(len(part))}
        | {label: mean_std(part[c] * unit) for c, (label, unit) in TOTALS.items()}
        for method, part in methods.items()
    ]
    rows = []
    for name, part in layers.groupby("layer", sort=False):
        kind, macs = part["kind"].iloc[0], part["macs"].iloc[0]
        column, what = ("input_mean", "input") if kind != "neuron" else ("spike_rate", "spikes")
        row = {"layer": name, "kind": f"{kind}, {what}"}
        row["MACs per step (M)"] = "" if kind == "neuron" else f"{macs / 1e6:.4g}"
        rows.append(row | {m: mean_std(part.loc[part["method"] == m, column]) for m in methods})
    heading = (
        "Mean input of every convolution and linear layer (`input`), spike rate of every neuron "
        "layer (`spikes`):"
    )
    return {"": pd.DataFrame(sums), heading: pd.DataFrame(rows)}


def _draw(request: Request, layers: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Spike rate of every neuron layer; energy as reported, and with the first layer by events."""
    found = looks(summary["method"])
    neurons = layers[layers["kind"] == "neuron"]
    names = list(dict.fromkeys(neurons["layer"]))
    figure = request.canvas(7.2, 2.4 + 0.3 * max(len(names), len(found)))
    left, right = figure.subplots(1, 2)
    for i, (method, look) in enumerate(found.items()):
        rate = neurons[neurons["method"] == method].groupby("layer", sort=False)["spike_rate"]
        moved = np.arange(len(rate)) + 0.12 * (i - (len(found) - 1) / 2)
        style = {**look, "markersize": 5, "capsize": 2, "linestyle": ""}
        left.errorbar(rate.mean(), moved, xerr=rate.std(ddof=1), **style)
        own = summary[summary["method"] == method]
        for column, fill, up in (("energy_uj", look["color"], -0.1), ("events_uj", "white", 0.1)):
            bar = own[column].std(ddof=1)
            right.errorbar(own[column].mean(), i + up, xerr=bar, markerfacecolor=fill, **style)
    right.axvline(summary["ann_uj"].mean(), color=GREY, linestyle="--", linewidth=1)
    left.set_yticks(range(len(names)), names)
    right.set_yticks(range(len(found)), list(found))
    for axes, n in ((left, len(names)), (right, len(found))):
        axes.grid(True, axis="x")
        axes.set(ylim=(n - 0.5, -0.5), xlim=(0, None))
    left.set(xlabel="spikes per neuron and time-step", ylabel="neuron layer")
    right.set_xlabel("energy per inference (µJ)")
    hollow: dict[str, Any]
    hollow = {"color": GREY, "marker": "o", "linestyle": "", "markerfacecolor": "white"}
    more = [
        Line2D([], [], **hollow, label="first layer by events"),
        Line2D([], [], color=GREY, linestyle="--", label="ANN, one pass"),
    ]
    key(figure, found, 7.2, more)
    return figure
