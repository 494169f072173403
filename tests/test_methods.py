"""Terms and totals of the methods against Eq. 17 and the baseline's sums.

The losses themselves are held to loops in test_losses.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from timm.models import create_model

import tmkt_braincog.models  # noqa: F401
from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.losses import classification_loss, linear_cka, mag_loss, mrp_loss
from tmkt_braincog.methods import TMKT, Baseline, EventOnly, total
from tmkt_braincog.mixing import FixedRatio, Progress, SlidingReplacement, TimeStepMixup, mix
from tmkt_braincog.models import StreamOutput, TransferOutput

T, B, N, D, FEATURES = 4, 6, 3, 7, 5
EXACT = dict(rel=1e-12, abs=1e-12)
THETA = torch.tensor([1.0, -0.5, 2.0, 0.25], dtype=torch.float64)
SIGMA, ONES = 1 / (1 + (-THETA).exp()), torch.ones(T, dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 2, 1, 0])


def stream(seed):
    g = torch.Generator().manual_seed(seed)
    shapes = ((T, B, N), (T, B, D), (T, B, FEATURES))
    values = (torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    return StreamOutput(*values)


@pytest.fixture
def out():
    return TransferOutput(event=stream(1), static=stream(2))


@pytest.fixture
def mixed():
    return mix(torch.zeros(B, 2, 1, 1), torch.ones(B, T, 2, 1, 1), torch.tensor([0, 1, 2, 3, 4, 2]))


def with_theta(method):
    method = method.double()
    with torch.no_grad():
        method.rda.theta.copy_(THETA)
    return method


def tet(stream, lamb=0.0, threshold=0.5, weight=ONES):
    steps = zip(weight, stream.logits, strict=True)
    return sum(
        w * ((1 - lamb) * F.cross_entropy(z, Y) + lamb * (z - threshold).square().mean())
        for w, z in steps
    ).item() / T  # fmt: skip


def misalignment(out, weight=ONES):
    taps = zip(weight, out.static.tap, out.event.tap, strict=True)
    return sum(w * (1 - linear_cka(m, e)) for w, m, e in taps).item() / T


def values(losses):
    return {name: term.item() for name, term in losses.items()}


def check(losses, expected, terms):
    """The total and the plain terms, in this order."""
    assert list(losses) == ["loss", *terms]
    assert values(losses) == pytest.approx({"loss": expected, **terms}, **EXACT)


def test_total_is_the_weighted_sum_in_front_of_the_plain_terms():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}
    check(total(terms, b=0.1, absent=100.0), 2.5, {"a": 2.0, "b": 5.0})


@pytest.mark.parametrize("use_tet", [True, False])
def test_event_only(out, use_tet):
    samples, calls = torch.arange(B), []
    images, draws = torch.zeros(B, 2, 1, 1), torch.zeros(B, T)
    batch = Pair(torch.zeros(B, T, 2, 1, 1), images, Y, draws, samples, samples)

    def model(*streams):
        calls.append(streams)
        return TransferOutput(out.event)

    losses = EventOnly(tet=use_tet)(model, batch)
    assert len(calls) == 1 and len(calls[0]) == 1 and calls[0][0] is batch.events
    expected = tet(out.event) if use_tet else F.cross_entropy(out.event.logits.mean(0), Y).item()
    check(losses, expected, {"cls_event": expected})
    assert EventOnly().least_batch == 1 and EventOnly().diagnostics() == {}


@pytest.mark.parametrize("use_tet", [True, False])
@pytest.mark.parametrize("coefficients", ["learned", "fixed", "off"])
@pytest.mark.parametrize("domain_weight", [0.5, 0.0, 2.0])
def test_baseline(out, coefficients, domain_weight, use_tet):
    options = {"coefficients": coefficients, "domain_weight": domain_weight, "threshold": 0.4}
    method = with_theta(Baseline(T, tet=use_tet, **options))
    sigma, rest = (ONES, ONES) if coefficients == "off" else (SIGMA, 1 - SIGMA)
    names = {"cls_static": (out.static, ONES), "cls_event": (out.event, rest)}
    terms = {n: tet(s, 1e-3, 0.4, w) for n, (s, w) in names.items()}
    if not use_tet:
        terms = {n: F.cross_entropy(s.logits.mean(0), Y).item() for n, (s, _) in names.items()}
    expected = math.fsum(terms.values())
    if domain_weight:
        terms["alignment"] = misalignment(out, sigma)
        expected += domain_weight * terms["alignment"]
    check(method.losses(out, Y), expected, terms)
    assert method.least_batch == (2 if domain_weight else 1)
    sigmas = {f"sigma_{t}": s for t, s in enumerate(SIGMA.tolist(), start=1)}
    logged = {} if coefficients == "off" else sigmas
    assert method.diagnostics() == pytest.approx(logged, **EXACT)


@pytest.mark.parametrize("form", ["equation", "reference", "off"])
@pytest.mark.parametrize(("mag", "mrp"), [(0, 0), (1, 1), (2.0, 0.25), (0, 1), (1, 0)])
@pytest.mark.parametrize("lam", [0.5, 0.3])
@pytest.mark.parametrize("coefficients", ["learned", "fixed", "off"])
def test_tmkt(out, mixed, form, mag, mrp, lam, coefficients):
    options = {"lam": lam, "rda_form": form, "mag_weight": mag, "mrp_weight": mrp}
    method = with_theta(TMKT(T, FEATURES, coefficients=coefficients, **options))
    rda, spikes = form != "off", out.static.spikes
    sigma, rest = (SIGMA, 1 - SIGMA) if rda and coefficients != "off" else (ONES, ONES)
    terms = {"cls_mixed": tet(out.static), "cls_event": tet(out.event, weight=rest)}
    expected = terms["cls_mixed"] + (lam if form == "equation" else 1) * terms["cls_event"]
    if rda:
        terms["alignment"] = misalignment(out, sigma)
        expected += lam * terms["alignment"]
    if mag:
        logits = F.linear(spikes, method.mag.weight, method.mag.bias)
        terms["mag"] = mag_loss(logits, mixed.y_s).item()
        expected += mag * terms["mag"]
    if mrp:
        ratio = F.linear(spikes, method.mrp.weight, method.mrp.bias)[..., 0]
        terms["mrp"] = mrp_loss(ratio, mixed.y_m).item()
        expected += mrp * terms["mrp"]
    losses = method.losses(out, mixed, Y)
    check(losses, expected, terms)
    assert method.least_batch == (2 if rda else 1)
    names = {f"sigma_{t}" for t in range(1, T + 1)} if rda and coefficients != "off" else set()
    assert set(method.diagnostics()) == names

    losses["loss"].backward()
    trained = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None}
    learned = rda and coefficients == "learned"
    assert trained == {n for n, on in (("rda", learned), ("mag", mag), ("mrp", mrp)) if on}
    for s in (out.event, out.static):
        assert (s.logits.grad.abs().sum(dim=(1, 2)) > 0).all() and (s.tap.grad is not None) == rda
    # Both heads act on the mixed stream only.
    assert (spikes.grad is not None) == bool(mag or mrp) and out.event.spikes.grad is None


def test_defaults_are_the_papers():
    method = TMKT(10, FEATURES)
    assert isinstance(method.mixing, TimeStepMixup)
    assert (method.mixing.law, round(method.mixing.p, 4)) == ("geometric", 0.0955)
    assert method.weights == {"alignment": 0.5, "cls_event": 0.5, "mag": 1.0, "mrp": 1.0}
    assert isinstance(Baseline(10).mixing, SlidingReplacement)
    assert (Baseline(10).mixing.power, Baseline(10).domain_weight) == (3, 0.5)


def small_model(name="Transfer_SCNN", **options):
    model = create_model(name, num_classes=N, step=T, event_size=16, **options)
    if name == "Transfer_SCNN":
        # At 16 pixels fc1 has 40 inputs instead of 640: louder weights, so that its neurons fire.
        model.fc1.weight.data *= 5
    return model


def small_batch():
    g = torch.Generator().manual_seed(0)
    return Pair(
        events=torch.poisson(torch.full((B, T, 2, 16, 16), 5.0), generator=g),
        static=torch.rand(B, 1, 16, 16, generator=g).expand(B, 2, 16, 16),
        label=torch.tensor([0, 1, 2, 0, 1, 2]),
        draws=torch.rand(B, T, generator=g, dtype=torch.float64),
        index=torch.arange(B),
        image=torch.arange(B),
    )


def build(name, features):
    """A method; fixed ratio, so that both kinds of frames surely occur."""
    if name == "tmkt":
        return TMKT(T, features, mixing=FixedRatio(T, 0.6))
    return EventOnly() if name == "event-only" else Baseline(T)


@pytest.mark.parametrize("name", ["event-only", "baseline", "tmkt"])
def test_gradients_reach_every_parameter_of_a_real_model(name):
    model = small_model().train()
    before = set(model.state_dict())
    method = build(name, model.num_features)
    losses = method(model, small_batch(), Progress(1, 2))
    assert losses["loss"].ndim == 0 and all(term.isfinite() for term in losses.values())
    losses["loss"].backward()
    parameters = [*model.named_parameters(), *method.named_parameters()]
    trained = {n: p for n, p in parameters if p.requires_grad}
    assert not [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert {"feature.0.weight", "fc1.weight", "fc2.weight"} <= set(trained)
    heads = {"mag.weight", "mag.bias", "mrp.weight", "mrp.bias"} if name == "tmkt" else set()
    assert {n for n in trained if n.startswith(("mag.", "mrp."))} == heads
    assert ("rda.theta" in trained) == (name != "event-only")
    if name != "event-only":
        assert (trained["rda.theta"].grad.abs() > 0).all()
    assert set(model.state_dict()) == before  # at test time it is the same whatever trained it
    two = small_model("Transfer_VGG_SNN", width_divisor=8).train()
    build(name, two.num_features)(two, small_batch())["loss"].backward()
    for head, learns in ((two.dvs_fc, True), (two.rgb_fc, name != "event-only")):
        assert (head[1].weight.grad is not None and head[1].weight.grad.any()) == learns


def test_losses_are_those_of_the_mixed_stream_through_the_model():
    model, batch = small_model(), small_batch()
    method = TMKT(T, model.num_features)
    mixed = method.mixing(batch)
    assert 0 < mixed.y_m.mean() < 1
    with torch.no_grad():
        expected = method.losses(model(batch.events, mixed.frames), mixed, batch.label)
        assert values(method(model, batch)) == values(expected)
        logits = model(mixed.frames).event.logits  # SCNN: one head for both streams
    mixed_loss = classification_loss(logits, batch.label).item()
    assert expected["cls_mixed"].item() == pytest.approx(mixed_loss, rel=1e-6)


def test_which_method_sees_the_static_images():
    model, batch, same = small_model(), small_batch(), {}
    other = batch._replace(static=1 - batch.static, draws=1 - batch.draws)
    for name in ("event-only", "baseline", "tmkt"):
        method = build(name, model.num_features)
        with torch.no_grad():
            same[name] = values(method(model, batch)) == values(method(model, other))
    assert same == {"event-only": True, "baseline": False, "tmkt": False}


def test_heads_read_every_step_in_float32():
    method, spikes = TMKT(T, FEATURES), torch.randn(T, B, FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, ratio = method.mag(spikes), method.mrp(spikes)
    assert logits.shape == (T, B, 2) and ratio.shape == (T, B)
    assert torch.equal(logits, method.mag(spikes)) and torch.equal(ratio, method.mrp(spikes))
