"""Parts that join methods: their names, their sums, and what they refuse."""

from types import SimpleNamespace

import pytest
import torch

from tests.streams import BATCH, FEATURES, OUT, N, T, model, options, rand
from tmkt_braincog.engine.checkpoint import same_run
from tmkt_braincog.errors import UserError
from tmkt_braincog.losses import distillation as d
from tmkt_braincog.methods import CKD, METHODS, PARTS, SeAl, build_method, canonical, split_name
from tmkt_braincog.methods.names import takes
from tmkt_braincog.mixing import Progress, SlidingReplacement
from tmkt_braincog.options import identity

TEACHER = rand(11, N, seed=7)  # of 11 images


def built(name, line=""):
    torch.manual_seed(0)  # the heads of TMKT
    method = build_method(name, options(f"--step {T} --epochs 10 {line}"), FEATURES).double()
    for part in method.parts:
        part.teacher = TEACHER
        if part.teacher_gives == "features":
            assert not list(part.parameters())
            part.meet(SimpleNamespace(width=lambda: N))
            part.double()
    return method


def losses(name, epoch=1, line=""):
    return built(name, line)(model, BATCH, Progress(epoch, 10, 0, 4))


@pytest.mark.parametrize(
    "line",
    [
        "tmkt = tmkt",
        "tmkt+seal = tmkt seal",
        "tmkt+seal+ckd = tmkt ckd seal = tmkt+ckd+seal",
        "event-only+seal = event-only seal",
        "ckd = baseline ckd",
        "ckd+seal = baseline ckd seal",
        "seal = event-only seal",
        "etc = event-only etc",
        "tmkt+tks+etc = tmkt etc tks = tmkt+etc+tks",
    ],
)
def test_names(line):
    name, made, shown = [*line.split(" = "), line.split(" = ")[0]][:3]
    base, *parts = made.split()
    assert split_name(name) == (base, parts) and canonical(name) == shown
    method = built(name)
    assert type(method) is METHODS[base]
    assert [type(part) for part in method.parts] == [PARTS[part] for part in parts]


@pytest.mark.parametrize(
    "line, message",
    [
        ("--method tmk+seal", "Unknown method 'tmk'. Did you mean 'tmkt'.*ckd"),
        ("--method tmkt+sael", "Unknown part of a method 'sael'. Did you mean 'seal'"),
        ("--method tmkt+tmkt", "Unknown part of a method 'tmkt'.*stands first, and only one"),
        ("--method tmkt+seal+seal", "holds the part seal twice"),
        ("--method ckd+ckd", "holds the part ckd twice. ckd is baseline[+]ckd"),
        ("--method tmkt+", "Unknown part of a method ''"),
        ("--method +seal", "Unknown method ''"),
        ("--method event-only+ckd", "static stream, which event-only does not have"),
        ("--method tmkt+seal+ckd tmkt+ckd+seal", "names the same value twice"),
        ("--method ckd --epochs 10 --ckd-threshold 10.5", "10.5 lies outside the run of.* 10"),
        ("--method ckd --ckd-threshold 101%", "expected 0% to 100%, seen 101%"),
        ("--method ckd --ckd-threshold nan%", "expected 0% to 100%, seen nan%"),
        ("--method ckd --ckd-threshold half", "invalid epoch_or_share value: 'half'"),
        ("--method ckd --ckd-on both", "invalid choice: 'both'"),
        ("--method ckd --pow nan", "at least 0, or inf, seen nan"),
        ("--method ckd --pow -1", "at least 0, or inf, seen -1"),
        ("--method tmkt+seal --step 1", "--step 1 with seal"),
        ("--method etc --step 1", "--step 1 with etc"),
    ],
)  # fmt: skip
def test_names_and_settings_that_are_refused(line, message):
    with pytest.raises(UserError, match=message):
        options(line)


@pytest.mark.parametrize("name, base", [("ckd", "baseline"), ("tmkt+ckd", "tmkt")])
@pytest.mark.parametrize("on", ["logits", "features"])
@pytest.mark.parametrize("epoch, gamma", [(0, 1.0), (4, 1.0), (5, 0.5), (6, 0.0)])
def test_ckd_adds_its_term_in_the_first_half_of_the_epochs(name, base, on, epoch, gamma):
    plain, method = losses(base, epoch), built(name, f"--ckd-on {on}")
    (part,) = method.parts
    joined = method(model, BATCH, Progress(epoch, 10, 0, 4))
    shapes = {n: tuple(p.shape) for n, p in part.named_parameters()}
    if on == "features":
        assert shapes == {"map.weight": (N, FEATURES), "map.bias": (N,)}
        term = d.hint_loss(TEACHER[BATCH.image], part.map(OUT.static.spikes.mean(0)))
        (gradient,) = torch.autograd.grad(joined["loss"], part.map.weight, retain_graph=True)
        (expected,) = torch.autograd.grad(term, part.map.weight, retain_graph=True)
        torch.testing.assert_close(gradient, gamma * expected, rtol=1e-9, atol=1e-15)
    else:
        assert not shapes
        term = d.kd_loss(TEACHER[BATCH.image], OUT.static.logits.mean(0), 3.0)
    assert list(joined) == [*plain, "ckd"] and joined["ckd"].item() == term.item()
    expected = plain["loss"].item() + gamma * term.item()
    assert joined["loss"].item() == pytest.approx(expected, rel=1e-9)
    assert all(joined[k].item() == plain[k].item() for k in plain if k != "loss")


@pytest.mark.parametrize("base", ["event-only", "tmkt", "baseline", "tmkt+ckd"])
@pytest.mark.parametrize(
    "part, shares",
    # In epoch 4 of 10 tks has 0.4 of its 0.7, which the method's own loss lacks.
    [("seal", {"ela": 0.6, "sta": 0.15}), ("etc", {"etc": 1.0}), ("tks", {"tks": 0.28})],
)
def test_a_part_adds_its_terms_on_the_event_stream_and_tks_takes_from_the_method(
    base, part, shares
):
    logits, label = OUT.event.logits, BATCH.label
    every = {
        "ela": d.ela_loss(TEACHER[BATCH.index], logits, label, 3.0),
        "sta": d.sta_loss(logits, 3.0),
        "etc": d.etc_loss(logits, 4.0),
        "tks": d.tks_loss(logits, label, 3.0),
    }
    terms = {name: every[name] for name in shares}
    mean = "--no-TET-loss" if base == "event-only" and part != "seal" else ""  # as the system
    plain, own = losses(base, 4, mean), losses(base.partition("+")[0], 4, mean)["loss"]
    joined = losses(part if base == "event-only" else f"{base}+{part}", 4)
    assert list(joined) == [*plain, *terms]
    assert all(joined[name].item() == term.item() for name, term in terms.items())
    expected = plain["loss"] + sum(shares[name] * term for name, term in terms.items())
    expected = expected - (0.28 * own if part == "tks" else 0)
    assert joined["loss"].item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("word, probability", [("0", 1.0), ("inf", 0.0), ("3", None)])
def test_replacement_of_all_or_of_none(word, probability):
    every = [Progress(e, 10, b, 4) for e in range(10) for b in range(4)]
    for mixing in (
        built("ckd", f"--pow {word}").mixing,
        SlidingReplacement(T, options(f"--pow {word}").pow),
        built("tmkt", f"--mixup-strategy sliding --pow {word}").mixing,
    ):
        expected = [p.fraction**3 if probability is None else probability for p in every]
        assert [mixing.probability(p) for p in every] == expected
        counts = torch.stack([mixing.event_frames(BATCH.draws, p) for p in every])
        assert probability is None or (counts == T * probability).all()


def test_published_settings_and_those_of_the_command_line():
    ckd = CKD.from_options(options("--epochs 300"), 1)
    assert (ckd.threshold, ckd.k, ckd.teacher_gives) == (150, 100, "logits")
    for share, epoch in (("0%", 0), ("25%", 75), ("12.5%", 37.5), ("50%", 150), ("100%", 300)):
        ckd = CKD.from_options(options(f"--epochs 300 --ckd-threshold {share}"), 1)
        assert ckd.threshold == epoch
    ckd = CKD.from_options(options("--epochs 200 --ckd-threshold 90 --ckd-k 0.001"), 1)
    assert (ckd.threshold, ckd.k, ckd.temperature) == (90, 0.001, 3)
    seal = SeAl.from_options(options(), 1)
    assert (seal.alpha, seal.beta, seal.temperature) == (0.6, 0.15, 3)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("tmkt", "mixup_ratio"),
        ("tmkt+seal", "teacher_checkpoint mixup_ratio"),
        ("ckd", "ckd_k ckd_on ckd_threshold teacher_checkpoint"),
        ("baseline", ""),
    ],
)
def test_what_a_composed_method_takes(name, expected):
    """Without a part that has a teacher none is named: it is the same run with and without."""
    own = ("ckd_k", "ckd_on", "ckd_threshold", "teacher_checkpoint", "mixup_ratio")
    given = options(f"--method {name} --teacher-checkpoint a.pt b.pt")
    assert " ".join(dest for dest in own if takes(given, dest)) == expected
    kept = ["a.pt", "b.pt"] if "teacher" in expected else None
    assert given.teacher_checkpoint == kept


def test_options_that_are_newer_than_a_run_do_not_make_it_another_one():
    here = identity(options())
    older = {k: v for k, v in here.items() if not k.startswith(("ckd", "seal", "kd"))}
    same_run(older, here, "The run")
    with pytest.raises(UserError, match=r"ckd_k: there None, here 4.0"):
        same_run(older, identity(options("--ckd-k 4")), "The run")
    with pytest.raises(UserError, match=r"lr: there 0.3, here"):
        same_run(older | {"lr": 0.3}, here, "The run")
