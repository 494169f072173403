"""The fused executor gives the step loop's numbers."""

import copy
import logging

import pytest
import torch
from timm.models import create_model
from torch import nn

import tmkt_braincog.models  # noqa: F401
from tests.random_networks import assert_executors_agree, random_network
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.mixing import mix
from tmkt_braincog.models import cpu_kernels, kernels
from tmkt_braincog.models.blocks import layers, leaves
from tmkt_braincog.models.check import difference
from tmkt_braincog.models.fused import Plan, supports
from tmkt_braincog.models.kernels import Affine, Neuron
from tmkt_braincog.options import parse, resolve


def inputs(model, B, dtype, seed=0):
    g = torch.Generator().manual_seed(seed)
    T, size = model.step, model.event_size
    events = torch.randint(0, 4, (B, T, 2, size, size), generator=g).to(dtype)
    static = mix(
        torch.rand(B, 2, size, size, generator=g).to(dtype), events, torch.arange(B) % (T + 1) + 1
    )
    return events, static.frames, torch.arange(B) % model.num_classes


def step(model, executor, B=3, dtype=torch.float64, train=True):
    """Everything a training step leaves: outputs, loss, gradients, buffers."""
    model = copy.deepcopy(model).to(dtype)
    model.executor = executor
    model.train(train)
    method = Baseline(steps=model.step).to(dtype)
    events, static, y = inputs(model, B, dtype)
    found = {}
    for k in range(2):  # the second starts from the first one's buffers and resets
        out = model(events, static)
        loss = method.losses(out, y)["loss"]
        model.zero_grad()
        loss.backward()
        for name in ("event", "static"):
            found |= {
                f"{k} {name} {f}": getattr(getattr(out, name), f)
                for f in ("logits", "tap", "spikes")
            }
        found |= {f"{k} loss": loss}
        found |= {
            f"{k} grad {n}": p.grad for n, p in model.named_parameters() if p.grad is not None
        }
        found |= {f"{k} buffer {n}": b.double() for n, b in model.named_buffers()}
    return {name: value.detach().clone() for name, value in found.items()}


def assert_same(model, tolerance=1e-12, **options):
    theirs, ours = step(model, "step", **options), step(model, "fused", **options)
    assert theirs.keys() == ours.keys()
    for name, expected in theirs.items():
        scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
        torch.testing.assert_close(
            ours[name], expected, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )
    return theirs


SMALL = {
    "Transfer_VGG_SNN": {
        "width_divisor": 16,
        "event_size": 20,
    },  # 20, 10, 5, 2: a pool that drops a row
    "Transfer_ResNet18": {"width_divisor": 16, "event_size": 16},
    "Transfer_SEWResNet18": {
        "width_divisor": 8,
        "event_size": 34,
    },  # 17, 9, 9, 5, 3, 2: overlapping max pool, odd maps
    "Transfer_SCNN": {"event_size": 20},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("act_fun", ["QGateGrad", "BackEIGateGrad", "AtanGrad", "EIGrad"])
@pytest.mark.parametrize("node", ["LIFNode", "IFNode", "PLIFNode"])
def test_a_training_step(name, node, act_fun):
    torch.manual_seed(0)
    model = create_model(
        name,
        num_classes=5,
        step=4,
        node_type=node,
        act_fun=act_fun,
        tau=2.5,
        threshold=0.4,
        **SMALL[name],
    )
    if name == "Transfer_SCNN":
        model.fc1.weight.data *= 4  # as initialised the last layer hardly fires
    seen = assert_same(model)
    rates = [seen[f"0 event {f}"].abs().mean() for f in ("spikes", "tap")]
    assert all(0.005 < rate < 20 for rate in rates), rates  # it fires


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_mode_and_its_gradients(name):
    torch.manual_seed(1)
    model = create_model(name, num_classes=5, step=3, **SMALL[name])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    assert_same(model, train=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "T", "size", "classes"),
    [
        ("Transfer_VGG_SNN", 2, 48, 101),
        ("Transfer_ResNet18", 2, 48, 20),
        ("Transfer_SEWResNet18", 2, 48, 20),
        ("Transfer_SCNN", 12, 28, 1623),
    ],
)
def test_full_width(name, T, size, classes):
    torch.manual_seed(2)
    assert_same(create_model(name, num_classes=classes, step=T, event_size=size), B=2)


def test_batchnorm_with_other_settings():
    torch.manual_seed(0)
    model = create_model("Transfer_VGG_SNN", num_classes=3, step=3, width_divisor=16, event_size=16)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].momentum = None  # cumulative averages
    norms[1].momentum, norms[1].eps = 0.3, 1e-2
    norms[4].register_parameter("bias", None)
    model.feature[3].bn = nn.BatchNorm2d(norms[2].num_features, affine=False)
    model.feature[4].bn = nn.BatchNorm2d(norms[3].num_features, track_running_stats=False)
    assert_same(model)


def test_layers_that_are_left_alone():
    torch.manual_seed(0)
    model = create_model("Transfer_VGG_SNN", num_classes=3, step=3, width_divisor=16, event_size=16)
    model.feature[2] = nn.AvgPool2d(3, stride=2, padding=1)
    model.feature[3].conv = nn.Conv2d(8, 16, 3, padding="same", padding_mode="reflect")
    model.feature[5] = nn.MaxPool2d(2)
    assert_same(model)


def test_only_one_stream():
    model = create_model("Transfer_SCNN", num_classes=3, step=2).double().eval()
    events, _, _ = inputs(model, 2, torch.float64)
    expected = model(events, events).event
    alone = model(events)
    assert alone.static is None
    torch.testing.assert_close(alone.event.logits, expected.logits, rtol=0, atol=1e-13)


def test_neurons_with_state_of_their_own_are_walked():
    nodes = {
        n: create_model("Transfer_SCNN", num_classes=3, node_type=n).node1
        for n in ("LIFNode", "IFNode", "PLIFNode")
    }
    assert {name: supports(node) for name, node in nodes.items()} == {
        "LIFNode": True,
        "IFNode": True,
        "PLIFNode": False,
    }
    node = nodes["LIFNode"]
    for option in ("requires_fp", "requires_mem", "mem_detach", "sigmoid_thres"):
        setattr(node, option, True)
        assert not supports(node)
        setattr(node, option, False)
    node.threshold.requires_grad_()
    assert not supports(node)


def saved_bytes(model, executor):
    """What autograd keeps for the backward pass, each storage once, parameters apart."""
    model.executor = executor
    events, static, _ = inputs(model, 4, torch.float32)
    own = {p.data_ptr() for p in model.parameters()} | {b.data_ptr() for b in model.buffers()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(events, static)
        return sum(size for size, _ in kept.values()), out


def test_it_keeps_little_for_the_backward_pass():
    model = create_model("Transfer_VGG_SNN", num_classes=5, step=4, width_divisor=4, event_size=32)
    loop, fused = (saved_bytes(model, executor)[0] for executor in ("step", "fused"))
    assert fused < 0.36 * loop


def test_bf16_keeps_state_and_losses_in_float32():
    torch.manual_seed(0)
    model = create_model("Transfer_VGG_SNN", num_classes=5, step=4, width_divisor=4, event_size=16)
    model.executor = "fused"
    method = TMKT(steps=4, features=model.num_features)
    events, static, _ = inputs(model, 8, torch.float32)
    wide = model(events, static)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(events, static)
    for stream in (out.event, out.static):
        assert {getattr(stream, f).dtype for f in ("logits", "tap", "spikes")} == {torch.float32}
    out.event.logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert (out.event.spikes.mean() - wide.event.spikes.mean()).abs() < 0.02
    assert method.rda.theta.dtype == torch.float32
    # Linear layers are not rounded: the logits are the heads' float32 ones of the spikes.
    again = model.dvs_fc(out.event.spikes.flatten(0, 1)).view_as(out.event.logits)
    torch.testing.assert_close(out.event.logits, again, rtol=1e-6, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = method.mag(out.static.spikes)
    assert torch.equal(under_autocast, method.mag(out.static.spikes))


def test_a_model_that_does_not_fit_runs_step_by_step_and_says_why(monkeypatch, caplog):
    options, _ = resolve(parse(["--target-dataset", "ndigits", "--step", "2"]))
    model = build_model(options, 10)
    assert model.executor == "fused" and not model.why_step_by_step()
    scnn = type(model)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(
            scnn, "features", lambda self, x, f=scnn.features: f(self, x + len(x))
        )  # mixes samples
        assert build_model(options, 10).executor == "step"
    assert (
        "TransferSCNN runs step by step instead of fused: it has a features() of its own."
        in caplog.text
    )
    options.executor = "step"
    assert build_model(options, 10).executor == "step"


def test_an_error_in_a_backbone_names_its_line(monkeypatch):
    options, _ = resolve(parse(["--target-dataset", "ndigits", "--step", "2"]))

    def features(self, x):
        return 1 / 0

    monkeypatch.setattr(type(build_model(options, 10)), "features", features)
    with pytest.raises(
        UserError, match=r"ZeroDivisionError: division by zero \(.*test_fused\.py, line \d+\)"
    ):
        build_model(options, 10)


def test_the_check_finds_a_wrong_kernel_and_names_the_layer(monkeypatch):
    """As initialised hardly anything fires, so that a check that does not see to it compares zeros."""
    model = create_model("Transfer_SCNN", num_classes=5, step=3, event_size=20)
    assert difference(model) == ""
    fire, fire_backward = cpu_kernels.fire, cpu_kernels.fire_backward

    def flipped(*arguments):
        fired, membranes = fire(*arguments)
        fired.view(-1)[0] ^= 1
        return fired, membranes

    with monkeypatch.context() as patch:
        patch.setattr(cpu_kernels, "fire", flipped)
        assert difference(model) == "feature.1 gives other numbers than in the step loop"
    monkeypatch.setattr(
        cpu_kernels, "fire_backward", lambda *a: (fire_backward(*a)[0] * 1.001, None, None)
    )
    assert difference(model) == "the gradient of fc1.bias differs from that of the step loop"


def test_the_check_sees_running_statistics(monkeypatch):
    model = create_model("Transfer_VGG_SNN", num_classes=3, step=2, width_divisor=16, event_size=16)
    assert difference(model) == ""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("tmkt_braincog.models.fused._update", lambda *a: None)
    assert (
        difference(model)
        == "the buffer feature.0.bn.running_mean differs from that of the step loop"
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("seed", range(240))
def test_random_networks_give_the_step_loops_numbers(seed):
    assert_executors_agree(*random_network(seed), 1e-11)


def test_most_random_networks_run_fused_and_all_kinds_are_drawn():
    """What falls back is right by itself and shows nothing."""
    networks = [random_network(seed)[0] for seed in range(240)]
    fused = [network for network in networks if not network.why_step_by_step()]
    assert len(fused) > 120
    drawn = {kind for network in fused for kind in network.drawn}
    assert {
        "residual",
        "stack",
        "average",
        "three",
        "max",
        "overlapping",
        "cumulative",
        "untracked",
    } <= drawn
    assert not {"twice", "in place", "mixes", "own", "hooked", "replaced"} & drawn
    reasons = {network.why_step_by_step() for network in networks}
    for words in (
        "it has a features() of its own",
        "what a Twice does",
        "what a AddInPlace does",
        "what a OwnConvolution does",
        "what a MixesSamples does",
        "has hooks",
        "was replaced",
        "works in place",
        "draws other numbers",
        "one BatchNorm2d is used twice",
        "LIFNode is used twice",
    ):
        assert any(words in reason for reason in reasons), (words, reasons)
    kinds = {
        type(leaf).__name__ for network in fused for leaf in leaves(layers(network.block_list()))
    }
    assert {
        "IFNode",
        "LIFNode",
        "PLIFNode",
        "BatchNorm1d",
        "BatchNorm2d",
        "GroupNorm",
        "LayerNorm",
    } <= kinds


def firing(model, x):
    model.set_requires_fp(True)
    model.set_requires_mem(True)
    model(x, x / 2)
    return [model.get_fire_rate(), model.get_tot_spike(), *model.get_mem(), *model.get_fp()]


def test_braincogs_tools_work_under_both_executors():
    model = create_model(
        "Transfer_VGG_SNN", num_classes=3, step=3, width_divisor=16, event_size=16
    ).double()
    x = torch.rand(2, 3, 2, 16, 16, dtype=torch.float64) * 3
    found = {}
    for executor in ("step", "fused"):
        model.executor = executor
        found[executor] = firing(model.eval(), x)
        assert len(model.get_fp(temporal_info=True)[0]) == 3
    assert found["step"][0].max() > 0 and len(found["step"]) > 10
    torch.testing.assert_close(found["fused"], found["step"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("setting", ["set_n_threshold", "set_n_tau", "fill", "v_reset"])
def test_settings_changed_after_the_first_call_are_seen(setting):
    torch.manual_seed(0)
    model = create_model("Transfer_SCNN", num_classes=3, step=4, event_size=20)
    model.fc1.weight.data *= 4
    first = step(model, "fused")
    for node in (m for m in model.modules() if hasattr(m, "threshold")):
        if setting == "fill":
            node.threshold.data.fill_(0.2)
        elif setting == "v_reset":
            node.v_reset = 0.3
        else:
            getattr(node, setting)(0.21 if "threshold" in setting else 1.3)
    again = assert_same(model)
    assert not torch.equal(first["0 event spikes"], again["0 event spikes"])


@pytest.mark.parametrize("executor", ["step", "fused"])
def test_a_model_can_be_copied_after_a_training_step(executor):
    model = create_model("Transfer_SCNN", num_classes=3, step=2, event_size=20)
    model.executor = executor
    model(torch.rand(1, 2, 2, 20, 20)).event.logits.sum().backward()
    twin = copy.deepcopy(model)
    assert torch.equal(
        twin(torch.ones(1, 2, 2, 20, 20)).event.tap, model(torch.ones(1, 2, 2, 20, 20)).event.tap
    )


def test_hooks_see_one_step_at_a_time():
    model = create_model("Transfer_SCNN", num_classes=3, step=3, event_size=20)
    seen = []
    handle = model.fc1.register_forward_hook(lambda layer, inputs, out: seen.append(out.shape))
    x = torch.rand(2, 3, 2, 20, 20)
    model(x, x)
    assert seen == [(2, 300)] * 6
    handle.remove()
    assert not model.why_step_by_step()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("leaky", "surrogate", "dtype"),
    [
        (True, "QGateGrad", torch.float64),
        (True, "AtanGrad", torch.float32),
        (False, "BackEIGateGrad", torch.float64),
        (False, "QGateGrad", torch.bfloat16),
        (True, "BackEIGateGrad", torch.bfloat16),
    ],
)
@pytest.mark.parametrize(
    "shape", [(2, 5, 33, 19), (1, 1, 1, 1), (2, 3, 5000, 3), (1, 4, 2, 700)], ids=str
)
def test_compiled_kernels_equal_the_formulas(shape, leaky, surrogate, dtype, threads):
    g = torch.Generator().manual_seed(0)
    kind = kernels.wide(dtype)
    neuron = Neuron(
        leaky, surrogate, torch.tensor([2.5 if leaky else 0.7, 0.4, 2.2, 0.1], dtype=kind)
    )
    x, d = (torch.randn(shape, generator=g).to(dtype) for _ in range(2))
    S, T, _, C = shape
    d_membranes = torch.randn(shape, generator=g).to(kind)
    affine = Affine(*(torch.rand(S, T, C, generator=g).to(kind) + 0.5 for _ in range(4)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for a in (affine, None):
            fired, membranes = cpu_kernels.fire(x, a, neuron, True)
            expected = kernels.fire(x, a, neuron, True)
            assert (
                torch.equal(fired, expected[0]) and cpu_kernels.fire(x, a, neuron, False)[1] is None
            )
            close(membranes, expected[1])
            for taps in (d_membranes, None):
                found = cpu_kernels.fire_backward(x, a, neuron, fired, d, taps)
                for ours, theirs in zip(
                    found, kernels.fire_backward(x, a, neuron, fired, d, taps), strict=True
                ):
                    close(ours, theirs)
        for ours, theirs in zip(cpu_kernels.moments(x), kernels.moments(x), strict=True):
            close(ours, theirs)
        mean, *abc = affine
        expected = kernels.d_input(x, mean, d_membranes, *abc)
        close(
            cpu_kernels.d_input(x, mean, d_membranes.clone(), *abc),
            expected,
            1e-2 if dtype == torch.bfloat16 else None,
        )
    finally:
        torch.set_num_threads(before)


def close(ours, theirs, tolerance=None):
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours.dtype == theirs.dtype
        tolerance = tolerance or (1e-13 if ours.dtype == torch.float64 else 2e-5)
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * theirs.float().abs().max().item()
        )


def test_bfloat16_is_rounded_as_pytorch_does():
    x = torch.tensor(
        [1.0, -2.5, 1e-40, 3.0e38, float("inf"), float("nan"), 1.00390625, 1.01171875, 0.3]
    )
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    out = cpu_kernels.d_input(
        torch.zeros(1, 1, 9, 1).bfloat16(), zero, x.view(1, 1, 9, 1), one, zero, zero
    )
    torch.testing.assert_close(out.flatten(), x.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_parts_of_a_folded_tensor():
    x = torch.arange(2 * 3 * 4 * 5).view(24, 5)
    parts = Plan(2, 3, 4).parts(x)
    assert torch.equal(parts[1][2], x[20:24])


def test_an_empty_batch_is_no_error():
    model = create_model("Transfer_SCNN", num_classes=3, step=2, event_size=20).eval()
    x = torch.zeros(0, 2, 2, 20, 20)
    assert model(x, x).event.logits.shape == (2, 0, 3)
