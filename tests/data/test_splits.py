"""Splits on random data: shots, validation, protocols, and the audit's numbers counted again."""

import re
from argparse import Namespace

import numpy as np
import pytest
import torch

from tmkt_braincog.data import NO_TWIN, TransferData
from tmkt_braincog.data.base import PublishedDraw
from tmkt_braincog.data.splits import directory_order, first_portion, make_split
from tmkt_braincog.errors import UserError

N = 4


def options(**changed):
    given = dict(
        traindata_ratio=1.0,
        shots=None,
        leftover="validation",
        val_portion=0.0,
        protocol="clean",
        static_images=None,
    )
    return Namespace(**given | changed)


def random_data(seed, least=8):
    """Recordings and images of N classes in random order, some with twins, own splits at random."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(N), rng.integers(least, 20, N)))
    image_labels = rng.permutation(np.repeat(np.arange(N), rng.integers(least, 30, N)))
    R, S = len(labels), len(image_labels)
    twins = np.full(R, NO_TWIN)
    for c in range(N):
        recordings, images = (
            rng.permutation(np.flatnonzero(x == c)) for x in (labels, image_labels)
        )
        k = min(len(recordings), len(images)) - int(rng.integers(0, 4))
        twins[recordings[:k]] = images[:k]

    def halves(of):
        members = [rng.permutation(np.flatnonzero(of == c)) for c in range(N)]
        first = np.concatenate([m[: round(0.75 * len(m))] for m in members])
        return np.sort(first), np.setdiff1d(np.arange(len(of)), first)

    train, test = halves(labels)
    static_train, _ = halves(image_labels)
    file_ids = rng.permutation(np.arange(1000, 1000 + R))
    return TransferData(
        source="images",
        target="events",
        classes=tuple("abcd"),
        frames=torch.zeros(R, 1, 2, 1, 1),
        labels=torch.from_numpy(labels),
        names=[f"{labels[i]}/{file_ids[i]}.bin" for i in range(R)],
        file_ids=file_ids,
        images=torch.zeros(S, 1, 1, dtype=torch.uint8),
        image_labels=torch.from_numpy(image_labels),
        twins=twins,
        train=train,
        test=test,
        static_train=static_train,
        statistics={},
    )


OPTIONS = [
    options(),
    options(shots=2),
    options(shots=3, leftover="parity"),
    options(val_portion=0.25),
    options(traindata_ratio=0.5),
    options(traindata_ratio=0.6, val_portion=0.3),
    options(traindata_ratio=0.7, shots=1, leftover="parity"),
]
EVERY = pytest.mark.parametrize("given", OPTIONS, ids=str)


def same(a, b):
    return all(
        np.array_equal(getattr(a, p), getattr(b, p)) for p in ("train", "val", "test", "static")
    )


def held_out_twins(data, *recordings):
    return {int(data.twins[i]) for part in recordings for i in part} - {NO_TWIN}


def numbers(audit):
    return [int(n) for n in re.findall(r"\d+", audit.replace("he2024", "he"))]


@pytest.mark.parametrize(
    ("counts", "portion", "sizes"),
    [
        ([10, 20], 0.9, [9, 18]),
        ([3, 4, 7], 0.5, [2, 2, 4]),  # round half to even: 1.5 -> 2, 3.5 -> 4
        ([5, 1], 0.5, [2, 0]),  # 2.5 -> 2, 0.5 -> 0
        ([4, 6], 1.0, [4, 6]),
    ],
)
def test_first_portion(counts, portion, sizes):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    first, rest = first_portion(labels, portion)
    expected = [i for c, k in enumerate(sizes) for i in np.flatnonzero(labels == c)[:k]]
    assert first.tolist() == sorted(expected)
    assert rest.tolist() == sorted(set(range(len(labels))) - set(expected))


@EVERY
def test_parts_are_sorted_disjoint_and_cover_all(given):
    for seed in range(8):
        data = random_data(seed)
        split = make_split(data, given, seed)
        parts = (split.train, split.val, split.test)
        assert all(p.dtype == np.int64 and (np.diff(p) > 0).all() for p in (*parts, split.static))
        together = np.concatenate(parts)
        labels = data.labels.numpy()[data.train]
        unused = data.train[first_portion(labels, given.traindata_ratio)[1]]
        assert sorted([*together, *unused]) == list(range(len(data.labels)))
        assert set(data.test.tolist()) <= set(split.test.tolist())
        assert set(split.train.tolist()) <= set(data.train.tolist())


@EVERY
@pytest.mark.parametrize("protocol", ["clean", "he2024"])
def test_clean_never_draws_a_twin_of_val_or_test_and_he2024_keeps_them(given, protocol):
    for seed in range(8):
        data = random_data(seed)
        split = make_split(data, Namespace(**vars(given) | {"protocol": protocol}), seed)
        twins = held_out_twins(data, split.val, split.test)
        own = set(data.static_train.tolist())
        leaked = twins & own if protocol == "he2024" else set()
        assert twins & own  # the property is not empty
        assert (
            split.static.tolist() == sorted(own - twins | leaked) and f"({protocol})" in split.audit
        )
        unknown = int((data.twins[[*split.val, *split.test]] == NO_TWIN).sum())
        counts = [len(split.train), len(split.val), len(split.test), len(split.static), len(twins)]
        counts += [len(data.images), len(twins) - len(leaked), len(leaked)]
        assert numbers(split.audit) == counts + [unknown] * (unknown > 0)
        clean = make_split(data, given, seed)
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(split, part), getattr(clean, part))


def test_the_data_sets_own_split_without_options():
    data = random_data(0)
    split = make_split(data, options(), seed=1)
    assert split.train.tolist() == data.train.tolist() and split.test.tolist() == data.test.tolist()
    assert split.val.tolist() == []


@pytest.mark.parametrize("shots", [1, 3, 5])
@pytest.mark.parametrize("leftover", ["validation", "parity"])
def test_shots(shots, leftover):
    data = random_data(1)
    split = make_split(data, options(shots=shots, leftover=leftover), seed=7)
    assert np.bincount(data.labels.numpy()[split.train]).tolist() == [shots] * N
    rest = sorted(set(data.train.tolist()) - set(split.train.tolist()))
    if leftover == "validation":
        assert split.val.tolist() == rest and split.test.tolist() == data.test.tolist()
    else:
        even = [i for i in rest if data.file_ids[i] % 2 == 0]
        odd = [i for i in rest if data.file_ids[i] % 2 == 1]
        assert even and odd and split.val.tolist() == even
        assert split.test.tolist() == sorted([*data.test.tolist(), *odd])


@pytest.mark.parametrize("changed", [dict(shots=3), dict(val_portion=0.3), dict(static_images=2)])
def test_the_choice_is_that_of_the_seed(changed):
    data = random_data(2)
    first = make_split(data, options(**changed), seed=7)
    np.random.seed(0)
    assert same(make_split(data, options(**changed), seed=7), first)
    assert all(not same(make_split(data, options(**changed), seed=s), first) for s in (8, 9, 10))


def test_every_recording_can_be_a_shot():
    data = random_data(3)
    splits = [make_split(data, options(shots=3), seed) for seed in range(60)]
    assert {i for split in splits for i in split.train.tolist()} == set(data.train.tolist())


@pytest.mark.parametrize("portion", [0.1, 0.25, 0.5])
def test_val_portion_of_every_class(portion):
    data = random_data(4)
    labels = data.labels.numpy()
    split = make_split(data, options(val_portion=portion), seed=3)
    expected = [round(portion * n) for n in np.bincount(labels[data.train], minlength=N).tolist()]
    assert np.bincount(labels[split.val], minlength=N).tolist() == expected
    assert sorted([*split.train, *split.val]) == data.train.tolist()
    assert split.test.tolist() == data.test.tolist()


def test_traindata_ratio_keeps_the_first_of_every_class():
    data = random_data(5)
    split = make_split(data, options(traindata_ratio=0.5), seed=3)
    expected = []
    for c in range(N):
        members = [i for i in data.train.tolist() if data.labels[i] == c]
        expected += members[: round(0.5 * len(members))]
    assert split.train.tolist() == sorted(expected) and split.val.tolist() == []


def test_what_cannot_be_is_refused():
    data = random_data(6)
    fewest = np.bincount(data.labels.numpy()[data.train])
    c, n = int(fewest.argmin()), int(fewest.min())
    most = make_split(data, options(shots=n), 0)
    assert np.bincount(data.labels.numpy()[most.train]).tolist() == [n] * N
    for changed, said in (
        (dict(shots=n + 1), f"--shots {n + 1}: class {c} has only {n} training recordings"),
        (dict(shots=2, val_portion=0.1), "leave --val-portion away"),
        (dict(traindata_ratio=0.01), "No training recording is left for: a, b, c, d"),
        (dict(val_portion=1.0), "No training recording is left for: a, b, c, d"),
        (dict(static_images=500), r"--static-images 500: class \d has only \d+ images"),
    ):
        with pytest.raises(UserError, match=said):
            make_split(data, options(**changed), 0)


def test_he2024_draws_as_published_where_the_data_set_says_how():
    data = random_data(0)
    pools = data.pools(data.static_train)
    pools[1] = pools[0][:2]  # the class is wrong
    test = np.sort(np.r_[data.test, data.train[1::2]])
    data.published = PublishedDraw(data.train[::2], test, pools)
    split = make_split(data, options(protocol="he2024"), 0)
    assert np.array_equal(split.train, data.published.train) and np.array_equal(split.test, test)
    assert split.pools is pools
    wrong = f"2 of {sum(map(len, pools))} images that can be drawn are of another class"
    clean = make_split(data, options(), 0)
    assert wrong in split.audit and "another class" not in clean.audit
    assert np.array_equal(clean.train, data.train)


def test_directory_order_is_no_sorted_order_and_always_the_same():
    names = [f"image_{k:04d}.bin" for k in range(200)]
    order = directory_order(names)
    assert sorted(order) == list(range(200)) and (np.diff(order) < 0).any()
    shuffled = np.random.default_rng(0).permutation(200)
    again = directory_order([names[i] for i in shuffled])
    assert [names[shuffled[i]] for i in again] == [names[i] for i in order]


def test_twins_shared_by_several_recordings_are_removed_once():
    data = random_data(0)
    data.twins[:] = NO_TWIN
    image = int(data.static_train[0])
    data.twins[data.test[:3]] = image
    data.twins[data.train[0]] = image  # of a training recording too: held out all the same
    split = make_split(data, options(), 0)
    assert image not in split.static and len(split.static) == len(data.static_train) - 1
    assert numbers(split.audit)[4:8] == [1, len(data.images), 1, 0]


def test_record_of_a_run():
    data = random_data(0)
    split = make_split(data, options(shots=2), 0)
    record = split.record(data)
    assert list(record) == ["audit", "emulated", "remarks", "train", "val", "test"]
    assert record.pop("audit") == split.audit and record.pop("remarks") == []
    assert record.pop("emulated") is data.emulated
    for part, listed in record.items():
        assert listed == [data.names[i] for i in getattr(split, part)]


@pytest.mark.parametrize("n", [None, 3])
def test_leak_puts_the_twins_of_the_test_in_place_of_as_many_others(n):
    for seed in range(8):
        data = random_data(seed, least=16)
        data.twins[data.train[::2]] = NO_TWIN  # or no image would be left in some class
        clean = make_split(data, options(shots=5, static_images=n), seed)
        leak = make_split(data, options(shots=5, static_images=n, protocol="leak"), seed)
        val, test = (held_out_twins(data, part) for part in (leak.val, leak.test))
        for c, pools in enumerate(zip(clean.pools, leak.pools, strict=True)):
            without, with_ = (set(pool.tolist()) for pool in pools)
            twins = {t for t in test if data.image_labels[t] == c}
            assert len(with_) == len(without) == len(pools[1]) and n in (None, len(with_))
            assert len(twins & with_) == min(len(twins), len(without))
            assert with_ - twins <= without
            assert not without & (val | test) and not with_ & (val - test)
        leaked = int(re.search(r"Audit: (\d+) static twins", leak.audit)[1])
        assert leaked == len(test & set(leak.static.tolist())) > 0
        assert "Audit: 0 static twins" in clean.audit
