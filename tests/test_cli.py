"""The command line: defaults, YAML, published lines, and what bad input gets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from writers import random_events, write_bin, write_mnist_idx, write_nmnist_tree

from tests.program import run_train
from tmkt_braincog.engine import build
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

REPOSITORY = Path(__file__).resolve().parent.parent
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
    "--step",
    "4",
    "--no-tensorboard",
]
PUBLISHED = (
    "--model Transfer_VGG_SNN --node-type LIFNode --source-dataset CALTECH101 --target-dataset NCALTECH101 "
    "--step 10 --batch-size 120 --act-fun QGateGrad --device 0 --seed 42 --num-classes 101 --traindata-ratio 1.0 "
    "--smoothing 0.0 --domain-loss --domain-loss-coefficient 0.5 --TET-loss --regularization"
)


def resolved(line: str):
    return resolve(parse(line.split()))


def test_without_a_word_it_is_tmkt_on_the_built_in_data():
    options, remarks = resolved("--mixup-ratio 0.4")
    assert (
        options.method == ["tmkt"]
        and options.target_dataset == "ndigits"
        and options.source_dataset == "digits"
    )
    assert options.model == "Transfer_SCNN" and options.event_size == 28 and options.step == 10
    assert options.protocol == "clean" and options.mixup_law == "geometric" and remarks == []


def test_the_published_line_means_the_baseline_as_it_was():
    options, remarks = resolved(PUBLISHED)
    assert options.method == ["baseline"] and "baseline" in remarks[0]
    assert (options.model, options.step, options.batch_size, options.epochs) == (
        "Transfer_VGG_SNN",
        10,
        120,
        300,
    )
    assert (options.lr, options.sched, options.opt, options.weight_decay) == (
        5e-3,
        "cosine",
        "adamw",
        0.01,
    )
    assert options.warmup_epochs == 5 and (build.WARMUP_LR, build.MIN_LR) == (1e-6, 1e-5)
    assert (
        options.domain_loss
        and options.TET_loss
        and options.regularization
        and options.sliding_training
    )
    assert options.domain_loss_coefficient == 0.5 and options.pow == 3 and options.event_size == 48


def test_in_a_published_line_absent_switches_are_off():
    options, remarks = resolved("--domain-loss --domain-loss-coefficient 0.5")
    assert options.method == ["baseline"]
    assert not options.TET_loss and not options.regularization and options.domain_loss
    assert "TET-loss off" in remarks[0] and "domain-loss on" in remarks[0]


@pytest.mark.parametrize(
    "switch", ["--domain-loss", "--regularization", "--no-sliding-training", "--pow 2"]
)
def test_every_switch_of_the_baseline_selects_it(switch):
    assert resolved(switch)[0].method == ["baseline"]
    assert resolved(f"{switch} --method tmkt")[0].method == ["tmkt"]


def test_other_published_flags():
    options, _ = resolved(
        "--DVS-DA --no-use-hsv --train-portion 0.8 --event-size 32 --eval-interval 3"
    )
    assert options.augment == "dvs-da" and not options.use_hsv
    assert options.train_portion == 0.8 and options.event_size == 32 and options.method == ["tmkt"]


def test_with_a_named_method_the_baseline_is_complete():
    options, _ = resolved("--method baseline")
    assert options.TET_loss and options.domain_loss and options.regularization


def test_yaml_sets_defaults_and_the_command_line_wins(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("mixup-ratio: 0.6\nmag-weight: 0\nseed: [1, 2]\nbatch_size: 16\n")
    options, _ = resolve(parse(["-c", str(file), "--batch-size", "24"]))
    assert (options.mixup_ratio, options.mag_weight, options.seed, options.batch_size) == (
        0.6,
        0,
        [1, 2],
        24,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixup-ration: 0.4", "Did you mean"),
        ("batch-size: many", "batch-size"),
        ("sync-bn: 3", "true or false"),
        ("- 1", "option: value"),
        ("a: [", "Cannot read"),
        ("protocol: dirty", "protocol"),
    ],
)
def test_bad_yaml(tmp_path, text, expected):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        parse(["-c", str(tmp_path / "c.yaml")])


def test_help_is_grouped_and_teaches():
    done = subprocess.run(
        [sys.executable, "main_transfer.py", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    for words in (
        "examples:",
        "TMKT: mixing",
        "baseline (He et al.)",
        "optimisation (timm)",
        "(default: 0.4)",
    ):
        assert words in done.stdout


def bad(capsys, tmp_path, line: str) -> str:
    """Run a line that must fail with status 2 and write nothing; returns its message."""
    output = tmp_path / "never"
    assert run_train([*line.split(), "--output", str(output)]) == 2
    assert not output.exists()
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--method tmtk", "Did you mean 'tmkt'"),
        ("--model Transfer_VGGSNN", "Did you mean 'Transfer_VGG_SNN'"),
        ("--target-dataset nmnits", "Did you mean 'nmnist'"),
        ("--source-dataset cifar10", "expected digits"),
        ("--node-type LIFnode", "Did you mean 'LIFNode'"),
        ("--act-fun QGateGrd", "Did you mean 'QGateGrad'"),
        ("--mixup-strategy tms", "Did you mean 'tsm'"),
        ("--mixup-ratio 0", "above 0 and below 1"),
        ("--mixup-ratio 1.2", "above 0 and below 1"),
        ("--mixup-ratio 0.1 --mixup-law truncated", "above 0.1 and below 1"),
        ("--mixup-strategy fixed --mixup-ratio 1.5", "outside"),
        ("--batch-size 1", "--no-rda"),
        ("--method baseline --batch-size 1", "--no-domain-loss"),
        ("--shots 5000", "class 0 has only"),
        ("--shots 1 --batch-size 64", "--epoch-size"),
        ("--num-classes 11", "10 classes"),
        ("--target-dataset nmnist", "--data-root"),
        ("--target-dataset nmnist --data-root does/not/exist", "NMNIST/Train"),
        ("--mixup-ratios 0.4", "--mixup-ratio"),
        ("--epochs 0", "at least 1"),
        ("--warmup-epochs 20", "--warmup-epochs"),
        ("--sched cosin", "cosine"),
        ("--opt adamx", "--opt"),
        ("--device cuda:x", "--device"),
        ("--seed 1 1", "twice"),
        ("--shots 2 --val-portion 0.1", "--val-portion"),
        ("--traindata-ratio 0", "No training recording"),
        ("--eval", "--eval-checkpoint"),
        ("--eval --eval_checkpoint no/such.pt", "no checkpoint"),
        ("-c no/such.yaml", "Cannot read"),
        (
            "--method tmkt --no-domain-loss",
            "--no-domain-loss changes nothing for tmkt. It is an option of baseline",
        ),
        (
            "--mixup-strategy sliding --pow 2",
            "--mixup-strategy changes nothing for baseline. It is an option of tmkt",
        ),
        (
            "--mag-weight 2 --method baseline event-only",
            "--mag-weight changes nothing for baseline, event-only",
        ),
        ("--event-size 8", "at least 16 pixels"),
        ("--node-type HHNode", "cannot be built"),
        ("--node-type OnlineLIFNode", "cannot be built and run"),
        ("--node-type ReLUNode", "no membrane"),
    ],
)
def test_bad_words(capsys, tmp_path, line, expected):
    assert expected in bad(capsys, tmp_path, line)


@pytest.fixture
def nmnist(tmp_path) -> Path:
    """A stand-in tree in the real formats: two recordings per digit and split, and their images."""
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
    words = [*SMALL, *NMNIST.split(), str(nmnist), "--output", str(tmp_path / "o")]
    assert run_train(words) == 0
    out = capsys.readouterr().out
    # 10 of the 20 training images are twins of recordings that validate.
    assert "10 training, 10 validation and 20 test recordings; 10 static images" in out
    assert "Audit: 0 static twins" in out
    assert run_train([*words[:-1], str(tmp_path / "leaky"), "--protocol", "he2024"]) == 0
    # All 20 training images, 10 of them twins of recordings that validate.
    out = capsys.readouterr().out
    assert "20 static images" in out and "Audit: 10 static twins" in out


def test_empty_recording(nmnist, tmp_path, capsys):
    (nmnist / "NMNIST/Train/3/00004.bin").write_bytes(b"")
    assert "00004.bin" in bad(capsys, tmp_path, f"{NMNIST} {nmnist}")


def test_truncated_recording(nmnist, tmp_path, capsys):
    file = nmnist / "NMNIST/Train/3/00004.bin"
    file.write_bytes(file.read_bytes()[:-2])
    message = bad(capsys, tmp_path, f"{NMNIST} {nmnist}")
    assert "00004.bin" in message and "1498" in message


def test_event_outside_the_sensor(nmnist, tmp_path, capsys):
    events = random_events(50, seed=1)
    events["x"][7] = 99
    write_bin(nmnist / "NMNIST/Train/3/00004.bin", events)
    message = bad(capsys, tmp_path, f"{NMNIST} {nmnist}")
    assert "00004.bin" in message and "99" in message and "34" in message


def test_class_folders_that_do_not_match(nmnist, tmp_path, capsys):
    (nmnist / "NMNIST/Train/3").rename(nmnist / "NMNIST/Train/three")
    assert "three" in bad(capsys, tmp_path, f"{NMNIST} {nmnist}")


def test_missing_images_print_the_expected_tree(nmnist, tmp_path, capsys):
    (nmnist / "MNIST/raw/train-labels-idx1-ubyte").unlink()
    message = bad(capsys, tmp_path, f"{NMNIST} {nmnist}")
    assert "MNIST/raw" in message and "Expected" in message


def test_output_of_a_different_run_is_refused(capsys, tmp_path):
    words = [*SMALL, "--output", str(tmp_path / "o")]
    assert run_train(words) == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert run_train([*words, "--mixup-ratio", "0.7"]) == 2
    assert "mixup_ratio: there 0.4, here 0.7" in capsys.readouterr().err
    assert run_train([*words, "--mixup-ratio", "0.7", "--resume"]) == 2
    assert run_train(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_output_with_other_files_is_refused(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    assert run_train([*SMALL, "--output", str(tmp_path)]) == 2
    assert "other files" in capsys.readouterr().err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    assert run_train([*SMALL, "--seed", "1", "--output", str(folder / "o")]) == 0
    return folder / "o/runs/tmkt-seed1/last.pt"


def test_checkpoint_of_another_model(capsys, checkpoint):
    line = [*SMALL, "--eval", "--eval_checkpoint", str(checkpoint)]
    assert run_train([*line, "--model", "Transfer_ResNet18"]) == 2
    assert "does not fit --model Transfer_ResNet18" in capsys.readouterr().err
    assert run_train([*line, "--event-size", "32"]) == 2
    assert "fc1.weight: file (300, 640), model (300, 1000)" in capsys.readouterr().err


def test_resuming_another_run(capsys, tmp_path, checkpoint):
    words = [*SMALL, "--seed", "2", "--resume", str(checkpoint), "--output", str(tmp_path / "o")]
    assert run_train(words) == 2
    assert "seed: there [1], here [2]" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "code"])
def test_corrupt_checkpoint(capsys, tmp_path, checkpoint, damage):
    file = tmp_path / "bad.pt"
    content = checkpoint.read_bytes()
    if damage == "code":
        torch.save({"format": 1, "model": Path("run-me")}, file)
    else:
        file.write_bytes(
            {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage]
        )
    assert run_train([*SMALL, "--eval", "--eval_checkpoint", str(file)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_config_is_saved_with_the_run(checkpoint):
    config = yaml.safe_load((checkpoint.parents[2] / "config.yaml").read_text())
    assert (
        config["mixup_ratio"] == 0.4
        and config["method"] == ["tmkt"]
        and config["model"] == "Transfer_SCNN"
    )


def test_debug_shows_the_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TMKT_DEBUG", raising=False)
    assert "Traceback" not in bad(capsys, tmp_path, "--epochs 0")
    monkeypatch.setenv("TMKT_DEBUG", "")  # which the program sets
    assert run_train(["--epochs", "0", "--debug"]) == 2
    err = capsys.readouterr().err
    assert (
        "Traceback" in err
        and "UserError" in err
        and err.rstrip().endswith("Run with --help for all options.")
    )


def test_a_short_switch_in_a_file(tmp_path):
    (tmp_path / "c.yaml").write_text("no-mag: true\nno-rda: false\nDVS-DA: true\n")
    options = resolved(f"-c {tmp_path / 'c.yaml'}")[0]
    assert (options.mag_weight, options.rda_form, options.augment) == (0, "equation", "dvs-da")


def test_resume_in_a_file(tmp_path):
    (tmp_path / "c.yaml").write_text("resume: true\nseed: 3\n")
    assert resolved(f"-c {tmp_path / 'c.yaml'}")[0].resume == "auto"
    (tmp_path / "c.yaml").write_text("resume: false\n")
    assert resolved(f"-c {tmp_path / 'c.yaml'}")[0].resume is None
