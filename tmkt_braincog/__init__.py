"""TMKT and its baseline on BrainCog: static-to-event transfer for spiking networks.

Public names are imported when they are first used. The models ``Transfer_VGG_SNN``,
``Transfer_ResNet18``, ``Transfer_SEWResNet18`` and ``Transfer_SCNN`` are in timm's registry as soon
as both packages are imported, in any order.
"""

import warnings

import lazy_loader

from . import zoo
from .version import VERSION

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = VERSION

# BrainCog registers under names of timm's and uses deprecated paths of it; no user can mend that.
warnings.filterwarnings("ignore", module=r"braincog\.")
FILES = r".*[/\\](?:braincog|dv)[/\\]"
warnings.filterwarnings("ignore", category=SyntaxWarning, module=FILES)
warnings.filterwarnings("ignore", message=r"Importing from timm\.models\.\w+ is deprecated")
zoo.watch()
