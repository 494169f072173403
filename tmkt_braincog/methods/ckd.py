"""The part ``ckd``: indirect phased distillation of CKD (Ye et al., ICME 2025, arXiv 2507.09269)."""

from argparse import Namespace

from torch import Tensor

from ..errors import UserError
from ..losses import kd_loss, phase_weight
from .base import PARTS, Pair, Part, Progress, TransferOutput, total


@PARTS.register("ckd")
class CKD(Part):
    """``gamma(e) tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))``.

    z_T is the teacher's output on the static image, z_S the mean over time of the static (sliding, mixed) stream's logits.

    Args:
        threshold: e_th, the epoch in which the distillation ends.
        k: how sudden that is.
        temperature: tau.
    """

    teacher_on = "static"
    needs_static = True

    def __init__(self, threshold: float, k: float = 100.0, temperature: float = 3.0):
        super().__init__()
        self.threshold, self.k, self.temperature = threshold, k, temperature

    @classmethod
    def from_options(cls, options: Namespace) -> "CKD":
        threshold = options.epochs / 2 if options.ckd_threshold is None else options.ckd_threshold
        if threshold > options.epochs:
            raise UserError(
                f"--ckd-threshold {threshold:g} lies outside the run of --epochs {options.epochs}: give an epoch from 0 to "
                f"{options.epochs}, or leave it away for half of them."
            )
        return cls(threshold, options.ckd_k, options.kd_temperature)

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        student = out.static.logits.mean(dim=0)
        terms = {"ckd": kd_loss(self.teacher[batch.image], student, self.temperature)}
        return total(terms, ckd=phase_weight(progress.epoch, self.threshold, self.k))
