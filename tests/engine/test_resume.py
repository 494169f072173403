"""A run that is stopped, or killed, and resumed ends exactly like one that was not."""

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.program import run_train
from tmkt_braincog.engine import train

# Parts that carry state across steps: the optimiser, learned coefficients, heads, mixing.
RUN = (
    "--shots 2 --batch-size 8 --epoch-size 32 --epochs 4 --warmup-epochs 1 --eval-interval 1 "
    "--step 4 --method tmkt --clip-grad 1 --seed 3 --device cpu"
)
COSTS = ["train_s", "peak_mib"]
HERE = "runs/tmkt-seed3"


def run(output: Path, *words: str) -> int:
    return run_train([*RUN.split(), "--output", str(output), *words])


def state(output: Path, name: str = "last.pt") -> dict:
    return torch.load(output / HERE / name, weights_only=True)


def assert_same(a, b, where: str) -> None:
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
    results = [json.loads((output / HERE / "result.json").read_text()) for output in (a, b)]
    assert_same(*results, "result.json")
    for file in (f"{HERE}/log.csv", "comparison.csv"):
        tables = [pd.read_csv(o / file).drop(columns=COSTS, errors="ignore") for o in (a, b)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run(output) == 0
    assert pd.read_csv(output / HERE / "log.csv").epoch.tolist() == [0, 1, 2, 3]
    return output


# In an epoch, after the first step, between an epoch and its evaluation; in the first evaluation
# and in the last: four epochs of four steps, each with one on test and one on validation.
@pytest.mark.parametrize(
    "hook, call, signum, said",
    [
        ("_step", 6, signal.SIGTERM, "epoch 1, step 2"),
        ("_step", 1, signal.SIGINT, "epoch 0, step 1"),
        ("_step", 8, signal.SIGINT, "epoch 1, step 4"),
        ("predict", 1, signal.SIGTERM, "epoch 0, step 4"),
        ("predict", 8, signal.SIGTERM, "epoch 3, step 4"),
    ],
)
def test_stopped_and_resumed(whole, tmp_path, monkeypatch, capsys, hook, call, signum, said):
    """Equals the run that was not; no other run starts after the signal."""
    calls, original = [], getattr(train.Trainer, hook)

    def counted(self, *given):
        calls.append(hook)
        if len(calls) == call:
            os.kill(os.getpid(), signum)
        return original(self, *given)

    monkeypatch.setattr(train.Trainer, hook, counted)
    output = tmp_path / "out"
    assert run(output, "--method", "tmkt", "baseline") == 128 + signum
    message = capsys.readouterr().err
    assert f"after {said} of 4" in message and "--resume" in message and "last.pt" in message
    assert not (output / HERE / "result.json").exists()
    assert not (output / "runs/baseline-seed3").exists()
    torch.manual_seed(12345)  # a fresh process has other global random numbers
    assert run(output, "--resume") == 0
    assert hook != "_step" or len(calls) == 16
    assert_same_runs(whole, output)


def test_killed_at_any_file(whole, tmp_path, monkeypatch):
    """Each attempt dies one file later than the last one, and goes on from what that left."""
    output, replace, status, attempts, written = tmp_path / "out", os.replace, 130, 0, 0

    def dying(source, target):
        nonlocal written
        written += 1
        if written == attempts:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    while status == 130:
        attempts, written = attempts + 1, 0
        status = run(output, "--resume")
        if (output / HERE / "last.pt").exists():  # what it speaks of is there
            ends = [state(output, n)["position"]["best_epoch"] for n in ("best.pt", "last.pt")]
            assert ends[0] >= ends[1]
    assert status == 0 and attempts > 8
    assert_same_runs(whole, output)


def test_resume_from_a_named_checkpoint(whole, tmp_path, capsys):
    """best.pt of an earlier epoch continues to the same end; one of another run does not."""
    best = state(whole, "best.pt")["position"]
    assert best["epoch"] == best["best_epoch"] + 1
    output, path = tmp_path / "out", str(whole / HERE / "best.pt")
    assert run(output, "--resume", path) == 0
    assert_same(state(whole)["model"], state(output)["model"], "model")
    assert run(tmp_path / "other", "--seed", "2", "--resume", path) == 2
    assert "seed: there [3], here [2]" in capsys.readouterr().err


def test_the_same_command_gives_the_same_bits_and_a_finished_run_is_kept(
    whole, tmp_path, monkeypatch
):
    assert run(tmp_path / "out") == 0
    assert_same(state(whole), state(tmp_path / "out"), "last.pt")
    monkeypatch.setattr(train.Trainer, "fit", lambda self, signal: pytest.fail("trained again"))
    assert run(whole, "--resume") == 0
