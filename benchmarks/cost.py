"""How the cost of a training step grows with T, batch, image size and classes: step loop and fused
executor, in one run.

    python benchmarks/cost.py                   # writes results/performance/cost_cpu.{json,png,pdf}
    python benchmarks/cost.py --device cuda     # ... cost_cuda.*

One TMKT step of Transfer_VGG_SNN in float32 (both streams, all losses, backward, AdamW) is measured
around a base point, one quantity varied at a time. The base of a CPU is small, 4 recordings of 32 x
32 with T = 10, so that a step takes one or two seconds on two cores and the whole run about ten
minutes; a GPU gets the published 48 x 48 and 16 recordings. Time is the best of --repeat after one
step to warm up (compiling), memory the peak of tensors above what is there between steps.

Exponents are slopes of straight lines through the points in log-log, by least squares: cost ~
quantity^exponent. A part that does not grow (the gradients and moments of the weights, constant
calls) lowers them, and a line through points that bend says only so much: look at the plot. The
fused executor compiles its kernels for large layers only, which bends its time at small points.

JSON: {"hardware", "versions", "base": {"model", "batch", "steps", "size", "classes"}, "rows":
[{"quantity", "value", "executor", "seconds", "peak_mib"}], "exponents": [{"quantity", "metric",
"executor", "exponent"}]}; metric is seconds or peak_mib.
"""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from workload import Workload, hardware, main, parser, prepare, time_and_memory, write

from tmkt_braincog.plots import COLOURS, MARKERS, canvas, save

BASE = {
    "cpu": Workload("cpu", batch=4, steps=10, size=32),
    "cuda": Workload("cuda", batch=16, steps=10, size=48),
}
CLASSES, T = (10, 101, 1623), (4, 10, 20, 40)
VALUES = {
    "cpu": {"steps": T, "batch": (4, 8, 16, 32), "size": (24, 32, 48, 96), "classes": CLASSES},
    "cuda": {"steps": T, "batch": (8, 16, 32, 64), "size": (24, 48, 72, 96), "classes": CLASSES},
}
EXECUTORS = {"step": "step loop", "fused": "fused"}
METRICS = {"seconds": "time per step (s)", "peak_mib": "peak memory (MiB)"}
LABELS = {
    "steps": ("T", "time-steps $T$"),
    "batch": ("B", "batch size $B$"),
    "size": ("L", "image side $L$ (pixels)"),
    "classes": ("N", "classes $N$"),
}


def measure(base: Workload, values: dict[str, tuple[int, ...]], repeat: int) -> list[dict]:
    """A row per quantity, value and executor; the base point is measured once, listed for all."""
    known, rows = {}, []
    for quantity, value, executor in points(values):
        point = replace(base, **{quantity: value})
        if (point, executor) not in known:
            model = point.build(executor)
            known[point, executor] = time_and_memory(point, model, "float32", repeat)
        seconds, mib = known[point, executor]
        row = {"quantity": quantity, "value": value, "executor": executor}
        rows.append(row | {"seconds": seconds, "peak_mib": mib})
        print(*rows[-1].values(), flush=True)
    return rows


def points(values: dict[str, tuple[int, ...]]) -> list[tuple[str, int, str]]:
    return [(q, v, e) for q, grid in values.items() for v in grid for e in EXECUTORS]


def line(rows: list[dict], quantity: str, metric: str, executor: str) -> np.ndarray:
    """Values of the quantity, ascending, and what was measured there."""
    wanted = quantity, executor
    found = [(r["value"], r[metric]) for r in rows if (r["quantity"], r["executor"]) == wanted]
    return np.array(sorted(found), float).T


def fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """a, b of ``y = b x^a``, by least squares in the logarithms."""
    a, log_b = np.polyfit(np.log(x), np.log(y), 1)
    return float(a), float(np.exp(log_b))


def exponents(rows: list[dict]) -> list[dict]:
    combined = product(dict.fromkeys(r["quantity"] for r in rows), METRICS, EXECUTORS)
    return [
        {"quantity": q, "metric": m, "executor": e, "exponent": fit(*line(rows, q, m, e))[0]}
        for q, m, e in combined
    ]


def draw(rows: list[dict], title: str) -> Figure:
    """Time above, memory below, a column per quantity; all axes logarithmic, shared in a row."""
    quantities = list(dict.fromkeys(r["quantity"] for r in rows))
    figure = canvas(7.2, 4.4, title)
    panels = figure.subplots(len(METRICS), len(quantities), sharex="col", sharey="row")
    for row, metric in zip(panels, METRICS, strict=True):
        for axes, quantity in zip(row, quantities, strict=True):
            _panel(axes, rows, quantity, metric)
        row[0].set_ylabel(METRICS[metric])
    for axes, quantity in zip(panels[-1], quantities, strict=True):
        axes.set_xlabel(LABELS[quantity][1])
    handles, _ = panels[0, 0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="0.35", linewidth=1, label="least squares in log-log"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: Axes, rows: list[dict], quantity: str, metric: str) -> None:
    """The points, their fitted lines, and the exponents in the colours of the lines."""
    for i, (executor, name) in enumerate(EXECUTORS.items()):
        x, y = line(rows, quantity, metric, executor)
        a, b = fit(x, y)
        axes.plot(x, y, color=COLOURS[i], marker=MARKERS[i], markersize=4, linestyle="", label=name)
        axes.plot(x, b * x**a, color=COLOURS[i], linewidth=1)
        power = rf"$\propto {LABELS[quantity][0]}^{{{a:.2f}}}$"
        where = {"transform": axes.transAxes, "va": "top"}
        axes.text(0.05, 0.96 - 0.13 * i, power, color=COLOURS[i], **where)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [f"{v:g}" for v in x])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def run(argv: list[str]) -> int:
    options, folder = parser(__doc__), Path("results/performance")
    options.add_argument("--output", type=Path, default=folder, help="default: %(default)s")
    options = options.parse_args(argv)
    prepare(options)
    base = BASE[options.device]
    print(f"base: {base}; {hardware(options.device)}")
    # Kernels are compiled for each T; from the ninth form on, torch would run them uncompiled.
    with torch._dynamo.config.patch(recompile_limit=64):
        rows = measure(base, VALUES[options.device], options.repeat)
    found = exponents(rows)
    for e in found:
        print(f"{e['executor']:6} {e['metric']:9} ~ {e['quantity']}^{e['exponent']:.2f}")
    stem = options.output / f"cost_{options.device}"
    point = {k: v for k, v in asdict(base).items() if k != "device"}
    write(stem.with_suffix(".json"), options.device, rows, base=point, exponents=found)
    title = f"One quantity varied around {base}\n{hardware(options.device)}"
    for suffix in (".png", ".pdf"):
        save(lambda: draw(rows, title), stem.with_suffix(suffix))
    print(f"Written: {stem}.json, .png, .pdf")
    return 0


if __name__ == "__main__":
    main(run)
