"""The shell scripts and their settings, against the published tables."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standins
from writers import random_events

from tests.program import run_train
from tmkt_braincog.data.ncaltech101 import CLASSES
from tmkt_braincog.options import identity, parse, resolve

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / "run_scripts"
# The tables of He et al. (AAAI 2024) as their code runs, and r_m of TMKT; words of the program.
COMMON = (
    "--opt adamw --weight-decay 0.01 --warmup-epochs 5 --smoothing 0.0 --node-type LIFNode "
    "--threshold 0.5 --tau 2.0 --domain-loss --domain-loss-coefficient 0.5 --sliding-training "
    "--pow 3 --protocol clean --traindata-ratio 1.0 --amp none"
)
VGG = "--model Transfer_VGG_SNN --step 10 --event-size 48 --batch-size 120 --epochs 300 --lr 5e-3 "
VGG += "--sched cosine --act-fun QGateGrad"
TABLE = {
    "ncaltech": f"NCALTECH101 {VGG} --TET-loss --regularization --augment crop --sampling balanced "
    "--mixup-ratio 0.4 --theta learned",
    "cepdvs": "CEP-DVS --model Transfer_ResNet18 --step 6 --event-size 48 --batch-size 120 "
    "--epochs 200 --lr 5e-3 --sched cosine --act-fun QGateGrad --TET-loss --regularization "
    "--augment dvs-da --sampling shuffle --mixup-ratio 0.9 --theta learned",
    "nomniglot": "N-OMNIGLOT --model Transfer_SCNN --step 12 --event-size 28 --batch-size 16 "
    "--epochs 50 --lr 1.2 --sched step --decay-epochs 40 --act-fun BackEIGateGrad --no-TET-loss "
    "--no-regularization --augment none --sampling shuffle --mixup-ratio 0.95 --theta fixed "
    "--frame-mode frequency",
    "cifar10dvs": f"CIFAR10-DVS {VGG} --augment none --sampling shuffle --mixup-ratio 0.4",
}


@pytest.mark.parametrize("name", TABLE)
def test_settings_are_the_published_ones_and_the_data_set_alone_means_them(name):
    options, _ = resolve(parse(["-c", name]))
    words = f"--target-dataset {TABLE[name]} {COMMON}".split()
    expected = vars(parse(words))
    assert {key: getattr(options, key) for key in expected} == expected
    assert len(expected) >= 14 + 11 and options.clip_grad is None
    by_name, _ = resolve(parse(words[:2]))
    assert identity(options) == identity(by_name)


PUBLISHED_LINES = {
    "cepdvs": "--model Transfer_ResNet18 --node-type LIFNode --source-dataset RGBCEPDVS "
    "--target-dataset CEPDVS --step 6 --batch-size 120 --act-fun QGateGrad --device 4 --seed 42 "
    "--num-classes 20 --domain-loss --domain-loss-coefficient 0.5 --TET-loss --smoothing 0.0 "
    "--event-size 48 --DVS-DA --epochs 200 --regularization",
    "nomniglot": "--model Transfer_SCNN --node-type LIFNode --source-dataset omni --target-dataset "
    "nomni --step 12 --batch-size 16 --num-classes 1623 --act-fun BackEIGateGrad --epochs 50 "
    "--device 6 --log-interval 500 --smoothing 0.0 --lr 1.2 --sched step --decay-epochs 40 --opt "
    "adamw --warmup-epochs 5 --seed 42 --domain-loss --domain-loss-coefficient 0.5",
}


@pytest.mark.parametrize("name", PUBLISHED_LINES)
def test_the_published_line_means_the_script(name):
    line, _ = resolve(parse(PUBLISHED_LINES[name].split()))
    script, _ = resolve(parse(["-c", name, "--method", "baseline"]))
    assert identity(line) == identity(script)


def test_every_data_set_has_its_scripts():
    for name in [*TABLE, "nmnist"]:
        for what in ("event_only", "baseline", "tmkt", "compare"):
            script = (SCRIPTS / f"{name}_{what}.sh").read_text()
            assert f'run.sh" {name} ' in script and f" {what} " in script
    for method, on in (("ckd", "static"), ("seal", "events")):
        for data, settings in (("ndigits", "quickstart"), ("nmnist", "nmnist")):
            script = (SCRIPTS / f"{data}_{method}.sh").read_text()
            assert f'distil.sh" {settings} {method} {on} "--teacher ' in script


def run(script, *words):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"TMKT_SKIP_SETUP": "1", "PATH": path}
    line = ["bash", str(SCRIPTS / script), *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_script_trains_a_teacher_and_then_the_method(tmp_path, monkeypatch):
    how = "--teacher resnet10t --teacher-size 32 --teacher-epochs 1 --no-pretrained"
    monkeypatch.setenv("TMKT_TEACHER", how)
    words = "--seed 1 2 --shots 4 --static-images 12 --step 4 --event-size 28 --batch-size 10 "
    words += "--epoch-size 20 --epochs 2 --warmup-epochs 0 "
    words += f"--teacher-checkpoint {tmp_path}/t-{{seed}}.pt --output {tmp_path / 'out'}"
    done = run("ndigits_ckd.sh", *words.split())
    assert done.returncode == 0, done.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open()))
    assert [(row["method"], row["seed"]) for row in rows] == [("ckd", "1"), ("ckd", "2")]
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["t-1.pt", "t-2.pt"]
    assert done.stdout.count("resnet10t at 32 x 32, trained on") == 2
    assert "--method ckd" not in done.stderr


def test_a_manual_download_is_explained(tmp_path):
    done = run("cepdvs_tmkt.sh", tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert "CEP-DVS/data/MAT/img" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_script_of_sweeps(tmp_path):
    done = run("sweep.sh", "--output", tmp_path / "o", "--vary", "seed=1,1")
    assert done.returncode == 2 and "names the same value twice" in done.stderr


TREES = {
    "ncaltech": (standins.write_ncaltech101, (120, 90), dict.fromkeys(CLASSES, 10)),
    "cepdvs": (standins.write_cepdvs, (200, 150), np.repeat(np.arange(20), 20)),
    "cifar10dvs": (standins.write_cifar10dvs, (128, 128), 20, 50),
}
SAID = {
    "ncaltech": "1010 recordings, 1010 images, 101 classes|909 training, 0 validation and 101 test"
    "|101 of all 1010 images are those",
    "cepdvs": "400 recordings, 400 images, 20 classes|200 training, 0 validation and 80 test"
    "|80 of them excluded",
    "cifar10dvs": "200 recordings, 300 images, 10 classes|180 training, 0 validation and 20 test"
    "|never published",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_a_tree_in_the_real_format_is_trained_to_the_table(tmp_path, monkeypatch, capsys, name):
    """Stand-ins: few files with few events each, but real formats, names and classes.

    With the small network: evaluating the large ones takes minutes on a CPU. The script trains,
    then goes on where it stopped. No N-Omniglot: it must be complete, 1,623 characters.
    """
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))
    write, sensor, *how = TREES[name]
    write(tmp_path, [random_events(400, seed, sensor) for seed in range(4)], *how)
    out = tmp_path / "out"
    words = "--epochs 1 --warmup-epochs 0 --batch-size 4 --epoch-size 8 --model Transfer_SCNN"
    words = [*words.split(), "--output", str(out)]
    if name == "ncaltech":
        done = run("ncaltech_tmkt.sh", tmp_path, *words)
        assert done.returncode == 0, done.stderr[-3000:]
    first = sorted((tmp_path / "cache").glob("*-frames-*"))
    with standins.unchecked():
        line = f"-c {name} --method tmkt --data-root {tmp_path} --download --resume"
        assert run_train([*line.split(), *words]) == 0
    seen = capsys.readouterr()
    kept = sorted((tmp_path / "cache").glob("*-frames-*"))
    assert kept and first == (kept if name == "ncaltech" else [])
    assert all(text in seen.out for text in [*SAID[name].split("|"), "Audit: 0 images"])
    (row,) = csv.DictReader((out / "comparison.csv").open())
    assert row["method"] == "tmkt" and 0 <= float(row["top1_last"]) <= 100
    folder = out / "runs" / "tmkt-seed42"
    assert (folder / "last.pt").is_file() and "Audit" in (folder / "split.json").read_text()
