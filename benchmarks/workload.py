"""What the benchmarks of a training step share: the step itself, its time, its memory, and where it
ran."""

import gc
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from timm.models import create_model
from torch import nn
from torch.profiler import ProfilerActivity, profile

import tmkt_braincog.models  # noqa: F401
from tmkt_braincog.data import TSMDataset
from tmkt_braincog.engine.folder import processor, write_json
from tmkt_braincog.engine.memory import keep_freed_memory
from tmkt_braincog.errors import UserError, guarded
from tmkt_braincog.methods import TMKT
from tmkt_braincog.mixing import Progress
from tmkt_braincog.models import TransferModel


@dataclass(frozen=True)
class Workload:
    """What is trained on: ``batch`` random recordings ``[steps, 2, size, size]`` with their images.

    Raises:
        UserError: a batch below 2 (CKA compares samples) or another number below 1.
    """

    device: str
    batch: int
    steps: int
    size: int
    classes: int = 101
    model: str = "Transfer_VGG_SNN"
    width_divisor: int = 1

    def __post_init__(self):
        for name, least in (("batch", 2), ("steps", 1), ("size", 1), ("classes", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}: expected at least {least}.")

    def __str__(self) -> str:
        widths = "" if self.width_divisor == 1 else f" / {self.width_divisor}"
        return (
            f"{self.model}{widths}, batch {self.batch}, T = {self.steps}, "
            f"{self.size} x {self.size}, {self.classes} classes"
        )

    def build(self, executor: str) -> TransferModel:
        """The model with the same initial weights each time."""
        torch.manual_seed(0)
        options = {"num_classes": self.classes, "step": self.steps, "event_size": self.size}
        model = create_model(self.model, width_divisor=self.width_divisor, **options)
        model.executor = executor
        return model

    def pairs(self) -> TSMDataset:
        g = torch.Generator().manual_seed(0)
        labels = torch.arange(self.batch) % self.classes
        frames = torch.rand(self.batch, self.steps, 2, self.size, self.size, generator=g) * 3
        images = torch.randint(
            0, 256, (self.batch, self.size, self.size), generator=g, dtype=torch.uint8
        )
        return TSMDataset(
            frames.to(self.device), labels, images.to(self.device), labels, augment="crop"
        )


class Bench:
    """One step of a training, again and again: both streams, all losses, backward, AdamW.

    Args:
        model: takes and returns what a ``TransferModel`` does.
        method: ``TMKT`` or ``Baseline``.
        dtype: ``float32`` or ``bf16`` (autocast).
    """

    def __init__(self, workload: Workload, model: nn.Module, method: type, dtype: str):
        torch.manual_seed(0)
        self.device, self.dtype = torch.device(workload.device), dtype
        self.model = model.to(self.device)
        features = {"features": model.num_features} if method is TMKT else {}
        self.method = method(steps=workload.steps, **features).to(self.device)
        self.modules = nn.ModuleDict({"model": self.model, "method": self.method})
        self.optimizer = torch.optim.AdamW(self.modules.parameters(), lr=1e-4)
        self.batch = workload.pairs()[list(range(workload.batch))].to(self.device)

    def step(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            losses = self.method(self.model, self.batch, Progress(1, 2))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimizer.step()

    def seconds(self, repeat: int) -> float:
        """The best of ``repeat`` steps, after one to warm up (compiling)."""
        self.step()
        return best(self.step, self.device, repeat)

    def peak_bytes(self) -> int:
        """Of tensors, gradients included, above what is allocated between steps."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step()
            return torch.cuda.max_memory_allocated(self.device) - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self.step()
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        now = highest = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            highest = max(highest, now)
        return highest


def best(function, device: torch.device, repeat: int) -> float:
    """Seconds of the fastest of ``repeat`` calls."""
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


def time_and_memory(
    workload: Workload, model: nn.Module, dtype: str, repeat: int
) -> tuple[float, float]:
    """Seconds and peak MiB of a TMKT step of ``model``; what was measured before is freed first."""
    gc.collect()
    if workload.device == "cuda":
        torch.cuda.empty_cache()
    bench = Bench(workload, model, TMKT, dtype)
    return bench.seconds(repeat), bench.peak_bytes() / 2**20


def parser(description: str) -> ArgumentParser:
    """The options that all these benchmarks have."""
    made = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    made.add_argument("--repeat", type=int, default=3, help="best of so many steps (default: 3)")
    return made


def add_shape(made: ArgumentParser) -> None:
    made.add_argument("--batch", type=int, help="default: 8 on a CPU, 120 on a GPU")
    made.add_argument("--steps", type=int, default=10, help="T (default: 10)")
    made.add_argument("--size", type=int, default=48, help="pixels (default: 48)")
    both = ("float32", "bf16")
    made.add_argument("--dtype", nargs="+", choices=both, default=both, help="default: both")
    made.add_argument("--json", type=Path, metavar="FILE")


def shape(options: Namespace) -> dict:
    """The options of :func:`add_shape`, for a :class:`Workload`."""
    batch = {"cpu": 8, "cuda": 120}[options.device] if options.batch is None else options.batch
    return {"device": options.device, "batch": batch, "steps": options.steps, "size": options.size}


def prepare(options: Namespace) -> None:
    """Check the options and set the process up as ``main_transfer.py`` does.

    Raises:
        UserError: a GPU is asked for and there is none; nothing is to be repeated.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no GPU. Use --device cpu.")
    if options.repeat < 1:
        raise UserError(f"--repeat {options.repeat}: expected at least 1.")
    if options.device == "cpu":
        keep_freed_memory()


def hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} threads"


def write(path: Path, device: str, rows: list[dict], versions: dict | None = None, **more) -> None:
    """The JSON record of a run: hardware, versions, what else there is, rows."""
    versions = {"torch": torch.__version__} | (versions or {})
    write_json(path, {"hardware": hardware(device), "versions": versions, **more, "rows": rows})


def finish(options: Namespace, workload: Workload, rows: list[dict], **more) -> int:
    """Print the rows and write them where ``--json`` says."""
    print(f"{workload}; {hardware(workload.device)}; torch {torch.__version__}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format, na_rep="-"))
    if options.json:
        write(options.json, workload.device, rows, **more)
    return 0


def main(run: Callable[[list[str]], int]) -> None:
    """Run the words of the command line; an error of the user's is one line."""
    sys.exit(guarded(lambda: run(sys.argv[1:])))
