"""The few-shot experiment end to end on a stand-in tree in the real formats."""

import numpy as np
import pandas as pd
import pytest
from writers import random_events, write_mnist_idx, write_nmnist_tree

from tmkt_braincog.experiments import fewshot

RECIPE = """
source-dataset: mnist
target-dataset: nmnist
leftover: parity
step: 3
batch-size: 8
epoch-size: 16
epochs: 2
warmup-epochs: 1
"""


@pytest.fixture
def words(tmp_path) -> list[str]:
    labels = [i % 10 for i in range(50)]
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    for split, idx in (("Train", "train"), ("Test", "t10k")):
        write_nmnist_tree(
            tmp_path, {(split, d, i + 1): random_events(200, seed=i) for i, d in enumerate(labels)}
        )
        write_mnist_idx(tmp_path, idx, images, labels)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return [
        *("--data-root", str(tmp_path), "--recipe", str(tmp_path / "recipe.yaml"), "--shots", "1", "2"),
        *("--seed", "1", "2", "--method", "baseline", "tmkt", "--output", str(tmp_path / "out")),
    ]


@pytest.mark.slow
def test_table_and_plot(words, tmp_path, capsys):
    assert fewshot.main(words) == 0
    rows = pd.read_csv(tmp_path / "out/fewshot.csv")
    assert len(rows) == 8 and set(rows.shots) == {1, 2} and set(rows.method) == {"baseline", "tmkt"}
    log = pd.read_csv(tmp_path / "out/shots-2/seed-1/runs/tmkt-seed1/log.csv")
    row = rows[(rows.shots == 2) & (rows.seed == 1) & (rows.method == "tmkt")].iloc[0]
    assert row.top1_last == pytest.approx(log.test_top1.iloc[-1], abs=1e-4)
    assert row.val_last == pytest.approx(log.val_top1.iloc[-1], abs=1e-4)

    text = (tmp_path / "out/fewshot.md").read_text()
    two = rows[rows.shots == 2].pivot(index="seed", columns="method", values="top1_last")
    difference = (two.tmkt - two.baseline).mean()
    line = next(line for line in text.splitlines() if line.startswith("| 2 | tmkt"))
    assert f"{two.tmkt.mean():.1f} ± {two.tmkt.std():.1f} | {difference:+.1f} [" in line
    assert text in capsys.readouterr().out
    assert all((tmp_path / f"out/fewshot.{s}").stat().st_size > 3000 for s in ("png", "pdf"))


def test_a_run_that_fails_is_named(words, capsys):
    words[words.index("--shots") + 1] = "9"
    assert fewshot.main(words) == 2
    message = capsys.readouterr().err
    assert "shots 9, seed 1" in message and "--shots 9: class 0 has only 5" in message
