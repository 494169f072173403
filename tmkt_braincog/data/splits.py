"""Which recordings train, validate and test, which images may be drawn, and the audit of twins.

A recording and the image it was made from are a same-image pair; the image is the recording's
*twin*. Under the ``clean`` protocol the twin of
a recording that validates or tests is never trained on; ``he2024`` draws as the reference does;
``leak`` puts the twins of the test recordings among the images, in place of as many others.
"""

import hashlib
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import UserError
from .base import NO_TWIN, Split, TransferData

_STREAM = 2  # apart from the per-sample and the sampling streams


def first_portion(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first ``round(portion * n)`` of every class, in order, and of the rest."""
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    first = [of_class[: round(portion * len(of_class))] for of_class in members]
    together = np.sort(np.concatenate(first))
    return together, np.setdiff1d(np.arange(len(labels)), together)


def portion_split(
    labels: np.ndarray, portion: float, default: float
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`first_portion` for training and the rest for the test.

    Nothing left on one side is a UserError; it names the data set's own portion, ``default``.
    """
    train, test = first_portion(labels, portion) if 0 < portion < 1 else (labels[:0], labels[:0])
    if not len(train) or not len(test):
        raise UserError(
            f"Got a training portion of {portion} for {len(labels)} recordings, which leaves none "
            f"to train or none to test on: of n in a class, round({portion} n) train. Choose "
            f"--train-portion between 0 and 1 (default: {default}), or add recordings."
        )
    return train, test


def directory_order(names: Sequence[str]) -> np.ndarray:
    """Indices of the names in an order that has nothing to do with them, the same everywhere.

    For ``he2024``: the reference takes files as the file system lists them, which on the usual ones
    is the order of a hash of the name, another one on every disk.
    """
    return np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names], kind="stable")


def make_split(data: TransferData, options: Namespace, seed: int) -> Split:
    """Apply ``--traindata-ratio``, ``--shots``, ``--leftover``, ``--val-portion``, ``--protocol``
    and ``--static-images``; what these choose by the seed is the same for all methods.

    More shots or images than there are, or nothing left to train on, is a UserError.
    """
    labels = data.labels.numpy()
    drawn_from = data.published if options.protocol == "he2024" and data.published else data
    train, val, test = drawn_from.train, np.empty(0, np.int64), drawn_from.test
    if options.traindata_ratio < 1:
        train = train[first_portion(labels[train], options.traindata_ratio)[0]]
    if options.shots is not None and options.val_portion and options.leftover != "test":
        raise UserError("--shots already leaves a validation set over: leave --val-portion away.")
    if options.leftover == "test":
        train, val, test = _fixed_validation(train, test, data, options, seed)
    elif options.shots is not None:
        train, val = _choose(train, data, seed, lambda n: options.shots)
        if options.leftover == "parity":
            even = data.file_ids[val] % 2 == 0
            val, test = val[even], np.sort(np.concatenate([test, val[~even]]))
    elif options.val_portion:
        val, train = _choose(train, data, seed, lambda n: round(options.val_portion * n))
    missing = sorted(set(labels.tolist()) - set(labels[train].tolist()))
    if missing and options.shots != 0:
        raise UserError(
            f"No training recording is left for: {', '.join(data.classes[c] for c in missing)}. "
            "Raise --traindata-ratio or --train-portion."
        )
    split = Split(train, test, _static_pools(data, options, seed, val, test), val)
    return replace(split, audit=_audit(data, options.protocol, split))


def _fixed_validation(
    train: np.ndarray, test: np.ndarray, data: TransferData, options: Namespace, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``--leftover test``: both sets as one; a part that no seed changes validates.

    What is tuned on the validation recordings has then seen none that any seed reports.
    """
    if options.shots is None or not options.val_portion:
        raise UserError(
            "--leftover test needs --shots K and --val-portion P, the share of all recordings of "
            "every class that validates."
        )
    every = np.union1d(train, test)
    val, rest = _choose(every, data, 0, lambda n: round(options.val_portion * n))
    train, test = _choose(rest, data, seed, lambda n: options.shots)
    return train, val, test


def _choose(
    members: np.ndarray, data: TransferData, seed: int, count: Callable[[int], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count(n)`` of the n members of every class by ``seed``; (chosen, rest), sorted.

    Windows of one recording count as one and stay together.
    """
    rng, labels = np.random.default_rng((seed, 0, 0, _STREAM)), data.labels.numpy()
    of = np.arange(len(labels)) if data.cut_from is None else data.cut_from
    firsts = members[np.sort(np.unique(of[members], return_index=True)[1])]
    chosen = []
    for c in np.unique(labels[firsts]):
        of_class = firsts[labels[firsts] == c]
        k = count(len(of_class))
        if k > len(of_class):
            raise UserError(
                f"--shots {k}: class {c} has only {len(of_class)} training recordings. Use at most "
                "that many."
            )
        chosen.append(rng.permutation(of_class)[:k])
    together = np.isin(of[members], of[np.concatenate(chosen)])
    return members[together], members[~together]


def _static_pools(
    data: TransferData, options: Namespace, seed: int, val: np.ndarray, test: np.ndarray
) -> list[np.ndarray]:
    if options.protocol == "he2024":
        pools = data.published.pools if data.published else data.pools(data.static_train)
    else:
        held_out = _twins(data, np.concatenate([val, test]))
        pools = data.pools(np.setdiff1d(data.static_train, held_out))
    rng = np.random.default_rng((seed, 1, 0, _STREAM))
    if n := options.static_images:
        fewest = min(range(len(pools)), key=lambda c: len(pools[c]))
        if n > len(pools[fewest]):
            raise UserError(
                f"--static-images {n}: class {fewest} has only {len(pools[fewest])} images to draw "
                "from. Use at most that many."
            )
        pools = [np.sort(rng.permutation(pool)[:n]) for pool in pools]
    if options.protocol == "leak":
        twins = data.pools(_twins(data, test))
        pools = [_replaced(*pair, rng) for pair in zip(pools, twins, strict=True)]
    return pools


def _twins(data: TransferData, recordings: np.ndarray) -> np.ndarray:
    """Sorted indices of the images that these recordings were made from, as far as known."""
    twins = np.unique(data.twins[recordings])
    return twins[twins != NO_TWIN]


def _replaced(pool: np.ndarray, twins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With twins in place of as many of its images."""
    twins = rng.permutation(twins)[: len(pool)]
    return np.sort(np.concatenate([twins, rng.permutation(pool)[len(twins) :]]))


def _audit(data: TransferData, protocol: str, split: Split) -> str:
    held_out = np.concatenate([split.val, split.test])
    twins = _twins(data, held_out)
    leaked = len(np.intersect1d(split.static, twins))
    audit = (
        f"Split ({protocol}): {len(split.train)} training, {len(split.val)} validation and "
        f"{len(split.test)} test recordings; {len(split.static)} static images. {len(twins)} of "
        f"all {len(data.image_labels)} images are those of validation or test recordings, "
        f"{len(twins) - leaked} of them excluded. Audit: {leaked} images of validation or test "
        "recordings can be trained on."
    )
    if unknown := int((data.twins[held_out] == NO_TWIN).sum()):
        audit += f" {unknown} of these recordings have no known image."
    labels = data.image_labels.numpy()
    if wrong := sum(int((labels[pool] != c).sum()) for c, pool in enumerate(split.pools)):
        of = sum(map(len, split.pools))
        audit += f" {wrong} of {of} images that can be drawn are of another class."
    return audit
