"""The loss landscape: directions as in Li et al. (2018), surfaces known in closed form, weights
left alone."""

import copy

import numpy as np
import pytest
import torch
from timm.models import create_model
from tqdm import tqdm

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
    direction, noise = landscape.random_direction(model, generator()), generator()
    assert "feature.0.conv.weight" in direction and "dvs_fc.1.weight" in direction
    for name, weight in model.named_parameters():
        if weight.ndim < 2:  # biases, BatchNorm, thresholds
            assert name not in direction
            continue
        drawn = torch.randn(weight.shape, generator=noise)
        for own, random, moved in zip(weight.detach(), drawn, direction[name], strict=True):
            a, b = (sum(v**2 for v in w.flatten().tolist()) ** 0.5 for w in (own, random))
            torch.testing.assert_close(moved, random * (a / b), rtol=1e-5, atol=0)


def test_points_are_evaluations_of_moved_weights(runs, small_grid):
    run, recordings = runs[1], runs[1].split.test[:40]
    own = copy.deepcopy(run.model.state_dict())
    with tqdm(disable=True) as bar:
        points, summary = landscape.look_around(run, recordings, 3, bar)
    assert run.model.training
    assert all(torch.equal(value, own[name]) for name, value in run.model.state_dict().items())
    loss = points.pivot(index="alpha", columns="beta", values="loss").to_numpy()
    assert len(np.unique(loss)) > 20
    metrics = run.predict(recordings).metrics()
    assert loss[2, 2] == summary["loss"] == pytest.approx(metrics.loss, rel=1e-6)
    assert summary["top1"] == metrics.top1 and summary["recordings"] == 40
    noise = generator(3)
    first, second, *others = (landscape.random_direction(run.model, noise) for _ in range(5))
    moves = [{n: -first[n] + 0.5 * second[n] for n in first}]
    moves += [{n: 0.5 * d[n] for n in d} for d in others]
    seen = []
    for move in moves:
        run.model.load_state_dict({n: v + move.get(n, 0) for n, v in own.items()})
        seen.append(run.predict(recordings).metrics().loss)
    run.model.load_state_dict(own)
    assert loss[0, 3] == pytest.approx(seen[0], rel=1e-5)
    rises = np.array(seen[1:]) - metrics.loss
    assert summary["rise"] == pytest.approx(rises.mean(), rel=1e-4)
    assert summary["rise_std"] == pytest.approx(rises.std(ddof=1), rel=1e-4)


def test_all_runs_move_in_the_same_directions(runs):
    first, second = (landscape.random_direction(run.model, generator()) for run in runs[1:])
    for name, direction in first.items():
        a, b = direction.flatten(1), second[name].flatten(1)
        torch.testing.assert_close(a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True))


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
