"""Small random networks of all that a backbone may be made of, for the fused executor to be right on or to decline."""

import copy
import random

import torch
from braincog.base.node.node import IFNode, LIFNode, PLIFNode
from braincog.model_zoo.base_module import BaseConvModule, BaseLinearModule
from torch import nn

from tmkt_braincog.models.blocks import Residual
from tmkt_braincog.models.check import let_fire
from tmkt_braincog.models.transfer import TransferModel


class AddInPlace(nn.Module):
    """A shortcut whose sum overwrites what the main branch gave."""

    def __init__(self, main):
        super().__init__()
        self.main = main

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
        self.draw = random.Random(seed)
        torch.manual_seed(seed)
        size = self.draw.choice([6, 8, 9, 11])
        options = {"num_classes": 3, "step": self.draw.choice([1, 2, 3, 5]), "event_size": size}
        node = self.draw.choice([LIFNode, LIFNode, IFNode, PLIFNode])
        act_fun = self.draw.choice(["QGateGrad", "AtanGrad", "BackEIGateGrad", "EIGrad"])
        super().__init__(
            node_type=node, act_fun=act_fun, tau=self.draw.choice([2.0, 1.3, 3.7]), **options
        )
        self.strange = (
            self.draw.random() < 0.35
        )  # may have layers that the fused executor must decline
        self.drawn: list[str] = []
        self.channels, self.side = 2, size
        self.body = nn.ModuleList(
            [self._first(), *(self._block() for _ in range(self.draw.randint(1, 4)))]
        )
        self.flat = nn.Flatten()
        self.num_features = self.channels * self.side**2
        self.dense = nn.ModuleList(self._dense() if self.draw.random() < 0.5 else [])
        self.rgb_fc, self.dvs_fc = self._head(), self._head()
        if self.draw.random() < 0.3:
            self.dvs_fc = self.rgb_fc
        if self.draw.random() < 0.2:
            for module in self.modules():
                if isinstance(module, (LIFNode, IFNode)):
                    module.v_reset = 0.2
        self.finish()

    def block_list(self):
        return [*self.body, self.flat, *self.dense]

    @property
    def tap_node(self):
        nodes = [m for m in self.modules() if isinstance(m, (LIFNode, IFNode))]
        return nodes[-1] if nodes and self.num_features % 2 else None

    def _first(self):
        if self.draw.random() < 0.5:
            return self._convolution(5)
        conv = BaseConvModule(2, 4, node=self.node)
        self.channels = 4
        return conv

    def _convolution(self, out: int = 5) -> nn.Module:
        bias, groups = self.draw.random() < 0.5, self.draw.choice([1, 1, self.channels])
        mode = self.draw.choice(["zeros", "zeros", "zeros", "reflect"])
        out = out if groups == 1 else self.channels * 2
        conv = nn.Conv2d(
            self.channels, out, 3, padding=1, bias=bias, groups=groups, padding_mode=mode
        )
        self.channels = out
        return conv

    def _norm(self) -> nn.Module:
        kind = self.draw.choice(["plain", "plain", "cumulative", "untracked", "no affine", "group"])
        self.drawn.append(kind)
        if kind == "group":
            return nn.GroupNorm(1, self.channels)
        norm = nn.BatchNorm2d(
            self.channels,
            momentum=None if kind == "cumulative" else self.draw.choice([0.1, 0.4]),
            track_running_stats=kind != "untracked",
            affine=kind != "no affine",
        )
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
        if self.draw.random() < 0.1:
            norm.eval()
        return norm

    def _pool(self) -> nn.Module:
        if self.side < 4:
            return nn.Identity()
        kind = self.draw.choice(["average", "average", "overlapping", "max", "adaptive", "three"])
        self.drawn.append(kind)
        before, self.side = self.side, self.side // 2
        if kind == "three":
            self.side = before // 3
            return nn.AvgPool2d(3)
        if kind == "overlapping":
            self.side = (before - 1) // 2 + 1
            return nn.AvgPool2d(3, stride=2, padding=1)
        if kind == "adaptive":
            return nn.AdaptiveAvgPool2d(self.side)
        return nn.MaxPool2d(2) if kind == "max" else nn.AvgPool2d(2)

    def _main(self) -> list[nn.Module]:
        """Layers that keep channels and side."""
        c = self.channels
        conv = nn.Conv2d(
            c, c, self.draw.choice([1, 3]), padding="same", bias=self.draw.random() < 0.5
        )
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
            kinds += [
                "in place",
                "twice",
                "again",
                "again",
                "dropout",
                "mixes",
                "own",
                "relu",
                "hooked",
                "replaced",
            ]
        kind = self.draw.choice(kinds)
        self.drawn.append(kind)
        return getattr(self, "_" + kind.replace(" ", "_"))()

    def _stack(self):
        layers = [
            self._convolution(self.draw.choice([3, 5])),
            *self._main(),
            self._pool() if self.draw.random() < 0.6 else nn.Identity(),
        ]
        return nn.Sequential(*layers)

    def _residual(self):
        shortcut = self.draw.choice(
            [None, nn.Conv2d(self.channels, self.channels, 1), self._norm()]
        )
        return Residual(nn.Sequential(*self._main()), shortcut)

    def _in_place(self):
        return nn.Sequential(self.node(), self._pool(), AddInPlace(nn.Sequential(*self._main())))

    def _twice(self):
        return Twice(nn.BatchNorm2d(self.channels), self.node())

    def _again(self):
        layer = self.draw.choice([nn.BatchNorm2d(self.channels), self.node()])
        return nn.Sequential(layer, nn.Conv2d(self.channels, self.channels, 1), layer)

    def _dropout(self):
        return nn.Dropout2d(0.3)

    def _mixes(self):
        return MixesSamples()

    def _own(self):
        return OwnConvolution(self.channels, self.channels, 1)

    def _relu(self):
        return nn.ReLU(inplace=self.draw.random() < 0.5)

    def _hooked(self):
        conv = nn.Conv2d(self.channels, self.channels, 1)
        conv.register_forward_hook(lambda layer, inputs, out: out / len(out))
        return conv

    def _replaced(self):
        conv = nn.Conv2d(self.channels, self.channels, 1)
        forward = conv.forward
        conv.forward = lambda x: forward(x) + len(x)
        return conv

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
        return self.draw.choice(
            [linear, linear, nn.Sequential(linear, nn.BatchNorm1d(self.num_classes))]
        )


class OwnFeatures(RandomNetwork):
    """The same, with a way of its own through the blocks."""

    def features(self, x):
        _, spikes = super().features(x)
        return spikes / len(x), spikes


def outcome(network, executor, batch, train):
    """Everything that a step leaves, or the kind of error."""
    model = copy.deepcopy(network).train(train)
    if train:
        for name, module in network.named_modules():
            model.get_submodule(name).training = module.training
    model.executor = executor
    found = {}
    torch.manual_seed(0)  # for dropout
    try:
        for k in range(2):
            out = model(*batch)
            both = {"event": out.event, "static": out.static}
            new = {
                f"{k} {s} {f}": getattr(o, f)
                for s, o in both.items()
                for f in ("logits", "tap", "spikes")
            }
            weights = (
                torch.linspace(-1, 1, f.numel(), device=f.device).view_as(f) for f in new.values()
            )
            sum((f * w).sum() for f, w in zip(new.values(), weights, strict=True)).backward()
            found |= new
    except (ValueError, RuntimeError) as error:  # no variance of one value; changed in place
        return str(error)[:30]
    found |= {f"gradient {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {f"buffer {n}": b.double() for n, b in model.named_buffers()}


def random_network(seed):
    """A random network that fires, in float64, and a batch."""
    kind = OwnFeatures if seed % 20 == 0 else RandomNetwork
    network = kind(seed).double()
    g = torch.Generator().manual_seed(seed)
    B = 1 + seed % 4
    x = torch.randint(
        0, 4, (2, B, network.step, 2, network.event_size, network.event_size), generator=g
    ).double()
    if B > 1:
        let_fire(network, x[0])
    return network, x.unbind()


def assert_executors_agree(network, batch, tolerance):
    """In training and in evaluation, to ``tolerance`` of the largest value."""
    for train in (True, False):
        expected, found = (
            outcome(network, executor, batch, train) for executor in ("step", "fused")
        )
        if isinstance(expected, str):
            assert found == expected
            continue
        assert expected.keys() == found.keys()
        # Gradients in front of a BatchNorm cancel to zero: what is left is of the size of their terms.
        scale = max(1.0, *(v.detach().abs().max().item() for v in expected.values() if v.numel()))
        for name, value in expected.items():
            torch.testing.assert_close(
                found[name],
                value,
                rtol=0,
                atol=tolerance * scale,
                msg=lambda m, n=name: f"{n}: {m}\n{network}",
            )
