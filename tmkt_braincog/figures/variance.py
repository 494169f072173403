"""Variance of gradients over batches: inner products, unbiased moments, jackknife intervals."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

QUANTITIES = ("variance", "noise_to_signal", "mixing")
RELATIVE = ("variance", "noise_to_signal")
Estimate = tuple[float, float, float]  # a value, and its 95 % interval


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Gradient of a scalar to all parameters as one vector on the CPU; zeros for those that have no
    part in it."""
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients]).cpu()


def gram(gradients: Tensor, chunk: int = 2**16) -> np.ndarray:
    """Inner products ``[K, N, K, N]``, added up in float64, of gradients ``[K, N, P]``: K draws of
    each of N batches."""
    K, N, P = gradients.shape
    flat, out = gradients.view(K * N, P), torch.zeros(K * N, K * N, dtype=torch.float64)
    for start in range(0, P, chunk):
        part = flat[:, start : start + chunk].double()
        out += part @ part.T
    return out.view(K, N, K, N).numpy()


def moments(products: np.ndarray) -> dict[str, float]:
    """``variance``, ``mixing``, ``signal`` and ``noise_to_signal`` from ``[K, N, K, N]`` of
    :func:`gram`, K = 1 or 2.

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

    The batches are left out one at a time; the interval is Student's, N - 1 degrees of freedom, on
    a log
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


def estimates(products: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """All quantities with their intervals, and two of them over those of another case, paired by
    batch."""

    def ratio(name: str, ours: np.ndarray, theirs: np.ndarray) -> float:
        return moments(ours)[name] / moments(theirs)[name]

    out = {"signal": moments(products)["signal"]}
    for name in QUANTITIES:
        out |= _named(name, jackknife(lambda p, name=name: moments(p)[name], products))
    for name in RELATIVE:
        over = jackknife(partial(ratio, name), products, reference)
        out |= _named(f"{name}_relative", over)
        if products is reference:  # 1, which needs no interval
            out |= dict.fromkeys(interval_columns(f"{name}_relative")[1:], np.nan)
    return out


def interval_columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    if name.startswith("noise") and np.isnan(estimate[1]):
        estimate = (np.nan,) * 3  # over a signal that cannot be told from 0 any number may come out
    return dict(zip(interval_columns(name), estimate, strict=True))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per ``weights``, ratio and strategy.

    With one seed the values and intervals are its own, over batches; with several they are the
    geometric
    mean over seeds and its Student interval on a log scale, paired by seed for the relative ones.

    Args:
        rows: of :func:`.gradient_variance.measure`, with the columns ``weights`` and ``seed``.
    """
    out = []
    for _, part in rows.groupby(["weights", "ratio", "strategy"], sort=False):
        row = part.iloc[0].drop("seed").to_dict() | {"seeds": len(part)}
        row |= {name: part[name].mean() for name in ("share", "signal")}
        for name in [*QUANTITIES, *(f"{name}_relative" for name in RELATIVE)]:
            if len(part) > 1:
                row |= dict(
                    zip(interval_columns(name), _geometric(part[name].to_numpy()), strict=True)
                )
        out.append(row)
    return pd.DataFrame(out)


def _geometric(values: np.ndarray) -> Estimate:
    if not (values > 0).all():
        return float(values.mean()), np.nan, np.nan
    logs = np.log(values)
    mean, spread = logs.mean(), stats.sem(logs)
    if spread < 1e-12:  # TSM over itself
        return float(np.exp(mean)), np.nan, np.nan
    low, high = stats.t.interval(0.95, len(logs) - 1, mean, spread)
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))
