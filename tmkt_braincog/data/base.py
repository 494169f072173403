"""What every data set delivers: recordings, static images, and which of them belong together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError, unknown_name
from ..registry import DATASETS
from .frames import MODES
from .preparation import Preparation

__all__ = ["DATASETS", "NO_TWIN", "DataSet", "LoadSpec", "Split", "TransferData"]

NO_TWIN = -1


@dataclass(frozen=True)
class LoadSpec:
    """What to load, and in which shape.

    Attributes:
        root: folder that holds the data sets' own folders; most need only a part of the recordings.
        steps: T >= 1.
        size: side of frames and images in pixels; ``nmnist`` and ``ndigits`` keep their own sizes.
        train_portion: share of every class, in the order of the numbers, that trains, in (0, 1);
            None: the data set's own split.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.
        window: length such as ``100ms`` that longer recordings are cut into; ``folder`` alone.
        time_unit: of times in files that do not say it, ns, us, ms or s; ``folder`` alone.

    Raises:
        UserError: an unknown mode.
    """

    root: str | Path | None = None
    steps: int = 10
    size: int = 48
    train_portion: float | None = None
    mode: str = "count"
    window: str | None = None
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("mode of frames", self.mode, MODES)

    def folder(self, name: str, expected: str, own_split: bool = False) -> Path:
        """The root, for the data set ``name``; a UserError where the spec does not suit it."""
        if own_split and self.train_portion is not None:
            raise UserError(
                f"Got a training portion of {self.train_portion} for {name}, which has its own "
                "split. Leave the option away."
            )
        if self.root is None:
            raise UserError(f"{name} needs a data root (--data-root); none was given.\n{expected}")
        return Path(self.root)

    def portion(self, default: float) -> float:
        return default if self.train_portion is None else self.train_portion


@dataclass(frozen=True)
class Split:
    """Who trains, validates and tests.

    Attributes:
        train, test, val: sorted int64 indices of recordings.
        pools: per class, int64 indices of the images that its recordings may be paired with.
        audit: what leaks and what was removed, in words.
    """

    train: np.ndarray
    test: np.ndarray
    pools: list[np.ndarray]
    val: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    audit: str = ""

    @property
    def static(self) -> np.ndarray:
        """Sorted indices of all images that may be drawn."""
        return np.unique(np.concatenate(self.pools))

    def held_out(self) -> dict[str, np.ndarray]:
        """What tests and what validates, as far as there is any, by ``test`` and ``val``."""
        return {part: r for part in ("test", "val") if len(r := getattr(self, part))}

    def record(self, data: "TransferData") -> dict[str, str | bool | list[str]]:
        """The audit and the recordings' names per part, as kept with a run."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        names = {part: [data.names[i] for i in members] for part, members in parts.items()}
        return {"audit": self.audit, "emulated": data.emulated, "remarks": data.remarks, **names}


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
        names: R file names relative to the set's folder, unique, such as ``Train/3/00011.bin``.
        file_ids: ``[R]`` int64, the number in the file's name.
        images: ``[S, h, w]`` uint8, V channel of HSV.
        image_labels: ``[S]`` int64.
        twins: ``[R]`` int64, the image that the recording was made from, or ``NO_TWIN``.
        train, test: int64 indices of recordings, the data set's own split, sorted.
        static_train: int64 indices of the images that this split trains on.
        statistics: ``[R]`` int64 by name, see :class:`~tmkt_braincog.data.recordings.Recordings`.
        published: what the code of He et al. (2024) draws, where it differs from these.
        remarks: sentences about the data that every result made from them must carry.
        emulated: True where the events come from a sensor model and not from a camera.
        resized: reads the images anew, ``[S, size, size]`` uint8; None where they have one size.
        preparation: how a recording becomes frames; None: not said, and a network trained on them
            cannot be asked about other recordings.
        cut_from: ``[R]`` int64, the long recording of which this one is a window: those of one are
            never on two sides of a split. None: each is whole.
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
    statistics: dict[str, np.ndarray]
    published: Split | None = None
    remarks: list[str] = field(default_factory=list)
    emulated: bool = False
    resized: Callable[[int], np.ndarray] | None = None
    preparation: Preparation | None = None
    cut_from: np.ndarray | None = None

    def pools(self, images: np.ndarray) -> list[np.ndarray]:
        """These images (indices) by class."""
        of_image = self.image_labels.numpy()[images]
        return [images[of_image == c] for c in range(len(self.classes))]


@dataclass(frozen=True)
class DataSet:
    """A registered target data set.

    Attributes:
        load: see :class:`LoadSpec`; a UserError for files that are missing, damaged or misplaced.
        sources: the name of its static data set, and others that are understood for it.
        recipe: options that suit it: the name of a file in ``recipes/``, or option name -> value.
        fetch: downloads into a root what is missing, or a UserError that says what to get by hand.
        counts: recordings per class as published; empty where there is no such table.
        get: how to get it, in a word or two: ``built in``, ``download``, ``by hand``.
        needs: what it takes, in a line.
        takes: the fields of a :class:`LoadSpec` that it alone reads.
    """

    load: Callable[[LoadSpec], TransferData]
    sources: tuple[str, ...]
    recipe: str | Mapping[str, Any] = field(default_factory=dict)
    fetch: Callable[[Path], None] | None = None
    counts: tuple[int, ...] = ()
    get: str = "by hand"
    needs: str = "see prepare"
    takes: tuple[str, ...] = ()
