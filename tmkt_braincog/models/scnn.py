"""``Transfer_SCNN``: the small spiking CNN of N-Omniglot, which BrainCog's wheel lacks."""

from torch import nn

from ..errors import UserError
from .transfer import TransferModel, timm_options

HIDDEN = 300
CHANNELS = 40


class TransferSCNN(TransferModel):
    """conv5 15, node, P, conv5 40, node, P, fc 300, node, fc N; no BN, one head for both streams.

    The tap is the membrane of the fc node after its reset (300); F_t are that node's spikes (300).
    Initialisation as published: convolutions Kaiming normal, linear weights uniform in +-0.1.
    """

    def __init__(self, **options):
        super().__init__(**options)
        side = ((self.event_size - 4) // 2 - 4) // 2  # of the last feature map: 4 at 28 pixels
        if side < 1:
            raise UserError(
                f"--event-size {self.event_size}: Transfer_SCNN needs at least 16 pixels."
            )
        layers = []
        for c_in, c_out in ((2, 15), (15, CHANNELS)):
            conv = nn.Conv2d(c_in, c_out, kernel_size=5, bias=False)
            layers += [conv, self.node(), nn.AvgPool2d(2)]
        self.feature = nn.Sequential(*layers)
        self.fc1 = nn.Linear(CHANNELS * side * side, HIDDEN)
        self.node1 = self.node()
        self.num_features = HIDDEN
        self.fc2 = nn.Linear(HIDDEN, self.num_classes)
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


def Transfer_SCNN(pretrained: bool = False, **kwargs) -> TransferSCNN:
    """The SCNN of N-Omniglot for two streams; 28 x 28 unless ``event_size`` says otherwise."""
    return TransferSCNN(**timm_options(pretrained, dict({"event_size": 28}, **kwargs)))
