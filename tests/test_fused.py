"""The fused executor gives the step loop's numbers."""

import copy
import logging
import shutil

import pytest
import torch
from timm.models import create_model
from torch import nn

import tmkt_braincog.models  # noqa: F401
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.mixing import mix
from tmkt_braincog.models import kernels
from tmkt_braincog.models.fused import Plan, supports
from tmkt_braincog.models.kernels import Neuron
from tmkt_braincog.options import parse, resolve


def inputs(model, B, dtype, seed=0):
    g = torch.Generator().manual_seed(seed)
    T, size = model.step, model.event_size
    events = torch.randint(0, 4, (B, T, 2, size, size), generator=g).to(dtype)
    static = mix(torch.rand(B, 2, size, size, generator=g).to(dtype), events, torch.arange(B) % (T + 1) + 1)
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
            found |= {f"{k} {name} {f}": getattr(getattr(out, name), f) for f in ("logits", "tap", "spikes")}
        found |= {f"{k} loss": loss}
        found |= {f"{k} grad {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
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
    "Transfer_VGG_SNN": {"width_divisor": 16, "event_size": 20},  # 20, 10, 5, 2: a pool that drops a row
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
        name, num_classes=5, step=4, node_type=node, act_fun=act_fun, tau=2.5, threshold=0.4, **SMALL[name]
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


def test_modules_are_as_before_afterwards():
    model = create_model("Transfer_SCNN", num_classes=3, step=2, event_size=20)
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 2, 2, 8, 8))  # too small for the convolutions
    assert not any("forward" in vars(m) for m in model.modules())


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


def test_a_changed_threshold_is_seen():
    torch.manual_seed(0)
    model = create_model("Transfer_SCNN", num_classes=3, step=4, event_size=20)
    first = step(model, "fused")
    for module in model.modules():
        if hasattr(module, "threshold"):
            module.threshold.data.fill_(0.2)
    again = assert_same(model)
    assert not torch.equal(first["0 event spikes"], again["0 event spikes"])


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


def test_a_model_that_does_not_fit_falls_back_and_says_so(monkeypatch, caplog):
    options, _ = resolve(parse(["--target-dataset", "ndigits", "--step", "2"]))
    assert build_model(options, 10).executor == "fused"
    scnn = type(build_model(options, 10))
    monkeypatch.setattr(
        scnn, "features", lambda self, x, f=scnn.features: f(self, x + len(x))
    )  # mixes samples
    with caplog.at_level(logging.WARNING):
        assert build_model(options, 10).executor == "step"
    assert "--executor fused does not fit TransferSCNN (its outputs differ" in caplog.text
    options.executor = "step"
    assert build_model(options, 10).executor == "step"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("leaky", "dtype"), [(True, torch.float64), (True, torch.float32), (False, torch.bfloat16)]
)  # each pair compiles for a quarter of a minute
def test_compiled_kernels_equal_those_that_run_as_written(monkeypatch, leaky, dtype):
    monkeypatch.setattr(kernels, "COMPILED_FROM", 0)
    g = torch.Generator().manual_seed(0)
    neuron = Neuron(leaky, 2.0 if leaky else 1.0, 0.5, "QGateGrad", 2.0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(2, 5, 33, 19, generator=g).to(dtype)
    d = torch.randn(2, 5, 33, 19, generator=g).to(dtype)
    scale, shift, mean, invstd = (torch.rand(2, 5, 19, generator=g).to(wide) for _ in range(4))
    fired = kernels.fire(x, scale, shift, neuron, False)[1]
    calls = [
        (kernels.moments,), (kernels.fire, scale, shift, neuron, False), (kernels.fire, scale, shift, neuron, True),
        (kernels.d_currents, scale, shift, fired, d, None, neuron),
        (kernels.d_currents, scale, shift, fired, d, d.to(wide), neuron),
        (kernels.d_affine, mean, invstd, d.to(wide)), (kernels.d_input, mean, d.to(wide), scale, shift, invstd),
    ]  # fmt: skip
    for function, *arguments in calls:
        copies = copy.deepcopy(arguments)  # d_input takes the place of one of them
        expected, found = function(x, *arguments), kernels.run(function, x, *copies)
        tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert not kernels._broken


def test_without_a_compiler_it_runs_as_written_and_says_so_once(monkeypatch, caplog):
    def fail(*arguments):
        raise torch._dynamo.exc.InternalTorchDynamoError("no g++")

    monkeypatch.setattr(kernels, "COMPILED_FROM", 0)
    monkeypatch.setattr(kernels, "_broken", [])
    monkeypatch.setattr(kernels, "_compiled", lambda function: fail)
    x = torch.randn(1, 2, 3, 4)
    for _ in range(2):
        torch.testing.assert_close(kernels.run(kernels.moments, x)[0], x.mean(2))
    assert len(caplog.records) == 1 and "no g++" in caplog.text


def test_parts_of_a_folded_tensor():
    x = torch.arange(2 * 3 * 4 * 5).view(24, 5)
    parts = Plan(2, 3, 4).parts(x)
    assert torch.equal(parts[1][2], x[20:24])
