"""``Transfer_SEWResNet18``: BrainCog's ``sew_resnet18`` with a head per stream."""

from braincog.model_zoo.sew_resnet import BasicBlock, sew_resnet18
from torch import nn

from .blocks import Branches, NotFoldable, Parts, reads
from .narrow import narrow, residual_init
from .transfer import TransferModel, timm_options

LAYERS = ("conv1", "bn1", "node1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")


class TransferSEWResNet(TransferModel):
    """conv7 / 2, max pool / 2, blocks [2, 2, 2, 2] of conv + BN + node, sums of spikes, two heads.

    Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021, with g = ADD.
    The network ends in such a sum of spikes (whole numbers from 0), which has no membrane: the tap
    is that of the last neuron before it, the one of the last block's residual branch, after its
    reset (512 x 1 x 1 at 28 pixels, 512 x 2 x 2 at 48). F_t is the sum of spikes, averaged over the
    map (512).

    Args:
        width_divisor: divides all widths; 1 is the published model.
    """

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        # 'NCALTECH101' only tells BrainCog that the input has two polarity channels.
        shared = {"cnf": "ADD", "step": self.step, "dataset": "NCALTECH101"}
        net = sew_resnet18(node_type=self.node_class, **shared, **self.node_options)
        narrow(net, width_divisor, residual_init)
        for name in LAYERS:
            setattr(self, name, getattr(net, name))
        self.num_features = net.layer4[-1].bn2.num_features
        self.linear_heads()
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.layer4[-1].node2

    def block_list(self) -> list[nn.Module]:
        return [getattr(self, name) for name in LAYERS]


@reads(BasicBlock)
def _basic_block(block: BasicBlock) -> Parts:
    """Convolution, norm, neuron, twice; spikes are added to spikes."""
    if block.cnf != "ADD":
        raise NotFoldable(f"a BasicBlock joins its branches by {block.cnf}")
    main = [block.conv1, block.bn1, block.node1, block.conv2, block.bn2, block.node2]
    shortcut = [] if block.downsample is None else [block.downsample, block.downsample_sn]
    return [Branches(main, shortcut)]


def Transfer_SEWResNet18(pretrained: bool = False, **kwargs) -> TransferSEWResNet:
    """BrainCog's sew_resnet18 as a two-stream transfer model, any input size."""
    return TransferSEWResNet(**timm_options(pretrained, kwargs))
