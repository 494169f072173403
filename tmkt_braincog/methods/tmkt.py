"""TMKT: Time-step Mixup Knowledge Transfer (arXiv 2509.12959)."""

from argparse import Namespace

from torch import Tensor

from ..errors import UserError, unknown_name
from ..losses import RDALoss, mag_loss, mrp_loss
from ..mixing import STRATEGIES, Mixed, Mixing, TimeStepMixup
from ..models.heads import MAGHead, MRPHead
from .base import METHODS, Method, Pair, Progress, TransferOutput, total

RDA_FORMS = ("equation", "reference", "off")


@METHODS.register("tmkt")
class TMKT(Method):
    """``L = L_CLSm + lambda L_RDA + L_MAG + L_MRP`` (Eq. 17) on the mixed and the event stream.

    Args:
        steps: T.
        features: F, width of the spike feature that the heads read.
        mixing: any strategy; TSM with r_m = 0.4 where None.
        lam: lambda, 0.5 in the paper.
        rda_form: where lambda acts. ``equation`` (Eq. 12 and 17): on alignment and event loss;
            ``reference`` (the baseline's code): on the alignment only; ``off``: no alignment and no
            coefficients, a plain event loss of weight 1.
        mag_weight, mrp_weight: 1 in the paper; 0: no such head.
        tet, coefficients, smoothing: as in the baseline; the TET loss is Eq. 6, without the
            reference's MSE term.
    """

    takes = (
        *("TET_loss", "smoothing", "theta", "domain_loss_coefficient"),
        *("rda_form", "mag_weight", "mrp_weight", "mixup_strategy"),
    )

    def __init__(
        self,
        steps: int,
        features: int,
        mixing: Mixing | None = None,
        lam: float = 0.5,
        rda_form: str = "equation",
        mag_weight: float = 1.0,
        mrp_weight: float = 1.0,
        tet: bool = True,
        coefficients: str = "learned",
        smoothing: float = 0.0,
    ):
        super().__init__()
        if rda_form not in RDA_FORMS:
            raise unknown_name("--rda-form", rda_form, RDA_FORMS)
        if rda_form == "equation" and lam == 0:
            raise UserError(
                "--domain-loss-coefficient 0 leaves the event head without any loss (Eq. 17): use "
                "--no-rda, or --rda-form reference."
            )
        self.mixing = mixing or TimeStepMixup(steps)
        self.align = rda_form != "off"
        self.least_batch = 2 if self.align else 1
        self.rda = RDALoss(
            steps, coefficients if self.align else "off", tet=tet, smoothing=smoothing
        )
        self.mag = MAGHead(features) if mag_weight else None
        self.mrp = MRPHead(features) if mrp_weight else None
        self.weights = {
            "alignment": lam,
            "cls_event": lam if rda_form == "equation" else 1.0,
            "mag": mag_weight,
            "mrp": mrp_weight,
        }

    @classmethod
    def taken(cls, options: Namespace) -> set[str]:
        return super().taken(options) | set(STRATEGIES[options.mixup_strategy].options.values())

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "TMKT":
        return cls(
            options.step,
            features,
            mixing=STRATEGIES[options.mixup_strategy].from_options(options),
            lam=options.domain_loss_coefficient,
            rda_form=options.rda_form,
            mag_weight=options.mag_weight,
            mrp_weight=options.mrp_weight,
            tet=options.TET_loss,
            coefficients=options.theta,
            smoothing=options.smoothing,
        )

    def run(self, model, batch: Pair, progress: Progress) -> tuple[TransferOutput, Mixed]:
        mixed = self.mixing(batch, progress)
        return model(batch.events, mixed.frames), mixed

    def losses(self, out: TransferOutput, mixed: Mixed, y: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        terms = {
            "cls_mixed": self.rda.plain(out.static.logits, y),
            "cls_event": self.rda.event_classification(out.event.logits, y),
        }
        if self.align:
            terms["alignment"] = self.rda.alignment(out.static.tap, out.event.tap)
        if self.mag is not None:
            terms["mag"] = mag_loss(self.mag(out.static.spikes), mixed.y_s)
        if self.mrp is not None:
            terms["mrp"] = mrp_loss(self.mrp(out.static.spikes), mixed.y_m)
        return total(terms, **self.weights)

    def diagnostics(self) -> dict[str, float]:
        return self.rda.diagnostics()
