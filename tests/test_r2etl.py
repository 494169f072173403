"""R2ETL: its network with two first layers in both executors, its losses, and its runs."""

import pytest
import torch
from torch import nn

from tests.executors import SMALL, inputs
from tests.program import run_train
from tests.streams import BATCH, B, N, T, options, values
from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.engine.build import build_model
from tmkt_braincog.errors import UserError
from tmkt_braincog.losses import classification_loss, linear_cka
from tmkt_braincog.methods import build_method
from tmkt_braincog.mixing import Progress
from tmkt_braincog.models.two_stems import TwoStems

LINE = f"--method r2etl --step {T}"


def built(name="Transfer_SCNN"):
    torch.manual_seed(0)
    sizes = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in SMALL[name].items())
    return build_model(options(f"{LINE} --model {name} {sizes}"), N)


@pytest.mark.parametrize("name", SMALL)
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
    model = built().double()
    model.executor = executor
    events, static = inputs(model, B)
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


def test_its_loss_is_the_sum_of_two_tet_losses_and_two_alignments():
    model, method = (
        built().double(),
        build_method("r2etl", options(f"{LINE} --smoothing 0.05"), 256),
    )
    batch = Pair(*inputs(model, B), *BATCH[2:])
    found = method(model, batch, Progress(0, 2, 0, 4))
    out = model(batch.events, batch.static_frames())
    tet = dict(lamb=1e-3, threshold=1.0, smoothing=0.05)
    parts = [classification_loss(s.logits, batch.label, **tet) for s in (out.static, out.event)]
    parts.append(1 - linear_cka(out.static.stem, out.event.stem))
    steps = [linear_cka(out.static.tap[t], out.event.tap[t]) for t in range(T)]
    parts.append(1 - sum(steps) / T)
    loss = sum(w * v for w, v in zip((1, 1, 0.5, 0.1), parts, strict=True))
    expected = dict(zip(("cls_static", "cls_event", "enc", "feat"), parts, strict=True))
    assert values(found) == pytest.approx(values(expected | {"loss": loss}), rel=1e-9)


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
        options(f"{LINE} --batch-size 1")
