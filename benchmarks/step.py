"""One training step, the fused executor against the step loop, in one run.

    python benchmarks/step.py                       # VGG, T = 10, 48 x 48, batch 8 on a CPU, 120 on a GPU
    python benchmarks/step.py --device cuda --json step.json

Rows (ratio = fused / step unless the row says otherwise): step_time of a full TMKT step (both streams, all losses,
backward, AdamW), peak_memory of its tensors above what is there between steps, matmul_share: FLOPs of convolutions
and linear layers over the time, as a share of the fastest convolution measured here, data_share: putting a batch together
with augmentation over the step, tmkt_over_baseline. Times are the best of --repeat, after one step to warm up
(compiling). On a CPU freed memory is kept by the process, as main_transfer.py does.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models import create_model
from torch.profiler import ProfilerActivity, profile

import tmkt_braincog.models  # noqa: F401
from tmkt_braincog.data import TSMDataset
from tmkt_braincog.engine.memory import keep_freed_memory
from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.mixing import Progress

CLASSES = 101
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


class Bench:
    """A model, a method and a batch, and one step of them."""

    def __init__(self, options: argparse.Namespace, method: type, executor: str, dtype: str):
        torch.manual_seed(0)
        self.device, self.dtype = torch.device(options.device), dtype
        self.model = create_model(
            options.model, num_classes=CLASSES, step=options.steps, event_size=options.size
        )
        self.model.executor = executor
        self.model.to(self.device)
        features = {"features": self.model.num_features} if method is TMKT else {}
        self.method = method(steps=options.steps, **features).to(self.device)
        self.modules = torch.nn.ModuleDict({"model": self.model, "method": self.method})
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), lr=1e-4)
        self.batch = pairs(options)[list(range(options.batch))].to(self.device)

    def step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            losses = self.method(self.model, self.batch, Progress(1, 2))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimizer.step()

    def seconds(self, repeat: int) -> float:
        self.step()
        return best(self.step, self.device, repeat)

    def peak_bytes(self) -> int:
        """Of tensors, above what is allocated between steps."""
        if self.device.type == "cuda":
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step()
            return torch.cuda.max_memory_allocated(self.device) - before
        self.optimizer.zero_grad(set_to_none=True)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self.step()
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        now = highest = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            highest = max(highest, now)
        return highest


def pairs(options: argparse.Namespace) -> TSMDataset:
    g = torch.Generator().manual_seed(0)
    n, side = options.batch, options.size
    labels = torch.arange(n) % CLASSES
    frames = torch.rand(n, options.steps, 2, side, side, generator=g) * 3
    images = torch.randint(0, 256, (n, side, side), generator=g, dtype=torch.uint8)
    return TSMDataset(frames.to(options.device), labels, images.to(options.device), labels, augment="crop")


def best(function, device: torch.device, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times)


def flops(bench: Bench) -> float:
    """Of the convolutions and linear layers in one step: forward, and twice that backward."""
    per_sample = 0

    def count(layer, inputs, output):
        nonlocal per_sample
        per_sample += 2 * layer.weight[0].numel() * output[0].numel()

    layers = [m for m in bench.model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    hooks = [m.register_forward_hook(count) for m in layers]
    executor, bench.model.executor = bench.model.executor, "step"
    with torch.no_grad():
        bench.model.eval()(bench.batch.events[:1])
    bench.model.train()
    bench.model.executor = executor
    for hook in hooks:
        hook.remove()
    return 3 * 2 * len(bench.batch.label) * per_sample


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Per second, of the fastest of some plain 3 x 3 convolutions and of a matrix product."""
    found = []
    for channels, side in ((256, 24), (512, 12), (512, 6)):
        x = torch.randn(160, channels, side, side, device=device, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        F.conv2d(x, w, padding=1)
        found.append(
            2 * 9 * x.numel() * channels / best(lambda x=x, w=w: F.conv2d(x, w, padding=1), device, 3)
        )
    a = torch.randn(2048, 2048, device=device, dtype=dtype)
    return max(*found, 2 * 2048**3 / best(lambda: a @ a, device, 5))


def measure(options: argparse.Namespace) -> list[dict]:
    device, rows = torch.device(options.device), []
    for dtype, kind in DTYPES.items():
        seconds, memory = {}, {}
        for executor in ("step", "fused"):
            bench = Bench(options, TMKT, executor, dtype)
            seconds[executor] = bench.seconds(options.repeat)
            memory[executor] = bench.peak_bytes() / 2**20
        rows.append(row("step_time", dtype, seconds["step"], seconds["fused"]))
        rows.append(row("peak_memory", dtype, memory["step"], memory["fused"]))
        peak, work = peak_flops(device, kind), flops(bench)
        shares = [work / seconds[e] / peak for e in ("step", "fused")]
        rows.append(row("matmul_share", dtype, *shares))
        baseline = [Bench(options, Baseline, e, dtype).seconds(options.repeat) for e in ("step", "fused")]
        rows.append(
            row(
                "tmkt_over_baseline", dtype, *(seconds[e] / b for e, b in zip(seconds, baseline, strict=True))
            )
        )
        data = pairs(options)
        items = list(range(options.batch))
        spent = best(lambda data=data, items=items: data[items], device, 5)
        rows.append(row("data_share", dtype, spent / seconds["step"], spent / seconds["fused"]))
    return rows


def row(metric: str, dtype: str, step: float, fused: float) -> dict:
    return {"metric": metric, "dtype": dtype, "step": step, "fused": fused, "ratio": fused / step}


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", default="Transfer_VGG_SNN")
    parser.add_argument("--batch", type=int, help="default: 8 on a CPU, 120 on a GPU")
    parser.add_argument("--steps", type=int, default=10, help="T (default: 10)")
    parser.add_argument("--size", type=int, default=48, help="pixels (default: 48)")
    parser.add_argument("--repeat", type=int, default=3, help="best of so many steps (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda, but torch sees no GPU.")
    options.batch = options.batch or {"cpu": 8, "cuda": 120}[options.device]
    if options.device == "cpu":
        keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    rows = measure(options)
    units = {"step_time": "s", "peak_memory": "MiB"}
    where = hardware(options.device)
    print(
        f"{options.model}, batch {options.batch}, T = {options.steps}, {options.size} x {options.size}; {where}; torch {torch.__version__}"
    )
    print(f"{'metric':20} {'dtype':8} {'step':>10} {'fused':>10} {'ratio':>7}")
    for r in rows:
        unit = units.get(r["metric"], "")
        print(
            f"{r['metric']:20} {r['dtype']:8} {r['step']:10.4g} {r['fused']:10.4g} {r['ratio']:7.2f} {unit}"
        )
    times = {r["dtype"]: r for r in rows if r["metric"] == "step_time"}
    print(f"bf16 fused over float32 step loop: {times['bf16']['fused'] / times['float32']['step']:.2f}")
    if options.json:
        record = {"hardware": where, "versions": {"torch": torch.__version__}, "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
