"""The figures: files that decode, show something, and carry the numbers they were given."""

import os
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from tmkt_braincog.comparison import summarise
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures import plots
from tmkt_braincog.files import replacing

METHODS = ("event-only", "baseline", "tmkt")


def results(methods=METHODS, seeds=3):
    rows = [
        {"method": m, "seed": s, "top1_best": 70 + 2 * i + s, "top1_last": 69 + 2 * i + s / 2}
        for i, m in enumerate(methods)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def log(epochs, shift=0.0):
    return pd.DataFrame({"epoch": range(epochs), "top1": np.linspace(10, 80, epochs) + shift})


def shots(ks=(1, 5, 20)):
    rows = [
        {"method": m, "seed": s, "shots": k, "top1": 30.0 + k + i + s}
        for i, m in enumerate(METHODS)
        for s in range(3)
        for k in ks
    ]
    return pd.DataFrame(rows)


def assert_picture(path, inches):
    """Decodes, has the size asked for, and holds coloured ink."""
    with Image.open(path) as image:
        image.load()
        assert image.size == pytest.approx([side * plots.DPI for side in inches], abs=2)
        assert image.info["dpi"][0] == pytest.approx(plots.DPI, abs=1)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert 0.5 < (pixels == 255).all(axis=2).mean() < 0.99
    assert (np.ptp(pixels, axis=2) > 60).sum() > 50
    assert str(path.parent).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("methods", "seeds", "inches"),
    [
        (METHODS, 3, (7.7, 3.5)),
        (METHODS, 1, (7.7, 3.5)),
        (("tmkt",), 2, (6.0, 3.5)),
        (tuple(f"ablation-number-{i}" for i in range(8)), 4, (10.0, 5.8)),
    ],
)
def test_comparison(methods, seeds, inches, tmp_path):
    plots.plot_comparison(results(methods, seeds), tmp_path / "new" / "c.png", "A title " * 20)
    assert_picture(tmp_path / "new" / "c.png", inches)
    assert os.listdir(tmp_path / "new") == ["c.png"]


def test_comparison_survives_a_missing_seed(tmp_path):
    plots.plot_comparison(results().drop(index=4), tmp_path / "c.png")
    assert_picture(tmp_path / "c.png", (7.7, 3.5))


def test_comparison_shows_means_and_joins_equal_seeds():
    figure = plots._comparison(results().drop(index=4), list(METHODS), "")
    best, last = figure.axes
    labels = [tick.get_text() for tick in best.get_xticklabels()]
    assert labels == ["event-only\n71.00 ± 1.00", "baseline\n73.00 ± 1.41", "tmkt\n75.00 ± 1.00"]
    joins = [line.get_ydata().tolist() for line in best.lines if line.get_linewidth() == 0.8]
    assert joins == [[70, 72, 74], [71, 75], [72, 74, 76]]
    assert [best.get_title(), last.get_title()] == ["best epoch", "last epoch"]


def test_tick_labels_of_many_methods_do_not_overlap():
    methods = [f"ablation-number-{i}" for i in range(6)]
    figure = plots._comparison(results(methods), methods, "")
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_curves(tmp_path):
    runs = {m: [log(30, i + s) for s in range(3)] for i, m in enumerate(METHODS)}
    plots.plot_curves(runs, tmp_path / "c.png", title="t")
    assert_picture(tmp_path / "c.png", (5.0, 3.4))


def test_curve_is_mean_and_std_where_all_seeds_are():
    curve = plots._curve("tmkt", [log(5, -1.0), log(5, 1.0).head(3)], "epoch", "top1")
    assert curve.index.tolist() == [0, 1, 2]
    assert curve["mean"].tolist() == pytest.approx(log(5)["top1"].head(3).tolist())
    assert curve["std"].tolist() == pytest.approx([2**0.5] * 3)


def test_one_seed_one_epoch_is_visible(tmp_path):
    plots.plot_curves({"tmkt": [log(1)]}, tmp_path / "c.png")
    assert_picture(tmp_path / "c.png", (5.0, 3.4))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "No runs"),
        ({"tmkt": []}, "'tmkt' has no runs"),
        ({"tmkt": [log(3).drop(columns="top1")]}, "column top1 is missing. Seen: epoch"),
        ({"tmkt": [log(3).astype({"top1": str})]}, "top1 is not numeric"),
        ({"tmkt": [pd.concat([log(3), log(1)])]}, "two rows with epoch=0"),
        ({"tmkt": [log(3).head(1), log(3).tail(1)]}, "share no epoch"),
    ],
)
def test_bad_curves(runs, message, tmp_path):
    with pytest.raises(UserError, match=message):
        plots.plot_curves(runs, tmp_path / "c.png")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ks", [(1, 5, 20), (5,), tuple(range(1, 11))])
def test_shots(ks, tmp_path):
    plots.plot_shots(shots(ks), tmp_path / "s.png", "t")
    assert_picture(tmp_path / "s.png", (5.0, 3.6))


def test_shots_of_one_seed_have_no_bar(tmp_path):
    plots.plot_shots(shots().query("seed == 0"), tmp_path / "s.png", "t")
    assert_picture(tmp_path / "s.png", (5.0, 3.6))


def test_shots_axis_is_logarithmic_and_labelled_by_the_shots():
    axes = plots._shots(shots(), list(METHODS), "").axes[0]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "5", "20"]
    assert len(axes.containers) == 3
    means = axes.containers[1].lines[0]
    assert means.get_xdata().tolist() == pytest.approx([1, 5, 20])
    assert means.get_ydata().tolist() == pytest.approx([33, 37, 52])


@pytest.mark.parametrize("methods", [2, 3, 7])
@pytest.mark.parametrize("ks", [[1, 2, 5], [9, 10], list(range(1, 11))])
def test_bars_of_neighbouring_shots_keep_apart(ks, methods):
    step = plots._offset(ks, methods)
    assert step > 1.0
    half = step ** ((methods - 1) / 2)
    assert all(a * half < b / half for a, b in pairwise(ks))


@pytest.mark.parametrize(
    ("df", "message"),
    [
        (shots().assign(shots=0), "two rows"),
        (shots((0, 1)), "positive numbers for a log axis, seen: 0, 1"),
        (shots().head(0), "no rows"),
        (shots().drop(columns="shots"), "column shots is missing"),
        (shots().astype({"shots": str}), "shots is not numeric"),
    ],
)
def test_bad_shots(df, message, tmp_path):
    with pytest.raises(UserError, match=message):
        plots.plot_shots(df, tmp_path / "s.png")


@pytest.mark.parametrize(("suffix", "magic"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_vector_formats(suffix, magic, tmp_path):
    path = tmp_path / f"c.{suffix}"
    plots.plot_comparison(results(), path)
    assert path.read_bytes().startswith(magic)
    assert str(tmp_path).encode() not in path.read_bytes()


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match=r"expected a name in \.png, \.pdf or \.svg"):
        plots.plot_comparison(results(), tmp_path / "c.gif")
    assert os.listdir(tmp_path) == []


def half_written(path):
    path.write_bytes(b"half")
    raise OSError("disk full")


def test_a_failed_plot_leaves_the_old_picture(tmp_path):
    path = tmp_path / "c.png"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        half_written(temporary)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.png"]


def test_settings_of_the_caller_are_kept(tmp_path):
    with matplotlib.rc_context({"font.size": 31, "savefig.dpi": 20}):
        plots.plot_comparison(results(), tmp_path / "c.png")
        assert matplotlib.rcParams["font.size"] == 31
    plots.plot_comparison(results(), tmp_path / "d.png")
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()


@pytest.mark.parametrize("seeds", [1, 4])
def test_rows_show_seeds_means_and_differences(tmp_path, seeds):
    names = ["none", "TSM", "a row with a name that is longer than thirty letters", "tmkt"]
    df = results(names, seeds).assign(protocol="clean", epoch_best=1, train_s=1.0, peak_mib=0.0)
    df["top1_last"] += np.random.default_rng(0).random(len(df))
    summary = summarise(df, "none")
    references = dict.fromkeys(names, "none")
    plots.plot_rows(df, summary, references, tmp_path / "rows.png", "A title")
    assert_picture(tmp_path / "rows.png", (7.0, 1.3 + 0.34 * 4))
    left, right = plots._rows(df, summary.set_index("method"), references, "").axes
    dots = np.concatenate(
        [c.get_offsets() for c in left.collections if isinstance(c, PathCollection)]
    )
    assert sorted(dots[:, 0]) == pytest.approx(sorted(df["top1_last"]))
    drawn = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    assert drawn == pytest.approx(summary["last_diff"].dropna().tolist())
    bars = [c.get_segments()[0][:, 0] for c in right.collections]
    expected = summary[["last_low", "last_high"]].dropna().to_numpy()
    assert np.allclose(np.array(bars).reshape(-1, 2), expected) and len(bars) == (
        3 if seeds > 1 else 0
    )


def test_groups_of_rows_have_a_reference_each(tmp_path):
    groups = {"a 1": "a 1", "a 2": "a 1", "b 1": "b 2", "b 2": "b 2"}
    df = results(list(groups), 3).assign(protocol="clean", epoch_best=1, train_s=1.0, peak_mib=0.0)
    df["top1_last"] += np.random.default_rng(0).random(len(df))
    own = [summarise(df, to).set_index("method").loc[[name]] for name, to in groups.items()]
    figure = plots._rows(df, pd.concat(own), groups, "")
    figure.draw_without_rendering()
    left, right = figure.axes
    drawn = [line for line in right.lines if line.get_marker() == "o"]
    mean = df.groupby("method")["top1_last"].mean()
    expected = [mean["a 2"] - mean["a 1"], mean["b 1"] - mean["b 2"]]
    assert [line.get_xdata()[0] for line in drawn] == pytest.approx(expected)
    assert [line.get_ydata()[0] for line in drawn] == [1, 2]
    between = [
        line.get_ydata()
        for line in left.lines
        if line.get_marker() == "None" and len(line.get_xdata()) == 2
    ]
    assert [1.5, 1.5] in [list(y) for y in between]
    label = right.xaxis.label.get_window_extent()
    assert "to the grey row" in right.get_xlabel() and label.x1 < figure.bbox.x1


def test_a_legend_with_long_names_stays_inside(tmp_path):
    runs = {f"a change with a long name, number {i}": [log(5, i)] for i in range(7)}
    figure = plots._curves(
        {name: plots._curve(name, logs, "epoch", "top1") for name, logs in runs.items()},
        {name: f"{name} (1 seed)" for name in runs},
        ("epoch", "top1"),
        "",
    )
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
