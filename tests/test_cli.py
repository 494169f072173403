"""The command line: defaults, YAML, published lines, and what bad input gets."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from writers import random_events, write_mnist_idx, write_nmnist_tree

from tests.conftest import COMPARISON
from tests.program import SMALL, run_train
from tmkt_braincog.arguments import build_parser
from tmkt_braincog.engine import build
from tmkt_braincog.methods import METHODS, SYSTEMS
from tmkt_braincog.options import parse, resolve

PUBLISHED = (
    "--model Transfer_VGG_SNN --node-type LIFNode --source-dataset CALTECH101 --target-dataset "
    "NCALTECH101 --step 10 --batch-size 120 --act-fun QGateGrad --device 0 --seed 42 --num-classes "
    "101 --traindata-ratio 1.0 --smoothing 0.0 --domain-loss --domain-loss-coefficient 0.5 "
    "--TET-loss --regularization"
)


def holds(line: str, **expected) -> list[str]:
    """Check options of this line; returns the remarks."""
    options, remarks = resolve(parse(line.split()))
    assert {name: getattr(options, name) for name in expected} == expected
    return remarks


def test_without_a_word_it_is_tmkt_on_the_built_in_data():
    expected = {"method": ["tmkt"], "target_dataset": "ndigits", "source_dataset": "digits"}
    expected |= {"model": "Transfer_SCNN", "event_size": 28, "step": 10}
    assert holds("--mixup-ratio 0.4", **expected, protocol="clean", mixup_law="geometric") == []


def test_help_names_every_method():
    (action,) = [a for a in build_parser()._actions if a.dest == "method"]
    assert {*METHODS, *SYSTEMS} <= {*re.findall(r"[\w-]+", action.help)}


def test_the_published_line_means_the_baseline_as_it_was():
    expected = {"method": ["baseline"], "model": "Transfer_VGG_SNN", "step": 10, "batch_size": 120}
    expected |= {"epochs": 300, "lr": 5e-3, "sched": "cosine", "opt": "adamw"}
    expected |= {"weight_decay": 0.01, "warmup_epochs": 5, "event_size": 48, "pow": 3}
    expected |= {"domain_loss": True, "TET_loss": True, "regularization": True}
    expected |= {"sliding_training": True, "domain_loss_coefficient": 0.5}
    assert "baseline" in holds(PUBLISHED, **expected)[0]
    assert (build.WARMUP_LR, build.MIN_LR) == (1e-6, 1e-5)
    # Absent switches are off; with a named method the baseline is complete.
    expected = {"TET_loss": False, "regularization": False, "domain_loss": True}
    line = "--domain-loss --domain-loss-coefficient 0.5"
    remark = holds(line, method=["baseline"], **expected)[0]
    assert "TET-loss off" in remark and "domain-loss on" in remark
    holds("--method baseline", TET_loss=True, domain_loss=True, regularization=True)
    holds("--target-dataset folder --window 0.25s --time-unit ms", window="250ms", time_unit="ms")
    line = "--DVS-DA --train-portion 0.8 --event-size 32 --eval-interval 3"
    holds(line, augment="dvs-da", train_portion=0.8, event_size=32, method=["tmkt"])


@pytest.mark.parametrize(
    "switch", ["--domain-loss", "--regularization", "--no-sliding-training", "--pow 2"]
)
def test_every_switch_of_the_baseline_selects_it(switch, tmp_path):
    holds(switch, method=["baseline"])
    holds(f"{switch} --method tmkt", method=["tmkt"])
    # A file selects none, but words beside it do.
    (tmp_path / "c.yaml").write_text("pow: 2\n")
    holds(f"-c {tmp_path / 'c.yaml'}", method=["tmkt"], pow=2)
    holds(f"-c {tmp_path / 'c.yaml'} {switch}", method=["baseline"])


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "mixup-ratio: 0.6\nmag-weight: 0\nseed: [1, 2]\nbatch_size: 16\n",
            {"mixup_ratio": 0.6, "mag_weight": 0, "seed": [1, 2], "batch_size": 24},
        ),
        (
            "no-mag: true\nno-rda: false\nDVS-DA: true\n",
            {"mag_weight": 0, "rda_form": "equation", "augment": "dvs-da"},
        ),
        ("resume: true\nseed: 3\n", {"resume": "auto"}),
        ("resume: false\n", {"resume": None}),
        (
            "method: [tmkt+seal]\nteacher-checkpoint: [a.pt, 'b-{seed}.pt']\n",
            {"method": ["tmkt+seal"], "teacher_checkpoint": ["a.pt", "b-{seed}.pt"]},
        ),
    ],
)
def test_yaml_sets_defaults_and_the_command_line_wins(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(text)
    holds(f"-c {tmp_path / 'c.yaml'} --batch-size 24", **expected)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("mixup-ration: 0.4", "Did you mean"),
        ("batch-size: many", "batch-size"),
        ("TET-loss: 3", "true or false"),
        ("- 1", "option: value"),
        ("a: [", "Cannot read"),
        ("protocol: dirty", "protocol"),
    ],
)
def test_bad_yaml(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=expected):  # a UserError is one
        parse(["-c", str(tmp_path / "c.yaml")])


def bad(capsys, tmp_path, line: str) -> str:
    """Run a line that must fail with status 2 and write nothing; returns its message."""
    output = tmp_path / "never"
    assert run_train([*line.split(), "--output", str(output)]) == 2
    assert not output.exists()
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


# A line and what is said of it.
BAD = """\
--method tmtk | Did you mean 'tmkt'
--model Transfer_VGGSNN | Did you mean 'Transfer_VGG_SNN'
--target-dataset nmnits | Did you mean 'nmnist'
--source-dataset cifar10 | expected digits
--node-type LIFnode | Did you mean 'LIFNode'
--act-fun QGateGrd | Did you mean 'QGateGrad'
--mixup-strategy tms | Did you mean 'tsm'
--mixup-ratio 0 | above 0 and below 1
--mixup-ratio 1.2 | above 0 and below 1
--mixup-ratio 0.1 --mixup-law truncated | above 0.1 and below 1
--mixup-strategy fixed --mixup-ratio 1.5 | outside
--batch-size 1 | --no-rda
--method baseline --batch-size 1 | --no-domain-loss
--shots 5000 | class 0 has only
--shots 1 --batch-size 64 | --epoch-size
--num-classes 11 | 10 classes
--target-dataset nmnist | --data-root
--target-dataset nmnist --data-root does/not/exist | NMNIST/Train
--mixup-ratios 0.4 | --mixup-ratio
--epochs 0 | at least 1
--warmup-epochs 20 | --warmup-epochs
--sched cosin | cosine
--opt adamx | --opt
--device cuda:x | --device
--device cuda:99 | GPU(s), counted from 0
--seed 1 1 | twice
--shots 2 --val-portion 0.1 | --val-portion
--traindata-ratio 0 | No training recording
--eval | --eval needs --eval-checkpoint FILE
--eval --eval_checkpoint no/such.pt | no checkpoint
-c no/such.yaml | Cannot read
--method tmkt --no-domain-loss | loss changes nothing for tmkt. It is an option of baseline
--mixup-strategy sliding --pow 2 | strategy changes nothing for baseline. It is an option of tmkt
--mag-weight 2 --method baseline event-only | --mag-weight changes nothing for baseline, event-only
--event-size 8 | at least 16 pixels
--node-type HHNode | cannot be built
--node-type OnlineLIFNode | cannot be built and run
--node-type ReLUNode | no membrane
"""


@pytest.mark.parametrize("line", BAD.splitlines(), ids=lambda line: line.partition(" | ")[0])
def test_bad_words(capsys, tmp_path, line):
    words, _, expected = line.partition(" | ")
    assert expected in bad(capsys, tmp_path, words)


@pytest.fixture
def nmnist(tmp_path) -> Path:
    """A stand-in in the real formats: two recordings per digit and split, and their images."""
    root = tmp_path / "data"
    labels = [i % 10 for i in range(20)]
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
    for split, idx in (("Train", "train"), ("Test", "t10k")):
        recordings = {(split, d, i + 1): random_events(300, seed=i) for i, d in enumerate(labels)}
        write_nmnist_tree(root, recordings)
        write_mnist_idx(root, idx, images, labels)
    return root


NMNIST = "--source-dataset mnist --target-dataset nmnist --shots 1 --data-root"


def test_training_on_files_in_the_real_format(nmnist, tmp_path, capsys):
    words = [*SMALL.split(), *NMNIST.split(), str(nmnist), "--output", str(tmp_path / "o")]
    assert run_train(words) == 0
    out = capsys.readouterr().out
    # 10 of the 20 training images are twins of recordings that validate.
    assert "10 training, 10 validation and 20 test recordings; 10 static images" in out
    assert "Audit: 0 images" in out
    assert run_train([*words[:-1], str(tmp_path / "leaky"), "--protocol", "he2024"]) == 0
    # All 20 training images, 10 of them twins of recordings that validate.
    out = capsys.readouterr().out
    assert "20 static images" in out and "Audit: 10 images" in out


def test_damaged_data(nmnist, tmp_path, capsys):
    file, labels = nmnist / "NMNIST/Train/3/00004.bin", nmnist / "MNIST/raw/train-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-2])
    message = bad(capsys, tmp_path, f"{NMNIST} {nmnist}")
    assert "00004.bin" in message and "1498" in message
    labels.unlink()
    message = bad(capsys, tmp_path, f"{NMNIST} {nmnist}")
    assert "MNIST/raw" in message and "Expected" in message


def test_an_output_that_holds_something_else_is_refused(capsys, comparison, tmp_path):
    config = yaml.safe_load((comparison / "config.yaml").read_text())
    assert (config["mixup_ratio"], config["model"]) == (0.4, "Transfer_SCNN")
    assert config["method"] == ["event-only", "baseline", "tmkt"]
    words = [*COMPARISON.split(), "--output", str(comparison)]
    before = {p: p.read_bytes() for p in comparison.rglob("*") if p.is_file()}
    for more in (["--mixup-ratio", "0.7"], ["--mixup-ratio", "0.7", "--resume"]):
        assert run_train([*words, *more]) == 2
        assert "mixup_ratio: there 0.4, here 0.7" in capsys.readouterr().err
    assert run_train(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in comparison.rglob("*") if p.is_file()} == before
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    assert run_train([*SMALL.split(), "--output", str(tmp_path)]) == 2
    assert "other files" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("- 1")
    assert run_train([*SMALL.split(), "--output", str(tmp_path)]) == 2
    assert "expected lines of 'option: value'" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TMKT_DEBUG", raising=False)
    assert "Traceback" not in bad(capsys, tmp_path, "--epochs 0")
    monkeypatch.setenv("TMKT_DEBUG", "")  # which the program sets
    assert run_train(["--epochs", "0", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and "UserError" in err
    assert err.rstrip().endswith("Run with --help for all options.")


def test_gpus_of_a_driver_that_is_too_old_are_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert build.choose_device("auto") == (torch.device("cpu"), "")
