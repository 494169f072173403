"""The event stream of a trained network as a module of torch's own layers, to export.

BatchNorm is folded into the convolution or linear layer before it, or is a scale and a shift where
there is none. Layers take all time-steps at once, ``[T B, ...]``; only neurons walk over T, from
rest. In float64, so that the folding rounds nothing; ``float()`` gives what is exported."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from braincog.base.node.node import BaseNode, IFNode, LIFNode, PLIFNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ..errors import UserError
from ..models.blocks import Branches, Parts, layers
from ..models.transfer import TransferModel

NEURONS = LIFNode, IFNode, PLIFNode
LEVELS = (-2.0, -0.5, 0.0, 0.5, 2.0)  # of the membrane above its threshold
FOLD: dict[type, Callable] = {nn.Conv2d: fuse_conv_bn_eval, nn.Linear: fuse_linear_bn_eval}


class Neuron(nn.Module):
    """A neuron over T, from rest at 0 and reset to it: currents ``[T B, ...]`` -> spikes, 0 or 1.

    With ``tau`` it leaks, ``v += (x - v) / tau``; without, ``v += x``. It fires where ``v`` is
    above the threshold, or with ``inclusive`` also where it is just there."""

    def __init__(self, steps: int, tau: float | None, threshold: float, inclusive: bool = False):
        super().__init__()
        self.steps, self.tau, self.threshold, self.inclusive = steps, tau, threshold, inclusive

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[:1]), []
        for current in x.unflatten(0, (self.steps, -1)).unbind():
            v = v + (current if self.tau is None else (current - v) / self.tau)
            fired = v >= self.threshold if self.inclusive else v > self.threshold
            spikes.append(fired.type_as(x))
            v = v * (1 - spikes[-1])
        return torch.cat(spikes)


class ScaleShift(nn.Module):
    """A BatchNorm without a layer to fold it into: ``x * scale + shift`` of every channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: Any):  # a BatchNorm with running statistics
        super().__init__()
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale
        shift = shift if norm.bias is None else shift + norm.bias
        shape = (-1, 1, 1) if isinstance(norm, nn.BatchNorm2d) else (-1,)
        self.register_buffer("scale", scale.detach().reshape(shape))
        self.register_buffer("shift", shift.detach().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Join(nn.Module):
    """Several ways from one input, and the function that makes one tensor of their ends."""

    def __init__(self, ways: Iterable[nn.Sequential], join: Callable[..., Tensor]):
        super().__init__()
        self.ways, self.join = nn.ModuleList(ways), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(*(way(x) for way in self.ways))


class Program(nn.Module):
    """Frames ``[B, T, 2, H, W]`` -> logits ``[B, T, N]``, whose mean over T decides."""

    def __init__(self, steps: int, body: nn.Sequential):
        super().__init__()
        self.steps, self.body = steps, body

    def forward(self, frames: Tensor) -> Tensor:
        logits = self.body(frames.transpose(0, 1).flatten(0, 1))
        return logits.unflatten(0, (self.steps, -1)).transpose(0, 1)


def rounded(program: Program, tau: Callable[[float], float]) -> Program:
    """A copy with weights rounded to float32, and the tau of neurons by ``tau``; in float64."""
    program = copy.deepcopy(program).float().double()
    for layer in program.modules():
        if isinstance(layer, Neuron) and layer.tau is not None:
            layer.tau = tau(layer.tau)
    return program


def program_of(model: TransferModel) -> Program:
    """The event stream of ``model`` in evaluation mode, in float64; the model stays as it is.

    Raises:
        UserError: a layer or neuron that has no such form, by name, and why.
    """
    if why := model.why_step_by_step():
        raise UserError(f"{type(model).__name__} cannot be read apart into layers: {why}.")
    model = copy.deepcopy(model).double().eval()
    parts = layers([*model.stem_of("event"), *model.block_list()])
    head = layers([model.head_of("event")])
    names = {module: name for name, module in model.named_modules()}
    body = _sequence([*parts, nn.Flatten(), *head], names, model.step)
    return Program(model.step, body).eval().requires_grad_(False)


def _sequence(parts: Parts, names: dict[nn.Module, str], steps: int) -> nn.Sequential:
    """The parts in order, under the names that they have in the model."""
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for n, part in enumerate(parts):
        before = next(reversed(found), "")
        if isinstance(part, _BatchNorm):
            if part.running_mean is None:
                what = f"{names[part]} ({type(part).__name__}) keeps no running statistics"
                what += ", so its numbers depend on the batch: it cannot be exported."
                raise UserError(what)
            if fold := FOLD.get(type(found.get(before))):
                found[before] = fold(found[before], part)
                continue
        name = names.get(part, "").replace(".", "_") if isinstance(part, nn.Module) else ""
        if not name or name in found:  # of no name, or a pool that is used again
            name += f"{type(part).__name__}{n}"
        found[name] = _plain(part, names, steps)
    return nn.Sequential(found)


def _plain(part: nn.Module | Branches, names: dict[nn.Module, str], steps: int) -> nn.Module:
    if isinstance(part, Branches):
        return Join([_sequence(way, names, steps) for way in part.ways], part.join)
    if isinstance(part, BaseNode):
        return _neuron(part, names[part], steps)
    if isinstance(part, _BatchNorm):
        return ScaleShift(part)
    if isinstance(part, nn.Linear):
        part.__class__ = nn.Linear  # of a WideLinear, which differs under autocast alone
    return part


@torch.no_grad()
def _neuron(node: BaseNode, name: str, steps: int) -> Neuron:
    kind = type(node)
    if kind not in NEURONS:
        known = ", ".join(one.__name__ for one in NEURONS)
        raise UserError(f"{name} is a {kind.__name__}: exported are {known}, no other neurons.")
    spikes = node.act_fun(torch.tensor(LEVELS, dtype=torch.float64)).tolist()
    if spikes not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        what = f"{name} fires by {type(node.act_fun).__name__}, which gives {spikes}"
        raise UserError(f"{what} at {[*LEVELS]} above the threshold; exported are 0 and 1.")
    if node.v_reset or (kind is IFNode and node.dt != 1):
        what = f"{name} has v_reset {node.v_reset} and dt {node.dt}"
        raise UserError(f"{what}; exported are neurons from 0, of dt 1 where they do not leak.")
    threshold = node.threshold if kind is LIFNode else node.get_thres()
    tau = float(node.tau) if kind is LIFNode else None
    if kind is PLIFNode:
        tau = float(1 / (node.w.sigmoid() * node.dt))
    return Neuron(steps, tau, float(threshold), inclusive=spikes[2] == 1)
