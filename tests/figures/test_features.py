"""The pairs that the figures look at, what networks make of them, and numbers of alignment."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.base import Request
from tmkt_braincog.figures.features import (
    PairedTaps,
    collect,
    event_logits,
    held_out_pairs,
    paired_taps,
)
from tmkt_braincog.figures.tsne import alignment, embed


def test_pairs_are_test_recordings_with_different_images_of_their_class(runs, tmp_path):
    request, run, data = Request(runs, tmp_path, samples=60), runs[0], runs[0].data
    pairs = held_out_pairs(run, request)
    images = pairs.twins[pairs.recordings]
    assert len(pairs) == len(set(pairs.recordings)) == len(set(images)) == 60
    assert np.isin(pairs.recordings, run.split.test).all()
    assert np.isin(images, run.split.static).all()
    assert torch.equal(data.image_labels[images], data.labels[pairs.recordings])
    assert not np.isin(data.twins[pairs.recordings], images).any()  # the runs' protocol is clean
    assert torch.equal(pairs[0].events, resize_frames(data.frames[pairs.recordings[0]], 28))
    for other in runs[1:]:
        again = held_out_pairs(other, request)
        assert np.array_equal(again.recordings, pairs.recordings)
        assert np.array_equal(again.twins, pairs.twins)
    other = held_out_pairs(run, replace(request, seed=1))
    assert not np.array_equal(other.recordings, pairs.recordings)
    every = held_out_pairs(run, replace(request, samples=10**6))
    assert sorted(every.recordings) == list(run.split.test)


def test_images_repeat_evenly_where_a_class_has_few(runs, tmp_path):
    run = runs[0]
    static = np.concatenate([pool[:2] for pool in run.split.pools])
    split = SimpleNamespace(test=run.split.test, static=static)
    few = SimpleNamespace(data=run.data, options=run.options, split=split, method=run.method)
    pairs = held_out_pairs(few, Request(runs, tmp_path, samples=50))
    images = pairs.twins[pairs.recordings]
    labels, (_, counts) = run.data.labels[pairs.recordings], np.unique(images, return_counts=True)
    of_class = labels.bincount(minlength=10).tolist()
    assert sorted(counts) == sorted(n for c in of_class for n in (c // 2, c - c // 2) if n)
    assert torch.equal(run.data.image_labels[images], labels)


def test_logits_and_taps_are_those_of_every_pair_alone(runs, tmp_path, monkeypatch):
    run, request = runs[2], Request(runs, tmp_path, samples=37)  # more than one batch
    pairs = held_out_pairs(run, request)
    logits, labels = event_logits(run, request)
    taps = paired_taps(run, request)
    assert logits.shape == (37, 4, 10) and taps.event.shape == taps.static.shape == (37, 4, 300)
    assert np.array_equal(taps.recordings, pairs.recordings)
    run.model.eval()
    with torch.no_grad():
        for i, pair in enumerate(pairs):
            event = run.model.run_stream(pair.events[None], "event")
            static = run.model.run_stream(torch.stack([pair.static] * 4)[None], "static")
            for ours, slow in (
                (logits, event.logits),
                (taps.event, event.tap),
                (taps.static, static.tap),
            ):
                torch.testing.assert_close(ours[i], slow[:, 0], rtol=1e-4, atol=1e-5)
            assert labels[i] == taps.label[i] == pair.label
    run.model.train()
    assert taps.event.ne(taps.static).any()
    monkeypatch.setattr(run.model, "executor", "step")
    stepped = paired_taps(run, request)
    torch.testing.assert_close(stepped.event, taps.event, rtol=1e-4, atol=1e-5)
    # a model that was looked at step by step can be trained on
    run.model(pairs[range(8)].events).event.logits.sum().backward()
    assert run.model.fc2.weight.grad.abs().sum() > 0
    run.model.zero_grad()


def test_modes_are_restored_also_after_an_error(runs, tmp_path):
    run, seen = runs[2], []

    def look(batch):
        seen.append((run.model.training, run.method.training, torch.is_inference_mode_enabled()))
        raise KeyError

    run.model.train()
    run.method.eval()
    with pytest.raises(KeyError):
        collect(run, held_out_pairs(run, Request(runs, tmp_path, samples=3)), look)
    assert seen == [(False, False, True)]
    assert run.model.training and run.model.node1.training and not run.method.training
    run.method.train()


def taps_of(event, static, label, images=None):
    """Taps of two time-steps whose mean is what is given."""
    both = [torch.as_tensor(x, dtype=torch.float32) for x in (event, static)]
    every = np.arange(len(label))
    images = every if images is None else images
    over_time = (torch.stack([x - 1, x + 1], dim=1) for x in both)
    return PairedTaps(*over_time, torch.as_tensor(label), every, images)


def test_alignment_numbers():
    rng, label = np.random.default_rng(0), np.repeat([0, 1, 2], 20)
    centres = 10 * rng.normal(size=(3, 5))
    event, static = (centres[label] + rng.normal(size=(60, 5)) for _ in range(2))
    aligned = alignment(taps_of(event, static, label), seed=0)
    assert aligned["nearest_static"] == 100 and aligned["modality_accuracy"] < 65
    apart = alignment(taps_of(event, static + 100, label), seed=0)
    assert apart["modality_accuracy"] == 100
    # the nearest image is one of the wrong class where the classes of the images are exchanged
    exchanged = alignment(taps_of(event, centres[2 - label], label), seed=0)
    assert exchanged["nearest_static"] == pytest.approx(100 / 3)


def test_copies_of_an_image_do_not_tell_the_modality():
    rng, images = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    event, static = rng.normal(size=(60, 40)), rng.normal(size=(6, 40))[images]
    taps = [taps_of(event, static, np.arange(60) % 3, ids) for ids in (images, np.arange(60))]
    told = [alignment(one, seed=0)["modality_accuracy"] for one in taps]
    assert told[0] < 75 < 90 < told[1]


def test_embedding_keeps_groups_apart_and_bears_silent_networks():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(30, 8)), 50 + rng.normal(size=(30, 8))].astype(np.float32)
    first, second = np.split(embed(x, 0), 2)
    gap = np.linalg.norm(first.mean(0) - second.mean(0))
    assert gap > 2 * max(first.std(), second.std())
    assert np.isfinite(embed(np.zeros((12, 8), np.float32), 0)).all()


def test_tsne_figure(runs, draw, tmp_path):
    tables, request = draw("tsne", runs, samples=40), Request(runs, tmp_path, samples=40)
    points, numbers = tables["tsne"].astype({"class": int}), tables["tsne-numbers"]
    assert list(numbers["run"]) == [run.name for run in runs]
    for run, (_, row) in zip(runs, numbers.iterrows(), strict=True):
        expected = alignment(paired_taps(run, request), seed=0)
        assert row[list(expected)].to_dict() == pytest.approx(expected, rel=1e-5)
        of_run = points[points["run"] == run.name]
        event, static = (of_run[of_run["modality"] == m] for m in ("event", "static"))
        classes = run.data.labels[event["index"].tolist()].tolist()
        assert classes == list(event["class"]) == list(static["class"]) and len(classes) == 40
        assert classes == run.data.image_labels[static["index"].tolist()].tolist()
        assert [run.data.classes[c] for c in classes] == event["class_name"].astype(str).tolist()
        assert np.isfinite(of_run[["x", "y"]]).all(axis=None) and of_run[["x", "y"]].std().min() > 0


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("tmkt", 1, "a"), ("baseline", 1, "a")], ["tmkt", "baseline"]),
        ([("tmkt", 1, "a"), ("tmkt", 2, "a")], ["tmkt, seed 1", "tmkt, seed 2"]),
        ([("tmkt", 1, "a"), ("tmkt", 1, "b")], ["a", "b"]),
    ],
)
def test_names_that_tell_runs_apart(tmp_path, runs, expected):
    folders = [tmp_path / out / "runs" / f"{name}-seed{seed}" for name, seed, out in runs]
    opened = [
        SimpleNamespace(name=name, seed=seed, folder=folder)
        for (name, seed, _), folder in zip(runs, folders, strict=True)
    ]
    assert Request(opened, tmp_path).names == expected


def test_runs_without_a_common_test_recording_are_refused():
    runs = [SimpleNamespace(split=SimpleNamespace(test=np.array(test))) for test in ([1, 2], [3])]
    with pytest.raises(UserError, match="share no test recording"):
        Request(runs, None).common_test()
    runs[1].split.test = np.array([0, 2])
    assert Request(runs, None).common_test().tolist() == [2]
