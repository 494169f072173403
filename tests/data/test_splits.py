"""Splits on random data: shots, validation, protocols, and the audit's numbers counted again."""

import re
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch

from tmkt_braincog.data import NO_TWIN, Split, TransferData
from tmkt_braincog.data.splits import directory_order, first_portion, make_split
from tmkt_braincog.errors import UserError

N = 4


OPTIONS = dict(traindata_ratio=1.0, shots=None, leftover="validation", val_portion=0.0)
OPTIONS |= dict(protocol="clean", static_images=None)


def split(data, seed=0, **changed):
    return make_split(data, Namespace(**OPTIONS | changed), seed)


def random_data(seed, least=8):
    """Recordings and images of N classes in random order, some with twins, own splits at random."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(N), rng.integers(least, 20, N)))
    image_labels = rng.permutation(np.repeat(np.arange(N), rng.integers(least, 30, N)))
    R, S = len(labels), len(image_labels)
    twins = np.full(R, NO_TWIN)
    for c in range(N):
        both = (rng.permutation(np.flatnonzero(x == c)) for x in (labels, image_labels))
        recordings, images = both
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


EVERY = pytest.mark.parametrize(
    "given",
    [
        {}, {"shots": 2}, {"shots": 3, "leftover": "parity"}, {"val_portion": 0.25},
        {"traindata_ratio": 0.5}, {"traindata_ratio": 0.6, "val_portion": 0.3},
        {"traindata_ratio": 0.7, "shots": 1, "leftover": "parity"},
    ],
    ids=str,
)  # fmt: skip


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
@pytest.mark.parametrize("seed", range(8))
def test_parts_are_sorted_disjoint_and_cover_all(given, seed):
    data = random_data(seed)
    made = split(data, seed, **given)
    parts = (made.train, made.val, made.test)
    assert all(p.dtype == np.int64 and (np.diff(p) > 0).all() for p in (*parts, made.static))
    labels = data.labels.numpy()[data.train]
    unused = data.train[first_portion(labels, given.get("traindata_ratio", 1.0))[1]]
    assert sorted([*np.concatenate(parts), *unused]) == list(range(len(data.labels)))
    assert set(data.test.tolist()) <= set(made.test.tolist())
    assert set(made.train.tolist()) <= set(data.train.tolist())
    if not given:
        assert made.train.tolist() == data.train.tolist() and not len(made.val)


@EVERY
@pytest.mark.parametrize("protocol", ["clean", "he2024"])
@pytest.mark.parametrize("seed", range(8))
def test_clean_never_draws_a_twin_of_val_or_test_and_he2024_keeps_them(given, protocol, seed):
    data = random_data(seed)
    made = split(data, seed, **given, protocol=protocol)
    twins, own = held_out_twins(data, made.val, made.test), set(data.static_train.tolist())
    leaked = twins & own if protocol == "he2024" else set()
    assert twins & own  # the property is not empty
    assert made.static.tolist() == sorted(own - twins | leaked) and f"({protocol})" in made.audit
    unknown = int((data.twins[[*made.val, *made.test]] == NO_TWIN).sum())
    counts = [len(made.train), len(made.val), len(made.test), len(made.static), len(twins)]
    counts += [len(data.images), len(twins) - len(leaked), len(leaked)]
    assert numbers(made.audit) == counts + [unknown] * (unknown > 0)
    clean = split(data, seed, **given)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(made, part), getattr(clean, part))


@pytest.mark.parametrize("shots", [1, 3, 5])
@pytest.mark.parametrize("leftover", ["validation", "parity"])
def test_shots(shots, leftover):
    data = random_data(1)
    made = split(data, 7, shots=shots, leftover=leftover)
    assert np.bincount(data.labels.numpy()[made.train]).tolist() == [shots] * N
    rest = sorted(set(data.train.tolist()) - set(made.train.tolist()))
    if leftover == "validation":
        assert made.val.tolist() == rest and made.test.tolist() == data.test.tolist()
    else:
        even, odd = ([i for i in rest if data.file_ids[i] % 2 == k] for k in (0, 1))
        assert even and odd and made.val.tolist() == even
        assert made.test.tolist() == sorted([*data.test.tolist(), *odd])


@pytest.mark.parametrize("changed", [dict(shots=3), dict(val_portion=0.3), dict(static_images=2)])
def test_the_choice_is_that_of_the_seed_and_everyone_can_be_chosen(changed):
    def drawn(seed):
        made = split(data, seed, **changed)
        return [getattr(made, part).tolist() for part in ("train", "val", "test", "static")]

    data = random_data(2)
    first = drawn(7)
    np.random.seed(0)
    assert drawn(7) == first and all(drawn(seed) != first for seed in (8, 9, 10))
    train = {i for seed in range(60) for i in drawn(seed)[0]}
    assert train == set(data.train.tolist())


@pytest.mark.parametrize("portion", [0.1, 0.25, 0.5])
def test_portions_of_every_class(portion):
    data = random_data(4)
    labels = data.labels.numpy()
    made = split(data, 3, val_portion=portion)
    n = np.bincount(labels[data.train], minlength=N).tolist()
    assert np.bincount(labels[made.val], minlength=N).tolist() == [round(portion * k) for k in n]
    assert sorted([*made.train, *made.val]) == data.train.tolist()
    made, expected = split(data, 3, traindata_ratio=portion), []
    for c in range(N):
        expected += data.train[labels[data.train] == c][: round(portion * n[c])].tolist()
    assert made.train.tolist() == sorted(expected) and not len(made.val)


def test_what_cannot_be_is_refused():
    data = random_data(6)
    fewest = np.bincount(data.labels.numpy()[data.train])
    c, n = int(fewest.argmin()), int(fewest.min())
    assert len(split(data, shots=n).train) == n * N
    for changed, said in (
        (dict(shots=n + 1), f"--shots {n + 1}: class {c} has only {n} training recordings"),
        (dict(shots=2, val_portion=0.1), "leave --val-portion away"),
        (dict(traindata_ratio=0.01), "No training recording is left for: a, b, c, d"),
        (dict(val_portion=1.0), "No training recording is left for: a, b, c, d"),
        (dict(static_images=500), r"--static-images 500: class \d has only \d+ images"),
    ):
        with pytest.raises(UserError, match=said):
            split(data, **changed)


def test_he2024_draws_as_published_where_the_data_set_says_how():
    data = random_data(0)
    pools = data.pools(data.static_train)
    pools[1] = pools[0][:2]  # the class is wrong
    test = np.sort(np.r_[data.test, data.train[1::2]])
    data.published = Split(data.train[::2], test, pools)
    made, clean = split(data, protocol="he2024"), split(data)
    assert np.array_equal(made.train, data.published.train) and np.array_equal(made.test, test)
    assert made.pools is pools
    wrong = f"2 of {sum(map(len, pools))} images that can be drawn are of another class"
    assert wrong in made.audit and "another class" not in clean.audit
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
    made = split(data)
    assert image not in made.static and len(made.static) == len(data.static_train) - 1
    assert numbers(made.audit)[4:8] == [1, len(data.images), 1, 0]


@EVERY
def test_windows_of_one_recording_are_never_on_two_sides(given):
    whole = random_data(1, least=16)
    times = np.random.default_rng(2).integers(1, 4, len(whole.labels))
    of = np.repeat(np.arange(len(times)), times)
    train, test = (np.flatnonzero(np.isin(of, part)) for part in (whole.train, whole.test))
    same = {name: getattr(whole, name)[of] for name in ("labels", "file_ids", "twins")}
    names = [f"{i}@{k}" for k, i in enumerate(of)]
    made = split(replace(whole, train=train, test=test, names=names, cut_from=of, **same), **given)
    sides = [set(of[part].tolist()) for part in (made.train, made.val, made.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    if "traindata_ratio" not in given:  # then it counts windows
        expected = split(whole, **given)
        assert sides == [set(getattr(expected, p).tolist()) for p in ("train", "val", "test")]
        assert made.static.tolist() == expected.static.tolist()


def test_record_of_a_run():
    data = random_data(0)
    made = split(data, shots=2)
    parts = {p: [data.names[i] for i in getattr(made, p)] for p in ("train", "val", "test")}
    expected = {"audit": made.audit, "emulated": data.emulated, "remarks": []} | parts
    assert made.record(data) == expected


@pytest.mark.parametrize("n", [None, 3])
def test_leak_puts_the_twins_of_the_test_in_place_of_as_many_others(n):
    for seed in range(8):
        data = random_data(seed, least=16)
        data.twins[data.train[::2]] = NO_TWIN  # or no image would be left in some class
        clean = split(data, seed, shots=5, static_images=n)
        leak = split(data, seed, shots=5, static_images=n, protocol="leak")
        val, test = (held_out_twins(data, part) for part in (leak.val, leak.test))
        for c, pools in enumerate(zip(clean.pools, leak.pools, strict=True)):
            without, with_ = (set(pool.tolist()) for pool in pools)
            twins = {t for t in test if data.image_labels[t] == c}
            assert len(with_) == len(without) == len(pools[1]) and n in (None, len(with_))
            assert len(twins & with_) == min(len(twins), len(without))
            assert with_ - twins <= without
            assert not without & (val | test) and not with_ & (val - test)
        leaked = int(re.search(r"Audit: (\d+) images", leak.audit)[1])
        assert leaked == len(test & set(leak.static.tolist())) > 0
        assert "Audit: 0 images" in clean.audit
