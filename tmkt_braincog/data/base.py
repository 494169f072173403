"""What every data set delivers: recordings, static images, and which of them belong together."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..registry import DATASETS

__all__ = ["DATASETS", "NO_TWIN", "DataSet", "PublishedDraw", "TransferData", "cache_root"]

NO_TWIN = -1


@dataclass(frozen=True)
class PublishedDraw:
    """What the code of He et al. (2024) does with this data set, for ``--protocol he2024``.

    Attributes:
        train, test: sorted int64 indices of recordings.
        pools: per class, int64 indices of the images that its recordings may be paired with.
    """

    train: np.ndarray
    test: np.ndarray
    pools: list[np.ndarray]


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
        twins: ``[R]`` int64, index of the image that the recording was made from, or ``NO_TWIN`` where that is
            not known or not there.
        train, test: int64 indices of recordings, the data set's own split, sorted.
        static_train: int64 indices of the images that the data set's own split trains on.
        static_test: int64 indices of the other images.
        statistics: ``[R]`` int64 each by name, see :class:`~tmkt_braincog.data.recordings.Recordings`.
        published: the draw of the reference where it differs from these, see :class:`PublishedDraw`.
        remarks: sentences about the data that every result made from them must carry.
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
    statistics: dict[str, np.ndarray]
    published: PublishedDraw | None = None
    remarks: list[str] = field(default_factory=list)
    emulated: bool = False

    def pools(self, images: np.ndarray) -> list[np.ndarray]:
        """These images (indices) by class."""
        of_image = self.image_labels.numpy()[images]
        return [images[of_image == c] for c in range(len(self.classes))]


@dataclass(frozen=True)
class DataSet:
    """A registered target data set: how to get and load it and the recipe that goes with it.

    Attributes:
        load: ``load(root, steps, size, train_portion, use_hsv, mode) -> TransferData``; ``root`` is None where the user
            gave no ``--data-root``, ``steps`` is T, ``size`` the frame's side in pixels after resizing,
            ``train_portion`` None where the data set's own split is meant.
        sources: the name of its static data set, and others that are understood for it.
        recipe: option defaults that suit this data set: the name of a file in ``recipes/``, or option name -> value.
        fetch: ``fetch(root)`` downloads and unpacks what is missing and may be had by a public link, and raises a
            UserError that says what to fetch by hand; None where nothing is needed.
        counts: recordings per class as published, in the order of the classes; empty where there is no such table.
        get: how to get it, in a word or two: ``built in``, ``download``, ``by hand``.
        needs: what it takes, in a line.
    """

    load: Callable[..., TransferData]
    sources: tuple[str, ...]
    recipe: str | Mapping[str, Any] = field(default_factory=dict)
    fetch: Callable[[Path], None] | None = None
    counts: tuple[int, ...] = ()
    get: str = "by hand"
    needs: str = "see prepare"


def cache_root() -> Path:
    """Folder of everything that can be made again: ``$TMKT_CACHE`` or ``~/.cache/tmkt_braincog``."""
    return Path(os.environ.get("TMKT_CACHE") or Path.home() / ".cache" / "tmkt_braincog")
