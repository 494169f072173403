"""Data set ``own``: DATA/own/events/<class>/<number>.npy, DATA/own/images/<class>/<number>.png."""

from pathlib import Path

import numpy as np

from tmkt_braincog.data import DATASETS, DataSet, LoadSpec, TransferData
from tmkt_braincog.data.assemble import assemble, photographs
from tmkt_braincog.data.recordings import FrameSpec
from tmkt_braincog.data.splits import portion_split
from tmkt_braincog.data.tree import entries, find_files, find_twins, labels_of


def read(path: Path):
    """One recording and its sensor (W, H): a structured array of x, y, t (us), p (1 = ON)."""
    return [(np.load(path), (128, 128))]


def load(spec: LoadSpec) -> TransferData:
    folder = spec.folder("own", __doc__) / "own"
    classes = tuple(f.name for f in entries(folder / "events", __doc__))
    events = find_files(folder / "events", classes, "0001.npy", __doc__)
    images = find_files(folder / "images", classes, "0001.png", __doc__)
    return assemble(
        "own-images",
        "own",
        classes,
        root=folder,
        recordings=events,
        frames=FrameSpec(read, spec.steps, spec.size, spec.mode),
        images=photographs(images, spec, "own", folder),
        twins=find_twins(events, images),  # of the same class and number
        split=portion_split(labels_of(events), spec.portion(0.8), 0.8),
    )


DATASETS.register("own")(
    DataSet(load, ("own-images",), recipe={"event_size": 32, "batch_size": 16})
)
