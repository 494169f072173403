"""Terms and totals of the methods against Eq. 17 and the baseline's sums.

The losses themselves are held to loops in test_losses.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.executors import inputs, small
from tests.streams import BATCH, FEATURES, B, N, T, outputs, values
from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.losses import classification_loss, linear_cka, mag_loss, mrp_loss
from tmkt_braincog.methods import TMKT, Baseline, EventOnly, total
from tmkt_braincog.mixing import FixedRatio, Progress, SlidingReplacement, TimeStepMixup, mix
from tmkt_braincog.models import TransferOutput

EXACT = dict(rel=1e-12, abs=1e-12)
THETA = torch.tensor([1.0, -0.5, 2.0, 0.25], dtype=torch.float64)
SIGMA, ONES = 1 / (1 + (-THETA).exp()), torch.ones(T, dtype=torch.float64)
SIGMAS = {f"sigma_{t}": s for t, s in enumerate(SIGMA.tolist(), start=1)}
Y = BATCH.label


@pytest.fixture
def out():
    return outputs()


@pytest.fixture
def mixed():
    return mix(torch.zeros(B, 2, 1, 1), torch.ones(B, T, 2, 1, 1), torch.tensor([0, 1, 2, 3, 4, 2]))


def with_theta(method):
    method = method.double()
    with torch.no_grad():
        method.rda.theta.copy_(THETA)
    return method


def classified(stream, **form):
    return classification_loss(stream.logits, Y, **form).item()


def misalignment(out, weight=ONES):
    taps = zip(weight, out.static.tap, out.event.tap, strict=True)
    return sum(w * (1 - linear_cka(m, e)) for w, m, e in taps).item() / T


def check(losses, expected, terms):
    """The total and the plain terms, in this order."""
    assert list(losses) == ["loss", *terms]
    assert values(losses) == pytest.approx({"loss": expected, **terms}, **EXACT)


def test_total_is_the_weighted_sum_in_front_of_the_plain_terms():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}
    check(total(terms, b=0.1, absent=100.0), 2.5, {"a": 2.0, "b": 5.0})


@pytest.mark.parametrize("use_tet", [True, False])
def test_event_only(out, use_tet):
    calls = []

    def model(*streams):
        calls.append(streams)
        return TransferOutput(out.event)

    losses = EventOnly(tet=use_tet, smoothing=0.05)(model, BATCH)
    assert len(calls) == 1 and len(calls[0]) == 1 and calls[0][0] is BATCH.events
    expected = classified(out.event, tet=use_tet, smoothing=0.05)
    check(losses, expected, {"cls_event": expected})
    assert EventOnly().least_batch == 1 and EventOnly().diagnostics() == {}


@pytest.mark.parametrize("use_tet", [True, False])
@pytest.mark.parametrize("coefficients", ["learned", "fixed", "off"])
@pytest.mark.parametrize("domain_weight", [0.5, 0.0, 2.0])
def test_baseline(out, coefficients, domain_weight, use_tet):
    form = {"tet": use_tet, "threshold": 0.4, "smoothing": 0.05}
    method = Baseline(T, coefficients=coefficients, domain_weight=domain_weight, **form)
    method, form = with_theta(method), form | {"lamb": 1e-3}
    sigma, rest = (ONES, ONES) if coefficients == "off" else (SIGMA, 1 - SIGMA)
    terms = {"cls_static": classified(out.static, **form)}
    terms["cls_event"] = classified(out.event, weight=rest, **form)
    expected = math.fsum(terms.values())
    if domain_weight:
        terms["alignment"] = misalignment(out, sigma)
        expected += domain_weight * terms["alignment"]
    check(method.losses(out, Y), expected, terms)
    assert method.least_batch == (2 if domain_weight else 1)
    logged = {} if coefficients == "off" else SIGMAS
    assert method.diagnostics() == pytest.approx(logged, **EXACT)


@pytest.mark.parametrize("form", ["equation", "reference", "off"])
@pytest.mark.parametrize(("mag", "mrp"), [(0, 0), (1, 1), (2.0, 0.25), (0, 1), (1, 0)])
@pytest.mark.parametrize("lam", [0.5, 0.3])
@pytest.mark.parametrize("coefficients", ["learned", "fixed", "off"])
def test_tmkt(out, mixed, form, mag, mrp, lam, coefficients):
    options = {"lam": lam, "rda_form": form, "mag_weight": mag, "mrp_weight": mrp}
    options["smoothing"] = 0.05
    method = with_theta(TMKT(T, FEATURES, coefficients=coefficients, **options))
    rda, spikes = form != "off", out.static.spikes
    weighted = rda and coefficients != "off"
    sigma, rest = (SIGMA, 1 - SIGMA) if weighted else (ONES, ONES)
    terms = {"cls_mixed": classified(out.static, smoothing=0.05)}
    terms["cls_event"] = classified(out.event, weight=rest, smoothing=0.05)
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
    assert method.diagnostics() == pytest.approx(SIGMAS if weighted else {}, **EXACT)

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


def whole(name, network="Transfer_SCNN"):
    """A model, a method for it, with a ratio at which both kinds of frames occur, and a batch."""
    model = small(network, step=T, num_classes=N).train()
    events, _ = inputs(model, B, torch.float32)
    batch = Pair(events, torch.rand(events[:, 0].shape), *BATCH[2:])
    method = {"event-only": EventOnly(), "baseline": Baseline(T)}.get(name)
    return model, method or TMKT(T, model.num_features, mixing=FixedRatio(T, 0.6)), batch


@pytest.mark.parametrize("name", ["event-only", "baseline", "tmkt"])
def test_gradients_reach_every_parameter_of_a_real_model(name):
    model, method, batch = whole(name)
    before, transfers = set(model.state_dict()), name != "event-only"
    losses = method(model, batch, Progress(1, 2))
    assert losses["loss"].ndim == 0 and all(term.isfinite() for term in losses.values())
    losses["loss"].backward()
    parameters = [*model.named_parameters(), *method.named_parameters()]
    trained = {n: p for n, p in parameters if p.requires_grad}
    assert not [n for n, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    of_method = {"rda.theta"} if transfers else set()
    if name == "tmkt":
        of_method |= {"mag.weight", "mag.bias", "mrp.weight", "mrp.bias"}
    assert set(trained) - {n for n, _ in model.named_parameters()} == of_method
    assert not transfers or (trained["rda.theta"].grad.abs() > 0).all()
    assert set(model.state_dict()) == before  # at test time it is the same whatever trained it
    two, method, batch = whole(name, "Transfer_VGG_SNN")
    method(two, batch)["loss"].backward()
    for head, learns in ((two.dvs_fc, True), (two.rgb_fc, transfers)):
        assert (head[1].weight.grad is not None and head[1].weight.grad.any()) == learns


@torch.no_grad()
def test_tmkts_losses_are_those_of_the_mixed_stream_through_the_model():
    model, method, batch = whole("tmkt")
    mixed = method.mixing(batch)
    assert 0 < mixed.y_m.mean() < 1
    expected = method.losses(model(batch.events, mixed.frames), mixed, batch.label)
    assert values(method(model, batch)) == values(expected)
    logits = model(mixed.frames).event.logits  # SCNN: one head for both streams
    mixed_loss = classification_loss(logits, batch.label).item()
    assert expected["cls_mixed"].item() == pytest.approx(mixed_loss, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["event-only", "baseline", "tmkt"])
def test_which_method_sees_the_static_images(name):
    model, method, batch = whole(name)
    other = batch._replace(static=1 - batch.static, draws=1 - batch.draws)
    same = values(method(model, batch)) == values(method(model, other))
    assert same == (name == "event-only")
