"""A backbone with a first layer for each stream, a bottleneck and one head (R2ETL)."""

from collections.abc import Callable, Iterable, Sequence

from braincog.base.node.node import BaseNode
from torch import nn

from ..errors import UserError
from .blocks import NotFoldable
from .transfer import TransferModel

BOTTLENECK = 256  # as published


class TwoStems(TransferModel):
    """A transfer model, rebuilt: the layers up to its first neurons once for each stream, the
    others shared, then Linear + node (256) and one linear head for both.

    The tap is the membrane of the bottleneck's node after its reset, F_t are that node's spikes.

    Args:
        build: makes a new transfer model; called twice, for the two first layers.

    Raises:
        UserError: a model that does not say its layers.
    """

    def __init__(self, build: Callable[[], TransferModel]):
        net, other = build(), build()
        if net is other:
            raise UserError("TwoStems: build must make a new model at every call.")
        options = {"num_classes": net.num_classes, "step": net.step, "event_size": net.event_size}
        super().__init__(node_type=net.node_class, **options, **net.node_options)
        (first, rest), (own, _) = _divided(net), _divided(other)
        self.static_stem, self.event_stem = nn.Sequential(*first), nn.Sequential(*own)
        self.rest = nn.Sequential(*rest)
        self.num_features = BOTTLENECK
        self.fc1, self.node1 = nn.Linear(net.num_features, BOTTLENECK), self.node()
        self.fc2 = nn.Linear(BOTTLENECK, self.num_classes)
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.node1

    def stem_of(self, stream: str) -> Sequence[nn.Module]:
        return [self.static_stem if stream == "static" else self.event_stem]

    def block_list(self) -> list[nn.Module]:
        return [self.rest, nn.Flatten(), self.fc1, self.node1]

    def head_of(self, stream: str) -> nn.Module:
        return self.fc2


def _divided(net: TransferModel) -> tuple[list[nn.Module], list[nn.Module]]:
    """Its blocks up to the first that holds a neuron, and the others."""
    try:
        blocks = list(_unpacked(net.block_list()))
    except NotFoldable as reason:
        raise UserError(f"{type(net).__name__} cannot have two first layers: {reason}.") from None
    fires = [any(isinstance(m, BaseNode) for m in block.modules()) for block in blocks]
    if sum(fires) < 2:
        raise UserError(f"{type(net).__name__} has too few neurons for a first layer of its own.")
    end = fires.index(True) + 1
    return blocks[:end], blocks[end:]


def _unpacked(blocks: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for block in blocks:
        if type(block) is nn.Sequential:
            yield from _unpacked(block)
        else:
            yield block
