"""Grad-CAM++ through time: the paper's formula with loops, the right place, nothing touched."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models import create_model
from torch import nn

from tmkt_braincog.errors import UserError
from tmkt_braincog.figures import gradcam
from tmkt_braincog.figures.base import Request
from tmkt_braincog.models.transfer import TransferModel, membrane


def small(name, size, **options):
    model = create_model(name, num_classes=4, step=3, event_size=size, **options).double()
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 5, (2, 3, 2, size, size), generator=generator).double()
    with torch.no_grad():
        for _ in range(10):  # BatchNorm's statistics: without them no spike comes through
            model(x, x)
    return model.eval(), x


def slow_maps(model, layer, x, label, head):
    """Grad-CAM++ of one recording, ``[T, h, w]``, with loops over the untouched model's graph."""
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
            weight, total = 0.0, a[k].sum().item()
            for d in g[k].flatten().tolist():
                alpha = d**2 / (2 * d**2 + total * d**3) if d else 0.0
                weight += alpha * max(d, 0.0)
            heat += weight * a[k]
        maps.append(heat.clamp(min=0))
    return torch.stack(maps)


@pytest.mark.parametrize("head", ["event", "static"])
@pytest.mark.parametrize(
    ("name", "size", "margin", "layer"),
    [
        ("Transfer_VGG_SNN", 32, 0, lambda model: model.feature[-2].node),
        ("Transfer_ResNet18", 32, 0, lambda model: model.bn1),
        ("Transfer_SCNN", 28, 6, lambda model: model.feature[4]),
    ],
)
def test_maps_are_grad_cam_plus_plus_of_every_time_step(name, size, margin, layer, head):
    model, x = small(name, size, **({} if margin else {"width_divisor": 16}))
    labels, inner = torch.tensor([1, 3]), size - 2 * margin
    found = gradcam.class_maps(model, x, labels, head)
    for b, label in enumerate(labels):
        slow = slow_maps(model, layer(model), x[b], label, head)
        assert slow.amax((1, 2)).min() > 0
        inside = F.interpolate(slow[None], size=(inner, inner), mode="bilinear")[0]
        placed = F.pad(inside, (margin,) * 4)
        torch.testing.assert_close(found.maps[b], placed, rtol=1e-6, atol=1e-9 * placed.max())
    expected = model.run_stream(x, head).logits.mean(0).detach()
    torch.testing.assert_close(found.logits, expected, rtol=1e-10, atol=1e-10)
    assert int(found.covered.sum()) == inner**2


def test_maps_depend_on_the_class_and_the_model_is_left_as_it_was():
    model, x = small("Transfer_SCNN", 28)
    model.train()
    model(x).event.logits.sum().backward()  # leaves membranes that are part of a graph
    before, gradient = copy.deepcopy(model.state_dict()), model.fc2.weight.grad.clone()
    first, second = (
        gradcam.class_maps(model, x, torch.tensor([c, c]), "event").maps for c in (0, 1)
    )
    assert (first - second).abs().max() > 0.1 * first.max()
    assert model.training and model.executor == "fused"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.fc2.weight.grad, gradient)
    assert not any(module._forward_hooks for module in model.modules())


class Spot(TransferModel):
    """A convolution without padding that passes the first polarity on; a head that adds up."""

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
    model, x = Spot(num_classes=2, step=2, event_size=20), torch.zeros(1, 2, 2, 20, 20)
    x[0, 0, 0, 5, 13] = x[0, 1, 0, 9, 3] = 4
    maps, _, covered, _ = gradcam.class_maps(model, x, torch.tensor([0]), "event")
    assert [divmod(int(m.argmax()), 20) for m in maps[0]] == [(5, 13), (9, 3)]
    assert (maps[0] > 0).sum((1, 2)).tolist() == [1, 1]
    assert torch.equal(covered, F.pad(torch.ones(16, 16, dtype=torch.bool), (2, 2, 2, 2)))


def test_a_model_without_feature_maps_is_refused():
    class Flat(Spot):
        def features(self, x):
            return x.flatten(1), x[:, 0, 2:-2, 2:-2].flatten(1)

    with pytest.raises(UserError, match=r"Flat with --event-size 20 has no convolution"):
        gradcam.find_target(Flat(step=1, event_size=20))


def test_inputs_are_test_recordings_with_their_twins_or_training_images(runs, tmp_path):
    run, data = runs[0], runs[0].data
    batch, again = (gradcam.choose(Request(runs, tmp_path)) for _ in range(2))
    assert np.isin(batch.index, run.split.test).all()
    assert len(set(batch.label.tolist())) == gradcam.CLASSES == len(batch.index)
    assert torch.equal(batch.label, data.labels[batch.index])
    assert torch.equal(again.index, batch.index)
    images = data.images[data.twins[batch.index]].float() / 255
    repeated = images[:, None, None].expand(-1, 4, 2, -1, -1)
    torch.testing.assert_close(batch.static_frames(), repeated)

    run = copy.copy(run)
    run.data = replace(data, twins=np.full_like(data.twins, -1))
    batch = gradcam.choose(Request([run], tmp_path))
    for static, label in zip(batch.static_frames()[:, 0, 0], batch.label, strict=True):
        pool = data.images[run.split.pools[label]].float() / 255
        assert (pool == static).all((1, 2)).any()


def test_figure(runs, draw, tmp_path):
    table = draw("gradcam", runs, ["gradcam", "gradcam_steps"], samples=3)["gradcam"]
    assert len(table) == len(runs) * 2 * 3
    batch = gradcam.choose(Request(runs, tmp_path, samples=3))
    for run in runs:
        run.model.eval()
        with torch.no_grad():
            out = run.model(batch.events, batch.static_frames().contiguous())
        for kind, rows in table[table["run"] == run.name].groupby("input"):
            head = "event" if run.name == "event-only" else kind
            assert set(rows["head"]) == {head}
            if head == kind:
                confidence, predicted = getattr(out, kind).logits.mean(0).softmax(1).max(1)
                assert rows["confidence"].tolist() == pytest.approx(confidence.tolist(), rel=1e-4)
                assert rows["predicted"].tolist() == [run.data.classes[c] for c in predicted]
                assert rows["class"].tolist() == [run.data.classes[c] for c in batch.label]
