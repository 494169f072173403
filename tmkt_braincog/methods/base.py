"""A training method: what a batch and the training progress make of the model, as named losses."""

from abc import abstractmethod
from argparse import Namespace

from torch import Tensor, nn

from ..data.pairs import Pair
from ..mixing import Progress
from ..models.transfer import TransferModel, TransferOutput
from ..registry import Registry

METHODS: Registry[type["Method"]] = Registry("method")


class Method(nn.Module):
    """Base class. ``method(model, batch, progress)`` returns named scalar losses; ``loss`` is their total.

    The names are the columns of the training log; terms are listed unweighted. Parameters of a method (heads, coefficients)
    are trained along with the model and are not used at test time.
    """

    @property
    def least_batch(self) -> int:
        """Smallest batch that the losses are defined for."""
        return 1

    @classmethod
    @abstractmethod
    def from_options(cls, options: Namespace, features: int) -> "Method":
        """Build from the resolved command line; ``features`` is the width F of the model's F_t."""

    @abstractmethod
    def forward(
        self, model: TransferModel, batch: Pair, progress: Progress = Progress()
    ) -> dict[str, Tensor]:
        """Run the streams that the method needs and return its losses."""

    def diagnostics(self) -> dict[str, float]:
        """Numbers to log once per epoch, such as the learned coefficients."""
        return {}


def total(terms: dict[str, Tensor], **weights: float) -> dict[str, Tensor]:
    """The named terms, unweighted, with their weighted sum as ``loss`` in front (weight 1 if not named)."""
    return {"loss": sum(weights.get(name, 1.0) * term for name, term in terms.items()), **terms}


__all__ = ["METHODS", "Method", "Pair", "Progress", "TransferOutput", "total"]
