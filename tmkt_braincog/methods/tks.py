"""The part ``tks``: temporal knowledge sharing (Dong et al., 2024, arXiv 2304.06540)."""

from torch import Tensor

from ..losses.distillation import tks_loss
from .base import PARTS, Pair, Part, Progress, TransferOutput, total


@PARTS.register("tks")
class TKS(Part):
    """``a L + (1 - a) L_TKS`` on the event stream's logits, L being the loss of the method.

    The time-steps that are right teach all (:func:`tks_loss`); a falls by the epoch from 1 towards
    1 - alpha.
    """

    on_mean = True
    alpha, temperature = 0.7, 3.0  # as published

    def leaves(self, progress: Progress) -> float:
        return 1 - self.alpha * progress.epoch / progress.epochs

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        loss = tks_loss(out.event.logits, batch.label, self.temperature)
        return total({"tks": loss}, tks=1 - self.leaves(progress))
