"""One training step, the fused executor against the step loop, in one run.

    python benchmarks/step.py                 # VGG, T = 10, 48 x 48, batch 8 on a CPU, 120 on a GPU
    python benchmarks/step.py --device cuda --json step.json

Rows (ratio = fused / step unless the row says otherwise): step_time of a full TMKT step (both
streams, all losses, backward, AdamW), first_step (fresh: loading or compiling included),
reference_time (in place of our step loop that of the reference: BrainCog's neurons as they are and,
on a CPU, the allocator's defaults, in a process of its own), peak_memory of its tensors above what
is there between steps, matmul_share: FLOPs of convolutions and linear layers over the time, as a
share of the fastest convolution measured here, data_share: putting a batch together with
augmentation over the step, tmkt_over_baseline. Times are the best of --repeat, after one step to
warm up (compiling). On a CPU freed memory is kept by the process, as main_transfer.py does.

JSON: {"hardware", "versions", "rows": [{"metric", "dtype", "step", "fused", "ratio"}]}; seconds,
MiB, shares.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from timm.models import list_models
from torch.utils.flop_counter import FlopCounterMode
from workload import (
    Bench,
    Workload,
    add_shape,
    best,
    finish,
    main,
    parser,
    prepare,
    shape,
    time_and_memory,
)

from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.models import TransferModel

# Channels and side of the convolutions, and side of the matrices, that the fastest rate is
# measured with.
PROBES, MATRIX = ((256, 24), (512, 12), (512, 6)), 2048
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
EXECUTORS = ("step", "fused")


def flops(workload: Workload) -> float:
    """Of the convolutions and linear layers in one step: forward, and twice that backward."""
    model = workload.build("step").eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.zeros(1, workload.steps, 2, workload.size, workload.size))
    return 3 * 2 * workload.batch * counted.get_total_flops()


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Per second, of the fastest of some plain 3 x 3 convolutions and of a matrix product."""
    found = []
    for channels, side in PROBES:
        x = torch.randn(160, channels, side, side, device=device, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        F.conv2d(x, w, padding=1)
        seconds = best(lambda x=x, w=w: F.conv2d(x, w, padding=1), device, 3)
        found.append(2 * 9 * x.numel() * channels / seconds)
    a = torch.randn(MATRIX, MATRIX, device=device, dtype=dtype)
    return max(*found, 2 * MATRIX**3 / best(lambda: a @ a, device, 5))


def fresh(function, *arguments) -> float:
    """What the function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def reference_seconds(workload: Workload, dtype: str, repeat: int) -> float:
    """Of a step of the loop without what this project changes in it; to be called in a process."""
    TransferModel.finish = lambda model: None  # the neurons stay BrainCog's
    TransferModel._rest = lambda model: None
    return Bench(workload, workload.build("step"), TMKT, dtype).seconds(repeat)


def first_seconds(workload: Workload, executor: str, dtype: str) -> float:
    """Of the first step of a process."""
    bench = Bench(workload, workload.build(executor), TMKT, dtype)
    return best(bench.step, torch.device(workload.device), 1)


def measure(workload: Workload, repeat: int, dtypes: list[str]) -> list[dict]:
    device, rows, work = torch.device(workload.device), [], flops(workload)
    for dtype in dtypes:
        first = [fresh(first_seconds, workload, e, dtype) for e in EXECUTORS]
        reference = fresh(reference_seconds, workload, dtype, repeat)
        cost = [time_and_memory(workload, workload.build(e), dtype, repeat) for e in EXECUTORS]
        seconds, memory = zip(*cost, strict=True)
        plain = (Bench(workload, workload.build(e), Baseline, dtype) for e in EXECUTORS)
        baseline = [bench.seconds(repeat) for bench in plain]
        peak, pairs = peak_flops(device, DTYPES[dtype]), workload.pairs()
        data = best(lambda pairs=pairs: pairs[list(range(workload.batch))], device, 5)
        found = {
            "step_time": seconds,
            "first_step": first,
            "reference_time": (reference, seconds[1]),
            "peak_memory": memory,
            "matmul_share": [work / s / peak for s in seconds],
            "tmkt_over_baseline": [s / b for s, b in zip(seconds, baseline, strict=True)],
            "data_share": [data / s for s in seconds],
        }
        rows += [
            {"metric": m, "dtype": dtype, "step": step, "fused": fused, "ratio": fused / step}
            for m, (step, fused) in found.items()
        ]
    return rows


def run(argv: list[str]) -> int:
    options = parser(__doc__)
    options.add_argument("--model", default="Transfer_VGG_SNN", choices=list_models("Transfer_*"))
    options.add_argument("--width-divisor", type=int, default=1, metavar="N", help="default: 1")
    add_shape(options)
    options = options.parse_args(argv)
    workload = Workload(model=options.model, width_divisor=options.width_divisor, **shape(options))
    prepare(options)
    return finish(options, workload, measure(workload, options.repeat, options.dtype))


if __name__ == "__main__":
    main(run)
