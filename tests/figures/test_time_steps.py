"""Along the time-steps: CKA against its definition, coefficients against the log, accuracy against
the evaluation."""

import json

import numpy as np
import pandas as pd
import pytest

from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.base import FIGURES, Request, untrained
from tmkt_braincog.figures.features import event_logits, held_out_pairs, paired_taps
from tmkt_braincog.runs import reopen


def plain_hsic(k, m):
    centring = np.eye(len(k)) - 1 / len(k)
    return np.trace(centring @ k @ centring @ m)


def unbiased_hsic(k, m):
    """Song et al. (2012), Eq. 5."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    cross = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()
    return (np.trace(k @ m) + cross) / (n * (n - 3))


def slow_cka(x, y, hsic):
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_cka_per_step_before_and_after(folders, runs, draw, tmp_path):
    table = draw("cka", runs, samples=40)["cka"].set_index(["run", "training", "t"])
    assert len(table) == 3 * 2 * 4
    for when, opened in (("before", reopen(folders, checkpoint=None)), ("after", runs)):
        for run in opened:
            taps = paired_taps(run, Request(runs, tmp_path, samples=40))
            for t in range(4):
                x, y = taps.event[:, t].double().numpy(), taps.static[:, t].double().numpy()
                row = table.loc[(run.name, when, t + 1)]
                assert row["cka"] == pytest.approx(slow_cka(x, y, plain_hsic), abs=1e-4)
                assert row["cka_debiased"] == pytest.approx(slow_cka(x, y, unbiased_hsic), abs=1e-4)
    before, after = (table.xs(when, level="training")["cka"] for when in ("before", "after"))
    # the methods start from the same weights and end at others
    assert np.ptp(before.unstack("t").values, axis=0) == pytest.approx(0, abs=1e-6)
    assert np.ptp(after.unstack("t").values, axis=0).max() > 0.01


def test_untrained_keeps_the_executor(runs, monkeypatch):
    monkeypatch.setattr(runs[2].model, "executor", "step")
    assert untrained(runs[2]).model.executor == "step"


@pytest.mark.parametrize(("name", "least"), [("cka", 4), ("tsne", 5)])
def test_too_few(runs, tmp_path, name, least):
    with pytest.raises(UserError, match=f"3 test recordings .* --samples of at least {least}"):
        FIGURES[name](Request(runs, tmp_path, samples=3))
    assert not list(tmp_path.iterdir())


def test_theta_is_what_was_logged(runs, draw, tmp_path):
    table = draw("theta", runs)["theta"]
    assert sorted(table["run"].unique()) == ["baseline", "tmkt"]
    for run in runs[1:]:
        log = pd.read_csv(run.folder / "log.csv")[[f"sigma_{t}" for t in range(1, 5)]]
        wide = table[table["run"] == run.name].pivot(index="epoch", columns="t", values="sigma")
        assert list(wide.index) == [0, 1, 2] and list(wide.columns) == [1, 2, 3, 4]
        assert wide.values == pytest.approx(log.values, abs=1e-6)
    fact = json.loads((tmp_path / "theta" / "theta.json").read_text())
    assert "(none: event-only)" in fact["caption"]
    with pytest.raises(UserError, match=r"No run logged coefficients .*seen: event-only"):
        FIGURES["theta"](Request(runs[:1], tmp_path))


def test_accuracy_over_time_ends_at_the_evaluation(runs, draw, tmp_path):
    name, request = "accuracy-over-time", Request(runs, tmp_path, samples=50)
    table = draw(name, runs, samples=50)[name].set_index(["run", "t"])["top1"]
    for run in runs:
        metrics = run.predict(held_out_pairs(run, request).recordings).metrics()
        assert table[run.name, 4] == pytest.approx(metrics.top1, abs=1e-4)
        pairs = list(zip(*event_logits(run, request), strict=True))
        for t in range(1, 5):
            right = sum(int(sum(one[:t]).argmax() == label) for one, label in pairs)
            assert table[run.name, t] == pytest.approx(100 * right / 50, abs=1e-4)
