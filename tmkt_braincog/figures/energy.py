"""Spike rates, synaptic operations and energy of one inference, counted as the field reports them.

- A layer that takes real numbers multiplies and accumulates: ``MAC = MACs per time-step x T``.
  These are the first layer, which takes event counts, and every one with an input outside [0, 1].
- Every other convolution or linear layer takes spikes and only accumulates: ``AC = mean input x
  MACs per time-step x T``. Behind an average pool the mean is the firing rate in front of it.
- Nothing is counted for BatchNorm (it folds into the convolution), pools and the neurons' updates.

An AC costs 0.9 pJ and a MAC 4.6 pJ: 32-bit floating point, 45 nm, arithmetic without memory
traffic; Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
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
from .base import FIGURES, Request, copied

MAC_PJ, AC_PJ = 4.6, 0.9
BATCH = 32
KINDS = {nn.Conv2d: "conv", nn.Linear: "linear", BaseNode: "neuron"}


@FIGURES.register("energy")
def energy(request: Request) -> list[Path]:
    """Spike rates, synaptic operations and energy of one inference, over all seeds."""
    measured = {}
    for run in request.runs:
        print(f"{run.folder} ...", file=sys.stderr)
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.amp):
            layers = measure(run.model, _batches(run, request.samples))
        measured[str(run.folder), run.name, run.seed] = layers
    layers = pd.concat(measured, names=["run", "method", "seed"]).reset_index([0, 1, 2])
    sums = [{"method": who[1]} | totals(of_run) for who, of_run in measured.items()]
    summary, o = pd.DataFrame(sums), request.runs[0].options
    about = (
        f"{o.event_size} x {o.event_size}; one inference of the event stream, mean over at most "
        f"{request.samples} test recordings, mean ± standard deviation over seeds. {MAC_PJ} pJ per "
        f"MAC, {AC_PJ} pJ per AC (45 nm, Horowitz, ISSCC 2014); arithmetic only. AC = mean input x "
        "MACs x T; the first layer, and every other one that takes real numbers, counts MACs x T. "
        "ANN: the same layers, one pass. First layer by events: one AC per event and synapse."
    )
    methods = summary.groupby("method", sort=False)
    said = methods.agg(_mean_std)
    said.insert(0, "seeds", methods.size().astype(str))
    draw = partial(_draw, request, layers, summary)
    return request.publish("energy", draw, layers, about, said.reset_index())


def _batches(run: Trainer, samples: int) -> Iterator[Tensor]:
    """At most ``samples`` evenly spaced test recordings."""
    test = run.split.test
    chosen = test[np.linspace(0, len(test) - 1, min(samples, len(test))).round().astype(int)]
    for chunk in np.split(chosen, range(BATCH, len(chosen), BATCH)):
        yield resize_frames(run.data.frames[chunk], run.model.event_size).to(run.device)


@torch.no_grad()
def measure(model: TransferModel, batches: Iterable[Tensor]) -> pd.DataFrame:
    """What every layer does in one inference of the event stream, mean over the recordings.

    On a copy in evaluation mode, by the step loop, so that hooks see plain tensors. A UserError for
    neurons that give anything but 0 and 1, and for layers that cannot be counted.

    Args:
        batches: event frames ``[B, T, 2, H, W]`` on the model's device.

    Returns:
        One row per layer, as they run: ``layer``; ``kind``: conv, linear, neuron; for synapses
        ``operation`` (MAC, AC), ``macs`` (per time-step), ``input_mean``, ``ops`` (per inference),
        ``energy_pj``; for neurons ``neurons`` (their number) and ``spike_rate`` (per time-step).
    """
    model = copied(model).eval()
    model.executor = "step"
    calls: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        kind = next((kind for layer, kind in KINDS.items() if isinstance(module, layer)), None)
        if kind:
            module.register_forward_hook(partial(_count, calls, name, kind))
        elif any(p.ndim > 1 for p in module.parameters(recurse=False)):
            raise UserError(
                f"{name} is a {type(module).__name__}, whose operations are not counted here "
                "(counted: Conv2d, Linear): the energy would come out too small."
            )
    recordings = sum(len(model(events).event.logits[0]) for events in batches)
    return _rows(pd.DataFrame(calls), recordings, model.step)


def _count(calls: list, name: str, kind: str, module: Any, inputs: tuple, out: Tensor) -> None:
    """Note inputs of a synapse, whose every output takes a row of weights; outputs of a neuron."""
    x = out if kind == "neuron" else inputs[0]
    macs = 0 if kind == "neuron" else out.numel() * module.weight[0].numel()
    call = {"layer": name, "kind": kind, "values": x.numel(), "macs": macs}
    call |= {"sum": x.sum(dtype=torch.float64).item(), "real": ((x < 0) | (x > 1)).sum().item()}
    calls.append(call | {"odd": ((x != 0) & (x != 1)).sum().item() if kind == "neuron" else 0})


def _rows(calls: pd.DataFrame, recordings: int, steps: int) -> pd.DataFrame:
    s = calls.groupby(["layer", "kind"], sort=False).sum().reset_index()
    for layer in s.layer[s.odd > 0]:
        raise UserError(f"{layer} gives values other than 0 and 1: it has no spike rate.")
    synapse, mean = s.kind != "neuron", s["sum"] / s["values"]
    is_mac = (s.real > 0) | (s.index == synapse.idxmax())
    macs = s.macs / recordings
    ops = macs.where(is_mac, macs * mean)
    rows = s[["layer", "kind"]].assign(
        operation=np.where(is_mac, "MAC", "AC"),
        macs=macs / steps,
        input_mean=mean,
        ops=ops,
        energy_pj=ops * np.where(is_mac, MAC_PJ, AC_PJ),
        neurons=s["values"] / (recordings * steps),
        spike_rate=mean,
    )
    rows.loc[~synapse, rows.columns[2:-2]] = np.nan
    rows.loc[synapse, rows.columns[-2:]] = np.nan
    return rows


def totals(layers: pd.DataFrame) -> dict[str, float]:
    """Sums of one network, of one inference, from the rows of :func:`measure`.

    By events: the first layer counted as one AC per event and synapse. ANN: one pass of the same
    layers, all of them MACs.
    """
    neurons, synapses = (part for _, part in layers.groupby(layers["kind"] != "neuron"))
    first, ac = synapses.iloc[0], synapses[synapses["operation"] == "AC"]
    energy, ann = synapses["energy_pj"].sum() / 1e6, synapses["macs"].sum() * MAC_PJ / 1e6
    of_events = first["ops"] * first["input_mean"] * AC_PJ
    return {
        "firing rate": np.average(neurons["spike_rate"], weights=neurons["neurons"]),
        "MAC (M)": (synapses["ops"].sum() - ac["ops"].sum()) / 1e6,
        "AC (M)": ac["ops"].sum() / 1e6,
        "energy (µJ)": energy,
        "ANN (µJ)": ann,
        "of the ANN": energy / ann,
        "first layer by events (µJ)": energy + (of_events - first["energy_pj"]) / 1e6,
    }


def _mean_std(values: pd.Series) -> str:
    mean, std = values.mean(), values.std()
    return f"{mean:.4g}" + (f" ± {std:.2g}" if std > 1e-9 * abs(mean) else "")


def _draw(request: Request, layers: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Spike rate of every neuron layer; energy of every method beside that of the ANN."""
    found, neurons = looks(summary["method"]), layers[layers["kind"] == "neuron"]
    figure = request.canvas(7.2, 2.4 + 0.3 * max(neurons["layer"].nunique(), len(found)))
    left, right = figure.subplots(1, 2)
    style: Any = {"hue": "method", "linestyle": "none", "errorbar": "sd", "legend": False}
    style |= {"palette": {name: look["color"] for name, look in found.items()}, "orient": "h"}
    style |= {"markers": [look["marker"] for look in found.values()], "markersize": 5}
    style |= {"capsize": 0.1, "err_kws": {"linewidth": 1.2}}
    sns.pointplot(neurons, x="spike_rate", y="layer", ax=left, dodge=0.3, **style)
    sns.pointplot(summary, x="energy (µJ)", y="method", ax=right, **style)
    right.axvline(summary["ANN (µJ)"].mean(), color=GREY, linestyle="--", linewidth=1)
    left.set(xlabel="spikes per neuron and time-step", ylabel="neuron layer", xlim=(0, None))
    right.set(xlabel="energy per inference (µJ)", ylabel="", xlim=(0, None))
    ann = Line2D([], [], color=GREY, linestyle="--", label="ANN, one pass")
    key(figure, found, 7.2, [ann])
    return figure
