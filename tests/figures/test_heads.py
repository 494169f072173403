"""What all heads say of test recordings, and t* in training, against loops over samples."""

from copy import copy

import numpy as np
import pytest
import torch

from tmkt_braincog.errors import UserError
from tmkt_braincog.figures import heads
from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.figures.features import event_logits, held_out_pairs
from tmkt_braincog.mixing import Mixing, Progress, TimeStepMixup, geometric_pmf, truncated_pmf

T = 4


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
    shares = heads.shares(np.array([[1, 3], [0, 0]]))
    assert shares[0].tolist() == [0.25, 0.75] and np.isnan(shares[1]).all()


@pytest.mark.parametrize("n", [20, 1623])
def test_numbers_and_names_only_where_they_can_be_read(n, runs, tmp_path):
    names, counts = [f"a class called {i}" for i in range(n)], [3 * np.eye(n), np.ones((n, n))]
    figure = heads._draw_confusion(Request(runs[:2], tmp_path), counts, names)
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


def longer(run, epochs, mixing=None):
    """The run as if it had been that long, and mixed that way."""
    other = copy(run)
    other.options, other.method = copy(run.options), copy(run.method)
    other.options.epochs = epochs
    other.method.mixing = mixing or run.method.mixing
    return other


@torch.no_grad()
def slow_heads(run, request):
    """Every pair alone: modality said [R, T] and true, ratio said [R] and true."""
    said, true, ratio, share = [], [], [], []
    run.model.eval()
    for pair in held_out_pairs(run, request):
        hits = [t for t in range(T) if pair.draws[t] < run.method.mixing.p]
        first = hits[0] if hits else T
        frames = torch.stack([pair.static if t < first else pair.events[t] for t in range(T)])
        spikes = run.model.run_stream(frames.unsqueeze(0), "static").spikes
        said.append(run.method.mag(spikes)[:, 0].argmax(1).tolist())
        true.append([int(t < first) for t in range(T)])
        ratio.append(run.method.mrp(spikes).mean().item())
        share.append(first / T)
    return map(np.array, (said, true, ratio, share))


def test_heads_against_single_samples(runs, draw, tmp_path):
    run, request, near = runs[2], Request(runs, tmp_path, samples=45), {"abs": 1e-4}
    said, true, ratio, share = slow_heads(run, request)
    table = draw("mag", runs, samples=45)["mag"]
    assert list(table["run"]) == ["tmkt"] * T and list(table["t"]) == [1, 2, 3, 4]
    assert set(table["sequences"]) == {45}
    assert table["accuracy"].values == pytest.approx(100 * (said == true).mean(0), **near)
    more = np.maximum(true.mean(0), 1 - true.mean(0))
    assert table["majority"].values == pytest.approx(100 * more, **near)

    tables = draw("mrp", runs, samples=45)
    sequences, error = tables["mrp"], tables["mrp-error"]
    recordings = held_out_pairs(run, request).recordings
    assert list(sequences["recording"]) == [run.data.names[i] for i in recordings]
    assert sequences["true"].values == pytest.approx(share, **near)
    assert sequences["predicted"].values == pytest.approx(ratio, **near)
    assert error["mae"].item() == pytest.approx(np.abs(ratio - share).mean(), **near)
    constant = np.abs(np.median(share) - share).mean()
    assert error["mae_median"].item() == pytest.approx(constant, **near)


class Noting(Mixing):
    """All appearance; notes the progress."""

    def __init__(self):
        super().__init__(T)
        self.seen = []

    def event_frames(self, draws, progress):
        self.seen.append(progress.fraction)
        return self.constant(draws, 0)


def test_moving_schedules_are_taken_evenly_over_training(runs, tmp_path):
    mixing = Noting()
    run = longer(runs[2], 8, mixing)  # 16 steps
    table = heads.mag_of(run, Request([run], tmp_path, samples=32 * 4))
    assert mixing.seen == [2 / 16, 6 / 16, 10 / 16, 14 / 16]
    assert set(table["majority"]) == {100}


@pytest.mark.parametrize(
    ("name", "n", "message"),
    [
        ("mag", 2, "no MAG head: .*--no-mag .*seen: event-only, baseline"),
        ("mrp", 2, "no MRP head: .*--no-mrp .*seen: event-only, baseline"),
        ("t-star", 1, r"no mixed stream: .*tmkt or baseline \(seen: event-only\)"),
    ],
)
def test_runs_without_what_is_drawn(runs, tmp_path, name, n, message):
    with pytest.raises(UserError, match=message):
        FIGURES[name](Request(runs[:n], tmp_path))
    assert not list(tmp_path.iterdir())


def test_t_star_is_that_of_the_training_batches(runs, draw):
    table = draw("t-star", runs)["t-star"]
    assert list(table["run"].unique()) == ["baseline", "tmkt"]
    for run in runs[1:]:
        counts = np.zeros(T + 2, int)
        for epoch in range(3):
            run.pairs.set_epoch(epoch)
            for i, batch in enumerate(run.batches(epoch)):
                mixed = run.method.mixing(run.pairs[batch], Progress(epoch, 3, i, run.steps))
                np.add.at(counts, mixed.t_star.numpy(), 1)
        run.pairs.set_epoch(0)
        of_run = table[table["run"] == run.name]
        assert of_run["t_star"].tolist() == [1, 2, 3, 4, 5]
        assert of_run["count"].tolist() == counts[1:].tolist() and counts.sum() == 120
        assert of_run["share"].to_numpy() == pytest.approx(counts[1:] / 120)


def within_chance(count, share):
    """Binomial counts within 4.5 standard deviations."""
    n = count.sum()
    return np.all(np.abs(count - n * share) <= 4.5 * np.sqrt(n * share * (1 - share)) + 1e-9)


def test_t_star_follows_the_law(runs):
    walk = heads.t_star_of(longer(runs[2], 200))
    assert walk["law"].values == pytest.approx(geometric_pmf(runs[2].method.mixing.p, T))
    assert walk["count"].sum() == 8000 and within_chance(walk["count"], walk["law"])
    assert not within_chance(walk["count"], walk["law"].values[::-1])

    truncated = TimeStepMixup(T, 0.4, "truncated")
    table = heads.t_star_of(longer(runs[2], 200, truncated))
    assert table["law"].values == pytest.approx([*truncated_pmf(truncated.p, T), 0])
    assert within_chance(table["count"], table["law"]) and table["count"].iloc[-1] == 0

    sliding = heads.t_star_of(longer(runs[1], 200))
    assert sliding["law"].isna().all()
    replaced = np.mean([(step / 400) ** 3 for step in range(400)])
    assert within_chance(sliding["count"], np.array([replaced, 0, 0, 0, 1 - replaced]))


def test_long_trainings_are_thinned_by_epochs(runs, monkeypatch):
    monkeypatch.setattr(heads, "MOST_DRAWS", 1000)
    draws = heads.training_draws(longer(runs[2], 100))
    seen = [(progress.epoch, len(numbers)) for numbers, progress in draws]
    assert [epoch for epoch, _ in seen[::2]] == list(range(2, 100, 4))
    assert sum(n for _, n in seen) == 1000
    monkeypatch.setattr(heads, "MOST_DRAWS", 10)
    assert {progress.epoch for _, progress in heads.training_draws(longer(runs[2], 3))} == {1}
