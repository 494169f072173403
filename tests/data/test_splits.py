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

    def halves(of, portion):
        first = np.concatenate(
            [
                rng.permutation(np.flatnonzero(of == c))[: round(portion * (of == c).sum())]
                for c in range(N)
            ]
        )
        return np.sort(first), np.setdiff1d(np.arange(len(of)), first)

    train, test = halves(labels, 0.75)
    static_train, static_test = halves(image_labels, 0.75)
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
        static_test=static_test,
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
EVERY = [(seed, o) for seed in range(8) for o in OPTIONS]


def same(a, b):
    return all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for part in ("train", "val", "test", "static")
    )


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


def test_first_portion_of_a_short_list():
    first, rest = first_portion(np.array([1, 0, 1, 1, 0, 1]), 0.5)
    assert (first.tolist(), rest.tolist()) == ([0, 1, 2], [3, 4, 5])


@pytest.mark.parametrize(("seed", "given"), EVERY)
def test_parts_are_sorted_disjoint_and_cover_all(seed, given):
    data = random_data(seed)
    split = make_split(data, given, seed)
    parts = (split.train, split.val, split.test)
    assert all(p.dtype == np.int64 and (np.diff(p) > 0).all() for p in (*parts, split.static))
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == len(together)
    unused = data.train[first_portion(data.labels.numpy()[data.train], given.traindata_ratio)[1]]
    assert set(together.tolist()) | set(unused.tolist()) == set(range(len(data.labels)))
    assert len(together) + len(unused) == len(data.labels)
    assert set(data.test.tolist()) <= set(split.test.tolist())
    assert set(split.train.tolist()) <= set(data.train.tolist())


def test_the_data_sets_own_split_without_options():
    data = random_data(0)
    split = make_split(data, options(), seed=1)
    assert split.train.tolist() == data.train.tolist() and split.test.tolist() == data.test.tolist()
    assert split.val.tolist() == []


@pytest.mark.parametrize("shots", [1, 3, 5])
@pytest.mark.parametrize("leftover", ["validation", "parity"])
def test_shots(shots, leftover):
    data = random_data(1)
    labels = data.labels.numpy()
    split = make_split(data, options(shots=shots, leftover=leftover), seed=7)
    assert np.bincount(labels[split.train]).tolist() == [shots] * N
    rest = sorted(set(data.train.tolist()) - set(split.train.tolist()))
    if leftover == "validation":
        assert split.val.tolist() == rest and split.test.tolist() == data.test.tolist()
    else:
        even = [i for i in rest if data.file_ids[i] % 2 == 0]
        odd = [i for i in rest if data.file_ids[i] % 2 == 1]
        assert even and odd
        assert split.val.tolist() == even
        assert split.test.tolist() == sorted([*data.test.tolist(), *odd])


@pytest.mark.parametrize("changed", [dict(shots=3), dict(val_portion=0.3)])
def test_the_choice_is_that_of_the_seed(changed):
    data = random_data(2)
    first = make_split(data, options(**changed), seed=7)
    np.random.seed(0)
    assert same(make_split(data, options(**changed), seed=7), first)
    assert all(not same(make_split(data, options(**changed), seed=s), first) for s in (8, 9, 10))


def test_every_recording_can_be_a_shot():
    data = random_data(3)
    chosen = {
        i for seed in range(60) for i in make_split(data, options(shots=3), seed).train.tolist()
    }
    assert chosen == set(data.train.tolist())


@pytest.mark.parametrize("portion", [0.1, 0.25, 0.5])
def test_val_portion_of_every_class(portion):
    data = random_data(4)
    labels = data.labels.numpy()
    split = make_split(data, options(val_portion=portion), seed=3)
    of_train = np.bincount(labels[data.train], minlength=N)
    assert np.bincount(labels[split.val], minlength=N).tolist() == [
        round(portion * n) for n in of_train.tolist()
    ]
    assert sorted([*split.train, *split.val]) == data.train.tolist()
    assert split.test.tolist() == data.test.tolist()


def test_traindata_ratio_keeps_the_first_of_every_class():
    data = random_data(5)
    labels = data.labels.numpy()
    split = make_split(data, options(traindata_ratio=0.5), seed=3)
    expected = []
    for c in range(N):
        members = [i for i in data.train.tolist() if labels[i] == c]
        expected += members[: round(0.5 * len(members))]
    assert split.train.tolist() == sorted(expected) and split.val.tolist() == []


def test_more_shots_than_recordings():
    data = random_data(6)
    fewest = np.bincount(data.labels.numpy()[data.train])
    c, n = int(fewest.argmin()), int(fewest.min())
    assert (
        np.bincount(data.labels.numpy()[make_split(data, options(shots=n), 0).train]).tolist()
        == [n] * N
    )
    with pytest.raises(
        UserError, match=rf"--shots {n + 1}: class {c} has only {n} training recordings"
    ):
        make_split(data, options(shots=n + 1), 0)


def test_shots_and_val_portion_exclude_each_other():
    with pytest.raises(UserError, match="leave --val-portion away"):
        make_split(random_data(0), options(shots=2, val_portion=0.1), 0)


@pytest.mark.parametrize("changed", [dict(traindata_ratio=0.01), dict(val_portion=1.0)])
def test_a_class_without_training_recording(changed):
    with pytest.raises(UserError, match="No training recording is left for: a, b, c, d"):
        make_split(random_data(0), options(**changed), 0)


def held_out_twins(data, split):
    return {int(data.twins[i]) for i in (*split.val, *split.test)} - {NO_TWIN}


def numbers(audit):
    return [int(n) for n in re.findall(r"\d+", audit.replace("he2024", "he"))]


@pytest.mark.parametrize(("seed", "given"), EVERY)
def test_clean_protocol_never_draws_a_twin_of_val_or_test(seed, given):
    data = random_data(seed)
    split = make_split(data, given, seed)
    twins = held_out_twins(data, split)
    own = set(data.static_train.tolist())
    assert twins & own  # the property is not empty
    assert split.static.tolist() == sorted(own - twins)
    assert "(clean)" in split.audit
    unknown = int((data.twins[[*split.val, *split.test]] == NO_TWIN).sum())
    counts = [len(split.train), len(split.val), len(split.test), len(own - twins)]
    counts += [len(twins), len(data.images), len(twins), 0]
    assert numbers(split.audit) == counts + [unknown] * (unknown > 0)


def he2024(given):
    return Namespace(**vars(given) | {"protocol": "he2024"})


@pytest.mark.parametrize(("seed", "given"), EVERY)
def test_he2024_keeps_twins(seed, given):
    data = random_data(seed)
    split = make_split(data, he2024(given), seed)
    assert split.static.tolist() == data.static_train.tolist()
    leaked = set(split.static.tolist()) & held_out_twins(data, split)
    assert leaked
    assert "(he2024)" in split.audit
    unknown = int((data.twins[[*split.val, *split.test]] == NO_TWIN).sum())
    counts = [len(split.train), len(split.val), len(split.test), len(split.static)]
    twins = len(held_out_twins(data, split))
    counts += [twins, len(data.images), twins - len(leaked), len(leaked)]
    assert numbers(split.audit) == counts + [unknown] * (unknown > 0)
    clean = make_split(data, given, seed)
    assert all(
        np.array_equal(getattr(split, p), getattr(clean, p)) for p in ("train", "val", "test")
    )


def test_he2024_draws_as_published_where_the_data_set_says_how():
    data = random_data(0)
    pools = data.pools(data.static_train)
    pools[1] = pools[0][:2]  # the class is wrong
    data.published = PublishedDraw(
        data.train[::2], np.sort(np.r_[data.test, data.train[1::2]]), pools
    )
    split = make_split(data, he2024(options()), 0)
    assert np.array_equal(split.train, data.published.train)
    assert np.array_equal(split.test, data.published.test)
    assert split.pools is pools
    assert (
        f"2 of {sum(map(len, pools))} images that can be drawn are of another class" in split.audit
    )
    clean = make_split(data, options(), 0)
    assert np.array_equal(clean.train, data.train) and "another class" not in clean.audit


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
    data.twins[data.train[0]] = (
        image  # also the twin of a training recording: held out all the same
    )
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


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [None, 3])
def test_leak_puts_the_twins_of_the_test_in_place_of_as_many_others(seed, n):
    data = random_data(seed, least=16)
    data.twins[data.train[::2]] = NO_TWIN  # or no image would be left in some class
    clean = make_split(data, options(shots=5, static_images=n), seed)
    leak = make_split(data, options(shots=5, static_images=n, protocol="leak"), seed)
    held = {
        part: {t for t in data.twins[getattr(leak, part)].tolist() if t != NO_TWIN}
        for part in ("val", "test")
    }
    for c, (without, with_) in enumerate(zip(clean.pools, leak.pools, strict=True)):
        twins = {t for t in held["test"] if data.image_labels[t] == c}
        assert len(with_) == len(set(with_.tolist())) == len(without) and (
            n is None or len(with_) == n
        )
        assert len(twins & set(with_.tolist())) == min(len(twins), len(without))
        assert set(with_.tolist()) - twins <= set(without.tolist())
        assert not set(without.tolist()) & (held["val"] | held["test"])
        assert not set(with_.tolist()) & (held["val"] - held["test"])
    leaked = int(re.search(r"Audit: (\d+) static twins", leak.audit)[1])
    assert leaked == len(held["test"] & set(leak.static.tolist())) > 0
    assert "Audit: 0 static twins" in clean.audit


def test_static_images_are_chosen_by_the_seed_and_need_not_be_more_than_there_are():
    data = random_data(1)
    pools = [make_split(data, options(static_images=2), seed).pools for seed in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(pools[0], pools[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(pools[0], pools[2], strict=True))
    with pytest.raises(UserError, match=r"--static-images 500: class 0 has only \d+ images"):
        make_split(data, options(static_images=500), 1)
