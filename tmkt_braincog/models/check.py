"""Whether the fused executor gives a model's own numbers, found out by running it."""

import copy

import torch
from braincog.base.node.node import BaseNode
from torch import Tensor, nn

from .blocks import Branches, Parts, layers, leaves
from .folded import Folded, Plan
from .fused import run
from .transfer import TransferModel

STEPS, BATCH = 2, 2  # few: the time of a whole run is not spent here
TOLERANCE = 1e-9  # of the largest value, in float64


def difference(model: TransferModel) -> str:
    """Where the fused executor departs from the step loop; empty where it does not.

    A copy of the model in float64 and training mode sees a random batch, with thresholds at which
    every neuron fires. Outputs, the gradients of all parameters and all buffers are compared, on
    the model's device. The model stays as it is."""
    probe = copy.deepcopy(model).double().train()
    probe.step = min(STEPS, model.step)
    shape = (2, BATCH, probe.step, 2, model.event_size, model.event_size)
    batch = torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(0)).double()
    batch = batch.to(next(model.parameters()).device)
    let_fire(probe, batch[0])
    with torch.random.fork_rng(devices=[batch.device] if batch.is_cuda else []):
        expected, found = (_everything(probe, executor, batch) for executor in ("step", "fused"))
    scale = max(1.0, *(value.abs().max().item() for value in expected.values() if value.numel()))
    for name, value in expected.items():
        if name not in found or not _same(found[name], value, scale):
            layer = _first_layer(probe, batch) if " stream" in name else ""
            layer = layer and f"{layer} gives other numbers than in the step loop: "
            return f"{layer}the {name} differs from that of the step loop"
    return ""


def let_fire(model: TransferModel, x: Tensor) -> None:
    """Set every threshold so that about a third of the membranes exceed it at x's first step."""
    seen, hooks = set(), []

    def choose(node: BaseNode, inputs: tuple[Tensor, ...]) -> None:
        if node in seen:
            return
        seen.add(node)
        node.integral(inputs[0])
        values = torch.as_tensor(node.mem).flatten().unique()
        node.n_reset()
        middle = values[len(values) // 2 : max(len(values) * 5 // 6, len(values) // 2 + 2)]
        if len(middle) > 1:  # in the widest gap, where no rounding decides
            gap = middle.diff().argmax()
            node.threshold.data.fill_((middle[gap] + middle[gap + 1]) / 2)

    for node in model.modules():
        if isinstance(node, BaseNode):
            hooks.append(node.register_forward_pre_hook(choose))
    with torch.no_grad():
        model(x, x)  # step by step, as there are hooks
    for hook in hooks:
        hook.remove()
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.reset_running_stats()


def _everything(model: TransferModel, executor: str, batch: Tensor) -> dict[str, Tensor]:
    """What a training step leaves, by name; gradients from the last layer on, as they flow."""
    model = copy.deepcopy(model)
    model.executor = executor
    torch.manual_seed(0)  # a neuron may draw noise
    out = model(*batch)
    streams = {"static": out.static, "event": out.event}
    found = {f"{f} of the {s} stream": v for s, o in streams.items() for f, v in vars(o).items()}
    found = {name: value for name, value in found.items() if value is not None}  # of a stem
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(f.shape, generator=generator).to(f) for f in found.values()]
    torch.autograd.backward([*found.values()], weights)
    found = {name: value.detach() for name, value in found.items()}
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    found |= {f"gradient of {name}": gradients[name] for name in reversed(gradients)}
    return found | {f"buffer {n}": b.double() for n, b in model.named_buffers()}


def _first_layer(model: TransferModel, batch: Tensor) -> str:
    """Name of the first layer whose folded output differs; empty if there is none (of a stem, in
    the static stream)."""
    names = {module: name for name, module in model.named_modules()}
    parts = layers([*model.stem_of("static"), *model.block_list()])
    seen: dict[nn.Module, list[Tensor]] = {leaf: [] for leaf in leaves(parts)}
    keep = [
        leaf.register_forward_hook(lambda *call: seen[call[0]].append(call[2])) for leaf in seen
    ]
    model.run_stream(batch[1], "static")
    for hook in keep:
        hook.remove()
    plan = Plan(1, model.step, BATCH)

    def search(parts: Parts, value: Folded) -> str:
        for part in parts:
            branches = part.ways if isinstance(part, Branches) else ()
            if name := next(filter(None, (search(branch, value) for branch in branches)), ""):
                return name
            value = run([part], value, plan, model.tap_node)
            expected = None if branches else torch.cat(seen[part])
            if expected is not None and not _same(value.x, expected):
                return names.get(part) or type(part).__name__
        return ""

    model.reset()
    return search(parts, Folded(batch[1].transpose(0, 1).flatten(0, 1)))


def _same(a: Tensor, b: Tensor, scale: float = 1.0) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, TOLERANCE, TOLERANCE * scale)
