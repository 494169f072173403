"""The part ``ckd``: phased distillation of CKD (Ye et al., ICME 2025, arXiv 2507.09269)."""

from argparse import Namespace

from torch import Tensor

from ..errors import UserError
from ..losses.distillation import hint_loss, kd_loss, phase_weight
from ..models.exact import WideLinear
from .base import PARTS, Pair, Part, Progress, TransferOutput, total


@PARTS.register("ckd")
class CKD(Part):
    """gamma(e) tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau)), or gamma(e) MSE(f_T, W f_S + b).

    z_T is the teacher's output on the static image, z_S the mean over time of the static (sliding,
    mixed) stream's logits. f_T are the teacher's pooled features before its last layer,
    standardised over the images of the training; f_S is the mean over time of that stream's F_t. W
    and b are learned along and not used at test time.

    Args:
        features: F.
        threshold, k: e_th, the epoch in which the distillation ends, and how sudden that is.
        on: ``logits``, or ``features``, an ablation.
    """

    teacher_on = "static"
    needs_static = True
    takes = ("ckd_k", "ckd_on", "ckd_threshold")
    temperature = 3.0  # tau

    def __init__(self, features: int, threshold: float, k: float = 100.0, on: str = "logits"):
        super().__init__()
        self.features, self.teacher_gives = features, on
        self.threshold, self.k = threshold, k
        self.map: WideLinear | None = None

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "CKD":
        threshold = _epoch(options.ckd_threshold, options.epochs)
        return cls(features, threshold, options.ckd_k, on=options.ckd_on)

    def meet(self, teacher) -> None:
        self.map = WideLinear(self.features, teacher.width())

    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        teacher = self.teacher[batch.image]
        if self.map is None:
            loss = kd_loss(teacher, out.static.logits.mean(dim=0), self.temperature)
        else:
            loss = hint_loss(teacher, self.map(out.static.spikes.mean(dim=0)))
        return total({"ckd": loss}, ckd=phase_weight(progress.epoch, self.threshold, self.k))


def _epoch(given: float | str | None, epochs: int) -> float:
    """e_th of ``--ckd-threshold``: an epoch, a share such as 25%, or half of the epochs."""
    if given is None:
        return epochs / 2
    if isinstance(given, str):
        return epochs * float(given.rstrip("%")) / 100
    if given > epochs:
        raise UserError(
            f"--ckd-threshold {given:g} lies outside the run of --epochs {epochs}: give an epoch "
            f"from 0 to {epochs}, a share of them such as 25%, or leave it away for half of them."
        )
    return given
