"""Grad-CAM++ through time: the paper's formula on gradients of our own, the right place, nothing
touched."""

import copy
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models import create_model
from torch import nn

from tmkt_braincog.errors import UserError
from tmkt_braincog.figures import cam, gradcam
from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.models.transfer import TransferModel, membrane

pytest.importorskip("pytorch_grad_cam")

METHODS = ("event-only", "baseline", "tmkt")


def small(name, size, steps=3, **options):
    model = create_model(name, num_classes=4, step=steps, event_size=size, **options).double()
    x = torch.randint(
        0, 5, (2, steps, 2, size, size), generator=torch.Generator().manual_seed(3)
    ).double()
    with torch.no_grad():
        for _ in range(10):  # BatchNorm's statistics: without them no spike comes through
            model(x, x)
    return model.eval(), x


BACKBONES = {
    "vgg": lambda: small("Transfer_VGG_SNN", 32, width_divisor=16),
    "resnet": lambda: small("Transfer_ResNet18", 32, width_divisor=16),
    "scnn": lambda: small("Transfer_SCNN", 28),
}


def slow_maps(model, layer, x, label, head):
    """Grad-CAM++ of one recording, ``[T, h, w]``, with loops, from the whole graph of the untouched
    model."""
    held = []

    def keep(module, inputs, output):
        output.retain_grad()
        held.append(output)

    handle = layer.register_forward_hook(keep)
    model.run_stream(x[None], head).logits.mean(0)[0, label].backward()
    handle.remove()
    model.zero_grad()
    maps = []
    for output in held:
        a, g = output.detach()[0], output.grad[0]
        heat = torch.zeros_like(a[0])
        for k in range(len(a)):
            weight = 0.0
            for d in g[k].flatten().tolist():
                alpha = (
                    d**2 / (2 * d**2 + a[k].sum().item() * d**3 + 1e-6 * cam.UNIT**2) if d else 0.0
                )
                weight += alpha * max(d, 0.0)
            heat += weight * a[k]
        maps.append(heat.clamp(min=0))
    return torch.stack(maps)


@pytest.mark.parametrize("head", ["event", "static"])
@pytest.mark.parametrize("name", BACKBONES)
def test_maps_are_grad_cam_plus_plus_of_every_time_step(name, head):
    model, x = BACKBONES[name]()
    layer = {
        "vgg": lambda: model.feature[-2].node,
        "resnet": lambda: model.bn1,
        "scnn": lambda: model.feature[4],
    }
    margin = 6 if name == "scnn" else 0
    labels = [1, 3]
    found = cam.class_maps(model, x, labels, head)
    for b, label in enumerate(labels):
        slow = slow_maps(model, layer[name](), x[b], label, head)
        assert slow.amax((1, 2)).min() > 0
        size = x.shape[-1] - 2 * margin
        placed = F.pad(
            F.interpolate(slow[None], size=(size, size), mode="bilinear")[0], (margin,) * 4
        )
        torch.testing.assert_close(
            found.maps[b], placed, rtol=1e-6, atol=1e-9 * float(placed.max())
        )
    expected = model.run_stream(x, head).logits.mean(0).detach()
    torch.testing.assert_close(found.logits, expected, rtol=1e-10, atol=1e-10)
    assert int(found.covered.sum()) == (x.shape[-1] - 2 * margin) ** 2


def test_maps_depend_on_the_class():
    model, x = BACKBONES["scnn"]()
    first, second = (cam.class_maps(model, x, [c, c], "event").maps for c in (0, 1))
    assert (first - second).abs().max() > 0.1 * first.max()


def test_the_model_is_left_as_it_was():
    model, x = BACKBONES["scnn"]()
    model.train()
    model(
        x
    ).event.logits.sum().backward()  # leaves membranes that are part of a graph, and gradients
    before, gradients = (
        copy.deepcopy(model.state_dict()),
        [p.grad.clone() for p in model.fc2.parameters()],
    )
    cam.class_maps(model, x, [0, 1], "event")
    assert model.training and model.executor == "fused"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(map(torch.equal, [p.grad for p in model.fc2.parameters()], gradients))
    assert all(p.requires_grad for p in model.fc2.parameters())
    assert not any(module._forward_hooks for module in model.modules())


class Spot(TransferModel):
    """One convolution without padding that passes the first polarity on, and a head that adds all
    spikes up."""

    def __init__(self, **options):
        super().__init__(**options)
        self.conv = nn.Conv2d(2, 1, 5, bias=False)
        self.neuron = self.node()
        self.num_features = (self.event_size - 4) ** 2
        self.fc = nn.Linear(self.num_features, self.num_classes, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()[0, 0, 2, 2] = 1
            self.fc.weight.fill_(1)
        self.finish()

    def features(self, x):
        spikes = self.neuron(self.conv(x)).flatten(1)
        return membrane(self.neuron), spikes

    def classify(self, spikes, stream):
        return self.fc(spikes)


def test_a_map_lies_where_its_input_is():
    model = Spot(num_classes=2, step=2, event_size=20)
    x = torch.zeros(1, 2, 2, 20, 20)
    x[0, 0, 0, 5, 13] = x[0, 1, 0, 9, 3] = 4
    maps, _, covered, _ = cam.class_maps(model, x, [0], "event")
    assert [divmod(int(m.argmax()), 20) for m in maps[0]] == [(5, 13), (9, 3)]
    assert (maps[0] > 0).sum((1, 2)).tolist() == [1, 1]
    assert torch.equal(covered, F.pad(torch.ones(16, 16, dtype=torch.bool), (2, 2, 2, 2)))


def test_a_model_without_feature_maps_is_refused():
    class Flat(Spot):
        def features(self, x):
            return x.flatten(1), x[:, 0, 2:-2, 2:-2].flatten(1)

    with pytest.raises(UserError, match=r"Flat with --event-size 20 has no convolution"):
        cam.class_maps(Flat(step=1, event_size=20), torch.zeros(1, 1, 2, 20, 20), [0], "event")


def test_without_the_package_it_says_what_to_install(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(UserError, match=r"pip install 'tmkt-braincog\[figures\]'"):
        FIGURES["gradcam"](Request(runs, tmp_path))
    assert not list(tmp_path.iterdir())


def test_inputs_are_test_recordings_with_their_twins(runs, tmp_path):
    data, split = runs[0].data, runs[0].split
    inputs = gradcam.choose(Request(runs, tmp_path, seed=5))
    assert np.isin(inputs.recordings, split.test).all()
    assert len(set(inputs.labels.tolist())) == gradcam.CLASSES == len(inputs.recordings)
    assert torch.equal(inputs.labels, data.labels[inputs.recordings])
    again, other = (gradcam.choose(Request(runs, tmp_path, seed=s)) for s in (5, 6))
    assert again.recordings.tolist() == inputs.recordings.tolist() != other.recordings.tolist()
    assert len(gradcam.choose(Request(runs, tmp_path, samples=2)).recordings) == 2
    size = runs[0].options.event_size
    images = data.images[data.twins[inputs.recordings]].float() / 255
    assert images.shape[-1] == size
    torch.testing.assert_close(
        inputs.streams["static"], images[:, None, None].expand(-1, 4, 2, -1, -1)
    )


def test_without_a_twin_an_image_of_the_class_is_drawn_from_the_training_images(runs, tmp_path):
    run = copy.copy(runs[0])
    run.data = replace(run.data, twins=np.full_like(run.data.twins, -1))
    inputs = gradcam.choose(Request([run], tmp_path))
    for static, label in zip(inputs.streams["static"][:, 0, 0], inputs.labels, strict=True):
        pool = run.data.images[run.split.pools[label]].float() / 255
        assert (pool == static).all((1, 2)).any()


def test_runs_without_a_common_test_recording_are_refused():
    runs = [SimpleNamespace(split=SimpleNamespace(test=np.array(test))) for test in ([1, 2], [3])]
    with pytest.raises(UserError, match="share no test recording"):
        Request(runs, None).common_test()
    runs[1].split.test = np.array([0, 2])
    assert Request(runs, None).common_test().tolist() == [2]


def test_energy_on_the_object():
    picture = torch.tensor([[10.0, 1.0], [1.5, 0.0]])
    mask = gradcam.object_pixels(picture)
    assert mask.tolist() == [[True, False], [True, False]]
    assert gradcam.share_inside(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), mask) == 0.5
    assert np.isnan(gradcam.share_inside(torch.zeros(2, 2), mask))


def test_figure(runs, tmp_path):
    written = FIGURES["gradcam"](Request(runs, tmp_path / "new", samples=3))
    names = [
        "gradcam.csv",
        "gradcam.json",
        *(f"{n}.{s}" for n in ("gradcam", "gradcam_steps") for s in ("png", "pdf")),
    ]
    assert (
        sorted(p.name for p in written)
        == sorted(p.name for p in (tmp_path / "new").iterdir())
        == sorted(names)
    )
    for name in ("gradcam", "gradcam_steps"):
        with Image.open(tmp_path / "new" / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert (np.ptp(pixels, axis=2) > 60).mean() > 0.02
    table = pd.read_csv(tmp_path / "new" / "gradcam.csv", dtype={"class": str, "predicted": str})
    assert len(table) == len(runs) * 2 * 3
    heads = table.groupby(["run", "input"])["head"].unique().map(list).to_dict()
    assert heads == {
        (m, k): [k if m != "event-only" else "event"] for m in METHODS for k in gradcam.KINDS
    }
    assert table[["energy_on_object", "energy_of_even_map"]].stack().between(0, 1).all()
    check_predictions(table, runs, tmp_path)


def check_predictions(table, runs, tmp_path):
    inputs = gradcam.choose(Request(runs, tmp_path, samples=3))
    for run in runs:
        run.model.eval()
        with torch.no_grad():
            out = run.model(inputs.streams["event"], inputs.streams["static"].contiguous())
        run.model.train()
        for kind, rows in table[table["run"] == run.name].groupby("input"):
            if kind == "static" and run.name == "event-only":
                continue
            confidence, predicted = getattr(out, kind).logits.mean(0).softmax(1).max(1)
            assert rows["confidence"].tolist() == pytest.approx(confidence.tolist(), rel=1e-4)
            assert rows["predicted"].tolist() == [run.data.classes[c] for c in predicted]
            assert rows["class"].tolist() == [run.data.classes[c] for c in inputs.labels]
