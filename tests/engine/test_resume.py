"""A run that is stopped, or killed, and resumed ends exactly like one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.program import run_train
from tmkt_braincog.engine import checkpoint, train
from tmkt_braincog.engine.evaluate import Metrics

# Parts that carry state across steps: the optimiser, learned coefficients, heads, mixing.
RUN = (
    "--shots 2 --batch-size 8 --epoch-size 32 --epochs 4 --warmup-epochs 1 --eval-interval 1 "
    "--step 4 --method tmkt --clip-grad 1 --seed 3 --device cpu"
)
COSTS = ("train_s", "peak_mib")


def run(output: Path, *words: str) -> int:
    return run_train([*RUN.split(), "--output", str(output), *words])


def folder(output: Path) -> Path:
    return output / "runs" / "tmkt-seed3"


def state(output: Path, name: str = "last.pt") -> dict:
    return torch.load(folder(output) / name, weights_only=True)


def assert_same(a, b, where: str = "state") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - set(COSTS):
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b or (a != a and b != b), where


def assert_same_runs(a: Path, b: Path) -> None:
    """Weights, log, result and table are equal, but for time and memory."""
    for name in ("last.pt", "best.pt"):
        assert_same(state(a, name), state(b, name), name)
    results = [json.loads((folder(output) / "result.json").read_text()) for output in (a, b)]
    assert_same(*results, "result.json")
    for file in ("runs/tmkt-seed3/log.csv", "comparison.csv"):
        tables = [pd.read_csv(o / file).drop(columns=[*COSTS], errors="ignore") for o in (a, b)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run(output) == 0
    return output


@pytest.mark.parametrize(
    "signum, stop_at", [(signal.SIGTERM, 6), (signal.SIGINT, 1), (signal.SIGINT, 8)]
)
def test_stopped_and_resumed_equals_uninterrupted(
    uninterrupted, tmp_path, monkeypatch, capsys, signum, stop_at
):
    """Stops inside an epoch, after the first step, and between an epoch and its evaluation."""
    steps, step = 0, train.Trainer._step

    def counted(self, batch, progress):
        nonlocal steps
        step(self, batch, progress)
        steps += 1
        if steps == stop_at:
            os.kill(os.getpid(), signum)

    monkeypatch.setattr(train.Trainer, "_step", counted)
    output = tmp_path / "out"
    assert run(output) == 128 + signum
    message = capsys.readouterr().err
    assert "--resume" in message and "last.pt" in message and steps == stop_at
    assert not (folder(output) / "result.json").exists()
    torch.manual_seed(12345)  # a fresh process has other global random numbers
    assert run(output, "--resume") == 0
    assert steps == 16
    assert_same_runs(uninterrupted, output)


@pytest.mark.parametrize("call, epoch", [(1, 0), (8, 3)])
def test_stopped_while_evaluating(uninterrupted, tmp_path, monkeypatch, capsys, call, epoch):
    """The signal comes when an evaluation, the first or the last, begins; no other run starts."""
    calls, evaluate_on = 0, train.Trainer.evaluate_on

    def counted(self, recordings):
        nonlocal calls
        calls += 1
        if calls == call:  # four epochs, test and validation in each
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_on(self, recordings)

    monkeypatch.setattr(train.Trainer, "evaluate_on", counted)
    output = tmp_path / "out"
    assert run(output, "--method", "tmkt", "baseline") == 128 + signal.SIGTERM
    assert f"after epoch {epoch}, step 4 of 4" in capsys.readouterr().err
    assert not (folder(output) / "result.json").exists()
    assert not (output / "runs/baseline-seed3").exists()
    assert run(output, "--resume") == 0
    assert_same_runs(uninterrupted, output)


def test_killed_between_the_two_checkpoints(tmp_path, monkeypatch):
    """Every epoch is the best so far; what last.pt speaks of is there, and the run goes on."""
    save, names = checkpoint.save, []

    def killed(path, state):
        if path.name == "last.pt" and names == ["best.pt", "last.pt"] * 2 + ["best.pt"]:
            raise KeyboardInterrupt
        names.append(path.name)
        save(path, state)

    def better(self, part):
        return Metrics(self.at.epoch, 0.0, 0.0)

    monkeypatch.setattr(train.Trainer, "evaluate_on", better)
    monkeypatch.setattr(checkpoint, "save", killed)
    output = tmp_path / "out"
    assert run(output) == 130
    position = state(output)["position"]
    assert (position["epoch"], position["best_epoch"]) == (2, 1)
    assert (folder(output) / "best.pt").exists()
    monkeypatch.setattr(checkpoint, "save", save)
    assert run(output, "--resume") == 0
    ends = [state(output, name)["position"]["best_epoch"] for name in ("best.pt", "last.pt")]
    assert ends == [3, 3]


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """SIGKILL and SIGTERM at seeded random moments of one run, each time resumed."""
    words = [sys.executable, "tests/killing.py", str(tmp_path), *RUN.split()]
    words += ["--epochs", "30", "--eval-interval", "10"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    hit = [how["epoch"] for how in moments if how["at"] and how["status"]]
    assert len(hit) >= 6 and len(set(hit)) > 1, moments  # the others had ended before
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def test_log_has_one_header_and_every_epoch_once(uninterrupted):
    lines = (folder(uninterrupted) / "log.csv").read_text().splitlines()
    assert sum(line.startswith("epoch,") for line in lines) == 1
    assert [int(line.split(",")[0]) for line in lines[1:]] == [0, 1, 2, 3]


def test_resume_from_a_named_checkpoint(uninterrupted, tmp_path, capsys):
    """best.pt of an earlier epoch continues to the same end; one of another run does not."""
    best = state(uninterrupted, "best.pt")["position"]
    assert best["epoch"] == best["best_epoch"] + 1
    output, path = tmp_path / "out", str(folder(uninterrupted) / "best.pt")
    assert run(output, "--resume", path) == 0
    assert_same(state(uninterrupted)["model"], state(output)["model"])
    assert run(tmp_path / "other", "--seed", "2", "--resume", path) == 2
    assert "seed: there [3], here [2]" in capsys.readouterr().err


def test_finished_runs_are_kept(uninterrupted, monkeypatch):
    monkeypatch.setattr(train.Trainer, "fit", lambda self, signal: pytest.fail("trained again"))
    assert run(uninterrupted, "--resume") == 0


def test_same_command_twice_gives_the_same_bits(uninterrupted, tmp_path):
    assert run(tmp_path / "out", "--workers", "2") == 0
    assert_same(state(uninterrupted), state(tmp_path / "out"))
