"""Spikformer (Zhou et al., ICLR 2023) of BrainCog's nodes, which its wheel lacks."""

from functools import partial
from itertools import pairwise
from math import log2
from typing import Any

from braincog.model_zoo.base_module import BaseConvModule
from torch import Tensor, nn

from ..errors import UserError
from .blocks import Branches, Parts, Residual, reads
from .transfer import TransferModel

DIM, DEPTH, HEAD_DIM, SCALE = 256, 2, 16, 0.125  # as published for CIFAR10-DVS
TOKENS = 8  # of a side, about: 4 x 4 to 11 x 11 in all


class TransferSpikformer(TransferModel):
    """Four stages conv3x3 + BN + node, a position's convolution, two blocks of attention and MLP.

    The last stages end in a max pool, as many as leave about 8 x 8 tokens. In a block q, k, v, the
    output and both layers of the MLP are conv1x1 + BN + node; attention is ``q (k^T v) / 8`` of
    spikes, without a softmax, and a node. The tap is the membrane of the last node (256 x 6 x 6 at
    48 pixels); F_t is the mean over the tokens (256) of the sum behind it (whole numbers).
    ``width_divisor`` divides all widths, heads of 16 channels become fewer.

    Raises:
        UserError: a divisor that 16 is no multiple of.
    """

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        if HEAD_DIM % width_divisor:
            raise UserError(f"--width-divisor {width_divisor}: expected 1, 2, 4, 8 or 16.")
        dim = self.num_features = DIM // width_divisor
        pools = min(4, max(0, round(log2(self.event_size / TOKENS))))
        layers: list[nn.Module] = []
        for stage, widths in enumerate(pairwise((2, dim // 8, dim // 4, dim // 2, dim))):
            layers.append(BaseConvModule(*widths, node=self.node))
            layers += [nn.MaxPool2d(3, 2, 1)] if stage >= 4 - pools else []
        layers.append(Residual(BaseConvModule(dim, dim, node=self.node)))
        for _ in range(DEPTH):
            mlp = nn.Sequential(
                pointwise(dim, 4 * dim, self.node), pointwise(4 * dim, dim, self.node)
            )
            layers += [Residual(SpikingSelfAttention(dim, self.node)), Residual(mlp)]
        self.feature = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.rgb_fc = nn.Linear(dim, self.num_classes)
        self.dvs_fc = nn.Linear(dim, self.num_classes)
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        mlp: Any = self.feature[-1]
        return mlp.main[-1].node

    def block_list(self) -> list[nn.Module]:
        return [self.feature, self.pool]


class SpikingSelfAttention(nn.Module):
    """``[B, C, H, W]`` -> the same: every pixel a token, heads of 16 channels, one time-step."""

    def __init__(self, dim: int, node: partial):
        super().__init__()
        self.q, self.k, self.v, self.out = (pointwise(dim, dim, node) for _ in range(4))
        self.node = node()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.node(attend(self.q(x), self.k(x), self.v(x))))


def pointwise(c_in: int, c_out: int, node: partial) -> BaseConvModule:
    return BaseConvModule(c_in, c_out, kernel_size=(1, 1), padding=(0, 0), node=node)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``q (k^T v) / 8`` of every head, ``[B, C, H, W]`` each and returned."""
    queries, keys, values = (x.flatten(2).unflatten(1, (-1, HEAD_DIM)) for x in (q, k, v))
    return (SCALE * (values @ keys.mT) @ queries).reshape(q.shape)


@reads(SpikingSelfAttention)
def _attention(block: SpikingSelfAttention) -> Parts:
    return [Branches([[block.q], [block.k], [block.v]], attend), block.node, block.out]


Transfer_Spikformer = TransferSpikformer.create
