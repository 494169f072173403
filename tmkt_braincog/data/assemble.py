"""Recordings, images, twins and a split to one :class:`TransferData`: what data sets do alike."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .base import LoadSpec, TransferData
from .images import load_images
from .preparation import Preparation
from .recordings import FrameSpec, load_recordings
from .tree import File, labels_of

log = logging.getLogger(__name__)


class Images(NamedTuple):
    """``pixels`` ``[S, h, w]`` uint8, ``labels`` ``[S]`` int64; ``resized`` reads photographs anew
    at another size."""

    pixels: np.ndarray
    labels: np.ndarray
    resized: Callable[[int], np.ndarray] | None = None


def photographs(
    files: Sequence[File], spec: LoadSpec, name: str, root: Path, resize_first: bool = True
) -> Images:
    """The images in these files, see :func:`~tmkt_braincog.data.images.load_images`."""
    paths = [file.path for file in files]

    def resized(size: int) -> np.ndarray:
        return load_images(paths, size, name, root, resize_first)

    return Images(resized(spec.size), labels_of(files), resized)


def log_found(what: str, files: Sequence[File], full: int, n_classes: int) -> None:
    """How many of how many are there."""
    name, _, kind = what.rpartition(" ")
    here = len({file.label for file in files})
    log.info("%s: %d of %d %s, in %d of %d classes", name, len(files), full, kind, here, n_classes)


def assemble(
    source: str,
    target: str,
    classes: Sequence[str],
    *,
    root: Path,
    recordings: Sequence[File],
    frames: FrameSpec,
    images: Images,
    twins: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    names: Path | list[str] | None = None,
    static_train: np.ndarray | None = None,
    also: Sequence[Path] = (),
    read_any: Mapping[str, Any] | None = None,
    **more: Any,
) -> TransferData:
    """Read the recordings (from the cache where nothing has changed) and put all together.

    Args:
        root: folder above all files; moved as a whole it keeps its cache.
        recordings: one entry per recording; where a file holds several they follow each other.
        split: sorted int64 indices of the recordings that train and that test.
        names: of the recordings, or the folder that their files' names are relative to (``root``).
        static_train: the images that train; None: all but the twins of the recordings that test.
        also: files that ``frames.read`` reads beside the recordings.
        read_any: fields of a Preparation that reads files as ``frames.read`` does; None: none does.
        more: ``published``, ``remarks`` and ``cut_from`` of a
            :class:`~tmkt_braincog.data.base.TransferData`.

    Raises:
        UserError: files that are missing, damaged, or have events outside the sensor.
    """
    labels, files = labels_of(recordings), list(dict.fromkeys(r.path for r in recordings))
    counted, statistics = load_recordings(files, frames, target, root, also)
    mark = fingerprint(counted, labels, images)
    if static_train is None:
        static_train = np.setdiff1d(np.arange(len(images.labels)), twins[split[1]])
    if not isinstance(names, list):
        names = [r.path.relative_to(names or root).as_posix() for r in recordings]
    return TransferData(
        source=source,
        target=target,
        classes=tuple(classes),
        frames=torch.from_numpy(counted),
        labels=torch.from_numpy(labels),
        names=names,
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=torch.from_numpy(images.pixels),
        image_labels=torch.from_numpy(images.labels),
        resized=images.resized,
        twins=twins,
        train=split[0],
        test=split[1],
        static_train=static_train,
        statistics=statistics,
        preparation=_preparation(frames, statistics, read_any, mark),
        **more,
    )


def _preparation(
    frames: FrameSpec,
    statistics: Mapping[str, np.ndarray],
    read_any: Mapping[str, Any] | None,
    mark: str,
) -> Preparation:
    widths, heights = (np.unique(statistics[side]).tolist() for side in ("width", "height"))
    known = {f.name for f in fields(Preparation)}
    return Preparation(
        **{name: value for name, value in frames.key().items() if name in known},
        sensor=(widths[0], heights[0]) if len(widths) == len(heights) == 1 else None,
        reads=read_any is not None,
        fingerprint=mark,
        **(read_any or {}),
    )


def fingerprint(frames: np.ndarray, labels: np.ndarray, images: Images) -> str:
    """Sixteen hexadecimal digits that tell data from others: frames, images and their labels."""
    digest = hashlib.sha256()
    for array in (frames, labels, images.pixels, images.labels):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
