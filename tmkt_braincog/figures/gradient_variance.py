"""Variance of the loss's gradient over batches, for each mixing strategy at the same weights.

TMKT (arXiv 2509.12959) claims that time-step mixup lowers it. Here every strategy meets the same
weights, recordings, partners and expected share of event frames, and the same loss: Eq. 17 without
its heads, ``L_CLSm + lambda L_RDA``, because mixed inputs have no label per frame.

A gradient g is that of all weights, in training mode and float32, at one batch: the first of an
epoch of its own, behind the last epoch of the training. With two draws of the mixing per batch::

    variance = tr Cov(g) = E |g|^2 - |E g|^2    of everything that is chance
    mixing   = E |g - g'|^2 / 2                 its part that the draws of the mixing add
    signal   = |E g|^2                          noise-to-signal = variance / signal

All are unbiased but the last, and summed in float64 as the gradients come. Intervals are those over
seeds, on a log scale.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from .. import mixing
from ..data import Pair
from ..engine.checkpoint import same_run
from ..engine.train import Trainer
from ..errors import UserError
from ..methods import TMKT
from ..mixing import Mixed, Progress
from ..plots import key, looks
from .base import COLUMNS, FIGURES, Request, copied, untrained

_STREAM = 3  # keeps the second draws apart from the streams of sampling and splits
# What the common loss takes from a run besides its general options.
LOSS_OPTIONS = ("domain_loss_coefficient", "TET_loss", "smoothing")
RELATIVE = ("variance", "noise_to_signal")  # also given over TSM's


@FIGURES.register("gradient-variance")
def gradient_variance(request: Request) -> list[Path]:
    """Variance of the gradient for each mixing strategy, at the initial and the last weights."""
    first, o = request.runs[0], request.runs[0].options
    tables: dict[tuple[str, int], pd.DataFrame] = {}
    for run in request.runs:
        own, other = ({n: getattr(r.options, n) for n in LOSS_OPTIONS} for r in (run, first))
        same_run(own, other, f"{run.folder}, compared with {first.folder},")
    for run in request.runs:
        same = type(run.model) is type(first.model)
        for weights in ("initial" if same else f"{run.name}, initial", f"{run.name}, last"):
            if (weights, run.seed) not in tables:  # methods of one network begin alike
                print(f"{run.folder}, {weights} ...", file=sys.stderr)
                trainer = untrained(run) if weights.endswith("initial") else run
                tables[weights, run.seed] = measure(trainer, request.ratios, request.batches)
    rows = pd.concat(tables, names=["weights", "seed"]).reset_index(level=[0, 1])
    about = (
        f"Batches of {o.batch_size}, {request.batches} of them per strategy. Gradient of L_CLSm + "
        f"{o.domain_loss_coefficient:g} L_RDA, no heads, to all weights of the model; recordings, "
        "partners and weights are the same for all strategies. Variance: tr Cov(g); of it mixing: "
        "the part that the draws of the mixing add to that of recordings and partners; "
        "noise-to-signal: tr Cov(g) over |E g|^2 (-: too few batches to tell |E g|^2 "
        "from 0); relative: over TSM's at the same ratio, paired. Linear: one t* for all samples, "
        "as non-linear and fixed at that share."
    )
    parts = [part for _, part in rows.groupby(["weights", "ratio", "strategy"], sort=False)]
    if (seeds := max(map(len, parts))) > 1:
        about += f" Geometric means over {seeds} seeds, Student's 95 % intervals."
    said = pd.DataFrame(map(_cells, parts))
    return request.publish("gradient-variance", lambda: _draw(request, rows), rows, about, said)


class Strategy(NamedTuple):
    """How it mixes, at which progress of the training, with how many draws (2: by chance)."""

    mixing: Callable[[Pair, Progress], Mixed]
    progress: float | None
    draws: int


def strategies(steps: int, ratio: float) -> dict[str, Strategy]:
    """By name, where their expected share of event frames is ``ratio``, in (0, 1); TSM first."""
    return {
        "tsm": Strategy(mixing.TimeStepMixup(steps, ratio), None, 2),
        "linear": Strategy(mixing.DynamicLinear(steps), ratio, 1),
        "sliding": Strategy(mixing.SlidingReplacement(steps), ratio ** (1 / 3), 2),
        "input": Strategy(partial(mix_inputs, ratio), None, 1),
    }


def progress_at(share: float | None) -> Progress:
    return Progress(round((share or 0) * 10**6), 10**6)


def mix_inputs(ratio: float, batch: Pair, progress: Progress) -> Mixed:
    """Mixup of the pixels at every time-step, ``ratio events + (1 - ratio) static``."""
    frames = ratio * batch.events + (1 - ratio) * batch.static_frames()
    no_label: Any = None
    return Mixed(frames, no_label, no_label, frames.new_full((len(frames),), 1 - ratio))


def measure(trainer: Trainer, ratios: Sequence[float], batches: int) -> pd.DataFrame:
    """All strategies at the weights that the trainer's model has now, on a copy of it.

    One row per ratio and strategy: ``ratio``, ``strategy``, ``share`` (of event frames, as drawn),
    ``progress``, ``batches``, and :func:`moments`, two of them over TSM's. A UserError for one
    batch and for ratios that cannot be had.
    """
    if batches < 2:
        raise UserError(f"--batches {batches}: a variance needs at least 2, better 64.")
    model, method, rows = copied(trainer.model).train(), common_loss(trainer), []
    weights = [p for p in model.parameters() if p.requires_grad]

    def gradients(strategy: Strategy, shares: list[float]) -> Iterator[Tensor]:
        for pairs in _batches(trainer, batches, strategy.draws):
            of_draws = []
            for batch in pairs:
                mixed = strategy.mixing(batch, progress_at(strategy.progress))
                shares.append(1 - mixed.y_m.mean().item())
                loss = method.losses(model(batch.events, mixed.frames), mixed, batch.label)["loss"]
                parts = torch.autograd.grad(loss, weights, materialize_grads=True)
                of_draws.append(torch.cat([part.flatten() for part in parts]))
            yield torch.stack(of_draws)

    for ratio, wanted in [(ratio, strategies(trainer.options.step, ratio)) for ratio in ratios]:
        tsm: dict[str, float] = {}
        for name, strategy in wanted.items():
            shares: list[float] = []
            found = moments(gradients(strategy, shares))
            tsm = tsm or found
            row = {"ratio": ratio, "strategy": name, "share": np.mean(shares)}
            row |= {"progress": strategy.progress, "batches": batches, **found}
            rows.append(row | {f"{key}_relative": found[key] / tsm[key] for key in RELATIVE})
    return pd.DataFrame(rows)


def common_loss(trainer: Trainer) -> TMKT:
    """``L_CLSm + lambda L_RDA`` with the run's options and coefficients theta_t."""
    o = trainer.options
    its: Any = {"lam": o.domain_loss_coefficient, "tet": o.TET_loss, "smoothing": o.smoothing}
    its |= {"coefficients": "fixed", "mag_weight": 0, "mrp_weight": 0}
    method = TMKT(o.step, trainer.model.num_features, **its).to(trainer.device)
    rda = getattr(trainer.method, "rda", None)  # event-only training has none: theta_t at its start
    if rda is not None:
        method.rda.load_state_dict(rda.state_dict())
    return method


def _batches(trainer: Trainer, count: int, draws: int) -> Iterator[list[Pair]]:
    """The first batch of ``count`` unseen epochs, each with ``draws`` draws of the mixing."""
    first = trainer.options.epochs
    trainer.encode()
    for epoch in range(first, first + count):
        trainer.pairs.set_epoch(epoch)
        batch = trainer.pairs[trainer.batches(epoch)[0]].to(trainer.device)
        again = np.random.default_rng((trainer.seed, epoch, 0, _STREAM)).random(batch.draws.shape)
        yield [batch, batch._replace(draws=torch.from_numpy(again).to(trainer.device))][:draws]


def moments(gradients: Iterable[Tensor]) -> dict[str, float]:
    """``variance``, ``mixing``, ``signal``, ``noise_to_signal`` of N > 1 gradients ``[K, P]``, one
    for every batch, of K = 1 or 2 draws of the mixing.

    The last is NaN where the signal drowns, its unbiased estimate not being positive.
    """
    N, of_mixing, squared_means = 0, 0.0, 0.0
    total = squares = torch.tensor(0.0)
    for g in (g.double() for g in gradients):
        N, total, squares = N + 1, total + g, squares + g.square().sum(1)
        squared_means += g.mean(0).square().sum().item()
        of_mixing += g.var(0).sum().item() if len(g) > 1 else 0.0
    signal = (total.mean(0).square().sum().item() - squared_means) / (N * (N - 1))
    variance = ((squares - total.square().sum(1) / N) / (N - 1)).mean().item()
    ratio = variance / signal if signal > 0 else np.nan
    found = {"variance": variance, "mixing": of_mixing / N, "signal": signal}
    return found | {"noise_to_signal": ratio}


def over_seeds(values: pd.Series) -> tuple[float, float, float]:
    """Geometric mean and Student's interval on a log scale.

    No interval for one seed, for a value that is not positive, and for TSM over itself.
    """
    n = len(values)
    if n < 2 or not (values > 0).all():
        return values.mean(), np.nan, np.nan
    logs = np.log(values)
    margin = stats.t.ppf(0.975, n - 1) * stats.sem(logs)
    value, factor = np.exp(logs.mean()), np.exp(margin) if margin > 1e-12 else np.nan
    return value, value / factor, value * factor


def _cells(part: pd.DataFrame) -> dict[str, str]:
    """A row of the table of words, from the rows of all seeds."""

    def number(name: str) -> str:
        value, low, high = over_seeds(part[name])
        shown = f"{value:.3g}" + ("" if pd.isna(low) else f" [{low:.3g}, {high:.3g}]")
        return "-" if pd.isna(value) else shown

    first, variance = part.iloc[0], over_seeds(part["variance"])[0]
    return {
        "weights": first["weights"],
        "ratio": f"{first['ratio']:g}",
        "strategy": first["strategy"],
        "share": f"{part['share'].mean():.3f}",
        "progress": "" if pd.isna(first["progress"]) else f"{first['progress']:.2f}",
        "variance": f"{variance:.3g}",
        "of it mixing": f"{100 * over_seeds(part['mixing'])[0] / variance:.1f} %",
        "relative [95 % CI]": number("variance_relative"),
        "noise-to-signal [95 % CI]": number("noise_to_signal"),
        "its relative [95 % CI]": number("noise_to_signal_relative"),
    }


def _draw(request: Request, rows: pd.DataFrame) -> Figure:
    """Variance over TSM's against the share of event frames, a panel per weights."""
    panels = rows.groupby("weights", sort=False)
    x, y = "share of event frames", "variance over time-step mixup's"
    figure, panel = request.panels(len(panels), 3.0, 3.2, x, y)
    found = looks(rows["strategy"])
    for axes, (weights, of_weights) in zip(panel, panels, strict=True):
        for i, (strategy, part) in enumerate(of_weights.groupby("strategy", sort=False)):
            by_ratio = part.groupby("ratio")["variance_relative"]
            ratios, seen = zip(*((ratio, over_seeds(its)) for ratio, its in by_ratio), strict=True)
            value, low, high = np.array(seen).T
            bars, moved = np.nan_to_num([value - low, high - value]), np.array(ratios)
            moved += 0.01 * (i - 1.5)
            axes.errorbar(moved, value, bars, markersize=4, capsize=2, **found[str(strategy)])
        axes.set(title=f"weights: {weights}", xticks=of_weights["ratio"].unique())
    key(figure, found, 3.0 * min(COLUMNS, len(panel)))
    return figure
