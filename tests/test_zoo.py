"""timm's registry: timm's names mean timm's models, ours and BrainCog's have their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tmkt_braincog.zoo import BRAINCOG, MODELS

REPOSITORY = Path(__file__).resolve().parent.parent
ORDERS = {
    "BrainCog first": "import braincog.model_zoo.resnet, tmkt_braincog, timm",
    "BrainCog last": "import tmkt_braincog, timm, braincog.model_zoo.resnet",
}
PROBE = """
import importlib, json, warnings
warnings.simplefilter("ignore")
{order}
for name in {modules}:
    importlib.import_module("braincog.model_zoo." + name)
from timm.models import create_model, get_pretrained_cfg, list_models, list_pretrained
from timm.models import model_entrypoint
modules = {{name: model_entrypoint(name).__module__ for name in list_models()}}
timms = [name for name in modules if modules[name].startswith("timm.")]
cfgs = {{name: str(get_pretrained_cfg(name)) for name in timms}}
net = create_model("Transfer_SCNN", num_classes=3, step=2, event_size=28)
built = type(net).__name__, type(create_model("resnet18")).__module__
print(json.dumps([modules, cfgs, list_pretrained(), *built]))
"""
PLAIN = """
import json
from timm.models import get_pretrained_cfg, list_models, list_pretrained
cfgs = {name: str(get_pretrained_cfg(name)) for name in list_models()}
print(json.dumps([cfgs, list_pretrained()]))
"""


def printed(code: str):
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain():
    """What timm knows by itself: default weights per name, and all names with weights."""
    return printed(PLAIN)


@pytest.mark.parametrize("order", ORDERS)
def test_names_that_both_know_are_timms(order, plain):
    probe = PROBE.format(order=ORDERS[order], modules=BRAINCOG)
    modules, cfgs, pretrained, ours, resnet18 = printed(probe)
    both = [name for name in plain[0] if f"braincog_{name}" in modules]
    assert {"resnet18", "resnet50", "wide_resnet101_2", "resnext50_32x4d"} <= set(both)
    assert all(modules[name].startswith("timm.") for name in plain[0])
    assert [cfgs, pretrained] == plain
    assert resnet18 == "timm.models.resnet" and ours == "TransferSCNN"
    # Ours, and BrainCog's names that timm does not have, which stay.
    names = {*MODELS, "VGG_SNN", "sew_resnet18", "braincog_VGG_SNN", "braincog_sew_resnet18"}
    assert names <= set(modules)


def test_braincogs_models_are_built_by_their_own_names():
    import braincog.model_zoo.resnet
    from braincog.base.node.node import LIFNode
    from braincog.base.strategy.surrogate import QGateGrad
    from timm.models import create_model

    given = {"node_type": LIFNode, "act_fun": QGateGrad, "dataset": "cifar10"}
    net = create_model("braincog_resnet18", num_classes=7, step=2, **given)
    assert type(net) is braincog.model_zoo.resnet.ResNet and net.fc.out_features == 7
