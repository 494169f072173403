"""A training without a stop and one that is killed ten times, in FOLDER/whole and FOLDER/killed.

FOLDER WORDS...; everything is imported once, and each program is forked from this one. The moments
are random, drawn from a fixed seed, within a quarter of what the whole run took. One line
of JSON for every program: signal, exit status (or minus the signal) and epochs saved so far.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import tmkt_braincog.engine.compare  # noqa: F401  (imported for the children)
from tmkt_braincog.cli import main

KILLS = 10


def start(output: Path, words: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        random.seed(1)  # a fork seeds Python's generator anew, and its state is in a checkpoint
        status = main(["train", *words, "--output", str(output), "--resume"])
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tell(output: Path, signum: int, status: int) -> None:
    logs = [*output.glob("runs/*/log.csv")]
    epochs = max([0, *(len(log.read_text().splitlines()) - 1 for log in logs)])
    print(json.dumps({"at": signum, "status": status, "epoch": epochs}), flush=True)


if __name__ == "__main__":
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    rng = random.Random(7)
    started = time.perf_counter()
    status = ended(start(folder / "whole", words))
    seconds = time.perf_counter() - started
    tell(folder / "whole", 0, status)
    output = folder / "killed"
    for kill in range(KILLS):
        child, signum = start(output, words), (signal.SIGKILL, signal.SIGTERM)[kill % 2]
        time.sleep(rng.uniform(0, 0.25) * seconds)
        os.kill(child, signum)
        tell(output, signum, ended(child))
    status = status or ended(start(output, words))
    tell(output, 0, status)
    sys.exit(status)
