"""R2ETL: its network with two first layers in both executors, its losses, and its runs."""

import math

import pytest
import torch
from torch import nn

from tests.program import run_train
from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.methods import build_method
from tmkt_braincog.mixing import Progress
from tmkt_braincog.models.two_stems import TwoStems
from tmkt_braincog.options import parse, resolve

B, T, N, LAMB = 3, 4, 5, 1e-3
LINES = {
    "SCNN": "--model Transfer_SCNN --event-size 28",
    "VGG": "--model Transfer_VGG_SNN --width-divisor 32 --event-size 16",
    "ResNet18": "--model Transfer_ResNet18 --width-divisor 16 --event-size 16",
    "SEWResNet18": "--model Transfer_SEWResNet18 --width-divisor 16 --event-size 32",
    "Spikformer": "--model Transfer_Spikformer --width-divisor 16 --event-size 32",
}


def options(line):
    return resolve(parse(f"--method r2etl --step {T} {line}".split()))[0]


def built(name):
    torch.manual_seed(0)
    return build_model(options(LINES[name]), N)


@pytest.mark.parametrize("name", LINES)
def test_every_backbone_gets_two_first_layers_and_runs_fused_with_the_loops_numbers(name):
    model = built(name)
    assert isinstance(model, TwoStems) and model.executor == "fused"  # which was tried out
    own, other = (nn.Sequential(*model.stem_of(s)).state_dict() for s in ("static", "event"))
    assert list(own) == list(other)
    weights = [k for k, v in own.items() if v.ndim == 4]
    assert weights and not any(torch.equal(own[k], other[k]) for k in weights)
    assert model.head_of("static") is model.head_of("event") and model.num_features == 256


@pytest.mark.parametrize("executor", ["step", "fused"])
def test_the_stem_sees_its_own_stream_and_is_summed_over_time(executor):
    model = built("SCNN").double()
    model.executor = executor
    events, static = torch.randn(2, B, T, 2, 28, 28, dtype=torch.float64).abs()
    out = model(events, static)
    for stream, x in ((out.static, static), (out.event, events)):
        conv, node = model.stem_of("static" if x is static else "event")[0]
        node.n_reset()
        spikes = [node(conv(x[:, t])) for t in range(T)]
        assert sum(s.sum() for s in spikes) > 0
        torch.testing.assert_close(stream.stem, sum(spikes).flatten(1))
        node.n_reset()
    assert out.event.tap.shape == out.event.spikes.shape == (T, B, 256)
    assert model(events).static is None


def slow_cka(x, y):
    """Of rows that are samples: CKA = ||Yc' Xc||^2 / (||Xc' Xc|| ||Yc' Yc||), biased."""
    x, y = x - x.mean(0), y - y.mean(0)
    return ((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm() + 1e-7)).item()


def test_its_loss_is_the_sum_of_two_tet_losses_and_two_alignments():
    model = built("SCNN").double()
    method = build_method("r2etl", options(LINES["SCNN"]), 256).double()
    events = torch.randn(B, T, 2, 28, 28, dtype=torch.float64).abs()
    image = torch.rand(B, 2, 28, 28, dtype=torch.float64)
    y, numbers = torch.tensor([0, 2, 4]), torch.arange(B)
    batch = Pair(events, image, y, torch.rand(B, T), numbers, numbers)
    found = method(model, batch, Progress(0, 2, 0, 4))
    out = model(events, image.unsqueeze(1).expand_as(events))
    for name, stream in (("cls_static", out.static), ("cls_event", out.event)):
        log_p = stream.logits.log_softmax(-1)
        cross = [-log_p[t, b, y[b]].item() for t in range(T) for b in range(B)]
        mse = (stream.logits - 1).square().mean().item()
        expected = (1 - LAMB) * math.fsum(cross) / (T * B) + LAMB * mse
        assert found[name].item() == pytest.approx(expected, rel=1e-10)
    enc = 1 - slow_cka(out.static.stem, out.event.stem)
    assert found["enc"].item() == pytest.approx(enc, abs=1e-9)
    steps = [slow_cka(out.static.tap[t], out.event.tap[t]) for t in range(T)]
    assert found["feat"].item() == pytest.approx(1 - math.fsum(steps) / T, abs=1e-9)
    parts = [found[k].item() for k in ("cls_static", "cls_event", "enc", "feat")]
    expected = sum(w * v for w, v in zip((1, 1, 0.5, 0.1), parts, strict=True))
    assert found["loss"].item() == pytest.approx(expected, rel=1e-12)


def test_it_trains_and_is_evaluated_on_its_own_network(tmp_path, capsys):
    words = (
        "--method baseline r2etl r2etl+etc --shots 4 --static-images 12 --step 4 --event-size 28 "
        "--model Transfer_SCNN --batch-size 10 --epoch-size 20 --epochs 2 --warmup-epochs 0 "
        f"--lr 0.1 --eval-interval 1 --no-tensorboard --output {tmp_path / 'a'}"
    )
    assert run_train(words.split()) == 0
    table = (tmp_path / "a" / "comparison.md").read_text()
    assert "| r2etl " in table and "| r2etl+etc " in table
    best = tmp_path / "a" / "runs" / "r2etl-seed42" / "best.pt"
    capsys.readouterr()
    assert run_train(["--eval", "--eval-checkpoint", str(best)]) == 0
    assert "r2etl" in capsys.readouterr().out


def test_a_network_that_does_not_say_its_layers_is_refused():
    from tests.figures.test_energy import Toy

    with pytest.raises(UserError, match=r"Toy cannot have two first layers: it has features\(\)"):
        TwoStems(Toy)


def test_one_sample_is_too_few_for_its_alignments():
    with pytest.raises(UserError, match="--batch-size 1: r2etl"):
        options("--batch-size 1")
