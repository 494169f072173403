"""Command lines as processes with a log: here, or as one SLURM job array by submitit."""

import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .errors import UserError

STOP_SECONDS = 80  # a job's time to save; by submitit's default SLURM warns 90 s before it kills


def start(command: Sequence[str], log: Path, **how: Any) -> subprocess.Popen:
    """The command as a process that appends all it says to ``log``, under the command itself."""
    _note(log, f"\n$ {shlex.join(command)}")
    with log.open("a") as file:
        how |= {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, **how)


def _note(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"{text}\n")


def submit(
    jobs: Sequence[tuple[list[str], Path]], parameters: dict[str, Any], folder: Path
) -> list["Submitted"]:
    """Submit commands, each with its log, as one array; submitit's own files are in ``folder``.

    ``parameters`` are submitit's, without prefix, with ``time``, of one job in minutes. A UserError
    where there is no submitit or no SLURM, or for parameters that they refuse.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("--slurm needs submitit: pip install 'tmkt-braincog[slurm]'") from error
    if not isinstance(minutes := parameters.get("time", ""), int):
        raise UserError(f"--slurm time={minutes}: expected minutes for one job, such as time=720.")
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster="slurm")
        asked = {f"slurm_{key}": value for key, value in parameters.items()}
        executor.update_parameters(name="tmkt", stderr_to_stdout=True, **asked)
        handles = executor.map_array(Task(), *zip(*jobs, strict=True))
    except Exception as error:  # submitit raises many types, also for what sbatch refuses
        refused = f"SLURM did not take the jobs: {error} Correct --slurm; it needs a login node."
        raise UserError(refused) from error
    return [Submitted(handle, log) for handle, (_, log) in zip(handles, jobs, strict=True)]


class Task:
    """A command on a node. Told that its time is over, it lets it save and is queued again."""

    def __call__(self, command: list[str], log: Path) -> int:
        # SLURM may send its warning to all processes of the job; it is meant for this one.
        deaf = partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN)
        self.process = start(command, log, preexec_fn=deaf)
        while self.process.poll() is None:
            time.sleep(1)
        return self.process.returncode

    def checkpoint(self, command: list[str], log: Path) -> Any:
        """Called by submitit; what to submit instead."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        return DelayedSubmission(Task(), command, log)


@dataclass
class Submitted:
    """A job on the cluster, to be asked as a process is."""

    handle: Any
    log: Path
    status: int | None = None

    def poll(self) -> int | None:
        if self.status is None and self.handle.done():
            try:
                self.status = self.handle.result()
            except Exception as error:  # the node, memory or time gave out: the job could not say
                _note(self.log, f"error: SLURM job {self.handle.job_id}: {error}")
                self.status = 1
        return self.status

    def terminate(self) -> None:
        if self.status is None:
            self.handle.cancel(check=False)  # SIGTERM first, so that a running job saves
            self.status = 128 + signal.SIGTERM
