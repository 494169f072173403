"""Time-step mixup and the other schedules, against Eq. 7-10 and 18-19 written out sample by sample."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import torch
from scipy import stats

from tmkt_braincog.data.pairs import Pair
from tmkt_braincog.errors import UserError
from tmkt_braincog.mixing import (
    LAWS,
    STRATEGIES,
    DynamicLinear,
    DynamicNonLinear,
    FixedRatio,
    Progress,
    SlidingReplacement,
    TimeStepMixup,
    expected_event_share,
    geometric_pmf,
    mix,
    reachable_ratios,
    solve_p,
    truncated_pmf,
)

PAPER = [(10, 0.3), (10, 0.4), (10, 0.5), (10, 0.6), (10, 0.7), (6, 0.9), (12, 0.95)]
PMF = {"geometric": geometric_pmf, "truncated": truncated_pmf}


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def share_of_event_frames(pmf, steps):
    """E[T + 1 - t*] / T, term by term."""
    return math.fsum(mass * (steps + 1 - t) for t, mass in enumerate(pmf, start=1)) / steps


@pytest.mark.parametrize(
    ("steps", "ratio", "p"),
    [
        (10, 0.3, 0.0661),
        (10, 0.4, 0.0955),
        (10, 0.5, 0.1312),
        (10, 0.6, 0.1763),
        (10, 0.7, 0.2373),
        (6, 0.9, 0.6243),
        (12, 0.95, 0.6250),
    ],
)
def test_p_of_the_geometric_law(steps, ratio, p):
    # In exact fractions: the solution lies within half a unit of p's fourth decimal. The walk keeps
    # appearance at step t with probability q^t, q = 1 - p.
    decimal = Fraction(str(p))
    low, high = (
        sum(1 - (1 - end) ** t for t in range(1, steps + 1)) / steps
        for end in (decimal - Fraction(1, 20000), decimal + Fraction(1, 20000))
    )
    assert low < Fraction(str(ratio)) < high
    assert round(solve_p(ratio, steps), 4) == p
    assert round(solve_p(ratio, steps, "geometric"), 4) == p


@pytest.mark.parametrize(("ratio", "p"), [(0.4, -0.2128), (0.6, 0.0592)])
def test_p_of_the_truncated_law(ratio, p):
    def share(p):
        weights = [(1 - p) ** t for t in range(10)]
        return sum(w * (10 - t) for t, w in enumerate(weights)) / sum(weights) / 10

    decimal, half = Fraction(str(p)), Fraction(1, 20000)
    assert share(decimal - half) < Fraction(str(ratio)) < share(decimal + half)
    assert round(solve_p(ratio, 10, "truncated"), 4) == p


def test_truncated_p_changes_sign_at_the_mean_of_the_uniform_law():
    for steps in (2, 6, 10, 12):
        uniform_mean = (steps + 1) / (2 * steps)
        assert solve_p(uniform_mean - 0.01, steps, "truncated") < 0
        assert solve_p(uniform_mean, steps, "truncated") == pytest.approx(0, abs=1e-12)
        assert 0 < solve_p(uniform_mean + 0.01, steps, "truncated") < 1


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("steps", [2, 3, 6, 10, 12, 20, 50])
def test_mean_share_is_the_ratio(law, steps):
    low, high = reachable_ratios(law, steps)
    for x in (0.001, 0.01, *np.linspace(0.05, 0.95, 37), 0.99, 0.999):
        ratio = low + x * (high - low)
        pmf = PMF[law](solve_p(ratio, steps, law), steps)
        assert len(pmf) == (steps + 1 if law == "geometric" else steps)
        assert (pmf >= 0).all() and math.fsum(pmf) == pytest.approx(1, abs=1e-12)
        assert share_of_event_frames(pmf, steps) == pytest.approx(ratio, abs=1e-12, rel=0)
        assert expected_event_share(pmf, steps) == pytest.approx(ratio, abs=1e-12, rel=0)


def test_one_step_is_a_coin():
    for ratio in (0.1, 0.5, 0.9):
        assert solve_p(ratio, 1) == pytest.approx(ratio, abs=1e-12)


@pytest.mark.parametrize("steps", [6, 10, 12])
def test_extreme_ratios_are_solved(steps):
    for law in LAWS:
        low, _ = reachable_ratios(law, steps)
        for ratio in (low + 1e-6, 1 - 1e-6):
            share = share_of_event_frames(PMF[law](solve_p(ratio, steps, law), steps), steps)
            assert share == pytest.approx(ratio, abs=1e-12, rel=0)


@pytest.mark.parametrize("p", [1e-6, 0.0955, 0.3, 0.625, 0.999])
@pytest.mark.parametrize("steps", [1, 2, 10, 12])
def test_pmf_against_scipy(p, steps):
    t = np.arange(1, steps + 1)
    pmf = geometric_pmf(p, steps)
    np.testing.assert_allclose(pmf[:-1], stats.geom.pmf(t, p), rtol=1e-12)
    np.testing.assert_allclose(pmf[-1], stats.geom.sf(steps, p), rtol=1e-12)
    conditioned = stats.geom.pmf(t, p) / stats.geom.cdf(steps, p)
    np.testing.assert_allclose(truncated_pmf(p, steps), conditioned, rtol=1e-9)


def test_truncated_pmf_of_negative_p_is_eq_8():
    """p (1-p)^(t-1) / (1 - (1-p)^T): both signs cancel."""
    for p in (-0.2128, -1.0, -7.5):
        literal = np.array([p * (1 - p) ** (t - 1) / (1 - (1 - p) ** 10) for t in range(1, 11)])
        np.testing.assert_allclose(truncated_pmf(p, 10), literal, rtol=1e-12)
        assert (np.diff(truncated_pmf(p, 10)) > 0).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("steps", "ratio"), PAPER)
def test_monte_carlo(law, steps, ratio):
    n = 100_000
    strategy = TimeStepMixup(steps, ratio, law)
    events = strategy.event_frames(uniform(n, steps, seed=2509), Progress()).numpy()
    pmf = PMF[law](strategy.p, steps)
    values = steps + 1 - np.arange(1, len(pmf) + 1)
    error = math.sqrt((pmf @ values**2 - (pmf @ values) ** 2) / n)
    assert abs(events.mean() - steps * ratio) < 3 * error

    observed = np.bincount(steps + 1 - events, minlength=len(pmf) + 1)[1:]
    assert observed.sum() == n and len(observed) == len(pmf)
    order = np.argsort(pmf)
    rare = max(2, int((np.cumsum(pmf[order]) * n < 5).sum() + 1))  # pooled into one bin
    expected = np.append(pmf[order][rare:], pmf[order][:rare].sum()) * n
    observed = np.append(observed[order][rare:], observed[order][:rare].sum())
    assert expected.min() >= 5
    assert stats.chisquare(observed, expected).pvalue > 1e-4


@pytest.mark.parametrize(("steps", "ratio"), PAPER)
def test_geometric_walk_is_eq_7(steps, ratio):
    strategy = TimeStepMixup(steps, ratio)
    draws = uniform(3000, steps, seed=7)
    draws[0], draws[1], draws[2, :-1], draws[2, -1] = 0.999, 0.0, 0.999, 0.0
    for u, n in zip(draws.tolist(), strategy.event_frames(draws, Progress()).tolist(), strict=True):
        t_star = steps + 1
        for t in range(1, steps + 1):
            if u[t - 1] < strategy.p:
                t_star = t
                break
        assert n == steps + 1 - t_star


def test_a_draw_equal_to_p_does_not_replace():
    strategy = TimeStepMixup(4, 0.5)
    draws = torch.tensor([[1.0, strategy.p, np.nextafter(strategy.p, 0), 1.0]], dtype=torch.float64)
    assert strategy.event_frames(draws, Progress()).tolist() == [2]


@pytest.mark.parametrize(("steps", "ratio"), PAPER)
def test_truncated_draw_inverts_the_distribution_function(steps, ratio):
    strategy = TimeStepMixup(steps, ratio, "truncated")
    cdf = list(accumulate(truncated_pmf(strategy.p, steps)))
    draws = uniform(3000, steps, seed=8)
    draws[0], draws[1] = 0.0, 1 - 2**-53
    draws[2 : 1 + steps, 0] = torch.tensor(cdf[:-1], dtype=torch.float64)  # exactly on the borders
    for u, n in zip(
        draws[:, 0].tolist(), strategy.event_frames(draws, Progress()).tolist(), strict=True
    ):
        t_star = next((t for t, mass in enumerate(cdf, start=1) if u < mass), steps)
        assert n == steps + 1 - t_star
        assert 1 <= n <= steps


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_ratio_outside_the_unit_interval(law, ratio):
    with pytest.raises(UserError, match=r"cannot be reached .* below 1\."):
        solve_p(ratio, 10, law)


def test_truncated_ratio_that_needs_less_than_one_frame():
    for ratio in (0.05, 0.1):
        with pytest.raises(
            UserError, match=r"truncated law at T = 10: choose a ratio above 0\.1 and below 1"
        ):
            TimeStepMixup(10, ratio, "truncated")
        assert 0 < TimeStepMixup(10, ratio).p < 1
    with pytest.raises(
        UserError, match="geometric law at T = 10: choose a ratio above 0 and below 1"
    ):
        TimeStepMixup(10, 0.0)


def test_unknown_names():
    with pytest.raises(UserError, match=r"'geometrical'.*geometric, truncated"):
        TimeStepMixup(10, 0.4, "geometrical")
    with pytest.raises(
        UserError, match=r"Unknown mixing strategy 'tms'.*Did you mean 'tsm'.*Known: .*sliding"
    ):
        STRATEGIES["tms"]
    assert STRATEGIES.names() == ["fixed", "linear", "nonlinear", "sliding", "tsm"]


@pytest.mark.parametrize(
    ("steps", "ratio"), [*PAPER, (10, 0.05), (10, 0.99), (7, 3 / 7), (100, 0.29)]
)
def test_fixed_ratio_is_the_literal_rule(steps, ratio):
    n = FixedRatio(steps, ratio).event_frames(uniform(5, steps), Progress()).tolist()
    t_star = max(1, math.floor(Fraction(ratio).limit_denominator(1000) * steps))
    assert n == [steps + 1 - t_star] * 5


def test_fixed_ratio_of_the_paper_has_three_appearance_frames():
    mixed = mix(
        torch.ones(1, 2, 1, 1), torch.zeros(1, 10, 2, 1, 1), torch.tensor([FixedRatio(10, 0.4).n])
    )
    assert mixed.t_star.tolist() == [4]
    assert mixed.frames[0, :, 0, 0, 0].tolist() == [1] * 3 + [0] * 7


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5])
def test_fixed_ratio_outside_the_unit_interval(ratio):
    with pytest.raises(UserError, match="--mixup-ratio"):
        FixedRatio(10, ratio)


@pytest.mark.parametrize(("steps", "epochs"), [(10, 300), (6, 200), (12, 50), (4, 7)])
def test_linear_schedule(steps, epochs):
    strategy, draws = DynamicLinear(steps), uniform(3, steps)
    for epoch in range(epochs):
        n = strategy.event_frames(draws, Progress(epoch, epochs, batch=3, batches=9)).tolist()
        assert n == [round(Fraction(steps * epoch, epochs))] * 3


@pytest.mark.parametrize(("steps", "epochs", "batches"), [(10, 20, 13), (6, 9, 4), (12, 50, 2)])
def test_nonlinear_schedule(steps, epochs, batches):
    strategy, draws, last = DynamicNonLinear(steps), uniform(2, steps), 0
    for epoch in range(epochs):
        for batch in range(batches):
            n = strategy.event_frames(draws, Progress(epoch, epochs, batch, batches)).tolist()
            assert (
                n == [round(steps * Fraction(batch + epoch * batches, epochs * batches) ** 3)] * 2
            )
            assert n[0] >= last
            last = n[0]
    assert last >= steps - 1


@pytest.mark.parametrize("power", [1, 3])
def test_sliding_schedule(power):
    strategy, draws = SlidingReplacement(6, power), uniform(500, 6)
    for epoch, batch in ((0, 0), (0, 1), (3, 0), (5, 2), (7, 4)):
        fraction = (batch + epoch * 5) / (8 * 5)
        n = strategy.event_frames(draws, Progress(epoch, 8, batch, 5))
        assert n.tolist() == [6 if u < fraction**power else 0 for u in draws[:, 0].tolist()]
    assert strategy.probability(Progress(0, 8, 0, 5)) == 0
    assert strategy.probability(Progress(7, 8, 4, 5)) == pytest.approx((39 / 40) ** power)


@pytest.mark.parametrize("epochs", [5, 10])
def test_without_sliding_nothing_then_all(epochs):
    strategy, draws = SlidingReplacement(6, sliding=False), uniform(50, 6)
    for epoch in range(epochs):
        n = strategy.event_frames(draws, Progress(epoch, epochs, 1, 3))
        assert n.tolist() == [6 if 2 * epoch > epochs else 0] * 50


def test_progress_starts_at_zero_and_stays_below_one():
    values = [Progress(e, 4, b, 3).fraction for e in range(4) for b in range(3)]
    assert values == pytest.approx([i / 12 for i in range(12)], abs=1e-15)


@pytest.mark.parametrize("sequence", [False, True])
def test_mix_against_a_loop(sequence):
    T = 5
    g = torch.Generator().manual_seed(3)
    n_event = torch.arange(T + 1)
    static = torch.rand((T + 1, T, 2, 3, 4) if sequence else (T + 1, 2, 3, 4), generator=g)
    events = torch.rand(T + 1, T, 2, 3, 4, generator=g)
    mixed = mix(static, events, n_event)
    assert (
        mixed.frames.shape == events.shape and mixed.y_s.dtype == mixed.t_star.dtype == torch.int64
    )
    for b, n in enumerate(n_event.tolist()):
        t_star = T + 1 - n
        assert mixed.t_star[b] == t_star
        assert mixed.y_m[b] == torch.tensor((t_star - 1) / T)
        for t in range(1, T + 1):
            appearance = t < t_star
            source = (
                (static[b, t - 1] if sequence else static[b]) if appearance else events[b, t - 1]
            )
            assert torch.equal(mixed.frames[b, t - 1], source)
            assert mixed.y_s[b, t - 1] == int(appearance)


@pytest.mark.parametrize("name", ["tsm", "fixed", "linear", "nonlinear", "sliding"])
def test_every_strategy_switches_once_and_its_labels_agree(name):
    B, T = 64, 10
    strategy = STRATEGIES[name](T)
    pair = Pair(
        events=torch.zeros(B, T, 2, 2, 2),
        static=torch.ones(B, 2, 2, 2),
        label=torch.zeros(B).long(),
        draws=uniform(B, T),
        index=torch.arange(B),
        image=torch.arange(B),
    )
    seen = set()
    for progress in (Progress(0, 4), Progress(2, 4), Progress(3, 4)):
        mixed = strategy(pair, progress)
        n_event = strategy.event_frames(pair.draws, progress)
        appearance = mixed.frames[:, :, 0, 0, 0]
        assert (appearance.diff(dim=1) <= 0).all()
        assert torch.equal(appearance.long(), mixed.y_s)
        assert torch.equal(T - appearance.sum(1).long(), n_event)
        assert torch.equal(mixed.y_s.sum(1).float() / T, mixed.y_m)
        assert torch.equal(mixed.t_star, T + 1 - n_event)
        seen |= set(n_event.tolist())
    assert len(seen) >= (1 if name == "fixed" else 2) and seen <= set(range(T + 1))


def test_mix_keeps_float64_and_passes_gradients():
    static = torch.rand(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    events = torch.rand(3, 4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    mixed = mix(static, events, torch.tensor([0, 1, 4]))
    assert mixed.frames.dtype == torch.float64
    mixed.frames.sum().backward()
    assert static.grad[:, 0, 0, 0].tolist() == [4, 3, 0]
    assert events.grad[:, :, 0, 0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(("ratio", "steps"), [(0.010005, 100), (0.0015, 1000)])
def test_truncated_law_near_its_lower_limit_at_many_steps(ratio, steps):
    pmf = truncated_pmf(solve_p(ratio, steps, "truncated"), steps)
    assert share_of_event_frames(pmf, steps) == pytest.approx(ratio, abs=1e-12, rel=0)


def test_a_ratio_that_rounding_makes_0_is_refused_in_words():
    with pytest.raises(UserError, match="--mixup-ratio 1e-16 is too small"):
        solve_p(1e-16, 10)
    assert 1 - 1e-9 < solve_p(1 - 1e-12, 10) <= 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_batch_with_another_number_of_steps_is_refused(name):
    events = torch.zeros(2, 4, 2, 3, 3)
    batch = Pair(
        events, events[:, 0], torch.zeros(2), torch.zeros(2, 10), torch.zeros(2), torch.zeros(2)
    )
    with pytest.raises(UserError, match="was made for 10 time-steps; the batch has 4"):
        STRATEGIES[name](10)(batch)
