"""Variance of gradients over batches: inner products, unbiased moments, jackknife intervals."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from torch import Tensor

RELATIVE = ("variance", "noise_to_signal")  # also given over TSM's
QUANTITIES = (*RELATIVE, "mixing")


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


def estimates(products: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """All quantities with jackknife intervals, and two of them over another case's, by batch."""
    ours, theirs = _jackknife(products), _jackknife(reference)
    found = {name: ours[name] for name in QUANTITIES}
    found |= {f"{name}_relative": ours[name] / theirs[name] for name in RELATIVE}
    out, N = {"signal": ours["signal"][0]}, products.shape[1]
    for name, values in found.items():
        value, margin = values[0], np.nan
        if (values > 0).all():
            margin = stats.t.ppf(0.975, N - 1) * np.sqrt((N - 1) * np.log(values[1:]).var(ddof=0))
        elif name.startswith("noise"):  # over a signal that cannot be told from 0
            value = np.nan
        out |= _interval(name, value, margin)
    return out


def _jackknife(products: np.ndarray) -> pd.DataFrame:
    """:func:`moments` of all batches, then without each of them."""
    every = np.arange(products.shape[1])
    kept = [every, *(np.delete(every, n) for n in every)]
    return pd.DataFrame([moments(products[:, i][:, :, :, i]) for i in kept])


def interval_columns(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _interval(name: str, value: float, margin: float) -> dict[str, float]:
    """On a log scale; none without a margin, as of TSM over itself."""
    factor = np.exp(margin) if margin > 1e-12 else np.nan
    return dict(zip(interval_columns(name), (value, value / factor, value * factor), strict=True))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per ``weights``, ratio and strategy of :func:`measure`'s rows.

    With one seed the values and intervals are its own, over batches; with several they are the
    geometric mean over seeds and its Student interval, paired by seed for the relative ones.
    """
    out = []
    for _, part in rows.groupby(["weights", "ratio", "strategy"], sort=False):
        n, row = len(part), dict[Any, Any](part.iloc[0].drop("seed"))
        row |= {"seeds": n, "share": part["share"].mean(), "signal": part["signal"].mean()}
        for name in (*QUANTITIES, *(f"{name}_relative" for name in RELATIVE)) if n > 1 else ():
            value, margin = part[name].mean(), np.nan
            if (part[name] > 0).all():
                logs = np.log(part[name])
                value, margin = np.exp(logs.mean()), stats.t.ppf(0.975, n - 1) * stats.sem(logs)
            row |= _interval(name, value, margin)
        out.append(row)
    return pd.DataFrame(out)
