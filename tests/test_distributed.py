"""N processes train like one: losses and gradients in float64, and torchrun on the command line."""

import os
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.models import create_model

from tests.program import run_train
from tests.stopping import in_float64
from tmkt_braincog import distributed
from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.data.sampling import epoch_batches
from tmkt_braincog.engine.compare import check_share
from tmkt_braincog.engine.evaluate import evaluate
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import R2ETL, TMKT, Baseline, EventOnly, VL2Spike
from tmkt_braincog.mixing import Progress
from tmkt_braincog.models import TransferModel
from tmkt_braincog.models.batchnorm import synchronise
from tmkt_braincog.models.two_stems import TwoStems

B, T = 6, 3
MODELS = {
    "Transfer_SCNN": {"event_size": 16},
    "Transfer_VGG_SNN": {"event_size": 16, "width_divisor": 16},
    "Transfer_ResNet18": {"event_size": 16, "width_divisor": 16},
}
CASES = [(m, e, "TMKT") for m in MODELS for e in ("step", "fused")]
CASES += [("Transfer_VGG_SNN", "fused", method) for method in ("Baseline", "EventOnly")]
CASES += [("Transfer_SCNN", "fused", method) for method in ("R2ETL", "VL2Spike")]
METHODS = {
    "TMKT": lambda model: TMKT(T, model.num_features),
    "Baseline": lambda model: Baseline(T),
    "EventOnly": lambda model: EventOnly(),
    "R2ETL": lambda model: R2ETL(),
    "VL2Spike": lambda model: taught(model.num_features),
}


def taught(features: int) -> Baseline:
    method, part = Baseline(T), VL2Spike(features)
    g = torch.Generator().manual_seed(4)
    part.teacher, text = (torch.randn(n, 6, generator=g).double() for n in (B, 4))
    part.meet(SimpleNamespace(text=text))
    method.parts.append(part)
    return method


def batch() -> Pair:
    g = torch.Generator().manual_seed(0)
    return Pair(
        events=torch.randint(0, 3, (B, T, 2, 16, 16), generator=g).double(),
        static=torch.rand(B, 2, 16, 16, generator=g).double(),
        label=torch.arange(B) % 4,
        draws=torch.rand(B, T, generator=g).double(),
        index=torch.arange(B),
        image=torch.arange(B),
    )


def training_step(model_name: str, executor: str, method_name: str) -> dict:
    """Losses, gradients and buffers of this process's share of the batch."""
    torch.manual_seed(1)
    build = partial(create_model, model_name, num_classes=4, step=T, **MODELS[model_name])
    model = (TwoStems(build) if method_name == "R2ETL" else build()).double()
    if model_name == "Transfer_SCNN":
        model.fc1.weight.data *= 4  # as initialised the last layer hardly fires
    if distributed.count() > 1:
        synchronise(model)
    model.executor = executor
    method = METHODS[method_name](model).double()
    losses = distributed.data_parallel(model, method)
    own = torch.tensor(distributed.share(list(range(B))))
    found = {}
    for k in range(2):
        out = losses(Pair(*(t[own] for t in batch())), Progress(1, 2))
        model.zero_grad()
        method.zero_grad()
        out["loss"].backward()
        found |= {f"{k} {name}": distributed.mean(value) for name, value in out.items()}
        named = (*model.named_parameters(), *method.named_parameters())
        found |= {f"{k} grad {n}": p.grad for n, p in named if p.grad is not None}
    found |= {f"buffer {n}": b.double() for n, b in model.named_buffers()}
    return {name: value.detach().clone() for name, value in found.items()}


def evaluation() -> torch.Tensor:
    torch.manual_seed(1)
    model = create_model("Transfer_SCNN", num_classes=4, step=T, event_size=16)
    g = torch.Generator().manual_seed(3)
    frames, labels = torch.randint(0, 9, (7, T, 2, 16, 16), generator=g), torch.arange(7) % 4
    device = torch.device("cpu")
    seen = [evaluate(model, frames, labels, np.arange(n), device, 2) for n in (7, 1)]
    return torch.tensor([[m.top1, m.top5, m.loss] for m in seen])


def worker(rank: int, folder: str) -> None:
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", "0"
    store = dist.FileStore(f"{folder}/store", 2)
    how = {"rank": rank, "world_size": 2, "timeout": timedelta(minutes=2)}
    dist.init_process_group("gloo", store=store, **how)
    torch.set_num_threads(1)
    found = {case: training_step(*case) for case in CASES}
    found["evaluation"] = evaluation()
    found["joined"] = distributed.joined(rank - 3), distributed.largest(rank - 3)
    try:
        distributed.on_main(lambda: (_ for _ in ()).throw(distributed.UserError("full disk")))
    except distributed.UserError as error:
        found["error"] = str(error)
    order, seen = [], Path(folder, "seen")
    distributed.main_first(lambda: order.append(seen.exists() or seen.touch()))
    found["order"] = order
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def largest_difference(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max(((a[k] - b[k]).abs().max() / max(1, b[k].abs().max())).item() for k in a)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_with_half_the_batch_are_one_with_the_whole(two, case):
    """Losses, gradients and running statistics, in both processes."""
    one = training_step(*case)
    assert sum("grad" in k for k in one) > 10
    for found in two:
        assert largest_difference(found[case], one) < 1e-11


def test_a_head_that_is_not_used_gets_no_gradient(two):
    event_only = two[0][("Transfer_VGG_SNN", "fused", "EventOnly")]
    assert any("grad dvs_fc" in k for k in event_only)
    assert not any("grad rgb_fc" in k for k in event_only)


def test_evaluation_is_shared_out(two):
    one = evaluation()
    for found in two:
        torch.testing.assert_close(found["evaluation"], one, rtol=1e-6, atol=1e-5)


def test_values_errors_and_order_of_the_main_process(two):
    assert [found["joined"] for found in two] == [([-3, -2], -2)] * 2
    assert [found["error"] for found in two] == ["full disk"] * 2
    assert [found["order"] for found in two] == [[None], [True]]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_shares_are_disjoint_and_whole(monkeypatch, n):
    batches = epoch_batches(np.arange(50) % 7, 12, 60, "balanced", seed=1, epoch=2)
    monkeypatch.setattr(distributed, "count", lambda: n)
    parts = []
    for r in range(n):
        monkeypatch.setattr(distributed, "rank", lambda r=r: r)
        parts.append([distributed.share(b) for b in batches])
    for whole, *own in zip(batches, *parts, strict=True):
        assert {len(o) for o in own} == {12 // n}
        assert sorted(i for o in own for i in o) == sorted(whole)


# From the command line

RUN = (
    "--shots 2 --batch-size 8 --epoch-size 32 --warmup-epochs 1 --seed 3 --model Transfer_SCNN "
    "--event-size 16 --step 3 --no-tensorboard --device cpu --log-interval 1"
)
TORCHRUN = "-m torch.distributed.run --standalone --nproc_per_node=2"


def program(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    line = [sys.executable, *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def log(folder: Path, name: str = "tmkt") -> pd.DataFrame:
    return pd.read_csv(folder / "runs" / f"{name}-seed3" / "log.csv").drop(columns="train_s")


@pytest.mark.slow
def test_torchrun_gives_the_table_of_one_process(tmp_path):
    words = [*RUN.split(), "--epochs", "2", "--method", "baseline", "tmkt", "--output"]
    done = program(*TORCHRUN.split(), "main_transfer.py", *words, str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written:") == 1 and done.stderr.count("training images") <= 1
    said = " ".join(done.stdout.split())
    assert "2 processes, which share every batch." in said
    assert run_train([*words, str(tmp_path / "one")]) == 0
    for name in ("baseline", "tmkt"):
        logs = [log(tmp_path / folder, name) for folder in ("two", "one")]
        pd.testing.assert_frame_equal(*logs, rtol=1e-4)
    runs = tmp_path / "two" / "runs" / "tmkt-seed3"
    files = {"best.pt", "last.pt", "log.csv", "result.json", "split.json", "environment.json"}
    files |= {"predictions.csv"}
    assert {p.name for p in runs.iterdir()} == files


@pytest.mark.slow
def test_stopped_with_two_processes_and_resumed_with_one(tmp_path, monkeypatch):
    """In float64, where no rounding flips a spike."""
    words = [*RUN.split(), "--epochs", "4", "--method", "tmkt", "--output"]
    output = tmp_path / "out"
    start = [*TORCHRUN.split(), "tests/stopping.py", "1", "2"]
    stopped = program(*start, *words, str(output))
    assert stopped.returncode != 0
    assert "torchrun --nproc_per_node=2 -m tmkt_braincog train -c" in stopped.stderr
    assert "after epoch 1, step 3 of 4" in stopped.stderr
    folder = output / "runs" / "tmkt-seed3"
    assert torch.load(folder / "last.pt", weights_only=True)["position"]["epoch"] == 1
    assert not (folder / "result.json").exists()
    monkeypatch.setattr(TransferModel, "forward", in_float64(TransferModel.forward))
    torch.set_default_dtype(torch.float64)
    try:
        assert run_train([*words, str(output), "--resume"]) == 0
        assert run_train([*words, str(tmp_path / "one")]) == 0
    finally:
        torch.set_default_dtype(torch.float32)
    logs = [log(folder).iloc[:, :6] for folder in (output, tmp_path / "one")]
    pd.testing.assert_frame_equal(*logs, rtol=1e-8)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 2)
    check_share(8)
    said = r"--batch-size 9 .* cannot be shared equally by 2: take 8 or 10"
    with pytest.raises(UserError, match=said):
        check_share(9)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_what_all_processes_refuse_is_said_by_the_first(monkeypatch, capsys, rank):
    """The others wait for torchrun to end them, and speak only where they alone have failed."""
    waited = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("time.sleep", waited.append)
    assert run_train(["--epochs", "0"]) == 2
    assert len(waited) == int(rank)
    assert capsys.readouterr().err.startswith("process 1: error: " if rank == "1" else "error: ")
