"""The Neuromorphic Intermediate Representation (NIR; Pedersen et al., 2024) of a program.

A node's inputs add up, so that a sum needs no node. Average pools are sums, whose divisor goes into
the next weights, and a scale and shift is a convolution: simulators know these nodes. The graph has
no batch and no time; a step is ``DT`` seconds, as snnTorch takes it, and ``tau`` is in seconds."""

import operator
from collections.abc import Mapping
from functools import singledispatchmethod
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .plain import Join, Neuron, Program, ScaleShift

DT = 1e-4


class _Value(NamedTuple):
    """What a layer hands to the next."""

    sources: tuple[str, ...]  # the nodes whose outputs add up to it
    shape: torch.Size  # of one sample
    factor: float = 1.0  # what these outputs have yet to be multiplied by


def tau_of(tau: float) -> float:
    """A neuron's time constant in steps, as the file's float32 gives it back."""
    return float(np.float32(tau * DT) / np.float32(DT))


def write(program: Program, frames: Tensor, path: Path, texts: Mapping[str, str]) -> None:
    """Write the graph of ``program``, with ``texts``, ``dt`` and ``steps``.

    Raises:
        UserError: a layer that no node of NIR expresses, by name.
    """
    writer, shape = _Writer(), frames.shape[2:]
    writer.nodes["input"] = nir.Input(np.array(shape))
    value = writer.settle(writer.sequence(program.body, _Value(("input",), shape)))
    writer.node("output", nir.Output(np.array(value.shape)), value, value.shape)
    texts = {**texts, "dt": str(DT), "steps": str(program.steps)}
    nir.write(str(path), nir.NIRGraph(writer.nodes, writer.edges, texts))


class _Writer:
    """Nodes and edges, as layer after layer is put in."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def node(self, name: str, node: Any, value: _Value, shape: Any, factor: float = 1.0) -> _Value:
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges += [(source, name) for source in value.sources]
        return _Value((name,), torch.Size(shape), factor)

    def sequence(self, layers: nn.Sequential, value: _Value) -> _Value:
        for name, layer in layers.named_children():
            value = self.put(layer, name, value)
        return value

    @singledispatchmethod
    def put(self, layer: nn.Module, name: str, value: _Value) -> _Value:
        """Of each kind of layer that has nodes; by its kind."""
        if not isinstance(layer, (nn.Identity, nn.modules.dropout._DropoutNd)):
            _refuse(name, layer, "NIR has no node for it")
        return value

    @put.register
    def _(self, layer: Join, name: str, value: _Value) -> _Value:
        ways: Any = layer.ways
        if layer.join is not operator.add:
            first = next(n for n, _ in ways[0].named_children())
            how = getattr(layer.join, "__name__", layer.join)
            _refuse(first, layer, f"from here on branches are joined by {how}, and NIR only adds")
        value = self.settle(value)
        ends = [self.settle(self.sequence(way, value)) for way in ways]
        sources = [source for end in ends for source in end.sources]
        if len({*sources}) < len(sources):
            _refuse(name, layer, "it adds a value to itself, and NIR has one edge of a kind")
        return _Value(tuple(sources), ends[0].shape)

    @put.register
    def _(self, layer: nn.Conv2d | nn.Linear | ScaleShift, name: str, value: _Value) -> _Value:
        weight, bias, how = _affine(layer, len(value.shape))
        if isinstance(layer, nn.Linear) and len(value.shape) != 1:
            _refuse(name, layer, f"its input has {len(value.shape)} dimensions, expected 1")
        if getattr(layer, "padding_mode", "zeros") != "zeros" or isinstance(how["padding"], str):
            _refuse(name, layer, "its padding is no number of zeros")
        if how["groups"] not in (None, 1):
            _refuse(name, layer, f"it has {how['groups']} groups, which no reader of NIR takes")
        arrays = {"weight": (weight * value.factor).float().numpy(), "bias": bias.float().numpy()}
        if len(value.shape) == 1:
            return self.node(name, nir.Affine(**arrays), value, [len(weight)])
        node = nir.Conv2d(input_shape=value.shape[1:], **arrays, **how)
        return self.node(name, node, value, node.output_type["output"])

    @put.register
    def _(self, layer: nn.AvgPool2d | nn.AdaptiveAvgPool2d, name: str, value: _Value) -> _Value:
        sides, zeros = np.array(value.shape[1:]), np.zeros(2, dtype=np.int64)
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            out = np.broadcast_to(np.array(layer.output_size), 2)
            plain = None not in out and not any(sides % out)
            kernel = stride = sides // out if plain else sides
        else:
            kernel, stride = (np.broadcast_to(n, 2) for n in (layer.kernel_size, layer.stride))
            plain = not (np.any(layer.padding) or layer.ceil_mode or layer.divisor_override)
        if not plain:
            _refuse(name, layer, "its windows are not all whole and of one size")
        shape = [value.shape[0], *((sides - kernel) // stride + 1)]
        node = nir.SumPool2d(kernel_size=kernel, stride=stride, padding=zeros)
        return self.node(name, node, value, shape, value.factor / int(kernel.prod()))

    @put.register
    def _(self, layer: nn.Flatten, name: str, value: _Value) -> _Value:
        if (layer.start_dim, layer.end_dim) != (1, -1):
            _refuse(name, layer, "it keeps dimensions")
        if len(value.shape) == 1:
            return value
        # Counted from the end: with or without a batch in front.
        node = nir.Flatten(np.array(value.shape), start_dim=-len(value.shape), end_dim=-1)
        return self.node(name, node, value, [value.shape.numel()], value.factor)

    @put.register
    def _(self, layer: Neuron, name: str, value: _Value) -> _Value:
        value, threshold = self.settle(value), np.float32(layer.threshold)
        if layer.inclusive:  # a neuron of NIR fires above its threshold
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        values = {"r": 1.0, "v_threshold": threshold, "v_reset": 0.0}
        values |= {"tau": layer.tau * DT, "v_leak": 0.0} if layer.tau is not None else {}
        arrays = {k: np.full(value.shape, v, dtype=np.float32) for k, v in values.items()}
        node = (nir.IF if layer.tau is None else nir.LIF)(**arrays)
        return self.node(name, node, value, value.shape)

    def settle(self, value: _Value) -> _Value:
        """The value with its factor multiplied in, where no weights follow that could take it."""
        if value.factor == 1:
            return value
        one = ScaleShift(nn.BatchNorm1d(value.shape[0], eps=0.0).double().eval())
        return self.put(one, "scale", value)


def _affine(layer: Any, ndim: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Weights, bias, and what else a convolution takes; for a sample of ``ndim`` dimensions."""
    if isinstance(layer, ScaleShift):
        weight = torch.diag(layer.scale.flatten())
        how = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        return weight if ndim == 1 else weight[..., None, None], layer.shift.flatten(), how
    bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(len(layer.weight))
    words = ("stride", "padding", "dilation", "groups")
    return layer.weight, bias, {word: getattr(layer, word, None) for word in words}


def _refuse(name: str, layer: nn.Module, why: str) -> NoReturn:
    kind = "" if isinstance(layer, Join) else f" ({type(layer).__name__})"
    raise UserError(f"{name}{kind} cannot be written to NIR: {why}. --to torch and onnx can.")


def run(path: Path, frames: Tensor) -> Tensor:
    """Simulate a file of :func:`write`: frames ``[B, T, 2, H, W]`` -> logits ``[B, T, N]``, in the
    dtype of the frames."""
    graph, steps = nir.read(str(path)), frames.shape[1]
    before: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for source, name in graph.edges:
        before[name].append(source)
    values = {"input": frames.transpose(0, 1).flatten(0, 1)}
    for name in TopologicalSorter(before).static_order():
        if before[name]:
            x = torch.stack([values[source] for source in before[name]]).sum(0)
            values[name] = _apply(graph.nodes[name], x, steps)
    return values["output"].unflatten(0, (steps, -1)).transpose(0, 1)


def _apply(node: Any, x: Tensor, steps: int) -> Tensor:
    """A node on ``[T B, ...]``."""
    if isinstance(node, (nir.Conv2d, nir.Affine)):
        weight, bias = (torch.from_numpy(a).to(x.dtype) for a in (node.weight, node.bias))
        if isinstance(node, nir.Affine):
            return F.linear(x, weight, bias)
        numbers = node.stride, node.padding, node.dilation
        stride, padding, dilation = (tuple(map(int, n)) for n in numbers)
        return F.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
    if isinstance(node, nir.SumPool2d):
        kernel, stride = (tuple(map(int, n)) for n in (node.kernel_size, node.stride))
        return F.avg_pool2d(x, kernel, stride, divisor_override=1)
    if isinstance(node, nir.Flatten):
        return x.flatten(int(node.start_dim), int(node.end_dim))
    if isinstance(node, (nir.LIF, nir.IF)):
        tau = float(node.tau.flat[0] / np.float32(DT)) if isinstance(node, nir.LIF) else None
        return Neuron(steps, tau, float(node.v_threshold.flat[0]))(x)
    return x  # the output
