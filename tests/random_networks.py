"""Small random networks of all that a backbone may hold, to be run fused or to be declined."""

import copy
import random

import torch
from braincog.base.node.node import IFNode, LIFNode, PLIFNode
from braincog.model_zoo.base_module import BaseConvModule, BaseLinearModule
from torch import nn

from tests.executors import assert_equal, both
from tmkt_braincog.models.blocks import Residual
from tmkt_braincog.models.check import let_fire
from tmkt_braincog.models.transfer import TransferModel

SEEDS = range(240)


class AddInPlace(Residual):
    """A shortcut whose sum overwrites what the main branch gave."""

    def forward(self, x):
        out = self.main(x)
        out += x
        return out


class Twice(nn.Module):
    """Its input's norm goes to a neuron and, as it is, to the sum."""

    def __init__(self, norm, node):
        super().__init__()
        self.norm, self.node = norm, node

    def forward(self, x):
        y = self.norm(x)
        return self.node(y) + y


class MixesSamples(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class OwnConvolution(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * len(x)


class RandomNetwork(TransferModel):
    """Drawn from ``seed``; :attr:`drawn` says what it has."""

    def __init__(self, seed: int):
        self.draw = draw = random.Random(seed)
        torch.manual_seed(seed)
        self.channels, self.side = 2, draw.choice([6, 8, 9])
        super().__init__(
            num_classes=3,
            step=draw.choice([1, 2, 3, 4]),
            event_size=self.side,
            node_type=draw.choice([LIFNode, LIFNode, IFNode, PLIFNode]),
            act_fun=draw.choice(["QGateGrad", "AtanGrad", "BackEIGateGrad", "EIGrad"]),
            tau=draw.choice([2.0, 1.3, 3.7]),
        )
        self.strange = draw.random() < 0.35  # may have layers that must be declined
        self.drawn: list[str] = []
        blocks = [self._first(), *(self._block() for _ in range(draw.randint(1, 3)))]
        self.body, self.flat = nn.ModuleList(blocks), nn.Flatten()
        self.num_features = self.channels * self.side**2
        self.dense = nn.ModuleList(self._dense() if draw.random() < 0.5 else [])
        self.rgb_fc, self.dvs_fc = self._head(), self._head()
        if draw.random() < 0.3:
            self.dvs_fc = self.rgb_fc
        if draw.random() < 0.2:
            for node in self._nodes():
                node.v_reset = 0.2
        self.finish()

    def block_list(self):
        return [*self.body, self.flat, *self.dense]

    def _nodes(self):
        return [m for m in self.modules() if isinstance(m, (LIFNode, IFNode))]

    @property
    def tap_node(self):
        nodes = self._nodes()
        return nodes[-1] if nodes and self.num_features % 2 else None

    def _first(self):
        if self.draw.random() < 0.5:
            return self._convolution(5)
        self.channels = 4
        return BaseConvModule(2, 4, node=self.node)

    def _convolution(self, out: int = 5) -> nn.Module:
        bias, groups = self.draw.random() < 0.5, self.draw.choice([1, 1, self.channels])
        mode = self.draw.choice(["zeros", "zeros", "zeros", "reflect"])
        before, self.channels = self.channels, out if groups == 1 else self.channels * 2
        options = {"padding": 1, "bias": bias, "groups": groups, "padding_mode": mode}
        return nn.Conv2d(before, self.channels, 3, **options)

    def _norm(self) -> nn.Module:
        kind = self.draw.choice(["plain", "plain", "cumulative", "untracked", "no affine", "group"])
        self.drawn.append(kind)
        if kind == "group":
            return nn.GroupNorm(1, self.channels)
        momentum = None if kind == "cumulative" else self.draw.choice([0.1, 0.4])
        options = {"affine": kind != "no affine", "track_running_stats": kind != "untracked"}
        options["eps"] = 1e-2 if momentum == 0.4 else 1e-5
        norm = nn.BatchNorm2d(self.channels, momentum=momentum, **options)
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
        if kind == "untracked":
            norm.register_parameter("bias", None)
        return norm.train(self.draw.random() > 0.1)

    def _pool(self) -> nn.Module:
        if self.side < 4:
            return nn.Identity()
        kind = self.draw.choice(["average", "average", "overlapping", "max", "adaptive", "three"])
        self.drawn.append(kind)
        half, third, padded = self.side // 2, self.side // 3, (self.side - 1) // 2 + 1
        self.side = {"three": third, "overlapping": padded}.get(kind, half)
        own = {"overlapping": nn.AvgPool2d(3, stride=2, padding=1), "three": nn.AvgPool2d(3)}
        own |= {"max": nn.MaxPool2d(2), "adaptive": nn.AdaptiveAvgPool2d(half)}
        return own.get(kind, nn.AvgPool2d(2))

    def _main(self) -> list[nn.Module]:
        """Layers that keep channels and side."""
        c, bias = self.channels, self.draw.random() < 0.5
        conv = nn.Conv2d(c, c, self.draw.choice([1, 3]), padding="same", bias=bias)
        ways = [
            [self._norm(), self.node(), conv],
            [conv, self._norm(), self.node()],
            [self.node(), conv],
            [BaseConvModule(c, c, node=self.node)],
            [self.node(), conv, self._norm()],
        ]
        return self.draw.choice(ways)

    def _block(self) -> nn.Module:
        kinds = ["stack", "stack", "pool", "pool", "residual", "residual", "convolution"]
        if self.strange:
            kinds += ["in place", "twice", "again", "again", "dropout", "mixes", "own", "relu"]
            kinds += ["hooked", "replaced"]
        kind = self.draw.choice(kinds)
        self.drawn.append(kind)
        c, point = self.channels, nn.Conv2d(self.channels, self.channels, 1)
        if kind == "stack":
            layers = [self._convolution(self.draw.choice([3, 5])), *self._main()]
            return nn.Sequential(*layers, *([self._pool()] if self.draw.random() < 0.6 else []))
        if kind == "residual":
            shortcut = self.draw.choice([None, point, self._norm()])
            return Residual(nn.Sequential(*self._main()), shortcut)
        if kind == "hooked":
            point.register_forward_hook(lambda layer, inputs, out: out / len(out))
        if kind == "replaced":
            forward = point.forward
            point.forward = lambda x: forward(x) + len(x)
        if kind == "again":
            layer = self.draw.choice([nn.BatchNorm2d(c), self.node()])
            return nn.Sequential(layer, point, layer)
        if kind == "in place":
            layers = [self.node(), self._pool(), AddInPlace(nn.Sequential(*self._main()))]
            return nn.Sequential(*layers)
        return {
            "pool": self._pool,
            "convolution": self._convolution,
            "twice": lambda: Twice(nn.BatchNorm2d(c), self.node()),
            "dropout": lambda: nn.Dropout2d(0.3),
            "mixes": MixesSamples,
            "own": lambda: OwnConvolution(c, c, 1),
            "relu": lambda: nn.ReLU(inplace=self.draw.random() < 0.5),
        }.get(kind, lambda: point)()

    def _dense(self) -> list[nn.Module]:
        F, out = self.num_features, self.draw.choice([7, 8])
        self.num_features = out
        ways = [
            [nn.Linear(F, out), self.node()],
            [nn.Linear(F, out), nn.BatchNorm1d(out), self.node()],
            [nn.Linear(F, out, bias=False), nn.BatchNorm1d(out, affine=False)],
            [nn.LayerNorm(F), BaseLinearModule(F, out, node=self.node)],
        ]
        return self.draw.choice(ways)

    def _head(self) -> nn.Module:
        linear = nn.Linear(self.num_features, self.num_classes)
        normed = nn.Sequential(linear, nn.BatchNorm1d(self.num_classes))
        return self.draw.choice([linear, linear, normed])


class OwnFeatures(RandomNetwork):
    """The same, with a way of its own through the blocks."""

    def features(self, x):
        _, spikes = super().features(x)
        return spikes / len(x), spikes


def network(seed):
    """Without thresholds that let it fire."""
    return (OwnFeatures if seed % 20 == 0 else RandomNetwork)(seed).double()


def random_network(seed):
    """A random network that fires, in float64, and a batch."""
    model, g, B = network(seed), torch.Generator().manual_seed(seed), 1 + seed % 4
    shape = (2, B, model.step, 2, model.event_size, model.event_size)
    x = torch.randint(0, 4, shape, generator=g).double()
    if B > 1:
        let_fire(model, x[0])
    return model, x.unbind()


def assert_executors_agree(model, batch, tolerance):
    """In training and in evaluation, to ``tolerance`` of the largest value."""
    for other in (model, copy.deepcopy(model).eval()):
        # Gradients in front of a BatchNorm cancel to zero: what is left is of the size of their
        # terms.
        assert_equal(*both(other, batch), tolerance, each=False)
