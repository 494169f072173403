"""``--eval``: this program's checkpoints under their own options, and the containers in which others publish weights."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.program import run_train

RUN = "--shots 2 --batch-size 8 --epoch-size 16 --epochs 1 --warmup-epochs 0 --seed 3 --step 4 --no-tensorboard"


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    assert run_train([*RUN.split(), "--output", str(folder / "o")]) == 0
    return folder / "o/runs/tmkt-seed3/last.pt"


def evaluated(capsys, path, words="") -> tuple[int, str]:
    status = run_train(["--eval", "--eval-checkpoint", str(path), *words.split()])
    seen = capsys.readouterr()
    return status, seen.out + seen.err


def accuracy(text: str) -> str:
    return text.split("top-1 ")[1].split(" %")[0]


def test_the_options_are_those_of_the_checkpoint(own, capsys):
    status, alone = evaluated(capsys, own)
    assert status == 0 and "Seed 3." in alone
    assert accuracy(alone) == accuracy(evaluated(capsys, own, RUN)[1])
    log = (own.parent / "log.csv").read_text().splitlines()
    row = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    assert float(accuracy(alone)) == pytest.approx(float(row["test_top1"]), abs=0.005)


def test_what_the_command_line_changes_is_said(own, capsys):
    status, text = evaluated(capsys, own, "--step 3 --threshold 0.6")
    assert status == 0
    assert (
        "step: 3, in place of the file's 4." in text
        and "threshold: 0.6, in place of the file's 0.5." in text
    )


@pytest.mark.parametrize("words", ["--seed 4", "--shots 3", "--protocol he2024"])
def test_another_split_is_refused(own, capsys, words):
    status, text = evaluated(capsys, own, words)
    assert (
        status == 2
        and "recordings that it was trained on" in text
        and f"{words.split()[1]} here" in text
    )


def test_no_file(capsys):
    assert run_train(["--eval"]) == 2
    assert "--eval-checkpoint FILE" in capsys.readouterr().err


def publish(own: Path, path: Path, kind: str) -> Path:
    """As the baseline's code stores its weights: ``timm.utils.CheckpointSaver``, DDP's prefix, or the state dict alone."""
    weights = torch.load(own, weights_only=True)["model"]
    args = Namespace(
        model="Transfer_SCNN",
        step=4,
        act_fun="QGateGrad",
        event_size=28,
        num_classes=10,
        lr=0.1,
        clip=None,
    )
    state = {
        "epoch": 7,
        "arch": "Transfer_SCNN",
        "state_dict": weights,
        "optimizer": {"state": {}},
        "version": 2,
    }
    if kind == "prefixed":
        state["state_dict"] = {f"module.{name}": value for name, value in weights.items()}
    if kind == "average":
        state["state_dict_ema"] = weights
        state["state_dict"] = {name: torch.zeros_like(value) for name, value in weights.items()}
    if kind == "older":  # without the neurons' constants, with a head that is not used here
        kept = {n: v for n, v in weights.items() if not n.endswith((".threshold", ".alpha"))}
        state["state_dict"] = kept | {"fc.1.weight": torch.zeros(3, 4)}
    torch.save(weights if kind == "bare" else state | {"args": args}, path)
    return path


@pytest.mark.parametrize("kind", ["plain", "prefixed", "average", "older", "bare"])
def test_published_containers(own, tmp_path, capsys, kind):
    path = publish(own, tmp_path / "model_best.pth.tar", kind)
    words = "--shots 2 --seed 3" + (" --step 4" if kind == "bare" else "")
    status, text = evaluated(capsys, path, words)
    assert status == 0, text
    assert accuracy(text) == accuracy(evaluated(capsys, own)[1])
    assert "does not say which recordings it was trained on" in text
    if kind != "bare":
        assert f"{path} is a container of timm (Transfer_SCNN, epoch 7)" in text
    if kind == "average":
        assert "the moving average of the weights in it" in text
    if kind == "older":
        assert "Not used: fc.1.weight." in text and "no constants of the neurons" in text


def test_another_number_of_steps_is_said(own, tmp_path, capsys):
    path = publish(own, tmp_path / "model_best.pth.tar", "plain")
    status, text = evaluated(capsys, path, "--step 6")
    assert status == 0 and "step: 6, in place of the file's 4." in text


@pytest.mark.parametrize("what", ["classes", "channels", "nothing", "object"])
def test_weights_that_do_not_fit_say_what_differs(own, tmp_path, capsys, what):
    path = publish(own, tmp_path / "w.pth", "bare")
    weights = torch.load(path, weights_only=True)
    if what == "classes":
        weights |= {"fc2.weight": torch.zeros(101, 300), "fc2.bias": torch.zeros(101)}
    elif what == "channels":
        weights["feature.0.weight"] = torch.zeros(15, 3, 5, 5)
    torch.save(
        {"classes": weights, "channels": weights, "nothing": {}, "object": nn.Linear(1, 1)}[what],
        path,
    )
    status, text = evaluated(capsys, path, "--step 4")
    words = {
        "classes": "tell 101 classes apart (fc2.weight); the data set has 10",
        "channels": "take 3 input channels",
        "nothing": "holds no weights",
        "object": "cannot be read",
    }
    assert status == 2 and words[what] in text
