"""The pictures: files that decode, and axes that carry the numbers, labels and colours they were
given."""

import os

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from tmkt_braincog import plots
from tmkt_braincog.comparison import summarise
from tmkt_braincog.errors import UserError

METHODS = ("event-only", "baseline", "tmkt")
LONG = "a change with a long name, number"


def results(methods=METHODS, seeds=3):
    rows = [
        {"method": m, "seed": s, "top1_best": 70 + 2 * i + s, "top1_last": 69 + 2 * i + s**i / 2}
        for i, m in enumerate(methods)
        for s in range(seeds)
    ]
    return pd.DataFrame(rows).assign(protocol="clean", epoch_best=1, train_s=1.0, peak_mib=0.0)


def log(method, epochs, shift=0.0, seed=1):
    top1 = np.linspace(10, 80, epochs) + shift
    return pd.DataFrame({"method": method, "seed": seed, "epoch": range(epochs), "top1": top1})


def two(method, epochs):
    return [log(method, epochs, -1.0), log(method, epochs, 1.0, seed=2)]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda draw, path: figures.append(draw()))
    return figures


def dots(axes):
    """Where the small marks of the seeds lie, with their colours."""
    marks = [c for c in axes.collections if isinstance(c, PathCollection)]
    return [(*at, to_hex(c.get_facecolor()[0])) for c in marks for at in c.get_offsets()]


def large(axes):
    """The marks of the means."""
    return [one for one in axes.lines if one.get_markersize() == 5 and len(one.get_xdata()) == 1]


def test_a_method_has_one_look_everywhere():
    alone, all_of = plots.looks(["tmkt"]), plots.looks([*reversed(plots.METHODS), "tmkt+seal"])
    assert alone["tmkt"] == all_of["tmkt"] == {"color": "#009E73", "marker": "D"}
    assert plots.looks(["TMKT"])["TMKT"] == alone["tmkt"]
    assert [all_of[m]["color"] for m in plots.METHODS] == list(plots.COLOURS[:6])
    assert all_of["tmkt+seal"]["marker"] == all_of["seal"]["marker"]
    names = ["own", "baseline", *(f"other {i}" for i in range(20)), "baseline+ckd", "tmkt+ckd"]
    found = plots.looks(names)
    assert list(found) == names and found["own"]["color"] == plots.COLOURS[0]
    assert len({(look["color"], look["marker"]) for look in found.values()}) == len(names)
    assert found["other 0"] == {"color": plots.COLOURS[2], "marker": plots.MARKERS[2]}


@pytest.mark.parametrize("methods", [METHODS[1:], (*METHODS, "ckd", f"tmkt, {LONG} 1")])
@pytest.mark.parametrize("seeds", [1, 5])
def test_comparison_shows_every_seed_and_mean_with_std(drawn, methods, seeds):
    df = results(methods, seeds)
    plots.plot_comparison(df, "c.png", "N-MNIST, Transfer_SCNN", emulated=True)
    (figure,) = drawn
    colours = [look["color"] for look in plots.looks(methods).values()]
    for axes, column in zip(figure.axes, ("top1_best", "top1_last"), strict=True):
        rows = [methods.index(m) for m in df["method"]]
        expected = [(v, y - 0.2, colours[y].lower()) for v, y in zip(df[column], rows, strict=True)]
        assert dots(axes) == expected
        mean = df.groupby("method", sort=False)[column].mean()
        seen = [(one.get_xdata()[0], one.get_ydata()[0], one.get_color()) for one in large(axes)]
        assert seen == list(zip(mean, range(len(methods)), colours, strict=True))
        bars = sum(len(c.get_segments()) for c in axes.collections if hasattr(c, "get_segments"))
        assert bars == (len(methods) if seeds > 1 else 0)
    assert figure.axes[0].texts[0].get_text() == ("70.00" if seeds == 1 else "72.00 ± 1.58")
    ticks = [t.get_text().replace("\n", " ") for t in figure.axes[0].get_yticklabels()]
    assert ticks == list(methods)
    assert figure.get_suptitle() == "N-MNIST, Transfer_SCNN, emulated\u00a0events"
    assert [axes.get_title() for axes in figure.axes] == ["best epoch", "last epoch"]


def test_curves_are_mean_and_std_where_all_seeds_are(drawn):
    first, second = two("baseline", 5)
    plots.plot_curves(pd.concat([first, second.head(3), log("tmkt", 30)]), "c.png")
    axes = drawn[0].axes[0]
    first, second = axes.lines
    assert first.get_xdata().tolist() == [0, 1, 2]
    assert first.get_ydata().tolist() == pytest.approx([10, 27.5, 45])
    assert [first.get_color(), second.get_color()] == [plots.COLOURS[1], plots.COLOURS[2]]
    band = axes.collections[0].get_paths()[0].vertices
    assert np.ptp(band[band[:, 0] == 1][:, 1]) == pytest.approx(2 * 2**0.5)
    assert axes.get_ylabel() == plots.ACCURACY and axes.get_xlabel() == "epoch"
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == ["baseline (2 seeds)", "tmkt (1 seed)"]
    plots.plot_curves(log("tmkt", 1), "c.png")  # one seed, one epoch: visible
    assert drawn[1].axes[0].lines[0].get_marker() == "D"


def test_encodings_have_a_panel_each_in_which_other_methods_stand_too(drawn):
    names = ["event-only", "tmkt, repeat", "tmkt, saccade", "baseline, saccade"]
    plots.plot_curves(pd.concat([one for name in names for one in two(name, 3)]), "c.png")
    left, right = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["repeat", "saccade"]
    assert [len(axes.lines) for axes in (left, right)] == [2, 3]
    assert left.lines[1].get_color() == right.lines[1].get_color() == plots.COLOURS[2]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert labels == [f"{name} (2 seeds)" for name in ("event-only", "tmkt", "baseline")]
    near = left.transData.transform([(0, 90), (0, 99), (0, 99.9)])[:, 1]
    assert near[1] - near[0] == pytest.approx(near[2] - near[1])


def test_no_epoch_in_common(tmp_path):
    first, second = two("tmkt", 3)
    with pytest.raises(UserError, match="'tmkt' share no epoch"):
        plots.plot_curves(pd.concat([first.head(1), second.tail(1)]), tmp_path / "c.png")
    assert os.listdir(tmp_path) == []


def test_shots_axis_is_logarithmic_and_labelled_by_the_shots(drawn):
    shots = [results().assign(shots=k, top1=30.0 + k) for k in (1, 5, 20)]
    table = pd.concat(shots).assign(top1=lambda df: df["top1"] + df["seed"])
    plots.plot_curves(table, "s.png", "shots", logx=True)
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "5", "20"]
    assert axes.lines[1].get_xdata().tolist() == [1, 5, 20]
    assert axes.lines[1].get_ydata().tolist() == pytest.approx([32, 36, 51])


@pytest.mark.parametrize("seeds", [1, 4])
def test_rows_show_seeds_means_and_differences(drawn, seeds):
    names = ["none", "TSM", f"{LONG} 3", "tmkt"]
    df = results(names, seeds)
    summary = summarise(df, "none")
    plots.plot_rows(df, summary, dict.fromkeys(names, "none"), "rows.png", "A title")
    left, right = drawn[0].axes
    assert sorted(x for x, _, _ in dots(left)) == pytest.approx(sorted(df["top1_last"]))
    expected = [0, *summary["last_diff"].dropna()]
    assert [one.get_xdata()[0] for one in large(right)] == pytest.approx(expected)
    assert [one.get_color() for one in large(right)] == [plots.GREY] * 3 + ["#009E73"]
    bars = [c.get_segments()[0][:, 0] for c in right.collections]
    wanted = summary[["last_low", "last_high"]].dropna().to_numpy()
    assert np.allclose(np.array(bars).reshape(-1, 2), wanted) and len(bars) == 3 * (seeds > 1)


def test_groups_of_rows_have_a_reference_each(drawn):
    groups = {"a 1": "a 1", "a 2": "a 1", "b 1": "b 2", "b 2": "b 2"}
    df = results(list(groups))
    own = [summarise(df, to).set_index("method").loc[[name]] for name, to in groups.items()]
    plots.plot_rows(df, pd.concat(own).reset_index(), groups, "rows.png")
    left, right = drawn[0].axes
    mean = df.groupby("method")["top1_last"].mean()
    expected = [0, mean["a 2"] - mean["a 1"], mean["b 1"] - mean["b 2"], 0]
    assert [one.get_xdata()[0] for one in large(right)] == pytest.approx(expected)
    assert [1.5, 1.5] in [list(line.get_ydata()) for line in left.lines]
    fills = [one.get_markerfacecolor() for one in large(right)]
    assert [fill == "white" for fill in fills] == [True, False, False, True]
    assert "to the hollow row" in right.get_xlabel()


def test_a_legend_with_long_names_stays_inside(drawn):
    plots.plot_curves(pd.concat([log(f"{LONG} {i}", 5, i) for i in range(7)]), "c.png")
    drawn[0].draw_without_rendering()
    box = drawn[0].legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= drawn[0].bbox.x1


@pytest.mark.parametrize(
    ("suffix", "magic"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")]
)
def test_formats(suffix, magic, tmp_path):
    path = tmp_path / "new" / f"c.{suffix}"
    plots.plot_comparison(results(), path, "A title " * 20)
    assert path.read_bytes().startswith(magic) and os.listdir(path.parent) == [path.name]
    assert str(tmp_path).encode() not in path.read_bytes()
    if suffix == "png":
        with Image.open(path) as image:
            assert image.size[0] == 7 * plots.DPI
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert 0.5 < (pixels == 255).all(axis=2).mean() < 0.99
        assert (np.ptp(pixels, axis=2) > 60).sum() > 50


def test_unknown_suffix(tmp_path):
    with pytest.raises(UserError, match=r"expected a name in \.png, \.pdf, \.svg"):
        plots.plot_comparison(results(), tmp_path / "c.gif")
    assert os.listdir(tmp_path) == []


def test_settings_of_the_caller_are_kept(tmp_path):
    with matplotlib.rc_context({"font.size": 31, "savefig.dpi": 20}):
        plots.plot_comparison(results(), tmp_path / "c.png")
        assert matplotlib.rcParams["font.size"] == 31
    plots.plot_comparison(results(), tmp_path / "d.png")
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()


def test_an_encoding_keeps_the_colour_of_its_method():
    names = [f"{m}, {e}" for m in ("baseline", "tmkt") for e in plots.ENCODINGS]
    found = plots.looks([*names, "baseline", "tmkt, large"])
    assert found["baseline, saccade"]["color"].lower() == found["baseline"]["color"].lower()
    assert len({look["color"].lower() for look in found.values()}) == 7
    assert len({found[name]["marker"] for name in names}) == 3
    assert found["tmkt, large"] == plots.looks(["another"])["another"]
