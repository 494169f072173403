"""Faults of the reference that change results: mended, or reproduced under ``he2024``.

Rows 1 to 4 and 9 are in tests/data/test_sets_special.py, 6 in tests/engine/test_train.py, 7 in
tests/data/test_recordings.py."""

import json

import pandas as pd
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.program import run_train
from tmkt_braincog.losses.cka import linear_cka


@pytest.mark.parametrize("words, by", [("", "test_top1"), ("--val-portion 0.3", "val_top1")])
def test_fault_5_best_and_last_are_both_reported_and_a_validation_set_chooses(tmp_path, words, by):
    out = tmp_path / "o"
    line = "--batch-size 8 --epoch-size 16 --epochs 3 --warmup-epochs 0 --eval-interval 1 --step 4 "
    line += f"--no-tensorboard --method event-only --seed 1 --output {out} {words}"
    assert run_train(line.split()) == 0
    log = pd.read_csv(out / "runs/event-only-seed1/log.csv")
    row = pd.read_csv(out / "comparison.csv").iloc[0]
    best = int(log[by].idxmax())
    assert row.epoch_best == best
    assert row.top1_best == pytest.approx(log.test_top1[best], abs=1e-4)
    assert row.top1_last == pytest.approx(log.test_top1.iloc[-1], abs=1e-4)
    split = json.loads((out / "runs/event-only-seed1/split.json").read_text())
    assert bool(split["val"]) == bool(words)
    assert not set(split["val"]) & {*split["train"], *split["test"]}


def test_fault_8_cka_takes_large_values_any_batch_and_needs_no_synchronisation():
    for batch in (2, 3, 7):
        x = 1e6 * torch.randn(4, batch, 50) + 1e7
        assert torch.isfinite(linear_cka(x, x.flip(-1))).all()
    # Fake tensors have no values: reading one, as a check or a branch does, raises.
    with FakeTensorMode():
        x = torch.randn(4, 8, 50, requires_grad=True)
        with pytest.raises(Exception, match=r"item|local_scalar"):
            bool(x.sum() > 0)
        linear_cka(x, x * 2).sum().backward()
        assert x.grad.shape == x.shape
