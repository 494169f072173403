"""Loss functions; those of the parts are in ``distillation`` and ``language``."""

from .cka import linear_cka as linear_cka
from .distillation import standardise as standardise
from .modality import mag_loss as mag_loss
from .modality import mrp_loss as mrp_loss
from .rda import RDALoss as RDALoss
from .tet import classification_loss as classification_loss
