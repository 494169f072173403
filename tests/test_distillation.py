"""The losses of CKD, SeAl-KD, ETC and TKS against loops over samples, and in their limits."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from tests.streams import kl, rand, softmax
from tmkt_braincog.losses.distillation import (
    ela_loss,
    etc_loss,
    hint_loss,
    kd_loss,
    phase_weight,
    sta_loss,
    sta_targets,
    standardise,
    tks_loss,
)
from tmkt_braincog.models.exact import WideLinear

T, B, N, TAU = 4, 5, 6, 3.0
EXACT = dict(rel=1e-11, abs=1e-12)
Y = torch.tensor([0, 3, 5, 2, 2])


@pytest.fixture
def student():
    return rand(T, B, N, seed=1).requires_grad_()


TEACHER = rand(B, N, seed=2)


def test_kd_is_the_mean_of_the_samples_with_the_gradient_of_soft_labels(student):
    z = student.mean(0).detach().requires_grad_()
    rows = zip(TEACHER.tolist(), z.tolist(), strict=True)
    expected = math.fsum(TAU**2 * kl(a, b, TAU) for a, b in rows) / B
    loss = kd_loss(TEACHER, z, TAU)
    assert loss.item() == pytest.approx(expected, **EXACT) and expected > 0
    assert kd_loss(TEACHER, TEACHER, TAU).item() == pytest.approx(0, abs=1e-14)
    assert kd_loss(TEACHER + 7, z - 5, TAU).item() == pytest.approx(expected, **EXACT)
    (gradient,) = torch.autograd.grad(loss, z)
    soft = TAU * ((z / TAU).softmax(-1) - (TEACHER / TAU).softmax(-1)) / B
    torch.testing.assert_close(gradient, soft.detach(), rtol=1e-10, atol=1e-12)


def test_phase_weight_is_one_before_and_nothing_after_the_threshold():
    """CKD on N-Caltech101: k = 100, e_th = 150; on CEP-DVS k = 0.001: hardly a phase at all."""
    weights = [phase_weight(e, 150, 100) for e in (0, 149, 150, 151, 299)]
    assert weights == pytest.approx([1, 1, 0.5, 0, 0])
    assert phase_weight(10**9, 0, 100) == 0.0 and phase_weight(5, 9, 0.0) == 0.5
    expected = [1 / (1 + math.exp(0.001 * (e - 90))) for e in (0, 3, 199)]
    assert [phase_weight(e, 90, 0.001) for e in (0, 3, 199)] == pytest.approx(expected, **EXACT)


def test_features_are_held_against_those_of_a_learned_map():
    features, learned = rand(B, 3, seed=5), WideLinear(3, N).double()
    rows = [[math.fsum((w * f).tolist()) for w in learned.weight] for f in features]
    errors = torch.tensor(rows, dtype=torch.float64) + learned.bias - TEACHER
    expected = math.fsum(errors.square().flatten().tolist()) / (B * N)
    assert hint_loss(TEACHER, learned(features)).item() == pytest.approx(expected, **EXACT)


def test_standardised_features():
    x = rand(7, 4, seed=8, scale=50.0) + 1000
    x[:, 2] = 0.3  # a unit that is dead, or always the same
    z = standardise(x)
    for d in (0, 1, 3):
        column = x[:, d].tolist()
        mean = math.fsum(column) / 7
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in column) / 7)
        expected = [(v - mean) / std for v in column]
        assert z[:, d].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert torch.equal(z[:, 2], torch.zeros(7, dtype=torch.float64))
    # Predicting nothing costs 1, and a teacher on another scale is the same teacher.
    assert hint_loss(z[:, :2], torch.zeros_like(z[:, :2])).item() == pytest.approx(1, **EXACT)
    torch.testing.assert_close(standardise(x * 30 - 7), z, rtol=1e-9, atol=1e-9)
    single = standardise(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), z, rtol=0, atol=1e-5)


def slow_ela(student):
    losses = []
    for t in range(T):
        for b, label in enumerate(Y.tolist()):
            z, target = student[t, b].tolist(), TEACHER[b].tolist()
            w = max(range(N), key=lambda i: z[i])
            if w != label:
                z[w] = z[label]
                target[w] = target[label] = min(target[w], target[label])
            losses.append(TAU**2 * kl(target, z, TAU))
    return math.fsum(losses) / len(losses)


def test_ela(student):
    right = student.argmax(-1) == Y
    assert 0 < right.sum() < right.numel()
    ela = ela_loss(TEACHER, student, Y, TAU).item()
    assert ela == pytest.approx(slow_ela(student), **EXACT)
    assert gradcheck(lambda z: ela_loss(TEACHER, z, Y, TAU), student)
    # Where every step is right it is plain distillation of every step.
    student = student.detach().scatter(-1, Y.view(1, B, 1).expand(T, B, 1), 20.0)
    plain = sum(kd_loss(TEACHER, z, TAU).item() for z in student) / T
    assert ela_loss(TEACHER, student, Y, TAU).item() == pytest.approx(plain, **EXACT)


def slow_sta_targets(z):
    """[T][B][N] of what each step is pulled to."""
    z = z.tolist()
    targets = [[[0.0] * N for _ in range(B)] for _ in range(T)]
    for b in range(B):
        p = [softmax(z[t][b]) for t in range(T)]
        confidence = [1 + math.fsum(v * math.log(v) for v in row) / math.log(N) for row in p]
        for i in range(T):
            scores = {}
            for j in set(range(T)) - {i}:
                dot = math.fsum(u * v for u, v in zip(z[i][b], z[j][b], strict=True))
                scores[j] = confidence[j] * dot / (math.hypot(*z[i][b]) * math.hypot(*z[j][b]))
            all_of_them = math.fsum(map(math.exp, scores.values()))
            for j, score in scores.items():
                for n in range(N):
                    targets[i][b][n] += math.exp(score) / all_of_them * z[j][b][n]
    return targets


def test_sta_and_its_gradient_in_which_the_target_takes_no_part(student):
    slow, targets = slow_sta_targets(student), sta_targets(student)
    expected = torch.tensor(slow, dtype=torch.float64)
    torch.testing.assert_close(targets, expected, rtol=1e-11, atol=1e-11)
    rows = [
        TAU**2 * kl(slow[t][b], student[t, b].tolist(), TAU) for t in range(T) for b in range(B)
    ]
    loss = sta_loss(student, TAU)
    assert loss.item() == pytest.approx(math.fsum(rows) / len(rows), **EXACT)
    assert not targets.requires_grad
    (gradient,) = torch.autograd.grad(loss, student)
    soft = ((student / TAU).softmax(-1) - (targets / TAU).softmax(-1)) * TAU / (T * B)
    torch.testing.assert_close(gradient, soft.detach(), rtol=1e-10, atol=1e-13)


def test_sta_of_one_step_of_equal_steps_or_of_one_class_is_zero(student):
    one = student[:1]
    loss = sta_loss(one, TAU)
    assert loss.item() == 0 and torch.autograd.grad(loss, student)[0].abs().max() == 0
    assert sta_loss(one.expand(T, B, N), TAU).item() == pytest.approx(0, abs=1e-14)
    assert sta_loss(torch.randn(4, 3, 1), TAU) == 0


def test_etc_draws_every_step_to_every_other(student):
    z, pairs = student.tolist(), [(i, j) for i in range(T) for j in range(T) if i != j]
    rows = [TAU**2 * kl(z[j][b], z[i][b], TAU) for b in range(B) for i, j in pairs]
    loss = etc_loss(student, TAU)
    assert loss.item() == pytest.approx(math.fsum(rows) / len(rows), **EXACT)
    (gradient,) = torch.autograd.grad(loss, student)
    p = (student / TAU).softmax(-1).detach()
    mean_of_others = (p.sum(0) - p) / (T - 1)
    soft = TAU * (p - mean_of_others) / (T * B)
    torch.testing.assert_close(gradient, soft, rtol=1e-10, atol=1e-13)


def test_tks_lets_the_right_steps_teach_all(student):
    z, rows, numbers = student.tolist(), [], set()
    for b, label in enumerate(Y.tolist()):
        right = [t for t in range(T) if max(range(N), key=lambda n: z[t][b][n]) == label]
        numbers.add(len(right))
        target = softmax([math.fsum(z[t][b][n] for t in right) for n in range(N)], TAU)
        for t in range(T):
            q = softmax(z[t][b])
            rows.append(
                -(TAU**2) * math.fsum(p * math.log(v) for p, v in zip(target, q, strict=True))
            )
    assert min(numbers) == 0 < max(numbers)
    loss = tks_loss(student, Y, TAU)
    assert loss.item() == pytest.approx(math.fsum(rows) / len(rows), **EXACT)
    assert gradcheck(lambda x: tks_loss(x, Y, TAU), student)


def test_under_autocast_they_are_computed_in_float32(student):
    teacher, student, learned = TEACHER.float(), student.detach().float(), WideLinear(N, N)
    for loss in (
        lambda: kd_loss(teacher, student[0], TAU),
        lambda: ela_loss(teacher, student, Y, TAU),
        lambda: sta_loss(student, TAU),
        lambda: etc_loss(student, TAU),
        lambda: tks_loss(student, Y, TAU),
        lambda: hint_loss(teacher, learned(student[0])),
    ):
        with torch.autocast("cpu", torch.bfloat16):
            under = loss()
        assert under.dtype == torch.float32 and under.item() == loss().item()
    assert sta_loss(student.bfloat16(), TAU).dtype == torch.float32
