"""The loss landscape: directions as in Li et al. (2018), surfaces known in closed form, weights
left alone."""

import copy

import numpy as np
import pytest
import torch
from timm.models import create_model
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tmkt_braincog.figures import landscape


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(landscape, "GRID", 5)
    monkeypatch.setattr(landscape, "DIRECTIONS", 3)


def generator(seed=7):
    return torch.Generator().manual_seed(seed)


def test_every_filter_of_a_direction_has_the_norm_of_the_models_filter():
    model = create_model("Transfer_VGG_SNN", num_classes=3, step=2, event_size=16, width_divisor=16)
    with torch.no_grad():
        model.feature[0].conv.weight[0] = 0
    noise, sizes = generator(), [p.numel() for p in model.parameters()]
    direction = landscape.random_direction(model, generator()).split(sizes)
    for weight, of_weight in zip(model.parameters(), direction, strict=True):
        if weight.ndim < 2:  # biases, BatchNorm, thresholds
            assert not of_weight.any()
            continue
        drawn = torch.randn(weight.shape, generator=noise)
        for own, random, moved in zip(
            weight.detach(), drawn, of_weight.view_as(weight), strict=True
        ):
            a, b = (sum(v**2 for v in w.flatten().tolist()) ** 0.5 for w in (own, random))
            torch.testing.assert_close(moved, random * (a / b), rtol=1e-5, atol=0)


def test_points_are_evaluations_of_moved_weights(runs, small_grid):
    run, recordings = runs[1], runs[1].split.test[:40]
    own = copy.deepcopy(run.model.state_dict())
    points, summary = landscape.look_around(run, recordings)
    assert all(torch.equal(value, own[name]) for name, value in run.model.state_dict().items())
    loss = points.pivot(index="alpha", columns="beta", values="loss").to_numpy()
    assert len(np.unique(loss)) > 20
    metrics = run.predict(recordings).metrics()
    assert loss[2, 2] == summary["loss"] == pytest.approx(metrics.loss, rel=1e-6)
    assert summary["top1"] == metrics.top1 and summary["recordings"] == 40
    noise = generator(0)
    first, second, *others = (landscape.random_direction(run.model, noise) for _ in range(5))
    weights, seen = parameters_to_vector(run.model.parameters()).detach().clone(), []
    for move in (-first + 0.5 * second, *(0.5 * other for other in others)):
        vector_to_parameters(weights + move, run.model.parameters())
        seen.append(run.predict(recordings).metrics().loss)
    run.model.load_state_dict(own)
    assert loss[0, 3] == pytest.approx(seen[0], rel=1e-5)
    rises = np.array(seen[1:]) - metrics.loss
    assert summary["rise"] == pytest.approx(rises.mean(), rel=1e-4)
    assert summary["rise_std"] == pytest.approx(rises.std(ddof=1), rel=1e-4)


def test_figure(runs, draw, small_grid, capsys):
    points, table = draw("landscape", runs[1:], samples=20).values()
    assert "landscape" in capsys.readouterr().err
    table = table.set_index("run")
    assert table["recordings"].tolist() == [20, 20] and list(table.index) == ["baseline", "tmkt"]
    steps = [-1, -0.5, 0, 0.5, 1]
    for name, of_run in points.groupby("run"):
        assert of_run[["alpha", "beta"]].to_numpy().tolist() == [
            [a, b] for a in steps for b in steps
        ]
        middle = of_run[(of_run["alpha"] == 0) & (of_run["beta"] == 0)].iloc[0]
        assert (middle["loss"], middle["top1"]) == (table["loss"][name], table["top1"][name])
