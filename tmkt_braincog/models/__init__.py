"""The transfer models, which :mod:`~tmkt_braincog.zoo` registers with timm, and the heads."""

from .heads import MAGHead as MAGHead
from .heads import MRPHead as MRPHead
from .networks import Transfer_ResNet18 as Transfer_ResNet18
from .networks import Transfer_SCNN as Transfer_SCNN
from .networks import Transfer_SEWResNet18 as Transfer_SEWResNet18
from .networks import Transfer_VGG_SNN as Transfer_VGG_SNN
from .spikformer import Transfer_Spikformer as Transfer_Spikformer
from .transfer import StreamOutput as StreamOutput
from .transfer import TransferModel as TransferModel
from .transfer import TransferOutput as TransferOutput
