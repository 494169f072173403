"""The variance of the gradient against known distributions and slow loops, and the command on
finished runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from tests.program import run_figure
from tmkt_braincog.data import Pair
from tmkt_braincog.data.sampling import epoch_batches
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures import gradient_variance as gv
from tmkt_braincog.methods import TMKT
from tmkt_braincog.mixing import Progress, TimeStepMixup
from tmkt_braincog.runs import reopen


def moments(gradients):
    """Of gradients ``[K, N, P]``, given batch by batch."""
    return gv.moments(gradients.unbind(1))


def test_moments_equal_slow_loops_in_float64():
    g = torch.randn(2, 7, 1000)
    ours, g = moments(g), g.double().numpy()
    slow = np.mean([sum(np.sum((x - g[k].mean(0)) ** 2) for x in g[k]) / 6 for k in range(2)])
    mixing = np.mean([np.sum((g[0, n] - g[1, n]) ** 2) / 2 for n in range(7)])
    pairs = [(n, m) for n in range(7) for m in range(7) if n != m]
    signal = np.mean([g[k, n] @ g[q, m] for k in range(2) for q in range(2) for n, m in pairs])
    assert ours["variance"] == pytest.approx(slow, rel=1e-12)
    assert ours["mixing"] == pytest.approx(mixing, rel=1e-12)
    assert ours["signal"] == pytest.approx(signal, rel=1e-9)
    one, trace = moments(torch.from_numpy(g[:1])), np.trace(np.cov(g[0].T))
    assert one["mixing"] == 0 and one["variance"] == pytest.approx(trace, rel=1e-6)


def test_equal_gradients_have_no_variance():
    same = torch.randn(500).expand(1, 8, 500)
    found = moments(same)
    assert abs(found["variance"]) < 1e-12 * found["signal"]
    assert found["signal"] == pytest.approx(same[0, 0].double().square().sum().item(), rel=1e-12)
    assert found["noise_to_signal"] == found["variance"] / found["signal"]


def test_no_ratio_where_the_signal_drowns():
    g = torch.randn(1, 6, 50)
    found = moments(g - g.mean(1, keepdim=True))
    assert found["signal"] < 0 < found["variance"] and np.isnan(found["noise_to_signal"])


def test_strategies_have_the_share_asked_for():
    found, draws = gv.strategies(10, 0.4), torch.rand(20000, 10, dtype=torch.float64)
    drawn = {name: its.draws for name, its in found.items()}
    assert drawn == {"tsm": 2, "linear": 1, "sliding": 2, "input": 1}
    for name in ("tsm", "linear", "sliding"):
        n = found[name].mixing.event_frames(draws, gv.progress_at(found[name].progress))
        assert n.double().mean().item() / 10 == pytest.approx(0.4, abs=0.01)


def test_mixup_of_inputs():
    events, static, samples = torch.rand(3, 4, 2, 5, 5), torch.rand(3, 2, 5, 5), torch.arange(3)
    batch = Pair(events, static, torch.zeros(3).long(), torch.rand(3, 4), samples, samples)
    mixed = gv.mix_inputs(0.3, batch, Progress())
    for b in range(3):
        for t in range(4):
            assert torch.allclose(mixed.frames[b, t], 0.3 * events[b, t] + 0.7 * static[b])
    assert mixed.y_m.tolist() == pytest.approx([0.7] * 3)


@pytest.fixture
def trainer(comparison):
    (one,) = reopen([comparison / "runs" / "baseline-seed1"])
    one.model.executor = "step"
    return one


def slow_gradients(trainer, method, N):
    """TSM: the loss by the method's own forward, gradients by backward; and the shares."""
    o, gradients, shares = trainer.options, [[], []], []
    labels = trainer.data.labels[trainer.split.train].numpy()
    for epoch in range(o.epochs, o.epochs + N):
        trainer.pairs.set_epoch(epoch)
        indices = epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, 1, epoch)[0]
        batch = trainer.pairs[indices]
        other = torch.from_numpy(np.random.default_rng((1, epoch, 0, 3)).random((20, 4)))
        for of_draw, draws in zip(gradients, (batch.draws, other), strict=True):
            trainer.model.zero_grad()
            method(trainer.model, batch._replace(draws=draws))["loss"].backward()
            weights = [p for p in trainer.model.parameters() if p.requires_grad]
            of_draw.append(torch.cat([p.grad.flatten().double() for p in weights]).numpy())
            for u in draws.tolist():
                hit = next((t for t in range(4) if u[t] < method.mixing.p), 4)
                shares.append((4 - hit) / 4)
    return np.array(gradients), np.mean(shares)


def test_measured_variance_equals_a_slow_loop(trainer):
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    rows = gv.measure(trainer, [0.5], 3).set_index("strategy")
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())
    assert rows.index.tolist() == ["tsm", "linear", "sliding", "input"]

    no_heads = {"mag_weight": 0, "mrp_weight": 0, "coefficients": "fixed"}
    method = TMKT(4, 300, mixing=TimeStepMixup(4, 0.5), **no_heads)
    method.rda.theta.data.copy_(trainer.method.rda.theta.data)
    assert not torch.equal(method.rda.theta, torch.ones(4))  # the run has learned them
    g, share = slow_gradients(trainer, method, 3)
    tsm, slow = rows.loc["tsm"], np.mean([np.var(one, axis=0, ddof=1).sum() for one in g])
    mixing = np.mean(np.sum((g[0] - g[1]) ** 2, axis=1)) / 2
    assert tsm.variance == pytest.approx(slow, rel=1e-4)
    assert tsm.mixing == pytest.approx(mixing, rel=1e-4) and 0 < tsm.mixing < tsm.variance
    assert tsm.share == pytest.approx(share)


@pytest.mark.parametrize(
    ("ratio", "batches", "message"),
    [
        (0.5, 1, "--batches 1: a variance needs at least 2"),
        (1.5, 2, "--mixup-ratio 1.5 cannot be reached"),
    ],
)
def test_bad_requests(trainer, ratio, batches, message):
    with pytest.raises(UserError, match=message):
        gv.measure(trainer, [ratio], batches)


def test_command(comparison, tmp_path):
    """Two seeds of one method."""
    runs = [str(comparison / "runs" / f"baseline-seed{seed}") for seed in (1, 2)]
    words = ["--batches", "4", "--ratio", "0.5", "--output", str(tmp_path)]
    assert run_figure(["gradient-variance", *runs, *words]) == 0
    rows = pd.read_csv(tmp_path / "gradient_variance.csv")
    assert set(rows.weights) == {"initial", "baseline, last"}
    assert set(rows.seed) == {1, 2} and len(rows) == 2 * 2 * 4
    assert all((tmp_path / f"gradient_variance.{s}").stat().st_size > 3000 for s in ("png", "pdf"))
    same = ["linear", "input"]
    for _, part in rows.groupby(["weights", "seed"]):
        of = part.set_index("strategy")
        relative = of.variance / of.variance["tsm"]
        assert of.variance_relative.tolist() == pytest.approx(relative.tolist())
        assert (of.mixing[same] == 0).all() and (of.mixing[["tsm", "sliding"]] > 0).all()
        assert of.share[same].tolist() == pytest.approx([0.5] * 2)

    text = (tmp_path / "gradient_variance.md").read_text()
    part = rows[(rows.weights == "initial") & (rows.strategy == "sliding")]
    logs = np.log(part.variance_relative)
    low, high = np.exp(stats.t.interval(0.95, 1, logs.mean(), stats.sem(logs)))
    line = next(line for line in text.splitlines() if line.startswith("| initial | 0.5 | sliding"))
    assert f"| {np.exp(logs.mean()):.3g} [{low:.3g}, {high:.3g}] |" in line
    assert f"| {np.exp(np.log(part.variance).mean()):.3g} |" in line and "| 0.79 |" in line
