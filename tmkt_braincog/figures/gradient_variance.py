"""Variance of the loss's gradient over batches, for each mixing strategy at the same weights.

TMKT (arXiv 2509.12959) claims that time-step mixup lowers it against a fixed ratio, sliding replacement
and mixup of the inputs. Here every strategy meets the same weights, recordings and static partners, and
the same loss: Eq. 17 without its heads, ``L_CLSm + lambda L_RDA``, because mixed inputs have no label per
frame that the heads could learn. Strategies are compared where their expected share of event frames is
the same.

A gradient g is that of all weights of the model, in training mode and float32, at one batch. Batches are
independent: each is the first of an epoch of its own, behind the last epoch of the training. With two
draws of the mixing per batch::

    tr Cov(g) = E |g|^2 - |E g|^2          the variance, of everything that is chance
    mixing    = E |g - g'|^2 / 2           that part which the draws of the mixing add; g' has other draws
    signal    = |E g|^2
    noise-to-signal = tr Cov(g) / |E g|^2

All are unbiased but the last. Intervals come from the jackknife over batches, on a log scale.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from scipy import stats
from torch import Tensor, nn

from .. import mixing
from ..data import Pair
from ..data.sampling import epoch_batches
from ..engine.train import Trainer, same_run
from ..errors import UserError
from ..methods import TMKT
from ..mixing import Mixed, Mixing, Progress
from ..plots import GREY, key, looks
from .base import FIGURES, Request, untrained

LIMIT = 8 * 2**30  # most bytes that the gradients of one strategy may take
EPOCHS = 10**6
_STREAM = 3  # keeps the second draws apart from the streams of sampling and splits
QUANTITIES = ("variance", "noise_to_signal", "mixing")
RELATIVE = ("variance", "noise_to_signal")
# What the common loss takes from a run besides its general options.
LOSS_OPTIONS = ("domain_loss_coefficient", "TET_loss", "smoothing")
Estimate = tuple[float, float, float]  # a value, and its 95 % interval


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
        f"{o.domain_loss_coefficient:g} L_RDA, no heads, to all weights of the model; recordings, partners and weights "
        "are the same for all strategies. Variance: tr Cov(g); of it mixing: the part that the draws of the mixing add "
        "to that of recordings and partners; noise-to-signal: tr Cov(g) over |E g|^2 (-: too few batches to tell |E g|^2 "
        "from 0); relative: over TSM's at the same ratio, paired. Intervals: 95 %, "
        f"{over or 'jackknife over batches'}."
    )
    said = {"": pd.DataFrame([_cells(row) for _, row in summary.iterrows()])}
    return request.publish(
        "gradient-variance", lambda: _draw(request, summary), rows, about, "%.8g", said
    )


def _weights(runs: Sequence[Trainer]) -> Iterator[tuple[Trainer, str]]:
    """Every seed at its initial weights, from which all methods start, and every run at its last."""
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


class InputMixup(Mixing):
    """Mixup of the pixels: ``x = r events + (1 - r) static`` at every time-step, r = ``ratio``. No frame has a modality."""

    def __init__(self, steps: int, ratio: float):
        super().__init__(steps)
        self.ratio = ratio

    def event_frames(self, draws: Tensor, progress: Progress) -> Tensor:
        raise NotImplementedError("mixed inputs have no event frames")

    def __call__(self, batch: Pair, progress: Progress = Progress()) -> Mixed:
        frames = self.ratio * batch.events + (1 - self.ratio) * batch.static.unsqueeze(1)
        y_m = torch.full((len(frames),), 1 - self.ratio, device=frames.device)
        return Mixed(frames, None, None, y_m)


@dataclass(frozen=True)
class Case:
    """Strategies that mix alike: by name the share of the training behind at which they do (None: any).

    ``random``: whether the mixing of a batch is a matter of chance.
    """

    mixing: Mixing
    progress_of: dict[str, float | None]
    random: bool = False

    @property
    def progress(self) -> Progress:
        return _progress(next(iter(self.progress_of.values())))


def cases(steps: int, ratio: float) -> list[Case]:
    """All strategies at an expected share ``ratio`` of event frames, TSM first; those that come to the same are one case.

    Raises:
        UserError: a ratio outside (0, 1).
    """
    tsm = Case(mixing.TimeStepMixup(steps, ratio), {"tsm": None}, random=True)
    # the fixed rule t* = floor(T r) counts the other way round: the r whose share is nearest
    t_star = min(range(1, steps), key=lambda t: abs((steps + 1 - t) / steps - ratio))
    constant: dict[int, Case] = {}
    cube_root = ratio ** (1 / 3)
    for name, strategy, share in (
        ("fixed", mixing.FixedRatio(steps, t_star / steps), None),
        ("linear", mixing.DynamicLinear(steps), ratio),
        ("nonlinear", mixing.DynamicNonLinear(steps), cube_root),
    ):
        n = int(strategy.event_frames(torch.zeros(1, steps), _progress(share)))
        constant.setdefault(n, Case(strategy, {})).progress_of[name] = share
    sliding = Case(mixing.SlidingReplacement(steps), {"sliding": cube_root}, random=True)
    return [tsm, *constant.values(), sliding, Case(InputMixup(steps, ratio), {"input": None})]


def _progress(share: float | None) -> Progress:
    return Progress(round((share or 0) * EPOCHS), EPOCHS)


def measure(trainer: Trainer, ratios: Sequence[float], batches: int) -> pd.DataFrame:
    """All strategies at the weights that the trainer's model has now. Weights, statistics and mode stay as they are.

    Returns:
        One row per ratio and strategy: ``ratio``, ``strategy``, ``share`` (of event frames, as drawn),
        ``progress``, ``batches``, and of ``variance``, ``noise_to_signal`` and ``mixing`` the value, ``_low``
        and ``_high`` (95 %); ``signal``; noise_to_signal is NaN where the signal cannot be told from 0;
        ``variance_relative`` and ``noise_to_signal_relative``: over TSM's at this ratio, paired by batch.

    Raises:
        UserError: fewer than 3 batches, ratios that cannot be had, or gradients that take more than :data:`LIMIT` bytes.
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
                values = {**_estimates(products), **_relative(products, tsm)}
                for name, progress in case.progress_of.items():
                    place = {"ratio": ratio, "strategy": name, "share": share, "progress": progress}
                    rows.append({**place, "batches": batches, **values})
    return pd.DataFrame(rows)


def common_loss(trainer: Trainer) -> TMKT:
    """``L_CLSm + lambda L_RDA`` with the run's lambda, form of the classification loss and coefficients theta_t."""
    o, weights = trainer.options, {"mag_weight": 0, "mrp_weight": 0}
    method = TMKT(
        o.step,
        trainer.model.num_features,
        lam=o.domain_loss_coefficient,
        tet=o.TET_loss,
        coefficients="fixed",
        smoothing=o.smoothing,
        **weights,
    ).to(trainer.device)
    rda = getattr(trainer.method, "rda", None)  # event-only training has none: theta_t at its start
    if rda is not None:
        method.rda.load_state_dict(rda.state_dict())
    return method


@contextmanager
def training_untouched(model: nn.Module) -> Iterator[None]:
    """Training mode within; afterwards the mode and the running statistics of BatchNorm are what they were."""
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
            f"--batches {batches}: {draws * batches} gradients of {width:,} values take {need / 2**30:.1f} GiB, more than "
            f"the {LIMIT / 2**30:.0f} GiB that may be kept at once. Give --batches {LIMIT // (draws * width * 4)} or fewer."
        )
    gradients, shares = torch.empty(draws, batches, width), []
    for n, pairs in enumerate(_batches(trainer, batches, draws)):
        for k, batch in enumerate(pairs):
            mixed = case.mixing(batch, case.progress)
            out = trainer.model(batch.events, mixed.frames)
            gradients[k, n] = flat_gradient(
                method.losses(out, mixed, batch.label)["loss"], parameters
            )
            shares.append(1 - mixed.y_m.mean().item())
    return gram(gradients), float(np.mean(shares))


def _batches(trainer: Trainer, count: int, draws: int) -> Iterator[list[Pair]]:
    """The first batch of ``count`` epochs that no training step has seen, each with ``draws`` draws of the mixing."""
    o, labels = trainer.options, trainer.data.labels[trainer.split.train].numpy()
    for epoch in range(o.epochs, o.epochs + count):
        trainer.pairs.set_epoch(epoch)
        sampled = (labels, o.batch_size, o.epoch_size, o.sampling, trainer.seed, epoch)
        batch = trainer.pairs[epoch_batches(*sampled)[0]].to(trainer.device)
        again = np.random.default_rng((trainer.seed, epoch, 0, _STREAM)).random(batch.draws.shape)
        yield [batch, batch._replace(draws=torch.from_numpy(again).to(trainer.device))][:draws]


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Gradient of a scalar to all parameters as one vector on the CPU; zeros for those that have no part in it."""
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients]).cpu()


def gram(gradients: Tensor, chunk: int = 2**16) -> np.ndarray:
    """Inner products ``[K, N, K, N]``, added up in float64, of gradients ``[K, N, P]``: K draws of each of N batches."""
    K, N, P = gradients.shape
    flat, out = gradients.view(K * N, P), torch.zeros(K * N, K * N, dtype=torch.float64)
    for start in range(0, P, chunk):
        part = flat[:, start : start + chunk].double()
        out += part @ part.T
    return out.view(K, N, K, N).numpy()


def moments(products: np.ndarray) -> dict[str, float]:
    """``variance``, ``mixing``, ``signal`` and ``noise_to_signal`` from ``[K, N, K, N]`` of :func:`gram`, K = 1 or 2.

    noise_to_signal is NaN where the signal drowns, its unbiased estimate not being positive.
    """
    K, N = products.shape[:2]
    within = np.einsum("knln->kl", products)  # of one batch: sum over n of <g_kn, g_ln>
    across = np.einsum("knlm->kl", products) - within
    signal = across.mean() / (N * (N - 1))
    variance = np.diag(within).mean() / N - np.diag(across).mean() / (N * (N - 1))
    of_mixing = (np.diag(within).mean() - within[0, 1]) / N if K == 2 else 0.0
    ratio = variance / signal if signal > 0 else np.nan
    return {"variance": variance, "mixing": of_mixing, "signal": signal, "noise_to_signal": ratio}


def jackknife(statistic: Callable[..., float], *products: np.ndarray) -> Estimate:
    """A positive statistic of one or more Gram arrays over the same batches, and its 95 % interval.

    The batches are left out one at a time; the interval is Student's, N - 1 degrees of freedom, on a log
    scale. NaN where a value is not positive.
    """
    N = products[0].shape[1]
    value = statistic(*products)
    kept = [np.delete(np.arange(N), n) for n in range(N)]
    values = np.array([statistic(*(p[:, i][:, :, :, i] for p in products)) for i in kept])
    if not (value > 0 and (values > 0).all()):
        return value, np.nan, np.nan
    logs = np.log(values)
    margin = stats.t.ppf(0.975, N - 1) * np.sqrt((N - 1) * logs.var())
    return value, value * np.exp(-margin), value * np.exp(margin)


def _estimates(products: np.ndarray) -> dict[str, float]:
    out = {"signal": moments(products)["signal"]}
    for name in QUANTITIES:
        out |= _named(name, jackknife(lambda p, name=name: moments(p)[name], products))
    return out


def _relative(products: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in RELATIVE:
        over = jackknife(
            lambda a, b, name=name: moments(a)[name] / moments(b)[name], products, reference
        )
        out |= _named(f"{name}_relative", over)
        if products is reference:  # 1, which needs no interval
            out |= dict.fromkeys(_three(f"{name}_relative")[1:], np.nan)
    return out


def _three(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    if name.startswith("noise_to_signal") and np.isnan(estimate[1]):
        estimate = (
            np.nan,
        ) * 3  # over a signal that cannot be told from 0, any number may come out
    return dict(zip(_three(name), estimate, strict=True))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per ``weights``, ratio and strategy.

    With one seed the values and intervals are its own, over batches; with several they are the geometric
    mean over seeds and its Student interval on a log scale, paired by seed for the relative ones.

    Args:
        rows: of :func:`measure`, with the columns ``weights`` and ``seed``.
    """
    out = []
    for _, part in rows.groupby(["weights", "ratio", "strategy"], sort=False):
        row = part.iloc[0].drop("seed").to_dict() | {"seeds": len(part)}
        row |= {name: part[name].mean() for name in ("share", "signal")}
        for name in [*QUANTITIES, *(f"{name}_relative" for name in RELATIVE)]:
            if len(part) > 1:
                row |= dict(zip(_three(name), _geometric(part[name].to_numpy()), strict=True))
        out.append(row)
    return pd.DataFrame(out)


def _geometric(values: np.ndarray) -> Estimate:
    if not (values > 0).all():
        return float(values.mean()), np.nan, np.nan
    logs = np.log(values)
    mean, spread = np.exp(logs.mean()), stats.sem(logs)
    if spread < 1e-12:  # TSM over itself
        return float(mean), np.nan, np.nan
    margin = stats.t.ppf(0.975, len(logs) - 1) * spread
    return float(mean), mean * np.exp(-margin), mean * np.exp(margin)


def _cells(row: pd.Series) -> dict[str, str]:
    def number(name: str) -> str:
        value, low, high = row[_three(name)]
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


# What is drawn: linear stands for non-linear and for the fixed ratio, which cannot have every share.
_LINES = {
    "tsm": "time-step mixup",
    "linear": "same t* for all (fixed, linear, non-linear)",
    "sliding": "sliding replacement",
    "input": "mixup of inputs",
}
_ROWS = {
    "variance": r"$\mathrm{tr\,Cov}(g)$",
    "variance_relative": "the same over\ntime-step mixup's",
    "noise_to_signal": r"$\mathrm{tr\,Cov}(g)\,/\,\|\mathrm{E}\,g\|^2$",
}


def _draw(request: Request, summary: pd.DataFrame) -> Figure:
    """Variance, the same over TSM's, and noise-to-signal against the share of event frames; a column per weights."""
    weights = list(dict.fromkeys(summary["weights"]))
    figure = request.canvas(max(6.0, 0.8 + 2.6 * len(weights)), 6.6)
    panels = figure.subplots(len(_ROWS), len(weights), squeeze=False, sharex=True, sharey="row")
    for axes_row, (name, label) in zip(panels, _ROWS.items(), strict=True):
        axes_row[0].set_ylabel(label)
        for axes, which in zip(axes_row, weights, strict=True):
            _lines(axes, summary[summary["weights"] == which], name)
    for top, bottom, which in zip(panels[0], panels[-1], weights, strict=True):
        top.set_title(f"weights: {which}")
        bottom.set_xlabel("expected share of event frames")
    dotted = {"color": GREY, "linestyle": ":", "marker": "_"}
    more = [Line2D([], [], **dotted, label="of it: the draws of the mixing")]
    key(figure, looks(_LINES.values()), 6.0, more)
    return figure


def _lines(axes: Axes, part: pd.DataFrame, name: str) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    for i, (strategy, look) in enumerate(zip(_LINES, looks(_LINES.values()).values(), strict=True)):
        rows = part[part["strategy"] == strategy].sort_values("ratio")
        centre = rows[name]
        bars = [(centre - rows[f"{name}_low"]).fillna(0), (rows[f"{name}_high"] - centre).fillna(0)]
        moved = rows["ratio"] + 0.01 * (i - 1.5)
        axes.errorbar(moved, centre, yerr=bars, markersize=4, capsize=2, **look._asdict())
        if name == "variance" and (rows["mixing"] > 0).any():
            axes.plot(moved, rows["mixing"], color=look.color, linestyle=":", marker="_")
    axes.set_xticks(sorted(part["ratio"].unique()))
