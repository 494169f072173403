"""The benchmark scripts: tiny runs from end to end, and what they say about SpikingJelly."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from tmkt_braincog.errors import UserError, guarded
from tmkt_braincog.models import Transfer_VGG_SNN

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
TINY = ["--batch", "2", "--steps", "2", "--size", "16", "--repeat", "1", "--json"]
EXECUTORS = ("step", "fused")
METRICS = (
    "step_time first_step reference_time peak_memory matmul_share tmkt_over_baseline data_share"
)


@pytest.fixture
def scripts(monkeypatch):
    """The scripts can be imported; what they set for the process does not outlive the test."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import workload

    monkeypatch.setattr(workload, "keep_freed_memory", lambda: True)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def jelly(scripts):
    pytest.importorskip("spikingjelly", reason="SpikingJelly is not installed")
    import spikingjelly_step

    return spikingjelly_step


def record(path: Path) -> dict:
    found = json.loads(path.read_text())
    assert found["hardware"] and found["versions"]["torch"] == torch.__version__
    return found


@pytest.mark.slow
def test_step_writes_the_documented_rows(scripts, tmp_path, monkeypatch):
    import step

    # bfloat16 is emulated, and slow, on processors that have no instructions for it.
    monkeypatch.setattr(step, "PROBES", ((16, 6), (16, 4)))
    monkeypatch.setattr(step, "MATRIX", 64)
    for name in ("finish", "_rest"):  # what the reference's loop lacks; put back afterwards
        monkeypatch.setattr(step.TransferModel, name, getattr(step.TransferModel, name))
    monkeypatch.setattr(step, "fresh", lambda function, *words: function(*words))  # is quicker
    assert step.run([*TINY, str(tmp_path / "step.json"), "--width-divisor", "8"]) == 0
    rows = record(tmp_path / "step.json")["rows"]
    assert [(r["metric"], r["dtype"]) for r in rows] == [
        (m, d) for d in ("float32", "bf16") for m in METRICS.split()
    ]
    for r in rows:
        assert r["step"] > 0 and r["ratio"] == pytest.approx(r["fused"] / r["step"])


def test_flops_are_those_of_the_layers(scripts):
    import step
    from workload import Workload

    w = Workload("cpu", batch=3, steps=2, size=16, classes=5)
    sides_and_channels = [(16, 2, 64), (16, 64, 128), (8, 128, 256), (8, 256, 256), (4, 256, 512)]
    sides_and_channels += [(4, 512, 512), (2, 512, 512), (2, 512, 512)]
    macs = sum(side**2 * 9 * c_in * c_out for side, c_in, c_out in sides_and_channels) + 512 * 5
    forward_and_backward, streams = 3, 2
    assert step.flops(w) == 2 * macs * forward_and_backward * streams * 3 * 2


@pytest.mark.parametrize(
    "arguments, says",
    [("--batch 1", "batch is 1"), ("--steps 0", "steps is 0"), ("--repeat 0", "--repeat 0")],
)
def test_bad_numbers_are_refused(scripts, capsys, arguments, says):
    import step

    assert guarded(lambda: step.run(arguments.split())) == 2
    assert says in capsys.readouterr().err


def test_cost_writes_rows_exponents_and_the_plot(scripts, tmp_path, monkeypatch):
    import cost
    from workload import Workload

    base = Workload("cpu", batch=2, steps=2, size=20, classes=10, model="Transfer_SCNN")
    values = {"steps": (2, 3), "batch": (2, 3), "size": (20, 28), "classes": (10, 100)}
    measured = []

    def counted(point, model, dtype, repeat):
        measured.append(point)
        return 0.1 * point.steps**1.5, 1.0 * point.size

    monkeypatch.setattr(cost, "time_and_memory", counted)
    monkeypatch.setitem(cost.BASE, "cpu", base)
    monkeypatch.setitem(cost.VALUES, "cpu", values)
    assert cost.run(["--repeat", "1", "--output", str(tmp_path)]) == 0
    found = record(tmp_path / "cost_cpu.json")
    shape = {"batch": 2, "steps": 2, "size": 20, "classes": 10}
    assert found["base"] == {"model": "Transfer_SCNN", "width_divisor": 1, **shape}
    keys = [(r["quantity"], r["value"], r["executor"]) for r in found["rows"]]
    assert keys == [(q, v, e) for q, grid in values.items() for v in grid for e in EXECUTORS]
    assert len(measured) == 2 * 5  # the base point once
    assert len(found["exponents"]) == 4 * 2 * 2
    grows = {("steps", "seconds"): 1.5, ("size", "peak_mib"): 1.0}
    for e in found["exponents"]:
        slope = grows.get((e["quantity"], e["metric"]), 0.0)
        assert e["exponent"] == pytest.approx(slope, abs=1e-9)
    assert (tmp_path / "cost_cpu.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "cost_cpu.pdf").read_bytes().startswith(b"%PDF")


def test_spikingjelly_is_the_same_network_in_evaluation(jelly):
    """A narrow model whose neurons fire, and SpikingJelly's with its weights; float64."""
    model = Transfer_VGG_SNN(num_classes=5, step=3, event_size=16, width_divisor=8).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias, 0, 0.5)
            module.running_var.uniform_(0.05, 0.3)
    streams = 3 * torch.rand(2, 4, 3, 2, 16, 16, dtype=torch.float64)
    found = []
    for network in (model, jelly.SpikingJellyVGG(model)):
        out = network.eval()(*streams)
        parts = [p for s in (out.static, out.event) for p in (s.logits, s.tap, s.spikes)]
        sum(part.sin().sum() for part in parts).backward()
        found.append((parts, [p.grad for p in network.parameters() if p.grad is not None]))
    assert 0.01 < found[0][0][-1].mean() < 0.99
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-10)
    torch.testing.assert_close(their_gradients, our_gradients, rtol=1e-9, atol=1e-9)


def test_spikingjelly_step_writes_the_documented_rows(jelly, tmp_path, capsys):
    with torch._dynamo.config.patch(disable=True):
        assert jelly.run([*TINY, str(tmp_path / "jelly.json")]) == 0
    found = record(tmp_path / "jelly.json")
    assert found["versions"]["spikingjelly"] and found["spikingjelly_neurons"] == "torch-reference"
    expected = [(m, d) for d in ("float32", "bf16") for m in ("step_time", "peak_memory")]
    assert [(r["metric"], r["dtype"]) for r in found["rows"]] == expected
    for r in found["rows"]:
        assert r["fused_over_spikingjelly"] == pytest.approx(r["fused"] / r["spikingjelly"])
        assert r["fused_over_step"] == pytest.approx(r["fused"] / r["step"])
        assert r["compiled"] is None and r["fused_over_compiled"] is None  # switched off
    assert "mean and variance over all T B samples" in capsys.readouterr().out


def test_gpu_says_so_without_one_and_writes_what_ran_though_a_part_fails(
    scripts, monkeypatch, tmp_path
):
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="sees no GPU"):
        gpu.run(["--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()

    def broken():
        raise RuntimeError("memory grew")

    rows = [{"metric": "step_time", "dtype": "bf16", "step": 2.0, "fused": 0.5, "ratio": 0.25}]
    monkeypatch.setattr(gpu, "PARTS", {"step": lambda: {"rows": rows}, "memory": broken})
    monkeypatch.setattr(gpu, "hardware", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.run(["--output", str(tmp_path), "--only", "step", "memory"]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["hardware"] == "a card" and found["parts"]["step"]["rows"] == rows
    text = (tmp_path / "gpu.md").read_text()
    assert "- step_time, bf16: step 2, fused 0.5, ratio 0.25" in text
    assert "- error: RuntimeError: memory grew" in text


def test_rerun_against_sums_by_hand(scripts):
    import rerun

    rows = [("a", 1, 90.0), ("a", 2, 92.0), ("b", 1, 50.0), ("b", 2, 60.0)]
    first = pd.DataFrame(rows, columns=["row", "seed", "top1_last"])
    again = first.assign(top1_last=[91.0, 91.0, 53.0, 64.0]).iloc[[1, 0, 2]]  # one run less
    lines = rerun.compared(first, again, [])
    assert rerun.compared(first, again, ["b"])[:-1] == lines[:1]
    assert lines == [
        ["a", "2", "91.00", "91.00", "+0.00", "1.00"],
        ["b", "1", "50.00", "53.00", "+3.00", "3.00"],
        ["all runs", "3", "77.33", "78.33", "+1.00", "1.91"],
    ]
    with pytest.raises(UserError, match="no row and seed in common"):
        rerun.compared(first, again.assign(row=["c", "d", "e"]), [])
