"""``Transfer_VGG_SNN``: BrainCog's ``VGG_SNN`` with a head per stream (N-Caltech101)."""

from braincog.model_zoo.vgg_snn import VGG_SNN
from torch import nn

from ..errors import UserError
from .narrow import narrow
from .transfer import TransferModel, timm_options

POOLINGS = 4


class TransferVGG(TransferModel):
    """64 128 P 256 256 P 512 512 P 512 512 P, each conv3x3 + BN + node, P = AvgPool 2.

    The tap is the membrane of the last node after its reset, before the last pool (512 x 6 x 6 at
    48 pixels); F_t are the pooled spikes (512 x 3 x 3).

    Args:
        width_divisor: divides all widths; 1 is the published model.
    """

    def __init__(self, width_divisor: int = 1, **options):
        super().__init__(**options)
        if self.event_size < 2**POOLINGS:
            raise UserError(
                f"--event-size {self.event_size}: Transfer_VGG_SNN needs at least 16 pixels."
            )
        # 'NCALTECH101' only tells BrainCog that the input has two polarity channels.
        shared = {"step": self.step, "dataset": "NCALTECH101", **self.node_options}
        self.feature = VGG_SNN(node_type=self.node_class, **shared).feature
        narrow(self.feature, width_divisor)
        side = self.event_size // 2**POOLINGS
        self.num_features = self.feature[-2].bn.num_features * side * side
        self.rgb_fc = nn.Sequential(nn.Flatten(), nn.Linear(self.num_features, self.num_classes))
        self.dvs_fc = nn.Sequential(nn.Flatten(), nn.Linear(self.num_features, self.num_classes))
        self.finish()

    @property
    def tap_node(self) -> nn.Module:
        return self.feature[-2].node

    def block_list(self) -> list[nn.Module]:
        return [self.feature]


def Transfer_VGG_SNN(pretrained: bool = False, **kwargs) -> TransferVGG:
    """BrainCog's VGG_SNN as a two-stream transfer model; 48 x 48 unless ``event_size`` says so."""
    return TransferVGG(**timm_options(pretrained, kwargs))
