"""Data set ``own``: DATA/own/events/<class>/<number>.npy and DATA/own/images/<class>/<number>.png."""

from pathlib import Path

import numpy as np
import torch

from tmkt_braincog.data import DATASETS, DataSet, TransferData
from tmkt_braincog.data.images import load_images
from tmkt_braincog.data.ncaltech101 import find_twins
from tmkt_braincog.data.recordings import FrameSpec, load_recordings
from tmkt_braincog.data.splits import portion_split
from tmkt_braincog.data.tree import Layout, find_files


def read(path: Path):
    """One recording and its sensor (W, H): a structured array of x, y, t (us), p (1 = ON), as tonic gives it."""
    return [(np.load(path), (128, 128))]


def load(root, steps, size, train_portion=None, use_hsv=True, mode="count") -> TransferData:
    folder = Path(root or ".") / "own"
    classes = tuple(sorted(p.name for p in (folder / "images").glob("[!.]*")))
    events = find_files(folder / "events", Layout(classes, "0001.npy", __doc__))
    images = find_files(folder / "images", Layout(classes, "0001.png", __doc__))
    labels, image_labels = (
        torch.tensor([file.label for file in files]) for files in (events, images)
    )
    spec = FrameSpec(read, steps, size, mode)
    frames, statistics = load_recordings([e.path for e in events], spec, "own", folder)
    pixels = load_images([i.path for i in images], size, "own", folder, use_hsv)
    train, test = portion_split(labels.numpy(), train_portion or 0.8, 0.8)
    twins, every = find_twins(events, images), np.arange(len(images))  # twin: same class and number
    return TransferData(source="own-images", target="own", classes=classes, frames=torch.from_numpy(frames),
        labels=labels, names=[str(e.path.relative_to(folder)) for e in events],
        file_ids=np.array([e.number for e in events]), images=torch.from_numpy(pixels), image_labels=image_labels,
        twins=twins, train=train, test=test, static_train=np.setdiff1d(every, twins[test]),
        static_test=np.intersect1d(every, twins[test]), statistics=statistics)  # fmt: skip


DATASETS.register("own")(
    DataSet(load, ("own-images",), recipe={"event_size": 32, "batch_size": 16})
)
