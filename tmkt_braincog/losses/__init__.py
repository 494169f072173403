"""Loss functions, each usable on its own."""

from .cka import linear_cka
from .distillation import (
    ela_loss,
    hint_loss,
    kd_loss,
    phase_weight,
    sta_loss,
    sta_targets,
    standardise,
)
from .modality import mag_loss, mrp_loss
from .rda import RDALoss
from .tet import classification_loss, cross_entropy_per_step, mse_per_step

__all__ = [
    "RDALoss",
    "classification_loss",
    "cross_entropy_per_step",
    "ela_loss",
    "hint_loss",
    "kd_loss",
    "linear_cka",
    "mag_loss",
    "mrp_loss",
    "mse_per_step",
    "phase_weight",
    "sta_loss",
    "sta_targets",
    "standardise",
]
