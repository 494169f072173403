"""Transfer models, registered with timm under the names of the reference: ``Transfer_VGG_SNN``,
``Transfer_ResNet18``, ``Transfer_SCNN``; and ``Transfer_SEWResNet18``."""

import warnings

with warnings.catch_warnings():
    # BrainCog re-registers torchvision-like names and imports a deprecated timm path; both are expected.
    warnings.simplefilter("ignore")
    import braincog.model_zoo.resnet
    import braincog.model_zoo.sew_resnet
    import braincog.model_zoo.vgg_snn  # noqa: F401

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
