"""Small repairs that make BrainCog's neurons exact in every dtype."""

from functools import partial

import torch
from braincog.base.node.node import BaseNode
from braincog.base.strategy import surrogate
from torch import Tensor, nn

from .kernels import wide


def _same_dtype(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    def forward(ctx, x: Tensor, *args) -> Tensor:
        return function.forward(ctx, x, *args).to(x.dtype)

    return type(f"{function.__name__}_same_dtype", (function,), {"forward": staticmethod(forward)})


# What BrainCog's surrogate modules apply, and which of that takes alpha.
_EXACT = {
    surrogate.AtanGrad: _same_dtype(surrogate.atan),
    surrogate.GateGrad: _same_dtype(surrogate.gate),
    surrogate.QGateGrad: _same_dtype(surrogate.quadratic_gate),
    surrogate.BackEIGateGrad: _same_dtype(surrogate.backeigate),
    surrogate.EIGrad: _same_dtype(surrogate.ei),
    surrogate.STDPGrad: _same_dtype(surrogate.stdp),
}
_SHARP = surrogate.AtanGrad, surrogate.GateGrad, surrogate.QGateGrad


def _exact(kind: type, x: Tensor, alpha: Tensor) -> Tensor:
    """What ``act_fun`` of a surrogate of this kind gives, in the dtype of ``x``."""
    return _EXACT[kind].apply(*((x, alpha) if kind in _SHARP else (x,)))


def widen(x: Tensor) -> Tensor:
    """bf16 and fp16 to float32; float32 and float64 as they are."""
    return x.to(wide(x.dtype))


class WideLinear(nn.Linear):
    """``nn.Linear`` in float32 or wider, also under autocast: bf16 is for convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(widen(x))


def state_in_float32(node: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(widen(x) for x in inputs)


def make_exact(model: nn.Module) -> None:
    """Repair every BrainCog node and linear layer, in place; float32 results stay the same bits.

    BrainCog's surrogates return float32 whatever comes in, which breaks float64 and rounds its
    gradients; under bf16 autocast the membrane would be integrated in bf16. After this, spikes have
    the membrane's dtype, the membrane is float32 or wider, and linear layers are
    :class:`WideLinear`."""
    for module in model.modules():
        if isinstance(module, BaseNode):
            module.float()  # NoiseLIFNode's parameters come in float64 and would widen the membrane
            if state_in_float32 not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(state_in_float32)
        if type(module) is nn.Linear:
            module.__class__ = WideLinear
        if type(module) in _EXACT:
            module.act_fun = partial(_exact, type(module))  # type: ignore[assignment]
