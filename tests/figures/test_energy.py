"""Operations and energies against loops that count one by one, and the command on finished runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from braincog.base.node.node import ReLUNode
from torch import nn

from tests.program import run_figure
from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.energy import measure, totals
from tmkt_braincog.models.networks import TransferResNet, TransferVGG
from tmkt_braincog.models.transfer import TransferModel, membrane
from tmkt_braincog.runs import reopen

STEPS, SIZE = 3, 6


class Toy(TransferModel):
    """Grouped conv, neuron, pool, linear, neuron, linear; without biases."""

    def __init__(self, middle: nn.Module | None = None, **options):
        super().__init__(step=STEPS, event_size=SIZE, num_classes=5, **options)
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.node, self.pool, self.middle = self.node(), nn.AvgPool2d(3), middle or nn.Identity()
        self.fc, self.last = nn.Linear(4, 7, bias=False), self.node_class(**self.node_options)
        self.head, self.static_head = nn.Linear(7, 5, bias=False), nn.Linear(7, 5, bias=False)
        self.num_features = 7
        self.finish()

    @property
    def tap_node(self):
        return self.last

    def features(self, x):
        spikes = self.last(self.fc(self.middle(self.pool(self.node(self.conv(x)))).flatten(1)))
        return membrane(self.last), spikes

    def classify(self, spikes, stream):
        return (self.static_head if stream == "static" else self.head)(spikes)


def recordings(n=4, steps=STEPS, size=SIZE):
    return torch.distributions.Poisson(0.7).sample((n, steps, 2, size, size))


def by_layer(model, *batches):
    return measure(model, batches).set_index("layer")


def test_every_operation_counted_one_by_one():
    model, x = Toy(threshold=0.3), recordings()
    model.conv.weight.data *= 3
    model.fc.weight.data *= 3
    rows = by_layer(model, x[:3], x[3:])
    assert rows.index.tolist() == ["conv", "node", "fc", "last", "head"]

    macs = ac_fc = ac_head = spikes = 0
    model.eval()
    for recording in x:
        model.reset()
        for frame in recording:
            for _channel in range(4):
                for _position in range(3 * 3):
                    macs += 3 * 3 * (2 // 2)  # kernel taps times input channels of the group
            fired = model.node(model.conv(frame[None]))
            spikes += int(fired.sum())
            for value in model.pool(fired).flatten().tolist():
                ac_fc += 7 * value
            for value in model.last(model.fc(model.pool(fired).flatten(1))).flatten().tolist():
                ac_head += 5 * value
    approx = pytest.approx
    assert rows.operation.dropna().tolist() == ["MAC", "AC", "AC"]
    assert rows.kind.tolist() == ["conv", "neuron", "linear", "neuron", "linear"]
    assert rows.macs.dropna().tolist() == [macs / 4 / STEPS, 28, 35]
    assert ac_fc > 0 and ac_head > 0
    assert rows.ops.dropna().tolist() == approx([macs / 4, ac_fc / 4, ac_head / 4])
    energy = [4.6 * macs / 4, 0.9 * ac_fc / 4, 0.9 * ac_head / 4]
    assert rows.energy_pj.dropna().tolist() == approx(energy)
    assert rows.input_mean["conv"] == approx(x.mean().item())
    assert rows.neurons.dropna().tolist() == [4 * 3 * 3, 7]
    assert rows.spike_rate["node"] == approx(spikes / (4 * STEPS * 36))

    ann = (macs / 4 / STEPS + 28 + 35) * 4.6
    by_events = 0.9 * x.mean().item() * macs / 4 + 0.9 * (ac_fc + ac_head) / 4
    expected = {"MAC (M)": macs / 4e6, "AC (M)": (ac_fc + ac_head) / 4e6, "ANN (µJ)": ann / 1e6}
    expected |= {"energy (µJ)": sum(energy) / 1e6, "of the ANN": sum(energy) / ann}
    expected["first layer by events (µJ)"] = by_events / 1e6
    expected["firing rate"] = (rows.spike_rate["node"] * 36 + rows.spike_rate["last"] * 7) / 43
    assert totals(rows.reset_index()) == approx(expected)


def test_nothing_and_everything_fires():
    rows = by_layer(Toy(), torch.zeros(2, STEPS, 2, SIZE, SIZE))
    assert rows.spike_rate.dropna().tolist() == [0, 0]
    assert rows.ops["fc"] == rows.ops["head"] == 0
    energy = 4.6e-6 * rows.macs["conv"] * STEPS
    assert totals(rows.reset_index())["energy (µJ)"] == pytest.approx(energy)
    rows = by_layer(Toy(threshold=-100.0), recordings())
    assert rows.spike_rate.dropna().tolist() == [1, 1]
    for name in ("fc", "head"):
        assert rows.ops[name] == rows.macs[name] * STEPS


def test_the_model_stays_as_it_was():
    model = TransferVGG(width_divisor=16, step=2, event_size=16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    measure(model, [recordings(2, 2, 16)])
    assert model.training and model.executor == "fused"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_vgg_has_the_macs_of_its_formula():
    rows = by_layer(TransferVGG(num_classes=101, step=1), recordings(1, 1, 48))
    channels, sides = [2, 64, 128, 256, 256, 512, 512, 512, 512], [48, 48, 24, 24, 12, 12, 6, 6]
    widths = zip(channels[:-1], channels[1:], sides, strict=True)
    assert rows.macs.dropna().tolist() == [
        *(9 * i * o * s * s for i, o, s in widths),
        512 * 9 * 101,
    ]
    assert rows.macs.sum() == pytest.approx(1.36e9, rel=0.01)  # docs/performance.md
    assert rows.operation.dropna().tolist() == ["MAC"] + ["AC"] * 8


def test_layers_with_real_inputs_multiply():
    """ResNet-18's head takes the pooled last BatchNorm, all between it and the stem spikes."""
    model, x = TransferResNet(width_divisor=8, step=2, event_size=16), recordings(4, 2, 16)
    with torch.no_grad():
        for _ in range(20):  # running statistics near the batch's: else nothing fires
            model(x)
    rows = by_layer(model, x)
    assert rows.index[rows.operation == "MAC"].tolist() == ["conv1", "dvs_fc"]
    assert rows.ops["dvs_fc"] == 2 * rows.macs["dvs_fc"] == 2 * 64 * 10
    assert (rows.operation == "AC").sum() == 16 + 3 and rows.ops["layer2.0.downsample.2"] > 0


def test_what_cannot_be_counted_is_refused():
    model = Toy()
    model.node = ReLUNode()
    message = "middle is a ConvTranspose2d, whose operations are not counted"
    with pytest.raises(UserError, match=message):
        measure(Toy(nn.ConvTranspose2d(4, 4, 1)), [recordings()])
    with pytest.raises(UserError, match="node gives values other than 0 and 1"):
        measure(model, [recordings()])
    assert not any(m._forward_hooks for m in model.modules())


def test_command(comparison, tmp_path, capsys):
    words = ["energy", str(comparison), "--output", str(tmp_path), "--samples", "40"]
    assert run_figure(words) == 0
    text = (tmp_path / "energy.md").read_text()
    assert text in capsys.readouterr().out and "Events are emulated." in text
    rows = pd.read_csv(tmp_path / "energy.csv")
    assert set(rows.method) == {"baseline", "event-only", "tmkt"}
    assert set(rows.seed) == {1, 2} and len(rows) == 6 * 7
    assert all((tmp_path / f"energy.{suffix}").stat().st_size > 3000 for suffix in ("png", "pdf"))

    (trainer,) = reopen([comparison / "runs" / "tmkt-seed2"])
    test = trainer.split.test[np.linspace(0, len(trainer.split.test) - 1, 40).round().astype(int)]
    trainer.model.eval()
    with torch.no_grad():
        spikes = trainer.model(resize_frames(trainer.data.frames[test], 28)).event.spikes
    ours = rows[(rows.method == "tmkt") & (rows.seed == 2)].set_index("layer")
    assert ours.spike_rate["node1"] == pytest.approx(spikes.mean().item(), rel=1e-4)
    assert ours.input_mean["fc2"] == pytest.approx(ours.spike_rate["node1"])
    assert ours.energy_pj["fc2"] == pytest.approx(0.9 * 300 * 10 * 4 * ours.input_mean["fc2"])

    tmkt = rows[rows.method == "tmkt"]
    energies = [totals(part)["energy (µJ)"] for _, part in tmkt.groupby("seed")]
    assert f"| {np.mean(energies):.4g} ± {np.std(energies, ddof=1):.2g} |" in text


@pytest.mark.parametrize("name", ["energy", "gradient-variance"])
def test_bad_runs(comparison, tmp_path, capsys, name):
    run = str(comparison / "runs" / "tmkt-seed1")
    assert run_figure([name, run, run, "--output", str(tmp_path / "out")]) == 2
    assert "are both tmkt, seed 1: give one of them" in capsys.readouterr().err
    assert run_figure([name, str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
