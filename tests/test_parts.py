"""Parts that join methods: their names, their sums, and what they refuse."""

import pytest
import torch

from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.engine.checkpoint import same_run
from tmkt_braincog.errors import UserError
from tmkt_braincog.losses import ela_loss, hint_loss, kd_loss, sta_loss
from tmkt_braincog.methods import (
    CKD,
    PARTS,
    TMKT,
    Baseline,
    EventOnly,
    SeAl,
    build_method,
    canonical,
    split_name,
)
from tmkt_braincog.methods.names import takes
from tmkt_braincog.mixing import Progress, SlidingReplacement
from tmkt_braincog.models import StreamOutput, TransferOutput
from tmkt_braincog.options import identity, parse, resolve

T, B, N, D, FEATURES = 4, 6, 3, 7, 5
IMAGES = 11


def options(line=""):
    return resolve(parse(line.split()))[0]


def stream(seed):
    g = torch.Generator().manual_seed(seed)
    shapes = ((T, B, N), (T, B, D), (T, B, FEATURES))
    return StreamOutput(
        *(torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes)
    )


OUT = TransferOutput(event=stream(1), static=stream(2))
BATCH = Pair(
    events=torch.zeros(B, T, 2, 1, 1),
    static=torch.ones(B, 2, 1, 1),
    label=torch.tensor([0, 1, 2, 2, 1, 0]),
    draws=torch.rand(B, T, generator=torch.Generator().manual_seed(3)),
    index=torch.tensor([3, 0, 5, 1, 2, 4]),
    image=torch.tensor([10, 2, 2, 7, 0, 9]),
)
TEACHER = torch.randn(IMAGES, N, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def model(events, static=None):
    return TransferOutput(OUT.event) if static is None else OUT


def built(name, line=""):
    torch.manual_seed(0)  # the heads of TMKT
    method = build_method(name, options(f"--step {T} --epochs 10 {line}"), FEATURES).double()
    for part in method.parts:
        part.teacher = TEACHER
    return method


@pytest.mark.parametrize(
    "name, base, parts, shown",
    [
        ("tmkt", "tmkt", [], "tmkt"),
        ("tmkt+seal", "tmkt", ["seal"], "tmkt+seal"),
        ("tmkt+seal+ckd", "tmkt", ["ckd", "seal"], "tmkt+ckd+seal"),
        ("event-only+seal", "event-only", ["seal"], "event-only+seal"),
        ("ckd", "baseline", ["ckd"], "ckd"),
        ("ckd+seal", "baseline", ["ckd", "seal"], "ckd+seal"),
        ("seal", "event-only", ["seal"], "seal"),
    ],
)
def test_names(name, base, parts, shown):
    assert split_name(name) == (base, parts) and canonical(name) == shown
    method = built(name)
    assert type(method) is {"tmkt": TMKT, "baseline": Baseline, "event-only": EventOnly}[base]
    assert [type(part) for part in method.parts] == [PARTS[part] for part in parts]


@pytest.mark.parametrize(
    "name, message",
    [
        ("tmk+seal", "Unknown method 'tmk'. Did you mean 'tmkt'.*ckd"),
        ("tmkt+sael", "Unknown part of a method 'sael'. Did you mean 'seal'"),
        ("tmkt+tmkt", "Unknown part of a method 'tmkt'.*A method stands first, and only one"),
        ("tmkt+seal+seal", "holds the part seal twice"),
        ("ckd+ckd", "holds the part ckd twice. ckd is baseline[+]ckd"),
        ("tmkt+", "Unknown part of a method ''"),
        ("+seal", "Unknown method ''"),
        ("event-only+ckd", "ckd works on the static stream, which event-only does not have"),
    ],
)
def test_names_that_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        options(f"--method {name}")


def test_the_same_method_in_two_words_is_there_twice():
    with pytest.raises(UserError, match="names the same value twice"):
        options("--method tmkt+seal+ckd tmkt+ckd+seal")


@pytest.mark.parametrize("name, base", [("ckd", "baseline"), ("tmkt+ckd", "tmkt")])
@pytest.mark.parametrize("epoch, gamma", [(0, 1.0), (4, 1.0), (5, 0.5), (6, 0.0)])
def test_ckd_adds_its_term_in_the_first_half_of_the_epochs(name, base, epoch, gamma):
    progress = Progress(epoch, 10, 0, 4)
    plain, joined = (built(n)(model, BATCH, progress) for n in (base, name))
    term = kd_loss(TEACHER[BATCH.image], OUT.static.logits.mean(0), 3.0)
    assert list(joined) == [*plain, "ckd"] and joined["ckd"].item() == term.item()
    assert joined["loss"].item() == pytest.approx(
        plain["loss"].item() + gamma * term.item(), rel=1e-9
    )
    assert all(joined[k].item() == plain[k].item() for k in plain if k != "loss")


@pytest.mark.parametrize("name, base", [("ckd", "baseline"), ("tmkt+ckd", "tmkt")])
@pytest.mark.parametrize("epoch, gamma", [(1, 1.0), (5, 0.5), (6, 0.0)])
def test_ckd_on_features_learns_a_map_to_the_teachers(name, base, epoch, gamma):
    plain, joined = built(base), built(name, "--ckd-on features")
    (part,) = joined.parts
    assert part.teacher_gives == "features" and not list(part.parameters())
    part.set_teacher_width(N)
    part.double()
    assert {n: tuple(p.shape) for n, p in part.named_parameters()} == {
        "map.weight": (N, FEATURES),
        "map.bias": (N,),
    }
    progress = Progress(epoch, 10, 0, 4)
    plain, joined = plain(model, BATCH, progress), joined(model, BATCH, progress)
    term = hint_loss(TEACHER[BATCH.image], part.map(OUT.static.spikes.mean(0)))
    assert list(joined) == [*plain, "ckd"] and joined["ckd"].item() == term.item()
    assert joined["loss"].item() == pytest.approx(
        plain["loss"].item() + gamma * term.item(), rel=1e-9
    )
    (gradient,) = torch.autograd.grad(joined["loss"], part.map.weight)
    (expected,) = torch.autograd.grad(term, part.map.weight)
    torch.testing.assert_close(gradient, gamma * expected, rtol=1e-9, atol=1e-15)


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
        if probability is not None:
            assert (counts == T * probability).all()


@pytest.mark.parametrize(
    "name, base", [("seal", "event-only"), ("tmkt+seal", "tmkt"), ("baseline+seal", "baseline")]
)
def test_seal_adds_its_terms_on_the_event_stream(name, base):
    plain = built(base)(model, BATCH, Progress(1, 10))
    joined = built(name)(model, BATCH, Progress(1, 10))
    ela = ela_loss(TEACHER[BATCH.index], OUT.event.logits, BATCH.label, 3.0).item()
    sta = sta_loss(OUT.event.logits, 3.0).item()
    assert list(joined) == [*plain, "ela", "sta"]
    assert (joined["ela"].item(), joined["sta"].item()) == (ela, sta)
    assert joined["loss"].item() == pytest.approx(
        plain["loss"].item() + 0.6 * ela + 0.15 * sta, rel=1e-9
    )


def test_both_parts_add_up():
    losses = {
        name: built(name)(model, BATCH, Progress(1, 10))
        for name in ("tmkt", "tmkt+ckd", "tmkt+seal", "tmkt+ckd+seal")
    }
    by_name = {name: losses[name]["loss"].item() for name in losses}
    added = by_name["tmkt+ckd"] + by_name["tmkt+seal"] - by_name["tmkt"]
    assert by_name["tmkt+ckd+seal"] == pytest.approx(added, rel=1e-9)
    assert list(losses["tmkt+ckd+seal"])[-3:] == ["ckd", "ela", "sta"]


def test_published_settings_and_those_of_the_command_line():
    ckd = CKD.from_options(options("--epochs 300"), 1)
    assert (ckd.threshold, ckd.k, ckd.teacher_gives) == (150, 100, "logits")
    for share, epoch in (("0%", 0), ("25%", 75), ("12.5%", 37.5), ("50%", 150), ("100%", 300)):
        assert (
            CKD.from_options(options(f"--epochs 300 --ckd-threshold {share}"), 1).threshold == epoch
        )
    ckd = CKD.from_options(options("--epochs 200 --ckd-threshold 90 --ckd-k 0.001"), 1)
    assert (ckd.threshold, ckd.k, ckd.temperature) == (90, 0.001, 3)
    seal = SeAl.from_options(options(), 1)
    assert (seal.alpha, seal.beta, seal.temperature) == (0.6, 0.15, 3)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "--method ckd --epochs 10 --ckd-threshold 10.5",
            "--ckd-threshold 10.5 lies outside the run of --epochs 10",
        ),
        ("--method ckd --ckd-threshold 101%", "expected 0% to 100%, seen 101%"),
        ("--method ckd --ckd-threshold nan%", "expected 0% to 100%, seen nan%"),
        ("--method ckd --ckd-threshold half", "invalid epoch_or_share value: 'half'"),
        ("--method ckd --ckd-on both", "invalid choice: 'both'"),
        ("--method ckd --pow nan", "at least 0, or inf, seen nan"),
        ("--method ckd --pow -1", "at least 0, or inf, seen -1"),
        ("--method tmkt+seal --step 1", "--step 1 with seal"),
    ],
)
def test_settings_that_make_no_sense(line, message):
    with pytest.raises(UserError, match=message):
        options(line)


def test_a_sweep_knows_what_a_composed_method_takes():
    def taken(name):
        every = options(f"--method {name}")
        own = ("ckd_k", "ckd_on", "ckd_threshold", "teacher_checkpoint", "mixup_ratio")
        return [dest for dest in own if takes(every, dest)]

    assert taken("tmkt") == ["mixup_ratio"]
    assert taken("tmkt+seal") == ["teacher_checkpoint", "mixup_ratio"]
    assert taken("ckd") == ["ckd_k", "ckd_on", "ckd_threshold", "teacher_checkpoint"]
    assert taken("baseline") == []


def test_without_a_part_that_has_a_teacher_none_is_named():
    """So that runs with and without the option are the same run."""
    assert (
        options("--method baseline tmkt --teacher-checkpoint a.pt b.pt").teacher_checkpoint is None
    )
    assert options("--method baseline ckd --teacher-checkpoint a.pt b.pt").teacher_checkpoint == [
        "a.pt",
        "b.pt",
    ]


def test_options_that_are_newer_than_a_run_do_not_make_it_another_one():
    here = identity(options())
    older = {k: v for k, v in here.items() if not k.startswith(("ckd", "seal", "kd"))}
    same_run(older, here, "The run")
    with pytest.raises(UserError, match=r"ckd_k: there None, here 4.0"):
        same_run(older, identity(options("--ckd-k 4")), "The run")
    with pytest.raises(UserError, match=r"lr: there 0.3, here"):
        same_run(older | {"lr": 0.3}, here, "The run")


def test_the_temporal_term_of_one_class_is_zero():
    assert sta_loss(torch.randn(4, 3, 1), 3.0) == 0
