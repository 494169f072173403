"""The order of an epoch: permutations, repeats, balance, determinism."""

import numpy as np
import pytest

from tmkt_braincog.data.sampling import epoch_batches
from tmkt_braincog.errors import UserError

LABELS = np.repeat([0, 1, 2], [5, 20, 75])


def flat(batches):
    return [i for batch in batches for i in batch]


def test_shuffle_visits_every_recording_once():
    batches = epoch_batches(LABELS, 10, None, "shuffle", seed=1, epoch=0)
    assert [len(b) for b in batches] == [10] * 10
    assert sorted(flat(batches)) == list(range(100))
    assert flat(batches) != list(range(100))
    assert all(type(i) is int for i in flat(batches))


@pytest.mark.parametrize("batch_size", [7, 33, 60, 99, 100])
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_the_incomplete_batch_is_dropped(batch_size, sampling):
    whole = flat(epoch_batches(LABELS, 1, None, sampling, 1, 3))
    batches = epoch_batches(LABELS, batch_size, None, sampling, 1, 3)
    assert [len(b) for b in batches] == [batch_size] * (100 // batch_size)
    assert flat(batches) == whole[: len(flat(batches))]


def test_which_recordings_are_dropped_changes_with_the_epoch():
    seen = set()
    for epoch in range(10):
        items = flat(epoch_batches(LABELS, 60, None, "shuffle", 1, epoch))
        assert len(items) == len(set(items)) == 60
        seen |= set(items)
    assert seen == set(range(100))


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
@pytest.mark.parametrize("epoch_size", [30, 100, 250])
def test_the_quotient_counts_earlier_visits(sampling, epoch_size):
    items = flat(epoch_batches(LABELS, 10, epoch_size, sampling, 4, 2))
    assert len(items) == len(set(items)) == epoch_size
    visits = {}
    for item in items:
        visit, recording = divmod(item, 100)
        assert visit == visits.get(recording, 0)
        visits[recording] = visit + 1


def test_a_longer_epoch_is_permutations_one_after_another_and_a_shorter_one_repeats_nothing():
    items = flat(epoch_batches(LABELS, 10, 250, "shuffle", 4, 2))
    assert sorted(items[:100]) == list(range(100))
    assert sorted(items[100:200]) == list(range(100, 200))
    assert set(items[200:]) < set(range(200, 300))
    assert items[:100] != [i % 100 for i in items[100:200]]
    short = flat(epoch_batches(LABELS, 10, 30, "shuffle", 4, 2))
    assert len(set(short)) == 30 and max(short) < 100


def test_balanced_draws_classes_and_members_equally_often():
    n = 30_000
    items = np.array(flat(epoch_batches(LABELS, 100, n, "balanced", 5, 1))) % 100
    of_class = np.bincount(LABELS[items]) / n
    assert np.abs(of_class - 1 / 3).max() < 4 * np.sqrt(1 / 3 * 2 / 3 / n)
    for c, size in enumerate((5, 20, 75)):
        members = np.bincount(items, minlength=100)[c == LABELS]
        p = 1 / 3 / size
        assert np.abs(members / n - p).max() < 4.5 * np.sqrt(p * (1 - p) / n)


def test_balanced_with_a_class_number_that_does_not_occur():
    labels = np.array([0, 0, 0, 7])
    items = np.array(flat(epoch_batches(labels, 100, 10_000, "balanced", 0, 0))) % 4
    assert abs((items == 3).mean() - 0.5) < 4 * 0.5 / 100


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_a_function_of_seed_and_epoch(sampling):
    def order(seed, epoch):
        return epoch_batches(LABELS, 10, None, sampling, seed, epoch)

    np.random.seed(0)
    first = order(1, 2)
    np.random.seed(1)
    assert order(1, 2) == first
    assert order(1, 3) != first and order(2, 2) != first and order(2, 1) != first


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_too_few_recordings_for_a_batch(sampling):
    with pytest.raises(
        UserError,
        match=r"epoch of 100 .* no batch of 101: lower --batch-size, or raise --epoch-size",
    ):
        epoch_batches(LABELS, 101, None, sampling, 0, 0)
    with pytest.raises(UserError, match="epoch of 9 "):
        epoch_batches(LABELS, 10, 9, sampling, 0, 0)
    assert len(flat(epoch_batches(LABELS, 101, 101, sampling, 0, 0))) == 101
