"""A training without a stop and one that is killed ten times, in FOLDER/whole and FOLDER/killed.

FOLDER WORDS...; everything is imported once, and each program is forked from this one. The moments
are random, drawn from a fixed seed, within a quarter of what the whole run took. One line of JSON
for every program: signal, exit status (or minus the signal) and epochs saved so far.
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
    if child := os.fork():
        return child
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        random.seed(1)  # a fork seeds Python's generator anew, and its state is in a checkpoint
        status = main(["train", *words, "--output", str(output), "--resume"])
    finally:
        os._exit(status)


def end(child: int, output: Path, signum: int = 0) -> int:
    """Wait for it; its exit status."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    logs = [*output.glob("runs/*/log.csv")]
    epochs = max([0, *(len(log.read_text().splitlines()) - 1 for log in logs)])
    print(json.dumps({"at": signum, "status": status, "epoch": epochs}), flush=True)
    return status


if __name__ == "__main__":
    whole, killed, words = Path(sys.argv[1], "whole"), Path(sys.argv[1], "killed"), sys.argv[2:]
    torch.set_num_threads(1)
    rng = random.Random(7)
    started = time.perf_counter()
    status = end(start(whole, words), whole)
    seconds = time.perf_counter() - started
    for kill in range(KILLS):
        child, signum = start(killed, words), (signal.SIGKILL, signal.SIGTERM)[kill % 2]
        time.sleep(rng.uniform(0, 0.25) * seconds)
        os.kill(child, signum)
        end(child, killed, signum)
    sys.exit(status or end(start(killed, words), killed))
