"""The part ``etc``: enhancing temporal consistency (Zhao et al., 2025)."""

from argparse import Namespace

from torch import Tensor

from ..losses import etc_loss
from .base import PARTS, Pair, Part, Progress, TransferOutput, several_steps, total


@PARTS.register("etc")
class ETC(Part):
    """Every time-step's logits of the event stream are drawn to every other's (:func:`etc_loss`).

    Args:
        temperature: 4 as published.
    """

    on_mean = True

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = temperature

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "ETC":
        several_steps(options, "etc")
        return cls()

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        return total({"etc": etc_loss(out.event.logits, self.temperature)})
