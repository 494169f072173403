"""EventMix: the mask against sums of Gaussians place by place, and recordings of one class."""

import itertools
import math

import numpy as np
import torch

from tmkt_braincog.data import eventmix
from tmkt_braincog.data.pairs import TSMDataset


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
    shape, draws = (3, 6, 5), np.random.default_rng(0).random((8, eventmix.DRAWS))
    draws[0, 1], draws[1, 1] = 0, 1 - 2**-53
    found = eventmix.mask(draws, shape, torch.device("cpu"))
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
