"""Fine-tuning: the network learns from images alone, then from events alone."""

from argparse import Namespace

from .base import METHODS, Pair, Progress, TransferOutput
from .event_only import EventOnly


@METHODS.register("finetune")
class Finetune(EventOnly):
    """TET loss (Deng et al., ICLR 2022) on the encoded images, then on the recordings.

    The way of TMKT's Fig. 1a and of I2E (Ma et al., AAAI 2026). Both phases train the event head,
    which is the one that is tested, in one run with one schedule of the learning rate.

    Args:
        portion: share of the epochs that sees images; 1: no recording is seen.
        tet, smoothing: as of :class:`EventOnly`.
    """

    needs_images, needs_events = True, False

    def __init__(self, portion: float = 0.5, tet: bool = True, smoothing: float = 0.0):
        super().__init__(tet, smoothing)
        self.portion = portion

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "Finetune":
        portion = 1.0 if options.shots == 0 else 0.5
        return cls(portion, options.TET_loss, options.smoothing)

    def run(self, model, batch: Pair, progress: Progress) -> tuple[TransferOutput]:
        images = progress.epoch < self.portion * progress.epochs
        return (model(batch.static_frames() if images else batch.events),)
