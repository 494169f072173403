"""A run that is stopped and resumed ends exactly like one that was not."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.program import run_train
from tmkt_braincog.engine import checkpoint, train
from tmkt_braincog.engine.evaluate import Metrics

COMMON = [
    "--shots",
    "2",
    "--batch-size",
    "8",
    "--epoch-size",
    "32",
    "--epochs",
    "4",
    "--warmup-epochs",
    "1",
    "--eval-interval",
    "1",
]
# Parts that carry state across steps: the optimiser, learned coefficients, heads, mixing.
FULL = [*COMMON, "--method", "tmkt", "--clip-grad", "1"]


def run(output: Path, *words: str) -> int:
    return run_train([*FULL, "--seed", "3", "--device", "cpu", "--output", str(output), *words])


def folder(output: Path) -> Path:
    return output / "runs" / "tmkt-seed3"


def final_state(output: Path) -> dict:
    return torch.load(folder(output) / "last.pt", weights_only=True)


def log_without_time(output: Path) -> pd.DataFrame:
    return pd.read_csv(folder(output) / "log.csv").drop(columns="train_s")


def assert_same(a, b, where: str = "state") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("train_s", "peak_mib"):
                assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b or (a != a and b != b), where


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run(output) == 0
    return output


@pytest.mark.parametrize(
    ("signum", "stop_at"), [(signal.SIGTERM, 6), (signal.SIGINT, 1), (signal.SIGINT, 8)]
)
def test_stopped_and_resumed_equals_uninterrupted(
    uninterrupted, tmp_path, monkeypatch, capsys, signum, stop_at
):
    """Stops inside an epoch, after the very first step and at the end of an epoch, before its evaluation."""
    steps = 0
    step = train.Trainer._step

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
    assert "--resume" in message and "last.pt" in message
    assert steps == stop_at
    assert not (folder(output) / "result.json").exists()

    torch.manual_seed(12345)  # a fresh process has other global random numbers
    assert run(output, "--resume") == 0
    assert steps == 16
    assert_same(final_state(uninterrupted), final_state(output))
    pd.testing.assert_frame_equal(
        log_without_time(uninterrupted), log_without_time(output), check_exact=True
    )
    results = [json.loads((folder(o) / "result.json").read_text()) for o in (uninterrupted, output)]
    for name in ("top1_best", "top1_last", "epoch_best"):
        assert results[0][name] == results[1][name]


@pytest.mark.parametrize("where", ["in the middle", "at the very end"])
def test_stopped_while_evaluating(uninterrupted, tmp_path, monkeypatch, capsys, where):
    """The signal comes when an evaluation begins; the next run of the same command does not start."""
    calls, evaluate_on = 0, train.Trainer.evaluate_on

    def counted(self, recordings):
        nonlocal calls
        calls += 1
        if calls == (
            1 if where == "in the middle" else 8
        ):  # four epochs, test and validation in each
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_on(self, recordings)

    monkeypatch.setattr(train.Trainer, "evaluate_on", counted)
    output = tmp_path / "out"
    assert run(output, "--method", "tmkt", "baseline") == 128 + signal.SIGTERM
    epoch = 0 if where == "in the middle" else 3
    assert f"after epoch {epoch}, step 4 of 4" in capsys.readouterr().err
    assert (
        not (folder(output) / "result.json").exists()
        and not (output / "runs/baseline-seed3").exists()
    )
    monkeypatch.setattr(train.Trainer, "evaluate_on", evaluate_on)
    assert run(output, "--resume") == 0
    assert_same(final_state(uninterrupted), final_state(output))
    pd.testing.assert_frame_equal(
        log_without_time(uninterrupted), log_without_time(output), check_exact=True
    )


def test_killed_between_the_two_checkpoints(tmp_path, monkeypatch):
    """Every epoch is better than the one before; what last.pt speaks of is there, and the run goes on."""
    save, names = checkpoint.save, []

    def killed(path, state):
        if path.name == "last.pt" and names == ["best.pt", "last.pt"] * 2 + ["best.pt"]:
            raise KeyboardInterrupt
        names.append(path.name)
        save(path, state)

    monkeypatch.setattr(
        train.Trainer, "evaluate_on", lambda self, part: Metrics(self.at.epoch, 0.0, 0.0)
    )
    monkeypatch.setattr(checkpoint, "save", killed)
    output = tmp_path / "out"
    assert run(output) == 130
    position = final_state(output)["position"]
    assert (position["epoch"], position["best_epoch"]) == (2, 1) and (
        folder(output) / "best.pt"
    ).exists()
    monkeypatch.setattr(checkpoint, "save", save)
    assert run(output, "--resume") == 0
    best = torch.load(folder(output) / "best.pt", weights_only=True)["position"]
    assert best["best_epoch"] == final_state(output)["position"]["best_epoch"] == 3


def test_log_has_one_header_and_every_epoch_once(uninterrupted):
    lines = (folder(uninterrupted) / "log.csv").read_text().splitlines()
    assert sum(line.startswith("epoch,") for line in lines) == 1
    assert [int(line.split(",")[0]) for line in lines[1:]] == [0, 1, 2, 3]


def test_resume_from_a_named_checkpoint(uninterrupted, tmp_path):
    """best.pt of an epoch before the last continues to the same end."""
    best = torch.load(folder(uninterrupted) / "best.pt", weights_only=True)
    assert best["position"]["epoch"] == best["position"]["best_epoch"] + 1
    output = tmp_path / "out"
    assert run(output, "--resume", str(folder(uninterrupted) / "best.pt")) == 0
    assert_same(final_state(uninterrupted)["model"], final_state(output)["model"])


def test_finished_runs_are_kept(uninterrupted, monkeypatch):
    monkeypatch.setattr(train.Trainer, "fit", lambda self, signal: pytest.fail("trained again"))
    assert run(uninterrupted, "--resume") == 0


def test_same_command_twice_gives_the_same_bits(uninterrupted, tmp_path):
    assert run(tmp_path / "out", "--workers", "2") == 0
    assert_same(final_state(uninterrupted), final_state(tmp_path / "out"))
