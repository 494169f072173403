"""Both executors of a model, or two modules of kernels, on one batch: all that they leave."""

import copy

import torch
from timm.models import create_model

from tmkt_braincog.mixing import mix
from tmkt_braincog.models import kernels
from tmkt_braincog.models.kernels import Affine, Neuron

# All arithmetic of the kernels is float32 or wider.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-6}

SMALL = {
    # 20, 10, 5, 2: a pool that drops a row
    "Transfer_VGG_SNN": {"width_divisor": 16, "event_size": 20},
    "Transfer_ResNet18": {"width_divisor": 16, "event_size": 16},
    # 34, 17, 9, 5, 3, 2: overlapping max pool, odd maps
    "Transfer_SEWResNet18": {"width_divisor": 8, "event_size": 34},
    "Transfer_SCNN": {"event_size": 20},
    "Transfer_Spikformer": {"width_divisor": 8, "event_size": 16},
}


def small(name="Transfer_SCNN", step=3, **options):
    torch.manual_seed(0)
    model = create_model(name, **{"num_classes": 5, "step": step} | SMALL[name] | options)
    if name == "Transfer_SCNN":
        model.fc1.weight.data *= 4  # as initialised the last layer hardly fires
    return model


def inputs(model, B, dtype=torch.float64):
    """Events, and images that are replaced by them at another step in every sample."""
    g = torch.Generator().manual_seed(0)
    T, size = model.step, model.event_size
    events = torch.randint(0, 4, (B, T, 2, size, size), generator=g).to(dtype)
    static = torch.rand(B, 2, size, size, generator=g).to(dtype)
    return events, mix(static, events, torch.arange(B) % (T + 1) + 1).frames


def outputs(out):
    """The fields of both streams by name."""
    streams = {"event": out.event} | ({"static": out.static} if out.static is not None else {})
    found = {f"{s} {f}": value for s, o in streams.items() for f, value in vars(o).items()}
    return {name: value for name, value in found.items() if value is not None}


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


def assert_same(found, expected, tolerance, scale=0.0, name=None):
    """Equal to ``tolerance`` of the largest value, or of ``scale`` if that is more; one dtype."""
    assert (found is None) == (expected is None), name
    if found is not None:
        assert found.dtype == expected.dtype and found.shape == expected.shape, name
        scale = max(scale, expected.abs().max().item() if expected.numel() else 1.0)
        torch.testing.assert_close(
            found, expected, rtol=0, atol=tolerance * scale, msg=lambda m: f"{name}: {m}"
        )


def assert_equal(expected, found, tolerance, each=True):
    """To ``tolerance`` of the largest value, of each or of all."""
    if isinstance(expected, str):
        assert found == expected
        return
    assert expected.keys() == found.keys()
    scale = 1.0 if each else max(1.0, *(v.abs().max() for v in expected.values() if v.numel()))
    for name, value in expected.items():
        assert_same(found[name], value, tolerance, float(scale), name)


def neuron_of(x, leaky=True, surrogate="QGateGrad", tau=2.5, alpha=2.0):
    constants = torch.tensor([tau, 0.4, alpha, 0.1], dtype=kernels.wide(x.dtype), device=x.device)
    return Neuron(leaky, surrogate, constants)


def compare_kernels(
    k, shape, dtype, with_membranes=True, with_affine=True, device="cpu", tolerance=0.0, **neuron
):
    """Every kernel against the plain functions; fired, gradients of the currents and the sums."""
    g = torch.Generator().manual_seed(0)
    (S, T, _, C), wide = shape, kernels.wide(dtype)
    tolerance = tolerance or TOLERANCE[dtype]
    x, d_spikes = (torch.randn(shape, generator=g).to(device, dtype) for _ in range(2))
    d_membranes = torch.randn(shape, generator=g).to(device, wide) if with_membranes else None
    mean, invstd, shift = (torch.rand(S, T, C, generator=g).to(device, wide) for _ in range(3))
    affine = Affine(mean, invstd, 2 * invstd, shift) if with_affine else None
    neuron = neuron_of(x, **neuron)
    fired, membranes = kernels.fire(x, affine, neuron, with_membranes)
    found = k.fire(x, affine, neuron, with_membranes)
    assert found[0].dtype == torch.uint8 and torch.equal(found[0], fired)
    assert_same(found[1], membranes, tolerance)
    arguments = x, affine, neuron, fired, d_spikes, d_membranes
    expected, gradients = kernels.fire_backward(*arguments), k.fire_backward(*arguments)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert_same(ours, theirs, tolerance)
    if with_affine:
        d_x = kernels.d_input(x, mean, expected[0], *affine[1:])
        found = k.d_input(x, mean, expected[0].clone(), *affine[1:])
        assert_same(found, d_x, 1e-2 if dtype == torch.bfloat16 else tolerance)
    return fired, gradients


def compare_pools(k, pool_of, dtype, side, steps, device="cpu", cut=0.0):
    """Spikes behind an average pool and their gradients; odd sides leave out pixels at the edge."""
    B, C, H, W = 2, 5, 7, 9
    g = torch.Generator().manual_seed(0)
    fired = torch.randint(0, 2, (steps * B, C, H, W), generator=g, dtype=torch.uint8).to(device)
    fired = fired.contiguous(memory_format=torch.channels_last)
    pooled = k.spikes(fired, side, dtype)
    assert_same(pooled, kernels.spikes(fired, side, dtype), cut)
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    x, d = torch.randn(1, steps, B * H * W, C, generator=g), torch.randn(pooled.shape, generator=g)
    x, d = x.to(device, dtype), d.to(device, dtype).movedim(1, -1).reshape(1, steps, -1, C)
    neuron, pool = neuron_of(x), pool_of(side, torch.Size((B, C, H, W)), x.device)
    fired, _ = kernels.fire(x, None, neuron, False)
    found = k.fire_backward(x, None, neuron, fired, d, None, pool)[0]
    wide = d.to(kernels.wide(dtype))
    expected = kernels.fire_backward(x, None, neuron, fired, wide, None, pool)[0]
    assert_same(found, expected, TOLERANCE[dtype])
