"""The neuron's Triton kernels against the plain functions that say what they compute.

The comparisons run on a CUDA device, or in Triton's interpreter on CPU tensors. The interpreter has
to be chosen before triton is imported, so that ``test_in_the_interpreter`` starts this file again
in a process of its own."""

import os
import re
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from tests import executors
from tests.executors import assert_same, compare_pools, inputs, neuron_of, small
from tmkt_braincog.models import folded, kernels
from tmkt_braincog.models.fused import pool_of
from tmkt_braincog.models.kernels import SURROGATES, Affine

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
compare = partial(executors.compare_kernels, device=DEVICE)


@pytest.fixture
def triton_kernels():
    from tmkt_braincog.models import triton_kernels

    return triton_kernels


def runs_kernels(test):
    no_gpu = not INTERPRETED and not torch.cuda.is_available()
    return pytest.mark.gpu(pytest.mark.skipif(no_gpu, reason="no CUDA device")(test))


in_a_normal_process = pytest.mark.skipif(
    INTERPRETED, reason="runs in the process that starts the interpreter"
)


@in_a_normal_process
def test_in_the_interpreter():
    pytest.importorskip("triton")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    interpreter = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(words, env=interpreter, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 25, done.stdout[-5000:]


@runs_kernels
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(
    ("leaky", "dtype"), [(True, torch.float64), (True, torch.bfloat16), (False, torch.float32)]
)
def test_every_kind_of_neuron(triton_kernels, leaky, surrogate, dtype):
    neuron = {"leaky": leaky, "surrogate": surrogate, "tau": 2.5 if leaky else 0.7, "alpha": 2.2}
    fired, (d_current, *_) = compare(triton_kernels, (1, 3, 33, 19), dtype, **neuron)
    # A comparison of zeros says nothing.
    assert 0.1 < fired.float().mean() < 0.9 and (d_current != 0).float().mean() > 0.3


@runs_kernels
@pytest.mark.parametrize(
    "shape",
    [
        *((1, 1, 1, 1), (2, 1, 70, 64), (1, 20, 9, 3), (2, 17, 33, 5), (1, 2, 1300, 70)),
        *((3, 1, 4097, 1), (1, 3, 0, 5)),
    ],
    ids=str,
)
def test_ragged_sizes_and_any_number_of_steps(triton_kernels, shape):
    compare(triton_kernels, shape, torch.float32)
    with_membranes, with_affine = shape[1] == 20, shape[1] == 1  # only what is wanted
    compare(triton_kernels, shape, torch.bfloat16, with_membranes, with_affine)


@runs_kernels
@pytest.mark.parametrize(
    ("dtype", "side", "steps"),  # up to 16 steps membranes stay in registers
    [(torch.float64, 3, 2), (torch.float32, 2, 17), (torch.bfloat16, 2, 2)],
)
def test_behind_an_average_pool(triton_kernels, dtype, side, steps):
    # The interpreter rounds to bf16 by cutting off.
    cut = 1e-2 * (INTERPRETED and dtype == torch.bfloat16)
    compare_pools(triton_kernels, pool_of, dtype, side, steps, DEVICE, cut)


@runs_kernels
@pytest.mark.parametrize("rows", [1, 511, 512, 1300])
def test_moments_of_16_bit_values(triton_kernels, rows):
    x = (torch.randn(2, 2, rows, 70) * 0.1 + 5).to(DEVICE, torch.bfloat16)
    for found, expected in zip(triton_kernels.moments(x), kernels.moments(x.double()), strict=True):
        assert found.dtype == torch.float32 and found.shape == (2, 2, 70)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


@runs_kernels
def test_inputs_need_not_be_contiguous_and_the_sums_are_repeatable(triton_kernels):
    x = torch.randn(2, 3, 8, 7, device=DEVICE).transpose(2, 3)
    # As the running statistics of a BatchNorm are.
    one = torch.ones(8, device=DEVICE).expand(2, 3, 8)
    affine, neuron = Affine(one, one, one, one), neuron_of(x)
    fired, membranes = triton_kernels.fire(x, affine, neuron, True)
    expected = kernels.fire(x, affine, neuron, True)
    assert torch.equal(fired, expected[0])
    assert_same(membranes, expected[1], 1e-6)
    arguments = x, affine, neuron, fired, x, None
    found, again = (triton_kernels.fire_backward(*arguments) for _ in range(2))
    for ours, theirs in zip(found, kernels.fire_backward(*arguments), strict=True):
        assert_same(ours, theirs, 1e-6)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@runs_kernels
@pytest.mark.parametrize(
    ("name", "train"),
    [("Transfer_VGG_SNN", True), ("Transfer_SCNN", True), ("Transfer_VGG_SNN", False)],
)
def test_a_step_of_a_whole_model(triton_kernels, name, train, monkeypatch):
    model = small(name, step=2, threshold=0.4, event_size=18)
    for module in model.modules():  # so that neurons fire in evaluation mode
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.01, 0.1)
    model.to(DEVICE, torch.float64).train(train)
    batch = [x.to(DEVICE) for x in inputs(model, 2)]
    results = []
    for these in (triton_kernels, kernels):
        monkeypatch.setattr(folded, "kernels_for", lambda x, these=these: these)
        model.zero_grad()
        found = executors.leave(model, batch, executors.weighted, steps=1)
        results.append({n: v for n, v in found.items() if not n.startswith("buffer")})
    found, expected = results
    assert expected["0 event spikes"].any()
    # Convolutions of a GPU differ between calls.
    executors.assert_equal(expected, found, 1e-12 if INTERPRETED else 1e-9)


@pytest.mark.gpu
def test_more_values_than_32_bits_count(triton_kernels):
    if not torch.cuda.is_available() or torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip("no CUDA device with 40 GiB free")
    S, T, M, C = 2, 2, 2**23 + 5, 64
    x = torch.randn(M, C, device="cuda").bfloat16().expand(S, T, M, C).contiguous()
    zero, one = torch.zeros(S, T, C, device="cuda"), torch.ones(S, T, C, device="cuda")
    affine, neuron = Affine(zero, one, one, zero), neuron_of(x)
    fired, _ = triton_kernels.fire(x, affine, neuron, False)
    d, *_ = triton_kernels.fire_backward(x, affine, neuron, fired, x, None)
    end, fired, d = (a[-1:, :, -100:] for a in (x, fired, d))
    affine = Affine(*(a[-1:] for a in affine))
    assert torch.equal(fired, kernels.fire(end, affine, neuron, False)[0])
    assert_same(d, kernels.fire_backward(end, affine, neuron, fired, end, None)[0], 1e-6)


@in_a_normal_process
@pytest.mark.parametrize(
    ("dtype", "architecture", "optional"),
    [("bf16", 90, True), ("fp32", 80, False), ("fp64", 90, True)],
)
def test_they_compile_for_a_gpu_without_one(dtype, architecture, optional, monkeypatch, tmp_path):
    """To machine code of an A100 and an H100; atomics would make sums depend on the order."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from tmkt_braincog.models import triton_kernels
    from tmkt_braincog.models import triton_programs as programs

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"fired_ptr": "u8", "rows_ptr": "i64"}
    types |= dict.fromkeys(("x_ptr", "d_spikes_ptr", "out_ptr"), dtype)
    constants = {"T": 10, "BLOCK_M": 32, "BLOCK_C": 64, "LEAKY": True, "SURROGATE": "QGateGrad"}
    constants |= {"SIDE": 2 if optional else 1, "KEEP": optional, "ROWS": 16}
    if not optional:
        names = ("membranes", "d_membranes", "scale", "shift", "d_shift", "d_scale", "rows")
        constants |= {f"{name}_ptr": None for name in names}
    p = programs
    for kernel in (p.fire, p.fire_backward, p.d_affine, p.d_input, p.pool, p.moments):
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


@in_a_normal_process
def test_where_they_cannot_run_the_plain_functions_do_and_one_line_says_so(monkeypatch, caplog):
    if torch.cuda.is_available():
        pytest.skip("it would work here")

    def full(*arguments, **options):
        raise torch.OutOfMemoryError("full")

    folded._on_gpu.cache_clear()
    for _ in range(2):  # there is no GPU for the first small call
        assert folded._on_gpu() is kernels
    assert len(caplog.records) == 1 and "The Triton kernels cannot be used here" in caplog.text
    assert folded.kernels_for(torch.zeros(1)) is folded.cpu_kernels
    assert folded.kernels_for(torch.zeros(1).half()) is kernels
    folded._on_gpu.cache_clear()
    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(torch.OutOfMemoryError):  # a full GPU is no reason to do without them
        folded._on_gpu()
    folded._on_gpu.cache_clear()
