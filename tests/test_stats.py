"""The table against numbers worked out by hand and against scipy, and its refusals."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tmkt_braincog import comparison as table
from tmkt_braincog.errors import UserError

PROTOCOL = "toy events, 10 shots, 20 epochs"
SELECTION = "best epoch on the test set"


def shown(summary, render=table.to_text, **words):
    return render(summary, table.legend(summary, PROTOCOL, SELECTION, **words))


def row(method="tmkt", seed=0, best=80.0, last=79.0, **other):
    fixed = {"protocol": PROTOCOL, "epoch_best": 5, "train_s": 100.0, "peak_mib": 512.0}
    return {"method": method, "seed": seed, "top1_best": best, "top1_last": last, **fixed, **other}


def three_seeds():
    """Differences tmkt - baseline: best 1, 2, 3; last 0.5, 0.5, 0.5."""
    baseline = [
        row("baseline", s, 70.0 + 2 * s, 69.0 + s, train_s=10.0 * (s + 1)) for s in range(3)
    ]
    tmkt = [row("tmkt", s, 71.0 + 3 * s, 69.5 + s, peak_mib=500.0 + s) for s in range(3)]
    return pd.DataFrame([*baseline, *tmkt])


def by_method(df, **options):
    return table.summarise(df, **options).set_index("method")


def test_csv_header_and_values_survive(tmp_path):
    path = tmp_path / "made" / "t.csv"
    table.write_csv([row(best=81.23456, last=100 / 3), row(seed=1)], path)
    lines = path.read_text().splitlines()
    assert lines[0] == "method,seed,protocol,top1_best,top1_last,epoch_best,train_s,peak_mib"
    assert lines[1] == f'tmkt,0,"{PROTOCOL}",81.2346,33.3333,5,100.0000,512.0000'
    df = table.read_csv(path)
    assert list(df.columns) == list(table.COLUMNS)
    assert df["top1_best"].tolist() == [81.2346, 80.0]
    assert df["seed"].dtype.kind == df["epoch_best"].dtype.kind == "i"


def test_csv_drops_foreign_columns_and_keeps_odd_names(tmp_path):
    table.write_csv([row("None", note="x"), row("007")], tmp_path / "t.csv")
    assert table.read_csv(tmp_path / "t.csv")["method"].tolist() == ["None", "007"]


def test_unmeasured_cost_may_be_blank(tmp_path):
    table.write_csv([row(peak_mib=None, train_s=float("nan"))], tmp_path / "t.csv")
    df = table.read_csv(tmp_path / "t.csv")
    assert df[["train_s", "peak_mib"]].isna().all(axis=None)
    assert "80.00 ± -" in shown(table.summarise(df))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    table.write_csv([row()], path)
    old = path.read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        table.write_csv([row(best=1.0)], path)
    assert path.read_text() == old
    assert os.listdir(tmp_path) == ["t.csv"]


@pytest.mark.parametrize(
    ("rows", "message"),
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
        ([row(method=" ")], "method, row 1: blank"),
        ([row(protocol="")], "protocol, row 1: blank"),
        ([row(), row(seed=1), row()], "2 rows for method 'tmkt', seed 0"),
    ],
)
def test_bad_rows_are_refused_and_not_written(rows, message, tmp_path):
    with pytest.raises(UserError, match=message):
        table.write_csv(rows, tmp_path / "t.csv")
    assert os.listdir(tmp_path) == []


def test_mixed_protocols_name_the_rows_that_differ():
    df = pd.DataFrame([row(seed=0), row(seed=1), row("baseline", 0, protocol="other split")])
    with pytest.raises(UserError) as caught:
        table.checked(df)
    message = str(caught.value)
    assert f"'{PROTOCOL}': tmkt (seed 0, 1)" in message
    assert "'other split': baseline (seed 0)" in message


@pytest.mark.parametrize("text", ["", "method,seed\n", "a,b\n1,2\n", 'a,b\n"1,2\n3,4,5\n'])
def test_bad_files_are_named(text, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=r"t\.csv"):
        table.read_csv(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read nowhere\.csv \(No such file"):
        table.read_csv("nowhere.csv")
    with pytest.raises(UserError, match="Is a directory"):
        table.read_csv(tmp_path)


def test_summary_by_hand():
    summary = by_method(three_seeds())
    assert summary.index.tolist() == ["baseline", "tmkt"]
    tmkt, baseline = summary.loc["tmkt"], summary.loc["baseline"]
    assert (tmkt["n"], tmkt["n_paired"], baseline["n_paired"]) == (3, 3, 0)
    assert (tmkt["best_mean"], tmkt["best_std"]) == (74.0, 3.0)
    assert (baseline["last_mean"], baseline["last_std"]) == (70.0, 1.0)
    assert (baseline["train_s"], tmkt["peak_mib"]) == (20.0, 502.0)
    # differences 1, 2, 3: mean 2, std 1, half width 4.302653 / sqrt(3) = 2.484138
    assert tmkt["best_diff"] == pytest.approx(2.0)
    assert tmkt["best_low"] == pytest.approx(-0.484138, abs=1e-5)
    assert tmkt["best_high"] == pytest.approx(4.484138, abs=1e-5)
    assert tmkt["best_p"] == pytest.approx(0.0741799, abs=1e-6)
    assert baseline.filter(regex="_(diff|low|high|p)$").isna().all()


def test_summary_against_scipy_with_rows_shuffled():
    g = np.random.default_rng(0)
    a, b = g.uniform(60, 80, (2, 7))
    rows = [row("a", s, a[s]) for s in range(7)] + [row("baseline", s, b[s]) for s in range(7)]
    summary = by_method(pd.DataFrame(rows).sample(frac=1, random_state=1)).loc["a"]
    low, high = stats.t.interval(0.95, 6, loc=(a - b).mean(), scale=stats.sem(a - b))
    assert summary["best_low"] == pytest.approx(low)
    assert summary["best_high"] == pytest.approx(high)
    assert summary["best_p"] == pytest.approx(stats.ttest_1samp(a - b, 0).pvalue)


def test_order_of_first_appearance():
    df = pd.DataFrame([row("z", 1), row("a", 0), row("z", 0), row("baseline", 0)])
    assert table.summarise(df)["method"].tolist() == ["z", "a", "baseline"]


def test_equal_differences_have_no_interval():
    last = by_method(three_seeds()).loc["tmkt"]
    assert last["last_diff"] == pytest.approx(0.5)
    assert last[["last_low", "last_high", "last_p"]].isna().all()


def test_one_seed_has_no_interval():
    df = pd.DataFrame([row("baseline"), row("tmkt", best=82.5)])
    tmkt = by_method(df).loc["tmkt"]
    assert tmkt["best_diff"] == 2.5
    assert tmkt[["best_std", "best_low", "best_high", "best_p"]].isna().all()
    text = shown(table.summarise(df))
    assert "+2.50 [-]" in text
    assert "with 1 seed no interval is possible" in text


def test_only_common_seeds_are_paired():
    df = pd.DataFrame(
        [row("baseline", s, 70.0) for s in (0, 1, 2)]
        + [row("tmkt", s, 71.0 + s) for s in (1, 2, 9)]
    )
    summary = table.summarise(df)
    tmkt = summary.set_index("method").loc["tmkt"]
    assert (tmkt["n"], tmkt["n_paired"], tmkt["best_diff"]) == (3, 2, 2.5)
    assert "tmkt: 2 of 3 seeds shared with baseline" in shown(summary)


def test_without_reference_or_shared_seeds_no_difference():
    absent = table.summarise(three_seeds(), reference="sgd")
    assert absent.filter(regex="_(diff|low|high|p)$").isna().all(axis=None)
    assert "no method 'sgd'" in shown(absent, reference="sgd")
    disjoint = by_method(pd.DataFrame([row("baseline", 0), row("tmkt", 1)]))
    assert np.isnan(disjoint.loc["tmkt", "best_diff"])


@pytest.mark.parametrize("render", [table.to_text, table.to_markdown])
def test_rendered_tables_say_how_to_read_them(render):
    out = shown(table.summarise(three_seeds()), render, note="a note")
    for words in (
        f"protocol: {PROTOCOL}",
        f"best: {SELECTION}",
        "seeds: 3 per method",
        "paired difference to baseline [95 % CI]",
        "note: a note",
        "74.00 ± 3.00",
        "+2.00 [-0.48, +4.48]",
        "0.074",
    ):
        assert words in out
    assert out.replace("±", "").isascii()
    assert "no interval" not in out


def test_text_is_aligned_and_fits_the_terminal():
    name = "a-long-method-16"
    df = pd.DataFrame(
        [
            row(m, s, 100.0 * s, 0.0, train_s=99999, peak_mib=143771)
            for m in ("baseline", name)
            for s in (0, 1)
        ]
    )
    df.loc[df["method"] == name, "top1_best"] = [90.0, 15.0]
    lines = shown(table.summarise(df), note="word " * 50).splitlines()
    assert max(map(len, lines)) <= 100
    rule = lines[1]
    gaps = [i for i, dash in enumerate(rule) if dash == " "]
    assert len(gaps) == 2 * 7
    assert all(line.ljust(len(rule))[i] == " " for line in (lines[0], *lines[2:6]) for i in gaps)


def test_markdown_has_as_many_cells_in_each_row():
    df = three_seeds().replace({"method": {"tmkt": "a|b"}})
    lines = [
        x for x in shown(table.summarise(df), table.to_markdown).splitlines() if x.startswith("|")
    ]
    assert len(lines) == 6
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}


def test_report_writes_three_files_and_returns_the_text(tmp_path):
    text = table.write_report(three_seeds(), tmp_path / "out", "A title", SELECTION, note="smoke")
    assert text.startswith("A title\n")
    assert "note: smoke" in text
    folder = tmp_path / "out"
    assert sorted(os.listdir(folder)) == ["comparison.csv", "comparison.md", "comparison.png"]
    pd.testing.assert_frame_equal(
        table.read_csv(folder / "comparison.csv"), table.checked(three_seeds())
    )
    markdown = (folder / "comparison.md").read_text(encoding="utf-8")
    assert markdown.startswith("# A title\n")
    assert str(tmp_path) not in json.dumps([text, markdown])
    assert str(tmp_path).encode() not in (folder / "comparison.png").read_bytes()


def test_report_of_bad_rows_leaves_no_folder(tmp_path):
    with pytest.raises(UserError):
        table.write_report(pd.DataFrame(columns=table.COLUMNS), tmp_path / "out", "t", SELECTION)
    assert not (tmp_path / "out").exists()
