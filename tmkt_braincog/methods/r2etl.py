"""The method ``r2etl``: R2ETL with TCKA (Zhan et al., IEEE TIP 2024)."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

from torch import Tensor

from ..distributed import gather_batch
from ..errors import UserError
from ..losses import classification_loss, linear_cka
from ..models.transfer import TransferModel
from ..models.two_stems import TwoStems
from .base import METHODS, Method, Pair, Progress, TransferOutput, total


@METHODS.register("r2etl")
class R2ETL(Method):
    """``TET(static) + TET(event) + 0.5 L_enc + 0.1 L_feat`` on images and recordings, never mixed.

    The model is rebuilt with a first layer for each stream, a bottleneck and one head
    (:class:`~tmkt_braincog.models.two_stems.TwoStems`). ``L_enc = 1 - CKA`` of the first layers'
    spikes summed over time; ``L_feat = 1 - TCKA`` of the bottleneck's membranes, TCKA being the
    mean over the time-steps of CKA.

    Args:
        smoothing: label smoothing.
    """

    takes = ("smoothing",)
    least_batch = 2

    def __init__(self, smoothing: float = 0.0):
        super().__init__()
        # As published, with logits drawn to 1.
        self.tet = partial(classification_loss, lamb=1e-3, threshold=1.0, smoothing=smoothing)

    @staticmethod
    def network(build: Callable[[], TransferModel]) -> TransferModel:
        return TwoStems(build)

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "R2ETL":
        return cls(options.smoothing)

    def run(self, model, batch: Pair, progress: Progress) -> tuple[TransferOutput]:
        out = model(batch.events, batch.static_frames())
        if out.event.stem is None:
            raise UserError("r2etl needs a model with two first layers: R2ETL.network(build).")
        return (out,)

    def losses(self, out: TransferOutput, y: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        stems = gather_batch(out.static.stem, 0), gather_batch(out.event.stem, 0)
        taps = gather_batch(out.static.tap, 1), gather_batch(out.event.tap, 1)
        terms = {
            "cls_static": self.tet(out.static.logits, y),
            "cls_event": self.tet(out.event.logits, y),
            "enc": 1 - linear_cka(*stems),
            "feat": 1 - linear_cka(*taps).mean(),
        }
        return total(terms, enc=0.5, feat=0.1)
