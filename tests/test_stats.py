"""The comparison against numbers worked out by hand and against scipy, and its refusals."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tmkt_braincog import comparison as table
from tmkt_braincog.errors import UserError

PROTOCOL = "toy events, 10 shots, 20 epochs"
SELECTION = "best epoch on the test set"


def shown(summary, **words):
    return table.to_markdown(summary, table.legend(summary, PROTOCOL, SELECTION, **words))


def row(method="tmkt", seed=0, best=80.0, last=79.0, **other):
    fixed = {"protocol": PROTOCOL, "epoch_best": 5, "train_s": 100.0, "peak_mib": 512.0}
    return {"method": method, "seed": seed, "top1_best": best, "top1_last": last, **fixed, **other}


def three_seeds():
    """Differences tmkt - baseline: best 1, 2, 3; last 0.5, 0.5, 0.5."""
    base = [row("baseline", s, 70.0 + 2 * s, 69.0 + s, train_s=10.0 * (s + 1)) for s in range(3)]
    tmkt = [row("tmkt", s, 71.0 + 3 * s, 69.5 + s, peak_mib=500.0 + s) for s in range(3)]
    return pd.DataFrame([*base, *tmkt])


def by_method(df, **options):
    return table.summarise(df, **options).set_index("method")


def test_a_csv_keeps_columns_values_odd_names_and_blank_costs(tmp_path):
    path = tmp_path / "made" / "t.csv"
    blank = row("007", peak_mib=None, train_s=float("nan"))
    table.write_csv([row("None", best=81.23456, last=100 / 3, note="x"), blank], path)
    lines = path.read_text().splitlines()
    assert lines[0] == "method,seed,protocol,top1_best,top1_last,epoch_best,train_s,peak_mib"
    assert lines[1] == f'None,0,"{PROTOCOL}",81.2346,33.3333,5,100.0000,512.0000'
    df = table.read_csv(path)
    assert df["method"].tolist() == ["None", "007"] and df["top1_best"].tolist() == [81.2346, 80.0]
    assert df["seed"].dtype.kind == df["epoch_best"].dtype.kind == "i"
    assert df.loc[1, ["train_s", "peak_mib"]].isna().all()
    assert "80.00 ± -" in shown(table.summarise(df))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    table.write_csv([row()], path)
    old = path.read_text()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        table.write_csv([row(best=1.0)], path)
    assert path.read_text() == old and os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no rows"),
        ([{k: v for k, v in row().items() if k != "top1_last"}], "Column missing: top1_last"),
        ([row(), row(seed=1, best="n/a")], "top1_best, row 2: 'n/a' seen, percent"),
        ([row(last=float("nan"))], "top1_last, row 1"),
        ([row(best=101.0)], "percent, 0 to 100"),
        ([row(seed=0.5)], "seed, row 1: '0.5' seen, a whole number"),
        ([row(train_s="fast")], "train_s, row 1"),
        ([row(peak_mib=-1)], "peak_mib, row 1"),
        ([row(train_s=float("inf"))], "train_s, row 1"),
        ([row(method=" ")], "method, row 1: ' ' seen, a name"),
        ([row(), row(seed=1), row()], "Two rows for method 'tmkt', seed 0"),
        ([row(), row(protocol="other split")], f"protocols .*'{PROTOCOL}', 'other split'"),
    ],
)
def test_bad_rows_are_refused_and_not_written(rows, message, tmp_path):
    if "protocols" in message:
        rows[1]["seed"] = 1
    with pytest.raises(UserError, match=message):
        table.write_csv(rows, tmp_path / "t.csv")
    with pytest.raises(UserError):
        table.write_report(pd.DataFrame(rows), tmp_path / "out", "t", SELECTION)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", [None, "", "method,seed\n", "a,b\n1,2\n", 'a,b\n"1,2\n3,4,5\n'])
def test_bad_files_are_named(text, tmp_path):
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=r"t\.csv"):
        table.read_csv(path)


def test_summary_by_hand():
    summary = by_method(three_seeds())
    assert summary.index.tolist() == ["baseline", "tmkt"]
    tmkt, baseline = summary.loc["tmkt"], summary.loc["baseline"]
    assert (tmkt["n"], tmkt["n_paired"], baseline["n_paired"]) == (3, 3, 0)
    assert (tmkt["best_mean"], tmkt["best_std"]) == (74.0, 3.0)
    assert (baseline["last_mean"], baseline["last_std"]) == (70.0, 1.0)
    assert (baseline["train_s"], tmkt["peak_mib"]) == (20.0, 502.0)
    # differences 1, 2, 3: mean 2, std 1, half width 4.302653 / sqrt(3) = 2.484138
    best = tmkt[["best_diff", "best_low", "best_high", "best_p"]].tolist()
    assert best == pytest.approx([2, -0.484138, 4.484138, 0.0741799], abs=1e-5)
    assert baseline.filter(regex="_(diff|low|high|p)$").isna().all()
    # equal differences say nothing about other seeds
    assert tmkt["last_diff"] == pytest.approx(0.5)
    assert tmkt[["last_low", "last_high", "last_p"]].isna().all()


def test_summary_against_scipy_with_rows_shuffled():
    a, b = np.random.default_rng(0).uniform(60, 80, (2, 7))
    rows = [row("a", s, a[s]) for s in range(7)] + [row("baseline", s, b[s]) for s in range(7)]
    summary = by_method(pd.DataFrame(rows).sample(frac=1, random_state=1)).loc["a"]
    low, high = stats.t.interval(0.95, 6, loc=(a - b).mean(), scale=stats.sem(a - b))
    assert summary[["best_low", "best_high"]].tolist() == pytest.approx([low, high])
    assert summary["best_p"] == pytest.approx(stats.ttest_1samp(a - b, 0).pvalue)


def test_one_seed_has_no_interval():
    df = pd.DataFrame([row("z"), row("baseline"), row("tmkt", best=82.5)])
    assert table.summarise(df)["method"].tolist() == ["z", "baseline", "tmkt"]
    tmkt = by_method(df).loc["tmkt"]
    assert tmkt["best_diff"] == 2.5
    assert tmkt[["best_std", "best_low", "best_high", "best_p"]].isna().all()
    text = shown(table.summarise(df))
    assert "+2.50 [-]" in text and "with 1 seed no interval is possible" in text


def test_only_common_seeds_are_paired():
    rows = [row("baseline", s, 70.0) for s in (0, 1, 2)]
    df = pd.DataFrame(rows + [row("tmkt", s, 71.0 + s) for s in (1, 2, 9)])
    summary = table.summarise(df)
    tmkt = summary.set_index("method").loc["tmkt"]
    assert (tmkt["n"], tmkt["n_paired"], tmkt["best_diff"]) == (3, 2, 2.5)
    assert "tmkt: 2 of 3 seeds shared with baseline" in shown(summary)
    absent = table.summarise(three_seeds(), reference="sgd")
    assert absent.filter(regex="_(diff|low|high|p)$").isna().all(axis=None)
    assert "no method 'sgd'" in shown(absent, reference="sgd")
    disjoint = by_method(pd.DataFrame([row("baseline", 0), row("tmkt", 1)]))
    assert np.isnan(disjoint.loc["tmkt", "best_diff"])


def last(values: dict[str, tuple[float, ...]]) -> pd.DataFrame:
    return pd.DataFrame([row(m, s, last=v) for m, of in values.items() for s, v in enumerate(of)])


def claim(better: str, worse: str) -> dict[str, str]:
    return {"say": "x", "better": better, "worse": worse}


def test_claims_are_decided_by_the_p_value_after_holms_correction():
    values = {"a": (70, 71, 72), "b": (75, 75.5, 77.5), "c": (74, 76, 78), "d": (71, 72, 73)}
    pairs = ("ba", "ab", "bc", "da")  # the last differ by 1, each of them
    found = table.verdicts(last(values), [claim(*pair) for pair in pairs])
    expected = [table.HOLDS, table.FAILS, table.UNDECIDED, table.UNDECIDED]
    assert [f["verdict"] for f in found] == expected
    test = stats.ttest_rel(values["b"], values["a"])
    low, high = test.confidence_interval()
    assert [found[0][k] for k in ("low", "high", "p")] == pytest.approx([low, high, test.pvalue])
    assert found[0]["p_holm"] == pytest.approx(3 * test.pvalue) and np.isnan(found[3]["p_holm"])
    df, one = last({"a": (70, 71, 72), "e": (73, 75, 74.5)}), claim("e", "a")
    alone, thrice = table.verdicts(df, [one])[0], table.verdicts(df, [one] * 3)[0]
    assert (alone["verdict"], thrice["verdict"]) == (table.HOLDS, table.UNDECIDED)
    assert alone["low"] == thrice["low"] > 0 and alone["p"] < 0.05 < thrice["p_holm"]
    (found,) = table.verdicts(df[df.seed == 0], [one])
    assert found["verdict"] == table.ONE_SEED and found["difference"] == 3
    holm = table.holm([0.01, 0.04, 0.03, np.nan])
    assert holm == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)


def test_a_report_is_three_files_that_say_how_to_read_them(tmp_path):
    df = three_seeds().replace({"method": {"tmkt": "a|b"}})
    text = table.write_report(df, tmp_path / "out", "A title", SELECTION, note="a note")
    assert sorted(os.listdir(tmp_path / "out")) == [f"comparison.{s}" for s in ("csv", "md", "png")]
    there = table.read_csv(tmp_path / "out/comparison.csv")
    pd.testing.assert_frame_equal(there, table.checked(df))
    assert (tmp_path / "out/comparison.md").read_text(encoding="utf-8") == text
    for words in (
        *("# A title\n", f"protocol: {PROTOCOL}", f"best: {SELECTION}", "seeds: 3 per method"),
        *("paired difference to baseline [95 % CI]", "note: a note"),
        *("74.00 ± 3.00", "+2.00 [-0.48, +4.48]", "0.074"),
    ):
        assert words in text
    assert text.replace("±", "").isascii() and "no interval" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 6 and len(set(map(len, lines))) == 1
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}


def test_the_bootstrap_draws_seeds_and_recordings():
    rng = np.random.default_rng(1)
    names = [f"r{i}" for i in range(300)]
    # What a recording adds is common to all seeds: more seeds do not narrow the interval.
    common = rng.choice([0.0, 100.0], 300, p=(0.9, 0.1))
    made = {s: pd.Series(common, names).sample(200, random_state=s) for s in range(6)}
    found = table.bootstrap(made)
    assert found["diff"] == pytest.approx(np.concatenate([x for x in made.values()]).mean())
    half = 1.96 * common.std() / 300**0.5
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.25)
    assert found["p"] < 0.001
    even = [pd.Series(rng.choice([-100.0, 0, 100.0], 300), names) for _ in range(3)]
    level = table.bootstrap(dict(enumerate(even)))
    assert level["low"] < 0 < level["high"] and level["p"] > 0.05
    # One seed better, one worse by far: recordings alone would be sure of the mean.
    seeds = table.bootstrap({1: pd.Series([100.0] * 300), 2: pd.Series([-40.0] * 300)})
    assert seeds["low"] == -40 and seeds["high"] == 100 and seeds["p"] > 0.4
