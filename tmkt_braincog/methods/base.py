"""A training method: what a batch and the training progress make of the model, as named losses."""

from abc import abstractmethod
from argparse import Namespace

from torch import Tensor, nn

from ..data.pairs import Pair as Pair
from ..mixing import Progress as Progress
from ..models.transfer import TransferModel
from ..models.transfer import TransferOutput as TransferOutput
from ..registry import Registry

METHODS: Registry[type["Method"]] = Registry("method")
PARTS: Registry[type["Part"]] = Registry("part of a method")


class Method(nn.Module):
    """Base class. ``method(model, batch, progress)`` returns named scalar losses; ``loss`` is their
    total.

    The names are the columns of the training log; terms are listed unweighted. Parameters of a
    method (heads, coefficients) are trained along with the model and are not used at test time. A
    subclass runs the streams that it needs (:meth:`run`) and makes losses of them (:meth:`losses`);
    :attr:`parts` add theirs, from the same streams."""

    # Whether a static (sliding, mixed) stream is run.
    has_static = True
    # Options that it reads, other than those of the run, the data and the model; :meth:`taken`
    # where it depends.
    takes: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList()

    @classmethod
    def taken(cls, options: Namespace) -> set[str]:
        """Of :attr:`takes` those that have an effect with these options."""
        return set(cls.takes)

    @property
    def least_batch(self) -> int:
        """Smallest batch that the losses are defined for."""
        return 1

    @classmethod
    @abstractmethod
    def from_options(cls, options: Namespace, features: int) -> "Method":
        """Build from the resolved command line; ``features`` is the width F of the model's F_t."""

    @abstractmethod
    def run(self, model: TransferModel, batch: Pair, progress: Progress) -> tuple:
        """Run the streams: their :class:`TransferOutput`, then whatever else :meth:`losses` takes
        before the labels."""

    @abstractmethod
    def losses(self, out: TransferOutput, *more) -> dict[str, Tensor]:
        """Named losses of what :meth:`run` returned and the labels ``[B]``."""

    def forward(
        self, model: TransferModel, batch: Pair, progress: Progress = Progress()
    ) -> dict[str, Tensor]:
        """Losses of the method and of its parts; ``loss`` is the sum of theirs."""
        out, *more = self.run(model, batch, progress)
        losses = self.losses(out, *more, batch.label)
        for part in self.parts:
            added = part(out, batch, progress)
            losses |= added | {"loss": losses["loss"] + added["loss"]}
        return losses

    def diagnostics(self) -> dict[str, float]:
        """Numbers to log once per epoch, such as the learned coefficients."""
        return {}


class Part(nn.Module):
    """Losses of the streams' outputs that can join any method: ``--method tmkt+seal``.

    ``part(out, batch, progress)`` returns its named scalar losses, unweighted, and ``loss``, their
    weighted sum."""

    # What its teacher was trained on: ``static`` images, with one output for each, or the
    # recordings (``events``).
    teacher_on: str
    # What it learns from the teacher: ``logits`` ``[n, N]``, or standardised ``features`` ``[n,
    # D]``.
    teacher_gives = "logits"
    # Whether it reads the static stream.
    needs_static = False
    # Options that it reads, as of a :class:`Method`.
    takes: tuple[str, ...] = ()
    teacher: Tensor  # what it distils, set before the training

    @classmethod
    @abstractmethod
    def from_options(cls, options: Namespace, features: int) -> "Part":
        """Build from the resolved command line; ``features`` is the width F of the model's F_t.

        Raises:
            UserError: options that the part is not defined for.
        """

    def set_teacher_width(self, width: int) -> None:
        """Make the parameters whose shape depends on the width D of the teacher's features; called
        before training."""

    @abstractmethod
    def forward(self, out: TransferOutput, batch: Pair, progress: Progress) -> dict[str, Tensor]:
        """Losses of the streams that the method has run."""


def total(terms: dict[str, Tensor], **weights: float) -> dict[str, Tensor]:
    """The named terms, unweighted, with their weighted sum as ``loss`` in front (weight 1 if not
    named)."""
    weighted = (weights.get(name, 1.0) * term for name, term in terms.items())
    return {"loss": sum(weighted), **terms}  # type: ignore[dict-item]
