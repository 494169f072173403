"""The commands of the program as functions: words after the command -> exit status."""

import contextlib
import shlex
from functools import partial
from types import SimpleNamespace

from tmkt_braincog import jobs
from tmkt_braincog.cli import main

SMALL = (
    "--shots 2 --batch-size 8 --epoch-size 16 --epochs 2 --warmup-epochs 1 --eval-interval 1 "
    "--step 4 --no-tensorboard"
)


def command(first, words) -> int:
    return main([*first.split(), *words])


run_train, run_data, run_teacher = (partial(command, c) for c in ("train", "data", "teacher"))
run_table, run_figure, run_report = (partial(command, c) for c in ("table", "figure", "report"))
run_sweep, run_fewshot = partial(command, "table sweep"), partial(command, "table fewshot")


def run_here(command, log, **how) -> SimpleNamespace:
    """A job in this process, not one of its own, which would import all; see ``jobs.start``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        print(f"\n$ {shlex.join(command)}", flush=True)
        status = run_train(command[len(jobs.PROGRAM) :])
    return SimpleNamespace(poll=lambda: status, terminate=lambda: None)
