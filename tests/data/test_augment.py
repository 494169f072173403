"""Event augmentation against crops and turns written out sample by sample and pixel by pixel."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import rotate

from tmkt_braincog.data.augment import AUGMENTATIONS, MAX_ANGLE, NDA, PADDING, augment_events

CENTRE = 0.5  # the draw of a zero shift and of a zero angle
NO_FLIP = 0.9


def events(B=4, T=3, H=11, W=9):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 200, (B, T, 2, H, W), generator=g).float()


def draws(*rows):
    return np.array(rows, dtype=float)


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
    pixels = torch.arange(1.0, 2 * size[0] * size[1] + 1).view(1, 1, 2, *size)
    x = pixels.expand(len(u), -1, -1, -1, -1)
    out = augment_events(x, u, kind)
    assert out.dtype == torch.float32 and torch.equal(out, one_by_one(x, u, kind))


def test_kinds():
    assert AUGMENTATIONS == ("none", "crop", "dvs-da", "nda", "nda-wide", "eventmix")
    assert (PADDING, MAX_ANGLE) == (4, 15.0)
    assert NDA == {"nda": (3, 15, 15), "nda-wide": (5, 30, 30)}  # as published, by data set


def test_every_shift_from_minus_4_to_4_is_reached():
    u = [(i + 0.5) / 9 for i in range(9)]
    grid = draws(*((a, b, 0, 0) for a in u for b in u), (0, 1 - 2**-53, 0, 0))
    x = torch.zeros(82, 1, 2, 11, 11)
    x[..., 5, 5] = 1
    places = augment_events(x, grid, "crop")[:, 0, 0].flatten(1).argmax(1)
    found = [(5 - int(p) // 11, 5 - int(p) % 11) for p in places]
    assert found[:81] == [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)]
    assert found[81] == (-4, 4)


def test_flip_mirrors_the_columns_of_half_of_the_samples_after_the_crop():
    x = events()
    u = draws(*((CENTRE, CENTRE, flip, 0.5) for flip in (0.0, 0.499, 0.5, 0.999)))
    out = augment_events(x, u, "dvs-da")
    assert torch.equal(out[:2], x[:2].flip(-1)) and torch.equal(out[2:], x[2:])
    assert torch.equal(augment_events(x, u, "crop"), x)  # no flip and no shift: the identity
    out = augment_events(x[:1], draws((CENTRE, 0.99, 0.0, 0.5)), "dvs-da")
    assert torch.equal(out[0], F.pad(x[0, ..., 4:], (0, 4)).flip(-1))
    assert torch.equal(x, events())  # the input is left alone


@pytest.mark.parametrize("angle_draw", [0.0, 0.13, 0.37, 0.71, 0.999])
@pytest.mark.parametrize("size", [(11, 11), (16, 12)])
def test_rotation_against_a_slow_reference(angle_draw, size):
    x = events(1, 3, *size)
    out = augment_events(x, draws((CENTRE, CENTRE, NO_FLIP, angle_draw)), "dvs-da")
    turned = [rotated(image, 30 * angle_draw - 15) for image in x[0].flatten(0, 1)]
    assert torch.equal(out[0].flatten(0, 1), torch.stack(turned))


@pytest.mark.parametrize("kind", ["crop", "dvs-da"])
def test_all_steps_and_both_polarities_move_alike_and_samples_apart(kind):
    x = events(B=1, T=1)[:, :, :1].expand(6, 5, 2, 11, 9).contiguous()
    u = np.random.default_rng(2).random((6, 4))
    out = augment_events(x, u, kind)
    for b in range(6):
        assert all(torch.equal(out[b, t, p], out[b, 0, 0]) for t in range(5) for p in range(2))
        assert torch.equal(augment_events(x[b : b + 1], u[b : b + 1], kind)[0], out[b])
    assert len({tuple(out[b].flatten().tolist()) for b in range(6)}) == 6
