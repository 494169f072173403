"""The part ``etc``: enhancing temporal consistency (Zhao et al., 2025)."""

from torch import Tensor

from ..losses.distillation import etc_loss
from .base import PARTS, Pair, Part, Progress, TransferOutput, total


@PARTS.register("etc")
class ETC(Part):
    """Every time-step's logits of the event stream are drawn to every other's: :func:`etc_loss`."""

    on_mean = compares_steps = True
    temperature = 4.0  # as published

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        return total({"etc": etc_loss(out.event.logits, self.temperature)})
