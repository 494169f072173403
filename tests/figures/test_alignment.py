"""How far streams are aligned: CKA step by step, coefficients as logged, made-up features."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.alignment import alignment, embed
from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.figures.features import PairedTaps, paired_taps
from tmkt_braincog.losses import linear_cka
from tmkt_braincog.runs import reopen


def test_cka_per_step_before_and_after(folders, runs, draw, tmp_path):
    table = draw("cka", runs, samples=40)["cka"].set_index(["run", "training", "t"])
    assert len(table) == 3 * 2 * 4
    for when, opened in (("before", reopen(folders, checkpoint=None)), ("after", runs)):
        for run in opened:
            taps = paired_taps(run, Request(runs, tmp_path, samples=40))
            for t in range(4):
                x, y = taps.event[:, t].double(), taps.static[:, t].double()
                row = table.loc[(run.name, when, t + 1)]
                assert row["cka"] == pytest.approx(linear_cka(x, y).item(), abs=1e-4)
                debiased = linear_cka(x, y, debiased=True).item()
                assert row["cka_debiased"] == pytest.approx(debiased, abs=1e-4)
    before, after = (table.xs(when, level="training")["cka"] for when in ("before", "after"))
    # the methods start from the same weights and end at others
    assert np.ptp(before.unstack("t").values, axis=0) == pytest.approx(0, abs=1e-6)
    assert np.ptp(after.unstack("t").values, axis=0).max() > 0.01


@pytest.mark.parametrize(("name", "least"), [("cka", 4), ("tsne", 5)])
def test_too_few(runs, tmp_path, name, least):
    with pytest.raises(UserError, match=f"3 test recordings .* --samples of at least {least}"):
        FIGURES[name](Request(runs, tmp_path, samples=3))
    assert not list(tmp_path.iterdir())


def test_theta_is_what_was_logged(runs, draw, tmp_path):
    table = draw("theta", runs)["theta"]
    assert sorted(table["run"].unique()) == ["baseline", "tmkt"]
    for run in runs[1:]:
        log = pd.read_csv(run.folder / "log.csv")[[f"sigma_{t}" for t in range(1, 5)]]
        wide = table[table["run"] == run.name].pivot(index="epoch", columns="t", values="sigma")
        assert list(wide.index) == [0, 1, 2] and list(wide.columns) == [1, 2, 3, 4]
        assert wide.values == pytest.approx(log.values, abs=1e-6)
    fact = json.loads((tmp_path / "theta" / "theta.json").read_text())
    assert "(none: event-only)" in fact["caption"]
    with pytest.raises(UserError, match=r"No run logged coefficients .*seen: event-only"):
        FIGURES["theta"](Request(runs[:1], tmp_path))


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
    aligned = alignment(taps_of(event, static, label))
    assert aligned["nearest_static"] == 100 and aligned["modality_accuracy"] < 65
    apart = alignment(taps_of(event, static + 100, label))
    assert apart["modality_accuracy"] == 100
    # the nearest image is one of the wrong class where the classes of the images are exchanged
    exchanged = alignment(taps_of(event, centres[2 - label], label))
    assert exchanged["nearest_static"] == pytest.approx(100 / 3)


def test_copies_of_an_image_do_not_tell_the_modality():
    rng, images = np.random.default_rng(0), np.repeat(np.arange(6), 10)
    event, static = rng.normal(size=(60, 40)), rng.normal(size=(6, 40))[images]
    taps = [taps_of(event, static, np.arange(60) % 3, ids) for ids in (images, np.arange(60))]
    told = [alignment(one)["modality_accuracy"] for one in taps]
    assert told[0] < 75 < 90 < told[1]


def test_embedding_keeps_groups_apart_and_bears_silent_networks():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(30, 8)), 50 + rng.normal(size=(30, 8))].astype(np.float32)
    first, second = np.split(embed(x), 2)
    gap = np.linalg.norm(first.mean(0) - second.mean(0))
    assert gap > 2 * max(first.std(), second.std())
    assert np.isfinite(embed(np.zeros((12, 8), np.float32))).all()


def test_tsne_figure(runs, draw, tmp_path):
    tables, request = draw("tsne", runs, samples=40), Request(runs, tmp_path, samples=40)
    points, numbers = tables["tsne"].astype({"class": int}), tables["tsne-numbers"]
    assert list(numbers["run"]) == [run.name for run in runs]
    for run, (_, row) in zip(runs, numbers.iterrows(), strict=True):
        expected = alignment(paired_taps(run, request))
        assert row[list(expected)].to_dict() == pytest.approx(expected, rel=1e-5)
        of_run = points[points["run"] == run.name]
        event, static = (of_run[of_run["modality"] == m] for m in ("event", "static"))
        classes = run.data.labels[event["index"].tolist()].tolist()
        assert classes == list(event["class"]) == list(static["class"]) and len(classes) == 40
        assert classes == run.data.image_labels[static["index"].tolist()].tolist()
        assert [run.data.classes[c] for c in classes] == event["class_name"].astype(str).tolist()
        assert np.isfinite(of_run[["x", "y"]]).all(axis=None) and of_run[["x", "y"]].std().min() > 0
