"""The same backbone with fewer channels, for small data and small machines (``--width-divisor``)."""

from collections.abc import Callable
from functools import partial
from math import gcd

from torch import Tensor, nn

from ..errors import UserError

# How BrainCog's residual networks draw their convolutions.
residual_init = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


def narrow(net: nn.Module, divisor: int, init: Callable[[Tensor], object] | None = None) -> None:
    """Replace every Conv2d and BatchNorm2d of ``net``, in place, by one with ``1 / divisor`` of the channels.

    The two polarity channels of the input stay, and so do linear layers. With divisor 1 nothing is done and no random
    number drawn.

    Args:
        init: draws the weights of a new convolution; by default as PyTorch does.

    Raises:
        UserError: the divisor does not divide all widths.
    """
    if divisor == 1:
        return
    common = gcd(*(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)))
    if common % divisor:
        raise UserError(
            f"--width-divisor {divisor}: expected a number that divides {common}, such as 2 or 4."
        )
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, _norm(layer, divisor))
            elif isinstance(layer, nn.Conv2d):
                setattr(parent, name, _convolution(layer, divisor))
                if init is not None:
                    init(getattr(parent, name).weight)


def _norm(bn: nn.BatchNorm2d, divisor: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(
        bn.num_features // divisor, bn.eps, bn.momentum, bn.affine, bn.track_running_stats
    )


def _convolution(conv: nn.Conv2d, divisor: int) -> nn.Conv2d:
    return nn.Conv2d(
        conv.in_channels if conv.in_channels == 2 else conv.in_channels // divisor,
        conv.out_channels // divisor,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=conv.bias is not None,
    )
