"""Confusion matrices: counts against a loop, the table, pictures for few and many classes."""

import numpy as np
import pytest

from tmkt_braincog.figures import confusion
from tmkt_braincog.figures.base import Request
from tmkt_braincog.figures.features import event_logits, held_out_pairs


def test_counts_against_a_loop_and_the_evaluation(runs, tmp_path):
    run, request = runs[1], Request(runs, tmp_path, samples=70)
    slow = np.zeros((10, 10), int)
    for of_steps, label in zip(*event_logits(run, request), strict=True):
        slow[label, (sum(of_steps) / len(of_steps)).argmax()] += 1
    counts = confusion.counts_of(run, request)
    assert np.array_equal(counts, slow)
    top1 = run.predict(held_out_pairs(run, request).recordings).metrics().top1
    assert 100 * np.trace(counts) / 70 == pytest.approx(top1)


def test_figure_and_table(runs, draw, tmp_path):
    table = draw("confusion", runs, samples=70)["confusion"]
    for run in runs:
        of_run, matrix = table[table["run"] == run.name], np.zeros((10, 10), int)
        for true, predicted, count in of_run[["true", "predicted", "count"]].to_numpy():
            matrix[run.data.classes.index(true), run.data.classes.index(predicted)] += count
        request = Request(runs, tmp_path, samples=70)
        assert np.array_equal(matrix, confusion.counts_of(run, request))
        assert (of_run["count"] > 0).all()
        assert of_run.groupby("true")["share"].sum().values == pytest.approx(1, abs=1e-5)


def test_classes_without_recordings_have_no_shares():
    shares = confusion.shares(np.array([[1, 3], [0, 0]]))
    assert shares[0].tolist() == [0.25, 0.75] and np.isnan(shares[1]).all()


@pytest.mark.parametrize("n", [20, 1623])
def test_numbers_and_names_only_where_they_can_be_read(n, runs, tmp_path):
    names = tuple(f"a class called {i}" for i in range(n))
    counts = {"one": 3 * np.eye(n, dtype=int), "two": np.ones((n, n), int)}
    figure = confusion._draw(Request(runs, tmp_path), counts, names)
    assert figure.get_suptitle().endswith("emulated\u00a0events")
    one, two = figure.axes[:2]
    assert [text.get_text() for text in one.texts] == (["100"] * n if n <= 20 else [])
    labels = [t.get_text() for t in one.get_xticklabels()]
    assert labels == (["a class cal…"] * n if n <= 20 else [])
    assert np.array_equal(one.images[0].get_array(), 100 * np.eye(n))
    assert (one.get_title(), two.get_title()) == ("one: 100.0 %", f"two: {100 / n:.1f} %")
