"""The part ``seal``: the alignments of SeAl-KD (Sun et al., 2026, arXiv 2605.14252)."""

from argparse import Namespace

from torch import Tensor

from ..losses import ela_loss, sta_loss
from .base import PARTS, Pair, Part, Progress, TransferOutput, several_steps, total


@PARTS.register("seal")
class SeAl(Part):
    """``alpha L_ELA + beta L_STA`` on the event stream's logits of every time-step.

    The teacher's output is that on the mean over time of the recording's frames, unaugmented.

    Args:
        alpha, beta: weights, 0.6 and 0.15 as published.
        temperature: 3 as published.
    """

    teacher_on = "events"

    def __init__(self, alpha: float = 0.6, beta: float = 0.15, temperature: float = 3.0):
        super().__init__()
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "SeAl":
        several_steps(options, "seal")
        return cls()

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        teacher, student = self.teacher[batch.index], out.event.logits
        terms = {
            "ela": ela_loss(teacher, student, batch.label, self.temperature),
            "sta": sta_loss(student, self.temperature),
        }
        return total(terms, ela=self.alpha, sta=self.beta)
