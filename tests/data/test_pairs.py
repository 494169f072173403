"""The TSM data-set wrapper: partners of the right class, chance from (seed, epoch, item) alone."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

from tmkt_braincog.data import DATASETS, NO_TWIN, LoadSpec, Pair, TSMDataset
from tmkt_braincog.data.augment import augment_events
from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.data.resident import to_device
from tmkt_braincog.errors import UserError

R, S, T, N, SIZE = 24, 40, 4, 3, 6
LABELS = torch.arange(R) % N
IMAGE_LABELS = torch.arange(S) * 7 % N


def dataset(labels=LABELS, image_labels=IMAGE_LABELS, **options):
    """Recording r has random counts; image s is filled with the value s, to be told by it."""
    g = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 9, (len(LABELS), T, 2, SIZE, SIZE), generator=g, dtype=torch.uint8)
    images = torch.arange(S, dtype=torch.uint8)[:, None, None].expand(S, SIZE, SIZE)
    return TSMDataset(frames, labels, images, image_labels, **options)


def of(images, frames=None, **options):
    """One recording per image."""
    numbers = torch.arange(len(images))
    frames = torch.zeros(len(images), T, 2, SIZE, SIZE) if frames is None else frames
    return TSMDataset(frames, numbers, images, numbers, **options)


def pools(images):
    return [images[IMAGE_LABELS[images].numpy() == c] for c in range(N)]


def partners(pair):
    grey = (pair.static * 255).round().long()
    assert (grey == grey[..., :1, :1, :1]).all()
    return grey[..., 0, 0, 0]


def assert_equal(ours, theirs):
    for name, a, b in zip(Pair._fields, ours, theirs, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b), name


def test_a_batch():
    data = dataset()
    pair = data[[5, 0, 17]]
    assert isinstance(pair, Pair) and len(data) == R
    assert pair.events.shape == (3, T, 2, SIZE, SIZE) and pair.events.dtype == torch.float32
    assert pair.static.shape == (3, 2, SIZE, SIZE) and pair.static.dtype == torch.float32
    assert pair.draws.shape == (3, T) and pair.draws.dtype == torch.float64
    assert pair.index.tolist() == [5, 0, 17] and pair.label.tolist() == LABELS[[5, 0, 17]].tolist()
    assert pair.label.dtype == pair.index.dtype == torch.int64
    assert torch.equal(pair.events, data.frames[[5, 0, 17]].float())
    assert torch.equal(pair.static[:, 0], pair.static[:, 1])
    assert pair.draws.min() >= 0 and pair.draws.max() < 1
    assert [int(pair.index) for pair in data] == list(range(R))  # iterating ends
    moved = pair.to(torch.device("meta"))
    assert isinstance(moved, Pair) and all(t.is_meta for t in moved)


def test_partners_are_of_the_class_and_inside_the_pools():
    static = np.arange(0, S, 4)
    recordings = np.array([23, 2, 3, 4, 11, 12])
    data = dataset(pools=pools(static), recordings=recordings)
    assert len(data) == 6
    seen = set()
    for epoch in range(30):
        data.set_epoch(epoch)
        pair = data[range(60)]
        assert pair.index.tolist() == np.tile(recordings, 10).tolist()
        assert torch.equal(pair.label, LABELS[pair.index])
        assert torch.equal(pair.events, data.frames[pair.index].float())
        images = partners(pair)
        assert torch.equal(IMAGE_LABELS[images], pair.label)
        seen |= set(images.tolist())
    assert seen == set(static.tolist())
    others = [np.flatnonzero(IMAGE_LABELS == (c + 1) % N) for c in range(N)]  # of another class
    pair = dataset(pools=others)[range(R)]
    assert torch.equal(IMAGE_LABELS[partners(pair)], (pair.label + 1) % N)
    some = pools(np.flatnonzero(IMAGE_LABELS != 2))  # only classes of the recordings need any
    assert len(dataset(recordings=np.flatnonzero(LABELS != 2), pools=some)) == 2 * R // 3
    with pytest.raises(UserError, match=r"Classes \[2\] have event recordings but no static image"):
        dataset(pools=some)


def test_an_item_is_the_row_of_a_batch_in_any_order():
    data = dataset(augment="dvs-da")
    whole = data[range(R)]
    order = [7, 3, 3, 20, 0]
    rows = data[order]
    for row, i in enumerate(order):
        item = data[i]
        assert item.events.shape == (T, 2, SIZE, SIZE) and item.label.shape == ()
        assert_equal(item, Pair(*(field[i] for field in whole)))
        assert_equal(item, Pair(*(field[row] for field in rows)))
    assert_equal(data[np.int64(7)], data[7])
    assert_equal(data[np.array(order)], rows)
    assert_equal(data[torch.tensor(order)], rows)
    assert_equal(data[-1], data[R - 1])
    with pytest.raises(IndexError):
        data[-R - 1]


@pytest.mark.parametrize("seed, epoch", [(9, 4), (4, 9)])
def test_chance_comes_from_seed_epoch_and_item_alone(seed, epoch):
    """T walk draws, one for the partner, four for the augmentation, from one generator per item.

    Past the end are the same recordings with other draws; what was asked before changes nothing.
    """
    data = dataset(seed=seed, augment="dvs-da")
    data.set_epoch(epoch + 1), data[range(R)], data.set_epoch(epoch)
    items = [6, 30]
    pair = data[items]
    for row, i in enumerate(items):
        u = np.random.default_rng((seed, epoch, i)).random(T + 5)
        assert pair.draws[row].tolist() == u[:T].tolist()
        pool = np.flatnonzero(IMAGE_LABELS.eq(LABELS[i % R]))
        assert partners(pair)[row] == pool[int(u[T] * len(pool))]
        frames = data.frames[i % R][None].float()
        assert torch.equal(pair.events[row], augment_events(frames, u[None, T + 1 :], "dvs-da")[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader_equals_bulk_access(workers):
    data = dataset(augment="crop")
    data.set_epoch(1)
    for batches, how in (
        ([range(k, k + 4) for k in range(0, R, 4)], {"batch_size": 4}),
        ([[3, 1, 25], [0, 47, 48]], {"sampler": [[3, 1, 25], [0, 47, 48]], "batch_size": None}),
    ):
        for pair, batch in zip(DataLoader(data, num_workers=workers, **how), batches, strict=True):
            assert isinstance(pair, Pair)
            assert_equal(pair, data[batch])


def test_twin_pairing():
    twins = np.array([int(np.flatnonzero(IMAGE_LABELS.eq(c))[r % 4]) for r, c in enumerate(LABELS)])
    data = dataset(pairing="twin", twins=twins)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        assert partners(data[range(2 * R)]).tolist() == twins.tolist() * 2
    assert partners(data[5]) == twins[5]
    some, kept = twins.copy(), np.array([0, 3, 4])
    some[[1, 2]] = NO_TWIN
    pair = dataset(pairing="twin", twins=some, recordings=kept)[range(3)]
    assert partners(pair).tolist() == twins[kept].tolist()
    allowed = pools(np.setdiff1d(np.arange(S), twins[:3]))
    for options, said in (
        ({"twins": None}, "pairing='twin' needs the index of the static image"),
        ({"twins": twins[:-1]}, "pairing='twin' needs the index of the static image"),
        ({"twins": some}, f"2 of {R} recordings have no static image"),
        ({"twins": twins, "pools": allowed}, "no static image that may be trained on"),
    ):
        with pytest.raises(UserError, match=said):
            dataset(pairing="twin", **options)


def slow_resize(length, size):
    """Matrix of the antialiased bilinear (triangle) filter, ``[size, length]``."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * length / size
    distance = (torch.arange(length) + 0.5 - centres[:, None]).abs()
    matrix = (1 - distance / max(length / size, 1.0)).clamp(min=0)
    return matrix / matrix.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("shape", [(12, 12), (10, 17), (4, 5), (6, 9), (SIZE, SIZE)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_images_are_resized_with_antialiasing(shape, dtype):
    g = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (N, *shape), generator=g, dtype=torch.uint8)
    v = images.double() / 255
    static = of(images if dtype == torch.uint8 else v.float())[range(N)].static
    assert static.dtype == torch.float32 and static.shape == (N, 2, SIZE, SIZE)
    assert static.min() >= 0 and static.max() <= 1
    expected = slow_resize(shape[0], SIZE) @ v @ slow_resize(shape[1], SIZE).T
    torch.testing.assert_close(static[:, 0].double(), expected, rtol=0, atol=1e-6)
    if shape == (SIZE, SIZE):  # passes unchanged
        assert torch.equal(static, v.float()[:, None].expand_as(static))


@pytest.mark.parametrize("augment", ["none", "crop"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
@pytest.mark.parametrize("size", [4, SIZE, 9])
def test_events_are_resized_before_the_augmentation(dtype, size, augment):
    g = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 200, (N, T, 2, SIZE, SIZE), generator=g).to(dtype)
    data = of(torch.zeros(N, SIZE, SIZE), frames.clone(), size=size, augment=augment)
    pair = data[range(N)]
    assert pair.static.shape == (N, 2, size, size) and pair.events.dtype == torch.float32
    u = np.stack([np.random.default_rng((0, 0, i)).random(T + 5)[T + 1 :] for i in range(N)])
    assert torch.equal(pair.events, augment_events(resize_frames(frames, size), u, augment))
    pair.events.zero_()
    assert torch.equal(data.frames, frames)  # the source is not written to


@pytest.mark.parametrize("pairing", ["class", "twin"])
@pytest.mark.parametrize("augment", ["none", "crop", "dvs-da"])
@pytest.mark.parametrize("size", [SIZE, 9])
def test_nothing_is_read_back_from_the_device(augment, pairing, size):
    """Tensors on the meta device have no values: to read one is an error."""
    given = {"twins": np.zeros(R, int), "pools": [np.arange(S)] * N}
    data = dataset(augment=augment, pairing=pairing, size=size, **given)
    data.frames, data.images = data.frames.to("meta"), data.images.to("meta")
    pair = data[range(R)]
    assert all(t.is_meta for t in pair)
    assert pair.events.shape == (R, T, 2, size, size) and pair.static.shape == (R, 2, size, size)


@pytest.mark.parametrize(
    "kind, spare, moves", [("cpu", 9, 0), ("cuda", 1.01, 1), ("cuda", 0.99, 0)]
)
def test_what_fits_moves_to_the_device(monkeypatch, kind, spare, moves):
    data, device, asked = DATASETS["ndigits"].load(LoadSpec(steps=2)), torch.device(kind, 0), []
    needed = data.frames.nbytes + data.images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (spare * needed / 0.4, 1 << 40))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: asked.append(device) or self)
    placed = to_device(data, device)
    assert asked == [device] * 2 * moves
    assert placed.labels is data.labels and placed.names is data.names
    assert moves or placed is data


@pytest.mark.gpu
@pytest.mark.parametrize("augment", ["none", "crop", "dvs-da"])
@pytest.mark.parametrize("size", [(28, 28), (34, 34), (48, 48), (128, 128)])
def test_a_gpu_builds_the_same_batch_and_is_not_waited_for(augment, size):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    frames = torch.randint(0, 256, (R, T, 2, *size)).byte()
    images = torch.randint(0, 256, (S, *size)).byte()
    here, there = (
        TSMDataset(frames.to(d), LABELS, images.to(d), IMAGE_LABELS, augment=augment)
        for d in ("cpu", "cuda")
    )
    items = list(range(5 * R))
    torch.cuda.set_sync_debug_mode("error")
    try:
        pair = there[items]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(t.is_cuda for t in pair)
    expected, pair = here[items], Pair(*(t.cpu() for t in pair))
    torch.testing.assert_close(pair.static, expected.static, rtol=1e-6, atol=0)  # divides otherwise
    assert_equal(pair._replace(static=expected.static), expected)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"image_labels": torch.zeros(S).long()}, r"Classes \[1, 2\]"),
        ({"labels": LABELS[:-1]}, f"{R} recordings with {R - 1} labels and {S} images with {S} l"),
        ({"image_labels": IMAGE_LABELS[:-2]}, f"{S} images with {S - 2} labels"),
        ({"augment": "flip"}, "Unknown augment 'flip'. Known: crop, dvs-da, eventmix, nda"),
        ({"pairing": "flip"}, "Unknown pairing 'flip'. Known: class, twin"),
    ],
)
def test_what_does_not_fit(options, said):
    with pytest.raises(UserError, match=said):
        dataset(**options)
    wide = torch.zeros(R, T, 2, 8, 12), LABELS, torch.zeros(S, 8, 8), IMAGE_LABELS
    with pytest.raises(UserError, match="not square"):
        TSMDataset(*wide)
    assert TSMDataset(*wide, size=10)[0].events.shape == (T, 2, 10, 10)


def test_draws_are_uniform_and_independent_and_partners_uniform_over_the_class():
    data, epochs = dataset(), []
    for epoch in range(20):
        data.set_epoch(epoch)
        epochs.append(data[range(10 * R)])
    draws = torch.stack([pair.draws for pair in epochs]).numpy()  # [epochs, items, T]
    for t in range(T):
        assert stats.kstest(draws[..., t].ravel(), "uniform").pvalue > 1e-4
    bound = 4 / np.sqrt(draws.size / 2)
    for axis in range(3):  # neighbouring epochs, items and steps
        ends = range(draws.shape[axis] - 1), range(1, draws.shape[axis])
        x, y = (np.take(draws, end, axis=axis).ravel() for end in ends)
        assert abs(np.corrcoef(x, y)[0, 1]) < bound
    images = torch.cat([partners(pair)[pair.label == 1] for pair in epochs])
    counts, pool = np.bincount(images, minlength=S), np.flatnonzero(IMAGE_LABELS == 1)
    assert counts.sum() == 1600 == counts[pool].sum()
    assert stats.chisquare(counts[pool]).pvalue > 1e-4
