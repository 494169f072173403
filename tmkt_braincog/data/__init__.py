"""Data sets by name. A new one is one new file here and one registered name."""

from . import cepdvs, cifar10dvs, digits, ncaltech101, nmnist, nomniglot
from .base import DATASETS, NO_TWIN, DataSet, TransferData
from .pairs import Pair, TSMDataset
from .splits import Split, make_split

__all__ = [
    "DATASETS",
    "NO_TWIN",
    "DataSet",
    "Pair",
    "Split",
    "TSMDataset",
    "TransferData",
    "cepdvs",
    "cifar10dvs",
    "digits",
    "make_split",
    "ncaltech101",
    "nmnist",
    "nomniglot",
]
