"""``--eval``: own checkpoints under their own options, and containers that others publish."""

from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch

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


@pytest.fixture
def top1(own) -> str:
    return f"{pd.read_csv(own.parent / 'log.csv').test_top1.iloc[-1]:.2f}"


def test_the_options_are_those_of_the_checkpoint_and_nothing_is_written(
    own, comparison, capsys, top1
):
    before = sorted(comparison.rglob("*"))
    words = COMPARISON.replace("1 2", "1").replace("event-only baseline ", "")
    for given in ("", words):
        status, text = evaluated(capsys, own, given)
        assert status == 0 and "Seed 1." in text and accuracy(text) == top1
    assert sorted(comparison.rglob("*")) == before


def test_what_the_command_line_changes_is_said(own, capsys):
    status, text = evaluated(capsys, own, "--step 3 --threshold 0.6")
    assert status == 0 and "step: 3, in place of the file's 4." in text
    assert "threshold: 0.6, in place of the file's 0.5." in text


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


@pytest.mark.parametrize(
    "kind, said",
    [
        ("prefixed", "a container of timm (Transfer_SCNN, epoch 7): the weights in it."),
        ("average", "the moving average of the weights in it"),
        (
            "older",
            "no constants of the neurons: --threshold and --act-fun give them.\nNot used: fc",
        ),
        ("bare", ""),
    ],
)
def test_published_containers(own, tmp_path, capsys, kind, said, top1):
    path = publish(own, tmp_path / "model_best.pth.tar", kind)
    status, text = evaluated(capsys, path, SPLIT + (" --step 4" if kind == "bare" else ""))
    assert status == 0 and said in text and accuracy(text) == top1
    assert "does not say which recordings it was trained on" in text


def spoil(own: Path, path: Path, how: str) -> Path:
    """Weights that are none of this model's, or a file that is none of weights."""
    content = own.read_bytes()
    pieces = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}
    if how in pieces:
        path.write_bytes(pieces[how])
        return path
    weights = torch.load(own, weights_only=True)["model"]
    objects = {
        "classes": weights | {"fc2.weight": torch.zeros(101, 300), "fc2.bias": torch.zeros(101)},
        "channels": weights | {"feature.0.weight": torch.zeros(15, 3, 5, 5)},
        "nothing": {},
        "code": {"format": 1, "model": Path("run-me")},
    }
    torch.save(objects[how], path)
    return path


@pytest.mark.parametrize(
    "how, words, said",
    [
        ("", "--seed 4", "seed: [4], in place of the file's [1]. With another split"),
        ("", "--shots 3", "shots: 3, in place of the file's 4. With another split"),
        ("", "--protocol he2024", "recordings that it was trained on"),
        ("", "--model Transfer_ResNet18", "does not fit --model Transfer_ResNet18"),
        ("", "--event-size 32", "fc1.weight: copying a param with shape torch.Size([300, 640])"),
        (
            "classes",
            "--step 4",
            "mismatch for fc2.weight: copying a param with shape torch.Size([1",
        ),
        ("channels", "--step 4", "mismatch for feature.0.weight: copying a param with shape"),
        ("nothing", "", "holds no weights"),
        ("code", "", "cannot be read"),
        ("truncated", "", "cannot be read"),
        ("empty", "", "cannot be read"),
        ("text", "", "cannot be read"),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(own, tmp_path, capsys, how, words, said):
    path = spoil(own, tmp_path / "bad.pt", how) if how else own
    status, text = evaluated(capsys, path, words)
    assert status == 2 and said in text and "Traceback" not in text
