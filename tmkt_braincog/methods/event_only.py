"""Event-only training: no static image is seen. The floor that transfer has to beat."""

from argparse import Namespace

from torch import Tensor

from ..losses import classification_loss
from .base import METHODS, Method, Pair, Progress, TransferOutput, total


@METHODS.register("event-only")
class EventOnly(Method):
    """TET loss (Deng et al., ICLR 2022; TMKT Eq. 6) on the event stream.

    Args:
        tet: loss at every time-step; False: cross-entropy of the mean logits.
        smoothing: label smoothing.
    """

    has_static = needs_images = False
    takes: tuple[str, ...] = ("TET_loss", "smoothing")

    def __init__(self, tet: bool = True, smoothing: float = 0.0):
        super().__init__()
        self.tet, self.smoothing = tet, smoothing

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "EventOnly":
        return cls(tet=options.TET_loss, smoothing=options.smoothing)

    def run(self, model, batch: Pair, progress: Progress) -> tuple[TransferOutput]:
        return (model(batch.events),)

    def losses(self, out: TransferOutput, y: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        loss = classification_loss(out.event.logits, y, tet=self.tet, smoothing=self.smoothing)
        return total({"cls_event": loss})
