"""The transfer models, which :mod:`~tmkt_braincog.zoo` registers with timm under the names of the reference, and the heads."""

from .heads import MAGHead, MRPHead
from .resnet import Transfer_ResNet18
from .scnn import Transfer_SCNN
from .sew_resnet import Transfer_SEWResNet18
from .transfer import StreamOutput, TransferModel, TransferOutput
from .vgg import Transfer_VGG_SNN

__all__ = [
    "MAGHead",
    "MRPHead",
    "StreamOutput",
    "TransferModel",
    "TransferOutput",
    "Transfer_ResNet18",
    "Transfer_SCNN",
    "Transfer_SEWResNet18",
    "Transfer_VGG_SNN",
]
