"""The loop: same start for all methods, budget, finite losses, full disk."""

import errno
import json
import os
import socket

import pandas as pd
import pytest
import torch

from tests.program import SMALL, run_train
from tmkt_braincog.engine import folder, train
from tmkt_braincog.models import TransferModel
from tmkt_braincog.options import parse, resolve

COLUMNS = "method seed protocol top1_best top1_last epoch_best train_s peak_mib"
LOGGED = {"loss", "cls_mixed", "cls_event", "alignment", "mag", "mrp", "sigma_1", "test_top1", "lr"}


def refused(tmp_path, capsys, *words: str) -> str:
    """What a training that fails says, on standard error."""
    assert run_train([*SMALL.split(), *words, "--output", str(tmp_path / "o")]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_methods_start_from_the_same_weights_and_see_the_same_batches(tmp_path, monkeypatch):
    """And an evaluation runs the event stream only."""
    starts, batches, streams = {}, {}, set()
    step, forward = train.Trainer._step, TransferModel.forward

    def watched(self, batch, progress):
        if progress.epoch == progress.batch == 0:
            streams.clear()  # those of the executor's trial; the last run's stay
        starts.setdefault(self.name, {k: v.clone() for k, v in self.model.state_dict().items()})
        batches.setdefault(self.name, []).append(batch)
        return step(self, batch, progress)

    def seen(self, events, static=None):
        streams.add((self.training, static is not None))
        return forward(self, events, static)

    monkeypatch.setattr(train.Trainer, "_step", watched)
    monkeypatch.setattr(TransferModel, "forward", seen)
    words = f"{SMALL} --method event-only baseline tmkt --seed 1 --output {tmp_path / 'o'}"
    assert run_train(words.split()) == 0
    assert streams == {(True, True), (False, False)}
    for name in ("baseline", "tmkt"):
        assert all(torch.equal(v, starts["event-only"][k]) for k, v in starts[name].items())
        assert len(batches[name]) == len(batches["event-only"]) == 4
        for ours, theirs in zip(batches[name], batches["event-only"], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    splits = [json.loads(p.read_text()) for p in (tmp_path / "o/runs").glob("*/split.json")]
    assert splits[0] == splits[1] == splits[2]


def test_files_of_a_comparison(comparison):
    rows = pd.read_csv(comparison / "comparison.csv")
    assert " ".join(rows) == COLUMNS
    runs = [(name, seed) for name in ("event-only", "baseline", "tmkt") for seed in (1, 2)]
    assert list(zip(rows.method, rows.seed, strict=True)) == runs
    assert rows.protocol.eq("clean").all() and rows.top1_best.between(0, 100).all()
    assert (rows.train_s > 0).all() and (rows.peak_mib > 100).all()
    out = (comparison.parent / "printed.txt").read_text()
    assert "Audit: 0 images" in out and "protocol: clean" in out and "tmkt" in out
    assert (comparison / "comparison.png").stat().st_size > 5000
    log = pd.read_csv(comparison / "runs/tmkt-seed1/log.csv")
    assert set(log) >= LOGGED
    total = log.cls_mixed + 0.5 * (log.alignment + log.cls_event) + log.mag + log.mrp
    assert total.to_numpy() == pytest.approx(log.loss.to_numpy(), rel=1e-5)
    # The learning rate follows batch size and warm-up.
    peak = 0.1 * 20 / 1024
    turns = torch.cos(torch.pi * torch.tensor([1, 2]) / 3).tolist()
    cosine = [1e-5 + (peak - 1e-5) * (1 + turn) / 2 for turn in turns]
    assert log.lr.tolist() == pytest.approx([1e-6, *cosine], rel=1e-6)


@pytest.mark.parametrize("words, by", [("", "test_top1"), ("--val-portion 0.3", "val_top1")])
def test_best_and_last_are_both_reported_and_a_validation_set_chooses(tmp_path, words, by):
    line = SMALL.replace("--shots 2", words).replace("--epochs 2", "--epochs 3")
    line += f" --method event-only --seed 1 --output {tmp_path / 'o'}"
    assert run_train(line.split()) == 0
    log = pd.read_csv(tmp_path / "o/runs/event-only-seed1/log.csv")
    row = pd.read_csv(tmp_path / "o/comparison.csv").iloc[0]
    best = int(log[by].idxmax())
    assert row.epoch_best == best
    assert row.top1_best == pytest.approx(log.test_top1[best], abs=1e-4)
    assert row.top1_last == pytest.approx(log.test_top1.iloc[-1], abs=1e-4)
    split = json.loads((tmp_path / "o/runs/event-only-seed1/split.json").read_text())
    assert bool(split["val"]) == bool(words)
    assert not set(split["val"]) & {*split["train"], *split["test"]}


@pytest.mark.parametrize("poison, epoch", [("weight", 1), ("gradient", 1), ("gradient", 0)])
def test_a_gradient_that_is_not_finite_stops_the_run_at_that_step(
    tmp_path, monkeypatch, capsys, poison, epoch
):
    """A membrane that is NaN never fires: the loss alone stays finite."""
    step, steps = train.Trainer._step, []

    def poisoned(self, batch, progress):
        steps.append((progress.epoch, progress.batch))
        if steps[-1] == (epoch, 0) and poison == "weight":
            with torch.no_grad():
                self.model.feature[0].weight[0] = float("nan")
        elif steps[-1] == (epoch, 0):
            self.model.fc1.weight.register_hook(lambda grad: grad * float("inf"))
        return step(self, batch, progress)

    monkeypatch.setattr(train.Trainer, "_step", poisoned)
    message = refused(tmp_path, capsys, "--clip-grad", "1")
    first = "feature.0.weight" if poison == "weight" else "fc1.weight"
    where = f"the gradient is not finite at epoch {epoch}, step 0 of 2, first that of model.{first}"
    assert where in message and "digits/" in message and steps[-1] == (epoch, 0)
    last = tmp_path / "o/runs/tmkt-seed42/last.pt"
    assert ("The last good checkpoint is kept" in message) == last.exists() == bool(epoch)
    if epoch:
        kept = torch.load(last, weights_only=True)
        assert kept["position"]["epoch"] == 1
        assert all(torch.isfinite(v).all() for v in kept["model"].values())


def test_a_second_program_with_the_same_output_is_refused(tmp_path, capsys):
    """And what a program leaves that was killed keeps nobody out."""
    out = tmp_path / "o"
    with folder.owned(out):
        message = refused(tmp_path, capsys)
        assert f"process {os.getpid()} on {socket.gethostname()}" in message
        assert sorted(p.name for p in out.iterdir()) == [folder.LOCK, folder.OWNER]
    for name in (folder.LOCK, folder.OWNER):
        (out / name).touch()
    assert run_train([*SMALL.split(), "--epochs=1", "--warmup-epochs=0", "--output", str(out)]) == 0
    assert not {folder.LOCK, folder.OWNER} & {p.name for p in out.iterdir()}


@pytest.mark.parametrize(
    "owner, name, calls",  # an epoch writes its predictions and its log
    [(torch, "save", 2), (pd.DataFrame, "to_csv", 2), (pd.DataFrame, "to_csv", 3)],
)
def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path, monkeypatch, capsys, owner, name, calls
):
    write, written = getattr(owner, name), []

    def full(*given, **how):
        written.append(name)
        if len(written) > calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*given, **how)

    monkeypatch.setattr(owner, name, full)
    assert "No space left" in refused(tmp_path, capsys)
    run = tmp_path / "o/runs/tmkt-seed42"
    assert torch.load(run / "last.pt", weights_only=True)["position"]["epoch"] == 1
    assert not list(run.glob(".*tmp"))


def test_bf16_trains_with_finite_losses_writes_tensorboard_and_its_config_reads_back(tmp_path):
    output = tmp_path / "o"
    words = "--model Transfer_VGG_SNN --width-divisor 16 --event-size 16 --step 2 --tensorboard"
    words = f"{SMALL} {words} --amp bf16 --mixup-ratio 0.6 --no-mag --output {output}".split()
    assert run_train(words) == 0
    assert pd.read_csv(output / "runs/tmkt-seed42/log.csv").loss.between(0.1, 20).all()
    assert list((output / "runs/tmkt-seed42/tensorboard").iterdir())
    options, _ = resolve(parse(["-c", str(output / "config.yaml")]))
    assert {**vars(options), "config": None} == {**vars(resolve(parse(words))[0]), "config": None}
