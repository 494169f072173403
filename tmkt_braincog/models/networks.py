"""Transfer models: three of BrainCog's networks, and the SCNN that its wheel lacks."""

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import Any

from braincog.model_zoo import resnet, sew_resnet
from braincog.model_zoo.vgg_snn import VGG_SNN
from torch import Tensor, nn

from ..errors import UserError
from .blocks import Branches, NotFoldable, Parts, reads
from .transfer import TransferModel

# How BrainCog's residual networks draw their convolutions.
residual_init = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
# Makes BrainCog build a stem for two polarity channels.
POLARITIES = "NCALTECH101"
STAGES = ["layer1", "layer2", "layer3", "layer4"]


class TransferSCNN(TransferModel):
    """conv5 15, node, P, conv5 40, node, P, fc 300, node, fc N; no BN, one head for both streams.

    The tap is the membrane of the fc node after its reset (300); F_t are that node's spikes (300).
    Initialisation as published: convolutions Kaiming normal, linear weights uniform in +-0.1.
    """

    def __init__(self, event_size: int = 28, **options):
        super().__init__(event_size=event_size, **options)
        _refuse_small(self)
        layers = []
        for c_in, c_out in ((2, 15), (15, 40)):
            conv = nn.Conv2d(c_in, c_out, kernel_size=5, bias=False)
            layers += [conv, self.node(), nn.AvgPool2d(2)]
        self.feature = nn.Sequential(*layers)
        side = ((event_size - 4) // 2 - 4) // 2  # of the last feature map: 4 at 28 pixels
        self.num_features = 300
        self.fc1 = nn.Linear(40 * side * side, self.num_features)
        self.node1 = self.node()
        self.fc2 = nn.Linear(self.num_features, self.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -0.1, 0.1)
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.node1

    def block_list(self) -> list[nn.Module]:
        return [self.feature, nn.Flatten(), self.fc1, self.node1]

    def head_of(self, stream: str) -> nn.Module:
        return self.fc2


class TransferVGG(TransferModel):
    """64 128 P 256 256 P 512 512 P 512 512 P, each conv3x3 + BN + node, P = AvgPool 2.

    The tap is the membrane of the last node after its reset, before the last pool (512 x 6 x 6 at
    48 pixels); F_t are the pooled spikes (512 x 3 x 3). ``width_divisor`` divides all widths.
    """

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        _refuse_small(self)
        shared = {"step": self.step, "dataset": POLARITIES, **self.node_options}
        self.feature = VGG_SNN(node_type=self.node_class, **shared).feature
        narrow(self.feature, width_divisor)
        self.num_features = self.feature[-2].bn.num_features * (self.event_size // 16) ** 2
        self.rgb_fc = nn.Sequential(nn.Flatten(), nn.Linear(self.num_features, self.num_classes))
        self.dvs_fc = nn.Sequential(nn.Flatten(), nn.Linear(self.num_features, self.num_classes))
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.feature[-2].node

    def block_list(self) -> list[nn.Module]:
        return [self.feature]


class _Residual(TransferModel):
    """A network of BrainCog's, whose layers keep their names, with two linear heads."""

    network: Callable[..., nn.Module]
    layer_names: list[str]
    last_norm: str  # which has as many channels as F_t

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        shared = {"step": self.step, "dataset": POLARITIES, **self.node_options}
        net = self.network(node_type=self.node_class, **shared)
        narrow(net, width_divisor, residual_init)
        for name in self.layer_names:
            setattr(self, name, getattr(net, name))
        self.num_features = self.get_submodule(self.last_norm).num_features
        self.rgb_fc = nn.Linear(self.num_features, self.num_classes)
        self.dvs_fc = nn.Linear(self.num_features, self.num_classes)
        self.finish()

    def block_list(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.layer_names]


class TransferResNet(_Residual):
    """Pre-activation BasicBlocks [2, 2, 2, 2] on a 3x3 stem without pooling, two linear heads.

    The last BN has no neuron behind it: its pooled output (512) is both the tap, which is therefore
    no membrane, and F_t. ``width_divisor`` divides all widths.
    """

    network = staticmethod(resnet.resnet18)
    layer_names, last_norm = ["conv1", *STAGES, "bn1", "avgpool"], "bn1"


class TransferSEWResNet(_Residual):
    """conv7 / 2, max pool / 2, blocks [2, 2, 2, 2] of conv + BN + node, sums of spikes, two heads.

    Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021, with g = ADD.
    The network ends in such a sum of spikes (whole numbers from 0), which has no membrane: the tap
    is that of the last block's residual branch, after its reset (512 x 2 x 2 at 48 pixels). F_t is
    the sum of spikes, averaged over the map (512). ``width_divisor`` divides all widths.
    """

    network = staticmethod(partial(sew_resnet.sew_resnet18, cnf="ADD"))
    layer_names = ["conv1", "bn1", "node1", "maxpool", *STAGES, "avgpool"]
    last_norm = "layer4.1.bn2"

    @property
    def tap_node(self) -> nn.Module:
        return self.layer4[-1].node2


Transfer_SCNN, Transfer_VGG_SNN = TransferSCNN.create, TransferVGG.create
Transfer_ResNet18, Transfer_SEWResNet18 = TransferResNet.create, TransferSEWResNet.create


@reads(resnet.BasicBlock)
def _pre_activation(block: resnet.BasicBlock) -> Parts:
    main = [block.bn1, block.node1, block.conv1, block.bn2, block.node2, block.conv2]
    return [Branches([main, [] if block.downsample is None else [block.downsample]])]


@reads(sew_resnet.BasicBlock)
def _sum_of_spikes(block: sew_resnet.BasicBlock) -> Parts:
    if block.cnf != "ADD":
        raise NotFoldable(f"a BasicBlock joins its branches by {block.cnf}")
    main = [block.conv1, block.bn1, block.node1, block.conv2, block.bn2, block.node2]
    shortcut = [] if block.downsample is None else [block.downsample, block.downsample_sn]
    return [Branches([main, shortcut])]


def _refuse_small(model: TransferModel) -> None:
    if model.event_size < 16:
        what = f"--event-size {model.event_size}: {type(model).__name__}"
        raise UserError(f"{what} needs at least 16 pixels.")


def narrow(net: nn.Module, divisor: int, init: Callable[[Tensor], object] | None = None) -> None:
    """Replace every Conv2d and BatchNorm2d, in place, by one with ``1 / divisor`` of the channels.

    The two polarity channels of the input stay, and so do linear layers. ``init`` draws the weights
    of a new convolution, by default as PyTorch does. With divisor 1 no random number is drawn.

    Raises:
        UserError: the divisor does not divide all widths.
    """
    if divisor == 1:
        return
    common = gcd(*(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)))
    if common % divisor:
        expected = f"expected a number that divides {common}, such as 2 or 4"
        raise UserError(f"--width-divisor {divisor}: {expected}.")
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, (nn.BatchNorm2d, nn.Conv2d)):
                setattr(parent, name, _narrowed(layer, divisor))
            if isinstance(layer, nn.Conv2d) and init is not None:
                init(getattr(parent, name).weight)


def _narrowed(layer: Any, divisor: int) -> nn.Module:
    if isinstance(layer, nn.BatchNorm2d):
        options = (layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        return nn.BatchNorm2d(layer.num_features // divisor, *options)
    c_in = layer.in_channels if layer.in_channels == 2 else layer.in_channels // divisor
    shape = (layer.kernel_size, layer.stride, layer.padding)
    return nn.Conv2d(c_in, layer.out_channels // divisor, *shape, bias=layer.bias is not None)
