"""The TSM data-set wrapper: every event recording paired with a static image of its class."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError, unknown_name
from .augment import AUGMENTATIONS, EVENTMIX_DRAWS, augment_events, eventmix
from .encodings import Encoding, Repeat
from .frames import resize_frames
from .resident import upload
from .sampling import item_labels

PAIRINGS = ("class", "twin")


class Pair(NamedTuple):
    """A batch (or, without the leading B, one sample) of paired recordings.

    Attributes:
        events: ``[B, T, 2, H, W]`` float32, event counts, augmented.
        static: ``[B, 2, H, W]`` float32 in [0, 1], V channel on both polarity channels; from an
            encoding of its own ``[B, T, 2, H, W]``, counts as of events, augmented.
        label: ``[B]`` int64.
        draws: ``[B, T]`` float64, the uniform random numbers of TSM.
        index: ``[B]`` int64, recording.
        image: ``[B]`` int64, its static partner.
    """

    events: Tensor
    static: Tensor
    label: Tensor
    draws: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    image: Tensor

    def to(self, device: torch.device) -> "Pair":
        return Pair(*(t.to(device, non_blocking=True) for t in self))

    def static_frames(self) -> Tensor:
        """``[B, T, 2, H, W]``: the static stream as it is before any mixing."""
        if self.static.ndim == self.events.ndim:
            return self.static
        return self.static.unsqueeze(-4).expand_as(self.events)


class TSMDataset(Dataset):
    """Recordings and class-matched static images, ready for time-step mixup.

    All chance (image, switch time, augmentation) of item ``i`` comes from ``(seed, epoch, i)``
    alone, not from workers, order or device. An index counts on past the number of recordings:
    ``i % R`` is the recording and the quotient tells repeats apart, which get a new image and
    a new t*. A list of indices gives a whole batch (``DataLoader(..., sampler=batches,
    batch_size=None)``).
    Frames and images may live on a GPU: batches are put together there, and nothing is read back.

    Args:
        frames: ``[R, T, 2, H, W]`` event counts, any dtype.
        labels: ``[R]`` int64.
        images: ``[S, h, w]``, uint8 or float in [0, 1], V channel of HSV.
        image_labels: ``[S]`` int64.
        size: side in pixels of what is delivered; the frames' own where None.
        seed: any integer >= 0.
        augment: event augmentation, of :data:`~tmkt_braincog.data.augment.AUGMENTATIONS`.
        recordings: indices of the recordings to deliver, all where None. R is the number of these.
        pools: per class, the images (indices) to draw partners from; all of the class where None.
        pairing: ``class``: a random image of the class, drawn anew in every epoch; ``twin``: the
            image that the recording was made from, by its index in ``twins`` ``[R]`` (or -1).
        encoding: what the static frames are made of, prepared; None: the image at every time-step.

    Without any recording the items are the classes that have images, over and over, with events of
    zeros and -1 for the recording.

    Raises:
        UserError: a class with recordings but no image, lengths that do not match, a missing image.
    """

    def __init__(
        self,
        frames: Tensor,
        labels: Tensor,
        images: Tensor,
        image_labels: Tensor,
        *,
        recordings: Sequence[int] | np.ndarray | None = None,
        pools: Sequence[np.ndarray] | None = None,
        size: int | None = None,
        seed: int = 0,
        augment: str = "none",
        pairing: str = "class",
        twins: np.ndarray | None = None,
        encoding: Encoding | None = None,
    ):
        if len(frames) != len(labels) or len(images) != len(image_labels):
            raise UserError(
                f"Seen {len(frames)} recordings with {len(labels)} labels and {len(images)} images "
                f"with {len(image_labels)} labels: expected one label each."
            )
        if augment not in AUGMENTATIONS:
            raise unknown_name("augment", augment, AUGMENTATIONS)
        if pairing not in PAIRINGS:
            raise unknown_name("pairing", pairing, PAIRINGS)
        self.frames, self.labels, self.images = frames, torch.as_tensor(labels).long(), images
        if size is None and frames.shape[-1] != frames.shape[-2]:
            raise UserError(f"Frames of {(*frames.shape[-2:],)} pixels are not square: give size.")
        self.size = size or frames.shape[-1]
        self.seed, self.augment, self.pairing, self.epoch = seed, augment, pairing, 0
        self.encoding = encoding or Repeat(frames.shape[1])
        every = range(len(labels))
        self.recordings = np.asarray(every if recordings is None else recordings, np.int64)
        classes = np.unique(self.labels.numpy()[self.recordings]).tolist()
        if pools is None:
            of_image = np.asarray(image_labels)
            n = max(classes, default=of_image.max(initial=-1)) + 1
            pools = [np.flatnonzero(of_image == c) for c in range(n)]
        self.pools = pools
        empty = [c for c in classes if c >= len(pools) or not len(pools[c])]
        if empty:
            raise UserError(
                f"Classes {empty} have event recordings but no static image to pair them with. "
                "Check that both data sets hold the same classes, and that not all of their "
                "images are those of validation or test recordings."
            )
        self.item_labels = item_labels(self.labels.numpy(), self.recordings, pools)
        self.twins = None if twins is None else np.asarray(twins)
        if pairing == "twin":
            self._check_twins(np.concatenate(pools))

    def _check_twins(self, static: np.ndarray) -> None:
        if self.twins is None or len(self.twins) != len(self.frames):
            raise UserError(
                "pairing='twin' needs the index of the static image of every recording (twins)."
            )
        lost = int((~np.isin(self.twins[self.recordings], static)).sum())
        if lost:
            raise UserError(
                f"pairing='twin': {lost} of {len(self)} recordings have no static image that may "
                "be trained on. Use pairing='class'."
            )

    def __iter__(self) -> Iterator[Pair]:
        return (self[i] for i in range(len(self)))

    def __len__(self) -> int:
        return len(self.item_labels)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose partners, switch times and augmentations are delivered."""
        self.epoch = epoch

    def __getitem__(self, index: int | Sequence[int]) -> Pair:
        if np.ndim(index):
            return self._batch([int(i) for i in np.asarray(index)])
        item = int(np.asarray(index))
        if not -len(self) <= item:
            raise IndexError(f"item {item} of {len(self)}")
        return Pair(*(t[0] for t in self._batch([item % len(self) if item < 0 else item])))

    def _batch(self, indices: list[int]) -> Pair:
        T, device = self.frames.shape[1], self.frames.device
        # One generator per sample: T draws of TSM, one for the image, four for the augmentation of
        # the events, as many as an encoding takes, with four for the static frames, and EventMix's.
        more = self.encoding.draws + 4 + (EVENTMIX_DRAWS if self.augment == "eventmix" else 0)
        keys = [(self.seed, self.epoch, i) for i in indices]
        draws = np.stack([np.random.default_rng(key).random(T + 5 + more) for key in keys])
        items = [i % len(self) for i in indices]
        labels, recordings = self.item_labels[items], np.full(len(items), -1)
        if len(self.recordings):
            recordings = self.recordings[items]
        index = upload(recordings, device)
        events = self._events(index)
        if self.augment == "eventmix" and len(self.recordings):
            own = draws[:, -EVENTMIX_DRAWS:]
            of = {c: self.recordings[self.item_labels == c] for c in np.unique(labels)}
            others = upload(_drawn(of, labels, own[:, 0]), device)
            events = eventmix(events, self._events(others), own)
        if self.pairing == "twin" and self.twins is not None:
            images = self.twins[recordings]
        else:
            images = _drawn(self.pools, labels, draws[:, T])
        return Pair(
            events=augment_events(events, draws[:, T + 1 : T + 5], self.augment),
            static=self._static(images, draws[:, T + 5 :]),
            label=upload(labels, device),
            draws=upload(draws[:, :T], device),
            index=index,
            image=upload(images, device),
        )

    def _events(self, index: Tensor) -> Tensor:
        if not len(self.recordings):
            shape = len(index), self.frames.shape[1], 2, self.size, self.size
            return torch.zeros(shape, device=self.frames.device)
        return resize_frames(self.frames.index_select(0, index), self.size)

    def _static(self, images: np.ndarray, draws: np.ndarray) -> Tensor:
        index = upload(images, self.images.device)
        v = self.images.index_select(0, index)
        v = v.float() / 255 if v.dtype == torch.uint8 else v.float()
        if v.shape[-2:] != (self.size, self.size):
            v = F.interpolate(v[None], (self.size,) * 2, mode="bilinear", antialias=True)[0]
            v = v.clamp(0, 1)
        static = self.encoding(v, images, draws[:, : self.encoding.draws])
        if not self.encoding.like_events:
            return static
        own = draws[:, self.encoding.draws : self.encoding.draws + 4]
        return augment_events(static, own, self.augment)


def _drawn(members: Any, labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """For each label one of its ``members``, by a draw in [0, 1)."""
    of = [members[c] for c in labels]
    return np.array([pool[int(u * len(pool))] for pool, u in zip(of, draws, strict=True)])
