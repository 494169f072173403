"""The command line on real N-MNIST recordings."""

import pandas as pd
import pytest

from tests.program import run_train


@pytest.mark.realdata
@pytest.mark.slow
def test_few_shots_of_real_nmnist(real_data, tmp_path, capsys):
    """Counts of the split and the audit; learning is well above chance (10 %) after 60 steps."""
    words = "--shots 10 --leftover parity --batch-size 32 --lr 0.1 --epoch-size 640 --epochs 3 "
    words += f"--warmup-epochs 1 --method baseline --seed 1 --output {tmp_path}/o"
    assert run_train(f"--target-dataset nmnist --data-root {real_data} {words}".split()) == 0
    out = capsys.readouterr().out
    assert "740 recordings, 70000 images, 10 classes" in out
    # 600 of the 700 recordings of Train are left over; only their twins go.
    assert "100 training, " in out and "; 59400 static images. 640 of all 70000" in out
    assert "Audit: 0 images" in out
    assert pd.read_csv(tmp_path / "o/comparison.csv").top1_last.item() > 40
