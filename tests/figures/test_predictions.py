"""Confusion matrices and accuracy over time against loops, and pictures of few and many classes."""

import numpy as np
import pytest

from tmkt_braincog.figures import predictions
from tmkt_braincog.figures.base import Request
from tmkt_braincog.figures.features import event_logits, held_out_pairs


def test_confusion_against_a_loop_and_the_evaluation(runs, draw, tmp_path):
    table, request = (
        draw("confusion", runs, samples=70)["confusion"],
        Request(runs, tmp_path, samples=70),
    )
    for run in runs:
        slow, of_run, matrix = (
            np.zeros((10, 10)),
            table[table["run"] == run.name],
            np.zeros((10, 10)),
        )
        for of_steps, label in zip(*event_logits(run, request), strict=True):
            slow[label, (sum(of_steps) / len(of_steps)).argmax()] += 1
        for true, predicted, count in of_run[["true", "predicted", "count"]].to_numpy():
            matrix[run.data.classes.index(true), run.data.classes.index(predicted)] += count
        assert np.array_equal(matrix, slow) and (of_run["count"] > 0).all()
        assert of_run.groupby("true")["share"].sum().values == pytest.approx(1, abs=1e-5)
        top1 = run.predict(held_out_pairs(run, request).recordings).metrics().top1
        assert 100 * np.trace(slow) / 70 == pytest.approx(top1)


def test_classes_without_recordings_have_no_shares():
    shares = predictions.shares(np.array([[1, 3], [0, 0]]))
    assert shares[0].tolist() == [0.25, 0.75] and np.isnan(shares[1]).all()


@pytest.mark.parametrize("n", [20, 1623])
def test_numbers_and_names_only_where_they_can_be_read(n, runs, tmp_path):
    names, counts = [f"a class called {i}" for i in range(n)], [3 * np.eye(n), np.ones((n, n))]
    figure = predictions._draw(Request(runs[:2], tmp_path), counts, names)
    assert figure.get_suptitle().endswith("emulated\u00a0events")
    one, two = figure.axes[:2]
    assert [text.get_text() for text in one.texts] == (["100"] * n if n <= 20 else [])
    labels = [t.get_text() for t in one.get_xticklabels()]
    assert labels == (["a class cal…"] * n if n <= 20 else [])
    assert np.array_equal(one.images[0].get_array(), 100 * np.eye(n))
    assert one.get_title() == "event-only: 100.0 %"
    assert two.get_title() == f"baseline: {100 / n:.1f} %"


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
