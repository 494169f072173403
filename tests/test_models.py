"""The transfer models: BrainCog's own results, slow references, published sizes, all neurons."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from braincog.base.node.node import LIFNode, NoiseLIFNode, PLIFNode
from braincog.base.strategy import surrogate
from braincog.model_zoo.resnet import resnet18
from braincog.model_zoo.sew_resnet import sew_resnet18
from braincog.model_zoo.vgg_snn import VGG_SNN
from timm.models import create_model
from torch import nn

from tests.streams import options
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import TMKT
from tmkt_braincog.mixing import mix
from tmkt_braincog.models.check import difference
from tmkt_braincog.models.networks import narrow
from tmkt_braincog.models.spikformer import attend

WIDE = ["Transfer_VGG_SNN", "Transfer_ResNet18", "Transfer_SEWResNet18"]


def frames(B, T, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 4, (B, T, 2, size, size), generator=generator).float()


def small(name="Transfer_SCNN", step=2, executor="fused", **options):
    model = create_model(name, num_classes=3, step=step, **options)
    model.executor = executor
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "step", "size", "features", "tap", "count"),
    [
        ("Transfer_VGG_SNN", 101, 2, 48, 4608, 18432, 10_153_674),
        ("Transfer_ResNet18", 20, 2, 48, 512, 512, 11_187_880),
        # A 7x7 stem, 2 + 2 blocks per width, 1x1 shortcuts where the width changes, two heads.
        ("Transfer_SEWResNet18", 20, 6, 48, 512, 2048, 11_193_896),
        # As published for CIFAR10-DVS, but for the two heads and the 6 x 6 tokens.
        ("Transfer_Spikformer", 20, 2, 48, 256, 9216, 2_571_304),
        ("Transfer_SCNN", 1623, 12, 28, 300, 300, 696_573),
    ],
)
def test_one_step_at_the_papers_widths(name, classes, step, size, features, tap, count):
    """The published numbers of parameters have the T coefficients on top."""
    model = create_model(name, num_classes=classes, step=step)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    method = TMKT(steps=step, features=model.num_features)
    events = frames(2, step, size)
    mixed = mix(torch.rand(2, 2, size, size), events, torch.tensor([1, step // 2]))
    out = model(events, mixed.frames)
    losses = method.losses(out, mixed, torch.tensor([0, classes - 1]))
    losses["loss"].backward()
    assert out.event.logits.shape == (step, 2, classes)
    assert out.static.spikes.shape == (step, 2, features) and out.event.tap.shape == (step, 2, tap)
    # Untrained, every class is about as likely: each classification term starts near log N.
    assert losses["cls_mixed"].item() == pytest.approx(math.log(classes), rel=0.25)
    parameters = [p for m in (model, method) for p in m.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    if name != "Transfer_VGG_SNN":  # which the golden numbers hold at full width
        model.event_size = min(size, 28)
        assert difference(model) == ""


@pytest.mark.parametrize(
    ("name", "kind", "own"),
    [
        ("Transfer_VGG_SNN", VGG_SNN, {}),
        ("Transfer_ResNet18", resnet18, {}),
        ("Transfer_SEWResNet18", sew_resnet18, {"cnf": "ADD"}),
    ],
)
def test_the_networks_are_braincogs_own(name, kind, own):
    ours = create_model(name, num_classes=7, step=2)
    own |= {"node_type": LIFNode, "act_fun": surrogate.QGateGrad, "dataset": "NCALTECH101"}
    theirs = kind(num_classes=7, step=2, **own)
    shared = {k: v for k, v in ours.state_dict().items() if "_fc" not in k}
    theirs.load_state_dict(shared | {f"fc.{k}": v for k, v in ours.dvs_fc.state_dict().items()})
    ours.executor = "step"
    x = frames(2, 2, 48)
    assert torch.equal(ours(x).event.logits.mean(0), theirs(x))
    for name, buffer in theirs.named_buffers():
        assert name.startswith("fc.") or torch.equal(buffer, ours.get_buffer(name))


def test_features_and_taps_of_the_residual_networks():
    """SEW: sums of spikes, and the membrane before them; ResNet: the last norm, pooled."""
    model = small("Transfer_SEWResNet18", step=4, width_divisor=8, executor="step")
    sums, membranes = [], []
    model.layer4.register_forward_hook(lambda m, i, o: sums.append(o))
    model.tap_node.register_forward_hook(lambda m, i, o: membranes.append(m.mem.flatten(1)))
    out = model(frames(3, 4, 48)).event
    sums = torch.stack(sums)  # [T, B, C, 2, 2]
    assert torch.equal(sums, sums.round()) and sums.min() == 0 and sums.max() > 1
    torch.testing.assert_close(out.spikes, sums.mean(dim=(3, 4)))
    assert torch.equal(out.tap, torch.stack(membranes)) and out.tap.shape == (4, 3, 64 * 4)
    assert out.tap.std() > 0.01 and model.num_features == 64

    model, seen = small("Transfer_ResNet18", width_divisor=8, executor="step").eval(), []
    model.bn1.register_forward_hook(lambda m, i, o: seen.append(o.mean(dim=(2, 3))))
    out = model(frames(2, 2, 16)).event
    torch.testing.assert_close(out.tap, torch.stack(seen))
    assert torch.equal(out.spikes, out.tap) and model.num_features == 64


# Variance of the initial weights of a 3x3 convolution: PyTorch's, uniform in +- 1 / sqrt(fan in);
# He's, normal, fan out.
FAN = {
    "Transfer_VGG_SNN": lambda conv: 1 / (3 * conv.in_channels * 9),
    "Transfer_ResNet18": lambda conv: 2 / (conv.out_channels * 9),
    "Transfer_SEWResNet18": lambda conv: 2 / (conv.out_channels * 9),
}


@pytest.mark.parametrize("name", WIDE)
def test_narrowed_networks_have_their_channels_divided_and_nothing_else_changed(name):
    full, narrowed = (
        create_model(name, num_classes=7, step=2, event_size=32, width_divisor=n) for n in (1, 4)
    )
    same = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "bias")
    pairs = zip(full.named_modules(), narrowed.named_modules(), strict=True)
    for (path, layer), (our_path, ours) in pairs:
        assert (our_path, type(ours)) == (path, type(layer))
        if isinstance(layer, nn.Conv2d):
            first = path in ("conv1", "feature.0.conv")  # sees the two polarities
            assert ours.in_channels == (2 if first else layer.in_channels // 4)
            assert ours.out_channels == layer.out_channels // 4
            assert all(getattr(ours, k) == getattr(layer, k) for k in same)
            for conv in (layer, ours) if layer.kernel_size == (3, 3) and not first else ():
                assert conv.weight.var().item() == pytest.approx(FAN[name](conv), rel=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            assert ours.num_features == layer.num_features // 4
            assert (ours.eps, ours.momentum) == (layer.eps, layer.momentum)
    state = torch.get_rng_state()
    narrow(full, 1)  # draws nothing
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(UserError, match="--width-divisor 48: expected a number that divides 64"):
        create_model(name, step=2, width_divisor=48)
    assert narrowed(frames(2, 2, 32)).event.logits.shape == (2, 2, 7)
    assert 4 * narrowed.num_features == full.num_features


def test_spikformer():
    """Parameters and thresholds of 64 channels at 34 pixels; attention against sums by hand."""
    model = create_model("Transfer_Spikformer", width_divisor=4, event_size=34, step=1)
    assert sum(p.numel() for p in model.parameters()) == 163_514
    sides = {16: 8, 20: 10, 28: 7, 34: 9, 48: 6, 64: 8, 128: 8}
    for size, side in sides.items():
        model = create_model("Transfer_Spikformer", width_divisor=16, event_size=size, step=1)
        tap = model.eval()(torch.zeros(1, 1, 2, size, size)).event.tap
        assert tap.shape == (1, 1, 16 * side**2)
    with pytest.raises(UserError, match="--width-divisor 3: expected 1, 2, 4, 8 or 16"):
        create_model("Transfer_Spikformer", width_divisor=3)
    q, k, v = torch.randint(0, 2, (3, 2, 32, 3, 2)).double()
    found = attend(q, k, v).flatten(2)
    for b, head, n in itertools.product(range(2), range(2), range(6)):
        own = slice(16 * head, 16 * (head + 1))
        queries, keys, values = (x[b, own].flatten(1).T for x in (q, k, v))  # a row per token
        row = sum((queries[n] @ keys[m]) * values[m] for m in range(6)) / 8
        torch.testing.assert_close(found[b, own, n], row, rtol=0, atol=1e-12)


def test_the_option_reaches_the_model_and_is_refused_where_it_cannot_be_taken():
    def built(words):
        return build_model(options(f"--step 2 --executor step --model {words}"), num_classes=3)

    assert built("Transfer_SEWResNet18 --width-divisor 16").num_features == 32
    assert built("Transfer_SCNN --width-divisor 1").num_features == 300
    message = "--width-divisor 2: TransferSCNN has fixed widths. Leave the option away"
    with pytest.raises(UserError, match=message):
        built("Transfer_SCNN --width-divisor 2")


def slow_scnn(model, x):
    """Written out: u <- u + (I - u)/2, s = u > 0.5, u <- u (1 - s), float64."""
    state, logits, taps = [0.0, 0.0, 0.0], [], []

    def fire(i, current):
        u = state[i] + (current - state[i]) / 2
        s = (u > 0.5).double()
        state[i] = u * (1 - s)
        return s

    for t in range(x.shape[1]):
        h = F.avg_pool2d(fire(0, F.conv2d(x[:, t], model.feature[0].weight)), 2)
        h = F.avg_pool2d(fire(1, F.conv2d(h, model.feature[3].weight)), 2).flatten(1)
        s = fire(2, F.linear(h, model.fc1.weight, model.fc1.bias))
        taps.append(state[2])
        logits.append(F.linear(s, model.fc2.weight, model.fc2.bias))
    return torch.stack(logits), torch.stack(taps)


def test_scnn_against_a_slow_reference():
    model = create_model("Transfer_SCNN", num_classes=9, step=4).double()
    assert model.fc1.weight.abs().max() <= 0.1 and model.fc2.weight.abs().max() <= 0.1
    assert model.fc1.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.01)
    assert model.feature[3].weight.std().item() == pytest.approx((2 / (15 * 25)) ** 0.5, rel=0.02)
    with torch.no_grad():
        model.fc1.weight *= 4  # as initialised the last layer hardly fires
    events, static = frames(4, 4, 28).double(), torch.rand(4, 4, 2, 28, 28).double()
    out = model(events, static)
    for stream, x in ((out.event, events), (out.static, static)):
        logits, taps = slow_scnn(model, x)
        torch.testing.assert_close(stream.logits, logits, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(stream.tap, taps, rtol=1e-12, atol=1e-12)
    assert 0.05 < out.event.spikes.mean() < 0.9


def test_streams_use_their_own_heads_in_order_and_do_not_leak_state():
    model = small("Transfer_VGG_SNN", width_divisor=16, event_size=16).eval()
    x, other = frames(2, 2, 16), frames(2, 2, 16, seed=1)
    alone, after_another = model(x).event, model(x, other).event
    assert torch.equal(alone.logits, after_another.logits)
    assert torch.equal(alone.tap, after_another.tap)
    both = model(x, x)
    assert torch.equal(both.event.spikes, both.static.spikes)
    assert not torch.equal(both.event.logits, both.static.logits)
    order, run, model.executor = [], model.run_stream, "step"
    model.run_stream = lambda x, stream: order.append(stream) or run(x, stream)
    model(x, x)
    assert order == ["static", "event"]


@pytest.mark.parametrize(
    "node", ["LIFNode", LIFNode, "IFNode", "PLIFNode", PLIFNode, "BiasLIFNode", NoiseLIFNode]
)
def test_neurons_of_braincog(node):
    model = small(step=3, event_size=16, node_type=node)
    out = model(frames(4, 3, 16), torch.rand(4, 3, 2, 16, 16))
    (out.event.logits.square().mean() + out.static.tap.mean()).backward()
    gradient = model.feature[0].weight.grad
    assert out.event.logits.dtype == torch.float32
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert type(model.node1).__name__ == (node if isinstance(node, str) else node.__name__)


def test_options_reach_the_neurons_and_braincogs_own_arguments_are_taken():
    given = {"threshold": 0.7, "tau": 3.0, "act_fun": "AtanGrad", "mem_detach": True}
    given |= {"dataset": "nomni", "encode_type": "direct", "layer_by_layer": False, "n_groups": 1}
    model = small(step=4, **given)
    node = model.node1
    assert node.threshold.item() == pytest.approx(0.7)
    assert node.tau == 3.0 and node.mem_detach and node.step == 4
    assert type(node.act_fun).__name__ == "AtanGrad"
    assert model.event_size == 28 and not model.layer_by_layer
    small(node_type="IFNode", dt=0.5, v_reset=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer_by_layer": True}, "layer_by_layer"),
        ({"temporal_flatten": True}, "temporal_flatten"),
        ({"pretrained": True}, "pretrained"),
        ({"node_type": "LIFNod"}, "LIFNode"),
        ({"act_fun": "__import__('os')"}, "act-fun"),
        ({"event_size": 12}, "16 pixels"),
        ({"nun_classes": 3}, "option of a transfer model 'nun_classes'.*num_classes"),
        ({"in_chans": 3}, "option of a transfer model 'in_chans'.*Known"),
        ({"taus": 3}, "option of a transfer model 'taus'.*tau"),
    ],
)
def test_options_that_would_change_the_method_or_are_not_known_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        create_model("Transfer_SCNN", **given)


@pytest.mark.parametrize("shape", [(2, 4, 2, 28, 28), (2, 3, 1, 28, 28), (2, 3, 28, 28)])
def test_input_of_another_shape(shape):
    with pytest.raises(UserError, match="expected \\[B, T=3, 2, H, W\\]"):
        small(step=3)(torch.zeros(shape))


@pytest.mark.parametrize("act_fun", ["QGateGrad", "GateGrad", "AtanGrad", "BackEIGateGrad"])
def test_exact_surrogates_are_bitwise_the_same_in_float32(act_fun):
    plain, ours = getattr(surrogate, act_fun)(alpha=2.0), small(act_fun=act_fun).node1.act_fun
    x = torch.randn(1000, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    spikes = ours(x), plain(y)
    for s in spikes:
        (s * torch.arange(1000.0)).sum().backward()
    assert torch.equal(*spikes) and torch.equal(x.grad, y.grad) and x.grad.abs().sum() > 0
    x = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    small(act_fun=act_fun).double().node1.act_fun(x).backward()
    slope = {"QGateGrad": 2 - 4 * 0.1, "AtanGrad": 1 / (1 + (0.1 * math.pi) ** 2)}
    assert x.grad.item() == pytest.approx(slope.get(act_fun, x.grad.item()), abs=1e-15)


def test_16_bit_membranes_stay_in_float32_and_weights_are_refused():
    model = small(executor="step")
    with torch.autocast("cpu", torch.bfloat16):
        tap, spikes = model.features(frames(2, 2, 28)[:, 0])
    assert tap.dtype == spikes.dtype == model.node1.mem.dtype == torch.float32
    model.reset()
    with pytest.raises(UserError, match=r"torch\.autocast"):
        model.to(torch.bfloat16)(frames(1, 2, 28))
