"""The loss landscape: directions as in Li et al. (2018), surfaces known in closed form, weights
left alone."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import LogNorm
from PIL import Image
from timm.models import create_model
from torch import nn
from tqdm import tqdm

from tmkt_braincog.engine.evaluate import Metrics
from tmkt_braincog.figures import landscape
from tmkt_braincog.figures.base import FIGURES, Request


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(landscape, "GRID", 5)
    monkeypatch.setattr(landscape, "DIRECTIONS", 3)


def generator(seed=7):
    return torch.Generator().manual_seed(seed)


def test_every_filter_of_a_direction_has_the_norm_of_the_models_filter():
    model = create_model("Transfer_VGG_SNN", num_classes=3, step=2, event_size=16, width_divisor=16)
    direction = landscape.random_direction(model, generator())
    assert "feature.0.conv.weight" in direction and "dvs_fc.1.weight" in direction
    noise = generator()
    for name, weight in model.named_parameters():
        if weight.ndim < 2:  # biases, BatchNorm, thresholds
            assert name not in direction
            continue
        drawn = torch.randn(weight.shape, generator=noise)
        for i in range(len(weight)):
            norms = [
                sum(v**2 for v in w[i].flatten().tolist()) ** 0.5 for w in (weight.detach(), drawn)
            ]
            torch.testing.assert_close(
                direction[name][i], drawn[i] * (norms[0] / norms[1]), rtol=1e-5, atol=0
            )


def test_a_filter_of_zeros_stays():
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0] = 0
    direction = landscape.random_direction(model, generator())["weight"]
    assert (direction[0] == 0).all() and (direction[1] != 0).all()


def quadratic(model):
    return ((model.weight - 1) ** 2).sum().item()


def test_the_surface_of_a_quadratic_is_the_one_in_closed_form():
    model = nn.Linear(4, 3).double()
    first, second = (landscape.random_direction(model, generator(s)) for s in (1, 2))
    values = [(-1.0, 0.5), (0.0, 0.0), (0.3, 2.0), (0.0, -1.0)]
    found = list(landscape.along(model, ([(a, first), (b, second)] for a, b in values), quadratic))
    d1, d2, offset = first["weight"], second["weight"], model.weight.detach() - 1
    for (a, b), value in zip(values, found, strict=True):
        squares = (offset**2).sum() + a**2 * (d1**2).sum() + b**2 * (d2**2).sum()
        mixed = 2 * (a * (offset * d1).sum() + b * (offset * d2).sum() + a * b * (d1 * d2).sum())
        assert value == pytest.approx((squares + mixed).item(), rel=1e-12)


def test_weights_stay_bit_for_bit_also_when_the_measurement_fails():
    model = create_model("Transfer_SCNN", num_classes=3, step=2, event_size=16)
    before = copy.deepcopy(model.state_dict())
    direction = landscape.random_direction(model, generator())
    seen = []

    def fail(moved):
        seen.append(moved.fc2.weight.clone())
        if len(seen) == 2:
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        list(landscape.along(model, [[(1.0, direction)], [(2.0, direction)]], fail))
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], before["fc2.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_curvature_of_a_quadratic_is_the_trace_of_its_hessian():
    alpha, beta = np.meshgrid(landscape.axis(), landscape.axis(), indexing="ij")
    bowl = 0.7 + 3 * alpha**2 / 2 + 5 * beta**2 / 2 + 2 * alpha * beta - alpha + 4 * beta
    assert landscape.curvature(bowl) == pytest.approx(8)
    far = np.maximum(abs(alpha), abs(beta)) > landscape.RADIUS + 0.01
    assert landscape.curvature(np.where(far, 100, bowl)) == pytest.approx(8)


def test_the_summary_holds_mean_and_deviation_of_the_rise():
    flat = np.zeros((landscape.GRID,) * 2)
    rises = np.array([1.0, 2.0, 6.0])
    found = landscape.Landscape(flat, flat, rises, Metrics(90, 100, 0.5)).summary()
    assert found["rise"] == 3 and found["rise_std"] == pytest.approx(7**0.5)
    assert (found["loss"], found["top1"]) == (0.5, 90) and found["curvature"] == pytest.approx(0)


def test_the_middle_of_the_grid_is_the_evaluation_of_the_run(runs, small_grid):
    run, recordings = runs[1], runs[1].split.test[:40]
    before = copy.deepcopy(run.model.state_dict())
    with tqdm(disable=True) as bar:
        land = landscape.look_around(run, recordings, 3, bar)
    expected = run.evaluate_on(recordings)
    assert land.loss[2, 2] == land.centre.loss == pytest.approx(expected.loss, rel=1e-6)
    assert land.top1[2, 2] == land.centre.top1 == expected.top1
    assert len(np.unique(land.loss)) > 20
    assert run.model.training
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_a_point_of_the_grid_is_the_evaluation_of_moved_weights(runs, small_grid):
    run, recordings = runs[0], runs[0].split.test[:40]
    with tqdm(disable=True) as bar:
        land = landscape.look_around(run, recordings, 3, bar)
    noise = generator(3)
    first, second, third = (landscape.random_direction(run.model, noise) for _ in range(3))
    own = copy.deepcopy(run.model.state_dict())
    for expected, move in (
        (land.loss[0, 3], {n: -first[n] + 0.5 * second[n] for n in first}),
        (land.rises[0] + land.centre.loss, {n: 0.5 * third[n] for n in third}),
    ):
        run.model.load_state_dict({n: v + move.get(n, 0) for n, v in own.items()})
        assert run.evaluate_on(recordings).loss == pytest.approx(expected, rel=1e-5)
    run.model.load_state_dict(own)


def test_all_runs_move_in_the_same_directions(runs):
    first, second = (landscape.random_direction(run.model, generator()) for run in runs[1:])
    for name, direction in first.items():
        a, b = direction.flatten(1), second[name].flatten(1)
        torch.testing.assert_close(a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True))


def test_a_log_scale_where_losses_span_much():
    def land(*losses):
        return landscape.Landscape(np.array([losses]), None, None, None)

    even = landscape._norm([land(1.0, 5.0), land(2.0, 19.0)])
    assert not isinstance(even, LogNorm) and (even.vmin, even.vmax) == (1, 19)
    assert isinstance(landscape._norm([land(1.0), land(20.0)]), LogNorm)
    assert not isinstance(landscape._norm([land(0.0), land(20.0)]), LogNorm)


@pytest.mark.parametrize("log_from", [20.0, 1.0])
def test_figure(runs, tmp_path, small_grid, monkeypatch, log_from, capsys):
    monkeypatch.setattr(landscape, "LOG_FROM", log_from)
    runs = runs[1:]
    written = FIGURES["landscape"](Request(runs, tmp_path / "new", samples=20))
    names = [
        "landscape.csv",
        "landscape.json",
        "landscape.pdf",
        "landscape.png",
        "landscape_summary.csv",
    ]
    assert (
        sorted(p.name for p in written)
        == sorted(p.name for p in (tmp_path / "new").iterdir())
        == names
    )
    assert "landscape" in capsys.readouterr().err
    with Image.open(tmp_path / "new" / "landscape.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 60).mean() > 0.1
    points = pd.read_csv(tmp_path / "new" / "landscape.csv")
    table = pd.read_csv(tmp_path / "new" / "landscape_summary.csv", index_col="run")
    assert table["recordings"].tolist() == [20, 20] and list(table.index) == ["baseline", "tmkt"]
    for name, of_run in points.groupby("run"):
        assert len(of_run) == 25
        middle = of_run[(of_run["alpha"] == 0) & (of_run["beta"] == 0)].iloc[0]
        assert (middle["loss"], middle["top1"]) == (table["loss"][name], table["top1"][name])
        loss = of_run.pivot(index="alpha", columns="beta", values="loss").to_numpy()
        assert table["curvature"][name] == pytest.approx(landscape.curvature(loss))
