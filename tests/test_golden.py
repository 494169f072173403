"""The baseline's numbers, computed with its authors' own code: one forward and backward.

Inputs and weights come from an exact integer hash, no random generator is involved."""

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models import create_model
from torch import Tensor, nn

from tmkt_braincog.losses import linear_cka
from tmkt_braincog.losses.tet import cross_entropy_per_step, mse_per_step
from tmkt_braincog.methods import Baseline
from tmkt_braincog.models import StreamOutput, TransferOutput

FIXTURES = Path(__file__).parent / "fixtures"
B, T, SIZE, CLASSES, SALT = 4, 4, 48, 5, 30
CASES = [
    pytest.param((*case, executor, device), id="-".join((*case, executor, device)), marks=marks)
    for device, marks in (("cpu", ()), ("cuda", pytest.mark.gpu))
    for executor in ("step", "fused")
    for case in (("mini", "f64"), ("mini", "f32"), ("full", "f64"))
    if device == "cpu" or case[1] == "f64"  # a GPU rounds the factors of float32 convolutions
]


def u01(name: str, n: int, salt: int = SALT) -> np.ndarray:
    """``n`` numbers in [0, 1), float64: splitmix64 of index, the name's CRC and salt."""
    with np.errstate(over="ignore"):
        x = (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(zlib.crc32(name.encode()) * 2**20 + salt)
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def symmetric(name: str, shape: tuple[int, ...], salt: int = SALT) -> np.ndarray:
    return 2 * u01(name, int(np.prod(shape)), salt).reshape(shape) - 1


def fill(model: nn.Module, theta: nn.Parameter) -> None:
    """Give every parameter its golden value; ``theta[t] = 1 - 0.3 t``."""
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            r = symmetric(name, tuple(parameter.shape))
            if parameter.ndim > 1:
                r = r * np.sqrt(3 / np.prod(parameter.shape[1:]))
            elif name in norms:
                r = (1 if name.endswith("weight") else 0.3) + 0.2 * r
            else:
                r = 0.1 * r
            parameter.copy_(torch.from_numpy(r).reshape(parameter.shape))
        theta.copy_(1 - 0.3 * torch.arange(len(theta), dtype=torch.float64))


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Static frames and event frames ``[B, T, 2, H, W]`` float64, labels ``[B]``."""
    b, h, w = np.meshgrid(np.arange(B), np.arange(SIZE), np.arange(SIZE), indexing="ij")
    v = np.round(255 * (0.5 + 0.5 * np.cos(0.37 * h + 0.23 * w * (b + 1) + b))) / 255
    static = np.broadcast_to(v[:, None, None], (B, T, 2, SIZE, SIZE)).copy()
    u2 = u01("events", static.size) ** 2
    u4 = u2 * u2
    event = np.floor(6 * u4 * u4).reshape(static.shape)
    keep = u01("keep", event[0].size).reshape(event[0].shape) < 0.7
    event[2] = np.where(keep, event[0], event[2])
    static[3, ..., : 3 * SIZE // 4, :] = static[0, ..., : 3 * SIZE // 4, :]
    static[1] = event[1]
    labels = (3 * np.arange(B) + 1) % CLASSES
    return torch.from_numpy(static), torch.from_numpy(event), torch.from_numpy(labels)


@pytest.fixture(scope="module", params=CASES)
def run(request):
    """One training step of the baseline's loss and an evaluation after it."""
    tag, precision, executor, device = request.param
    tolerance, dtype = {"f64": (1e-10, torch.float64), "f32": (1e-5, torch.float32)}[precision]
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    file = np.load(FIXTURES / "golden_vgg.npz", allow_pickle=False)
    numbers = {k.removeprefix(f"{tag}/{precision}/"): file[k] for k in file.files}
    names = {k: file[f"{tag}/f64/{k}"] for k in ("grad_names", "bn_names")}
    width = 8 if tag == "mini" else 1
    model = create_model("Transfer_VGG_SNN", num_classes=CLASSES, step=T, width_divisor=width)
    model.executor = executor
    method = Baseline(steps=T)
    model, method = model.to(dtype).train(), method.to(dtype)
    fill(model, method.rda.theta)
    model, method = model.to(device), method.to(device)
    static, events, y = inputs()
    static, events, y = static.to(device, dtype), events.to(device, dtype), y.to(device)
    out = model(events, static)
    losses = method.losses(out, y)
    losses["loss"].backward()
    model.eval()
    with torch.no_grad():
        eval_logits = model(events).event.logits.mean(0).cpu()
    model, method, y = model.cpu(), method.cpu(), y.cpu()
    streams = ((s.logits, s.tap, s.spikes) for s in (out.event, out.static))
    out = (StreamOutput(*map(Tensor.cpu, values)) for values in streams)
    out, losses = TransferOutput(*out), {name: value.cpu() for name, value in losses.items()}

    def check(actual, name):
        actual = np.asarray(actual.detach() if isinstance(actual, Tensor) else actual, float)
        np.testing.assert_allclose(actual, numbers[name], rtol=tolerance, atol=tolerance)

    return SimpleNamespace(**locals())


def test_logits_of_both_streams_and_in_evaluation(run):
    run.check(run.out.static.logits, "logits_rgb")
    run.check(run.out.event.logits, "logits_dvs")
    run.check(run.eval_logits, "eval_logits_dvs_mean")


@pytest.mark.parametrize(("stream", "name"), [("static", "feat_rgb"), ("event", "feat_dvs")])
def test_taps_and_their_cka(run, stream, name):
    tap = getattr(run.out, stream).tap
    stride = tap.shape[-1] // 32
    run.check(tap[..., : 32 * stride : stride], f"{name}_sub")
    run.check(tap.square().sum(-1), f"{name}_sq")
    # Sums run over 18,432 terms at full width: the tolerance is relative to the sum of magnitudes.
    sums, scale = tap.detach().double().sum(-1), tap.detach().abs().sum(-1).max().item()
    atol = run.tolerance * scale
    np.testing.assert_allclose(sums, run.numbers[f"{name}_sum"], atol=atol, rtol=0)
    run.check(linear_cka(run.out.static.tap, run.out.event.tap), "cka")


def test_every_loss_term(run):
    out, y, weight = run.out, run.y, 1 - run.method.rda.sigma
    run.check(cross_entropy_per_step(out.static.logits, y).mean(), "rgb_tet_loss_first")
    run.check(mse_per_step(out.static.logits, 0.5).mean(), "rgb_tet_loss_second")
    run.check((weight * cross_entropy_per_step(out.event.logits, y)).mean(), "dvs_tet_loss_first")
    run.check((weight * mse_per_step(out.event.logits, 0.5)).mean(), "dvs_tet_loss_second")
    # The second form is that of N-Omniglot: cross-entropy of the mean logits, unweighted domain
    # loss.
    other = Baseline(steps=T, tet=False, coefficients="off").losses(out, y)
    theirs = ("loss_rgb", "loss_dvs", "domain_loss", "loss")
    for ours, name in zip(("cls_static", "cls_event", "alignment", "loss"), theirs, strict=True):
        run.check(run.losses[ours], name)
        run.check(other[ours], f"alt_{name}")


def test_gradients(run):
    theta = run.method.rda.theta
    gradients = {n: p.grad for n, p in run.model.named_parameters() if p.requires_grad}
    gradients |= {f"coefficient.{t}": theta.grad[t : t + 1] for t in range(T)}
    names = list(run.names["grad_names"])
    assert sorted(gradients) == sorted(names)
    run.check([gradients[n].double().norm().item() for n in names], "grad_norm")
    probes = [symmetric(f"probe.{n}", (gradients[n].numel(),)) for n in names]
    dots = [p @ gradients[n].double().flatten().numpy() for n, p in zip(names, probes, strict=True)]
    run.check(dots, "grad_dot")


def test_batchnorm_statistics_take_both_streams_in_order(run):
    buffers = dict(run.model.named_buffers())
    values = [buffers[n].double() for n in run.names["bn_names"]]
    run.check([v.sum() for v in values], "bn_sum")
    run.check([v.square().sum() for v in values], "bn_sq")


def matrices(case):
    def mat(name, n, p):
        return torch.from_numpy(symmetric(name, (n, p), 0))

    x, wide = mat("X", 8, 16), mat("X", 120, 64)
    return {
        "same": (x, x.clone()),
        "scaled_shifted": (x, 3 * x + 2),
        "constant_rows": (torch.ones(8, 16, dtype=torch.float64), mat("Y", 8, 16)),
        "n2": (mat("X", 2, 9), mat("Y", 2, 9)),
        "4x7_4x7": (mat("X", 4, 7), mat("Y", 4, 7)),
        "8x16_8x5": (x, mat("Y", 8, 5)),
        "120x64": (wide, 0.5 * wide + mat("Y", 120, 64)),
    }[case]


CKA_FILE = np.load(FIXTURES / "golden_cka.npz", allow_pickle=False)


@pytest.mark.parametrize("key", CKA_FILE.files)
def test_cka_value_and_gradients(key):
    case, kind = key.split("/")
    x, y = (m.requires_grad_() for m in matrices(case))
    value = linear_cka(x, y, debiased=kind == "debiased1")
    value.backward()
    gradients = [x.grad.norm().item(), y.grad.norm().item()]
    # The gradient of constant features is pure rounding noise, in the reference too.
    noise = 1e-6 if case == "constant_rows" else 2e-9
    np.testing.assert_allclose(value.item(), CKA_FILE[key][0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradients, CKA_FILE[key][1:], rtol=1e-9, atol=noise)
