"""The same backbone with fewer channels, for small data and machines (``--width-divisor``)."""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Any

from torch import Tensor, nn

from ..errors import UserError

# How BrainCog's residual networks draw their convolutions.
residual_init = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


def narrow(net: nn.Module, divisor: int, init: Callable[[Tensor], object] | None = None) -> None:
    """Replace every Conv2d and BatchNorm2d, in place, by one with ``1 / divisor`` of the channels.

    The two polarity channels of the input stay, and so do linear layers. With divisor 1 no random
    number is drawn.

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
            if isinstance(layer, (nn.BatchNorm2d, nn.Conv2d)):
                setattr(parent, name, _narrowed(layer, divisor))
            if isinstance(layer, nn.Conv2d) and init is not None:
                init(getattr(parent, name).weight)


def _narrowed(layer: Any, divisor: int) -> nn.Module:
    if isinstance(layer, nn.BatchNorm2d):
        options = (layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        return nn.BatchNorm2d(layer.num_features // divisor, *options)
    c_in = layer.in_channels if layer.in_channels == 2 else layer.in_channels // divisor
    shape = (layer.kernel_size, layer.stride, layer.padding)
    return nn.Conv2d(c_in, layer.out_channels // divisor, *shape, bias=layer.bias is not None)
