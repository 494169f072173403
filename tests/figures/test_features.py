"""The pairs that the figures look at, what networks make of them, and numbers of alignment."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.figures.features import (
    PairedTaps,
    collect,
    event_logits,
    held_out_pairs,
    paired_taps,
)
from tmkt_braincog.figures.tsne import alignment, embed
from tmkt_braincog.registry import caption

METHODS = ("event-only", "baseline", "tmkt")


def assert_written(paths, folder, names):
    """Exactly these files in the folder, and the facts for the report; pictures decode and hold
    ink."""
    facts = [json.loads(path.read_text()) for path in paths if path.suffix == ".json"]
    assert {p.name for p in paths} == {p.name for p in folder.iterdir()}
    assert {p.name for p in paths if p.suffix != ".json"} == set(names)
    assert sorted(p for fact in facts for p in fact["pictures"]) == sorted(
        name for name in names if name.endswith(".png")
    )
    for fact in facts:
        assert fact["kind"] == "figure" and fact["emulated"] and fact["name"] in FIGURES
        assert fact["title"] == "ndigits, Transfer_SCNN, T\u00a0=\u00a04"
        assert fact["caption"].startswith(caption(fact["name"]))
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("L"))
            assert min(pixels.shape) > 400 and 0.3 < (pixels == 255).mean() < 0.99
        elif path.suffix == ".pdf":
            content = path.read_bytes()
            assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")
            assert b"/Type3" not in content


def one_by_one(run, pairs):
    """Slow reference: every pair alone, step by step, in evaluation mode."""
    run.model.eval()
    with torch.no_grad():
        for pair in pairs:
            still = torch.stack([pair.static] * run.options.step)
            static = run.model.run_stream(still.unsqueeze(0), "static")
            yield run.model.run_stream(pair.events.unsqueeze(0), "event"), static, pair.label
    run.model.train()


def test_pairs_are_test_recordings_with_different_images_of_their_class(runs, tmp_path):
    request = Request(runs, tmp_path, samples=60)
    pairs = held_out_pairs(runs[0], request)
    run, data = runs[0], runs[0].data
    images = pairs.twins[pairs.recordings]
    assert len(pairs) == len(set(pairs.recordings)) == len(set(images)) == 60
    assert np.isin(pairs.recordings, run.split.test).all()
    assert np.isin(images, run.split.static).all()
    assert torch.equal(data.image_labels[images], data.labels[pairs.recordings])
    assert not np.isin(data.twins[pairs.recordings], images).any()  # the runs' protocol is clean
    first = pairs[0]
    assert torch.equal(first.events, resize_frames(data.frames[pairs.recordings[0]], 28))
    for other in runs[1:]:
        again = held_out_pairs(other, request)
        assert np.array_equal(again.recordings, pairs.recordings) and np.array_equal(
            again.twins, pairs.twins
        )
    assert not np.array_equal(
        held_out_pairs(run, Request(runs, tmp_path, 60, seed=1)).recordings, pairs.recordings
    )
    every = held_out_pairs(run, Request(runs, tmp_path, samples=10**6))
    assert sorted(every.recordings) == list(run.split.test)


def test_images_repeat_evenly_where_a_pool_is_small(runs, tmp_path):
    run = runs[0]
    few = SimpleNamespace(
        data=run.data,
        options=run.options,
        split=SimpleNamespace(
            test=run.split.test, static=np.concatenate([pool[:2] for pool in run.split.pools])
        ),
    )
    pairs = held_out_pairs(few, Request(runs, tmp_path, samples=50))
    _, counts = np.unique(pairs.twins[pairs.recordings], return_counts=True)
    labels = run.data.labels[pairs.recordings].bincount(minlength=10)
    assert sorted(counts) == sorted(n for c in labels.tolist() for n in (c // 2, c - c // 2) if n)
    few.split.static = run.split.static[run.data.image_labels[run.split.static] != 7]
    with pytest.raises(UserError, match=r"Classes \[7\] have event recordings but no static image"):
        held_out_pairs(few, Request(runs, tmp_path, samples=50))


def test_partners_are_of_the_class_also_where_the_pools_are_not(runs, tmp_path):
    run = runs[0]
    pools = [*run.split.pools[1:], run.split.pools[0]]
    mixed_up = SimpleNamespace(
        data=run.data, options=run.options, split=replace(run.split, pools=pools)
    )
    pairs = held_out_pairs(mixed_up, Request(runs, tmp_path, samples=50))
    images = pairs.twins[pairs.recordings]
    assert torch.equal(run.data.image_labels[images], run.data.labels[pairs.recordings])


def test_logits_and_taps_are_those_of_every_pair_alone(runs, tmp_path):
    run, request = runs[2], Request(runs, tmp_path, samples=37)  # more than one batch
    pairs = held_out_pairs(run, request)
    logits, labels = event_logits(run, request)
    taps = paired_taps(run, request)
    assert logits.shape == (37, 4, 10) and taps.event.shape == taps.static.shape == (37, 4, 300)
    assert np.array_equal(taps.recordings, pairs.recordings)
    for i, (event, static, label) in enumerate(one_by_one(run, pairs)):
        torch.testing.assert_close(logits[i], event.logits[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(taps.event[i], event.tap[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(taps.static[i], static.tap[:, 0], rtol=1e-4, atol=1e-5)
        assert labels[i] == taps.label[i] == label
    assert taps.event.ne(taps.static).any()


def test_modes_are_restored_also_after_an_error(runs, tmp_path):
    run, seen = runs[2], []
    pairs = held_out_pairs(run, Request(runs, tmp_path, samples=3))

    def look(batch):
        seen.append((run.model.training, run.method.training, torch.is_inference_mode_enabled()))
        raise KeyError

    run.model.train()
    run.method.eval()
    with pytest.raises(KeyError):
        collect(run, pairs, look)
    assert seen == [(False, False, True)]
    assert run.model.training and run.model.node1.training and not run.method.training
    run.method.train()


def test_a_model_that_was_looked_at_step_by_step_can_be_trained_on(runs, tmp_path, monkeypatch):
    run, request = runs[1], Request(runs, tmp_path, samples=8)
    fused = paired_taps(run, request)
    monkeypatch.setattr(run.model, "executor", "step")
    stepped = paired_taps(run, request)
    torch.testing.assert_close(stepped.event, fused.event, rtol=1e-4, atol=1e-5)
    run.model(held_out_pairs(run, request)[range(8)].events).event.logits.sum().backward()
    assert run.model.fc2.weight.grad.abs().sum() > 0
    run.model.zero_grad()


def taps_of(event, static, label, images=None):
    """Taps of two time-steps whose mean is what is given."""

    def over_time(x):
        x = torch.as_tensor(x, dtype=torch.float32)
        return torch.stack([x - 1, x + 1], dim=1)

    n = len(label)
    return PairedTaps(
        over_time(event),
        over_time(static),
        torch.as_tensor(label),
        np.arange(n),
        np.arange(n) if images is None else images,
    )


def slow_silhouette(x, labels):
    """Rousseeuw (1987): (b - a) / max(a, b), point by point."""
    values = []
    for i in range(len(x)):
        distance = {
            c: np.mean(
                [np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if labels[j] == c and j != i]
            )
            for c in set(labels)
        }
        a = distance.pop(labels[i])
        b = min(distance.values())
        values.append((b - a) / max(a, b))
    return np.mean(values)


def test_alignment_numbers():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], 20)
    centres = 10 * rng.normal(size=(3, 5))
    event, static = (centres[label] + rng.normal(size=(60, 5)) for _ in range(2))
    aligned = alignment(taps_of(event, static, label), seed=0)
    assert aligned["nearest_static"] == 100
    assert aligned["modality_accuracy"] < 65
    both, classes, modality = np.r_[event, static], list(np.tile(label, 2)), [0] * 60 + [1] * 60
    assert aligned["silhouette_class"] == pytest.approx(slow_silhouette(both, classes), abs=1e-5)
    assert aligned["silhouette_modality"] == pytest.approx(
        slow_silhouette(both, modality), abs=1e-5
    )
    apart = alignment(taps_of(event, static + 100, label), seed=0)
    assert apart["modality_accuracy"] == 100
    assert apart["silhouette_modality"] > 0.5 > 0.1 > apart["silhouette_class"]
    # the nearest image is one of the wrong class where the classes of the images are exchanged
    assert alignment(taps_of(event, centres[2 - label], label), seed=0)[
        "nearest_static"
    ] == pytest.approx(100 / 3)


def test_copies_of_an_image_do_not_tell_the_modality():
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(6), 10)
    event, static = rng.normal(size=(60, 40)), rng.normal(size=(6, 40))[images]
    told = [
        alignment(taps_of(event, static, np.arange(60) % 3, ids), seed=0)["modality_accuracy"]
        for ids in (images, np.arange(60))
    ]
    assert told[0] < 75 < 90 < told[1]


def test_embedding_keeps_groups_apart_and_bears_silent_networks():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(30, 8)), 50 + rng.normal(size=(30, 8))].astype(np.float32)
    first, second = embed(x, 0)[:30], embed(x, 0)[30:]
    gap = np.linalg.norm(first.mean(0) - second.mean(0))
    assert gap > 2 * max(first.std(), second.std())
    assert np.isfinite(embed(np.zeros((12, 8), np.float32), 0)).all()


def test_tsne_figure(runs, tmp_path):
    request = Request(runs, tmp_path, samples=40)
    paths = FIGURES["tsne"](request)
    assert_written(paths, tmp_path, ["tsne.png", "tsne.pdf", "tsne.csv", "tsne-numbers.csv"])
    points, numbers = pd.read_csv(tmp_path / "tsne.csv"), pd.read_csv(tmp_path / "tsne-numbers.csv")
    assert list(numbers["run"]) == list(METHODS)
    for run, (_, row) in zip(runs, numbers.iterrows(), strict=True):
        expected = alignment(paired_taps(run, request), seed=0)
        assert row[list(expected)].to_dict() == pytest.approx(expected, rel=1e-5)
        of_run = points[points["run"] == run.name]
        assert list(of_run["modality"]) == ["event"] * 40 + ["static"] * 40
        event, static = of_run.iloc[:40], of_run.iloc[40:]
        assert (
            list(event["class"])
            == list(static["class"])
            == run.data.labels[event["index"].tolist()].tolist()
        )
        assert list(static["class"]) == run.data.image_labels[static["index"].tolist()].tolist()
        assert (
            of_run["class_name"].astype(str) == [run.data.classes[c] for c in of_run["class"]]
        ).all()
        assert np.isfinite(of_run[["x", "y"]]).all(axis=None) and of_run[["x", "y"]].std().min() > 0


def test_tsne_of_a_handful_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match=r"t-SNE of 4 test recordings .* --samples of at least 5"):
        FIGURES["tsne"](Request(runs, tmp_path, samples=4))
    assert not list(tmp_path.iterdir())


def test_names_that_tell_runs_apart(tmp_path):
    def names(*runs):
        folders = [tmp_path / out / "runs" / f"{name}-seed{seed}" for name, seed, out in runs]
        opened = [
            SimpleNamespace(name=name, seed=seed, folder=folder)
            for (name, seed, _), folder in zip(runs, folders, strict=True)
        ]
        return Request(opened, tmp_path).names

    assert names(("tmkt", 1, "a"), ("baseline", 1, "a")) == ["tmkt", "baseline"]
    assert names(("tmkt", 1, "a"), ("tmkt", 2, "a")) == ["tmkt, seed 1", "tmkt, seed 2"]
    assert names(("tmkt", 1, "a"), ("tmkt", 1, "b")) == ["a", "b"]
    many = names(("tmkt", 1, "a"), ("tmkt", 1, "b"), ("tmkt", 2, "b"))
    assert many == ["a, seed 1", "b, seed 1", "b, seed 2"]
    odd = names(("tmkt", 1, "a"), ("baseline", 1, "a"), ("tmkt", 1, "b"))
    assert odd[1].endswith("baseline-seed1")
