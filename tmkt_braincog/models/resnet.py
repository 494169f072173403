"""``Transfer_ResNet18``: BrainCog's spiking ``resnet18`` with a head per stream (CEP-DVS)."""

from braincog.model_zoo.resnet import BasicBlock, resnet18
from torch import nn

from .blocks import Branches, Parts, reads
from .narrow import narrow, residual_init
from .transfer import TransferModel, timm_options

LAYERS = ("conv1", "layer1", "layer2", "layer3", "layer4", "bn1", "avgpool")


class TransferResNet(TransferModel):
    """Pre-activation BasicBlocks [2, 2, 2, 2] on a 3x3 stem without pooling, two linear heads.

    The last BN has no neuron behind it: its pooled output (512) is both the tap, which is therefore
        no membrane, and F_t.

    Args:
        width_divisor: divides all widths; 1 is the published model.
    """

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        # 'NCALTECH101' makes BrainCog build the stem for two polarity channels; 'CEPDVS' builds
        # none.
        shared = {"step": self.step, "dataset": "NCALTECH101", **self.node_options}
        net = resnet18(node_type=self.node_class, **shared)
        narrow(net, width_divisor, residual_init)
        for name in LAYERS:
            setattr(self, name, getattr(net, name))
        self.num_features = net.bn1.num_features
        self.linear_heads()
        self.finish()

    def block_list(self) -> list[nn.Module]:
        return [getattr(self, name) for name in LAYERS]


@reads(BasicBlock)
def _basic_block(block: BasicBlock) -> Parts:
    """Pre-activation: norm, neuron, convolution, twice."""
    main = [block.bn1, block.node1, block.conv1, block.bn2, block.node2, block.conv2]
    return [Branches(main, [] if block.downsample is None else [block.downsample])]


def Transfer_ResNet18(pretrained: bool = False, **kwargs) -> TransferResNet:
    """BrainCog's resnet18 as a two-stream transfer model, any input size."""
    return TransferResNet(**timm_options(pretrained, kwargs))
