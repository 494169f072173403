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
from tmkt_braincog.figures import same_share, variance
from tmkt_braincog.methods import TMKT
from tmkt_braincog.mixing import Progress, TimeStepMixup
from tmkt_braincog.models.networks import TransferVGG
from tmkt_braincog.runs import reopen


def linear_gradients(data: np.ndarray, mixing: np.ndarray) -> torch.Tensor:
    """Gradients ``[K, N, P]`` of ``w . (data + mixing)``, which are its inputs."""
    w = torch.zeros(data.shape[-1], requires_grad=True)
    x = torch.from_numpy(data + mixing).float()
    return torch.stack(
        [torch.stack([variance.flat_gradient(w @ one, [w]) for one in draw]) for draw in x]
    )


def test_known_variances_lie_in_their_intervals():
    """Per component: mean 0.5, variance 4 between batches, 1 within."""
    rng, N, P = np.random.default_rng(0), 300, 20
    gradients = linear_gradients(0.5 + 2 * rng.normal(size=(1, N, P)), rng.normal(size=(2, N, P)))
    products = variance.gram(gradients)
    for name, truth in (
        ("variance", 5 * P),
        ("mixing", 1 * P),
        ("signal", 0.25 * P),
        ("noise_to_signal", 20),
    ):
        value, low, high = variance.jackknife(
            lambda p, name=name: variance.moments(p)[name], products
        )
        assert low < truth < high and low < value < high
        assert (high / low) < (4 if name in ("signal", "noise_to_signal") else 1.2)


def test_moments_equal_slow_loops_in_float64():
    g = torch.randn(2, 7, 1000)
    ours = variance.moments(variance.gram(g, chunk=64))
    g = g.double().numpy()
    slow = np.mean([sum(np.sum((x - g[k].mean(0)) ** 2) for x in g[k]) / 6 for k in range(2)])
    mixing = np.mean([np.sum((g[0, n] - g[1, n]) ** 2) / 2 for n in range(7)])
    signal = np.mean(
        [
            g[k, n] @ g[q, m]
            for k in range(2)
            for q in range(2)
            for n in range(7)
            for m in range(7)
            if n != m
        ]
    )
    assert ours["variance"] == pytest.approx(slow, rel=1e-12)
    assert ours["mixing"] == pytest.approx(mixing, rel=1e-12)
    assert ours["signal"] == pytest.approx(signal, rel=1e-9)
    one = variance.moments(variance.gram(torch.from_numpy(g[:1]).float()))
    assert one["mixing"] == 0 and one["variance"] == pytest.approx(
        np.trace(np.cov(g[0].T)), rel=1e-6
    )


def test_equal_gradients_have_no_variance():
    same = torch.randn(500).expand(1, 8, 500).contiguous()
    moments = variance.moments(variance.gram(same))
    assert abs(moments["variance"]) < 1e-12 * moments["signal"]
    assert moments["signal"] == pytest.approx(same[0, 0].double().square().sum().item(), rel=1e-12)


def test_no_ratio_where_the_signal_drowns():
    g = torch.randn(1, 6, 50)
    g -= g.mean(1, keepdim=True)  # their mean is 0, so the unbiased estimate of |E g|^2 is negative
    moments = variance.moments(variance.gram(g))
    assert moments["signal"] < 0 and np.isnan(moments["noise_to_signal"])
    for shift in (
        0,
        0.5,
    ):  # with the second the estimate is positive, until a certain batch is left out
        products = variance.gram(g + shift * g[:, :1])
        assert (variance.moments(products)["signal"] > 0) == (shift > 0)
        found = variance.estimates(products, products)
        assert np.isnan([found["noise_to_signal"], found["noise_to_signal_relative"]]).all()
        assert found["variance_low"] < found["variance"] < found["variance_high"]
        assert found["variance_relative"] == 1 and np.isnan(found["variance_relative_low"])


def test_jackknife_of_a_mean_is_its_standard_error():
    """On a log scale, of values so near each other that the log is linear."""
    norms = 1 + 1e-4 * np.random.default_rng(0).normal(size=30)
    products = np.zeros((1, 30, 1, 30))
    products[0, range(30), 0, range(30)] = norms
    value, low, high = variance.jackknife(lambda p: np.einsum("knkn->kn", p).mean(), products)
    margin = stats.t.ppf(0.975, 29) * stats.sem(norms)
    assert value == pytest.approx(norms.mean())
    assert (value - low, high - value) == pytest.approx((margin, margin), rel=1e-3)


def test_cases_have_the_share_asked_for():
    by_name = {name: case for case in same_share.cases(10, 0.4) for name in case.progress_of}
    assert set(by_name) == {"tsm", "fixed", "linear", "nonlinear", "sliding", "input"}
    draws = torch.rand(20000, 10, dtype=torch.float64)
    shares = {
        name: case.mixing.event_frames(draws, same_share.progress_at(case.progress_of[name]))
        .double()
        .mean()
        .item()
        / 10
        for name, case in by_name.items()
        if name != "input"
    }
    assert shares == pytest.approx(dict.fromkeys(shares, 0.4), abs=0.01)
    assert by_name["fixed"] is by_name["linear"] is by_name["nonlinear"]  # 4 event frames for all
    assert [name for name, case in by_name.items() if case.random] == ["tsm", "sliding"]
    assert by_name["sliding"].progress_of["sliding"] ** 3 == pytest.approx(0.4)


def test_the_fixed_rule_comes_as_near_as_it_can():
    """At T = 4 its share is at least 2/4."""
    names = [list(case.progress_of) for case in same_share.cases(4, 0.25)]
    assert names == [["tsm"], ["fixed"], ["linear", "nonlinear"], ["sliding"], ["input"]]


def test_mixup_of_inputs():
    events, static = torch.rand(3, 4, 2, 5, 5), torch.rand(3, 2, 5, 5)
    samples = torch.arange(3)
    batch = Pair(events, static, torch.zeros(3).long(), torch.rand(3, 4), samples, samples)
    mixed = same_share.InputMixup(4, 0.3)(batch)
    for b in range(3):
        for t in range(4):
            assert torch.allclose(mixed.frames[b, t], 0.3 * events[b, t] + 0.7 * static[b])
    assert mixed.y_m.tolist() == pytest.approx([0.7] * 3)


def test_running_statistics_come_back():
    model = TransferVGG(width_divisor=16, step=2, event_size=16)
    model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with gv.training_untouched(model):
        assert model.training
        model(torch.rand(3, 2, 2, 16, 16))
        assert not all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.fixture
def trainer(comparison):
    (one,) = reopen([comparison / "runs" / "baseline-seed1"])
    one.model.executor = "step"
    return one


def test_measured_variance_equals_a_slow_loop(trainer):
    """TSM at 0.5: the loss by the method's own forward, gradients by backward."""
    o, N = trainer.options, 3
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    rows = gv.measure(trainer, [0.5], N).set_index("strategy")
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())
    assert rows.index.tolist() == ["tsm", "fixed", "linear", "nonlinear", "sliding", "input"]

    method = TMKT(
        4, 300, mixing=TimeStepMixup(4, 0.5), mag_weight=0, mrp_weight=0, coefficients="fixed"
    )
    method.rda.theta.data.copy_(trainer.method.rda.theta.data)
    assert not torch.equal(method.rda.theta, torch.ones(4))  # the run has learned them
    gradients, shares = (
        np.zeros((2, N, sum(p.numel() for p in trainer.model.parameters() if p.requires_grad))),
        [],
    )
    labels = trainer.data.labels[trainer.split.train].numpy()
    for n in range(N):
        epoch = o.epochs + n
        trainer.pairs.set_epoch(epoch)
        indices = epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, 1, epoch)[0]
        batch = trainer.pairs[indices]
        assert len(batch.label) == 20
        other = torch.from_numpy(np.random.default_rng((1, epoch, 0, 3)).random((20, 4)))
        for k, draws in enumerate((batch.draws, other)):
            trainer.model.zero_grad()
            method(trainer.model, batch._replace(draws=draws))["loss"].backward()
            grads = [
                p.grad.flatten().double() for p in trainer.model.parameters() if p.requires_grad
            ]
            gradients[k, n] = torch.cat(grads).numpy()
            first_hit = [
                next((t for t in range(4) if u[t] < method.mixing.p), 4) for u in draws.tolist()
            ]
            shares.append(np.mean([(4 - t) / 4 for t in first_hit]))
    tsm = rows.loc["tsm"]
    slow = np.mean([np.var(g, axis=0, ddof=1).sum() for g in gradients])
    assert tsm.variance == pytest.approx(slow, rel=1e-4)
    assert tsm.mixing == pytest.approx(
        np.mean(np.sum((gradients[0] - gradients[1]) ** 2, axis=1)) / 2, rel=1e-4
    )
    assert tsm.share == pytest.approx(np.mean(shares))
    assert 0 < tsm.mixing < tsm.variance


def test_bad_requests(trainer, monkeypatch):
    with pytest.raises(
        UserError, match="--batches 2: a variance with an interval needs at least 3"
    ):
        gv.measure(trainer, [0.5], 2)
    with pytest.raises(UserError, match=r"--mixup-ratio 1.5 cannot be reached"):
        gv.measure(trainer, [1.5], 3)
    monkeypatch.setattr(gv, "LIMIT", 2**22)
    with pytest.raises(
        UserError, match=r"6 gradients of [\d,]+ values take .* Give --batches 2 or fewer"
    ):
        gv.measure(trainer, [0.5], 3)


@pytest.fixture(scope="module")
def measured(comparison, tmp_path_factory):
    """The command on two seeds of one method."""
    folder = tmp_path_factory.mktemp("gradient_variance")
    runs = [str(comparison / "runs" / f"baseline-seed{seed}") for seed in (1, 2)]
    words = ["--batches", "4", "--ratio", "0.5", "--output", str(folder)]
    assert run_figure(["gradient-variance", *runs, *words]) == 0
    return folder


def test_command(measured):
    rows = pd.read_csv(measured / "gradient_variance.csv")
    assert (
        len(rows) == 2 * 2 * 6
        and set(rows.weights) == {"initial", "baseline, last"}
        and set(rows.seed) == {1, 2}
    )
    assert all((measured / f"gradient_variance.{s}").stat().st_size > 3000 for s in ("png", "pdf"))
    for _, part in rows.groupby(["weights", "seed"]):
        of = part.set_index("strategy")
        assert of.variance_relative.tolist() == pytest.approx(
            (of.variance / of.variance["tsm"]).tolist()
        )
        assert (of.mixing[["fixed", "linear", "nonlinear", "input"]] == 0).all()
        assert (of.mixing[["tsm", "sliding"]] > 0).all()
        assert (of.variance_relative_low[1:] < of.variance_relative[1:]).all()
        assert of.share[["fixed", "linear", "nonlinear", "input"]].tolist() == pytest.approx(
            [0.5] * 4
        )

    text = (measured / "gradient_variance.md").read_text()
    part = rows[(rows.weights == "initial") & (rows.strategy == "sliding")]
    logs = np.log(part.variance_relative)
    low, high = np.exp(stats.t.interval(0.95, 1, logs.mean(), stats.sem(logs)))
    line = next(line for line in text.splitlines() if line.startswith("| initial | 0.5 | sliding"))
    assert f"| {np.exp(logs.mean()):.3g} [{low:.3g}, {high:.3g}] |" in line
    assert f"| {np.exp(np.log(part.variance).mean()):.3g} |" in line and "| 0.79 |" in line


def test_the_same_run_twice(comparison, tmp_path, capsys):
    run = str(comparison / "runs" / "tmkt-seed1")
    assert run_figure(["gradient-variance", run, run, "--output", str(tmp_path / "out")]) == 2
    assert "are both tmkt, seed 1: give one of them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_progress_is_where_the_schedule_has_the_share():
    assert (
        same_share.progress_at(0.4) == Progress(400000, 1000000)
        and same_share.progress_at(None).fraction == 0
    )
