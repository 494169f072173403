"""The order of an epoch: permutations, repeats, balance, determinism."""

import numpy as np
import pytest

from tmkt_braincog.data.sampling import epoch_batches
from tmkt_braincog.errors import UserError

LABELS = np.repeat([0, 1, 2], [5, 20, 75])
BOTH = pytest.mark.parametrize("sampling", ["shuffle", "balanced"])


def items(batch_size=10, epoch_size=None, sampling="shuffle", seed=1, epoch=0, labels=LABELS):
    batches = epoch_batches(labels, batch_size, epoch_size, sampling, seed, epoch)
    assert all(len(batch) == batch_size for batch in batches)
    return [i for batch in batches for i in batch]


@BOTH
@pytest.mark.parametrize("batch_size", [7, 60, 100])
def test_the_incomplete_batch_is_dropped(batch_size, sampling):
    whole, found = items(1, None, sampling), items(batch_size, None, sampling)
    assert found == whole[: 100 // batch_size * batch_size]


def test_which_recordings_are_dropped_changes_with_the_epoch():
    epochs = [set(items(60, epoch=epoch)) for epoch in range(10)]
    assert all(len(seen) == 60 for seen in epochs) and set.union(*epochs) == set(range(100))


@BOTH
@pytest.mark.parametrize("epoch_size", [30, 100, 250])
def test_the_quotient_counts_earlier_visits(sampling, epoch_size):
    found, visits = items(10, epoch_size, sampling, 4, 2), {}
    assert len(found) == len(set(found)) == epoch_size
    for item in found:
        visit, recording = divmod(item, 100)
        assert visit == visits.get(recording, 0)
        visits[recording] = visit + 1


def test_a_longer_epoch_is_permutations_one_after_another_and_a_shorter_one_repeats_nothing():
    found = items(10, 250, "shuffle", 4, 2)
    assert all(type(i) is int for i in found)
    assert sorted(found[:200]) == list(range(200)) != found[:200] and max(found[:100]) < 100
    assert set(found[200:]) < set(range(200, 300))
    assert found[:100] != [i % 100 for i in found[100:200]]
    assert max(items(10, 30, "shuffle", 4, 2)) < 100


def test_balanced_draws_classes_and_members_equally_often():
    n = 30_000
    members = np.bincount(np.array(items(100, n, "balanced", 5, 1)) % 100, minlength=100) / n
    for c, size in enumerate((5, 20, 75)):
        p = 1 / 3 / size
        assert np.abs(members[c == LABELS] - p).max() < 4.5 * np.sqrt(p * (1 - p) / n)
    found = np.array(items(100, 10_000, "balanced", 0, 0, np.array([0, 0, 0, 7]))) % 4
    assert abs((found == 3).mean() - 0.5) < 4 * 0.5 / 100  # a class number that does not occur


@BOTH
def test_a_function_of_seed_and_epoch(sampling):
    orders = {(s, e): items(sampling=sampling, seed=s, epoch=e) for s in (1, 2) for e in (1, 2)}
    np.random.seed(1)
    assert items(sampling=sampling, seed=1, epoch=2) == orders[1, 2]
    assert len({str(order) for order in orders.values()}) == 4


@BOTH
def test_too_few_recordings_for_a_batch(sampling):
    said = r"epoch of 100 .* no batch of 101: lower --batch-size, or raise --epoch-size"
    with pytest.raises(UserError, match=said):
        items(101, None, sampling)
    assert len(items(101, 101, sampling)) == 101
