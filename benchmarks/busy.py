"""A training step on a busy machine: alone, two trainings at once, and beside two processes that
compute all the time.

    python benchmarks/busy.py               # Transfer_SCNN, fused, batch 32; about three minutes
    python benchmarks/busy.py --json busy.json

Every row is one setting of the threads: as PyTorch does by itself, where a thread that waits for
the next piece of work keeps its core for milliseconds; with a short wait before it sleeps
(GOMP_SPINCOUNT, what ``tmkt`` and main_transfer.py set unless the user has set this or
OMP_WAIT_POLICY); sleeping at once (OMP_WAIT_POLICY=PASSIVE); and with one thread a process (what
``--jobs`` gives each job when there are as many jobs as cores). Numbers are mean seconds of a step
over --seconds.

JSON: {"hardware", "versions", "rows": [{"threads", "alone", "two", "busy"}]}; seconds.
"""

import os
import subprocess
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import contextmanager
from pathlib import Path

from workload import Bench, Workload, finish, main

from tmkt_braincog.cli import SPIN_COUNT
from tmkt_braincog.engine.memory import keep_freed_memory
from tmkt_braincog.methods import TMKT

SETTINGS = {
    "as PyTorch": {},
    "short wait": {"GOMP_SPINCOUNT": SPIN_COUNT},
    "no wait": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
WORKLOAD = Workload("cpu", batch=32, steps=10, size=28, classes=10, model="Transfer_SCNN")
BUSY = "while True: pass"


def steps(seconds: float) -> float:
    """Mean seconds of a step, after some to warm up; at least three."""
    keep_freed_memory()
    bench = Bench(WORKLOAD, WORKLOAD.build("fused"), TMKT, "float32")
    for _ in range(3):
        bench.step()
    n, started = 0, time.perf_counter()
    while n < 3 or time.perf_counter() - started < seconds:
        bench.step()
        n += 1
    return (time.perf_counter() - started) / n


def trainings(count: int, setting: dict[str, str], seconds: float) -> float:
    """Mean seconds of a step of ``count`` trainings at once."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "MKL_"))}
    line = [sys.executable, str(Path(__file__).resolve()), "--one", str(seconds)]
    running = [
        subprocess.Popen(line, env=plain | setting, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    found = [process.communicate()[0] for process in running]
    return sum(map(float, found)) / count


@contextmanager
def neighbours(count: int):
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(seconds: float) -> list[dict]:
    rows = []
    for name, setting in SETTINGS.items():
        alone, two = (trainings(count, setting, seconds) for count in (1, 2))
        with neighbours(2):
            busy = trainings(1, setting, seconds)
        rows.append({"threads": name, "alone": alone, "two": two, "busy": busy})
    return rows


def run(argv: list[str]) -> int:
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, metavar="FILE")
    options.add_argument("--seconds", type=float, default=15, help="of a measurement (default: 15)")
    options.add_argument(
        "--one", type=float, metavar="SECONDS", help="measure here, print only that"
    )
    options = options.parse_args(argv)
    if options.one is not None:
        print(steps(options.one))
        return 0
    return finish(options, WORKLOAD, measure(options.seconds))


if __name__ == "__main__":
    main(run)
