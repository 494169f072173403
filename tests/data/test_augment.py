"""Event augmentation against crops and turns written out sample by sample and pixel by pixel."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import rotate

from tmkt_braincog.data import augment
from tmkt_braincog.data.augment import AUGMENTATIONS, NDA, augment_events
from tmkt_braincog.data.pairs import TSMDataset


def rotated(image, degrees):
    """Counter-clockwise about the centre, nearest neighbour, zero outside, for ``[H, W]``."""
    H, W = image.shape
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    out = torch.zeros_like(image)
    for i, j in itertools.product(range(H), range(W)):
        x, y = j - (W - 1) / 2, i - (H - 1) / 2
        column = round(c * x - s * y + (W - 1) / 2)
        row = round(s * x + c * y + (H - 1) / 2)
        if 0 <= row < H and 0 <= column < W:
            out[i, j] = image[row, column]
    return out


def one_by_one(x, u, kind):
    """Each sample padded, cut out, flipped and rotated by itself."""
    H, W = x.shape[-2:]
    out = []
    for sample, (up, left, flip, angle) in zip(x, u.tolist(), strict=True):
        if kind in NDA:
            flipped = sample.flip(-1) if flip < 0.5 else sample
            out.append(one_of_three(flipped, up, left, int(3 * angle), *NDA[kind]))
            continue
        top, first = int(9 * up), int(9 * left)
        if kind not in ("none", "eventmix"):
            sample = F.pad(sample, (4, 4, 4, 4))[..., top : top + H, first : first + W]
        if kind == "dvs-da":
            sample = sample.flip(-1) if flip < 0.5 else sample
            sample = rotate(sample.flatten(0, 1), 15 * (2 * angle - 1)).view_as(sample)
        out.append(sample)
    return torch.stack(out)


def one_of_three(sample, up, left, which, roll, angle, shear):
    """The sample rolled, rotated or sheared."""
    H, W = sample.shape[-2:]
    if which == 0:
        moved = [int((2 * roll + 1) * u) - roll for u in (up, left)]
        return sample.roll(moved, (-2, -1))
    if which == 1:
        return rotate(sample.flatten(0, 1), angle * (2 * up - 1)).view_as(sample)
    out, slope = torch.zeros_like(sample), np.float32(math.tan(math.radians(shear * (2 * up - 1))))
    for i, j in itertools.product(range(H), range(W)):
        column = int(np.round(np.float32(j) + slope * np.float32(i - (H - 1) / 2)))
        if 0 <= column < W:
            out[..., i, j] = sample[..., i, column]
    return out


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(28, 28), (34, 34), (48, 48), (128, 128), (13, 20), (21, 12)])
def test_a_batch_equals_its_samples_one_by_one_bit_for_bit(kind, size):
    edges = list(itertools.product((0, 0.5, 1 - 2**-53), repeat=4))
    n = 20 if size[0] > 48 else 200
    u = np.concatenate([edges, np.random.default_rng(size).random((n, 4))])
    # Each pixel tells where it came from.
    pixels = torch.arange(1.0, 4 * size[0] * size[1] + 1).view(1, 2, 2, *size)
    x = pixels.expand(len(u), -1, -1, -1, -1)
    before, out = x[:1].clone(), augment_events(x, u, kind)
    assert out.dtype == torch.float32 and torch.equal(out, one_by_one(x, u, kind))
    assert torch.equal(x[:1], before)


def test_kinds():
    assert AUGMENTATIONS == ("none", "crop", "dvs-da", "nda", "nda-wide", "eventmix")
    assert (augment.PADDING, augment.MAX_ANGLE) == (4, 15.0)
    assert NDA == {"nda": (3, 15, 15), "nda-wide": (5, 30, 30)}  # as published, by data set


@pytest.mark.parametrize("angle_draw", [0.0, 0.13, 0.37, 0.71, 0.999])
@pytest.mark.parametrize("size", [(11, 11), (16, 12)])
def test_rotation_against_a_slow_reference(angle_draw, size):
    x = torch.randint(0, 200, (1, 3, 2, *size)).float()
    u = np.array([[0.5, 0.5, 0.9, angle_draw]])  # no shift and no flip
    out = augment_events(x, u, "dvs-da")
    turned = [rotated(image, 30 * angle_draw - 15) for image in x[0].flatten(0, 1)]
    assert torch.equal(out[0].flatten(0, 1), torch.stack(turned))


# EventMix: the mask against sums of Gaussians place by place


def density(draws, place, shape):
    """The mixture at (t, row, column)."""
    total = 0.0
    for weight, *numbers in draws[3:].reshape(4, 7)[: 2 + int(3 * draws[2])]:
        exponent = 0.0
        for x, size, mean, spread in zip(place, shape, numbers[:3], numbers[3:], strict=True):
            exponent += ((x - int(mean * size)) / (max(spread, 0.1) * size / 2)) ** 2 / 2
        total += weight * math.exp(-exponent)
    return total


def test_the_mask_is_where_a_mixture_of_gaussians_is_largest():
    shape, draws = (3, 6, 5), np.random.default_rng(0).random((8, augment.EVENTMIX_DRAWS))
    draws[0, 1], draws[1, 1] = 0, 1 - 2**-53
    found = augment.eventmix_mask(draws, shape, torch.device("cpu"))
    places = list(itertools.product(*map(range, shape)))
    for row, of_row in zip(draws, found, strict=True):
        values = np.array([density(row, place, shape) for place in places])
        least = np.sort(values)[int(row[1] * len(values))]
        clear = abs(values - least) > 1e-5  # float32 may order the others otherwise
        assert clear.sum() > 80
        assert np.array_equal(of_row.flatten().numpy()[clear], (values > least)[clear])
    assert found[0].sum() > 80 and not found[1].any()


def test_a_part_of_a_recording_is_that_of_another_of_its_class():
    labels = torch.tensor([0, 0, 0, 1, 1])
    frames = torch.arange(1.0, 6).view(5, 1, 1, 1, 1).expand(5, 4, 2, 8, 8)
    images = torch.zeros(2, 8, 8)
    plain, augmented = (
        TSMDataset(frames, labels, images, torch.tensor([0, 1]), seed=3, augment=kind)
        for kind in ("none", "eventmix")
    )
    seen = set()
    for epoch in range(20):
        plain.set_epoch(epoch)
        augmented.set_epoch(epoch)
        batch, mixed = plain[[0, 1, 2, 3, 4]], augmented[[0, 1, 2, 3, 4]]
        assert torch.equal(mixed.draws, batch.draws) and torch.equal(mixed.image, batch.image)
        assert torch.equal(mixed.static, batch.static) and torch.equal(mixed.label, batch.label)
        for i, events in enumerate(mixed.events):
            parts = set(events.unique().int().tolist())
            assert len(parts) < 3 and (labels[[p - 1 for p in parts]] == labels[i]).all()
            assert torch.equal(events[:, 0], events[:, 1])
            seen |= {(i + 1, part) for part in parts}
    assert seen == {*itertools.product((1, 2, 3), repeat=2), *itertools.product((4, 5), repeat=2)}
