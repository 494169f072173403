"""The neuron's Triton kernels against the plain functions that say what they compute.

The comparisons run on a CUDA device, or in Triton's interpreter on CPU tensors. The interpreter has to be chosen before
triton is imported, so that ``test_in_the_interpreter`` starts this file again in a process of its own.
"""

import os
import re
import subprocess
import sys

import pytest
import torch
from timm.models import create_model
from torch import nn

from tmkt_braincog.methods import Baseline
from tmkt_braincog.models import kernels
from tmkt_braincog.models.kernels import SURROGATES, Neuron

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-6,
}  # all arithmetic is float32 or wider
LIF = Neuron(True, 2.5, 0.4, "QGateGrad", 2.0)


def runs_kernels(test):
    no_gpu = not INTERPRETED and not torch.cuda.is_available()
    return pytest.mark.gpu(pytest.mark.skipif(no_gpu, reason="no CUDA device")(test))


in_a_normal_process = pytest.mark.skipif(
    INTERPRETED, reason="runs in the process that starts the interpreter"
)


@in_a_normal_process
def test_in_the_interpreter():
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30, done.stdout[-5000:]


def assert_same(found, expected, tolerance):
    """Equal to ``tolerance`` of the largest value, in the same dtype."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


def compare(shape, dtype, neuron, with_membranes=True, with_affine=True):
    """One call of both kernels against the plain functions; rate of spikes and gradient of the currents."""
    from tmkt_braincog.models import triton_kernels

    g = torch.Generator().manual_seed(0)
    (S, T, _, C), wide = shape, torch.promote_types(dtype, torch.float32)
    x, d_spikes = (torch.randn(shape, generator=g).to(DEVICE, dtype) for _ in range(2))
    d_membranes = torch.randn(shape, generator=g).to(DEVICE, wide) if with_membranes else None
    mean, invstd, shift = (torch.rand(S, T, C, generator=g).to(DEVICE, wide) for _ in range(3))
    scale = 2 * invstd
    spikes, fired, membranes = kernels.fire(x, scale, shift, neuron, True)
    found = triton_kernels.neuron_forward(x, scale, shift, neuron, with_membranes)
    assert found[0].dtype == dtype and torch.equal(found[0], spikes)
    assert found[1].dtype == torch.uint8 and torch.equal(found[1], fired)
    assert torch.equal(fired, spikes.to(torch.uint8))
    if with_membranes:
        assert_same(found[2], membranes, TOLERANCE[dtype])
    else:
        assert found[2] is None

    d_current = kernels.d_currents(x, scale, shift, found[1], d_spikes, d_membranes, neuron)
    arguments = x, (mean, invstd, scale, shift), found[1], d_spikes, d_membranes, neuron, with_affine
    gradients, again = (triton_kernels.neuron_backward(*arguments) for _ in range(2))
    assert_same(gradients[0], d_current, TOLERANCE[dtype])
    if with_affine:
        for ours, expected in zip(gradients[1:], kernels.d_affine(x, mean, invstd, d_current), strict=True):
            assert_same(ours, expected, TOLERANCE[dtype])
        assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))  # repeatable
    else:
        assert gradients[1:] == (None, None)
    return spikes.float().mean().item(), d_current


@runs_kernels
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("leaky", [True, False])
def test_every_kind_of_neuron(leaky, surrogate, dtype):
    neuron = Neuron(leaky, 2.5 if leaky else 0.7, 0.4, surrogate, 2.2)
    rate, d_current = compare((1, 4, 33, 19), dtype, neuron)
    assert 0.1 < rate < 0.9 and (d_current != 0).float().mean() > 0.3  # a comparison of zeros says nothing


@runs_kernels
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1),
        (2, 1, 70, 64),
        (1, 40, 9, 3),
        (2, 10, 5, 16),
        (1, 4, 70, 70),
        (3, 2, 4097, 1),
        (1, 3, 0, 5),
    ],
    ids=str,
)
def test_ragged_sizes_and_any_number_of_steps(shape):
    compare(shape, torch.float32, LIF)


@runs_kernels
@pytest.mark.parametrize("with_membranes", [True, False])
@pytest.mark.parametrize("with_affine", [True, False])
def test_only_what_is_wanted(with_membranes, with_affine):
    compare((1, 4, 33, 19), torch.bfloat16, LIF, with_membranes, with_affine)


@runs_kernels
def test_inputs_need_not_be_contiguous():
    from tmkt_braincog.models import triton_kernels

    x = torch.randn(2, 3, 8, 7, device=DEVICE).transpose(2, 3)
    one = torch.ones(8, device=DEVICE).expand(2, 3, 8)  # as the running statistics of a BatchNorm are
    spikes, fired, membranes = triton_kernels.neuron_forward(x, one, one, LIF, True)
    expected = kernels.fire(x, one, one, LIF, True)
    assert torch.equal(spikes, expected[0])
    assert_same(membranes, expected[2], 1e-6)
    d, *_ = triton_kernels.neuron_backward(x, (one, one, one, one), fired, x, None, LIF, False)
    assert_same(d, kernels.d_currents(x, one, one, fired, x, None, LIF), 1e-6)


def training_step(model, events, static, labels):
    model.zero_grad()
    out = model(events, static)
    Baseline(steps=model.step).to(events).losses(out, labels)["loss"].backward()
    found = {
        f"{s} {f}": getattr(getattr(out, s), f)
        for s in ("event", "static")
        for f in ("logits", "tap", "spikes")
    }
    return found | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@runs_kernels
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["Transfer_VGG_SNN", "Transfer_SCNN"])
def test_a_step_of_a_whole_model(name, train, monkeypatch):
    monkeypatch.setattr(kernels, "_triton_broken", [])
    size = {"width_divisor": 16, "event_size": 20} if name == "Transfer_VGG_SNN" else {"event_size": 20}
    model = create_model(name, num_classes=5, step=2, threshold=0.4, **size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.01, 0.1)  # so that neurons fire in evaluation mode too
    model.to(DEVICE, torch.float64).train(train).executor = "fused"
    batch = torch.rand(2, 2, 2, 2, 20, 20, device=DEVICE, dtype=torch.float64) * 3
    labels = torch.tensor([1, 4], device=DEVICE)
    results = []
    for with_triton in (True, False):
        monkeypatch.setattr(kernels, "_takes_triton", lambda x, yes=with_triton: yes)
        results.append(training_step(model, *batch, labels))
    assert not kernels._triton_broken
    found, expected = results
    assert found.keys() == expected.keys() and expected["event spikes"].any()
    for key, value in expected.items():
        assert_same(
            found[key], value, 1e-12 if INTERPRETED else 1e-9
        )  # convolutions of a GPU differ between calls


@pytest.mark.gpu
def test_more_values_than_32_bits_count():
    if not torch.cuda.is_available() or torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip("no CUDA device with 40 GiB free")
    from tmkt_braincog.models import triton_kernels

    S, T, M, C = 2, 2, 2**23 + 5, 64
    x = torch.randn(M, C, device="cuda").bfloat16().expand(S, T, M, C).contiguous()
    scale, shift = torch.ones(S, T, C, device="cuda"), torch.zeros(S, T, C, device="cuda")
    spikes, fired, _ = triton_kernels.neuron_forward(x, scale, shift, LIF, False)
    d, *_ = triton_kernels.neuron_backward(x, (shift, scale, scale, shift), fired, spikes, None, LIF, False)
    ends = [a[-1:, :, -100:] for a in (x, scale[:, :, None], shift[:, :, None], fired, spikes, d)]
    end, one, zero = ends[0], scale[-1:], shift[-1:]
    assert torch.equal(ends[4], kernels.fire(end, one, zero, LIF, False)[0])
    assert_same(ends[5], kernels.d_currents(end, one, zero, ends[3], ends[4], None, LIF), 1e-6)


@in_a_normal_process
@pytest.mark.parametrize(("dtype", "architecture"), [("bf16", 90), ("fp32", 80), ("fp64", 90)])
@pytest.mark.parametrize("optional", [True, False])
def test_they_compile_for_a_gpu_without_one(dtype, architecture, optional, monkeypatch, tmp_path):
    """Down to machine code of an A100 and an H100; atomics would make sums depend on the order of programs."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from tmkt_braincog.models import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"x_ptr": dtype, "spikes_ptr": dtype, "d_spikes_ptr": dtype, "fired_ptr": "u8"}
    constants = {"T": 10, "BLOCK_M": 32, "BLOCK_C": 64}
    constants |= {name.upper(): value for name, value in LIF._asdict().items()}
    if not optional:
        constants |= dict.fromkeys(("membranes_ptr", "d_membranes_ptr", "d_shift_ptr", "d_scale_ptr"))
    for kernel in (triton_kernels._fire, triton_kernels._fire_backward):
        signature = dict.fromkeys(kernel.arg_names, "i32")
        for name in signature:
            if name in constants:
                signature[name] = "constexpr"
            elif name.endswith("_ptr"):
                signature[name] = "*" + types.get(name, "fp64" if dtype == "fp64" else "fp32")
        fixed = {name: constants[name] for name in signature if name in constants}
        built = triton.compile(
            triton.compiler.ASTSource(kernel, signature, fixed),
            target=GPUTarget("cuda", architecture, 32),
            options={"num_warps": triton_kernels.WARPS, "enable_fp_fusion": False},
        )
        assert built.asm["cubin"]
        assert not re.search(r"\b(atom|red|fma)\.", built.asm["ptx"])


@pytest.mark.skipif(INTERPRETED, reason="it would work there")
def test_where_they_cannot_run_the_plain_functions_do_and_one_line_says_so(monkeypatch, caplog):
    monkeypatch.setattr(kernels, "_triton_broken", [])
    monkeypatch.setattr(kernels, "_takes_triton", lambda x: True)
    x, one = torch.randn(1, 4, 5, 3), torch.ones(1, 4, 3)
    expected = kernels.fire(x, one, one, LIF, True)
    for _ in range(2):  # a CPU tensor is what no Triton kernel takes
        spikes, fired, membranes = kernels.neuron_forward(x, one, one, LIF, True)
        assert torch.equal(spikes, expected[0]) and torch.equal(membranes, expected[2])
        assert torch.equal(fired, spikes.to(torch.uint8))
    d_current, d_shift, d_scale = kernels.neuron_backward(x, (one,) * 4, fired, x, None, LIF, True)
    assert torch.equal(d_current, kernels.d_currents(x, one, one, fired, x, None, LIF))
    assert torch.equal(d_shift, d_current.sum(2)) and d_scale.shape == (1, 4, 3)
    assert len(caplog.records) == 1 and "The Triton kernels cannot be used here" in caplog.text


def test_a_full_gpu_is_no_reason_to_do_without_them(monkeypatch, caplog):
    from tmkt_braincog.models import triton_kernels

    def full(*arguments):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(kernels, "_takes_triton", lambda x: True)
    monkeypatch.setattr(triton_kernels, "neuron_forward", full)
    one = torch.ones(1, 1, 1, 1)
    with pytest.raises(torch.OutOfMemoryError):
        kernels.neuron_forward(one, one[0], one[0], LIF, False)
    assert not kernels._triton_broken and not caplog.records


def test_the_cpu_does_without_them():
    assert not kernels._takes_triton(torch.zeros(1))
