"""The commands of the program as functions: words after the command -> exit status."""

import contextlib
import shlex
from collections.abc import Callable, Sequence

from tmkt_braincog import jobs
from tmkt_braincog.cli import main


def command(*first: str) -> Callable[[Sequence[str]], int]:
    return lambda words: main([*first, *words])


run_train, run_data, run_teacher = command("train"), command("data"), command("teacher")
run_table, run_sweep, run_fewshot = (
    command("table"),
    command("table", "sweep"),
    command("table", "fewshot"),
)
run_figure, run_report = command("figure"), command("report")


class Ended:
    """What is left of a job that has run: as ``subprocess.Popen``."""

    def __init__(self, status: int):
        self.status = status

    def poll(self) -> int:
        return self.status

    def terminate(self) -> None:
        pass


def run_here(command, log, **how) -> Ended:
    """A job in this process, not one of its own, which would import all; see ``jobs.start``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        print(f"\n$ {shlex.join(command)}", flush=True)
        return Ended(main(["train", *command[len(jobs.PROGRAM) :]]))
