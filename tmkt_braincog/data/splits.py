"""Which recordings train, validate and test, which images may be drawn, and the audit of twins.

A recording's *static twin* is the image it was made from. Under the ``clean`` protocol the twin of
a recording that validates or tests is never trained on; ``he2024`` draws as the reference does.
"""

from argparse import Namespace
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .base import NO_TWIN, TransferData

# Keeps this stream apart from the per-sample and the sampling streams.
_STREAM = 2


@dataclass(frozen=True)
class Split:
    """Sorted int64 indices: ``train``, ``val``, ``test`` of recordings, ``static`` of images; ``audit`` in words."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    static: np.ndarray
    audit: str

    def names(self, data: TransferData) -> dict[str, list[str]]:
        """The recordings' names per part, for the record kept with a run."""
        return {part: [data.names[i] for i in getattr(self, part)] for part in ("train", "val", "test")}


def first_portion(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first ``round(portion * n)`` members of every class, in order, and of the rest."""
    first, rest = [], []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        n = round(portion * len(members))
        first.append(members[:n])
        rest.append(members[n:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(rest))


def make_split(data: TransferData, options: Namespace, seed: int) -> Split:
    """Apply ``--traindata-ratio``, ``--shots``, ``--leftover``, ``--val-portion`` and ``--protocol``.

    ``--shots`` and ``--val-portion`` choose by ``seed``, the same for all methods.

    Raises:
        UserError: more shots than recordings, options that exclude each other, nothing left to train on.
    """
    labels = data.labels.numpy()
    train, val, test = data.train, np.empty(0, np.int64), data.test
    if options.traindata_ratio < 1:
        train = train[first_portion(labels[train], options.traindata_ratio)[0]]
    if options.shots:
        if options.val_portion:
            raise UserError("--shots already leaves a validation set over: leave --val-portion away.")
        train, rest = _choose(train, labels, seed, lambda n: options.shots)
        val = rest
        if options.leftover == "parity":
            even = data.file_ids[rest] % 2 == 0
            val, test = rest[even], np.sort(np.concatenate([test, rest[~even]]))
    elif options.val_portion:
        val, train = _choose(train, labels, seed, lambda n: round(options.val_portion * n))
    missing = set(labels.tolist()) - set(labels[train].tolist())
    if missing:
        names = ", ".join(data.classes[c] for c in sorted(missing))
        raise UserError(
            f"No training recording is left for: {names}. Raise --traindata-ratio or --train-portion."
        )
    static, audit = _static_pool(data, options.protocol, train, val, test)
    return Split(train, val, test, static, audit)


def _choose(members: np.ndarray, labels: np.ndarray, seed: int, count) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count(n)`` of the n members of every class by ``seed``; (chosen, rest), sorted."""
    rng = np.random.default_rng((seed, 0, 0, _STREAM))
    chosen = []
    for c in np.unique(labels[members]):
        of_class = members[labels[members] == c]
        k = count(len(of_class))
        if k > len(of_class):
            raise UserError(
                f"--shots {k}: class {c} has only {len(of_class)} training recordings. Use at most that many."
            )
        chosen.append(rng.permutation(of_class)[:k])
    chosen = np.sort(np.concatenate(chosen))
    return chosen, np.setdiff1d(members, chosen)


def _static_pool(
    data: TransferData, protocol: str, train: np.ndarray, val: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, str]:
    held_out = np.concatenate([val, test])
    twins = np.unique(data.twins[held_out])
    twins = twins[twins != NO_TWIN]
    if protocol == "he2024":
        # The reference's range is one too long: the first test image of every class is drawn too.
        labels = data.image_labels.numpy()[data.static_test]
        first = data.static_test[np.unique(labels, return_index=True)[1]]
        pool = np.union1d(data.static_train, first)
    else:
        pool = np.setdiff1d(data.static_train, twins)
    leaked = len(np.intersect1d(pool, twins))
    removed = len(data.static_train) - len(np.setdiff1d(data.static_train, twins))
    audit = (
        f"Split ({protocol}): {len(train)} training, {len(val)} validation and {len(test)} test recordings; "
        f"{len(pool)} static images. "
    )
    if protocol == "clean":
        audit += f"{removed} twins of validation and test recordings removed from the static images. "
    audit += f"Audit: {leaked} static twins of validation or test recordings can be trained on."
    return pool, audit
