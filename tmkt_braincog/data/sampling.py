"""The order in which an epoch visits the recordings, a function of (seed, epoch) alone."""

from collections.abc import Sequence

import numpy as np

from ..errors import UserError

_STREAM = 1  # apart from the per-sample streams, whose keys have three parts


def item_labels(
    labels: np.ndarray, recordings: np.ndarray, pools: Sequence[np.ndarray]
) -> np.ndarray:
    """Classes of what an epoch goes through: the recordings; without any, the classes in turn."""
    if len(recordings):
        return labels[recordings]
    return np.flatnonzero([len(pool) for pool in pools])


def epoch_batches(
    labels: np.ndarray,
    batch_size: int,
    epoch_size: int | None,
    sampling: str,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """Full batches of item indices for one epoch; the incomplete last batch is dropped.

    An index ``i`` stands for recording ``i % R``; its quotient counts the recording's earlier
    visits in this epoch (see :class:`~tmkt_braincog.data.pairs.TSMDataset`). ``epoch_size`` is
    the number of items, that of the labels ``[R]`` where None; larger ones repeat recordings.
    ``sampling`` is ``shuffle`` (permutations, one after another) or ``balanced`` (classes equally
    likely, with replacement). Fewer items than one batch are a :class:`UserError`.
    """
    n = len(labels)
    size = epoch_size or n
    if size < batch_size:
        raise UserError(
            f"An epoch of {size} recordings holds no batch of {batch_size}: lower --batch-size, or "
            "raise --epoch-size to repeat recordings (with new partners and mixing)."
        )
    rng = np.random.default_rng((seed, epoch, 0, _STREAM))
    if sampling == "balanced":
        weights = 1.0 / np.bincount(labels)[labels]
        order = rng.choice(n, size, p=weights / weights.sum())
    else:
        order = np.concatenate([rng.permutation(n) for _ in range(-(-size // n))])[:size]
    items = order + n * _earlier_visits(order)
    full = size // batch_size * batch_size
    return items[:full].reshape(-1, batch_size).tolist()


def _earlier_visits(order: np.ndarray) -> np.ndarray:
    """For each position, how often its value occurred before."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    visits = np.empty_like(order)
    visits[by_value] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return visits
