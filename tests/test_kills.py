"""Killed while training, saving or making a table: the next time all ends as if it never was."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.engine.test_resume import COSTS, assert_same
from tests.program import run_here, run_sweep
from tests.table_runs import SMALL
from tmkt_braincog import jobs
from tmkt_braincog.engine import train
from tmkt_braincog.engine.folder import LOCK, OWNER
from tmkt_braincog.files import replacing

WORDS = [*SMALL, "--model", "Transfer_SCNN", "--event-size", "16", "--vary", "seed=1,2"]
WORDS += ["--method", "event-only"]
FILES = ("open", "os.rename", "os.mkdir", "os.remove", "os.truncate")
TIMED = ("environment.json", "comparison.md")  # they say how long it took
KILLS = 30
FORK = multiprocessing.get_context("fork")


def sweep(output: Path, count=None, moment=None, signum=None) -> None:
    """Two trainings and their table; dead at its ``moment``-th file or step, all counted."""

    def one_more() -> None:
        count.value += 1
        if count.value == moment:
            os.kill(os.getpid(), signum)

    def opened(event: str, args: tuple) -> None:
        if event in FILES and str(output) in str(args[0]):
            one_more()

    def stepped(self, *given, step=train.Trainer._step):
        one_more()
        return step(self, *given)

    torch.set_num_threads(1)  # OpenMP's threads do not outlive a fork
    if count is not None:
        sys.addaudithook(opened)
        train.Trainer._step = stepped
    jobs.start = run_here  # not in processes of their own, which would import all
    sys.exit(run_sweep([*WORDS, "--output", str(output)]))


def run(*given) -> int | None:
    process = FORK.Process(target=sweep, args=given)
    process.start()
    process.join()
    return process.exitcode


def contents(output: Path) -> dict:
    """Of every file what is not time, memory or how often it was begun."""
    found = {}
    for path in sorted(p for p in output.rglob("*") if p.is_file() and p.name not in (LOCK, OWNER)):
        name = str(path.relative_to(output))
        if path.suffix == ".pt":
            found[name] = torch.load(path, weights_only=True)
        elif path.suffix == ".csv":
            frame = pd.read_csv(path).drop(columns=COSTS, errors="ignore")
            found[name] = frame.to_dict("list")
        elif path.name == "result.json":
            found[name] = json.loads(path.read_text())
        elif path.suffix in (".log", ".pdf") or path.name in TIMED:
            found[name] = None
        else:
            found[name] = path.read_bytes()
    return found


def test_what_a_killed_program_left_goes_and_what_others_write_stays(tmp_path):
    host, dead = socket.gethostname(), FORK.Process(target=int)
    dead.start()
    dead.join()
    left = [f".a.{host}-{n}.tmp" for n in (dead.pid, os.getppid(), f"2-{dead.pid}")]
    for name in left:
        (tmp_path / name).touch()
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a", *left[1:]}


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    output, count = tmp_path / "out", FORK.RawValue("i")
    assert run(output, count) == 0
    expected, rng, ends = contents(output), random.Random(0), Counter()
    names = {Path(name).name for name in expected}
    assert count.value > 100 and {"last.pt", "best.pt", "sweep.csv", "sweep.json"} < names
    for trial in range(KILLS):
        if trial % 2 == 0:  # a second kill follows the first one
            shutil.rmtree(output)
        moment, signum = rng.randrange(1, count.value), (signal.SIGKILL, signal.SIGTERM)[trial % 2]
        ends[run(output, FORK.RawValue("i"), moment, signum)] += 1
        if trial % 2:
            assert run(output) == 0
            assert_same(contents(output), expected, f"killed at {moment}")
    assert ends[-signal.SIGKILL] == KILLS / 2 > 2 * ends[0], ends  # a signal may come too late
