"""Loss functions, each usable on its own."""

from .cka import linear_cka as linear_cka
from .distillation import ela_loss as ela_loss
from .distillation import etc_loss as etc_loss
from .distillation import hint_loss as hint_loss
from .distillation import kd_loss as kd_loss
from .distillation import phase_weight as phase_weight
from .distillation import sta_loss as sta_loss
from .distillation import sta_targets as sta_targets
from .distillation import standardise as standardise
from .distillation import tks_loss as tks_loss
from .language import contrastive_loss as contrastive_loss
from .language import membrane_consistency as membrane_consistency
from .language import rate_consistency as rate_consistency
from .language import unit as unit
from .language import word_targets as word_targets
from .modality import mag_loss as mag_loss
from .modality import mrp_loss as mrp_loss
from .rda import RDALoss as RDALoss
from .tet import classification_loss as classification_loss
from .tet import cross_entropy_per_step as cross_entropy_per_step
from .tet import mse_per_step as mse_per_step
