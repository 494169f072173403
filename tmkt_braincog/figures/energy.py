"""Spike rates, synaptic operations and energy of one inference, counted as the field reports them.

- A layer that takes real numbers multiplies and accumulates: ``MAC = MACs per time-step x T``. These are the first layer,
  which takes event counts, and every layer with an input outside [0, 1].
- Every other convolution or linear layer takes spikes and only accumulates: ``AC = rate x MACs per time-step x T``,
  with the mean of its input as rate. Behind an average pool that is the firing rate of the neurons in front of the pool (as
  far as the windows cover them), although a pooled input may be 1/4: the convention counts it as a quarter of an operation.
  ``ops_nonzero`` counts every input that is not zero as a whole one.
- Nothing is counted for BatchNorm (it folds into the convolution), pools and the neurons' own updates.

An AC costs 0.9 pJ and a MAC 4.6 pJ: 32-bit floating point, 45 nm, Horowitz, "Computing's energy problem (and what
we can do about it)", ISSCC 2014. The arithmetic alone: memory traffic, which usually costs more, is in none of these numbers.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from braincog.base.node.node import BaseNode
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor, nn

from ..errors import UserError
from ..models.transfer import TransferModel
from ..plots import COLOURS, _figure, _look, save

MAC_PJ, AC_PJ = 4.6, 0.9
SYNAPSES = {nn.Conv2d: "conv", nn.Linear: "linear"}


@torch.no_grad()
def measure(model: TransferModel, batches: Iterable[Tensor]) -> pd.DataFrame:
    """What every layer does in one inference: event stream, event head, evaluation mode; mean over the recordings.

    The step loop runs, so that hooks see plain tensors also in models of others; the executors give the same spikes.
    Mode and executor of the model are restored.

    Args:
        batches: event frames ``[B, T, 2, H, W]`` on the model's device.

    Returns:
        One row per layer, in the order in which they run. ``layer``; ``kind``: conv, linear, neuron; for synapses
        ``operation`` (MAC, AC), ``macs`` (per time-step), ``input_mean``, ``input_nonzero`` (share of the inputs),
        ``ops`` and ``ops_nonzero`` (per inference), ``energy_pj``; for neurons ``neurons`` (their number) and
        ``spike_rate`` (spikes per neuron and time-step).

    Raises:
        UserError: no recordings, neurons that give anything but 0 and 1, or layers whose operations cannot be counted.
    """
    _check_layers(model)
    sums: dict[str, dict[str, float]] = {}
    hooks = [
        module.register_forward_hook(
            partial(_count_spikes if isinstance(module, BaseNode) else _count, sums, name)
        )
        for name, module in model.named_modules()
        if isinstance(module, (BaseNode, *SYNAPSES))
    ]
    mode, executor, recordings = model.training, model.executor, 0
    try:
        model.eval()
        model.executor = "step"
        for events in batches:
            model(events)
            recordings += len(events)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(mode)
        model.executor = executor
        model.reset()
    if not recordings:
        raise UserError("There are no recordings to measure the energy on: give at least one.")
    rows, is_first = [], True
    for name, s in sums.items():
        if s["kind"] == "neuron":
            rate, neurons = (
                float(s["spikes"]) / s["outputs"],
                s["outputs"] / (recordings * model.step),
            )
            rows.append({"layer": name, "kind": "neuron", "neurons": neurons, "spike_rate": rate})
        else:
            rows.append({"layer": name, **_synapses(s, recordings, model.step, is_first)})
            is_first = False
    return pd.DataFrame(rows)


def totals(layers: pd.DataFrame) -> dict[str, float]:
    """Sums of one network from the rows of :func:`measure`.

    Returns:
        ``spike_rate`` over all neurons; ``mac`` and ``ac`` per inference; energies per inference in uJ:
        ``energy_uj``; ``events_uj`` with the first layer counted as one AC per event and synapse; ``nonzero_uj`` with
        ``ops_nonzero`` for the ACs; ``ann_uj``, one pass of a network of the same layers that knows no spikes; and ``ratio``,
        energy_uj over ann_uj.
    """
    neurons = layers[layers["kind"] == "neuron"]
    synapses = layers[layers["kind"] != "neuron"]
    first, ac = synapses.iloc[0], synapses[synapses["operation"] == "AC"]
    energy = synapses["energy_pj"].sum()
    ann = synapses["macs"].sum() * MAC_PJ
    return {
        "spike_rate": (neurons["spike_rate"] * neurons["neurons"]).sum() / neurons["neurons"].sum(),
        "mac": synapses.loc[synapses["operation"] == "MAC", "ops"].sum(),
        "ac": ac["ops"].sum(),
        "energy_uj": energy / 1e6,
        "events_uj": (energy - first["energy_pj"] + first["ops"] * first["input_mean"] * AC_PJ)
        / 1e6,
        "nonzero_uj": (energy + (ac["ops_nonzero"] - ac["ops"]).sum() * AC_PJ) / 1e6,
        "ann_uj": ann / 1e6,
        "ratio": energy / ann,
    }


def _check_layers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        is_known = isinstance(module, (BaseNode, *SYNAPSES))
        if not is_known and any(p.ndim > 1 for p in module.parameters(recurse=False)):
            known = ", ".join(layer.__name__ for layer in SYNAPSES)
            raise UserError(
                f"{name} is a {type(module).__name__}, whose operations are not counted here (counted: {known}); "
                "the energy of this model would come out too small."
            )


def _count(
    sums: dict, name: str, module: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], out: Tensor
) -> None:
    x = inputs[0]
    s = sums.setdefault(name, defaultdict(float))
    s["kind"] = next(kind for layer, kind in SYNAPSES.items() if isinstance(module, layer))
    s["macs"] += (
        out.numel() * module.weight[0].numel()
    )  # every output value needs one row of the weights
    s["inputs"] += x.numel()
    s["sum"] += x.sum(dtype=torch.float64)
    s["nonzero"] += x.count_nonzero()
    s["real"] += ((x < 0) | (x > 1)).any()


def _count_spikes(sums: dict, name: str, node: BaseNode, _, out: Tensor) -> None:
    if not ((out == 0) | (out == 1)).all():
        raise UserError(
            f"{name} ({type(node).__name__}) gives values that are neither 0 nor 1: it has no spike rate."
        )
    s = sums.setdefault(name, defaultdict(float))
    s["kind"] = "neuron"
    s["spikes"] += out.sum(dtype=torch.float64)
    s["outputs"] += out.numel()


def _synapses(
    s: dict[str, float], recordings: int, steps: int, is_first: bool
) -> dict[str, object]:
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


def plot_energy(
    layers: pd.DataFrame, summary: pd.DataFrame, path: str | Path, title: str = ""
) -> None:
    """Spike rate of every neuron layer, and energy by operation, for each method; error bars: std over seeds.

    Args:
        layers: rows of :func:`measure` with the columns ``method`` and ``seed``.
        summary: rows of :func:`totals` with the same columns.
        path: the picture to write.
    """
    save(lambda: _draw(layers, summary, title), path)


def _draw(layers: pd.DataFrame, summary: pd.DataFrame, title: str) -> Figure:
    methods = list(dict.fromkeys(layers["method"]))
    figure = _figure(max(7.2, 4.8 + 0.8 * len(methods)), 3.4, title)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    neurons = layers[layers["kind"] == "neuron"]
    names = list(dict.fromkeys(neurons["layer"]))
    for i, method in enumerate(methods):
        groups = neurons[neurons["method"] == method].groupby("layer", sort=False)["spike_rate"]
        mean, std = groups.mean(), groups.std(ddof=1)  # std of one seed: NaN, no bar
        moved = 0.06 * (i - (len(methods) - 1) / 2)
        place = [n + moved for n in range(len(mean))]
        left.errorbar(place, mean, yerr=std, label=method, markersize=4, capsize=2, **_look(i))
    left.set_xticks(range(len(names)), names if len(names) <= 4 else range(1, len(names) + 1))
    left.set(
        xlabel="neuron layer",
        ylabel="spikes per neuron and time-step",
        xlim=(-0.4, len(names) - 0.6),
    )
    left.set_ylim(bottom=0)
    left.legend()
    _bars(right, summary, methods)
    figure.legend(handles=_key(), loc="outside lower right", ncols=2)
    return figure


def _bars(axes: Axes, summary: pd.DataFrame, methods: list[str]) -> None:
    """As reported to the left of each tick, with the first layer by events to the right."""
    groups = summary.assign(mac_uj=summary["mac"] * MAC_PJ / 1e6).groupby("method")
    means, stds = groups.mean(numeric_only=True), groups.std(ddof=1, numeric_only=True)
    for i, method in enumerate(methods):
        color, (mean, std) = COLOURS[i % len(COLOURS)], (means.loc[method], stds.loc[method])
        axes.bar(i - 0.19, mean["mac_uj"], 0.34, color=color)
        axes.bar(
            i - 0.19,
            mean["energy_uj"] - mean["mac_uj"],
            0.34,
            bottom=mean["mac_uj"],
            color=color,
            alpha=0.45,
        )
        axes.bar(i + 0.19, mean["events_uj"], 0.34, color="white", edgecolor=color, hatch="////")
        for side, name in ((-0.19, "energy_uj"), (0.19, "events_uj")):
            axes.errorbar(i + side, mean[name], yerr=std[name], color="0.2", capsize=2)
    axes.axhline(means["ann_uj"].mean(), color="0.2", linestyle="--", linewidth=1)
    axes.set_xticks(range(len(methods)), methods)
    axes.set(ylabel="energy per inference (µJ)", xlim=(-0.6, len(methods) - 0.4))


def _key() -> list[Artist]:
    """Legend of the bars in grey, since the methods are named below them."""
    return [
        Patch(color="0.35", label="MAC, 4.6 pJ"),
        Patch(color="0.35", alpha=0.45, linewidth=0, label="AC, 0.9 pJ"),
        Patch(facecolor="white", edgecolor="0.35", hatch="////", label="first layer by events"),
        Line2D([], [], color="0.2", linestyle="--", linewidth=1, label="ANN, one pass"),
    ]
