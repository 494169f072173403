"""Backbone ``Transfer_Small``: three spiking convolutions, between SCNN and VGG in size."""

from braincog.model_zoo.base_module import BaseConvModule
from timm.models import register_model
from torch import nn

from tmkt_braincog.models.transfer import TransferModel, timm_options


class TransferSmall(TransferModel):
    """Three times conv3x3 + BN + neuron + average pool, then one linear head per stream."""

    def __init__(self, **options):
        super().__init__(**options)
        layers = []
        for c_in, c_out in ((2, 16), (16, 32), (32, 64)):
            layers += [BaseConvModule(c_in, c_out, node=self.node), nn.AvgPool2d(2)]
        self.feature = nn.Sequential(*layers)
        self.num_features = 64 * (self.event_size // 8) ** 2
        self.rgb_fc = nn.Linear(self.num_features, self.num_classes)
        self.dvs_fc = nn.Linear(self.num_features, self.num_classes)
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.feature[-2].node  # its membrane is what the alignment compares

    def block_list(self) -> list[nn.Module]:
        return [self.feature]  # in the order in which a frame passes them


@register_model
def Transfer_Small(pretrained: bool = False, **kwargs) -> TransferSmall:
    return TransferSmall(**timm_options(pretrained, kwargs))
