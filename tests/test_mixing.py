"""Time-step mixup and the other schedules, against Eq. 7-10 and 18-19 sample by sample."""

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

# T, r_m and p in four decimals.
PAPER = {(10, 0.3): 0.0661, (10, 0.4): 0.0955, (10, 0.5): 0.1312, (10, 0.6): 0.1763}
PAPER |= {(10, 0.7): 0.2373, (6, 0.9): 0.6243, (12, 0.95): 0.6250}


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def share_of_event_frames(pmf, steps):
    """E[T + 1 - t*] / T, term by term."""
    return math.fsum(mass * (steps + 1 - t) for t, mass in enumerate(pmf, start=1)) / steps


def test_p_is_the_papers():
    assert {case: round(solve_p(case[1], case[0]), 4) for case in PAPER} == PAPER
    assert [round(solve_p(r, 10, "truncated"), 4) for r in (0.4, 0.6)] == [-0.2128, 0.0592]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("steps", [1, 2, 3, 6, 10, 12, 50, 1000])
def test_mean_share_is_the_ratio(law, steps):
    low, high = reachable_ratios(law, steps)
    for x in (1e-6, 0.001, 0.01, *np.linspace(0.05, 0.95, 19), 0.99, 0.999, 1 - 1e-6):
        ratio = low + x * (high - low)
        if law == "truncated" and steps == 1:
            continue  # 1 is the only share there is
        p = solve_p(ratio, steps, law)
        pmf = LAWS[law](p, steps)
        assert len(pmf) == (steps + 1 if law == "geometric" else steps)
        assert (pmf >= 0).all() and math.fsum(pmf) == pytest.approx(1, abs=1e-12)
        assert share_of_event_frames(pmf, steps) == pytest.approx(ratio, abs=1e-12, rel=0)
        assert expected_event_share(pmf, steps) == pytest.approx(ratio, abs=1e-12, rel=0)
        assert steps > 1 or p == pytest.approx(ratio, abs=1e-12)  # a coin
        above = ratio - (steps + 1) / (2 * steps)  # the mean of the uniform law, p = 0
        assert law == "geometric" or p * above >= -1e-12


@pytest.mark.parametrize("steps", [1, 2, 10, 12])
def test_pmf_against_scipy_and_eq_8(steps):
    t = np.arange(1, steps + 1)
    for p in (1e-6, 0.0955, 0.3, 0.625, 0.999):
        pmf, law = geometric_pmf(p, steps), stats.geom(p)
        np.testing.assert_allclose(pmf, [*law.pmf(t), law.sf(steps)], rtol=1e-12)
        conditioned = law.pmf(t) / law.cdf(steps)
        np.testing.assert_allclose(truncated_pmf(p, steps), conditioned, rtol=1e-9)
    for p in (-0.2128, -1.0, -7.5):  # p (1-p)^(t-1) / (1 - (1-p)^T): both signs cancel
        literal = p * (1 - p) ** (t - 1.0) / (1 - (1 - p) ** steps)
        np.testing.assert_allclose(truncated_pmf(p, steps), literal, rtol=1e-12)
        assert (np.diff(truncated_pmf(p, steps)) > 0).all()


@pytest.mark.parametrize(("steps", "ratio"), PAPER)
def test_the_walk_is_eq_7_and_the_truncated_draw_inverts_the_distribution_function(steps, ratio):
    walk, truncated = (TimeStepMixup(steps, ratio, law) for law in LAWS)
    draws = uniform(3000, steps, seed=7)
    draws[0], draws[1], draws[2, :-1], draws[2, -1] = 0.999, 0.0, 0.999, 0.0
    draws[3] = walk.p  # a draw equal to p does not replace
    draws[4, 0], draws[5, 0] = np.nextafter(walk.p, 0), 1 - 2**-53
    cdf = list(accumulate(truncated_pmf(truncated.p, steps)))
    draws[6 : 5 + steps, 0] = torch.tensor(cdf[:-1], dtype=torch.float64)  # exactly on the borders
    counts = (s.event_frames(draws, Progress()).tolist() for s in (walk, truncated))
    for u, n_walk, n_truncated in zip(draws.tolist(), *counts, strict=True):
        first = next((t for t, draw in enumerate(u, start=1) if draw < walk.p), steps + 1)
        assert n_walk == steps + 1 - first
        t_star = next((t for t, mass in enumerate(cdf, start=1) if u[0] < mass), steps)
        assert n_truncated == steps + 1 - t_star and 1 <= n_truncated <= steps


WALK = r"reached by the geometric law at T = 10.* above 0 and below 1\."
GIVEN = r"reached by the truncated law at T = 10.* above 0\.1 and below 1\."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda r=r: solve_p(r, 10), WALK) for r in (0.0, 1.0, -0.1, 1.5, math.nan)),
        *((lambda r=r: TimeStepMixup(10, r, "truncated"), GIVEN) for r in (0.05, 0.1, 1.0)),
        *((lambda r=r: FixedRatio(10, r), "--mixup-ratio") for r in (0.0, 1.0, -0.5)),
        (lambda: solve_p(1e-16, 10), "--mixup-ratio 1e-16 is too small"),
        (lambda: TimeStepMixup(10, 0.4, "geometrical"), r"'geometrical'.*geometric, truncated"),
        (lambda: STRATEGIES["tms"], r"Unknown mixing strategy 'tms'.*'tsm'.*Known: .*sliding"),
    ],
)
def test_ratios_and_names_that_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("steps", "ratio"), [*PAPER, (10, 0.05), (10, 0.99), (7, 3 / 7), (100, 0.29)]
)
def test_fixed_ratio_is_the_literal_rule(steps, ratio):
    n = FixedRatio(steps, ratio).event_frames(uniform(5, steps), Progress()).tolist()
    t_star = max(1, math.floor(Fraction(ratio).limit_denominator(1000) * steps))
    assert n == [steps + 1 - t_star] * 5
    assert FixedRatio(10, 0.4).n == 7  # three appearance frames, as in the paper


@pytest.mark.parametrize(
    ("steps", "epochs", "batches"), [(10, 20, 13), (6, 9, 4), (12, 50, 2), (4, 7, 1), (10, 300, 1)]
)
def test_schedules(steps, epochs, batches):
    draws, last = uniform(200, steps), 0
    sliding = {power: SlidingReplacement(steps, power) for power in (1, 3)}
    for epoch in range(epochs):
        for batch in range(batches):
            progress = Progress(epoch, epochs, batch, batches)
            fraction = Fraction(batch + epoch * batches, epochs * batches)
            assert progress.fraction == pytest.approx(float(fraction), abs=1e-15)
            linear = DynamicLinear(steps).event_frames(draws, progress).unique().tolist()
            assert linear == [round(Fraction(steps * epoch, epochs))]
            n = DynamicNonLinear(steps).event_frames(draws, progress).unique().tolist()
            assert n == [round(steps * fraction**3)] and n[0] >= last
            last = n[0]
            for power, strategy in sliding.items():
                n = strategy.event_frames(draws, progress).tolist()
                expected = [steps * (u < float(fraction) ** power) for u in draws[:, 0].tolist()]
                assert n == expected
            halves = SlidingReplacement(steps, sliding=False).event_frames(draws, progress)
            assert halves.tolist() == [steps * (2 * epoch > epochs)] * 200  # nothing, then all
    assert last >= steps - 2 and sliding[3].probability(Progress(0, epochs)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sequence", [False, True])
def test_mix_against_a_loop(sequence, dtype):
    T, n_event = 5, torch.arange(6)
    static = uniform(*((T + 1, T, 2, 3, 4) if sequence else (T + 1, 2, 3, 4)), seed=1).to(dtype)
    events = uniform(T + 1, T, 2, 3, 4, seed=2).to(dtype).requires_grad_()
    mixed = mix(static, events, n_event)
    assert mixed.frames.shape == events.shape and mixed.frames.dtype == dtype
    mixed.frames.sum().backward()
    assert torch.equal(events.grad[..., 0, 0, 0], 1 - mixed.y_s.to(dtype))
    assert mixed.y_s.dtype == mixed.t_star.dtype == torch.int64
    for b, n in enumerate(n_event.tolist()):
        t_star = T + 1 - n
        assert mixed.t_star[b] == t_star and mixed.y_m[b] == torch.tensor((t_star - 1) / T)
        for t in range(1, T + 1):
            image = static[b, t - 1] if sequence else static[b]
            assert torch.equal(mixed.frames[b, t - 1], image if t < t_star else events[b, t - 1])
            assert mixed.y_s[b, t - 1] == int(t < t_star)


@pytest.mark.parametrize("name", [*STRATEGIES])
def test_every_strategy_switches_once_and_its_labels_agree(name):
    B, T, seen = 64, 10, set()
    strategy, numbers = STRATEGIES[name](T), torch.arange(B)
    static, events = torch.ones(B, 2, 2, 2), torch.zeros(B, T, 2, 2, 2)
    pair = Pair(events, static, 0 * numbers, uniform(B, T), numbers, numbers)
    for progress in (Progress(0, 4), Progress(2, 4), Progress(3, 4)):
        mixed, n_event = strategy(pair, progress), strategy.event_frames(pair.draws, progress)
        appearance = mixed.frames[:, :, 0, 0, 0]
        assert (appearance.diff(dim=1) <= 0).all() and torch.equal(appearance.long(), mixed.y_s)
        assert torch.equal(T - appearance.sum(1).long(), n_event)
        seen |= set(n_event.tolist())
    assert len(seen) >= (1 if name == "fixed" else 2) and seen <= set(range(T + 1))
    with pytest.raises(UserError, match="was made for 10 time-steps; the batch has 4"):
        strategy(pair._replace(events=events[:, :4]))
