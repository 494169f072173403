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
    batch = _batch(probe)
    let_fire(probe, batch[0])
    with torch.random.fork_rng(devices=[batch[0].device] if batch[0].is_cuda else []):
        expected, found = (_everything(probe, executor, batch) for executor in ("step", "fused"))
    scale = max(1.0, *(value.abs().max().item() for value in expected.values() if value.numel()))
    wrong = [name for name in expected if not _same(found.get(name), expected[name], scale)]
    if not wrong:
        return ""
    if any(name.startswith("output") for name in wrong):
        layer = _first_layer(probe, batch)
        return f"{layer or wrong[0]} gives other numbers than in the step loop"
    gradients = [name for name in wrong if name.startswith("gradient")]
    # Gradients flow back: the last layer that has another one is where it begins.
    return f"the {gradients[-1] if gradients else wrong[0]} differs from that of the step loop"


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
        model(x)  # step by step, as there are hooks
    for hook in hooks:
        hook.remove()
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.reset_running_stats()


def _batch(model: TransferModel) -> Tensor:
    """Static and event frames, ``[2, B, T, 2, H, W]``."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, BATCH, model.step, 2, model.event_size, model.event_size)
    batch = torch.randint(0, 4, shape, generator=generator).double()
    return batch.to(next(model.parameters()).device)


def _everything(model: TransferModel, executor: str, batch: Tensor) -> dict[str, Tensor]:
    """What a training step leaves, by name."""
    model = copy.deepcopy(model)
    model.executor = executor
    torch.manual_seed(0)  # a neuron may draw noise
    out = model(*batch)
    found = {
        f"output {name} {field}": value
        for name in ("static", "event")
        for field, value in vars(getattr(out, name)).items()
    }
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(f.shape, generator=generator).to(f) for f in found.values()]
    torch.autograd.backward([*found.values()], weights)
    found = {name: value.detach() for name, value in found.items()}
    found |= {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {f"buffer {n}": b.double() for n, b in model.named_buffers()}


def _same(a: Tensor | None, b: Tensor, scale: float = 1.0) -> bool:
    if a is None or a.shape != b.shape:
        return False
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale)


def _first_layer(model: TransferModel, batch: Tensor) -> str:
    """Name of the first layer whose folded output differs; empty if there is none."""
    parts, names = layers(model.block_list()), {m: name for name, m in model.named_modules()}
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
            branches = (part.main, part.shortcut) if isinstance(part, Branches) else ()
            if name := next(filter(None, (search(branch, value) for branch in branches)), ""):
                return name
            value = run([part], value, plan, model.tap_node)
            if not branches and not _same(value.x, torch.cat(seen[part])):
                return names.get(part) or type(part).__name__
        return ""

    model.reset()
    return search(parts, Folded(batch[1].transpose(0, 1).flatten(0, 1)))
