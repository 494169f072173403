"""What a backbone is made of, read apart into single layers, so that it can also run folded.

Step by step a backbone runs as the modules that it names in ``block_list()``. To run folded, each
composite module is read apart here, by its exact type; one that is not known, has been given hooks
or a ``forward`` of its own, is not guessed at."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from braincog.base.node.node import BaseNode, BiasReLUNode, ReLUNode
from braincog.model_zoo.base_module import BaseConvModule, BaseLinearModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook as has_any_global_hook

from .exact import WideLinear, state_in_float32


class NotFoldable(Exception):
    """Why a model runs step by step."""


class Residual(nn.Module):
    """``main(x) + shortcut(x)``; without a shortcut ``main(x) + x``."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.main, self.shortcut = main, shortcut if shortcut is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


@dataclass(frozen=True)
class Branches:
    """Several ways from one input, by layers; an empty one is the input itself.

    ``join`` makes one tensor of their ends, every sample by itself: their sum, unless given."""

    ways: Sequence[list]
    join: Callable[..., Tensor] = operator.add


Parts = list[Any]  # of nn.Module and Branches
_readers: dict[type, Callable[[Any], Parts]] = {
    nn.Sequential: list,
    BaseConvModule: lambda block: [block.conv, block.bn, block.node],
    BaseLinearModule: lambda block: [block.fc, block.node],
    Residual: lambda block: [Branches([[block.main], [block.shortcut]])],
}
# Layers that treat every sample alike and alone, and remember nothing.
_ALONE = {nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Conv2d}
_ALONE |= {nn.Linear, WideLinear, nn.GroupNorm, nn.LayerNorm, nn.ReLU, nn.Flatten, nn.Identity}


def reads(kind: type) -> Callable:
    """Decorator for a function that says the parts, in order, of a module of exactly this type."""
    return lambda reader: _readers.setdefault(kind, reader)


def layers(blocks: Iterable[nn.Module], behind: Sequence[Parts] = ()) -> Parts:
    """The single layers of ``blocks`` in the order in which they run, and the branches.

    ``behind``: the layers that they follow in each of the streams, where they are not the first.

    Raises:
        NotFoldable: a module whose effect on folded tensors is not known, named.
    """
    if has_any_global_hook():
        raise NotFoldable("hooks on all modules are set, which see one time-step after another")
    found = _read(blocks)
    _refuse_ties(found, bool(behind) and all(_refuse_ties(stem, False) for stem in behind))
    refuse_shared(leaves(found))
    return found


def leaves(parts: Iterable) -> list[nn.Module]:
    """All single layers, those of one branch before those of the next."""
    found: list[nn.Module] = []
    for part in parts:
        found += leaves(chain(*part.ways)) if isinstance(part, Branches) else [part]
    return found


def refuse_shared(found: Iterable[nn.Module]) -> None:
    """A layer with a state of its own must not be used twice in one pass."""
    once = set()
    for layer in found:
        if isinstance(layer, (_BatchNorm, BaseNode)) and layer in once:
            name = type(layer).__name__
            raise NotFoldable(f"one {name} is used twice: its state depends on the order of use")
        once.add(layer)


def _read(modules: Iterable) -> Parts:
    found: Parts = []
    for module in modules:
        if isinstance(module, Branches):
            found.append(Branches([_read(way) for way in module.ways], module.join))
        elif why := _why_changed(module):
            raise NotFoldable(why)
        elif type(module) in _readers:
            found += _read(_readers[type(module)](module))
        elif why := _why_unknown(module):
            raise NotFoldable(why)
        else:
            found.append(module)
    return found


def _refuse_ties(parts: Parts, exact: bool) -> bool:
    """A max pool of values that rounding could set apart would pass its gradient elsewhere.

    ``exact``: whether the values that come in are spikes, or sums and means of them without a
    rounding error; returned is the same of those that go out."""
    for part in parts:
        if isinstance(part, Branches):
            ends = [_refuse_ties(way, exact) for way in part.ways]
            exact = all(ends) and part.join is operator.add
        elif isinstance(part, (nn.MaxPool2d, nn.AdaptiveMaxPool2d)):
            if not exact:
                raise NotFoldable(f"a {type(part).__name__} may meet ties that rounding decides")
        elif isinstance(part, nn.AvgPool2d):
            exact = exact and part.kernel_size in (1, 2, 4, 8) and part.padding == 0
        elif not isinstance(part, (nn.Flatten, nn.Identity)):
            exact = isinstance(part, BaseNode) and not isinstance(part, (ReLUNode, BiasReLUNode))
    return exact


def _why_changed(module: nn.Module) -> str:
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    name, hooks = type(module).__name__, [h for k in kinds for h in getattr(module, k).values()]
    if any(hook is not state_in_float32 for hook in hooks):
        return f"a {name} has hooks, which see one time-step after another"
    return f"the forward of a {name} was replaced" if "forward" in vars(module) else ""


def _why_unknown(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.modules.dropout._DropoutNd):
        draws = module.training and module.p > 0
        return f"{name} draws other numbers in another order" if draws else ""
    if not isinstance(module, (BaseNode, _BatchNorm)) and type(module) not in _ALONE:
        return f"what a {name} does to folded tensors is not known"
    if isinstance(module, nn.ReLU) and module.inplace:
        return f"a {name} works in place"
    mixes = isinstance(module, nn.Flatten) and module.start_dim < 1
    return "a Flatten mixes samples" if mixes else ""
