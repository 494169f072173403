"""TMKT and its baseline on BrainCog: static-to-event transfer for spiking networks.

Importing the package registers the models ``Transfer_VGG_SNN``, ``Transfer_ResNet18`` and
``Transfer_SCNN`` with timm, next to BrainCog's own.
"""

from .data import TSMDataset
from .losses import RDALoss, classification_loss, linear_cka, mag_loss, mrp_loss
from .methods import METHODS, TMKT, Baseline, EventOnly
from .mixing import (
    DynamicLinear,
    DynamicNonLinear,
    FixedRatio,
    Progress,
    SlidingReplacement,
    TimeStepMixup,
    mix,
    solve_p,
)
from .models import MAGHead, MRPHead, Transfer_ResNet18, Transfer_SCNN, Transfer_VGG_SNN
from .version import VERSION

__version__ = VERSION

__all__ = [
    "METHODS",
    "TMKT",
    "Baseline",
    "DynamicLinear",
    "DynamicNonLinear",
    "EventOnly",
    "FixedRatio",
    "MAGHead",
    "MRPHead",
    "Progress",
    "RDALoss",
    "SlidingReplacement",
    "TSMDataset",
    "TimeStepMixup",
    "Transfer_ResNet18",
    "Transfer_SCNN",
    "Transfer_VGG_SNN",
    "classification_loss",
    "linear_cka",
    "mag_loss",
    "mix",
    "mrp_loss",
    "solve_p",
]
