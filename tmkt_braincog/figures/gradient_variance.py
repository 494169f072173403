"""Variance of the loss's gradient over batches, for each mixing strategy at the same weights.

TMKT (arXiv 2509.12959) claims that time-step mixup lowers it. Here every strategy meets the same
weights, recordings, partners and expected share of event frames, and the same loss: Eq. 17 without
its heads, ``L_CLSm + lambda L_RDA``, because mixed inputs have no label per frame.

A gradient g is that of all weights, in training mode and float32, at one batch: the first of an
epoch of its own, behind the last epoch of the training. With two draws of the mixing per batch::

    variance = tr Cov(g) = E |g|^2 - |E g|^2    of everything that is chance
    mixing   = E |g - g'|^2 / 2                 its part that the draws of the mixing add
    signal   = |E g|^2                          noise-to-signal = variance / signal

All are unbiased but the last. Intervals are those over seeds, on a log scale.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
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
from ..data.sampling import epoch_batches
from ..engine.checkpoint import same_run
from ..engine.train import Trainer
from ..errors import UserError
from ..methods import TMKT
from ..mixing import Mixed, Progress
from ..plots import key, looks
from .base import COLUMNS, FIGURES, Request, copied, untrained

LIMIT = 8 * 2**30  # most bytes that the gradients of one strategy may take
_STREAM = 3  # keeps the second draws apart from the streams of sampling and splits
# What the common loss takes from a run besides its general options.
LOSS_OPTIONS = ("domain_loss_coefficient", "TET_loss", "smoothing")
RELATIVE = ("variance", "noise_to_signal")  # also given over TSM's
QUANTITIES = (*RELATIVE, "mixing", *(f"{name}_relative" for name in RELATIVE))


@FIGURES.register("gradient-variance")
def gradient_variance(request: Request) -> list[Path]:
    """Variance of the gradient for each mixing strategy, at the initial and the last weights."""
    first, o = request.runs[0], request.runs[0].options
    for run in request.runs:
        own, other = ({n: getattr(r.options, n) for n in LOSS_OPTIONS} for r in (run, first))
        same_run(own, other, f"{run.folder}, compared with {first.folder},")
    tables: dict[tuple[str, int], pd.DataFrame] = {}
    for run in request.runs:
        same = type(run.model) is type(first.model)
        for weights in ("initial" if same else f"{run.name}, initial", f"{run.name}, last"):
            if (weights, run.seed) not in tables:  # methods of one network begin alike
                print(f"{run.folder}, {weights} ...", file=sys.stderr)
                trainer = untrained(run) if weights.endswith("initial") else run
                tables[weights, run.seed] = measure(trainer, request.ratios, request.batches)
    rows = pd.concat(tables, names=["weights", "seed"]).reset_index(level=[0, 1])
    summary = over_seeds(rows)
    seeds = summary["seeds"].max()
    about = (
        f"Batches of {o.batch_size}, {request.batches} of them per strategy. Gradient of L_CLSm + "
        f"{o.domain_loss_coefficient:g} L_RDA, no heads, to all weights of the model; recordings, "
        "partners and weights are the same for all strategies. Variance: tr Cov(g); of it mixing: "
        "the part that the draws of the mixing add to that of recordings and partners; "
        "noise-to-signal: tr Cov(g) over |E g|^2 (-: too few batches to tell |E g|^2 "
        "from 0); relative: over TSM's at the same ratio, paired. Linear: one t* for all samples, "
        "as non-linear and fixed at that share."
    )
    if seeds > 1:
        about += f" Geometric means over {seeds} seeds, Student's 95 % intervals."
    said = pd.DataFrame([_cells(row) for _, row in summary.iterrows()])
    draw = partial(_draw, request, summary)
    return request.publish("gradient-variance", draw, rows, about, said)


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
    batch, ratios that cannot be had, or gradients of more than :data:`LIMIT` bytes.
    """
    if batches < 2:
        raise UserError(f"--batches {batches}: a variance needs at least 2, better 64.")
    model, method, rows = copied(trainer.model).train(), common_loss(trainer), []
    weights = [p for p in model.parameters() if p.requires_grad]
    width = sum(p.numel() for p in weights)
    if batches > (most := LIMIT // (8 * width)):
        raise UserError(
            f"--batches {batches}: {2 * batches} gradients of {width:,} values take more than the "
            f"{LIMIT / 2**30:.0f} GiB that may be kept at once. Give --batches {most} or fewer."
        )

    def gradient(mixed: Mixed, batch: Pair) -> Tensor:
        loss = method.losses(model(batch.events, mixed.frames), mixed, batch.label)["loss"]
        parts = torch.autograd.grad(loss, weights, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).cpu()

    for ratio, wanted in [(ratio, strategies(trainer.options.step, ratio)) for ratio in ratios]:
        tsm: dict[str, float] = {}
        for name, (mix, progress, draws) in wanted.items():
            gradients, shares = torch.empty(draws, batches, width), []
            for n, pairs in enumerate(_batches(trainer, batches, draws)):
                for k, batch in enumerate(pairs):
                    mixed = mix(batch, progress_at(progress))
                    gradients[k, n] = gradient(mixed, batch)
                    shares.append(1 - mixed.y_m.mean().item())
            found = moments(gram(gradients))
            tsm = tsm or found
            row = {"ratio": ratio, "strategy": name, "share": np.mean(shares), "progress": progress}
            row |= {"batches": batches, **found}
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
    o, labels = trainer.options, trainer.pairs.item_labels
    trainer.encode()
    for epoch in range(o.epochs, o.epochs + count):
        trainer.pairs.set_epoch(epoch)
        sampled = (labels, o.batch_size, o.epoch_size, o.sampling, trainer.seed, epoch)
        batch = trainer.pairs[epoch_batches(*sampled)[0]].to(trainer.device)
        again = np.random.default_rng((trainer.seed, epoch, 0, _STREAM)).random(batch.draws.shape)
        yield [batch, batch._replace(draws=torch.from_numpy(again).to(trainer.device))][:draws]


def gram(gradients: Tensor, chunk: int = 2**16) -> np.ndarray:
    """Inner products ``[K, N, K, N]`` in float64 of gradients ``[K, N, P]``: K draws, N batches."""
    K, N, _ = gradients.shape
    parts = (part.flatten(0, 1).double() for part in gradients.split(chunk, dim=2))
    return sum(part @ part.T for part in parts).view(K, N, K, N).numpy()


def moments(products: np.ndarray) -> dict[str, float]:
    """``variance``, ``mixing``, ``signal``, ``noise_to_signal`` from :func:`gram`, K = 1 or 2.

    The last is NaN where the signal drowns, its unbiased estimate not being positive.
    """
    K, N = products.shape[:2]
    within = np.einsum("knln->kl", products)  # of one batch: sum over n of <g_kn, g_ln>
    across = np.einsum("knlm->kl", products) - within
    signal = across.mean() / (N * (N - 1))
    variance = np.diag(within).mean() / N - np.diag(across).mean() / (N * (N - 1))
    of_mixing = (np.diag(within).mean() - within[0, 1]) / N if K == 2 else 0.0
    ratio = variance / signal if signal > 0 else np.nan
    return {"variance": variance, "mixing": of_mixing, "signal": signal, "noise_to_signal": ratio}


def interval_columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per ``weights``, ratio and strategy: geometric means with Student's interval.

    On a log scale, paired by seed for the relative ones; no interval for one seed, for a value that
    is not positive, and for TSM over itself.
    """
    out = []
    for _, part in rows.groupby(["weights", "ratio", "strategy"], sort=False):
        n, row = len(part), dict[Any, Any](part.iloc[0].drop("seed"))
        row |= {"seeds": n, "share": part["share"].mean(), "signal": part["signal"].mean()}
        for name in QUANTITIES:
            value, factor = part[name].mean(), np.nan
            if n > 1 and (part[name] > 0).all():
                logs = np.log(part[name])
                margin = stats.t.ppf(0.975, n - 1) * stats.sem(logs)
                value, factor = np.exp(logs.mean()), np.exp(margin) if margin > 1e-12 else np.nan
            found = (value, value / factor, value * factor)
            row |= dict(zip(interval_columns(name), found, strict=True))
        out.append(row)
    return pd.DataFrame(out)


def _cells(row: pd.Series) -> dict[str, str]:
    def number(name: str) -> str:
        value, low, high = row[interval_columns(name)]
        shown = f"{value:.3g}" + ("" if pd.isna(low) else f" [{low:.3g}, {high:.3g}]")
        return "-" if pd.isna(value) else shown

    return {
        "weights": row["weights"],
        "ratio": f"{row['ratio']:g}",
        "strategy": row["strategy"],
        "share": f"{row['share']:.3f}",
        "progress": "" if pd.isna(row["progress"]) else f"{row['progress']:.2f}",
        "variance": f"{row['variance']:.3g}",
        "of it mixing": f"{100 * row['mixing'] / row['variance']:.1f} %",
        "relative [95 % CI]": number("variance_relative"),
        "noise-to-signal [95 % CI]": number("noise_to_signal"),
        "its relative [95 % CI]": number("noise_to_signal_relative"),
    }


def _draw(request: Request, summary: pd.DataFrame) -> Figure:
    """Variance over TSM's against the share of event frames, a panel per weights."""
    panels, name = summary.groupby("weights", sort=False), "variance_relative"
    x, y = "share of event frames", "variance over time-step mixup's"
    figure, panel = request.panels(len(panels), 3.0, 3.2, x, y)
    found = looks(summary["strategy"])
    for axes, (weights, part) in zip(panel, panels, strict=True):
        for i, (strategy, look) in enumerate(found.items()):
            rows = part[part["strategy"] == strategy].sort_values("ratio")
            value, low, high = (rows[column] for column in interval_columns(name))
            bars = [(value - low).fillna(0), (high - value).fillna(0)]
            moved = rows["ratio"] + 0.01 * (i - 1.5)
            axes.errorbar(moved, value, yerr=bars, markersize=4, capsize=2, **look)
        axes.set(title=f"weights: {weights}", xticks=part["ratio"].unique())
    key(figure, found, 3.0 * min(COLUMNS, len(panel)))
    return figure
