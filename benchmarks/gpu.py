"""Everything that needs a GPU, within 9 minutes, into one JSON and one Markdown file.

    bash benchmarks/gpu.sh                          # writes results/performance/gpu.json and gpu.md
    bash benchmarks/gpu.sh --output results/gpu --only tests step

Parts: tests (pytest -m gpu), step (one TMKT step of VGG, T = 10, 48 x 48, batch 120), small (of
SCNN, T = 10, 28 x 28, batch 32), spikingjelly (the step of VGG beside SpikingJelly, where that is
installed), memory (tensors on the GPU over 200 steps, which must stay the same), training (two
epochs of TMKT on a stand-in with the names and numbers of files of N-Caltech101). A part that fails
is reported, and the others run.
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from workload import Bench, Workload, hardware, main

from tmkt_braincog.data.ncaltech101 import CLASSES, COUNTS
from tmkt_braincog.engine.folder import write_json
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import TMKT

REPOSITORY = Path(__file__).resolve().parent.parent
STEPS, SETTLED = 200, 20  # steps watched, and after which memory must not grow


def tests() -> dict:
    done = _run("-m pytest -m gpu -q -n 4 -p no:cacheprovider tests")
    return {"summary": done.strip().splitlines()[-1]}


def step(words: str = "step.py") -> dict:
    with tempfile.TemporaryDirectory() as folder:
        _run(f"benchmarks/{words} --device cuda --json {folder}/step.json")
        return {"rows": json.loads(Path(folder, "step.json").read_text())["rows"]}


def small() -> dict:
    return step("step.py --model Transfer_SCNN --size 28 --batch 32 --dtype float32")


def spikingjelly() -> dict:
    if not find_spec("spikingjelly"):
        return {"left out": "SpikingJelly is not installed: pip install -e .[bench]"}
    return step("spikingjelly_step.py")


def memory() -> dict:
    workload = Workload("cuda", 32, 10, 48)
    bench = Bench(workload, workload.build("fused"), TMKT, "bf16")
    seen = []
    for _ in range(STEPS):
        bench.step()
        seen.append(torch.cuda.memory_allocated() / 2**20)
    settled, last = seen[SETTLED], seen[-1]
    if last > settled + 1:
        raise RuntimeError(f"memory grew from {settled:.1f} to {last:.1f} MiB by step {STEPS}")
    return {"MiB after step 20": settled, "MiB after step 200": last}


def training() -> dict:
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "data")]
    import standins
    from writers import random_events

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        counts = dict(zip(CLASSES, COUNTS, strict=True))
        standins.write_ncaltech101(root, [random_events(2000, seed=k) for k in range(20)], counts)
        words = "--epochs 2 --warmup-epochs 0 --amp bf16 --device cuda --no-tensorboard"
        _run(f"main_transfer.py -c ncaltech --data-root {root} --output {root}/out {words}")
        (result,) = root.glob("out/runs/*/result.json")
        found = json.loads(result.read_text())
    return {"seconds of 2 epochs": found["train_s"], "peak MiB": found["peak_mib"]}


PARTS = {part.__name__: part for part in (tests, step, small, spikingjelly, memory, training)}


def _run(words: str) -> str:
    """The output of a Python program."""
    line = [sys.executable, *words.split()]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def measure(names: list[str], output: Path) -> dict[str, dict]:
    """The result of every part, its seconds, ``error`` where it failed; written as each ends."""
    card, versions = hardware("cuda"), {"torch": torch.__version__, "numpy": np.__version__}
    found = {}
    for name in names:
        started = time.perf_counter()
        try:
            found[name] = PARTS[name]()
        except Exception as error:  # the other parts can still say something
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        found[name]["seconds"] = round(time.perf_counter() - started, 1)
        print(to_markdown(name, found[name]), flush=True)
        write_json(output / "gpu.json", {"hardware": card, "versions": versions, "parts": found})
        text = [f"# {card}", "", ", ".join(f"{n} {v}" for n, v in versions.items()), ""]
        text += [to_markdown(*part) for part in found.items()]
        (output / "gpu.md").write_text("\n".join(text))
    return found


def to_markdown(name: str, part: dict) -> str:
    lines = [f"## {name} ({part['seconds']} s)", ""]
    for row in part.get("rows", ()):
        values = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, int | float))
        lines.append(f"- {row['metric']}, {row['dtype']}: {values}")
    lines += [f"- {key}: {value}" for key, value in part.items() if key not in ("rows", "seconds")]
    return "\n".join([*lines, ""])


def run(argv: list[str]) -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    folder = REPOSITORY / "results" / "performance"
    parser.add_argument("--output", type=Path, default=folder, metavar="DIR")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise UserError(f"torch {torch.__version__} sees no GPU: there is nothing to measure.")
    parts = measure(options.only, options.output)
    return 1 if any("error" in part for part in parts.values()) else 0


if __name__ == "__main__":
    main(run)
