"""Exported files give the checkpoint's logits and spikes, where this package is not."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nir
import norse.torch
import numpy as np
import pytest
import torch
from braincog.base.node.node import BaseNode
from braincog.base.strategy.surrogate import RoundGrad, SigmoidGrad
from snntorch import utils
from snntorch.import_nir import import_from_nir
from timm.models import create_model
from torch import nn

from tmkt_braincog.cli import main
from tmkt_braincog.deploy import export as exporting
from tmkt_braincog.deploy import to_nir, to_onnx, to_torch
from tmkt_braincog.deploy.export import export
from tmkt_braincog.deploy.plain import program_of, rounded
from tmkt_braincog.errors import UserError
from tmkt_braincog.models import TransferModel
from tmkt_braincog.models.two_stems import TwoStems

PAGE = Path(__file__).resolve().parent.parent / "docs" / "deploy.md"
CLASSES, ABOUT = ("öl", "air", "sea", "sun", "ice"), {"step": 4, "event_size": 24}
NARROW = {"width_divisor": 8}
NETWORKS = {
    "scnn": ("Transfer_SCNN", {}),
    "scnn-plif": ("Transfer_SCNN", {"node_type": "PLIFNode", "tau": 1.7}),
    "vgg": ("Transfer_VGG_SNN", NARROW),
    "vgg-if": ("Transfer_VGG_SNN", {**NARROW, "node_type": "IFNode", "act_fun": SigmoidGrad}),
    "resnet": ("Transfer_ResNet18", NARROW),
    "sew": ("Transfer_SEWResNet18", {**NARROW, "tau": 3.0}),
    "spikformer": ("Transfer_Spikformer", NARROW),
    "r2etl": ("Transfer_VGG_SNN", NARROW),
}
FRAMES = torch.poisson(torch.full((3, 4, 2, 24, 24), 1.0), torch.Generator().manual_seed(1))


class Network(NamedTuple):
    model: TransferModel
    classes: tuple[str, ...] = CLASSES
    about: dict = ABOUT


def fresh(name: str) -> TransferModel:
    backbone, options = NETWORKS[name]
    options = {"num_classes": 5, "step": 4, "event_size": 24} | options
    torch.manual_seed(0)
    build = lambda: create_model(backbone, **options)  # noqa: E731
    model = TwoStems(build) if name == "r2etl" else build()
    model.executor = "step"
    return model


def exact(model: TransferModel) -> TransferModel:
    """With numbers that float32 adds up without rounding: no machine's order moves a spike."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data = (layer.weight.data * 64).round() / 64
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.running_mean = 0.0, (layer.running_mean * 16).round() / 16
            layer.running_var = 4.0 ** (layer.running_var.log2() / 2).round()
    return model


def trained(name: str) -> TransferModel:
    """Statistics of BatchNorm as after a training, and neurons that fire in all layers."""
    model = fresh(name)
    with torch.no_grad():
        model(FRAMES)
    model = exporting._awake(exact(model).eval(), FRAMES)
    for node in model.modules():
        if isinstance(node, BaseNode):
            node.threshold.data.clamp_(min=1 / 64)  # snnTorch resets twice below 0
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, TransferModel]:
    return {name: trained(name) for name in NETWORKS}


@pytest.fixture(scope="module")
def folder(models, tmp_path_factory) -> Path:
    """``best.pt2``, ``.onnx`` and ``.nir`` of the VGG, a NIR file of others, and frames."""
    folder = tmp_path_factory.mktemp("exported")
    for kind, suffix in (("torch", "pt2"), ("onnx", "onnx"), ("nir", "nir")):
        said = export(Network(models["vgg"]), kind, folder / f"best.{suffix}")
        assert "frames [B, 4, 2, 24, 24] float32 -> logits [B, 4, 5]" in said[0]
        assert len(said) == 2 and float(said[1].split()[-1].rstrip(".")) <= 1e-6
    for name in ("vgg-if", "resnet"):
        export(Network(models[name]), "nir", folder / f"{name}.nir")
    np.save(folder / "frames.npy", FRAMES.numpy())
    return folder


def logits(model: TransferModel, frames=FRAMES) -> torch.Tensor:
    with torch.no_grad():
        return model(frames).event.logits.transpose(0, 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_is_the_network(models, name):
    program, wide = program_of(models[name]), copy.deepcopy(models[name]).double()
    assert not any(isinstance(m, (nn.BatchNorm2d, BaseNode)) for m in program.modules())
    assert exporting._silent(models[name], FRAMES) == []
    expected = logits(wide, FRAMES.double())
    assert expected.std() > 0.01
    torch.testing.assert_close(program(FRAMES.double()), expected, rtol=1e-12, atol=1e-12)


RUN_ALL = """
import json, sys
sys.modules |= dict.fromkeys(("tmkt_braincog", "braincog", "timm"))  # not to be imported
for example in json.loads(sys.argv[1]):
    names = {}
    exec(example, names)
    print(json.dumps(names["logits"].tolist()))
"""


def test_the_examples_of_the_page_run_without_this_package(models, folder):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text().partition("## Export")[2], re.S)
    assert len(examples) == 4
    words = [sys.executable, "-W", "ignore", "-c", RUN_ALL, json.dumps(examples)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = logits(models["vgg"])
    best = str([CLASSES[i] for i in expected.mean(1).argmax(1)])
    lines = [line for line in done.stdout.splitlines() if line[:2] in ("['", "[[")]
    assert lines[::2] == [best] * 4
    for line in lines[1::2]:
        torch.testing.assert_close(torch.tensor(json.loads(line)), expected, rtol=0, atol=1e-6)


def spikes(network: nn.Module, names: list[str], run) -> dict[str, torch.Tensor]:
    """What the layers of these names give in every step, ``[T, B, ...]``."""
    seen = {name: [] for name in names}
    for name in names:
        keep = lambda *call, name=name: seen[name].append(  # noqa: E731
            call[2][0] if isinstance(call[2], tuple) else call[2]
        )
        network.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        run(network)
    return {name.replace(".", "_"): torch.stack(steps) for name, steps in seen.items()}


def in_norse(network):
    state = None
    for frame in FRAMES.unbind(1):
        _, state = network(frame, state)


def in_snntorch(network):
    utils.reset(network)
    for frame in FRAMES.unbind(1):
        network(frame)


@pytest.mark.parametrize(
    "name, file, simulator",
    [
        ("vgg", "best.nir", "norse"),
        ("vgg", "best.nir", "snntorch"),
        ("vgg-if", "vgg-if.nir", "norse"),
        ("resnet", "resnet.nir", "snntorch"),
    ],
)
def test_a_simulator_gives_the_same_spikes(models, folder, name, file, simulator):
    model, graph = copy.deepcopy(models[name]), nir.read(folder / file)
    nodes = [n for n, m in model.named_modules() if isinstance(m, BaseNode)]
    expected = spikes(model, nodes, lambda m: m(FRAMES))
    load, run = {
        "norse": (lambda g: norse.torch.from_nir(g, dt=float(g.metadata["dt"])), in_norse),
        "snntorch": (import_from_nir, in_snntorch),
    }[simulator]
    found = spikes(load(graph), [*expected], run)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(s.unique().tolist() == [0, 1] for s in expected.values())


@pytest.mark.parametrize("form", [to_torch, to_onnx, to_nir], ids=lambda form: form.__name__)
def test_a_file_runs_in_float64_as_the_program_with_its_weights(models, tmp_path, form):
    program = program_of(models["scnn-plif"])
    form.write(program, FRAMES, tmp_path / "x", {})
    expected = rounded(program, form.tau_of)(FRAMES[:1].double())
    found = form.run(tmp_path / "x", FRAMES[:1].double())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_metadata_travels_in_the_file(folder):
    texts = {"classes.json": "", "about.json": ""}
    torch.export.load(folder / "best.pt2", extra_files=texts)
    graph = nir.read(folder / "best.nir").metadata
    assert json.loads(texts["classes.json"]) == json.loads(graph["classes"]) == [*CLASSES]
    assert json.loads(texts["about.json"]) == json.loads(graph["about"]) == ABOUT
    assert graph["dt"] == "0.0001" and graph["steps"] == "4"


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("sew", "nir", r"maxpool \(MaxPool2d\) cannot be written to NIR: NIR has no node"),
        ("spikformer", "nir", r"feature_3 \(MaxPool2d\)"),
        ("noise", "torch", r"feature\.1 is a NoiseLIFNode: exported are LIFNode, IFNode"),
        ("round", "onnx", r"feature\.1 fires by RoundGrad, which gives \[0.0, 0.0, 0.0, 1.0, 2.0"),
        ("batch", "torch", r"feature\.0\.bn \(BatchNorm2d\) keeps no running statistics"),
        ("hook", "torch", "a Conv2d has hooks"),
        ("rest", "onnx", r"feature\.1 has v_reset 0.1 and dt 1.0; exported are neurons from 0"),
    ],
)
def test_what_a_format_cannot_express_is_named(models, tmp_path, name, kind, expected):
    model = models[name] if name in models else fresh("vgg" if name == "batch" else "scnn")
    if name == "noise":
        model = create_model("Transfer_SCNN", node_type="NoiseLIFNode", event_size=24)
    elif name == "round":
        model.feature[1].act_fun = RoundGrad()
    elif name == "batch":
        model.feature[0].bn.running_mean = model.feature[0].bn.running_var = None
    elif name == "hook":
        model.feature[0].register_forward_hook(lambda *call: None)
    elif name == "rest":
        model.feature[1].v_reset = 0.1
    with pytest.raises(UserError, match=expected):
        export(Network(model.eval()), kind, tmp_path / "x")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("wrong_in_float64", [False, True])
def test_float64_decides_where_float32_differs(models, tmp_path, monkeypatch, wrong_in_float64):
    honest = to_nir.run

    def run(path, frames):
        off = wrong_in_float64 or frames.dtype == torch.float32
        return honest(path, frames) + 2e-4 * off

    monkeypatch.setattr(to_nir, "run", run)
    file = tmp_path / "best.nir"
    if wrong_in_float64:
        with pytest.raises(UserError, match=r"2\.0e-04 in float32 and 2\.0e-04 in float64"):
            export(Network(models["scnn"]), "nir", file)
        assert not [*tmp_path.iterdir()]
    else:
        said = export(Network(models["scnn"]), "nir", file)
        assert said[1].endswith(": 2.0e-04 in float32, 0.0e+00 in float64.") and file.exists()


def test_the_command_line(monkeypatch, tmp_path, capsys):
    """An untrained network, most of whose layers are silent."""
    loading = SimpleNamespace(load=lambda path: Network(exact(fresh("vgg")).eval()))
    monkeypatch.setitem(sys.modules, "tmkt_braincog.deploy.network", loading)
    checkpoint = tmp_path / "best.pt"
    words = ["export", str(checkpoint), "--to", "nir"]
    assert main(words) == 2 and "There is no checkpoint" in capsys.readouterr().err
    checkpoint.touch()
    assert main(words) == 0
    first, second, silent, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'best.nir'}: frames [B, 4, 2, 24, 24] float32 -> ")
    assert first.endswith("5 classes.") and silent.startswith("No neuron fired in ")
    assert all(line.startswith("Largest difference from the check") for line in (second, third))
    itself = ["--output", str(checkpoint), "--force"]
    assert main(words + itself) == 2 and "is the checkpoint itself" in capsys.readouterr().err
    written = (tmp_path / "best.nir").stat().st_mtime_ns
    assert main(words) == 2 and "best.nir exists. Choose" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert (tmp_path / "best.nir").stat().st_mtime_ns > written
    monkeypatch.setitem(sys.modules, "nir", None)
    monkeypatch.delitem(sys.modules, "tmkt_braincog.deploy.to_nir")
    assert main([*words, "--force"]) == 2
    assert "--to nir needs nir: pip install 'tmkt-braincog[export]'" in capsys.readouterr().err
