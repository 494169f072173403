"""What every data set delivers: recordings, static images, and which of them belong together."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..registry import Registry

NO_TWIN = -1


@dataclass
class TransferData:
    """Event recordings and static images of the same classes, in memory.

    Letters: R recordings, S static images, T time-steps, H x W sensor size, h x w image size.

    Attributes:
        source, target: names of the static and of the event data set.
        classes: class names; labels index into them.
        frames: ``[R, T, 2, H, W]``, event counts per time bin and polarity (0 OFF, 1 ON), integer
            at sensor resolution or float32 where already resized.
        labels: ``[R]`` int64.
        names: R file names relative to the data set's folder, unique, such as ``Train/3/00011.bin``.
        file_ids: ``[R]`` int64, the number in the file's name.
        images: ``[S, h, w]`` uint8, V channel of HSV.
        image_labels: ``[S]`` int64.
        twins: ``[R]`` int64, index of the image that the recording was made from, or ``NO_TWIN``.
        train, test: int64 indices of recordings, the data set's own split, sorted.
        static_train: int64 indices of the images that the data set's own split trains on.
        static_test: int64 indices of the other images.
        emulated: True where the events come from a sensor model and not from a camera.
    """

    source: str
    target: str
    classes: tuple[str, ...]
    frames: torch.Tensor
    labels: torch.Tensor
    names: list[str]
    file_ids: np.ndarray
    images: torch.Tensor
    image_labels: torch.Tensor
    twins: np.ndarray
    train: np.ndarray
    test: np.ndarray
    static_train: np.ndarray
    static_test: np.ndarray
    emulated: bool = False


@dataclass(frozen=True)
class DataSet:
    """A registered target data set: how to load it and the recipe that goes with it.

    Attributes:
        load: ``load(root, steps, size, train_portion, download, use_hsv) -> TransferData``; ``root`` is None
            where the user gave no ``--data-root``, ``steps`` is T, ``size`` the frame's side in pixels after
            resizing, ``train_portion`` None where the data set's own split is meant.
        sources: names of the static data sets it can be paired with; the first is the default.
        recipe: option defaults (option name -> value) that suit this data set.
    """

    load: Callable[..., TransferData]
    sources: tuple[str, ...]
    recipe: dict[str, Any] = field(default_factory=dict)


DATASETS: Registry[DataSet] = Registry("target data set")


def cache_root() -> Path:
    """Folder of everything that can be made again: ``$TMKT_CACHE`` or ``~/.cache/tmkt_braincog``."""
    return Path(os.environ.get("TMKT_CACHE") or Path.home() / ".cache" / "tmkt_braincog")
