"""Loss functions, each usable on its own."""

from .cka import linear_cka
from .modality import mag_loss, mrp_loss
from .rda import RDALoss
from .tet import classification_loss, cross_entropy_per_step, mse_per_step

__all__ = [
    "RDALoss",
    "classification_loss",
    "cross_entropy_per_step",
    "linear_cka",
    "mag_loss",
    "mrp_loss",
    "mse_per_step",
]
