"""A training method: what a batch and the training progress make of the model, as named losses."""

import math
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..data.encodings import ENCODINGS
from ..data.pairs import Pair as Pair
from ..mixing import Progress as Progress
from ..models.transfer import TransferModel
from ..models.transfer import TransferOutput as TransferOutput
from ..registry import Registry

METHODS: Registry[type["Method"]] = Registry("method")
PARTS: Registry[type["Part"]] = Registry("part of a method")


class Method(nn.Module):
    """``method(model, batch, progress)`` returns named scalar losses; ``loss`` is their total.

    The names are the columns of the training log; terms are listed unweighted. Its parameters are
    trained along with the model and not used at test time. A subclass runs the streams that it
    needs (:meth:`run`) and makes losses of them (:meth:`losses`); :attr:`parts` add theirs."""

    has_static = True  # whether a static (sliding, mixed) stream is run
    needs_images = True  # whether it sees static images, in the encoding that is chosen
    needs_events = True  # whether it cannot train without any recording
    least_batch = 1  # the smallest that its losses are defined for
    # Options that it reads, other than those of the run, the data and the model.
    takes: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()

    @staticmethod
    def network(build: Callable[[], TransferModel]) -> TransferModel:
        """The model that it trains, of those that ``build`` makes by the run's options."""
        return build()

    @classmethod
    def taken(cls, options: Namespace) -> set[str]:
        """Of :attr:`takes` and the encoding's options those that have an effect here."""
        if not cls.needs_images:
            return set(cls.takes)
        encoding = ENCODINGS[options.source_encoding].options.values()
        return {*cls.takes, "source_encoding", *encoding}

    @classmethod
    @abstractmethod
    def from_options(cls, options: Namespace, features: int) -> "Method":
        """Build from the resolved command line; ``features`` is the width F of the model's F_t."""

    @abstractmethod
    def run(self, model: TransferModel, batch: Pair, progress: Progress) -> tuple:
        """Run the streams: their output, then whatever :meth:`losses` takes before the labels."""

    @abstractmethod
    def losses(self, out: TransferOutput, *more) -> dict[str, Tensor]:
        """Named losses of what :meth:`run` returned and the labels ``[B]``."""

    def forward(
        self, model: TransferModel, batch: Pair, progress: Progress = Progress()
    ) -> dict[str, Tensor]:
        """Losses of the method and of its parts; ``loss`` is the sum of theirs."""
        out, *more = self.run(model, batch, progress)
        losses = self.losses(out, *more, batch.label)
        parts: Any = self.parts
        if not parts:
            return losses
        loss = math.prod(part.leaves(progress) for part in parts) * losses["loss"]
        for part in parts:
            added = part(out, batch, progress)
            losses |= added | {"loss": (loss := loss + added["loss"])}
        return losses

    def diagnostics(self) -> dict[str, float]:
        """Numbers to log once per epoch, such as the learned coefficients."""
        return {}


class Part(nn.Module):
    """Losses of the streams' outputs that can join any method: ``--method tmkt+seal``."""

    # What its teacher was trained on, if it has one: ``static`` images, recordings (``events``), or
    # images and words (``vlm``).
    teacher_on: str | None = None
    # ``logits`` ``[n, N]``, standardised ``features`` ``[n, D]``, or ``embeddings`` ``[n, E]``.
    teacher_gives = "logits"
    teacher: Tensor  # these outputs, one for each image or recording, set before the training
    needs_static = False  # whether it reads the static stream
    compares_steps = False  # whether it is defined for T >= 2 only
    on_mean = False  # whether the system of its name has cross-entropy of the mean logits, not TET
    takes: tuple[str, ...] = ()  # options that it reads, as of a :class:`Method`

    @classmethod
    def from_options(cls, options: Namespace, features: int) -> "Part":
        """As of a :class:`Method`; a UserError for options that the part is not defined for."""
        return cls()

    def meet(self, teacher) -> None:
        """Called before training, where it gives no logits: make what depends on the teacher."""

    def leaves(self, progress: Progress) -> float:
        """The factor of the method's own loss."""
        return 1.0

    @abstractmethod
    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        """Named losses, unweighted, and ``loss``, of the streams that the method has run."""


def total(terms: dict[str, Tensor], **weights: float) -> dict[str, Tensor]:
    """The named terms, with their weighted sum as ``loss`` in front (weight 1 if not named)."""
    weighted = (weights.get(name, 1.0) * term for name, term in terms.items())
    return {"loss": sum(weighted), **terms}  # type: ignore[dict-item]
