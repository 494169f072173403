"""The part ``seal``: the alignments of SeAl-KD (Sun et al., 2026, arXiv 2605.14252)."""

from torch import Tensor

from ..losses.distillation import ela_loss, sta_loss
from .base import PARTS, Pair, Part, Progress, TransferOutput, total


@PARTS.register("seal")
class SeAl(Part):
    """``alpha L_ELA + beta L_STA`` on the event stream's logits of every time-step.

    The teacher's output is that on the mean over time of the recording's frames, unaugmented.
    """

    teacher_on = "events"
    compares_steps = True
    alpha, beta, temperature = 0.6, 0.15, 3.0  # as published

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        teacher, student = self.teacher[batch.index], out.event.logits
        terms = {
            "ela": ela_loss(teacher, student, batch.label, self.temperature),
            "sta": sta_loss(student, self.temperature),
        }
        return total(terms, ela=self.alpha, sta=self.beta)
