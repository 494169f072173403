"""``--eval``: own checkpoints under their own options, and containers that others publish."""

from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from tests.conftest import COMPARISON
from tests.program import run_train

SPLIT = " --shots 4 --seed 1"


@pytest.fixture
def own(comparison) -> Path:
    return comparison / "runs/tmkt-seed1/last.pt"


def evaluated(capsys, path, words="") -> tuple[int, str]:
    status = run_train(["--eval", "--eval-checkpoint", str(path), *words.split()])
    seen = capsys.readouterr()
    return status, seen.out + seen.err


def accuracy(text: str) -> str:
    return text.split("top-1 ")[1].split(" %")[0]


def test_the_options_are_those_of_the_checkpoint_and_nothing_is_written(own, comparison, capsys):
    before = sorted(comparison.rglob("*"))
    status, alone = evaluated(capsys, own)
    assert status == 0 and "Seed 1." in alone
    words = COMPARISON.replace("1 2", "1").replace("event-only baseline ", "")
    assert accuracy(alone) == accuracy(evaluated(capsys, own, words)[1])
    last = pd.read_csv(own.parent / "log.csv").test_top1.iloc[-1]
    assert float(accuracy(alone)) == pytest.approx(last, abs=0.005)
    assert sorted(comparison.rglob("*")) == before


def test_what_the_command_line_changes_is_said(own, capsys):
    status, text = evaluated(capsys, own, "--step 3 --threshold 0.6")
    assert status == 0 and "step: 3, in place of the file's 4." in text
    assert "threshold: 0.6, in place of the file's 0.5." in text


@pytest.mark.parametrize("words", ["--seed 4", "--shots 3", "--protocol he2024"])
def test_another_split_is_refused(own, capsys, words):
    status, text = evaluated(capsys, own, words)
    assert status == 2 and "recordings that it was trained on" in text
    assert f"{words.split()[1]} here" in text


def publish(own: Path, path: Path, kind: str) -> Path:
    """As the baseline's code stores weights: ``timm.utils.CheckpointSaver``, or alone."""
    weights = torch.load(own, weights_only=True)["model"]
    args = Namespace(model="Transfer_SCNN", step=4, act_fun="QGateGrad", event_size=28)
    args.num_classes, args.lr, args.clip = 10, 0.1, None
    state = {"epoch": 7, "arch": "Transfer_SCNN", "state_dict": weights, "version": 2}
    state |= {"optimizer": {"state": {}}, "args": args}
    if kind == "prefixed":  # by DDP
        state["state_dict"] = {f"module.{name}": value for name, value in weights.items()}
    if kind == "average":
        state["state_dict_ema"] = weights
        state["state_dict"] = {name: torch.zeros_like(value) for name, value in weights.items()}
    if kind == "older":  # without the neurons' constants, with a head that is not used here
        kept = {n: v for n, v in weights.items() if not n.endswith((".threshold", ".alpha"))}
        state["state_dict"] = kept | {"fc.1.weight": torch.zeros(3, 4)}
    torch.save(weights if kind == "bare" else state, path)
    return path


@pytest.mark.parametrize("kind", ["plain", "prefixed", "average", "older", "bare"])
def test_published_containers(own, tmp_path, capsys, kind):
    path = publish(own, tmp_path / "model_best.pth.tar", kind)
    status, text = evaluated(capsys, path, SPLIT + (" --step 4" if kind == "bare" else ""))
    assert status == 0, text
    assert accuracy(text) == accuracy(evaluated(capsys, own)[1])
    assert "does not say which recordings it was trained on" in text
    said = {
        "bare": ("",),
        "average": ("the moving average of the weights in it",),
        "older": ("Not used: fc.1.weight.", "no constants of the neurons"),
    }
    of_timm = (f"{path} is a container of timm (Transfer_SCNN, epoch 7)",)
    assert all(words in text for words in said.get(kind, of_timm))
    if kind == "plain":
        status, text = evaluated(capsys, path, "--step 6")
        assert status == 0 and "step: 6, in place of the file's 4." in text


@pytest.mark.parametrize(
    "what, said",
    [
        ("classes", "tell 101 classes apart (fc2.weight); the data set has 10"),
        ("channels", "take 3 input channels"),
        ("nothing", "holds no weights"),
        ("object", "cannot be read"),
    ],
)
def test_weights_that_do_not_fit_say_what_differs(own, tmp_path, capsys, what, said):
    weights = torch.load(own, weights_only=True)["model"]
    classes = {"fc2.weight": torch.zeros(101, 300), "fc2.bias": torch.zeros(101)}
    channels = {"feature.0.weight": torch.zeros(15, 3, 5, 5)}
    found = {"classes": weights | classes, "channels": weights | channels, "nothing": {}}
    torch.save(found.get(what, nn.Linear(1, 1)), tmp_path / "w.pth")
    status, text = evaluated(capsys, tmp_path / "w.pth", "--step 4")
    assert status == 2 and said in text


@pytest.mark.parametrize(
    "words, said",
    [
        ("--model Transfer_ResNet18", "does not fit --model Transfer_ResNet18"),
        ("--event-size 32", "fc1.weight: file (300, 640), model (300, 1000)"),
    ],
)
def test_a_checkpoint_of_another_model(own, capsys, words, said):
    status, text = evaluated(capsys, own, words)
    assert status == 2 and said in text


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "code"])
def test_a_corrupt_checkpoint(own, tmp_path, capsys, damage):
    file, content = tmp_path / "bad.pt", own.read_bytes()
    if damage == "code":
        torch.save({"format": 1, "model": Path("run-me")}, file)
    else:
        cut = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}
        file.write_bytes(cut[damage])
    status, text = evaluated(capsys, file)
    assert status == 2 and "cannot be read" in text
