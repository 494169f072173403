"""Data sets by name. A new one is one new file here and one registered name."""

from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, PublishedDraw, TransferData
from .pairs import Pair, TSMDataset
from .splits import Split, make_split

__all__ = [
    "DATASETS", "NO_TWIN", "DataSet", "LoadSpec", "Pair", "PublishedDraw", "Split", "TSMDataset",
    "TransferData", "make_split",
]  # fmt: skip
