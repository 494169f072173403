"""The few-shot experiment end to end on a stand-in tree in the real formats."""

import numpy as np
import pandas as pd
import pytest
from writers import random_events, write_mnist_idx, write_nmnist_tree

from tests.program import run_fewshot, run_here
from tmkt_braincog.commands.table import fewshot_parser
from tmkt_braincog.engine.compare import claim
from tmkt_braincog.experiments import fewshot, jobs

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
        *(
            "--data-root",
            str(tmp_path),
            "--recipe",
            str(tmp_path / "recipe.yaml"),
            "--shots",
            "1",
            "2",
        ),
        *("--seed", "1", "2", "--method", "baseline", "tmkt", "--output", str(tmp_path / "out")),
    ]


@pytest.mark.slow
def test_table_and_plot(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_start", run_here)
    assert run_fewshot(words) == 0
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

    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("comparison.csv")}
    assert len(finished) == 4 and run_fewshot(words) == 0
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("epochs: 2", "epochs: 3"))
    assert run_fewshot(words) == 2
    assert (
        "shots 1, seed 1: " in (message := capsys.readouterr().err)
        and "epochs: there 2, here 3" in message
    )


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_finish(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "_start", run_here)
    damaged = tmp_path / "out/shots-1/seed-1"
    job = fewshot.job(fewshot_parser().parse_args(words), 1, 1)
    claim(job.folder, job.options)
    (damaged / "runs/tmkt-seed1").mkdir(parents=True)
    (damaged / "runs/tmkt-seed1/last.pt").write_bytes(b"damaged")
    assert run_fewshot(words) == 2
    message = capsys.readouterr().err
    assert (
        "1 of 4 jobs failed:\n  shots 1, seed 1 (status 2" in message
        and "last.pt cannot be read" in message
    )
    assert [
        (tmp_path / f"out/shots-{k}/seed-{s}/comparison.csv").exists()
        for k in (1, 2)
        for s in (1, 2)
    ] == [*(False, True, True, True)]
    assert not (tmp_path / "out/fewshot.md").exists()


def test_shots_that_the_data_do_not_have_are_refused_before(words, tmp_path, capsys):
    words[words.index("--shots") + 1] = "9"
    assert run_fewshot(words) == 2
    message = capsys.readouterr().err
    assert "shots 9, seed 1" in message and "--shots 9: class 0 has only 5" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("--method", "tmtk", "Did you mean 'tmkt'"),
        ("--seed", "2", "shots 1, seed 2 is there twice"),
    ],
)
def test_bad_words(words, tmp_path, capsys, name, value, expected):
    words[words.index(name) + 1] = value
    assert run_fewshot(words) == 2
    assert expected in capsys.readouterr().err and not (tmp_path / "out").exists()
