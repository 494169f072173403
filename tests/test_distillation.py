"""CKD's and SeAl-KD's losses against loops over samples, and in their limits."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from tmkt_braincog.losses import (
    ela_loss,
    hint_loss,
    kd_loss,
    phase_weight,
    sta_loss,
    sta_targets,
    standardise,
)
from tmkt_braincog.models.exact import WideLinear

T, B, N, TAU = 4, 5, 6, 3.0
EXACT = dict(rel=1e-11, abs=1e-12)


def rand(*shape, seed=0, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.fixture
def student():
    return rand(T, B, N, seed=1).requires_grad_()


@pytest.fixture
def teacher():
    return rand(B, N, seed=2)


@pytest.fixture
def y():
    return torch.tensor([0, 3, 5, 2, 2])


def softmax(z, tau=1.0):
    e = [math.exp(v / tau) for v in z]
    return [v / sum(e) for v in e]


def kl(target, z, tau):
    p, q = softmax(target, tau), softmax(z, tau)
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def test_kd_is_the_mean_of_the_samples(teacher, student):
    z = student.mean(0)
    expected = (
        math.fsum(TAU**2 * kl(a, b, TAU) for a, b in zip(teacher.tolist(), z.tolist(), strict=True))
        / B
    )
    assert kd_loss(teacher, z, TAU).item() == pytest.approx(expected, **EXACT)
    assert expected > 0 and kd_loss(teacher, teacher, TAU).item() == pytest.approx(0, abs=1e-14)


def test_kd_sees_no_common_shift_and_has_the_gradient_of_soft_labels(teacher):
    z = rand(B, N, seed=3).requires_grad_()
    loss = kd_loss(teacher, z, TAU)
    assert kd_loss(teacher + 7, z - 5, TAU).item() == pytest.approx(loss.item(), **EXACT)
    (gradient,) = torch.autograd.grad(loss, z)
    expected = TAU * ((z / TAU).softmax(-1) - (teacher / TAU).softmax(-1)) / B
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-10, atol=1e-12)


def test_phase_weight_is_one_before_and_nothing_after_the_threshold():
    """CKD on N-Caltech101: k = 100, e_th = 150; on CEP-DVS k = 0.001: hardly a phase at all."""
    assert [phase_weight(e, 150, 100) for e in (0, 149, 150, 151, 299)] == pytest.approx(
        [1, 1, 0.5, 0, 0]
    )
    assert phase_weight(149, 150, 100) < 1 or math.exp(-100) < 2**-52
    assert phase_weight(10**9, 0, 100) == 0.0  # no overflow
    for e in (0, 3, 90, 199):
        assert phase_weight(e, 90, 0.001) == pytest.approx(
            1 / (1 + math.exp(0.001 * (e - 90))), **EXACT
        )
    assert phase_weight(5, 9, 0.0) == 0.5


def test_features_are_held_against_those_of_a_learned_map(teacher):
    features = rand(B, 3, seed=5).requires_grad_()
    weight, bias = rand(N, 3, seed=6).requires_grad_(), rand(N, seed=7).requires_grad_()
    errors = []
    for b in range(B):
        for n in range(N):
            mapped = (
                math.fsum(weight[n, f].item() * features[b, f].item() for f in range(3))
                + bias[n].item()
            )
            errors.append((mapped - teacher[b, n].item()) ** 2)
    learned = WideLinear(3, N).double()
    learned.load_state_dict({"weight": weight, "bias": bias})
    loss = hint_loss(teacher, learned(features))
    assert loss.item() == pytest.approx(math.fsum(errors) / (B * N), **EXACT)
    assert gradcheck(
        lambda f, w, b: hint_loss(teacher, torch.nn.functional.linear(f, w, b)),
        (features, weight, bias),
    )


def test_standardised_features():
    x = rand(7, 4, seed=8, scale=50.0) + 1000
    x[:, 2] = 0.3  # a unit that is dead, or always the same
    z = standardise(x)
    for d in (0, 1, 3):
        column = x[:, d].tolist()
        mean = math.fsum(column) / 7
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in column) / 7)
        assert z[:, d].tolist() == pytest.approx(
            [(v - mean) / std for v in column], rel=1e-9, abs=1e-9
        )
    assert torch.equal(z[:, 2], torch.zeros(7, dtype=torch.float64))
    # Predicting nothing costs 1, and a teacher on another scale is the same teacher.
    assert hint_loss(z[:, :2], torch.zeros_like(z[:, :2])).item() == pytest.approx(1, **EXACT)
    torch.testing.assert_close(standardise(x * 30 - 7), z, rtol=1e-9, atol=1e-9)
    single = standardise(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), z, rtol=0, atol=1e-5)


def slow_ela(teacher, student, y):
    losses = []
    for t in range(T):
        for b, label in enumerate(y.tolist()):
            z, target = student[t, b].tolist(), teacher[b].tolist()
            w = max(range(N), key=lambda i: z[i])
            if w != label:
                z[w] = z[label]
                target[w] = target[label] = min(target[w], target[label])
            losses.append(TAU**2 * kl(target, z, TAU))
    return math.fsum(losses) / len(losses)


def test_ela(teacher, student, y):
    right = student.argmax(-1) == y
    assert 0 < right.sum() < right.numel()
    assert ela_loss(teacher, student, y, TAU).item() == pytest.approx(
        slow_ela(teacher, student, y), **EXACT
    )


def test_where_every_step_is_right_ela_is_plain_distillation_of_every_step(teacher, student, y):
    with torch.no_grad():
        student.scatter_(-1, y.view(1, B, 1).expand(T, B, 1), 20.0)
    plain = sum(kd_loss(teacher, student[t], TAU).item() for t in range(T)) / T
    assert ela_loss(teacher, student, y, TAU).item() == pytest.approx(plain, **EXACT)


def test_the_gradient_of_a_wrong_entry_goes_to_the_label(teacher):
    z = torch.tensor([[[1.0, 3.0, 0.5]]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(ela_loss(target, z, torch.tensor([0]), TAU), z)
    assert gradient[0, 0, 1] == 0
    # Both replaced entries pull at the label's.
    q, p = softmax([1.0, 1.0, 0.5], TAU), softmax([1.0, 1.0, 0.0], TAU)
    assert gradient[0, 0, 0].item() == pytest.approx(TAU * (q[0] + q[1] - p[0] - p[1]), **EXACT)
    assert gradient[0, 0, 2].item() == pytest.approx(TAU * (q[2] - p[2]), **EXACT)


def slow_sta_targets(z):
    """[T][B][N] of what each step is pulled to."""
    z = z.tolist()
    targets = [[[0.0] * N for _ in range(B)] for _ in range(T)]
    for b in range(B):
        confidence = []
        for t in range(T):
            p = softmax(z[t][b])
            confidence.append(1 + math.fsum(v * math.log(v) for v in p) / math.log(N))
        for i in range(T):
            scores = {}
            for j in range(T):
                if j != i:
                    dot = math.fsum(u * v for u, v in zip(z[i][b], z[j][b], strict=True))
                    scores[j] = confidence[j] * dot / (math.hypot(*z[i][b]) * math.hypot(*z[j][b]))
            all_of_them = math.fsum(map(math.exp, scores.values()))
            for j, score in scores.items():
                for n in range(N):
                    targets[i][b][n] += math.exp(score) / all_of_them * z[j][b][n]
    return targets


def test_sta(student):
    targets = slow_sta_targets(student)
    torch.testing.assert_close(
        sta_targets(student), torch.tensor(targets, dtype=torch.float64), rtol=1e-11, atol=1e-11
    )
    rows = [kl(targets[t][b], student[t, b].tolist(), TAU) for t in range(T) for b in range(B)]
    assert sta_loss(student, TAU).item() == pytest.approx(math.fsum(rows) / len(rows), **EXACT)


def test_sta_of_one_step_or_of_equal_steps_is_zero(student):
    one = student[:1]
    loss = sta_loss(one, TAU)
    assert loss.item() == 0 and torch.autograd.grad(loss, student)[0].abs().max() == 0
    assert sta_loss(one.expand(T, B, N), TAU).item() == pytest.approx(0, abs=1e-14)


def test_the_target_of_sta_takes_no_part_in_the_gradient(student):
    targets = sta_targets(student)
    assert not targets.requires_grad
    (gradient,) = torch.autograd.grad(sta_loss(student, TAU), student)
    expected = ((student / TAU).softmax(-1) - (targets / TAU).softmax(-1)) / (TAU * T * B)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-10, atol=1e-13)


def test_the_order_of_samples_and_for_sta_of_steps_does_not_matter(teacher, student, y):
    of_batch, of_time = torch.randperm(B), torch.randperm(T)
    shuffled = student[of_time][:, of_batch]
    ela = ela_loss(teacher[of_batch], shuffled, y[of_batch], TAU)
    assert ela.item() == pytest.approx(ela_loss(teacher, student, y, TAU).item(), **EXACT)
    assert sta_loss(shuffled, TAU).item() == pytest.approx(sta_loss(student, TAU).item(), **EXACT)
    renamed = torch.randperm(N)  # new class c is old class renamed[c]
    ela = ela_loss(teacher[:, renamed], student[..., renamed], renamed.argsort()[y], TAU)
    assert ela.item() == pytest.approx(ela_loss(teacher, student, y, TAU).item(), **EXACT)


def test_gradients(teacher, y):
    z = rand(3, B, N, seed=4).requires_grad_()
    targets = sta_targets(z)
    assert gradcheck(lambda z: kd_loss(teacher, z.mean(0), TAU), z)
    assert gradcheck(lambda z: ela_loss(teacher, z, y, TAU), z)
    assert gradcheck(lambda z: kd_loss(targets, z, TAU) / TAU**2, z)
    wanted = torch.autograd.grad(kd_loss(targets, z, TAU) / TAU**2, z)[0]
    torch.testing.assert_close(torch.autograd.grad(sta_loss(z, TAU), z)[0], wanted)


def test_under_autocast_they_are_computed_in_float32(teacher, student, y):
    teacher, student, learned = teacher.float(), student.detach().float(), WideLinear(N, N)
    losses = {
        "kd": lambda: kd_loss(teacher, student[0], TAU),
        "ela": lambda: ela_loss(teacher, student, y, TAU),
        "sta": lambda: sta_loss(student, TAU),
        "hint": lambda: hint_loss(teacher, learned(student[0])),
    }
    for name, loss in losses.items():
        with torch.autocast("cpu", torch.bfloat16):
            under = loss()
        assert under.dtype == torch.float32 and under.item() == loss().item(), name
    half = sta_loss(student.bfloat16(), TAU)
    assert half.dtype == torch.float32
