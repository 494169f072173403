"""What only a GPU can show: executors, resident data, whole runs (numbers: test_golden.py)."""

import os
import signal

import pandas as pd
import pytest
import torch

from tests.program import run_train
from tests.random_networks import assert_executors_agree, random_network
from tmkt_braincog.engine.stops import FiniteWatch
from tmkt_braincog.engine.train import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SHORT = "--shots 2 --batch-size 8 --epoch-size 32 --epochs 2 --warmup-epochs 0 --eval-interval 1"
SHORT += " --no-tensorboard --device cuda --method tmkt"


@pytest.mark.parametrize("seed", range(0, 240, 5))
def test_random_networks_give_the_step_loops_numbers(seed):
    network, batch = random_network(seed)
    assert_executors_agree(network.cuda(), [x.cuda() for x in batch], 1e-9)


def run(output, *words: str) -> int:
    return run_train([*SHORT.split(), "--output", str(output), *words])


def log_of(output) -> pd.DataFrame:
    return pd.read_csv(next(output.glob("runs/*/log.csv"))).drop(columns="train_s")


@pytest.mark.parametrize(
    "words", ["", "--amp bf16", "--executor step", "--model Transfer_SCNN --step 4"]
)
def test_a_run_and_the_evaluation_of_its_checkpoint(tmp_path, capsys, words):
    assert run(tmp_path, *words.split()) == 0
    log = log_of(tmp_path)
    assert log.loss.notna().all() and log.loss.iloc[-1] < 10
    capsys.readouterr()
    (checkpoint,) = tmp_path.glob("runs/*/last.pt")
    assert run_train(["--eval", "--eval-checkpoint", str(checkpoint), "--device", "cuda"]) == 0
    assert f"top-1 {log.test_top1.iloc[-1]:.2f} %" in capsys.readouterr().out


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Convolutions of a GPU may sum in another order each time, unless asked not to."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole) == 0
    steps, step = [], Trainer._step

    def counted(self, batch, progress):
        bad = step(self, batch, progress)
        steps.append(progress)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return bad

    monkeypatch.setattr(Trainer, "_step", counted)
    assert run(parts) == 128 + signal.SIGTERM
    assert run(parts, "--resume") == 0
    assert len(steps) == 8
    pd.testing.assert_frame_equal(log_of(whole), log_of(parts), check_exact=True)


def test_a_gradient_that_is_not_finite_stops_the_run_one_step_later(tmp_path, monkeypatch, capsys):
    step, steps = Trainer._step, []

    def poisoned(self, batch, progress):
        steps.append((progress.epoch, progress.batch))
        if steps[-1] == (1, 0):
            self.model.fc1.weight.register_hook(lambda grad: grad * float("inf"))
        return step(self, batch, progress)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    assert run(tmp_path, "--clip-grad", "1") == 2
    assert "the gradient is not finite at epoch 1, step 0 of 4" in capsys.readouterr().err
    assert steps[-1] == (1, 1)
    (kept,) = tmp_path.glob("runs/*/last.pt")
    assert all(v.isfinite().all() for v in torch.load(kept, weights_only=True)["model"].values())


def test_the_watch_names_the_step_before():
    watch = FiniteWatch()
    good, bad = torch.ones((), device="cuda"), torch.full((), float("nan"), device="cuda")
    found = [watch.add(step, norm) for step, norm in enumerate((good, bad, good, good))]
    assert found == [None, None, 1, None]
    assert watch.add(4, bad) is None and watch.flush() == 4 and watch.flush() is None
