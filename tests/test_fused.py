"""The fused executor gives the step loop's numbers."""

import copy
import logging
import pickle

import pytest
import torch
from timm.models import create_model
from torch import nn

from tests.executors import SMALL, assert_equal, both, compare_kernels, compare_pools, inputs, small
from tests.random_networks import SEEDS, assert_executors_agree, network, random_network
from tests.streams import options
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.models import batchnorm, cpu_kernels, kernels
from tmkt_braincog.models.blocks import layers, leaves
from tmkt_braincog.models.check import difference
from tmkt_braincog.models.fused import pool_of, supports


def assert_same(model, B=3):
    """Both executors leave the same after two steps of the baseline's loss; what that is."""
    method, labels = Baseline(steps=model.step).double(), torch.arange(B) % model.num_classes
    model = model.double()
    batch = inputs(model, B)
    expected, found = both(model, batch, lambda out: method.losses(out, labels)["loss"])
    assert_equal(expected, found, 1e-12)
    return expected


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "options",
    [
        *({"act_fun": name} for name in ("QGateGrad", "BackEIGateGrad", "AtanGrad", "EIGrad")),
        *({"node_type": "IFNode", "act_fun": name} for name in ("QGateGrad", "AtanGrad")),
        *({"node_type": "PLIFNode"}, {"mem_detach": True}),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_training_step(name, options):
    seen = assert_same(small(name, tau=2.5, threshold=0.4, **options))
    rates = [seen[f"0 event {f}"].abs().mean() for f in ("spikes", "tap")]
    assert all(0.005 < rate < 20 for rate in rates), rates  # it fires


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_mode_and_its_gradients(name):
    model = small(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    assert_same(model.eval())


def test_it_keeps_little_for_the_backward_pass():
    """Of what autograd saves, each storage once, parameters apart."""
    model, sums = small("Transfer_VGG_SNN", step=4, width_divisor=4, event_size=32), {}
    own = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    for model.executor in ("step", "fused"):
        kept = {}

        def pack(tensor, kept=kept):
            if tensor.data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(*inputs(model, 4, torch.float32))
            sums[model.executor] = sum(t.untyped_storage().nbytes() for t in kept.values()), out
    assert sums["fused"][0] < 0.36 * sums["step"][0]


def test_bf16_keeps_state_and_losses_in_float32():
    model = small("Transfer_VGG_SNN", width_divisor=8, event_size=16)
    method = TMKT(steps=3, features=model.num_features)
    batch = inputs(model, 8, torch.float32)
    wide = model(*batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*batch)
        under_autocast = method.mag(out.static.spikes)
    for stream in (out.event, out.static):
        assert {stream.logits.dtype, stream.tap.dtype, stream.spikes.dtype} == {torch.float32}
    out.event.logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    assert (out.event.spikes.mean() - wide.event.spikes.mean()).abs() < 0.02
    assert method.rda.theta.dtype == torch.float32
    # Linear layers are not rounded: the logits are the heads' float32 ones of the spikes.
    again = model.dvs_fc(out.event.spikes.flatten(0, 1)).view_as(out.event.logits)
    torch.testing.assert_close(out.event.logits, again, rtol=1e-6, atol=1e-6)
    assert torch.equal(under_autocast, method.mag(out.static.spikes))


def test_a_model_that_does_not_fit_runs_step_by_step_and_says_why(monkeypatch, caplog):
    chosen = options("--step 2")
    model = build_model(chosen, 10)
    assert model.executor == "fused" and not model.why_step_by_step()
    kind, whole = type(model), type(model).features
    monkeypatch.setattr(kind, "features", lambda self, x: whole(self, x + len(x)))  # mixes samples
    with caplog.at_level(logging.WARNING):
        assert build_model(chosen, 10).executor == "step"
    why = "TransferSCNN runs step by step instead of fused: it has a features() of its own."
    assert why in caplog.text
    monkeypatch.setattr(kind, "features", lambda self, x: 1 / 0)
    where = r"ZeroDivisionError: division by zero \(.*test_fused\.py, line \d+\)"
    with pytest.raises(UserError, match=where):
        build_model(chosen, 10)
    monkeypatch.undo()
    chosen.executor = "step"
    assert build_model(chosen, 10).executor == "step"


def test_one_stream_and_an_empty_batch():
    model = small().double().eval()
    events, _ = inputs(model, 2)
    expected, alone = model(events, events).event, model(events)
    assert alone.static is None
    torch.testing.assert_close(alone.event.logits, expected.logits, rtol=0, atol=1e-13)
    assert model(events[:0], events[:0]).event.logits.shape == (3, 0, 5)


def test_neurons_with_state_of_their_own_are_walked():
    nodes = [small(node_type=name).node1 for name in ("PLIFNode", "IFNode", "LIFNode")]
    assert [supports(node) for node in nodes] == [False, True, True]
    node = nodes[-1]
    for option in ("requires_fp", "requires_mem", "mem_detach", "sigmoid_thres"):
        setattr(node, option, True)
        assert not supports(node)
        setattr(node, option, False)
    node.threshold.requires_grad_()
    assert not supports(node)


def test_the_check_finds_wrong_kernels_and_running_statistics_and_names_them(monkeypatch):
    """As initialised hardly anything fires: a check that does not see to it compares zeros."""
    model = create_model("Transfer_SCNN", num_classes=5, step=3, event_size=20)
    assert difference(model) == ""
    fire, fire_backward = cpu_kernels.fire, cpu_kernels.fire_backward

    def flipped(*arguments):
        fired, membranes = fire(*arguments)
        fired.view(-1)[0] ^= 1
        return fired, membranes

    def scaled(*arguments):
        return fire_backward(*arguments)[0] * 1.001, None, None

    with monkeypatch.context() as patch:
        patch.setattr(cpu_kernels, "fire", flipped)
        assert difference(model).startswith("feature.1 gives other numbers than in the step loop")
    with monkeypatch.context() as patch:
        patch.setattr(cpu_kernels, "fire_backward", scaled)
        assert difference(model) == "the gradient of fc1.bias differs from that of the step loop"
    model = small("Transfer_VGG_SNN", event_size=16)
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(batchnorm, "_update", lambda *a: None)
    named = "the buffer feature.0.bn.running_mean differs from that of the step loop"
    assert difference(model) == named
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("first", SEEDS[::10])
def test_random_networks_give_the_step_loops_numbers(first):
    for seed in SEEDS[first : first + 10]:
        try:
            assert_executors_agree(*random_network(seed), 1e-11)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n{network(seed)}") from error


def test_most_random_networks_run_fused_and_all_kinds_are_drawn():
    """What falls back is right by itself and shows nothing."""
    whys = {model: model.why_step_by_step() for model in map(network, SEEDS)}
    fused = [model for model, why in whys.items() if not why]
    assert len(fused) > 120
    drawn = {kind for model in fused for kind in model.drawn}
    every = "residual stack average three max overlapping cumulative untracked"
    assert {*every.split()} <= drawn
    assert not {"twice", "in place", "mixes", "own", "hooked", "replaced"} & drawn
    reasons = " ".join({*whys.values()})
    for words in (
        *("it has a features() of its own", "what a Twice does", "what a AddInPlace does"),
        *("what a OwnConvolution does", "what a MixesSamples does", "has hooks", "was replaced"),
        *("works in place", "draws other numbers", "BatchNorm2d is used twice"),
        *("LIFNode is used twice", "ties that rounding decides"),
    ):
        assert words in reasons
    kinds = {type(leaf).__name__ for model in fused for leaf in leaves(layers(model.block_list()))}
    neurons = {"IFNode", "LIFNode", "PLIFNode"}
    assert neurons | {"BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm"} <= kinds


def test_braincogs_tools_work_under_both_executors():
    model = small("Transfer_VGG_SNN", event_size=16).double().eval()
    x = torch.rand(2, 3, 2, 16, 16, dtype=torch.float64) * 3
    found = []
    for executor in ("step", "fused"):
        model.executor = executor
        model.set_requires_fp(True)
        model.set_requires_mem(True)
        model(x, x / 2)
        rates = model.get_fire_rate(), model.get_tot_spike()
        found.append([*rates, *model.get_mem(), *model.get_fp()])
        assert len(model.get_fp(temporal_info=True)[0]) == 3
    assert found[0][0].max() > 0 and len(found[0]) > 10
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def test_settings_changed_after_the_first_call_are_seen():
    model = small().double()
    seen = [assert_same(model)["0 event spikes"]]
    nodes = [m for m in model.modules() if hasattr(m, "threshold")]
    for change in (
        lambda node: node.set_n_threshold(0.21),
        lambda node: node.set_n_tau(1.3),
        lambda node: node.threshold.data.fill_(0.3),
        lambda node: setattr(node, "v_reset", 0.3),
    ):
        for node in nodes:
            change(node)
        seen.append(assert_same(model)["0 event spikes"])
        assert not torch.equal(*seen[-2:])


@pytest.mark.parametrize("executor", ["step", "fused"])
def test_a_model_can_be_copied_after_a_training_step(executor):
    model = small()
    model.executor = executor
    model(torch.rand(1, 3, 2, 20, 20)).event.logits.sum().backward()
    x = torch.ones(1, 3, 2, 20, 20)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x).event.tap, model(x).event.tap)


@pytest.mark.parametrize("shape", [(2, 5, 33, 19), (2, 3, 5000, 3), (1, 4, 2, 3000)], ids=str)
@pytest.mark.parametrize("with_affine", [True, False])
@pytest.mark.parametrize(
    ("leaky", "surrogate", "dtype"),
    [
        (True, "QGateGrad", torch.float64),
        (True, "AtanGrad", torch.float32),
        (False, "BackEIGateGrad", torch.bfloat16),
    ],
)
def test_compiled_kernels_equal_the_formulas(shape, with_affine, leaky, surrogate, dtype):
    """With one thread and with three, which the large shape is worth: the same bits."""
    how = {"leaky": leaky, "surrogate": surrogate, "alpha": 2.2, "with_membranes": with_affine}
    how |= {"tau": 2.5 if leaky else 0.7, "with_affine": with_affine}
    how["tolerance"] = 1e-13 if dtype == torch.float64 else 2e-5
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(compare_kernels(cpu_kernels, shape, dtype, **how)[1])
    torch.set_num_threads(before)
    assert all(p is q is None or torch.equal(p, q) for p, q in zip(*found, strict=True))
    x = torch.randn(shape).to(dtype)
    for ours, theirs in zip(cpu_kernels.moments(x), kernels.moments(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=how["tolerance"], atol=how["tolerance"])


@pytest.mark.parametrize(("dtype", "side"), [(torch.float64, 3), (torch.bfloat16, 2)])
def test_compiled_kernels_behind_an_average_pool(dtype, side):
    compare_pools(cpu_kernels, pool_of, dtype, side, 2)
