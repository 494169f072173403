"""Built-in data set ``ndigits``: scikit-learn's 8 x 8 digits and EMULATED recordings of them.

For trying and testing the whole program without a download. The events come from a sensor model
(:mod:`~tmkt_braincog.data.emulator`), not from a camera; results say nothing about N-MNIST.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from .assemble import Images
from .base import DATASETS, DataSet, LoadSpec, TransferData
from .camera import EventCamera
from .emulated import emulated_set
from .splits import first_portion, portion_split

TRAIN_PORTION = 0.5
# Events are the scarcer data: half of the training images have no training recording.
RECORDED_PORTION = 0.5


def load(spec: LoadSpec) -> TransferData:
    """1797 static digits, 28 x 28, and one emulated recording of each, 34 x 34; k shows image k.

    The first ``train_portion`` (default 0.5) of each class's images train, and the first half of
    these have a training recording too. Nothing is read from disk but the cache.
    """
    images, labels = digit_images()
    train, test = portion_split(labels, spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    recorded, _ = first_portion(labels[train], RECORDED_PORTION)
    return emulated_set(
        Images(images, labels),
        EventCamera(),
        spec,
        source="digits",
        target="ndigits",
        classes="0123456789",
        names=[f"digits/{i:04d}" for i in range(len(labels))],
        train=train[recorded],
        test=test,
        static_train=train.copy(),
    )


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """``[1797, 28, 28]`` uint8 images (0 background .. 255) and ``[1797]`` int64 labels.

    scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin
    and Kaynak 1998), 8 x 8 with values 0..16, enlarged three times (bilinear) and centred.
    """
    digits = load_digits()
    small = torch.from_numpy(digits.images)[None]
    # Nine is the sum of the weights, sixteen the largest value; integers round alike everywhere.
    large = (9 * F.interpolate(small, scale_factor=3, mode="bilinear")[0]).round().long()
    grey = (large * 255 * 2 + 9 * 16) // (2 * 9 * 16)
    images = F.pad(grey, (2, 2, 2, 2)).numpy().astype(np.uint8)
    return images, digits.target.astype(np.int64)


NEEDS = "nothing: its events are emulated from scikit-learn's digits"
DATASETS.register("ndigits")(DataSet(load, ("digits",), "ndigits", None, (), "built in", NEEDS))
