"""The baseline: Knowledge-Transfer of He et al. (AAAI 2024)."""

from argparse import Namespace

from torch import Tensor

from ..losses import RDALoss
from ..mixing import Mixing, SlidingReplacement
from .base import METHODS, Method, Pair, Progress, TransferOutput, total

# Weight of the MSE term of the reference's TET loss.
LAMB = 1e-3


@METHODS.register("baseline")
class Baseline(Method):
    """Sliding training, TET loss on both streams, domain alignment with learned coefficients.

    - static stream: ``(1 - lamb) mean_t CE + lamb mean_t MSE(y_s[t], threshold)``
    - event stream: the same sums, each term weighted by ``1 - sigma_t``
    - alignment: ``mean_t sigma_t (1 - |CKA|)``, weighted by ``domain_weight`` in the total

    Args:
        steps: T.
        tet: loss at every time-step (``--TET-loss``); False: cross-entropy of the mean logits.
        coefficients: ``learned`` (``--regularization``), ``fixed`` or ``off``.
        domain_weight: weight of the alignment term; 0 leaves it out (no ``--domain-loss``).
        threshold: firing threshold, the target of the MSE term.
        smoothing: label smoothing.
        mixing: replacement schedule of the static stream; sliding, cubic, where None.
    """

    takes = (
        *("TET_loss", "smoothing", "regularization", "theta", "domain_loss"),
        *("domain_loss_coefficient", "sliding_training", "pow", "threshold"),
    )

    def __init__(
        self,
        steps: int,
        tet: bool = True,
        coefficients: str = "learned",
        domain_weight: float = 0.5,
        threshold: float = 0.5,
        smoothing: float = 0.0,
        mixing: Mixing | None = None,
    ):
        super().__init__()
        form = {"tet": tet, "lamb": LAMB, "threshold": threshold, "smoothing": smoothing}
        self.rda = RDALoss(steps, coefficients, **form)
        self.domain_weight = domain_weight
        self.least_batch = 2 if domain_weight else 1
        self.mixing = mixing or SlidingReplacement(steps)

    @classmethod
    def taken(cls, options: Namespace) -> set[str]:
        return super().taken(options) - (set() if options.regularization else {"theta"})

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "Baseline":
        # The reference drops the domain loss together with sliding training.
        align = options.domain_loss and options.sliding_training
        return cls(
            options.step,
            tet=options.TET_loss,
            coefficients=options.theta if options.regularization else "off",
            domain_weight=options.domain_loss_coefficient if align else 0.0,
            threshold=options.threshold,
            smoothing=options.smoothing,
            mixing=SlidingReplacement.from_options(options),
        )

    def run(self, model, batch: Pair, progress: Progress) -> tuple[TransferOutput]:
        return (model(batch.events, self.mixing(batch, progress).frames),)

    def losses(self, out: TransferOutput, y: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        terms = {
            "cls_static": self.rda.plain(out.static.logits, y),
            "cls_event": self.rda.event_classification(out.event.logits, y),
        }
        if self.domain_weight:
            terms["alignment"] = self.rda.alignment(out.static.tap, out.event.tap)
        return total(terms, alignment=self.domain_weight)

    def diagnostics(self) -> dict[str, float]:
        return self.rda.diagnostics()
