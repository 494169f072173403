"""The loop: same start for all methods, budget, finite losses, full disk."""

import errno
import json
import os
import socket

import pandas as pd
import pytest
import torch

from tests.program import run_train
from tmkt_braincog.engine import finite, owner, train
from tmkt_braincog.options import parse, resolve

SMALL = [
    "--shots",
    "2",
    "--batch-size",
    "8",
    "--epoch-size",
    "16",
    "--epochs",
    "2",
    "--warmup-epochs",
    "1",
    "--eval-interval",
    "1",
    "--no-tensorboard",
]


def test_methods_start_from_the_same_weights_and_see_the_same_batches(tmp_path, monkeypatch):
    starts, batches = {}, {}
    step = train.Trainer._step

    def watched(self, batch, progress):
        starts.setdefault(self.name, {k: v.clone() for k, v in self.model.state_dict().items()})
        batches.setdefault(self.name, []).append(batch)
        step(self, batch, progress)

    monkeypatch.setattr(train.Trainer, "_step", watched)
    words = [
        *SMALL,
        "--method",
        "event-only",
        "baseline",
        "tmkt",
        "--seed",
        "1",
        "--output",
        str(tmp_path / "o"),
    ]
    assert run_train(words) == 0
    for name in ("baseline", "tmkt"):
        assert all(torch.equal(v, starts["event-only"][k]) for k, v in starts[name].items())
        assert len(batches[name]) == len(batches["event-only"]) == 4
        for ours, theirs in zip(batches[name], batches["event-only"], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    splits = [json.loads(p.read_text()) for p in (tmp_path / "o/runs").glob("*/split.json")]
    assert splits[0] == splits[1] == splits[2]


def test_comparison_files(tmp_path, capsys):
    words = [
        *SMALL,
        "--method",
        "event-only",
        "tmkt",
        "--seed",
        "1",
        "2",
        "--output",
        str(tmp_path / "o"),
    ]
    assert run_train(words) == 0
    rows = pd.read_csv(tmp_path / "o/comparison.csv")
    assert list(rows) == [
        "method",
        "seed",
        "protocol",
        "top1_best",
        "top1_last",
        "epoch_best",
        "train_s",
        "peak_mib",
    ]
    assert list(zip(rows.method, rows.seed, strict=True)) == [
        ("event-only", 1),
        ("event-only", 2),
        ("tmkt", 1),
        ("tmkt", 2),
    ]
    assert rows.protocol.eq("clean").all() and rows.top1_best.between(0, 100).all()
    assert (rows.train_s > 0).all() and (rows.peak_mib > 100).all()
    log = pd.read_csv(tmp_path / "o/runs/tmkt-seed2/log.csv")
    assert {
        "loss",
        "cls_mixed",
        "cls_event",
        "alignment",
        "mag",
        "mrp",
        "sigma_1",
        "test_top1",
        "lr",
    } <= set(log)
    out = capsys.readouterr().out
    assert "Audit: 0 static twins" in out and "protocol: clean" in out and "tmkt" in out
    assert (tmp_path / "o/comparison.png").stat().st_size > 5000


def test_the_weighted_terms_add_up_to_the_logged_loss(tmp_path):
    assert run_train([*SMALL, "--method", "tmkt", "--output", str(tmp_path / "o")]) == 0
    log = pd.read_csv(tmp_path / "o/runs/tmkt-seed42/log.csv")
    total = log.cls_mixed + 0.5 * (log.alignment + log.cls_event) + log.mag + log.mrp
    assert total.to_numpy() == pytest.approx(log.loss.to_numpy(), rel=1e-5)


def test_learning_rate_follows_batch_size_and_warm_up(tmp_path):
    words = [*SMALL, "--epochs", "4", "--lr", "0.064", "--output", str(tmp_path / "o")]
    assert run_train(words) == 0
    lr = pd.read_csv(tmp_path / "o/runs/tmkt-seed42/log.csv").lr
    peak = 0.064 * 8 / 1024
    cosine = [
        1e-5 + (peak - 1e-5) * (1 + torch.cos(torch.tensor(torch.pi * e / 4)).item()) / 2
        for e in (1, 2, 3)
    ]
    assert lr.tolist() == pytest.approx([1e-6, *cosine], rel=1e-6)


@pytest.mark.parametrize("poison", ["weight", "gradient"])
def test_a_gradient_that_is_not_finite_stops_the_run_at_that_step(
    tmp_path, monkeypatch, capsys, poison
):
    """A membrane that is NaN never fires: the loss alone stays finite."""
    step, steps = train.Trainer._step, []

    def poisoned(self, batch, progress):
        steps.append((progress.epoch, progress.batch))
        if steps[-1] == (1, 0):
            if poison == "weight":
                with torch.no_grad():
                    self.model.feature[0].weight[0] = float("nan")
            else:
                self.model.fc1.weight.register_hook(lambda grad: grad * float("inf"))
        return step(self, batch, progress)

    monkeypatch.setattr(train.Trainer, "_step", poisoned)
    assert run_train([*SMALL, "--clip-grad", "1", "--output", str(tmp_path / "o")]) == 2
    message = capsys.readouterr().err
    first = "feature.0.weight" if poison == "weight" else "fc1.weight"
    assert (
        f"the gradient is not finite at epoch 1, step 0 of 2, first that of model.{first}"
        in message
    )
    assert "digits/" in message and "The last good checkpoint is kept" in message
    assert steps[-1] == (1, 0)
    kept = torch.load(tmp_path / "o/runs/tmkt-seed42/last.pt", weights_only=True)
    assert kept["position"]["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in kept["model"].values())


def test_a_bad_first_step_names_no_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "gradient_norm", lambda modules: torch.tensor(float("nan")))
    assert run_train([*SMALL, "--output", str(tmp_path / "o")]) == 2
    message = capsys.readouterr().err
    assert "epoch 0, step 0 of 2" in message and "checkpoint" not in message


def test_the_watch_on_a_gpu_looks_one_step_later():
    class OnGPU:
        is_cuda = True

    watch = finite.FiniteWatch()
    assert watch.flush() is None
    assert watch.add(3, torch.tensor(1.0)) is None and watch.add(4, torch.tensor(float("inf"))) == 4


def test_a_second_program_with_the_same_output_is_refused(tmp_path, capsys):
    out = tmp_path / "o"
    with owner.owned(out):
        assert run_train([*SMALL, "--output", str(out)]) == 2
        message = capsys.readouterr().err
        assert f"process {os.getpid()} on {socket.gethostname()}" in message
        assert sorted(p.name for p in out.iterdir()) == [owner.LOCK, owner.OWNER]
    assert run_train([*SMALL, "--output", str(out)]) == 0
    assert not {owner.LOCK, owner.OWNER} & {p.name for p in out.iterdir()}


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch, capsys):
    save, calls = torch.save, []

    def full(state, path):
        calls.append(path)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    assert run_train([*SMALL, "--output", str(tmp_path / "o")]) == 2
    assert "No space left" in capsys.readouterr().err
    folder = tmp_path / "o/runs/tmkt-seed42"
    assert torch.load(folder / "last.pt", weights_only=True)["position"]["epoch"] == 1
    assert not list(folder.glob(".*tmp"))


def test_a_full_disk_while_logging_is_one_message(tmp_path, monkeypatch, capsys):
    def full(self, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    assert run_train([*SMALL, "--output", str(tmp_path / "o")]) == 2
    message = capsys.readouterr().err
    assert "No space left" in message and "Traceback" not in message


def test_bf16_trains_with_finite_float32_losses(tmp_path):
    words = [
        "--model",
        "Transfer_VGG_SNN",
        "--width-divisor",
        "16",
        "--event-size",
        "16",
        "--step",
        "2",
    ]
    assert run_train([*SMALL, *words, "--amp", "bf16", "--output", str(tmp_path / "o")]) == 0
    log = pd.read_csv(tmp_path / "o/runs/tmkt-seed42/log.csv")
    assert log.loss.between(0.1, 20).all()


def test_evaluation_runs_the_event_stream_only(tmp_path, monkeypatch):
    from tmkt_braincog.models import TransferModel

    seen = []
    forward = TransferModel.forward
    monkeypatch.setattr(
        TransferModel,
        "forward",
        lambda self, events, static=None: (
            seen.append((self.training, static is not None, len(events)))
            or forward(self, events, static)
        ),
    )
    assert run_train([*SMALL, "--output", str(tmp_path / "o")]) == 0
    # Batches of one and two are the model being tried out before the run.
    assert {static for training, static, n in seen if not training and n > 2} == {False}
    assert {static for training, static, n in seen if training and n > 2} == {True}


def test_eval_reports_the_last_accuracy_and_writes_nothing(tmp_path, capsys):
    assert run_train([*SMALL, "--output", str(tmp_path / "o")]) == 0
    last = pd.read_csv(tmp_path / "o/runs/tmkt-seed42/log.csv").test_top1.iloc[-1]
    before = sorted(p for p in tmp_path.rglob("*"))
    checkpoint = str(tmp_path / "o/runs/tmkt-seed42/last.pt")
    assert run_train([*SMALL, "--eval", "--eval_checkpoint", checkpoint]) == 0
    assert f"top-1 {last:.2f} %" in capsys.readouterr().out
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_the_saved_config_reads_back_to_the_same_options(tmp_path):
    assert (
        run_train([*SMALL, "--mixup-ratio", "0.6", "--no-mag", "--output", str(tmp_path / "o")])
        == 0
    )
    options, _ = resolve(parse(["-c", str(tmp_path / "o/config.yaml")]))
    again, _ = resolve(
        parse([*SMALL, "--mixup-ratio", "0.6", "--no-mag", "--output", str(tmp_path / "o")])
    )
    ignored = {"config"}
    assert {k: v for k, v in vars(options).items() if k not in ignored} == {
        k: v for k, v in vars(again).items() if k not in ignored
    }
