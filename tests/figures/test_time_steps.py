"""Along the time-steps: CKA against its definition, coefficients against the log, accuracy against
the evaluation."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_features import assert_written

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


def test_cka_per_step_before_and_after(folders, runs, tmp_path):
    request = Request(runs, tmp_path, samples=40)
    assert_written(FIGURES["cka"](request), tmp_path, ["cka.png", "cka.pdf", "cka.csv"])
    table = pd.read_csv(tmp_path / "cka.csv").set_index(["run", "training", "t"])
    assert len(table) == 3 * 2 * 4
    for when, opened in (("before", reopen(folders, checkpoint=None)), ("after", runs)):
        for run in opened:
            taps = paired_taps(run, request)
            for t in range(4):
                x, y = taps.event[:, t].double().numpy(), taps.static[:, t].double().numpy()
                row = table.loc[(run.name, when, t + 1)]
                assert row["cka"] == pytest.approx(slow_cka(x, y, plain_hsic), abs=1e-4)
                assert row["cka_debiased"] == pytest.approx(slow_cka(x, y, unbiased_hsic), abs=1e-4)
    before, after = (table.xs(when, level="training")["cka"] for when in ("before", "after"))
    # the methods start from the same weights and end at others
    assert np.ptp(before.unstack("t").values, axis=0) == pytest.approx(0, abs=1e-6)
    assert np.ptp(after.unstack("t").values, axis=0).max() > 0.01


def test_untrained_is_the_run_without_its_checkpoint(folders, runs):
    (initial,) = reopen(folders[2:], checkpoint=None)
    again, trained = untrained(runs[2]).model.state_dict(), runs[2].model.state_dict()
    for name, value in initial.model.state_dict().items():
        assert torch.equal(value, again[name])
    assert not torch.equal(trained["fc2.weight"], again["fc2.weight"])


def test_cka_of_too_few(runs, tmp_path):
    with pytest.raises(UserError, match=r"CKA of 3 test recordings .* at least 4"):
        FIGURES["cka"](Request(runs, tmp_path, samples=3))


def test_theta_is_what_was_logged(runs, tmp_path):
    assert_written(
        FIGURES["theta"](Request(runs, tmp_path)), tmp_path, ["theta.png", "theta.pdf", "theta.csv"]
    )
    table = pd.read_csv(tmp_path / "theta.csv")
    assert sorted(table["run"].unique()) == ["baseline", "tmkt"]
    for run in runs[1:]:
        log = pd.read_csv(run.folder / "log.csv")
        wide = table[table["run"] == run.name].pivot(index="epoch", columns="t", values="sigma")
        assert list(wide.index) == [0, 1, 2] and list(wide.columns) == [1, 2, 3, 4]
        assert wide.values == pytest.approx(
            log[[f"sigma_{t}" for t in range(1, 5)]].values, abs=1e-6
        )


def test_theta_says_which_runs_have_none(runs, tmp_path):
    FIGURES["theta"](Request(runs, tmp_path))
    assert "(none: event-only)" in json.loads((tmp_path / "theta.json").read_text())["caption"]
    with pytest.raises(UserError, match=r"No run logged coefficients .*seen: event-only"):
        FIGURES["theta"](Request(runs[:1], tmp_path))


def test_accuracy_over_time_ends_at_the_evaluation(runs, tmp_path):
    request = Request(runs, tmp_path, samples=50)
    name = "accuracy-over-time"
    assert_written(FIGURES[name](request), tmp_path, [f"{name}.png", f"{name}.pdf", f"{name}.csv"])
    table = pd.read_csv(tmp_path / f"{name}.csv").set_index(["run", "t"])["top1"]
    for run in runs:
        metrics = run.evaluate_on(held_out_pairs(run, request).recordings)
        assert table[run.name, 4] == pytest.approx(metrics.top1, abs=1e-4)
        logits, labels = event_logits(run, request)
        for t in range(1, 5):
            right = sum(
                int(sum(one[:t]).argmax() == label)
                for one, label in zip(logits, labels, strict=True)
            )
            assert table[run.name, t] == pytest.approx(100 * right / 50, abs=1e-4)
