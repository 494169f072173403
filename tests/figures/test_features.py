"""The pairs that the figures look at, and what networks make of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.base import Request
from tmkt_braincog.figures.features import event_logits, held_out_pairs, paired_taps


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


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("tmkt", 1, "a"), ("baseline", 1, "a")], ["tmkt", "baseline"]),
        ([("tmkt", 1, "a"), ("tmkt", 2, "a")], ["tmkt, seed 1", "tmkt, seed 2"]),
        ([("tmkt", 1, "a"), ("tmkt", 1, "b")], ["a", "b"]),
    ],
)
def test_names_that_tell_runs_apart(tmp_path, runs, expected):
    opened = [
        SimpleNamespace(name=name, seed=seed, folder=tmp_path / output / "runs" / name)
        for name, seed, output in runs
    ]
    assert Request(opened, tmp_path).names == expected


def test_runs_without_a_common_test_recording_are_refused():
    runs = [SimpleNamespace(split=SimpleNamespace(test=np.array(test))) for test in ([1, 2], [3])]
    with pytest.raises(UserError, match="share no test recording"):
        Request(runs, None).common_test()
    runs[1].split.test = np.array([0, 2])
    assert Request(runs, None).common_test().tolist() == [2]
