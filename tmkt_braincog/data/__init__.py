"""Data sets by name. A new one is one new file here and one registered name."""

from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, Split, TransferData
from .pairs import Pair, TSMDataset
from .splits import make_split

__all__ = [
    "DATASETS", "NO_TWIN", "DataSet", "LoadSpec", "Pair", "Split", "TSMDataset", "TransferData",
    "make_split",
]  # fmt: skip
