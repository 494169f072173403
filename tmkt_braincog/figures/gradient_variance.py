"""Variance of the loss's gradient over batches, for each mixing strategy at the same weights.

TMKT (arXiv 2509.12959) claims that time-step mixup lowers it. Here every strategy meets the same
weights, recordings and static partners, and the same loss: Eq. 17 without its heads, ``L_CLSm +
lambda
L_RDA``, because mixed inputs have no label per frame. Strategies are compared where their expected
share of event frames is the same.

A gradient g is that of all weights of the model, in training mode and float32, at one batch: the
first
of an epoch of its own, behind the last epoch of the training. With two draws of the mixing per
batch::

    tr Cov(g) = E |g|^2 - |E g|^2          the variance, of everything that is chance
    mixing    = E |g - g'|^2 / 2           that part which the draws of the mixing add; g' has other
    draws
    signal    = |E g|^2
    noise-to-signal = tr Cov(g) / |E g|^2

All are unbiased but the last. Intervals come from the jackknife over batches, on a log scale.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from ..data import Pair
from ..data.sampling import epoch_batches
from ..engine.checkpoint import same_run
from ..engine.train import Trainer
from ..errors import UserError
from ..methods import TMKT
from ..plots import GREY, key, looks
from .base import FIGURES, Request, untrained
from .same_share import Case, cases, progress_at
from .variance import estimates, flat_gradient, gram, interval_columns, over_seeds

LIMIT = 8 * 2**30  # most bytes that the gradients of one strategy may take
_STREAM = 3  # keeps the second draws apart from the streams of sampling and splits
# What the common loss takes from a run besides its general options.
LOSS_OPTIONS = ("domain_loss_coefficient", "TET_loss", "smoothing")


@FIGURES.register("gradient-variance")
def gradient_variance(request: Request) -> list[Path]:
    """Variance of the gradient for each mixing strategy, at the initial and the last weights."""
    loss = [{name: getattr(run.options, name) for name in LOSS_OPTIONS} for run in request.runs]
    first = request.runs[0]
    for run, its in zip(request.runs, loss, strict=True):
        same_run(its, loss[0], f"{run.folder}, compared with {first.folder},")
    tables = [_measured(run, weights, request) for run, weights in _weights(request.runs)]
    rows = pd.concat(tables, ignore_index=True)
    summary = over_seeds(rows)
    o, seeds = first.options, summary["seeds"].max()
    over = f"Student's over {seeds} seeds, values are geometric means" if seeds > 1 else ""
    about = (
        f"Batches of {o.batch_size}, {request.batches} of them per strategy. Gradient of L_CLSm + "
        f"{o.domain_loss_coefficient:g} L_RDA, no heads, to all weights of the model; recordings, "
        "partners and weights are the same for all strategies. Variance: tr Cov(g); of it mixing: "
        "the part that the draws of the mixing add to that of recordings and partners; "
        "noise-to-signal: tr Cov(g) over |E g|^2 (-: too few batches to tell |E g|^2 "
        "from 0); relative: over TSM's at the same ratio, paired. Intervals: 95 %, "
        f"{over or 'jackknife over batches'}."
    )
    said = {"": pd.DataFrame([_cells(row) for _, row in summary.iterrows()])}
    return request.publish(
        "gradient-variance", lambda: _draw(request, summary), rows, about, "%.8g", said
    )


def _weights(runs: Sequence[Trainer]) -> Iterator[tuple[Trainer, str]]:
    """Every seed at its initial weights, where all methods start, and every run at its last."""
    initial = set()
    for run in runs:
        if run.seed not in initial:
            initial.add(run.seed)
            yield untrained(run), "initial"
        yield run, f"{run.name}, last"


def _measured(run: Trainer, weights: str, request: Request) -> pd.DataFrame:
    print(f"{run.folder}, {weights} ...", file=sys.stderr)
    rows = measure(run, request.ratios, request.batches)
    where = {"weights": weights, "seed": run.seed}
    return rows.assign(**where)[[*where, *rows.columns]]


def measure(trainer: Trainer, ratios: Sequence[float], batches: int) -> pd.DataFrame:
    """All strategies at the weights that the trainer's model has now, which stay as they are.

    Returns:
        One row per ratio and strategy: ``ratio``, ``strategy``, ``share`` (of event frames, as
        drawn),
        ``progress``, ``batches``, and what :func:`estimates` gives, over TSM's at this ratio.

    Raises:
        UserError: fewer than 3 batches, ratios that cannot be had, or gradients of more than
        :data:`LIMIT` bytes.
    """
    if batches < 3:
        raise UserError(
            f"--batches {batches}: a variance with an interval needs at least 3, better 64."
        )
    method = common_loss(trainer)
    planned = {ratio: cases(trainer.options.step, ratio) for ratio in ratios}
    rows = []
    with training_untouched(trainer.model):
        for ratio, wanted in planned.items():
            tsm = None
            for case in wanted:
                print(f"  ratio {ratio:g}: {', '.join(case.progress_of)}", file=sys.stderr)
                products, share = _products(trainer, method, case, batches)
                tsm = products if tsm is None else tsm
                values = estimates(products, tsm)
                for name, progress in case.progress_of.items():
                    place = {"ratio": ratio, "strategy": name, "share": share, "progress": progress}
                    rows.append({**place, "batches": batches, **values})
    return pd.DataFrame(rows)


def common_loss(trainer: Trainer) -> TMKT:
    """``L_CLSm + lambda L_RDA`` with the run's lambda, form of the classification loss and
    coefficients theta_t."""
    o = trainer.options
    method = TMKT(
        o.step,
        trainer.model.num_features,
        lam=o.domain_loss_coefficient,
        tet=o.TET_loss,
        coefficients="fixed",
        smoothing=o.smoothing,
        mag_weight=0,
        mrp_weight=0,
    ).to(trainer.device)
    rda = getattr(trainer.method, "rda", None)  # event-only training has none: theta_t at its start
    if rda is not None:
        method.rda.load_state_dict(rda.state_dict())
    return method


@contextmanager
def training_untouched(model: Any) -> Iterator[None]:
    """Training mode within; afterwards the mode and the running statistics of BatchNorm are what
    they were."""
    mode, kept = model.training, {name: b.clone() for name, b in model.named_buffers()}
    model.train()
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
        model.train(mode)
        model.reset()


def _products(trainer: Trainer, method: TMKT, case: Case, batches: int) -> tuple[np.ndarray, float]:
    """:func:`gram` of the gradients of one case, and its share of event frames."""
    draws = 2 if case.random else 1
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    width = sum(p.numel() for p in parameters)
    need = draws * batches * width * 4
    if need > LIMIT:
        raise UserError(
            f"--batches {batches}: {draws * batches} gradients of {width:,} values take "
            f"{need / 2**30:.1f} GiB, more than the {LIMIT / 2**30:.0f} GiB that may be kept at "
            f"once. Give --batches {LIMIT // (draws * width * 4)} or fewer."
        )
    gradients, shares = torch.empty(draws, batches, width), []
    progress = progress_at(next(iter(case.progress_of.values())))
    for n, pairs in enumerate(_batches(trainer, batches, draws)):
        for k, batch in enumerate(pairs):
            mixed = case.mixing(batch, progress)
            out = trainer.model(batch.events, mixed.frames)
            gradients[k, n] = flat_gradient(
                method.losses(out, mixed, batch.label)["loss"], parameters
            )
            shares.append(1 - mixed.y_m.mean().item())
    return gram(gradients), float(np.mean(shares))


def _batches(trainer: Trainer, count: int, draws: int) -> Iterator[list[Pair]]:
    """The first batch of ``count`` epochs that no training step has seen, each with ``draws`` draws
    of the mixing."""
    o, labels = trainer.options, trainer.data.labels[trainer.split.train].numpy()
    for epoch in range(o.epochs, o.epochs + count):
        trainer.pairs.set_epoch(epoch)
        sampled = (labels, o.batch_size, o.epoch_size, o.sampling, trainer.seed, epoch)
        batch = trainer.pairs[epoch_batches(*sampled)[0]].to(trainer.device)
        again = np.random.default_rng((trainer.seed, epoch, 0, _STREAM)).random(batch.draws.shape)
        yield [batch, batch._replace(draws=torch.from_numpy(again).to(trainer.device))][:draws]


def _cells(row: pd.Series) -> dict[str, str]:
    def number(name: str) -> str:
        value, low, high = row[interval_columns(name)]
        if pd.isna(value):
            return "-"
        return f"{value:.3g}" if pd.isna(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"

    noise = row["noise_to_signal"]
    return {
        "weights": row["weights"],
        "ratio": f"{row['ratio']:g}",
        "strategy": row["strategy"],
        "share": f"{row['share']:.3f}",
        "progress": "" if pd.isna(row["progress"]) else f"{row['progress']:.2f}",
        "variance": f"{row['variance']:.3g}",
        "of it mixing": f"{100 * row['mixing'] / row['variance']:.1f} %",
        "relative [95 % CI]": number("variance_relative"),
        "noise-to-signal": "-" if pd.isna(noise) else f"{noise:.3g}",
        "its relative [95 % CI]": number("noise_to_signal_relative"),
    }


# What is drawn: linear stands for non-linear and for the fixed ratio, which cannot have every
# share.
DRAWN = {
    "tsm": "time-step mixup",
    "linear": "same t* for all (fixed, linear, non-linear)",
    "sliding": "sliding replacement",
    "input": "mixup of inputs",
}
ROWS = {
    "variance": r"$\mathrm{tr\,Cov}(g)$",
    "variance_relative": "the same over\ntime-step mixup's",
    "noise_to_signal": r"$\mathrm{tr\,Cov}(g)\,/\,\|\mathrm{E}\,g\|^2$",
}


def _draw(request: Request, summary: pd.DataFrame) -> Figure:
    """Variance, the same over TSM's, and noise-to-signal against the share of event frames; a
    column per weights."""
    by_weights = summary.groupby("weights", sort=False)
    figure = request.canvas(max(6.0, 0.8 + 2.6 * len(by_weights)), 6.6)
    panels = figure.subplots(len(ROWS), len(by_weights), squeeze=False, sharex=True, sharey="row")
    for axes_row, (name, label) in zip(panels, ROWS.items(), strict=True):
        axes_row[0].set_ylabel(label)
        for axes, (_, part) in zip(axes_row, by_weights, strict=True):
            _lines(axes, part, name)
    for top, bottom, (weights, _) in zip(panels[0], panels[-1], by_weights, strict=True):
        top.set_title(f"weights: {weights}")
        bottom.set_xlabel("expected share of event frames")
    of_it = "of it: the draws of the mixing"
    dotted = Line2D([], [], color=GREY, linestyle=":", marker="_", label=of_it)
    key(figure, looks(DRAWN.values()), 6.0, [dotted])
    return figure


def _lines(axes: Axes, part: pd.DataFrame, name: str) -> None:
    axes.set_yscale("log")
    span = part[interval_columns(name)].stack()
    subs = (1, 2, 5) if span.max() < 100 * span.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    for i, (strategy, look) in enumerate(zip(DRAWN, looks(DRAWN.values()).values(), strict=True)):
        rows = part[part["strategy"] == strategy].sort_values("ratio")
        value, low, high = (rows[column] for column in interval_columns(name))
        bars = [(value - low).fillna(0), (high - value).fillna(0)]
        moved = rows["ratio"] + 0.01 * (i - 1.5)
        style = {"markersize": 4, "capsize": 2, "color": look["color"], "marker": look["marker"]}
        axes.errorbar(moved, value, yerr=bars, **style)
        if name == "variance" and (rows["mixing"] > 0).any():
            axes.plot(moved, rows["mixing"], color=look["color"], linestyle=":", marker="_")
    axes.set_xticks(sorted(part["ratio"].unique()))
