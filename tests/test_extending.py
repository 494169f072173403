"""The examples of docs/extending.md: short, shown as they are, working on the command line."""

import importlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tonic.transforms import ToFrame
from writers import random_events

from tests.streams import BATCH, FEATURES, OUT, options
from tests.test_fused import assert_same
from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import METHODS, TMKT
from tmkt_braincog.mixing import STRATEGIES, Progress
from tmkt_braincog.registry import FIGURES

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "docs" / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
CLASSES, PER_CLASS, SENSOR = ("cat", "dog"), 10, (128, 128, 2)
T, SIZE = 4, 32


@pytest.fixture(scope="module")
def examples():
    """The modules, their names registered for the tests of this file only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield SimpleNamespace(**{p.stem: importlib.import_module(p.stem) for p in FILES})
    for registry, name in ((DATASETS, "own"), (FIGURES, "calibration"), (METHODS, "tmkt-penalty")):
        del registry._entries[name]
    del STRATEGIES._entries["tsm-rising"]
    for path in FILES:
        del sys.modules[path.stem]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for c, name in enumerate(CLASSES):
        for part in ("events", "images"):
            (root / "own" / part / name).mkdir(parents=True)
        for k in range(1, PER_CLASS + 1):
            events = random_events(400, seed=100 * c + k, sensor_size=SENSOR[:2])
            np.save(root / f"own/events/{name}/{k:04d}.npy", events)
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"own/images/{name}/{k:04d}.png")
    return root


@pytest.fixture(scope="module")
def output(examples, data_root, tmp_path_factory) -> Path:
    """Output folder of a training with the example method, strategy, backbone and data set."""
    folder = tmp_path_factory.mktemp("output") / "run"
    words = "train --target-dataset own --method tmkt tmkt-penalty --model Transfer_Small"
    words += f" --mixup-strategy tsm-rising --step {T} --batch-size 8 --epochs 2 --warmup-epochs 0"
    words += f" --lr 0.1 --seed 3 --no-tensorboard --data-root {data_root} --output {folder}"
    assert examples.main.main(words.split()) == 0
    return folder


def log(output: Path, method: str) -> pd.DataFrame:
    return pd.read_csv(output / f"runs/{method}-seed3/log.csv")


def test_the_page_shows_the_files_which_are_short_and_no_other_module():
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    shown = {b for b in re.findall(r"```python\n(.*?)```", page, re.S) if '"""' in b}
    assert shown == {path.read_text() for path in FILES}
    assert all(code.count("\n") < 40 for code in shown)
    assert all(f"examples/{path.name}" in page for path in FILES)


def test_a_process_of_its_own_knows_the_names_before_it_reads_its_options():
    words = [sys.executable, str(EXAMPLES / "main.py"), "train", "--method", "tmkt-penalt"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    said = "error: Unknown method 'tmkt-penalt'. Did you mean 'tmkt-penalty'"
    assert done.stderr.startswith(said)
    assert "Warning" not in done.stderr


def test_the_training_logs_finite_losses_and_the_table_names_the_method(output):
    table = pd.read_csv(output / "comparison.csv")
    assert table.method.tolist() == ["tmkt", "tmkt-penalty"]
    assert table.top1_last.between(0, 100).all()
    rows = log(output, "tmkt-penalty")
    parts = ["cls_mixed", "cls_event", "alignment", "mag", "mrp", "penalty"]
    assert len(rows) == 2 and np.isfinite(rows[["loss", *parts]]).all(axis=None)
    weighted = rows[parts] @ [1, 0.5, 0.5, 1, 1, 0.1]
    np.testing.assert_allclose(rows.loss, weighted, rtol=1e-5)
    assert rows.penalty.between(-math.log(2), 0).all()
    assert "penalty" not in log(output, "tmkt")
    # Another gradient, and so other weights.
    assert rows.loss[1] - 0.1 * rows.penalty[1] != log(output, "tmkt").loss[1]


def test_method_the_penalty_is_minus_the_entropy(examples):
    plain, penalised = (
        method(T, FEATURES, mag_weight=0, mrp_weight=0).losses(OUT, None, BATCH.label)
        for method in (TMKT, examples.method.TMKTPenalty)
    )
    shares = OUT.event.logits.softmax(-1).flatten(0, 1).tolist()
    slow = np.mean([sum(q * math.log(q) for q in p) for p in shares])
    assert penalised["penalty"].item() == pytest.approx(slow, rel=1e-12)
    expected = plain["loss"].item() + 0.1 * slow
    assert penalised["loss"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("fraction", [0, 0.5])
def test_strategy_its_share_of_event_frames_rises(examples, fraction):
    strategy = examples.strategy.RisingTimeStepMixup(10)
    draws = torch.rand(200, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    n = strategy.event_frames(draws, Progress(epoch=int(10 * fraction), epochs=10))
    p = examples.strategy.solve_p(0.1 + 0.8 * fraction, 10)
    slow = [next((10 - t for t, u in enumerate(row) if u < p), 0) for row in draws.tolist()]
    assert n.tolist() == slow


def test_backbone_shapes_and_both_executors(examples):
    chosen = options(f"--model Transfer_Small --step {T} --event-size 16")
    model = build_model(chosen, num_classes=3)
    assert model.num_features == 64 * 2 * 2 and model.executor == "fused"
    x = torch.rand(2, T, 2, 16, 16)
    out = model(x, x)
    assert out.event.logits.shape == (T, 2, 3)
    assert out.static.tap.shape == (T, 2, 64 * 4 * 4) and out.static.spikes.shape == (T, 2, 256)
    found = assert_same(model)
    assert found["0 event spikes"].count_nonzero() and found["0 grad rgb_fc.weight"].count_nonzero()


def test_dataset_frames_twins_and_split_and_what_it_expects(examples, data_root, tmp_path):
    data = DATASETS["own"].load(LoadSpec(data_root, T, SIZE))
    assert data.classes == CLASSES and data.frames.shape == (2 * PER_CLASS, T, 2, SIZE, SIZE)
    assert data.names[11] == "events/dog/0002.npy"
    assert (data.labels[11], data.file_ids[11]) == (1, 2)
    binned = ToFrame(sensor_size=SENSOR, n_time_bins=T)(np.load(data_root / "own" / data.names[11]))
    assert torch.equal(data.frames[11], resize_frames(torch.from_numpy(binned), SIZE))
    assert data.images.shape == (20, SIZE, SIZE) and data.twins.tolist() == list(range(20))
    assert data.test.tolist() == [8, 9, 18, 19]
    assert data.static_train.tolist() == [i for i in range(20) if i not in data.test]
    said = r"There is no folder .*own/events\.\nData set ``own``: DATA/own/events"
    with pytest.raises(UserError, match=said):
        DATASETS["own"].load(LoadSpec(tmp_path, T, SIZE))


def test_figure_from_the_runs(examples, output, tmp_path):
    words = ["figure", "calibration", str(output), "--output", str(tmp_path)]
    assert examples.main.main(words) == 0
    points = pd.read_csv(tmp_path / "calibration.csv")
    top1 = pd.read_csv(output / "comparison.csv").set_index("method").top1_last
    assert set(points.run) == set(top1.index)
    for method, p in points.groupby("run"):
        assert p.n.sum() == 4 and p.sure.between(0.5, 1).all()
        assert 100 * (p.n * p.right).sum() / 4 == pytest.approx(top1[method])
    assert Image.open(tmp_path / "calibration.png").size == (800, 720)
    assert (tmp_path / "calibration.pdf").read_bytes().startswith(b"%PDF")
    sure = torch.tensor([0.92, 0.97, 0.61, 1.0])
    logits = torch.stack([sure, 1 - sure], -1).log().clamp(min=-50).unsqueeze(1)
    found = examples.figure.tenths(logits, torch.tensor([0, 1, 0, 0]))
    assert found.index.tolist() == [6, 9] and found.n.tolist() == [1, 3]
    assert found.sure.tolist() == pytest.approx([0.61, (0.92 + 0.97 + 1) / 3])
    assert found.right.tolist() == pytest.approx([1, 2 / 3])
