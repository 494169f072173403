"""The baseline's numbers, computed with its authors' own code: two streams, one forward and backward."""

from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models import create_model
from torch import Tensor

import tmkt_braincog.models  # noqa: F401
from tests import golden
from tmkt_braincog.losses import linear_cka
from tmkt_braincog.losses.tet import cross_entropy_per_step, mse_per_step
from tmkt_braincog.methods import Baseline
from tmkt_braincog.models import StreamOutput, TransferOutput

FIXTURES = Path(__file__).parent / "fixtures"
B, T, SIZE, CLASSES, SALT = 4, 4, 48, 5, 30
CASES = [
    pytest.param(
        (*case, executor, device), id=f"{case[0]}-{case[1]}-{executor}-{device}", marks=marks
    )
    for device, marks in (("cpu", ()), ("cuda", pytest.mark.gpu))
    for executor in ("step", "fused")
    for case in (("mini", "f64", 1e-10), ("mini", "f32", 1e-5), ("full", "f64", 1e-10))
    if device == "cpu" or case[1] == "f64"  # a GPU rounds the factors of float32 convolutions
]


@pytest.fixture(scope="module", params=CASES)
def run(request):
    """One training step of the baseline's loss and an evaluation after it, with the golden numbers."""
    tag, precision, tolerance, executor, device = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    file = np.load(FIXTURES / "golden_vgg.npz", allow_pickle=False)
    expected = {
        k.split("/", 2)[2]: file[k] for k in file.files if k.startswith(f"{tag}/{precision}/")
    }
    dtype = torch.float64 if precision == "f64" else torch.float32
    names = {k: file[f"{tag}/f64/{k}"] for k in ("grad_names", "bn_names")}

    model = create_model(
        "Transfer_VGG_SNN", num_classes=CLASSES, step=T, width_divisor=8 if tag == "mini" else 1
    )
    model.executor = executor
    method = Baseline(steps=T)
    model, method = model.to(dtype).train(), method.to(dtype)
    golden.fill(model, method.rda.theta, SALT)
    model, method = model.to(device), method.to(device)
    static, events, y = golden.inputs(B, T, SIZE, CLASSES, SALT)
    static, events, y = static.to(device, dtype), events.to(device, dtype), y.to(device)
    out = model(events, static)
    losses = method.losses(out, y)
    losses["loss"].backward()
    model.eval()
    with torch.no_grad():
        eval_logits = model(events).event.logits.mean(0).cpu()
    model, method, y = model.cpu(), method.cpu(), y.cpu()
    out = TransferOutput(
        *(StreamOutput(*map(Tensor.cpu, vars(s).values())) for s in (out.event, out.static))
    )
    losses = {name: value.cpu() for name, value in losses.items()}
    return dict(locals())


def assert_close(actual, expected, tolerance):
    actual = (
        actual.detach().double().numpy()
        if isinstance(actual, torch.Tensor)
        else np.asarray(actual, float)
    )
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_logits_of_both_streams(run):
    assert_close(run["out"].static.logits, run["expected"]["logits_rgb"], run["tolerance"])
    assert_close(run["out"].event.logits, run["expected"]["logits_dvs"], run["tolerance"])


@pytest.mark.parametrize(("stream", "name"), [("static", "feat_rgb"), ("event", "feat_dvs")])
def test_taps(run, stream, name):
    tap = getattr(run["out"], stream).tap
    stride = tap.shape[-1] // 32
    assert_close(tap[..., : 32 * stride : stride], run["expected"][f"{name}_sub"], run["tolerance"])
    # Sums run over 18,432 terms at full width: the tolerance is relative to the sum of magnitudes.
    scale = tap.detach().abs().sum(-1).max().item()
    np.testing.assert_allclose(
        tap.detach().double().sum(-1),
        run["expected"][f"{name}_sum"],
        atol=run["tolerance"] * scale,
        rtol=0,
    )
    assert_close(tap.square().sum(-1), run["expected"][f"{name}_sq"], run["tolerance"])


def test_cka_of_every_step(run):
    assert_close(
        linear_cka(run["out"].static.tap, run["out"].event.tap),
        run["expected"]["cka"],
        run["tolerance"],
    )


def test_every_loss_term(run):
    y, out, e, tolerance = run["y"], run["out"], run["expected"], run["tolerance"]
    weight = 1 - run["method"].rda.sigma
    assert_close(
        cross_entropy_per_step(out.static.logits, y).mean(), e["rgb_tet_loss_first"], tolerance
    )
    assert_close(mse_per_step(out.static.logits, 0.5).mean(), e["rgb_tet_loss_second"], tolerance)
    assert_close(
        (weight * cross_entropy_per_step(out.event.logits, y)).mean(),
        e["dvs_tet_loss_first"],
        tolerance,
    )
    assert_close(
        (weight * mse_per_step(out.event.logits, 0.5)).mean(), e["dvs_tet_loss_second"], tolerance
    )
    assert_close(run["losses"]["cls_static"], e["loss_rgb"], tolerance)
    assert_close(run["losses"]["cls_event"], e["loss_dvs"], tolerance)
    assert_close(run["losses"]["alignment"], e["domain_loss"], tolerance)
    assert_close(run["losses"]["loss"], e["loss"], tolerance)


def test_losses_without_tet_and_coefficients(run):
    """The N-Omniglot form: cross-entropy of the mean logits, unweighted domain loss."""
    losses = Baseline(steps=T, tet=False, coefficients="off").losses(run["out"], run["y"])
    for ours, theirs in (
        ("cls_static", "alt_loss_rgb"),
        ("cls_event", "alt_loss_dvs"),
        ("alignment", "alt_domain_loss"),
        ("loss", "alt_loss"),
    ):
        assert_close(losses[ours], run["expected"][theirs], run["tolerance"])


def test_gradients(run):
    model, theta = run["model"], run["method"].rda.theta
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    gradients |= {f"coefficient.{t}": theta.grad[t : t + 1] for t in range(T)}
    names = list(run["names"]["grad_names"])
    assert sorted(gradients) == sorted(names)
    norms = [gradients[n].double().norm().item() for n in names]
    assert_close(norms, run["expected"]["grad_norm"], run["tolerance"])
    probes = [golden.symmetric(f"probe.{n}", (gradients[n].numel(),), SALT) for n in names]
    dots = [p @ gradients[n].double().flatten().numpy() for n, p in zip(names, probes, strict=True)]
    assert_close(dots, run["expected"]["grad_dot"], run["tolerance"])


def test_batchnorm_statistics_take_both_streams_in_order(run):
    buffers = dict(run["model"].named_buffers())
    values = [buffers[n].double() for n in run["names"]["bn_names"]]
    assert_close([v.sum() for v in values], run["expected"]["bn_sum"], run["tolerance"])
    assert_close([v.square().sum() for v in values], run["expected"]["bn_sq"], run["tolerance"])


def test_evaluation_logits(run):
    assert_close(run["eval_logits"], run["expected"]["eval_logits_dvs_mean"], run["tolerance"])


def matrices(case):
    def mat(name, n, p):
        return torch.from_numpy(golden.symmetric(name, (n, p), 0))

    x = mat("X", 8, 16)
    if case == "same":
        return x, x.clone()
    if case == "scaled_shifted":
        return x, 3 * x + 2
    if case == "constant_rows":
        return torch.ones(8, 16, dtype=torch.float64), mat("Y", 8, 16)
    if case == "n2":
        return mat("X", 2, 9), mat("Y", 2, 9)
    if case == "120x64":
        x = mat("X", 120, 64)
        return x, 0.5 * x + mat("Y", 120, 64)
    return {"4x7_4x7": (mat("X", 4, 7), mat("Y", 4, 7)), "8x16_8x5": (x, mat("Y", 8, 5))}[case]


CKA_FILE = np.load(FIXTURES / "golden_cka.npz", allow_pickle=False)


@pytest.mark.parametrize("key", CKA_FILE.files)
def test_cka_value_and_gradients(key):
    case, kind = key.split("/")
    x, y = (m.requires_grad_() for m in matrices(case))
    value = linear_cka(x, y, debiased=kind == "debiased1")
    value.backward()
    actual = [value.item(), x.grad.norm().item(), y.grad.norm().item()]
    # The gradient of constant features is pure rounding noise, in the reference too.
    noise = 1e-6 if case == "constant_rows" else 2e-9
    np.testing.assert_allclose(actual[0], CKA_FILE[key][0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(actual[1:], CKA_FILE[key][1:], rtol=1e-9, atol=noise)
