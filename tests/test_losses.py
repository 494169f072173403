"""Every loss against a slow loop, its invariances and its gradient."""

import math
from itertools import permutations, product

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import gradcheck

from tests.streams import cross_entropy, rand
from tmkt_braincog.errors import UserError
from tmkt_braincog.losses import RDALoss, classification_loss, linear_cka, mag_loss, mrp_loss
from tmkt_braincog.losses.cka import EPSILON

T, B, N, D = 3, 5, 4, 7
EXACT = dict(rel=1e-12, abs=1e-12)


def labels(n=B, classes=N, seed=1):
    return torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed))


def slow_step(logits, y, smoothing=0.0):
    """Cross-entropy with the smoothed labels."""
    n = logits.shape[-1]
    targets = [
        [(1 - smoothing) * (c == label) + smoothing / n for c in range(n)] for label in y.tolist()
    ]
    return math.fsum(map(cross_entropy, targets, logits.tolist())) / len(y)


def slow_tet(logits, y, lamb, threshold, smoothing):
    mse = [
        math.fsum((v - threshold) ** 2 for v in z.flatten().tolist()) / z.numel() for z in logits
    ]
    steps = zip(logits, mse, strict=True)
    return [(1 - lamb) * slow_step(z, y, smoothing) + lamb * m for z, m in steps]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("lamb", [0.0, 1e-3, 0.3])
def test_classification_loss(smoothing, lamb):
    logits, y = 3 * rand(T, B, N), labels()
    slow = slow_tet(logits, y, lamb, 0.4, smoothing)
    options = {"lamb": lamb, "threshold": 0.4, "smoothing": smoothing}
    for weight in ([1.0] * T, [0.2, 0.5, 1.7]):
        w = None if weight == [1.0] * T else torch.tensor(weight, dtype=torch.float64)
        expected = math.fsum(a * b for a, b in zip(weight, slow, strict=True)) / T
        ours = classification_loss(logits, y, weight=w, **options)
        assert ours.item() == pytest.approx(expected, **EXACT)
        # Without TET it is that of the mean logits, and neither lamb nor weight has a part.
        mean = slow_step(sum(logits) / T, y, smoothing)
        plain = classification_loss(logits, y, tet=False, weight=w, **options)
        assert plain.item() == pytest.approx(mean, **EXACT)
        assert lamb or w is not None or ours >= plain  # Jensen: convex in the logits


def textbook_hsic(k, m):
    """``tr(K H M H) / (n-1)^2`` with the centring matrix H (Gretton et al., 2005)."""
    n = len(k)
    h = torch.eye(n, dtype=torch.float64) - torch.full((n, n), 1 / n, dtype=torch.float64)
    return torch.trace(k @ h @ m @ h).item() / (n - 1) ** 2


def unbiased_hsic(k, m):
    """Song et al. (2012), Eq. 5, by loops over pairs."""
    n = len(k)
    k, m = k.tolist(), m.tolist()
    for i in range(n):
        k[i][i] = m[i][i] = 0.0
    rows_k, rows_m = [math.fsum(r) for r in k], [math.fsum(r) for r in m]
    trace = math.fsum(k[i][j] * m[i][j] for i in range(n) for j in range(n))
    product = math.fsum(rows_k[i] * rows_m[i] for i in range(n))
    totals = math.fsum(rows_k) * math.fsum(rows_m)
    return (trace + totals / ((n - 1) * (n - 2)) - 2 * product / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize(
    ("n", "d", "e"), [(2, 3, 3), (4, 7, 7), (5, 2, 30), (12, 300, 4), (33, 9, 9)]
)
def test_cka_against_the_textbook(n, d, e):
    x = 3 * rand(n, d, seed=1) + 1
    y = torch.cat([x, rand(n, e, seed=2)], dim=1)[:, :e] + 0.3 * rand(n, e, seed=3)
    k, m = x @ x.T, y @ y.T
    for debiased, hsic, scale in (
        (False, textbook_hsic, (n - 1) ** 2),
        *([(True, unbiased_hsic, n * (n - 3))] if n >= 4 else []),
    ):
        norms = math.sqrt(hsic(k, k) * hsic(m, m))
        # EPSILON is added to the product of the norms of the centred Gram matrices.
        expected = hsic(k, m) / (norms + EPSILON / scale)
        assert linear_cka(x, y, debiased).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_invariances(debiased):
    # Large values, so that EPSILON has no part in the comparison.
    x = 100 * rand(8, 6, seed=1)
    y = x[:, :5] + 50 * rand(8, 5, seed=2)
    value = linear_cka(x, y, debiased).item()
    assert 0.2 < value < 0.95
    rotation, _ = torch.linalg.qr(rand(6, 6, seed=4))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(5))
    moved = (x + rand(1, 6, seed=6), y - 3.0)
    scaled = (x * 7.3, y * 0.31)
    for a, b in ((x @ rotation, y), scaled, (-x, y), moved, (y, x), (x[order], y[order])):
        assert linear_cka(a, b, debiased).item() == pytest.approx(value, rel=1e-12)
    assert linear_cka(x[order], y, debiased).item() != pytest.approx(value, rel=1e-3)
    assert linear_cka(x, 3 * (x @ rotation) + 2, debiased).item() == pytest.approx(1, abs=1e-12)
    a, b = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]], dtype=torch.float64)[..., None]
    assert debiased or linear_cka(a, b).item() == pytest.approx(0, abs=1e-15)  # orthogonal


def test_debiased_cka_averages_to_zero_over_all_pairings():
    """The U-centred matrices sum to zero, so the mean over all orders of one side is zero."""
    x, y = rand(5, 6, seed=1), rand(5, 6, seed=2)
    orders = torch.tensor(list(permutations(range(5))))
    xs = x.expand(len(orders), 5, 6)
    values = linear_cka(xs, y[orders], debiased=True)
    assert values.mean().item() == pytest.approx(0, abs=1e-13)
    assert values.min() < -0.05 and values.abs().max() <= 1
    assert linear_cka(xs, y[orders]).mean() > 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cka_lies_in_the_unit_interval(dtype):
    for n, scale in product(range(2, 32), (1e-6, 1.0, 1e4)):
        x, y = (scale * rand(n, 20, seed=s, dtype=dtype) for s in (n, n + 100))
        for value in (linear_cka(x, y), linear_cka(x, x)):
            assert 0 <= value.item() <= 1 + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_features_give_zero_and_finite_gradients(value):
    x = torch.full((T, B, D), value, requires_grad=True)
    y = rand(T, B, D, dtype=torch.float32).requires_grad_()
    cka = linear_cka(x, y)
    assert cka.tolist() == [0] * T
    cka.sum().backward()
    assert x.grad.isfinite().all() and y.grad.isfinite().all()


@pytest.mark.parametrize(
    ("n", "m", "debiased", "message"),
    [
        (1, 1, False, r"of 1 and 1.*at least 2.*--batch-size.*--no-rda.*--no-domain-loss"),
        (3, 3, True, "at least 4"),
        (3, 4, False, "batches of 3 and 4"),
    ],
)
def test_too_few_samples(n, m, debiased, message):
    with pytest.raises(UserError, match=message):
        linear_cka(rand(n, D), rand(m, D), debiased)


def test_cka_takes_large_values_any_batch_and_needs_no_synchronisation():
    for batch in (2, 3, 7):
        x = 1e6 * torch.randn(4, batch, 50) + 1e7
        assert torch.isfinite(linear_cka(x, x.flip(-1))).all()
    # Fake tensors have no values: reading one, as a check or a branch does, raises.
    with FakeTensorMode():
        x = torch.randn(4, 8, 50, requires_grad=True)
        with pytest.raises(Exception, match=r"item|local_scalar"):
            bool(x.sum() > 0)
        linear_cka(x, x * 2).sum().backward()
        assert x.grad.shape == x.shape


def test_cka_runs_in_float32_under_autocast():
    x, y = (rand(T, B, 50, seed=s, dtype=torch.float32) for s in (1, 2))
    a, b = x.bfloat16(), y.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x[0] @ x[0].T).dtype == torch.bfloat16  # autocast is on
        inside, half = linear_cka(x, y), linear_cka(a, b)
    assert inside.dtype == half.dtype == torch.float32
    assert torch.equal(inside, linear_cka(x, y))
    assert torch.equal(half, linear_cka(a.float(), b.float()))
    assert linear_cka(x.double(), y.double()).dtype == torch.float64


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def aligned_taps():
    x = 10 * rand(T, B, D, seed=1)
    return x, x + 6 * rand(T, B, D, seed=2)


def test_theta_follows_the_smaller_term():
    """d/d theta_t = sigma (1 - sigma) ((1 - CKA_t) - CE_t) / T: a large CE drives theta up."""
    (x, y), targets, s = aligned_taps(), labels(), sigmoid(1.0)
    sure = 20.0 * F.one_hot(targets, N).double().expand(T, B, N)
    distances = [1 - linear_cka(x[t], y[t]).item() for t in range(T)]
    for logits, rises in ((0 * sure, True), (sure, False)):
        rda = RDALoss(T).double()
        assert rda.theta.tolist() == [1.0] * T
        (rda.alignment(x, y) + rda.event_classification(logits, targets)).backward()
        pairs = zip(distances, logits, strict=True)
        expected = [s * (1 - s) * (d - slow_step(z, targets)) / T for d, z in pairs]
        assert rda.theta.grad.tolist() == pytest.approx(expected, **EXACT)
        before = rda.sigma.detach()
        torch.optim.SGD(rda.parameters(), lr=1.0).step()
        assert ((rda.sigma > before) == rises).all()


Y_S = torch.tensor([[int(t < n) for t in range(T)] for n in (0, 1, 2, 3, 1)])


def test_mag_and_mrp_loss_against_loops():
    logits = rand(T, B, 2)
    slow = math.fsum(slow_step(logits[t], Y_S[:, t]) for t in range(T)) / T
    assert mag_loss(logits, Y_S).item() == pytest.approx(slow, **EXACT)
    assert mag_loss(40.0 * F.one_hot(Y_S.T, 2).double(), Y_S).item() == pytest.approx(0, abs=1e-12)
    ratio, y_m = rand(T, B), torch.tensor([0.0, 0.25, 0.5, 1.0, 0.125])
    slow = [(math.fsum(ratio[:, b].tolist()) / T - y_m[b].item()) ** 2 for b in range(B)]
    assert mrp_loss(ratio, y_m).item() == pytest.approx(math.fsum(slow) / B, **EXACT)
    assert mrp_loss(y_m.double().expand(T, B), y_m).item() == pytest.approx(0, abs=1e-30)


def test_gradients():
    rda, y, y_m = RDALoss(T, lamb=0.1).double(), labels(), torch.rand(B)
    logits, (a, b) = rand(T, B, N).requires_grad_(), (v.requires_grad_() for v in aligned_taps())
    weight = torch.rand(T, dtype=torch.float64, requires_grad=True)
    for loss, *inputs in (
        (lambda z, w: classification_loss(z, y, lamb=0.1, weight=w), logits, weight),
        (lambda z: classification_loss(z, y, tet=False), logits),
        (lambda a, b: linear_cka(a, b), a, b),
        (lambda a, b: linear_cka(a, b, debiased=True), a, b),
        (lambda a, b, _: rda.alignment(a, b), a, b, rda.theta),
        (lambda z, _: rda.event_classification(z, y), logits, rda.theta),
        (lambda z: mag_loss(z, Y_S), rand(T, B, 2).requires_grad_()),
        (lambda z: mrp_loss(z, y_m), rand(T, B).requires_grad_()),
    ):
        assert gradcheck(loss, inputs)
