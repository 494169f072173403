"""Both executors of a model on one batch: all that a training step leaves, compared by name."""

import copy

import torch


def outputs(out):
    """The fields of both streams by name."""
    streams = {"event": out.event} | ({"static": out.static} if out.static is not None else {})
    return {f"{s} {f}": value for s, o in streams.items() for f, value in vars(o).items()}


def leave(model, batch, loss, steps=2):
    """Outputs, gradients and buffers; the second step starts from the first one's buffers."""
    found = {}
    for k in range(steps):
        out = model(*batch)
        found |= {f"{k} {name}": value.detach() for name, value in outputs(out).items()}
        loss(out).backward()
        own = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found |= {f"{k} grad {n}": gradient.clone() for n, gradient in own.items()}
    return found | {f"buffer {n}": b.double() for n, b in model.named_buffers()}


def weighted(out):
    """A loss that every output has another part in."""
    values = outputs(out).values()
    weights = [torch.linspace(-1, 1, v.numel(), device=v.device).view_as(v) for v in values]
    return sum((v * w).sum() for v, w in zip(values, weights, strict=True))


def both(model, batch, loss=weighted):
    """What the step loop leaves and what the fused executor does, or the beginning of the error."""
    for executor in ("step", "fused"):
        twin = copy.deepcopy(model)
        twin.executor = executor
        torch.manual_seed(0)  # for dropout
        try:
            yield leave(twin, batch, loss)
        except (ValueError, RuntimeError) as error:  # no variance of one value; changed in place
            yield str(error)[:30]


def assert_equal(expected, found, tolerance, each=True):
    """To ``tolerance`` of the largest value, of each or of all."""
    if isinstance(expected, str):
        assert found == expected
        return
    assert expected.keys() == found.keys()
    largest = {n: v.abs().max().item() for n, v in expected.items() if v.numel()}
    for name, value in expected.items():
        scale = max(1.0, *largest.values()) if not each else max(1.0, largest.get(name, 0))
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )
